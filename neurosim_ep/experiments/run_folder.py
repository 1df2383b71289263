"""What a run leaves behind, and how it is found again."""

import csv
import io
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from neurosim_ep.cards import dump_card
from neurosim_ep.config import Recipe, RecipeError, dump_recipe, load_recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments.on_chip.building import Cards
from neurosim_ep.learning import EpochRecord, Summary, write_text

_LIBRARIES = ("neurosim-ep", "torch", "numpy", "kornia", "scikit-learn", "pydantic")


@dataclass(frozen=True)
class RunFolder:
    """Places of one run's files.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, with its seed."""
        return self.path / "recipe.toml"

    @property
    def environment(self) -> Path:
        """Versions, machine, command."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One line per epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """Where the training stands."""
        return self.path / "checkpoint.pt"

    @property
    def last(self) -> Path:
        """Weights after the last finished epoch."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """Weights of the epoch with the best validation accuracy."""
        return self.path / "best.pt"

    @property
    def result(self) -> Path:
        """Accuracies of the finished run, last and best apart."""
        return self.path / "result.json"

    @property
    def curve(self) -> Path:
        """The learning curve as a picture."""
        return self.path / "learning-curve.png"

    @property
    def device_card(self) -> Path:
        """Device card of a run on a chip."""
        return self.path / "device-card.toml"

    @property
    def array_card(self) -> Path:
        """Array card of a run on a chip."""
        return self.path / "array-card.toml"

    @property
    def on_chip(self) -> Path:
        """Scaling, pulses and costs of a run on a chip."""
        return self.path / "on-chip.json"

    @property
    def chip(self) -> Path:
        """The trained chip of a run on a chip."""
        return self.path / "chip.h5"

    @property
    def pulse_plot(self) -> Path:
        """Pulses per device and where devices stand, as a picture."""
        return self.path / "pulses.png"

    @property
    def pulses(self) -> Path:
        """Recorded pulses of a run on a chip."""
        return self.path / "pulses.h5"

    def check_free(self) -> None:
        """A new run needs a folder without one.

        Raises:
            ValueError: if there already is a run in the folder.
        """
        if self.recipe.exists():
            raise ValueError(
                f"{self.path}: there is a run in this folder; resume it or choose another folder"
            )

    def start(
        self,
        recipe: Recipe,
        command: Sequence[str],
        cards: Cards | None = None,
        data: str = "",
        processes: int = 1,
    ) -> None:
        """Make the folder and record what will run in it, on which hardware and data.

        Args:
            recipe: resolved.
            command: as it was given.
            cards: of the hardware; None of an exact run.
            data: the data set's variant, as in ``cifar10 (jpeg)``; the recipe's name if empty.
            processes: that train together.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        environment = describe_environment() | {"processes": processes}
        environment |= {"command": list(command), "seed": recipe.seed}
        environment |= {"data": data or recipe.data.name}
        write_text(self.environment, json.dumps(environment, indent=2) + "\n")
        if cards is not None:
            write_text(self.device_card, dump_card(cards.device))
            write_text(self.array_card, dump_card(cards.array))
        write_text(self.recipe, dump_recipe(recipe))

    def load_cards(self) -> Cards | None:
        """The hardware that the run was started on; None of an exact run.

        Raises:
            ValueError: if a card is missing or damaged.
        """
        if self.load_recipe().on_chip is None:
            return None
        return Cards(load_device_card(self.device_card), load_array_card(self.array_card))

    def check_same(self, recipe: Recipe, cards: Cards | None = None) -> None:
        """A run can only be resumed with the recipe and the cards that it was started with.

        Raises:
            ValueError: naming the first field that differs.
        """
        held = self.load_cards()
        if held is not None and recipe.on_chip is None:
            raise ValueError(
                f"on_chip: None is not allowed; the run in {self.path} was started on a chip"
            )
        if cards is not None and held is not None:
            for name in ("device", "array"):
                if getattr(held, name) != getattr(cards, name):
                    raise ValueError(
                        f"on_chip.{name}_card: {getattr(cards, name).name!r} is not allowed as it "
                        f"is now; the run in {self.path} was started with another"
                    )
        mine, theirs = _flat(self.load_recipe().model_dump()), _flat(recipe.model_dump())
        for field, value in theirs.items():
            if mine.get(field) != value and not field.startswith("run."):
                raise ValueError(
                    f"{field}: {value!r} is not allowed; the run in {self.path} was started with "
                    f"{mine.get(field)!r}"
                )

    def load_recipe(self) -> Recipe:
        """The recipe of the run in this folder.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        if not self.recipe.is_file():
            raise RecipeError(f"{self.path}: not a run folder; it must hold recipe.toml")
        return load_recipe(self.recipe)

    def write_metrics(self, history: Sequence[dict[str, Any]]) -> None:
        """Replace the metrics file by these epochs."""
        if not history:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.metrics, text.getvalue())

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of the metrics file, as they were written; empty before the first epoch's end.

        Raises:
            ValueError: if the file is damaged.
        """
        if not self.metrics.is_file():
            return []
        try:
            with self.metrics.open(encoding="utf-8", newline="") as file:
                rows = [
                    {name: _number(text) for name, text in row.items()}
                    for row in csv.DictReader(file)
                ]
            assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        except (AssertionError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"{self.metrics}: damaged or foreign; must be the metrics of a run"
            ) from None
        return rows


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a run folder.

    Raises:
        ValueError: if the file holds anything else.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise ValueError(f"{path}: damaged; must be a JSON object")
    return held


def epoch_row(record: EpochRecord) -> dict[str, Any]:
    """One epoch as a flat row; units in the names, empty where there is nothing."""
    row: dict[str, Any] = {"epoch": record.epoch, "learning_rate": record.learning_rate}
    for split in ("train", "validation", "test"):
        summary: Summary | None = getattr(record, split)
        values = asdict(summary) if summary else dict.fromkeys(Summary.__dataclass_fields__)
        row |= {f"{split}_{name}": value for name, value in values.items()}
    return row | {"seconds": round(record.seconds, 3)}


def describe_environment() -> dict[str, Any]:
    """Versions and machine, as they are recorded with every run."""
    cuda = torch.cuda.is_available()
    return {
        "versions": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
    }


def _number(text: str) -> int | float | None:
    """What a cell of the metrics holds; None of an empty one."""
    if not text:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
