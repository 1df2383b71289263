"""The fidelity report of a recipe or a run: network, images and settings are the recipe's."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep.config import Recipe, load_recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.data import Preparation, derive_seed
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments.build import build_method, device_of
from neurosim_ep.experiments.evaluating import load_run
from neurosim_ep.experiments.fidelity.report import FidelityReport, fidelity_report
from neurosim_ep.experiments.fidelity.settings import Grid
from neurosim_ep.experiments.images import load_images, training_splits
from neurosim_ep.learning import EquilibriumPropagation


def fidelity_of(
    recipe_or_run: str,
    device: str,
    array: str,
    *,
    images: int = 32,
    seed: int = 0,
    quick: bool = False,
    grid: Grid | None = None,
    hardware: int | None = None,
    repeats: int | None = None,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> FidelityReport:
    """`fidelity_report` of a recipe as initialised, or of a run's best weights.

    Args:
        recipe_or_run: name or path of an EP recipe, or a run folder.
        device, array: names or paths of cards.
        images: training images that are measured; as many others calibrate.
        seed, quick, grid, hardware, repeats, progress: see `fidelity_report`.
        overrides: of a recipe's fields.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.

    Raises:
        ValueError: if recipe, run, cards or data are missing or not valid.
    """
    # What takes long comes after everything that can be wrong.
    device_card, array_card = load_device_card(device), load_array_card(array)
    if Path(recipe_or_run).is_dir():
        if overrides:
            raise ValueError(
                f"--set: {overrides[0]!r} is not allowed; must be absent with a run folder"
            )
        recipe, method = load_run(Path(recipe_or_run))
    else:
        recipe = load_recipe(recipe_or_run, overrides)
        method = build_method(recipe, device_of(recipe))
    if not isinstance(method, EquilibriumPropagation):
        raise ValueError(
            f"learning.algorithm: {recipe.learning.algorithm!r} is not allowed; must be "
            "'equilibrium_propagation'"
        )
    if recipe.run.threads is not None:
        torch.set_num_threads(recipe.run.threads)
    measured, calibration = fidelity_images(recipe, images, seed, data_dir)
    report = fidelity_report(
        method.model,
        device_card,
        array_card,
        *measured,
        *calibration,
        estimator=method.estimator,
        phases=method.phases,
        cost=method.cost,
        seed=seed,
        hardware=hardware,
        repeats=repeats,
        quick=quick,
        grid=grid,
        title=recipe.name,
        progress=progress,
    )
    about = {"measured": recipe_or_run, "recipe": recipe.model_dump(mode="json")}
    return replace(report, about=about)


def fidelity_images(
    recipe: Recipe, count: int, seed: int, data_dir: Path | None = None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training images to measure and others to calibrate on, each with labels; not augmented.

    Raises:
        ValueError: if there are too few, or the data are missing.
    """
    data = load_images(recipe, data_dir, progress=False)
    train, _ = training_splits(recipe, data)
    if not 1 <= count <= len(train) // 2:
        raise ValueError(
            f"images: {count} is not allowed; must be at least 1 and at most {len(train) // 2}, "
            "half of the training images"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "fidelity images"))
    chosen = train.take(torch.randperm(len(train), generator=generator)[: 2 * count])
    preparation = Preparation.for_dataset(data, recipe.data.image_size)
    dtype = torch.float64 if recipe.run.dtype == "float64" else torch.float32
    device = device_of(recipe)
    prepared, labels = preparation(chosen.images.to(device), dtype), chosen.labels.to(device)
    return (prepared[:count], labels[:count]), (prepared[count:], labels[count:])
