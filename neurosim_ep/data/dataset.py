"""Labelled images in memory: one split, and a data set of a train and a test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 tensor (N, C, H, W), values 0..255.
        labels: int64 tensor (N,).
        mean: per-channel mean of pixels in [0, 1], which preparation takes off; empty: zeros.
        std: per-channel divisor after that; empty: ones.

    Raises:
        ValueError: a shape or dtype is not the one above, or the two lengths differ.
    """

    images: torch.Tensor
    labels: torch.Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images: got {self.images.dtype} of shape {tuple(self.images.shape)},"
                " allowed is torch.uint8 of shape (N, C, H, W)"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels: got {self.labels.dtype} of shape {tuple(self.labels.shape)},"
                f" allowed is torch.int64 of shape ({self.images.shape[0]},)"
            )

    def __len__(self) -> int:
        """Return the number of images N."""
        return int(self.images.shape[0])

    def take(self, indices: torch.Tensor | Sequence[int]) -> Split:
        """Return the images at ``indices``, in that order.

        Args:
            indices: integers in [0, N), as a 1-D tensor or a sequence.

        Raises:
            ValueError: an index is not a whole number or lies outside [0, N).
        """
        index = torch.as_tensor(indices)
        if index.numel() == 0:
            index = index.to(torch.int64)
        if index.ndim != 1 or index.dtype in (torch.bool,) or index.is_floating_point():
            raise ValueError(
                f"indices: got {index.dtype} of shape {tuple(index.shape)},"
                " allowed are whole numbers of shape (M,)"
            )
        if index.numel() and not (int(index.min()) >= 0 and int(index.max()) < len(self)):
            raise ValueError(
                f"indices: got {int(index.min())} to {int(index.max())},"
                f" allowed is 0 to {len(self) - 1}"
            )
        index = index.to(device=self.images.device, dtype=torch.int64)
        return replace(
            self, images=self.images[index], labels=self.labels[index.to(self.labels.device)]
        )

    def first(self, n: int) -> Split:
        """Return the first ``n`` images (a view), or all of them where there are fewer.

        Raises:
            ValueError: ``n`` is negative.
        """
        if n < 0:
            raise ValueError(f"n: got {n}, allowed is 0 or more")
        return replace(self, images=self.images[:n], labels=self.labels[:n])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with its class names.

    Attributes:
        name: one of ``DATASETS``.
        variant: "original", or "jpeg re-encoded" where the stored pixels went through JPEG.
        train: the training split.
        test: the test split, images of the same shape.
        class_names: one name per label value.
    """

    name: str
    variant: str
    train: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def display_name(self) -> str:
        """Return the name to print beside accuracies, such as "cifar10 (jpeg)"."""
        return self.name if self.variant == "original" else f"{self.name} (jpeg)"

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Return the number of channels C (1 or 3)."""
        return int(self.train.images.shape[1])

    @property
    def image_size(self) -> int:
        """Return the side of the square images in pixels."""
        return int(self.train.images.shape[-1])
