"""Stored uint8 images to the float images a network sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn.functional import pad

from neurosim_ep.data.dataset import Dataset, Split


@lru_cache(maxsize=32)
def _per_channel(
    values: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    return torch.tensor(values, device=device, dtype=dtype).view(1, -1, 1, 1)


@dataclass(frozen=True)
class Preparation:
    """Scale to [0, 1], zero-pad, normalise: the paper's Pad, ToTensor, Normalize.

    Padding comes before normalisation, so the border's value is ``-mean / std``, not 0.
    Augmentation, where there is any, goes between ``unit`` and ``normalise``.

    Attributes:
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel divisor, above 0.
        image_size: side S of the prepared images in pixels.

    Raises:
        ValueError: mean and std differ in length or are empty, a std is not above 0, or the size
            is below 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std: got {len(self.mean)} and {len(self.std)} values,"
                " allowed is one of each per channel"
            )
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std: got {self.std}, allowed are values above 0")
        if self.image_size < 1:
            raise ValueError(f"image_size: got {self.image_size}, allowed is 1 or more")

    @classmethod
    def for_dataset(cls, dataset: Dataset, image_size: int | None = None) -> Preparation:
        """Return the preparation with a data set's constants.

        Args:
            dataset: the data set.
            image_size: side S in pixels to pad to; the data set's own where left out.

        Raises:
            ValueError: ``image_size`` is below the data set's own.
        """
        size = dataset.image_size if image_size is None else image_size
        if size < dataset.image_size:
            raise ValueError(
                f"image_size: got {size}, allowed is {dataset.image_size} or more"
                f" for {dataset.name}"
            )
        return cls.for_split(dataset.train, size)

    @classmethod
    def for_split(cls, split: Split, image_size: int) -> Preparation:
        """Return the preparation with a split's constants, padding to ``image_size`` pixels.

        Args:
            split: its mean and standard deviation per channel are taken; none where it has none.
            image_size: side of the padded images, in pixels.
        """
        channels = int(split.images.shape[1])
        return cls(split.mean or (0.0,) * channels, split.std or (1.0,) * channels, image_size)

    def unit(self, images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Scale to [0, 1] and zero-pad, centred; an odd rest goes to the right and the bottom.

        Args:
            images: uint8 (B, C, H, W), H and W at most S.
            dtype: a floating-point dtype.

        Returns:
            (B, C, S, S) of ``dtype`` on the images' device.

        Raises:
            ValueError: the images are not uint8, have another number of channels, or are larger
                than S.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"images: got {images.dtype} of shape {tuple(images.shape)},"
                f" allowed is torch.uint8 of shape (B, {len(self.mean)}, H, W)"
            )
        rows, columns = self.image_size - images.shape[2], self.image_size - images.shape[3]
        if rows < 0 or columns < 0:
            raise ValueError(
                f"image_size: got {self.image_size}, allowed is {max(images.shape[2:])} or more"
                " for these images"
            )
        scaled = images.to(dtype) / 255
        if rows == 0 and columns == 0:
            return scaled
        left, top = columns // 2, rows // 2
        return pad(scaled, (left, columns - left, top, rows - top))

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``(images - mean) / std`` for each channel; float (B, C, S, S) to the same."""
        mean = _per_channel(self.mean, images.device, images.dtype)
        std = _per_channel(self.std, images.device, images.dtype)
        return (images - mean) / std

    def __call__(self, images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return ``normalise(unit(images, dtype))``: uint8 (B, C, H, W) to float (B, C, S, S)."""
        return self.normalise(self.unit(images, dtype))
