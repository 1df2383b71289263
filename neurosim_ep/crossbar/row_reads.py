"""Single rows of an array, read weight by weight: how a transfer or a verification sees them."""

import torch
from torch import Tensor

from neurosim_ep.crossbar.converters import largest_code, quantise_
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.noise import conductance_variance
from neurosim_ep.devices import ReadVariance


@torch.no_grad()
def read_rows(matrix: CrossbarMatrix, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Weights of rows that are driven one at a time at the read voltage.

    With the devices' read noise, and the rounding and noise of the forward read's converters, whose
    full scale is one device's at the top of the window.

    Args:
        matrix: the arrays.
        rows: which ones (n,).
        generator: on the matrix's device.

    Returns:
        Weights (n, columns).
    """
    array, window = matrix.array, matrix.devices.card.window
    volt, converters = array.drive.read_voltage_volt, array.converters("forward", False)
    weights = matrix.forward_matrix[rows]
    units = matrix.units * matrix.compensation
    variance = _of_weights(matrix.noise, weights, rows, volt)
    variance += _references(matrix, rows, volt)
    if converters is not None and converters.adc_noise_ampere:
        variance += (converters.adc_noise_ampere / volt) ** 2
    normal = torch.randn(
        weights.shape, generator=generator, dtype=weights.dtype, device=weights.device
    )
    read = weights + normal * variance.clamp_min(0.0).sqrt() * units
    if converters is not None and converters.adc_bits is not None:
        full_scale = units * window.range_siemens
        step = full_scale / largest_code(converters.adc_bits, signed=True)
        read = quantise_(read, step, converters.adc_bits)
    return read


def _of_weights(noise: ReadVariance, like: Tensor, rows: Tensor, volt: float) -> Tensor:
    """Variance of the devices that carry weights, in siemens^2, (n, columns)."""
    picked = (
        None if table is None else table[rows]
        for table in (noise.constant, noise.per_volt, noise.per_square_volt)
    )
    return conductance_variance(ReadVariance(*picked), like, volt)


def _references(matrix: CrossbarMatrix, rows: Tensor, volt: float) -> Tensor:
    """Variance of the offset column that is subtracted, in siemens^2; 0 for pairs."""
    tiling = matrix.tiling
    like = matrix.units.new_zeros(len(rows), tiling.column_tiles)
    variance = _of_weights(matrix.reference_noise, like, rows, volt)
    return variance.repeat_interleave(tiling.tile_columns, 1)[:, : tiling.columns]
