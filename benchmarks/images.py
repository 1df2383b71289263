"""CIFAR-10 test images as the recipes prepare them, for the benchmarks that need real ones."""

import torch
from torch import Tensor

from neurosim_ep.data import load, spec_for


def cifar10(count: int) -> tuple[Tensor, Tensor]:
    """Images (count, 3, 32, 32) in float32 and labels (count,), the first of the test set."""
    test, spec = load("cifar10").test, spec_for("cifar10")
    pixels = test.images[:count].float() / 255.0
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    return (pixels - mean) / std, test.labels[:count].long()
