"""Biases on a row of devices that is always driven at full scale."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from neurosim_ep.crossbar.card import ArrayCard
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.tiles import cut
from neurosim_ep.devices import DeviceCard, Programmed
from neurosim_ep.models import Dense


class BiasRow(nn.Module):
    """One bias per channel of a layer, on one more row of an edge's arrays.

    The row's devices are programmed, pulsed, drift and clip as all others.  Its read noise, its
    share of the wires and its part in what converters round are left out.

    Args:
        bias: the layer's biases (channels,), which follow the devices.
        units: weight per siemens of the arrays that the row belongs to (channels,).
        device, array: cards.
        seed: of everything that is drawn.

    Attributes:
        weight: the biases as a matrix (1, channels).
        matrix: the devices.
        geometry: of the products that update it: one driven row.
    """

    def __init__(
        self, bias: Tensor, units: Tensor, device: DeviceCard, array: ArrayCard, *, seed: int
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
        self.program(units)

    @torch.no_grad()
    def program(self, units: Tensor) -> Programmed:
        """Write the digital biases into the devices; what is beyond the window is clipped.

        Args:
            units: weight per siemens of the arrays that the row belongs to (channels,).
        """
        return self.matrix.program(self.weight, rescale=False, units=units)

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

    def product(self, post: Tensor) -> tuple[Tensor, Tensor]:
        """Post factor (N, channels, ...) as a product with the driven row, one per position."""
        columns = post.reshape(*post.shape[:2], -1).transpose(1, 2).reshape(-1, post.shape[1])
        return torch.ones_like(columns[:, :1]), columns

    @property
    def value(self) -> Tensor:
        """The biases that a read sees (channels,)."""
        return self.matrix.forward_matrix[0]

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        # What is read follows from the conductances, which may have moved or changed precision.
        self.matrix.refresh()
        return self
