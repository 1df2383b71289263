"""A convolution's two reads at fixed weights, in the fastest form known for its shape."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim_ep.models.geometry.base import PreparedReads, Shape
from neurosim_ep.models.geometry.patches import PatchConvolution
from neurosim_ep.models.geometry.scratch import Scratch
from neurosim_ep.models.geometry.winograd import WinogradConvolution

# Where the fast forms begin to win, measured on one core of an AMD EPYC (docs/performance.md).
_CHANNELS_BY_TILE = {4: 64, 2: 128}
_FEW_TILES = 24
_WIDE = 256


def faster_reads(
    reads: PreparedReads,
    weight: Tensor,
    *,
    stride: int,
    padding: int,
    pre: Shape,
    linear: Shape,
    pooled: bool,
    batch: int,
    scratch: Scratch,
) -> PreparedReads:
    """Replace a convolution's plain reads where a form equal up to rounding is faster.

    Only on the CPU and without autograd: a GPU's library chooses among such forms by itself.

    Args:
        reads: the plain ones; changed.
        weight: (out_channels, in_channels, kernel, kernel).
        stride, padding: as in `Convolution`.
        pre, linear: height and width of the pre layer and of the currents.
        pooled: whether the currents are pooled.
        batch, scratch: as in `Geometry.prepared`.
    """
    exact = weight.dtype in (torch.float32, torch.float64)
    if weight.device.type != "cpu" or torch.is_grad_enabled() or not exact:
        return reads
    weight = weight.detach()
    kernel = weight.shape[-1]
    if kernel == 3 and stride == 1 and padding <= 2:
        # Over a flat state all currents of a pooling window are equal: so are those of a tile of
        # side 2, to the last bit, and the first wins as it does in a plain read.
        if tile := _winograd_tile(weight, batch, linear, (2,) if pooled else (4, 2)):
            reads.linear = WinogradConvolution(weight, padding, pre, tile, scratch)
        if tile := _winograd_tile(weight, batch, pre, (4, 2)):
            adjoint = weight.flip(2, 3).transpose(0, 1)
            reads.transposed = WinogradConvolution(adjoint, 2 - padding, linear, tile, scratch)
    elif stride > 1:
        places, wide = linear[0] * linear[1], min(weight.shape[:2]) >= _WIDE
        forth = kernel == 1 or (wide and places <= 4)
        back = kernel == 1 or (wide and places <= 16)
        if forth or back:
            patches = PatchConvolution(weight, stride, padding, pre, scratch)
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
