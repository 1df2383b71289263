"""The direct skip connection: no weights, no devices."""

import torch.nn.functional as F
from torch import Tensor

from neurosim_ep.models.geometry.base import Geometry, Shape


class Identity(Geometry):
    """Post units receive ``strength`` times the pre unit of the same channel and place.

    Where the post layer is smaller in space, every stride-th place is taken; channels that only one
    side has are left out (the parameter-free shortcut of He et al. 2016, option A).

    Raises:
        ValueError: if the strength is not above 0 or the shapes do not fit by a whole stride.
    """

    weight_shape = None

    def __init__(self, pre_shape: Shape, post_shape: Shape, strength: float = 1.0) -> None:
        if not strength > 0.0:
            raise ValueError(f"strength: {strength} is not allowed; must be above 0")
        for name, shape in (("pre_shape", pre_shape), ("post_shape", post_shape)):
            if min(shape, default=1) < 1:
                raise ValueError(f"{name}: {shape} is not allowed; every size must be at least 1")
        if len(pre_shape) != len(post_shape) or len(pre_shape) not in (1, 3):
            raise ValueError(
                f"post_shape: {post_shape} is not allowed; must have as many sizes as the pre "
                f"layer's {pre_shape}, 1 or 3"
            )
        strides = {
            -(-side // small) for side, small in zip(pre_shape[1:], post_shape[1:], strict=True)
        } or {1}
        self.stride = max(strides)
        reached = tuple(-(-side // self.stride) for side in pre_shape[1:])
        if reached != tuple(post_shape[1:]):
            raise ValueError(
                f"post_shape: {post_shape} is not allowed; must be the pre layer's {pre_shape} "
                "taken at every n-th place"
            )
        self.pre_shape = tuple(pre_shape)
        self.post_shape = self.linear_shape = tuple(post_shape)
        self.strength = strength
        self.fan_in = 1

    def __repr__(self) -> str:
        return f"Identity({self.pre_shape}, {self.post_shape}, strength={self.strength:g})"

    def linear(self, pre: Tensor, weight: Tensor | None = None) -> Tensor:
        """Pre states at every stride-th place, channels cut or filled with zeros."""
        taken = pre[:, : self.post_shape[0]]
        if pre.dim() == 4:
            taken = taken[:, :, :: self.stride, :: self.stride]
        return self.strength * _fill_channels(taken, self.post_shape[0])

    def transposed(self, currents: Tensor, weight: Tensor | None = None) -> Tensor:
        """Adjoint of `linear`: zeros at the places that were left out."""
        taken = _fill_channels(currents[:, : self.pre_shape[0]], self.pre_shape[0])
        if self.stride > 1:
            spread = taken.new_zeros(taken.shape[0], *self.pre_shape)
            spread[:, :, :: self.stride, :: self.stride] = taken
            taken = spread
        return self.strength * taken

    def correlation(self, pre: Tensor, currents: Tensor) -> Tensor:
        """An identity edge has nothing to learn."""
        raise TypeError("an identity edge has no weights")

    def unroll(self, pre: Tensor) -> Tensor:
        """An identity edge sits on no array."""
        raise TypeError("an identity edge sits on no array")

    def fold(self, rows: Tensor) -> Tensor:
        """An identity edge sits on no array."""
        raise TypeError("an identity edge sits on no array")

    def matrix(self, weight: Tensor) -> Tensor:
        """An identity edge sits on no array."""
        raise TypeError("an identity edge sits on no array")


def _fill_channels(states: Tensor, channels: int) -> Tensor:
    missing = channels - states.shape[1]
    if missing <= 0:
        return states
    return F.pad(states, (0, 0) * (states.dim() - 2) + (0, missing))
