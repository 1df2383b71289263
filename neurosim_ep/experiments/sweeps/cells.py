"""Training one cell of a sweep, and reading what it left."""

from __future__ import annotations

import csv
import io
import json
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from neurosim_ep.config import Recipe
from neurosim_ep.experiments.run import Result, run
from neurosim_ep.experiments.run_folder import RunFolder, read_object
from neurosim_ep.experiments.sweeps.grid import Cell
from neurosim_ep.learning import write_text


@dataclass(frozen=True)
class CellResult:
    """What came of one training.

    Attributes:
        values: texts by varied key.
        seed: of the training.
        device_seed: of the hardware; None for exact trainings.
        folder: of the run.
        status: ``unfinished`` where the sweep was stopped.
        message: why it failed.
        result: accuracies; None unless finished.
        on_chip: numbers of ``on-chip.json``, nested ones by dotted name.
    """

    values: Mapping[str, str]
    seed: int
    device_seed: int | None
    folder: Path
    status: Literal["finished", "failed", "unfinished"]
    message: str
    result: Result | None
    on_chip: Mapping[str, float]

    @property
    def row(self) -> dict[str, Any]:
        """One row of ``results.csv``; units in the names, empty where there is nothing."""
        done = self.result
        return {
            **self.values,
            "seed": self.seed,
            "device_seed": self.device_seed,
            "status": self.status,
            "last_percent": done and _rounded(done.last),
            "best_by_validation_percent": done and _rounded(done.best_by_validation),
            "best_epoch": done and done.best_epoch,
            "best_by_test_percent": done and _rounded(done.best_by_test),
            "epochs": done and done.epochs,
            "seconds": done and _rounded(done.seconds),
            **self.on_chip,
            "message": self.message or None,
        }


def train_cell(recipe: Recipe, folder: Path, data_dir: Path | None, command: list[str]) -> None:
    """Train in a folder, from its checkpoint where it has one; a failure is recorded there."""
    try:
        # What it says of its epochs is in metrics.csv.
        quiet = Console(file=io.StringIO(), quiet=True)
        run(recipe, folder, data_dir=data_dir, resume=True, console=quiet, command=command)
    except ValueError as error:
        record_failure(folder, str(error))
    except Exception as error:  # of any cell; the others go on
        told = f"{type(error).__name__}: {error}"
        record_failure(folder, told, trace=traceback.format_exc())


def record_failure(folder: Path, message: str, trace: str | None = None) -> None:
    """Keep why a training stopped."""
    failure = {"message": " ".join(message.split())} | ({"traceback": trace} if trace else {})
    write_text(folder / "failed.json", json.dumps(failure, indent=2) + "\n")


def result_of(cell: Cell) -> CellResult:
    """What a cell's folder holds.

    Raises:
        ValueError: if its result is damaged.
    """
    chip = cell.recipe.on_chip
    device_seed = None if chip is None else chip.device_seed
    about = (cell.values, cell.seed, device_seed, cell.folder)
    files = RunFolder(cell.folder)
    if files.result.exists():
        held = read_object(files.result)
        try:
            result = Result(**held)
        except TypeError:
            raise ValueError(f"{files.result}: damaged; must be the result of a run") from None
        numbers = _numbers(read_object(files.on_chip)) if files.on_chip.exists() else {}
        return CellResult(*about, "finished", "", result, numbers)
    if cell.failure.exists():
        message = str(read_object(cell.failure).get("message", ""))
        return CellResult(*about, "failed", message, None, {})
    return CellResult(*about, "unfinished", "", None, {})


def epochs_done(folder: Path) -> int:
    """How many epochs a run has behind it."""
    try:
        with RunFolder(folder).metrics.open(encoding="utf-8") as file:
            return sum(1 for _ in csv.DictReader(file))
    except OSError:
        return 0


def _rounded(number: float | None) -> float | None:
    """Without the last digits of binary fractions."""
    return None if number is None else round(number, 6)


def _numbers(table: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Finite numbers of nested tables by dotted name; lists and texts are left where they are."""
    numbers: dict[str, float] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            numbers |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and math.isfinite(value):
            numbers[prefix + key] = value
    return numbers
