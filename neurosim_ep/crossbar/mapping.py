"""Weights to conductances and back: differential pairs and offset columns.

With the window [g_min, g_max] and the largest weight w_max of a layer or column,

- differential pair, w = u (G+ - G-) with u = w_max / (g_max - g_min): G+ = g_min + max(w, 0) / u
  and G- = g_min + max(-w, 0) / u from the bottom of the window, G+- = g_mid +- w / 2u about its
  middle;
- offset column: G = g_mid + w / u, reference g_mid, w = u (G - G_ref), where
  u = 2 w_max / (g_max - g_min).

The devices of a matrix are one tensor: (2, rows, columns) for pairs, and (1, rows, columns + column
tiles) with offset columns, the references of the column tiles last.
"""

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar.card import Layout
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.devices.window import Window

PAIR, OFFSET = "differential_pair", "offset_column"


def device_shape(tiling: Tiling, mapping: str) -> tuple[int, int, int]:
    """Shape of the tensor of devices: (planes, rows, columns).

    Args:
        tiling: how the matrix is cut.
        mapping: ``differential_pair`` has two planes; ``offset_column`` has one, and a column more
            per column of tiles.
    """
    if mapping == PAIR:
        return 2, tiling.rows, tiling.columns
    return 1, tiling.rows, tiling.columns + tiling.column_tiles


def weight_units(matrix: Tensor, window: Window, layout: Layout) -> Tensor:
    """Weight per siemens, u, one per column (columns,).

    Args:
        matrix: weights (rows, columns).
        window: of the devices.
        layout: mapping, and how the scale is chosen.
    """
    size = matrix.abs() if layout.scale == "column" else matrix.abs().flatten()
    largest = quantile_of(size, layout.scale_quantile)
    # Where most weights are zero, the few others are not clipped to nothing.
    largest = torch.where(largest > 0.0, largest, size.amax(0))
    # A column of zeros sits at the window's foot whatever its scale.
    largest = torch.where(largest > 0.0, largest, torch.ones_like(largest))
    largest = layout.scale_headroom * largest.expand(matrix.shape[1])
    span = window.g_max_siemens - window.g_min_siemens
    return largest * ((1.0 if layout.mapping == PAIR else 2.0) / span)


def target_conductances(
    matrix: Tensor, units: Tensor, window: Window, layout: Layout, tiling: Tiling
) -> Tensor:
    """Conductances that stand for the weights, (planes, rows, columns of devices), in siemens.

    Weights beyond the scale give targets outside the window, which programming clips and counts.

    Args:
        matrix: weights (rows, columns).
        units: weight per siemens (columns,).
        window: of the devices.
        layout: mapping, and where pairs without a weight stand.
        tiling: how the matrix is cut.
    """
    wanted = matrix / units
    middle = 0.5 * (window.g_min_siemens + window.g_max_siemens)
    if layout.mapping == PAIR and layout.pair_baseline == "middle":
        return middle + torch.stack([0.5 * wanted, -0.5 * wanted])
    if layout.mapping == PAIR:
        return window.g_min_siemens + torch.stack([wanted.clamp_min(0.0), (-wanted).clamp_min(0.0)])
    references = wanted.new_full((tiling.rows, tiling.column_tiles), middle)
    return torch.cat([middle + wanted, references], dim=1).unsqueeze(0)


def device_pulses(
    up: Tensor, down: Tensor, mapping: str, tiling: Tiling, one_sided: bool
) -> tuple[Tensor, Tensor]:
    """Up and down pulses of every device, (planes, rows, columns of devices) each.

    An increment is an up pulse on G+ and a down pulse on G-, a decrement the reverse; devices that
    can only be pulsed up take increments on G+ and decrements on G-.  With offset columns it is one
    pulse on the weight's device.

    Args:
        up, down: numbers of increments and decrements (rows, columns).
        mapping: ``differential_pair`` or ``offset_column``.
        tiling: how the matrix is cut.
        one_sided: whether devices can only be pulsed up.
    """
    if mapping == PAIR:
        ups = torch.stack([up, down])
        return ups, torch.zeros_like(ups) if one_sided else torch.stack([down, up])
    references = up.new_zeros(tiling.rows, tiling.column_tiles)
    ups, downs = (torch.cat([count, references], 1).unsqueeze(0) for count in (up, down))
    return ups, downs


def checked_units(units: Tensor, columns: int) -> Tensor:
    """Weights per siemens (columns,), finite and above 0.

    Raises:
        ValueError: for another shape, or a number that is not finite or not above 0.
    """
    if tuple(units.shape) != (columns,):
        allowed = f"{[columns]}, one per column"
        raise ValueError(problem("weight_per_siemens: shape", list(units.shape), allowed))
    if not bool((fine := units.isfinite() & (units > 0.0)).all()):
        first = float(units[~fine][0])
        raise ValueError(problem("weight_per_siemens", first, "a finite number above 0"))
    return units


def signed(devices: Tensor, mapping: str, tiling: Tiling) -> Tensor:
    """Differences that carry the sign: (planes, rows, ...) in siemens to (rows, columns).

    Args:
        devices: of the shape that `device_shape` gives.
        mapping: ``differential_pair`` or ``offset_column``.
        tiling: how the matrix is cut.
    """
    if mapping == PAIR:
        return devices[0] - devices[1]
    return devices[0, :, : tiling.columns] - spread_references(devices, tiling)


def spread_references(devices: Tensor, tiling: Tiling) -> Tensor:
    """The reference columns, each repeated over its tile's columns, (rows, columns)."""
    references = devices[0, :, tiling.columns :]
    return references.repeat_interleave(tiling.tile_columns, 1)[:, : tiling.columns]


def quantile_of(values: Tensor, quantile: float) -> Tensor:
    """Quantile along the first dimension, without torch's limit on the number of values.

    Args:
        values: any shape (N, ...).
        quantile: above 0 and at most 1.
    """
    if quantile == 1.0:
        return values.amax(0)
    rank = max(1, round(quantile * values.shape[0]))
    return values.kthvalue(rank, dim=0).values
