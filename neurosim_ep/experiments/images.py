"""The images of a recipe: those it learns from, is tested on, holds out; and their batches."""

from dataclasses import replace
from pathlib import Path

import torch

from neurosim_ep.config import Recipe
from neurosim_ep.data import (
    WHOLE,
    Augmentation,
    Batches,
    Dataset,
    Preparation,
    Share,
    Split,
    load,
    split_validation,
)

# The same images are held out for every seed, so that seeds differ in the training alone.
_VALIDATION_SEED = 0


def load_images(
    recipe: Recipe,
    data_dir: Path | None = None,
    *,
    progress: bool = True,
    loaded: Dataset | None = None,
) -> Dataset:
    """The recipe's data set, with as many test images as the recipe asks for.

    Args:
        recipe: a valid recipe.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.
        progress: show a download's progress.
        loaded: the whole data set, where it is in memory already.

    Raises:
        ValueError: if the data are missing.
    """
    data, count = loaded, recipe.data.test_images
    if data is None:
        data = load(recipe.data.name, data_dir, progress=progress)
    return data if count is None else replace(data, test=data.test.first(count))


def training_splits(recipe: Recipe, data: Dataset) -> tuple[Split, Split]:
    """The recipe's training images, and those held out of them for validation (perhaps none)."""
    train, validation = split_validation(
        data.train, recipe.data.validation_images, _VALIDATION_SEED
    )
    count = recipe.data.train_images
    return train if count is None else train.first(count), validation


def image_batches(
    recipe: Recipe,
    data: Dataset,
    split: Split,
    device: torch.device,
    *,
    training: bool = False,
    share: Share = WHOLE,
) -> Batches:
    """Batches of a split as the recipe prepares them; shuffled and augmented for training."""
    images = recipe.data
    augmentation = Augmentation(
        images.flip_probability,
        images.crop_padding_pixels,
        images.randaugment_operations,
        images.randaugment_magnitude,
    )
    plain = not (
        images.flip_probability or images.crop_padding_pixels or images.randaugment_operations
    )
    return Batches(
        split,
        batch_size=recipe.learning.batch_size,
        preparation=Preparation.for_dataset(data, images.image_size),
        augmentation=augmentation if training and not plain else None,
        seed=recipe.seed,
        shuffle=training,
        device=device,
        dtype=torch.float64 if recipe.run.dtype == "float64" else torch.float32,
        share=share,
    )
