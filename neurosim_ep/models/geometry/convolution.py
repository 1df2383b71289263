"""Convolution, with any stride and padding, and convolution followed by 2x2 max pooling."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from neurosim_ep.models.geometry.base import Geometry, PreparedReads, Shape
from neurosim_ep.models.geometry.prepared import faster_reads
from neurosim_ep.models.geometry.scratch import Scratch


class Convolution(Geometry):
    """Convolution edge; weights are (out_channels, in_channels, kernel, kernel).

    Args:
        pre_shape: (channels, height, width) of the pre layer.
        out_channels: channels of the post layer.
        kernel: side of the square kernel.
        stride: step of the kernel in both directions.
        padding: zero padding on every side.

    Raises:
        ValueError: if a number is out of range, or the kernel does not fit into the padded state.
    """

    # Measured on a CPU: convolutions up to 2x, pooling 10x as fast as with contiguous channels.
    memory_format = torch.channels_last

    def __init__(
        self, pre_shape: Shape, out_channels: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        if len(pre_shape) != 3 or min(pre_shape) < 1:
            raise ValueError(
                f"pre_shape: {pre_shape} is not allowed; must be (channels, height, width), "
                "each at least 1"
            )
        for name, value, least in (
            ("out_channels", out_channels, 1),
            ("kernel", kernel, 1),
            ("stride", stride, 1),
            ("padding", padding, 0),
        ):
            if value < least:
                raise ValueError(f"{name}: {value} is not allowed; must be at least {least}")
        channels, *size = pre_shape
        if min(size) + 2 * padding < kernel:
            raise ValueError(
                f"kernel: {kernel} is not allowed; must be at most {min(size) + 2 * padding}, the "
                "padded size of the pre layer"
            )
        self.kernel, self.stride, self.padding = kernel, stride, padding
        out = tuple((side + 2 * padding - kernel) // stride + 1 for side in size)
        # Rows and columns of the pre layer that the last kernel position does not reach.
        self._beyond = tuple(
            side - ((o - 1) * stride - 2 * padding + kernel)
            for side, o in zip(size, out, strict=True)
        )
        self.pre_shape = tuple(pre_shape)
        self.post_shape = self.linear_shape = (out_channels, *out)
        self.weight_shape = (out_channels, channels, kernel, kernel)
        self.fan_in = channels * kernel * kernel

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.pre_shape}, {self.linear_shape[0]}, "
            f"kernel={self.kernel}, stride={self.stride}, padding={self.padding})"
        )

    def linear(self, pre: Tensor, weight: Tensor) -> Tensor:
        """Convolution of the states with the weights."""
        if torch.is_grad_enabled() and (self.kernel, self.padding) == (1, 0) and self.stride > 1:
            # The same, without the step that oneDNN's backward pass writes out of bounds for; see
            # `correlation`.
            reached = pre[:, :, :: self.stride, :: self.stride]
            return F.conv2d(reached.contiguous(memory_format=self.memory_format), weight)
        return F.conv2d(pre, weight, stride=self.stride, padding=self.padding)

    def transposed(self, currents: Tensor, weight: Tensor) -> Tensor:
        """Transposed convolution, the adjoint of `linear`."""
        return F.conv_transpose2d(
            currents,
            weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=self._beyond,
        )

    def prepared(self, weight: Tensor, batch: int, scratch: Scratch) -> PreparedReads:
        """Forms with fewer products, or weights laid out once, where they are faster."""
        return faster_reads(
            super().prepared(weight, batch, scratch),
            weight,
            stride=self.stride,
            padding=self.padding,
            pre=self.pre_shape[1:],
            linear=self.linear_shape[1:],
            pooled=self.pooled,
            batch=batch,
            scratch=scratch,
        )

    def correlation(self, pre: Tensor, currents: Tensor) -> Tensor:
        """Gradient of ``<currents, linear(pre)>`` with respect to the weights."""
        assert self.weight_shape is not None
        if self.stride > 1:
            # oneDNN (PyTorch 2.13, CPU, float32) writes out of bounds here for 1x1 kernels with
            # stride 2 in channels-last.
            pre, currents = pre.contiguous(), currents.contiguous()
        gradient: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            pre, self.weight_shape, currents, stride=self.stride, padding=self.padding
        )
        return gradient

    def unroll(self, pre: Tensor) -> Tensor:
        """Patches: (B, C, H, W) to (B, positions, C * kernel * kernel)."""
        patches = F.unfold(pre, self.kernel, stride=self.stride, padding=self.padding)
        return patches.transpose(1, 2)

    def fold(self, rows: Tensor) -> Tensor:
        """Overlapping patches added: (B, positions, C * kernel * kernel) to (B, C, H, W)."""
        return F.fold(
            rows.transpose(1, 2),
            self.pre_shape[1:],
            self.kernel,
            stride=self.stride,
            padding=self.padding,
        )

    def matrix(self, weight: Tensor) -> Tensor:
        """(in_channels * kernel * kernel, out_channels), a view."""
        return weight.flatten(1).T

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """(in_channels * kernel * kernel, out_channels) to a channels-last weight tensor."""
        assert self.weight_shape is not None
        return matrix.T.reshape(self.weight_shape).contiguous(memory_format=self.memory_format)


class PooledConvolution(Convolution):
    """Convolution followed by 2x2 max pooling (VGG5's edges; arXiv 2509.26003, equation 7).

    The winners of the forward read decide where the transposed read puts the post layer's state
    (un-pooling, the paper's P^-1 in equation 8).  Of complex currents the largest real part wins.
    """

    pooled = True

    def __init__(
        self, pre_shape: Shape, out_channels: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(pre_shape, out_channels, kernel, stride, padding)
        _, height, width = self.linear_shape
        if min(height, width) < 2:
            raise ValueError(
                f"pre_shape: {pre_shape} is not allowed; must leave at least 2x2 currents to pool, "
                f"not {height}x{width}"
            )
        self.post_shape = (out_channels, height // 2, width // 2)

    def pool(self, currents: Tensor, tie_margin: float = 0.0) -> tuple[Tensor, Tensor]:
        """Largest of each 2x2 window, and its flat position (B, C, H/2, W/2) in the H x W plane."""
        if tie_margin == 0.0 and not currents.is_complex():
            return F.max_pool2d(currents, 2, return_indices=True)
        ranked = currents.real if currents.is_complex() else currents
        if tie_margin > 0.0:
            head_start = _head_start(self.linear_shape[1:], ranked.device, ranked.dtype)
            ranked = ranked + tie_margin * ranked.abs().amax() * head_start
        _, winners = F.max_pool2d(ranked, 2, return_indices=True)
        return currents.flatten(2).gather(2, winners.flatten(2)).view(winners.shape), winners

    def unpool(self, post: Tensor, winners: Tensor | None) -> Tensor:
        """Each state at its winner's position, zeros elsewhere."""
        if winners is None:
            raise ValueError("winners: None is not allowed; must come from pool()")
        if post.is_complex():
            parts = torch.view_as_real(post).unbind(-1)
            return torch.complex(*(self.unpool(part.contiguous(), winners) for part in parts))
        return F.max_unpool2d(post, winners, [2, 2], output_size=self.linear_shape[1:])


# Asked for in every iteration of a settling by delta reads, for a handful of sizes.
@lru_cache(maxsize=64)
def _head_start(size: Shape, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What lets the first of equals win: 3, 2, 1, 0 over each 2x2 window, (H, W)."""
    rows = 2 * (1 - torch.arange(size[0], device=device) % 2)
    columns = 1 - torch.arange(size[1], device=device) % 2
    return (rows[:, None] + columns).to(dtype)
