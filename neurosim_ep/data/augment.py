"""Random changes of training images: flip, RandAugment, crop."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neurosim_ep.data.randaugment import MAX_MAGNITUDE, rand_augment
from neurosim_ep.seeds import derive_seed


def random_flip(images: torch.Tensor, probability: float, seed: int) -> torch.Tensor:
    """Mirror each image left to right with ``probability``; float (B, C, H, W) to the same."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(images.shape[0], generator=generator) < probability
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)


def crop_offsets(count: int, padding: int, seed: int) -> torch.Tensor:
    """Draw crop offsets (row, column) in pixels: int64 (2, count), each in [0, 2 * padding]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2 * padding + 1, (2, count), generator=generator)


def random_crop(images: torch.Tensor, padding: int, seed: int) -> torch.Tensor:
    """Pad each side by ``padding`` pixels of the edge's value, then cut out the size again.

    Each image has its own offset. Padding by the edge and cutting is the same as limiting the
    pixel indices to the image, so nothing is padded.

    Args:
        images: (B, C, H, W), any dtype and device.
        padding: pixels, 0 or more.
        seed: 0 to 2**63 - 1.

    Returns:
        (B, C, H, W).
    """
    count, channels, height, width = images.shape
    offsets = (crop_offsets(count, padding, seed) - padding).to(images.device)
    device = images.device
    rows = (torch.arange(height, device=device) + offsets[0, :, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + offsets[1, :, None]).clamp(0, width - 1)
    return images[
        torch.arange(count, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


@dataclass(frozen=True)
class Augmentation:
    """Flip, RandAugment and crop, in that order, one independent draw for each image.

    The order is the paper's for CIFAR. For Fashion-MNIST its code crops before it flips; the
    crop's offsets are as likely to either side, so both orders draw from the same images.

    Attributes:
        flip_probability: 0 to 1.
        crop_padding_pixels: edge padding of the crop, 0 (no crop) or more.
        randaugment_operations: operations for each image, 0 (none, kornia is not imported) or
            more.
        randaugment_magnitude: 0 to 30; the paper uses 9.

    Raises:
        ValueError: a value is out of range.
    """

    flip_probability: float = 0.0
    crop_padding_pixels: int = 0
    randaugment_operations: int = 0
    randaugment_magnitude: int = 9

    def __post_init__(self) -> None:
        if not 0 <= self.flip_probability <= 1:
            raise ValueError(f"flip_probability: got {self.flip_probability}, allowed is 0 to 1")
        for name in ("crop_padding_pixels", "randaugment_operations"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"{name}: got {value}, allowed is 0 or more")
        if not 0 <= self.randaugment_magnitude <= MAX_MAGNITUDE:
            raise ValueError(
                f"randaugment_magnitude: got {self.randaugment_magnitude},"
                f" allowed is 0 to {MAX_MAGNITUDE}"
            )

    def __call__(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """Augment a batch; equal seeds give equal batches, and no global generator is touched.

        The draws are made on the CPU, so they are the same on every device.

        Args:
            images: float32 or float64 (B, C, S, S) in [0, 1], C = 1 or 3, any device.
            seed: any integer.

        Returns:
            (B, C, S, S) in [0, 1], same dtype and device.

        Raises:
            ValueError: the images are not float32 or float64 of shape (B, 1 or 3, S, S).
        """
        if (
            images.dtype not in (torch.float32, torch.float64)
            or images.ndim != 4
            or images.shape[1] not in (1, 3)
            or images.shape[2] != images.shape[3]
        ):
            raise ValueError(
                f"images: got {images.dtype} of shape {tuple(images.shape)}, allowed is"
                " torch.float32 or torch.float64 of shape (B, 1 or 3, S, S)"
            )
        if self.flip_probability > 0:
            images = random_flip(images, self.flip_probability, derive_seed(seed, "flip"))
        images = rand_augment(
            images,
            operation_count=self.randaugment_operations,
            magnitude=self.randaugment_magnitude,
            seed=derive_seed(seed, "randaugment"),
        )
        if self.crop_padding_pixels > 0:
            images = random_crop(images, self.crop_padding_pixels, derive_seed(seed, "crop"))
        return images
