"""From the currents of single tiles to the digital sum over all of them."""

from torch import Tensor

from neurosim_ep.crossbar.converters import Step, largest_code, quantise_
from neurosim_ep.crossbar.noise import NormalSource
from neurosim_ep.crossbar.ports import Port


def largest_by_tile(currents: Tensor, tile: Tensor, tiles: int) -> Tensor:
    """Largest of each tile's lines: (samples, others, lines) to (samples, others, tiles)."""
    shape = (*currents.shape[:2], tiles)
    where = tile.expand_as(currents)
    return currents.new_zeros(shape).scatter_reduce_(2, where, currents, "amax")


def code_step(full_scale: Tensor, number: Tensor, bits: int) -> Step:
    """One code of every line's ADC as a number (tiles, lines).

    Args:
        full_scale: in ampere (tiles, lines).
        number: number per ampere of every line (lines,), or one for all.
        bits: resolution.
    """
    return Step.of(full_scale * number / largest_code(bits, signed=True), number)


def digitise(
    partial: Tensor, port: Port, step: Step | None, number: Tensor, source: NormalSource
) -> Tensor:
    """ADCs of every tile, then the digital sum over the tiles that share a line.

    Args:
        partial: currents as numbers (samples, tiles, lines), overwritten.
        port: the converters.
        step: of every line's ADC as a number (tiles, lines); None where nothing is rounded.
        number: number per ampere of every line (lines,), or one for all.
        source: of the ADCs' noise.
    """
    card = port.converters
    if card is not None and card.adc_noise_ampere > 0.0 and not port.calibrating:
        partial.addcmul_(source.like(partial), number * card.adc_noise_ampere)
    if step is not None and port.adc_bits is not None:
        quantise_(partial, step, port.adc_bits)
    return partial.sum(1) if partial.shape[1] > 1 else partial.squeeze(1)
