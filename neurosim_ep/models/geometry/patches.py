"""Convolutions as one product of a matrix of patches, for kernels far larger than the outputs.

oneDNN lays the weights out anew in every call: where a layer has few places that takes longer than
the products.  Here the layout is made once for the many reads of a settling.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim_ep.models.geometry.scratch import CURRENTS, PRODUCTS, TRANSFORMED, Scratch


class PatchConvolution:
    """Convolution of many states with one kernel, and its adjoint.

    Args:
        weight: (out_channels, in_channels, kernel, kernel); what it holds later is not seen.
        stride, padding: as in `Convolution`.
        size: height and width of the pre layer.
        scratch: shared buffers.
    """

    def __init__(
        self, weight: Tensor, stride: int, padding: int, size: Sequence[int], scratch: Scratch
    ) -> None:
        self._scratch = scratch
        self._outputs, self._inputs, self._kernel, _ = weight.shape
        self._stride, self._padding, self._size = stride, padding, tuple(size)
        self._down, self._across = (
            (side + 2 * padding - self._kernel) // stride + 1 for side in size
        )
        self._matrix = weight.permute(2, 3, 1, 0).reshape(-1, self._outputs).contiguous()

    def linear(self, states: Tensor) -> Tensor:
        """States (B, in_channels, H, W) to currents (B, out_channels, H', W'), channels-last."""
        padded, places = self._padded(states), self._places(states.shape[0])
        image, row, column, channel = padded.stride()
        step, kernel = self._stride, self._kernel
        patches = padded.as_strided(
            (*places, kernel, kernel, self._inputs),
            (image, step * row, step * column, row, column, channel),
        )
        rows = self._scratch.take(PRODUCTS, patches.shape, states).copy_(patches)
        currents = self._scratch.take(CURRENTS, (*places, self._outputs), states)
        torch.mm(
            rows.view(-1, self._matrix.shape[0]), self._matrix, out=currents.view(-1, self._outputs)
        )
        return currents.permute(0, 3, 1, 2)

    def transposed(self, currents: Tensor) -> Tensor:
        """Currents (B, out_channels, H', W') to (B, in_channels, H, W), channels-last."""
        batch, (height, width), pad = currents.shape[0], self._size, self._padding
        take, places = self._scratch.take, self._places(batch)
        driven = currents.permute(0, 2, 3, 1).reshape(-1, self._outputs)
        patches = take(PRODUCTS, (*places, self._kernel, self._kernel, self._inputs), currents)
        torch.mm(driven, self._matrix.T, out=patches.view(len(driven), -1))
        total = take(
            CURRENTS, (batch, height + 2 * pad, width + 2 * pad, self._inputs), currents
        ).zero_()
        last_row, last_column = self._stride * self._down, self._stride * self._across
        for down in range(self._kernel):
            for across in range(self._kernel):
                total[
                    :,
                    down : down + last_row : self._stride,
                    across : across + last_column : self._stride,
                ] += patches[:, :, :, down, across]
        return total[:, pad : pad + height, pad : pad + width].permute(0, 3, 1, 2)

    def _places(self, batch: int) -> tuple[int, int, int]:
        return batch, self._down, self._across

    def _padded(self, states: Tensor) -> Tensor:
        states, pad = states.permute(0, 2, 3, 1), self._padding
        if not pad:
            return states
        batch, height, width, channels = states.shape
        shape = (batch, height + 2 * pad, width + 2 * pad, channels)
        padded = self._scratch.take(TRANSFORMED, shape, states).zero_()
        padded[:, pad:-pad, pad:-pad] = states
        return padded
