"""The names, units and limits of a chip file, which docs/hdf5-format.md describes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim_ep._hdf5.reader import Kind
from neurosim_ep.crossbar.mapping import OFFSET, PAIR
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.devices import DeviceCard

FORMAT, FORMAT_VERSION = "neurosim-ep chip", 1

MAX_LAYERS, MAX_EDGES = 1000, 4000
MAX_UNITS = 1 << 27
"""Units of all layers together."""
MAX_DEVICES = 1 << 28
MOST_DEVICES_PER_BYTE = 516
"""Of a file: gzip makes at most 1032 bytes of one, and a conductance has at least two."""
MAX_COUNT = 1 << 53
MAX_ALPHA = 1e6
MAX_WINDOW = 1 << 16
"""Kernel, stride and padding of a convolution."""

STATE_TOLERANCE_FRACTION = 1e-4
"""Of the window: how far a conductance may lie from where its bounds or its drift put it."""

# Drawn bounds of measured devices lie within so many standard deviations, and noise of writes.
_SIGMAS, _WRITE_SIGMAS = 6.0, 10.0

ROLES = {PAIR: ("plus", "minus"), OFFSET: ("weight", "reference")}
"""Groups of a matrix's devices by mapping."""

WEIGHT = {
    PAIR: "weight_per_siemens * compensation * (plus - minus)",
    OFFSET: "weight_per_siemens * compensation * (weight - reference of the column's tile)",
}


@dataclass(frozen=True)
class PerDevice:
    """A quantity that every device has one of.

    Attributes:
        key: in the state of `neurosim_ep.devices.Devices`.
        name: in a file.
        kind: of its numbers.
        unit: in words; "1" for plain numbers.
    """

    key: str
    name: str
    kind: Kind
    unit: str


CONDUCTANCE = "conductance_siemens"
PER_DEVICE = (
    PerDevice("programmed", "programmed_siemens", "float", "siemens"),
    PerDevice("lower", "lower_bound_siemens", "float", "siemens"),
    PerDevice("upper", "upper_bound_siemens", "float", "siemens"),
    PerDevice("stuck", "stuck", "flag", "1"),
    PerDevice("fluctuating", "fluctuating", "flag", "1"),
    PerDevice("drift_coefficient", "drift_coefficient", "float", "1"),
    PerDevice("_ages", "age_at_last_write_s", "float", "second"),
    PerDevice("_pulse_count", "pulse_count", "whole", "1"),
    PerDevice("_hidden", "pulse_state", "float", "1"),
)
OF_MATRIX = {"_share": ("wire_share", "1"), "_rest": ("wire_rest_siemens", "siemens")}
"""What wires leave of every device's conductance, by direction: state's key to name and unit."""

MEASURED = ("lower", "upper", "stuck", "fluctuating", "drift_coefficient")
"""What may stand beside conductances that were measured elsewhere."""


def split(devices: Tensor, mapping: str, columns: int) -> tuple[Tensor, Tensor]:
    """Tensors of the two `ROLES` (..., rows, n) of a tensor of devices (..., planes, rows, n)."""
    if mapping == PAIR:
        return devices[..., 0, :, :], devices[..., 1, :, :]
    return devices[..., 0, :, :columns], devices[..., 0, :, columns:]


def join(parts: list[Tensor], mapping: str) -> Tensor:
    """Inverse of `split`."""
    return torch.stack(parts, -3) if mapping == PAIR else torch.cat(parts, -1).unsqueeze(-3)


def role_shapes(tiling: Tiling, mapping: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the two `ROLES`."""
    weights = (tiling.rows, tiling.columns)
    return weights, weights if mapping == PAIR else (tiling.rows, tiling.column_tiles)


def device_count(tiling: Tiling, mapping: str) -> int:
    """Devices of a matrix."""
    return sum(math.prod(shape) for shape in role_shapes(tiling, mapping))


def tile_table(tiling: Tiling) -> Tensor:
    """First row, row after the last, first column, column after the last of every tile."""
    return torch.tensor(
        [
            [rows.start, rows.stop, columns.start, columns.stop]
            for rows in tiling.row_ranges
            for columns in tiling.column_ranges
        ]
    )


def belongs(key: str, card: DeviceCard) -> bool:
    """Whether devices of a card can have a quantity of `PER_DEVICE`."""
    response = card.pulse_response
    if key in ("lower", "upper"):
        drawn = response and (response.w_min_spread_relative or response.w_max_spread_relative)
        return bool(card.spread or drawn)
    if key == "stuck":
        return card.faults is not None and card.faults.total_fraction > 0.0
    if key == "_pulse_count":
        return response is not None
    if key == "_hidden":
        return response is not None and response.write_noise_relative > 0.0
    if key in ("drift_coefficient", "_ages"):
        return card.drift is not None
    return key == "programmed" or card.telegraph is not None


def tolerance_siemens(card: DeviceCard) -> float:
    """How far beyond its bounds a device of a saved chip may stand: noise of pulses has none."""
    response, fraction = card.pulse_response, STATE_TOLERANCE_FRACTION
    if response is not None:
        # States are 2 wide.
        fraction += 0.5 * _WRITE_SIGMAS * response.write_noise_relative * response.step_relative
    return fraction * card.window.range_siemens


def measured_window(card: DeviceCard) -> tuple[float, float]:
    """Where conductances that were measured elsewhere may lie, in siemens.

    The card's window, wider by six standard deviations where the card says that bounds spread.
    """
    window, response, spread = card.window, card.pulse_response, card.spread
    low, high = window.g_min_siemens, window.g_max_siemens
    if spread is not None:
        low -= _SIGMAS * spread.g_min_sigma_relative * low
        high += _SIGMAS * spread.g_max_sigma_relative * high
    elif response is not None:
        half = 0.5 * _SIGMAS * window.range_siemens
        low -= half * response.w_min_spread_relative
        high += half * response.w_max_spread_relative
    slack = STATE_TOLERANCE_FRACTION * window.range_siemens
    return max(low - slack, 0.0), high + slack
