"""Hold out part of a split, class by class."""

from __future__ import annotations

import torch

from neurosim_ep.data.dataset import Split


def _quotas(counts: list[int], images: int) -> list[int]:
    """Share ``images`` among classes by largest remainder; ties go to the lower class."""
    total = sum(counts)
    shares = [images * count // total for count in counts]
    remainders = [images * count % total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: (-remainders[c], c))
    for c in by_remainder[: images - sum(shares)]:
        shares[c] += 1
    return shares


def split_validation(split: Split, images: int, seed: int) -> tuple[Split, Split]:
    """Hold out ``images`` images, each class in proportion to its share of the split.

    The held-out count of a class is the exact proportion rounded down or up (largest remainder).
    Both parts keep the order of ``split``. The draw uses its own generator seeded by ``seed``;
    no global generator is touched.

    Args:
        split: N labelled images.
        images: how many to hold out, 0 (an empty validation split) to N - 1.
        seed: seed of the draw, 0 or more.

    Returns:
        (train, validation) with N - images and images images.

    Raises:
        ValueError: ``images`` or ``seed`` is out of range.
    """
    if not 0 <= images < max(len(split), 1):
        raise ValueError(f"validation images: got {images}, allowed is 0 to {len(split) - 1}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"validation seed: got {seed}, allowed is 0 to 2**63 - 1")
    held = torch.zeros(len(split), dtype=torch.bool)
    if images:
        labels = split.labels.cpu()
        generator = torch.Generator().manual_seed(seed)
        classes = torch.unique(labels)
        members = [torch.nonzero(labels == c).flatten() for c in classes]
        for rows, quota in zip(members, _quotas([len(m) for m in members], images), strict=True):
            held[rows[torch.randperm(len(rows), generator=generator)[:quota]]] = True
    return split.take(torch.nonzero(~held).flatten()), split.take(torch.nonzero(held).flatten())
