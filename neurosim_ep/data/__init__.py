"""Data sets, preparation, augmentation and resumable mini-batches."""

from neurosim_ep.data.augment import Augmentation
from neurosim_ep.data.batches import Batches
from neurosim_ep.data.dataset import Dataset, Split
from neurosim_ep.data.load import load
from neurosim_ep.data.prepare import Preparation
from neurosim_ep.data.share import WHOLE, Share
from neurosim_ep.data.specs import DATASETS, Spec, spec_for
from neurosim_ep.data.validation import split_validation
from neurosim_ep.seeds import derive_seed

__all__ = [
    "DATASETS",
    "WHOLE",
    "Augmentation",
    "Batches",
    "Dataset",
    "Preparation",
    "Share",
    "Spec",
    "Split",
    "derive_seed",
    "load",
    "spec_for",
    "split_validation",
]
