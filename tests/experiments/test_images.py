"""The images of a recipe: test images limited everywhere they are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from neurosim_ep.config import Recipe
from neurosim_ep.experiments import evaluate_run, run
from neurosim_ep.experiments.images import load_images, training_splits

Small = Callable[..., Recipe]


def test_the_first_test_images_are_kept_and_all_without_a_limit(small: Small) -> None:
    whole, few = load_images(small()), load_images(small("test_images=50"))
    assert (len(whole.test), len(few.test)) == (360, 50)
    assert torch.equal(few.test.images, whole.test.images[:50])
    assert torch.equal(few.test.labels, whole.test.labels[:50])
    assert torch.equal(few.train.images, whole.train.images)


def test_validation_is_held_out_before_training_images_are_counted(small: Small) -> None:
    recipe = small("train_images=30", "validation_images=20")
    data = load_images(recipe)
    train, validation = training_splits(recipe, data)
    assert (len(train), len(validation)) == (30, 20)
    every, _ = training_splits(small("train_images=none", "validation_images=20"), data)
    assert len(every) == len(data.train) - 20
    assert torch.equal(train.images, every.images[:30])


def test_a_run_is_tested_on_the_limited_images(small: Small, tmp_path: Path) -> None:
    recipe = small("test_images=3", "epochs=1")
    result = run(recipe, tmp_path / "run")
    thirds = result.last * 3 / 100
    assert abs(thirds - round(thirds)) < 1e-4
    assert evaluate_run(tmp_path / "run", weights="last").accuracy_percent == result.last
