"""How often a trained model is right."""

from pathlib import Path

from neurosim_ep.config import Recipe
from neurosim_ep.data import Batches, Preparation, Split
from neurosim_ep.exchange import hdf5
from neurosim_ep.experiments.build import build_method, device_of, settling_on
from neurosim_ep.experiments.images import image_batches, load_images
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.learning import (
    Backpropagation,
    CenteredEP,
    EquilibriumPropagation,
    Method,
    Phases,
    Summary,
    load_checkpoint,
)
from neurosim_ep.learning import evaluate as evaluate_method
from neurosim_ep.models import Cost, FeedForward, HopfieldNetwork, SquaredError

CHIP_SUFFIXES = (".h5", ".hdf5")
"""Of files of whole chips."""


def evaluate(
    model: HopfieldNetwork | FeedForward,
    split: Split,
    *,
    phases: Phases | None = None,
    cost: Cost | None = None,
    batch_size: int = 128,
) -> Summary:
    """Accuracy and cost of a model on a split, on the model's device and in its dtype.

    Args:
        model: settles, or is evaluated feed-forward; images are padded to its input layer.
        split: uint8 images with labels.
        phases: how the free phase settles; the paper's 120 iterations by default.
        cost: squared error by default.
        batch_size: images at a time.

    Raises:
        ValueError: if the images do not fit or the settling diverges.
    """
    cost = cost or SquaredError()
    method: Method
    if isinstance(model, HopfieldNetwork):
        # The estimator plays no part in an evaluation.
        method = EquilibriumPropagation(model, CenteredEP(0.1), cost, phases or Phases())
        size = model.layers[0].shape[-1]
    else:
        method, size = Backpropagation(model, cost), model.image_size
    first = next(model.parameters())
    batches = Batches(
        split,
        batch_size=batch_size,
        preparation=Preparation.for_split(split, size),
        shuffle=False,
        device=first.device,
        dtype=first.dtype,
    )
    return evaluate_method(method, batches.epoch(0))


def load_run(folder: Path, *, weights: str = "best") -> tuple[Recipe, Method]:
    """The model of a run folder, with the way it answers.

    Args:
        folder: of a run with at least one finished epoch.
        weights: ``best`` (by validation) or ``last``.

    Raises:
        ValueError: if the folder holds no such weights, or they do not fit its recipe.
    """
    if weights not in ("best", "last"):
        raise ValueError(f"weights: {weights!r} is not allowed; must be 'best' or 'last'")
    files = RunFolder(folder)
    recipe = files.load_recipe()
    path = files.best if weights == "best" else files.last
    state = load_checkpoint(path)
    method = build_method(recipe, device_of(recipe), files.load_cards())
    try:
        method.model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(f"{path}: does not fit the recipe of its run folder") from None
    return recipe, method


def load_chip(path: Path) -> tuple[Recipe, EquilibriumPropagation]:
    """The chip of a file, with the recipe in it and the way it answers.

    Raises:
        ValueError: if the file is missing, damaged or without a recipe, or the two do not fit.
    """
    recipe = hdf5.load_recipe(path)
    if recipe is None:
        raise ValueError(f"{path}: holds no recipe; must be the export of a run")
    chip = hdf5.load(path).to(device_of(recipe))
    dtype = str(chip.biases[0].dtype).removeprefix("torch.")
    if dtype != recipe.run.dtype:
        raise ValueError(f"{path}: {dtype} is not allowed; the recipe in it has {recipe.run.dtype}")
    return recipe, settling_on(recipe, chip)


def evaluate_run(
    folder: Path, *, data_dir: Path | None = None, weights: str | None = None
) -> Summary:
    """Accuracy of a run's weights, or of a chip's, on the test images.

    Args:
        folder: of a run with at least one finished epoch; or a file of `exchange.hdf5.save` that
            holds the recipe.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.
        weights: of a run, ``best`` (by validation, and by default) or ``last``.

    Raises:
        ValueError: if the run, its weights, the file or the data are missing or damaged.
    """
    method: Method
    if folder.suffix in CHIP_SUFFIXES and not folder.is_dir():
        if weights is not None:
            raise ValueError(f"weights: {weights!r} is not allowed with a chip; it has one set")
        recipe, method = load_chip(folder)
    else:
        recipe, method = load_run(folder, weights=weights or "best")
    data = load_images(recipe, data_dir)
    test = image_batches(recipe, data, data.test, device_of(recipe))
    return evaluate_method(method, test.epoch(0))
