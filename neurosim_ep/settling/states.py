"""What a settling returns: the states of all layers and how far they have settled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import torch
from torch import Tensor

UNSETTLED_RESIDUAL = 1e-2
"""Without a tolerance, an image whose residual ends above this is reported as not settled.

The paper's networks end their 120 iterations near 1e-4; settlings that oscillate or wander stay at
several percent.
"""


@dataclass
class States(Sequence[Tensor]):
    """States of all layers, the input first; a sequence of tensors (B, *layer shape).

    Attributes:
        tensors: one tensor per layer.
        residual: relative change of the states in the last iteration, per image (B,).
        iterations: how many were done.
        tolerance: the residual that counts as settled.
        winners: of nudged phases, where each pooled edge's post states sit before pooling, by the
            edge's number (`Settling.winners`).
    """

    tensors: list[Tensor]
    residual: Tensor
    iterations: int
    tolerance: float = UNSETTLED_RESIDUAL
    winners: dict[int, Tensor] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """State of one layer, or of a slice of layers."""
        return self.tensors[index]

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def output(self) -> Tensor:
        """State of the output layer (B, num_outputs)."""
        return self.tensors[-1]

    @property
    def settled(self) -> Tensor:
        """Whether each image's residual is within the tolerance (B,); False where it is NaN."""
        return self.residual <= self.tolerance


def relative_change(old: Sequence[Tensor], new: Sequence[Tensor]) -> Tensor:
    """``||new - old|| / ||new||`` over all free layers, per image (B,), real.

    Args:
        old, new: one tensor (B, *shape) per layer, the input first, which does not count.
    """
    change = torch.stack([_norm2(b - a) for a, b in zip(old[1:], new[1:], strict=True)]).sum(0)
    size = torch.stack([_norm2(b) for b in new[1:]]).sum(0)
    return (change / size.clamp_min(torch.finfo(size.dtype).tiny)).sqrt()


def _norm2(tensor: Tensor) -> Tensor:
    flat = tensor.flatten(1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).flatten(1)
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norms.square()
