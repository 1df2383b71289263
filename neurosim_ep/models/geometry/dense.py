"""Every pre unit to every post unit."""

import math

from torch import Tensor

from neurosim_ep.models.geometry.base import Geometry, Shape


class Dense(Geometry):
    """Dense edge; the weight tensor has the shape ``pre_shape + post_shape``.

    Raises:
        ValueError: if a shape is empty or has a size below 1.
    """

    def __init__(self, pre_shape: Shape, post_shape: Shape) -> None:
        for name, shape in (("pre_shape", pre_shape), ("post_shape", post_shape)):
            if not shape or min(shape) < 1:
                raise ValueError(f"{name}: {shape} is not allowed; every size must be at least 1")
        self.pre_shape = tuple(pre_shape)
        self.post_shape = self.linear_shape = tuple(post_shape)
        self.weight_shape = self.pre_shape + self.post_shape
        self.fan_in = math.prod(pre_shape)

    def __repr__(self) -> str:
        return f"Dense({self.pre_shape}, {self.post_shape})"

    def linear(self, pre: Tensor, weight: Tensor) -> Tensor:
        """``pre @ W``: (B, *pre_shape) to (B, *post_shape)."""
        currents = pre.flatten(1) @ self.matrix(weight)
        return currents.view(-1, *self.post_shape)

    def transposed(self, currents: Tensor, weight: Tensor) -> Tensor:
        """``post @ W^T``: (B, *post_shape) to (B, *pre_shape)."""
        return (currents.flatten(1) @ self.matrix(weight).T).view(-1, *self.pre_shape)

    def correlation(self, pre: Tensor, currents: Tensor) -> Tensor:
        """Sum over the batch of pre x post, (*pre_shape, *post_shape)."""
        return (pre.flatten(1).T @ currents.flatten(1)).view(self.pre_shape + self.post_shape)

    def unroll(self, pre: Tensor) -> Tensor:
        """One position: (B, *pre_shape) to (B, 1, rows)."""
        return pre.flatten(1).unsqueeze(1)

    def fold(self, rows: Tensor) -> Tensor:
        """(B, 1, rows) to (B, *pre_shape)."""
        return rows.reshape(-1, *self.pre_shape)

    def matrix(self, weight: Tensor) -> Tensor:
        """(prod(pre_shape), prod(post_shape)), a view."""
        return weight.reshape(self.fan_in, -1)

    def to_columns(self, currents: Tensor) -> Tensor:
        """(B, *post_shape) to (B, 1, columns)."""
        return currents.flatten(1).unsqueeze(1)

    def from_columns(self, columns: Tensor) -> Tensor:
        """(B, 1, columns) to (B, *post_shape)."""
        return columns.reshape(-1, *self.post_shape)
