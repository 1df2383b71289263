"""Buffers that the reads of one settling share, so that nothing is allocated per read."""

from collections.abc import Sequence

import torch
from torch import Tensor

TRANSFORMED, PRODUCTS, CURRENTS, CHANGE = range(4)
"""Slots: two for what a read works with, its currents, and what a delta read drives."""


class Scratch:
    """One buffer per slot, as large as the largest tensor that was asked for.

    Args:
        lasting: currents get tensors of their own, for who needs those of several reads at once.
    """

    def __init__(self, lasting: bool = False) -> None:
        self._lasting = lasting
        self._flat: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def take(self, slot: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of this shape in a slot; what the slot held is lost."""
        size, key = torch.Size(shape).numel(), (slot, like.dtype, like.device)
        if self._lasting and slot == CURRENTS:
            return like.new_empty(shape)
        flat = self._flat.get(key)
        if flat is None or flat.numel() < size:
            flat = self._flat[key] = like.new_empty(size)
        return flat[:size].view(*shape)

    def like(self, slot: int, tensor: Tensor) -> Tensor:
        """A tensor of this one's shape and memory format in a slot."""
        if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
            batch, channels, *size = tensor.shape
            return self.take(slot, (batch, *size, channels), tensor).permute(0, 3, 1, 2)
        return self.take(slot, tensor.shape, tensor)
