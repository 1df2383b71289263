"""What the reads of an edge's arrays need, worked out once per change of the devices."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from neurosim_ep.crossbar.converters import Step
from neurosim_ep.crossbar.digital import code_step
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.ports import Port
from neurosim_ep.crossbar.read_noise import ReadNoise
from neurosim_ep.crossbar.reading import TileReads


class Prepared:
    """Weights, scales, converter steps and noise of one matrix, made when first asked for.

    Args:
        matrix: the arrays.
        reads: how their edge reads them.
        read_voltage_volt: at full scale.
    """

    def __init__(self, matrix: CrossbarMatrix, reads: TileReads, read_voltage_volt: float) -> None:
        self._matrix, self._reads, self._volt = matrix, reads, read_voltage_volt
        self._made: dict[Hashable, Tensor | ReadNoise | Step] = {}

    def clear(self) -> None:
        """Forget everything: the devices, their precision or their place have changed."""
        self._made.clear()

    def effective(self, direction: str) -> Tensor:
        """The weights that a ``forward`` or ``transposed`` read sees (rows, columns)."""
        matrix = self._matrix
        return matrix.forward_matrix if direction == "forward" else matrix.transposed_matrix

    def summed(self, direction: str) -> Tensor:
        """These weights, for reads of all tiles at once."""
        return self._get(direction, lambda: self._reads.weight(self.effective(direction)))

    def blocks(self, direction: str) -> Tensor:
        """These weights, for reads tile by tile."""
        reads = self._reads
        make = reads.forward_blocks if direction == "forward" else reads.transposed_blocks
        return self._get((direction, "blocks"), lambda: make(self.effective(direction)))

    def number(self, direction: str, scale: float | Tensor) -> Tensor:
        """Number per ampere of every line, driven at a full scale."""

        def make() -> Tensor:
            matrix = self._matrix
            units = matrix.units if direction == "forward" else matrix.largest_unit
            return units * matrix.compensation * (scale / self._volt)

        return make() if isinstance(scale, Tensor) else self._get((direction, scale), make)

    def step(
        self,
        port: Port,
        scale: float | Tensor,
        full_scale: Callable[[], Tensor],
        number: Tensor,
    ) -> Step:
        """One code of every line's ADC of fixed range."""
        bits, key = port.adc_bits, (port, port.ranges.calibrations, scale)
        assert bits is not None
        held = None if isinstance(scale, Tensor) else self._made.get(key)
        if held is None:
            held = code_step(full_scale(), number, bits)
            if not isinstance(scale, Tensor):
                self._made[key] = held
        assert isinstance(held, Step)
        return held

    def index(self, name: str, make: Callable[[], list[int]]) -> Tensor:
        """A list of places as a tensor."""
        device = self._matrix.units.device
        return self._get(name, lambda: torch.tensor(make(), device=device))

    def relative_units(self, driven: Tensor) -> Tensor:
        """Scales of the columns relative to the largest, to be broadcast over driven columns."""
        relative = self._matrix.units / self._matrix.largest_unit
        return relative.view(-1, *(1,) * (driven.dim() - 2))

    def noise(self) -> ReadNoise | None:
        """The arrays' read noise; None where there is none."""
        held = self._made.get("noise")
        if held is None:
            held = self._made["noise"] = ReadNoise(self._matrix, self._reads, self._volt)
        assert isinstance(held, ReadNoise)
        return None if held.silent else held

    def _get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        held = self._made.get(key)
        if held is None:
            held = self._made[key] = make()
        assert isinstance(held, Tensor)
        return held
