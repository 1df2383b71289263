"""From a row to the recipes that it trains: schedule, scale, the row's own changes, the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from neurosim_ep._toml_text import problem
from neurosim_ep.config import Recipe, load_recipe
from neurosim_ep.experiments.hardware.options import seed_range
from neurosim_ep.experiments.reproduce.targets import Entry, entries_of, selected

SCHEDULES = ("faithful", "fast")
SCALES = ("full", "small", "tiny")
SCALE_NOTES = {
    "small": "scale small: narrow networks (8-16-32-32 channels) on 300 training images",
    "tiny": "scale tiny: networks of 4 channels on 48 of the 8x8 digits, whatever the row's data",
}

_SMALL = (
    "network.widths=[8, 16, 32, 32]",
    "data.train_images=300",
    "data.validation_images=60",
    "data.test_images=150",
    "learning.epochs=10",
    "learning.batch_size=12",
)
# Narrow layers fall silent at the full-width gains of VGG5, and learn better by Adam.
_NARROW_EP = ("learning.optimiser=adam", "learning.learning_rate=0.001", "learning.weight_decay=0")
_NARROW_VGG5_EP = ("network.gains=[0.6, 0.7, 0.7, 0.6, 0.7]",)
_TINY = (
    "network.widths=[4, 4, 4, 4]",
    "data.name=digits",
    "data.image_size=16",
    "data.train_images=48",
    "data.validation_images=16",
    "data.test_images=32",
    "settling.free_iterations=6",
    "settling.nudged_iterations=3",
    "learning.epochs=2",
    "learning.batch_size=16",
    "run.threads=1",
)
# What a row stands for; overrides that change it would make its label untrue.
_IDENTITY = ("data.name", "network.model", "learning.algorithm", "recipe.name")


@dataclass(frozen=True)
class Planned:
    """One row with its trainings.

    Attributes:
        entry: the row.
        recipes: one per seed.
        folders: of their runs.
        overrides: all that was changed in the shipped recipe `source`, as ``key=value``.
        source: shipped recipe's name.
    """

    entry: Entry
    recipes: tuple[Recipe, ...]
    folders: tuple[Path, ...]
    source: str
    overrides: tuple[str, ...]


def plan(
    target: str,
    folder: Path,
    *,
    only: Sequence[str] = (),
    seeds: int = 1,
    overrides: Sequence[str] = (),
    scale: str = "full",
    schedule: str = "faithful",
) -> list[Planned]:
    """The rows of a table or figure, ready to be trained below a folder.

    Args:
        target: see `targets.TARGETS`.
        folder: holds a run folder for each recipe and seed; what other targets trained is found.
        only, seeds, overrides: see `command.reproduce`.
        scale: ``full``; ``small`` and ``tiny`` are not comparable with the paper.
        schedule: ``faithful`` (the paper's) or ``fast``.

    Raises:
        ValueError: one line per problem.
    """
    for field, value, allowed in (("scale", scale, SCALES), ("schedule", schedule, SCHEDULES)):
        if value not in allowed:
            raise ValueError(problem(field, value, f"one of {', '.join(allowed)}"))
    seed_range("seeds", seeds)
    entries = entries_of(target)
    varied = [text.partition("=")[0] for entry in entries for text in entry.overrides]
    return [
        _planned(entry, [*_IDENTITY, *varied], folder, seeds, overrides, scale, schedule)
        for entry in selected(entries, only)
    ]


def _planned(
    entry: Entry,
    fixed: Sequence[str],
    folder: Path,
    seeds: int,
    overrides: Sequence[str],
    scale: str,
    schedule: str,
) -> Planned:
    source, changes = entry.recipe, [*_of_scale(entry, scale), *entry.overrides]
    if schedule == "fast" and entry.learned_by == "ep":
        source = f"{entry.recipe}-fast"
    elif schedule == "fast" and scale == "full":
        # As many epochs as the row beside it.
        epochs = load_recipe(entry.recipe.removesuffix("-bp") + "-fast").learning.epochs
        changes.append(f"learning.epochs={epochs}")
    own = load_recipe(source, changes)
    recipe = load_recipe(source, [*changes, *overrides])
    for field in fixed:
        if _value(recipe, field) != _value(own, field):
            allowed = f"left alone: it is what the row {entry.key} stands for"
            raise ValueError(problem(field, _value(recipe, field), allowed))
    name = "-".join(filter(None, (source, entry.variant)))
    recipe = recipe.model_copy(update={"name": name})
    first = recipe.seed
    seeded = [recipe.model_copy(update={"seed": first + n}) for n in range(seeds)]
    folders = [folder / f"{name}-seed{r.seed}" for r in seeded]
    every = (*changes, *overrides)
    return Planned(entry, tuple(seeded), tuple(folders), source, every)


def _of_scale(entry: Entry, scale: str) -> list[str]:
    if scale == "full":
        return []
    narrow: tuple[str, ...] = _TINY if scale == "tiny" else _SMALL
    if entry.learned_by == "ep":
        narrow += _NARROW_EP + (_NARROW_VGG5_EP if "vgg5" in entry.words else ())
    return list(narrow)


def _value(recipe: Recipe, field: str) -> Any:
    """The value of a dotted field; tuples and tables compare by value."""
    return reduce(getattr, field.removeprefix("recipe.").split("."), recipe)


def at_batch(planned: Planned, batch_size: int) -> Planned:
    """The same row with batches of another size."""
    recipes = tuple(
        recipe.model_copy(
            update={"learning": recipe.learning.model_copy(update={"batch_size": batch_size})}
        )
        for recipe in planned.recipes
    )
    return replace(planned, recipes=recipes)
