"""A geometry's two reads at fixed weights, made ready for the many reads of a settling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurosim_ep.models.geometry.patches import PatchConvolution
from neurosim_ep.models.geometry.winograd import Scratch, WinogradConvolution

if TYPE_CHECKING:
    from neurosim_ep.models.geometry.base import Geometry
    from neurosim_ep.models.geometry.convolution import Convolution

Read = Callable[[Tensor], Tensor]

# Where the fast forms begin to win, measured on one core of an AMD EPYC (docs/performance.md).
_CHANNELS_BY_TILE = {4: 64, 2: 128}
_FEW_TILES = 24
_WIDE = 256


class PreparedReads:
    """`Geometry.linear` and `Geometry.transposed` with one weight tensor.

    Attributes:
        linear: states (B, *pre_shape) to currents (B, *linear_shape).
        transposed: currents (B, *linear_shape) to currents of the pre layer (B, *pre_shape).
    """

    def __init__(self, geometry: Geometry, weight: Tensor) -> None:
        self.linear: Read = lambda pre: geometry.linear(pre, weight)
        self.transposed: Read = lambda currents: geometry.transposed(currents, weight)


def prepared_convolution(
    geometry: Convolution, weight: Tensor, batch: int, scratch: Scratch
) -> PreparedReads:
    """The fastest known reads of a convolution, equal to the plain ones up to rounding.

    Only on the CPU and without autograd: a GPU's library chooses among such forms by itself.
    """
    reads = PreparedReads(geometry, weight)
    exact = weight.dtype in (torch.float32, torch.float64)
    if weight.device.type != "cpu" or torch.is_grad_enabled() or not exact:
        return reads
    weight = weight.detach()
    pre, linear = geometry.pre_shape[1:], geometry.linear_shape[1:]
    if geometry.kernel == 3 and geometry.stride == 1 and geometry.padding <= 2:
        # Over a flat state all currents of a pooling window are equal: so are those of a tile of
        # side 2, to the last bit, and the first wins as it does in a plain read.
        if tile := _winograd_tile(weight, batch, linear, (2,) if geometry.pooled else (4, 2)):
            reads.linear = WinogradConvolution(weight, geometry.padding, pre, tile, scratch)
        if tile := _winograd_tile(weight, batch, pre, (4, 2)):
            adjoint = weight.flip(2, 3).transpose(0, 1)
            reads.transposed = WinogradConvolution(
                adjoint, 2 - geometry.padding, linear, tile, scratch
            )
    elif geometry.stride > 1:
        places, wide = linear[0] * linear[1], min(weight.shape[:2]) >= _WIDE
        forth = geometry.kernel == 1 or (wide and places <= 4)
        back = geometry.kernel == 1 or (wide and places <= 16)
        if forth or back:
            patches = PatchConvolution(weight, geometry.stride, geometry.padding, pre)
            reads.linear = patches.linear if forth else reads.linear
            reads.transposed = patches.transposed if back else reads.transposed
    return reads


def _winograd_tile(
    weight: Tensor, batch: int, outputs: tuple[int, ...], sides: Sequence[int]
) -> int:
    """First side of output tiles that pays; 0 where the plain convolution is as fast."""
    for side in sides:
        whole = all(length % side == 0 for length in outputs)
        tiles = batch * (outputs[0] // side) * (outputs[1] // side)
        if whole and tiles >= _FEW_TILES and min(weight.shape[:2]) >= _CHANNELS_BY_TILE[side]:
            return side
    return 0
