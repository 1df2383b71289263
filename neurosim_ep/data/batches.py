"""Prepared mini-batches of a split, in an order that a run can resume in the middle of."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from neurosim_ep.data.augment import Augmentation
from neurosim_ep.data.dataset import Split
from neurosim_ep.data.prepare import Preparation
from neurosim_ep.data.share import WHOLE, Share
from neurosim_ep.seeds import derive_seed

Batch = tuple[torch.Tensor, torch.Tensor]


class Batches:
    """The mini-batches of a split on one device.

    The uint8 images and the labels are moved to the device once, here. An epoch's order depends
    on (seed, epoch) alone, and a batch's augmentation on (seed, epoch, its index in the epoch), so
    starting an epoch at any batch gives the same batches bit for bit as running up to it.

    Args:
        split: N images.
        batch_size: images in a batch, 1 or more.
        preparation: scaling, padding and normalisation.
        augmentation: random changes between padding and normalisation; none where left out.
        seed: seed of order and augmentation, any integer.
        shuffle: whether each epoch has its own random order; else the split's order.
        device: where the batches are made.
        dtype: floating-point dtype of the batches. The work is done in float64 for float64 and
            in float32 otherwise, and cast at the end.
        drop_last: whether to leave out a last batch that is not full.
        share: the part of every batch that is made here, the same images as in the whole batch.
            Augmentation draws for a whole batch, so all of it is augmented, and then cut.

    Raises:
        ValueError: the split is empty, ``batch_size`` is below 1, or ``dtype`` is not a
            floating-point dtype.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        preparation: Preparation,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        shuffle: bool = True,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        drop_last: bool = False,
        share: Share = WHOLE,
    ) -> None:
        if len(split) == 0:
            raise ValueError("split: got 0 images, allowed is 1 or more")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, allowed is 1 or more")
        if not dtype.is_floating_point:
            raise ValueError(f"dtype: got {dtype}, allowed are floating-point dtypes")
        self.batch_size = batch_size
        self.preparation = preparation
        self.augmentation = augmentation
        self.seed = seed
        self.shuffle = shuffle
        self.device = torch.device(device)
        self.dtype = dtype
        self.drop_last = drop_last
        self.share = share
        self._images = split.images.to(self.device)
        self._labels = split.labels.to(self.device)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        full, rest = divmod(self._images.shape[0], self.batch_size)
        return full if self.drop_last or rest == 0 else full + 1

    @property
    def images_per_epoch(self) -> int:
        """Return the number of images in an epoch, those of all shares together."""
        return min(self._images.shape[0], len(self) * self.batch_size)

    def images_in(self, batch: int) -> int:
        """Return the number of images in the batch of this index, those of all shares together."""
        return min(self.batch_size, self.images_per_epoch - batch * self.batch_size)

    def order(self, epoch: int) -> torch.Tensor:
        """Return the epoch's order of images: int64 (N,) on the CPU, each index once."""
        count = self._images.shape[0]
        if not self.shuffle:
            return torch.arange(count)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch, "order"))
        return torch.randperm(count, generator=generator)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``start_batch`` on.

        Args:
            epoch: the epoch's number, any integer.
            start_batch: index of the first batch, 0 to the number of batches (none is left then).

        Yields:
            images (B, C, S, S) of ``dtype``, normalised; labels int64 (B,). Both on the device.
            A share of a last batch that is not full may hold no image (B = 0).

        Raises:
            ValueError: ``start_batch`` is out of range (at the call, not at the first batch).
        """
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"start_batch: got {start_batch}, allowed is 0 to {len(self)}")
        return self._epoch(epoch, start_batch)

    def _epoch(self, epoch: int, start_batch: int) -> Iterator[Batch]:
        order = self.order(epoch).to(self.device)
        working = torch.float64 if self.dtype == torch.float64 else torch.float32
        for index in range(start_batch, len(self)):
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            mine = self.share.rows(len(rows))
            if self.augmentation is None:
                rows = rows[mine]
                images = self.preparation.unit(self._images[rows], working)
            else:
                seed = derive_seed(self.seed, epoch, index, "augmentation")
                images = self.preparation.unit(self._images[rows], working)
                images, rows = self.augmentation(images, seed)[mine], rows[mine]
            yield self.preparation.normalise(images).to(self.dtype), self._labels[rows]
