"""The trainings of a comparison, exact and on chips: planned, checked, then run side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.console import Console

from neurosim_ep.cards import Card, dump_card
from neurosim_ep.config import Recipe
from neurosim_ep.crossbar import shipped_array_cards
from neurosim_ep.devices import shipped_device_cards
from neurosim_ep.experiments.on_chip.building import Cards
from neurosim_ep.experiments.on_chip.rules import RuleChoice, on_chip_recipe
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.experiments.sweeps.cells import CellResult, result_of
from neurosim_ep.experiments.sweeps.checks import check_cells
from neurosim_ep.experiments.sweeps.display import SweepDisplay
from neurosim_ep.experiments.sweeps.grid import Cell, card_path
from neurosim_ep.experiments.sweeps.workers import train_cells, workers
from neurosim_ep.learning import write_text


@dataclass(frozen=True)
class Training(Cell):
    """One training of a comparison; ``values`` say in words which.

    Its folder is that of a run, beside which nothing but changed cards is written.
    """

    def start(self) -> None:
        """Make the folder, and write the cards into it that are not shipped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.failure.unlink(missing_ok=True)
        for kind in self.changed:
            write_text(card_path(self.folder, kind), dump_card(getattr(self, kind)))

    def check_same(self) -> None:
        """A folder that holds a run must hold this one.

        Raises:
            ValueError: naming the first field that differs.
        """
        files = RunFolder(self.folder)
        if files.recipe.exists():
            files.check_same(self.recipe, self.cards)

    @property
    def cards(self) -> Cards | None:
        """The hardware; None of an exact training."""
        if self.device is None or self.array is None:
            return None
        return Cards(self.device, self.array)


@dataclass(frozen=True)
class TrainingSource:
    """What all trainings of a comparison share.

    Attributes:
        recipe: of the exact training; its table [on_chip], if any, is where rules get their fields.
        threads: of each training; None takes the recipe's.
    """

    recipe: Recipe
    threads: int | None = None

    def exact(self, folder: Path, seed: int, values: Mapping[str, str]) -> Training:
        """A training without hardware."""
        recipe = self.recipe.model_copy(update={"on_chip": None, "seed": seed})
        return Training(values, seed, self._threaded(recipe), folder.resolve())

    def on_chip(
        self,
        folder: Path,
        seed: int,
        values: Mapping[str, str],
        cards: Cards,
        choice: RuleChoice,
        *,
        device_seed: int,
        scale_trains: float = 1.0,
    ) -> Training:
        """A training on a chip; cards that are not shipped become files of its folder.

        Raises:
            ValueError: if the rule cannot have what the recipe asks for.
        """
        place, changed = folder.resolve(), _changed(cards)
        names = {
            kind: str(card_path(place, kind)) if kind in changed else getattr(cards, kind).name
            for kind in ("device", "array")
        }
        recipe, _ = on_chip_recipe(
            self.recipe.model_copy(update={"seed": seed}),
            choice,
            device_card=names["device"],
            array_card=names["array"],
            device_seed=device_seed,
            scale_trains=scale_trains,
        )
        return Training(
            values, seed, self._threaded(recipe), place, cards.device, cards.array, changed
        )

    def _threaded(self, recipe: Recipe) -> Recipe:
        if self.threads is None:
            return recipe
        run = recipe.run.model_copy(update={"threads": self.threads})
        return recipe.model_copy(update={"run": run})


def _changed(cards: Cards) -> tuple[str, ...]:
    """Kinds of cards that are not the shipped ones of their names."""
    shipped = {"device": _shipped_devices(), "array": _shipped_arrays()}
    return tuple(
        kind
        for kind, known in shipped.items()
        if known.get(getattr(cards, kind).name) != getattr(cards, kind)
    )


_shipped_devices: Callable[[], Mapping[str, Card]] = cache(shipped_device_cards)
_shipped_arrays: Callable[[], Mapping[str, Card]] = cache(shipped_array_cards)


def check_trainings(
    trainings: Sequence[Training], data_dir: Path | None, *, resume: bool, progress: bool
) -> None:
    """Whether everything can be trained where it is to be.

    Args:
        trainings: all of them.
        data_dir: folder with the data sets.
        resume: whether folders may hold their runs already.
        progress: show a download's progress.

    Raises:
        ValueError: naming what is not allowed, before anything is written.
    """
    for training in trainings:
        if resume:
            training.check_same()
        else:
            RunFolder(training.folder).check_free()
    left = [t for t in trainings if result_of(t).status != "finished"]
    check_cells(left, data_dir, progress=progress)


def train_all(
    trainings: Sequence[Training], jobs: int, data_dir: Path | None, console: Console
) -> dict[Path, CellResult]:
    """Train what is not finished.

    Args:
        trainings: checked by `check_trainings`.
        jobs: how many at a time; more than one in processes of one thread each.
        data_dir: folder with the data sets.
        console: gets a line per training.

    Returns:
        What came of each, by folder; failed ones say why.
    """
    left = [training for training in trainings if result_of(training).status != "finished"]
    together = workers(min(jobs, len(left)))
    with together as client, SweepDisplay(console, left) as display:
        for cell in train_cells(left, client, data_dir, sys.argv):
            display.ended(cell, result_of(cell))
    return {training.folder: result_of(training) for training in trainings}
