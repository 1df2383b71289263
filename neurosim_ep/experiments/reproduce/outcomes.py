"""What the trainings of a row have come to, read from their run folders."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neurosim_ep.experiments.reproduce.plans import Planned
from neurosim_ep.experiments.reproduce.targets import Entry
from neurosim_ep.experiments.run import Result, summarise
from neurosim_ep.experiments.run_folder import RunFolder, read_object


@dataclass(frozen=True)
class Outcome:
    """One training, wherever it stands.

    Attributes:
        seed: of the training.
        folder: of its run.
        epochs: that the recipe asks for.
        status: how far it came; a failed one may have epochs behind it.
        history: finished epochs, as in ``metrics.csv``.
        data: variant of the data set, such as "cifar10 (jpeg)"; None before the start.
        message: why it failed.
    """

    seed: int
    folder: Path
    epochs: int
    status: Literal["not started", "under way", "finished", "failed"]
    history: list[dict[str, Any]]
    data: str | None
    message: str

    @property
    def result(self) -> Result | None:
        """Accuracies so far; None before the first epoch's end."""
        return summarise(self.history) if self.history else None


@dataclass(frozen=True)
class Row:
    """A row's trainings.

    Attributes:
        planned: what the row trains.
        outcomes: one per seed.
    """

    planned: Planned
    outcomes: tuple[Outcome, ...]

    @property
    def entry(self) -> Entry:
        """What the row is."""
        return self.planned.entry

    def values(self, name: str) -> list[float]:
        """An accuracy (`Result`'s field) of every seed that has it, in percent."""
        found = [getattr(o.result, name) for o in self.outcomes if o.result is not None]
        return [float(value) for value in found if value is not None]

    def mean(self, name: str) -> float | None:
        """The mean of `values`; None where nothing has been trained."""
        values = self.values(name)
        return statistics.mean(values) if values else None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's, both of the best epoch on the test set, in points."""
        ours, paper = self.mean("best_by_test"), self.entry.paper_percent
        return None if ours is None or paper is None else ours - paper


def rows_of(plans: Sequence[Planned]) -> list[Row]:
    """Read what there is.

    Raises:
        ValueError: if a run's files are damaged.
    """
    return [
        Row(
            planned,
            tuple(
                _outcome(recipe.seed, folder, recipe.learning.epochs)
                for recipe, folder in zip(planned.recipes, planned.folders, strict=True)
            ),
        )
        for planned in plans
    ]


def _outcome(seed: int, folder: Path, epochs: int) -> Outcome:
    files, failure = RunFolder(folder), folder / "failed.json"
    started = files.recipe.exists()
    history = files.read_metrics() if started else []
    data = read_object(files.environment).get("data") if started else None
    if files.result.exists():
        return Outcome(seed, folder, epochs, "finished", history, data, "")
    if failure.exists():
        message = str(read_object(failure).get("message", ""))
        return Outcome(seed, folder, epochs, "failed", history, data, message)
    status: Literal["under way", "not started"] = "under way" if started else "not started"
    return Outcome(seed, folder, epochs, status, history, data, "")
