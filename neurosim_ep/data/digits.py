"""The 8x8 handwritten digits that come with scikit-learn; nothing is downloaded."""

from __future__ import annotations

import numpy as np
import torch

from neurosim_ep.data.dataset import Dataset, Split
from neurosim_ep.data.specs import SPECS
from neurosim_ep.data.validation import split_validation

TEST_IMAGES = 360
SPLIT_SEED = 0


def load_digits() -> Dataset:
    """Return scikit-learn's digits: 1437 train and 360 test images of shape (1, 8, 8).

    The stored values 0..16 become ``v * 255 / 16`` rounded half up, so 0 stays 0 and 16 becomes
    255. scikit-learn has no test split of its own: 360 images are held out by
    ``split_validation`` with the fixed seed 0, so every machine tests on the same images.
    Source: UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), test part.
    """
    from sklearn.datasets import load_digits as sklearn_digits  # type: ignore[import-untyped, unused-ignore]

    bunch = sklearn_digits()
    values = np.asarray(bunch.images).astype(np.int64)
    images = torch.from_numpy(((values * 255 + 8) // 16).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(np.asarray(bunch.target).astype(np.int64))
    spec = SPECS["digits"]
    everything = Split(images, labels, spec.mean, spec.std)
    train, test = split_validation(everything, TEST_IMAGES, SPLIT_SEED)
    names = tuple(str(name) for name in bunch.target_names)
    return Dataset("digits", "original", train, test, names)
