"""Biases on a row of devices that is driven as a state of 1 is."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from neurosim_ep.crossbar.card import ArrayCard
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.noise import NormalSource, add_noise, is_silent
from neurosim_ep.crossbar.tiles import Tiling, cut
from neurosim_ep.devices import DeviceCard, Programmed, ReadVariance
from neurosim_ep.models import Dense, NoiseSum


class BiasRow(nn.Module):
    """One bias per channel of a layer, on one more row of an edge's arrays.

    The row's devices are programmed, pulsed, drift and clip as all others, and are as noisy in
    every forward read of the edge: an edge from the input is read once per settling, so that the
    noise of its row stays for that settling.  A delta read drives the change of a constant, which
    is nothing: only noise that needs no voltage is left there.  A transposed read does not sense
    the row.  Its share of the wires and its part in what converters round are left out.

    Args:
        bias: the layer's biases (channels,), which follow the devices.
        units: weight per siemens of the arrays that the row belongs to (channels,).
        device, array: cards.
        seed: of everything that is drawn.
        beside: how the edge's matrix is cut; its arrays may have a row to spare.  None where the
            biases have arrays of their own.

    Attributes:
        weight: the biases as a matrix (1, channels).
        matrix: the devices.
        geometry: of the products that update it: one driven row.
        own_arrays: physical arrays that are there for the row alone.
        programmed: what its last programming came to.
    """

    def __init__(
        self,
        bias: Tensor,
        units: Tensor,
        device: DeviceCard,
        array: ArrayCard,
        *,
        seed: int,
        beside: Tiling | None = None,
    ) -> None:
        super().__init__()
        columns = len(bias)
        tiling = cut(1, columns, array.layout.rows, array.layout.columns, 1)
        without_wires = array.model_copy(update={"wires": None})
        self.matrix = CrossbarMatrix(
            tiling, device, without_wires, seed=seed, dtype=bias.dtype, where=bias.device
        )
        self.geometry = Dense((1,), (columns,))
        self.weight = nn.Parameter(bias.detach().clone().view(1, -1))
        fits = beside is not None and _has_room(beside, array.layout.rows)
        self.own_arrays = 0 if fits else self.matrix.arrays
        self._volt = array.drive.read_voltage_volt
        self.program(units)

    @torch.no_grad()
    def program(self, units: Tensor) -> Programmed:
        """Write the digital biases into the devices; what is beyond the window is clipped.

        Args:
            units: weight per siemens of the arrays that the row belongs to (channels,).
        """
        self.programmed = self.matrix.program(self.weight, rescale=False, units=units)
        return self.programmed

    @torch.no_grad()
    def pulse(self, up: Tensor, down: Tensor) -> None:
        """Raise and lower biases by pulses (1, channels); `weight` then holds what is read."""
        self.matrix.pulse(up, down)
        self.weight.copy_(self.matrix.forward_matrix)

    def renew(self, fraction: float) -> int:
        """Write pairs anew of which a device is far up, see `CrossbarMatrix.renew`."""
        count = self.matrix.renew(fraction)
        with torch.no_grad():
            self.weight.copy_(self.matrix.forward_matrix)
        return count

    def stand_at(self, conductance_siemens: Tensor, units: Tensor) -> None:
        """Take over measured conductances; `weight` then holds what they stand for.

        Args:
            conductance_siemens, units: as for `CrossbarMatrix.stand_at`.

        Raises:
            ValueError: as it does; nothing changes then.
        """
        self.matrix.stand_at(conductance_siemens, units)
        with torch.no_grad():
            self.weight.copy_(self.matrix.forward_matrix)

    def product(self, post: Tensor) -> tuple[Tensor, Tensor]:
        """Post factor (N, channels, ...) as a product with the driven row, one per position."""
        columns = post.reshape(*post.shape[:2], -1).transpose(1, 2).reshape(-1, post.shape[1])
        return torch.ones_like(columns[:, :1]), columns

    @property
    def value(self) -> Tensor:
        """The biases that a read sees (channels,)."""
        return self.matrix.forward_matrix[0]

    # --- Read noise ----------------------------------------------------------------------------

    @torch.no_grad()
    def add_read_noise(
        self,
        currents: Tensor,
        state: float,
        scale: float | Tensor,
        source: NormalSource,
        noise: NoiseSum | None,
    ) -> None:
        """Add the row's noise to what a forward read of its edge returns.

        Args:
            currents: (B, channels, ...), each position a read of its own; changed in place.
            state: that the row is driven with, 1 or 0.
            scale: full scale of the driven states.
            source: of the edge's read noise.
            noise: takes the noise where it may be added to the sum of several reads; what columns
                have in common, from a reference, is added here all the same.
        """
        matrix = self.matrix
        # A card's noise is of one kind everywhere: without a constant part, rest is silent.
        if is_silent(matrix.noise) or (state == 0.0 and matrix.noise.constant is None):
            return
        ratio, along = scale / self._volt, (1, -1, *(1,) * (currents.dim() - 2))
        units = matrix.units.view(along)
        variance = _of_row(matrix.noise, state, ratio).view(along) * units.square()
        if noise is not None:
            noise.add(variance, source.like)
        else:
            add_noise(currents, variance, source)
        if is_silent(matrix.reference_noise):
            return
        variance = _of_row(matrix.reference_noise, state, ratio).view(along)
        shape = (len(currents), matrix.tiling.column_tiles, *currents.shape[2:])
        common = add_noise(currents.new_zeros(shape), variance, source)
        spread = common.repeat_interleave(matrix.tiling.tile_columns, 1)
        currents -= spread[:, : matrix.tiling.columns] * units

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        # What is read follows from the conductances, which may have moved or changed precision.
        self.matrix.refresh()
        return self


def _has_room(tiling: Tiling, array_rows: int) -> bool:
    """Whether a row of tiles leaves a row of its arrays free."""
    last: int = tiling.rows - (tiling.row_tiles - 1) * tiling.tile_rows
    return min(tiling.tile_rows, last) < array_rows


def _of_row(variance: ReadVariance, state: float, ratio: float | Tensor) -> Tensor:
    """Variance of the devices of one row in siemens^2, driven by a state (n,)."""
    terms = (
        (variance.constant, ratio * ratio),
        (variance.per_volt, ratio * state),
        (variance.per_square_volt, state * state),
    )
    return sum((matrix[0] * factor for matrix, factor in terms if matrix is not None), 0.0)  # type: ignore[return-value]
