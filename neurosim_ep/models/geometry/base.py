"""What every geometry answers: how states unroll into the vectors that a storage reads.

A geometry describes one linear operation from the pre layer's state to currents, and what is done
with those currents digitally before they reach the post layer (pooling, or nothing).  It says it in
two ways that agree: as fused tensor operations on a weight tensor (`linear`, `transposed`,
`correlation`), for exact storages, and as unrolled vectors times a matrix (`unroll`, `fold`,
`matrix`), for storages made of arrays.  Shapes below leave out the batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim_ep.models.geometry.scratch import Scratch

Shape = tuple[int, ...]


@dataclass
class PreparedReads:
    """A geometry's two reads at fixed weights, made ready for the many reads of a settling.

    What a read returns may lie in the scratch buffers: it holds until the next read with them.

    Attributes:
        linear: states (B, *pre_shape) to currents (B, *linear_shape).
        transposed: currents (B, *linear_shape) to currents of the pre layer (B, *pre_shape).
    """

    linear: Callable[[Tensor], Tensor]
    transposed: Callable[[Tensor], Tensor]


class Geometry(ABC):
    """One kind of connection between a pre layer and a post layer.

    Attributes:
        pre_shape: shape of the pre layer's state.
        post_shape: shape of the post layer's state.
        linear_shape: shape of the currents before pooling; equals ``post_shape`` without pooling.
        weight_shape: shape of the weight tensor; None for an edge without weights.
        fan_in: number of pre units that one current sums over; the initialisation scales with it.
        pooled: whether `pool` does anything.
        memory_format: of the weight tensor; states follow it.
    """

    pre_shape: Shape
    post_shape: Shape
    linear_shape: Shape
    weight_shape: Shape | None
    fan_in: int
    pooled: bool = False
    memory_format: torch.memory_format = torch.contiguous_format

    @abstractmethod
    def linear(self, pre: Tensor, weight: Tensor) -> Tensor:
        """Forward read.

        Args:
            pre: states (B, *pre_shape).
            weight: in ``weight_shape``; of an edge without weights, ignored.

        Returns:
            Currents (B, *linear_shape).
        """

    @abstractmethod
    def transposed(self, currents: Tensor, weight: Tensor) -> Tensor:
        """Transposed read, the adjoint of `linear` by the same weights.

        Args:
            currents: what drives the columns (B, *linear_shape).
            weight: as for `linear`.

        Returns:
            Currents of the pre layer (B, *pre_shape).
        """

    def prepared(self, weight: Tensor, batch: int, scratch: Scratch) -> PreparedReads:
        """Both reads with weights that stay as they are, for many reads without autograd.

        Args:
            weight: in ``weight_shape``; a later change of it may not be seen.
            batch: how many states a read usually drives.
            scratch: buffers that the edges of one settling share.
        """
        return PreparedReads(
            lambda pre: self.linear(pre, weight), lambda currents: self.transposed(currents, weight)
        )

    @abstractmethod
    def correlation(self, pre: Tensor, currents: Tensor) -> Tensor:
        """Sum over batch and positions of the outer products of both sides, in ``weight_shape``.

        Args:
            pre: states (B, *pre_shape).
            currents: of the post side before pooling (B, *linear_shape).
        """

    @abstractmethod
    def unroll(self, pre: Tensor) -> Tensor:
        """Vectors that drive an array's rows: (B, *pre_shape) to (B, positions, rows)."""

    @abstractmethod
    def fold(self, rows: Tensor) -> Tensor:
        """Adjoint of `unroll`: (B, positions, rows) to (B, *pre_shape), overlaps added."""

    @abstractmethod
    def matrix(self, weight: Tensor) -> Tensor:
        """Weight tensor as an array's matrix (rows, columns) = (fan-in, outputs)."""

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """Inverse of `matrix`: (rows, columns) to a weight tensor in the memory format."""
        assert self.weight_shape is not None
        return matrix.reshape(self.weight_shape)

    def to_columns(self, currents: Tensor) -> Tensor:
        """Currents (B, *linear_shape) as column vectors (B, positions, columns)."""
        return currents.flatten(2).transpose(1, 2)

    def from_columns(self, columns: Tensor) -> Tensor:
        """Column vectors (B, positions, columns) as currents (B, *linear_shape)."""
        return columns.transpose(1, 2).reshape(columns.shape[0], *self.linear_shape)

    def pool(self, currents: Tensor, tie_margin: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """Currents (B, *linear_shape) to (B, *post_shape), and the winners' positions if any.

        Within ``tie_margin``, relative to the largest current, the first of a window wins.
        """
        return currents, None

    def unpool(self, post: Tensor, winners: Tensor | None) -> Tensor:
        """Adjoint of `pool` at given winners: (B, *post_shape) to (B, *linear_shape)."""
        return post
