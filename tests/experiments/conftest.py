"""Small digits recipes, and the command run as a user runs it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from neurosim_ep.cli import app
from neurosim_ep.config import Recipe, load_recipe
from neurosim_ep.experiments import run

SMALL = (
    "train_images=160",
    "validation_images=40",
    "epochs=2",
    "learning.batch_size=32",
    "free_iterations=6",
    "nudged_iterations=3",
    "widths=[16]",
    "threads=1",
)

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Rows = Callable[[Path], list[dict[str, str]]]


@pytest.fixture
def small() -> Callable[..., Recipe]:
    """A digits recipe of a second or less."""

    def make(*overrides: str, name: str = "digits") -> Recipe:
        return load_recipe(name, [*SMALL, *overrides])

    return make


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a digits network that is right far more often than not; only to be read."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    learned = ("train_images=500", "epochs=6", "learning.batch_size=16", "widths=[24]")
    run(load_recipe("digits", [*SMALL, *learned]), folder)
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run neurosim-ep in a process of its own, in an empty folder, without data."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(*arguments),
            cwd=tmp_path,
            env=command_environment() | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command within this process, in an empty folder, without data: fast."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEUROSIM_EP_DATA", raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def command_line(*arguments: str) -> list[str]:
    """What a shell would start."""
    return [sys.executable, "-c", "from neurosim_ep.cli import main; main()", *arguments]


def command_environment() -> dict[str, str]:
    """The environment without data, on one thread."""
    kept = {k: v for k, v in os.environ.items() if k != "NEUROSIM_EP_DATA"}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where pictures would have been written: drawing them takes longer than all trainings."""
    paths: list[Path] = []
    for module in ("plots", "figures.onchip", "figures.sweep"):
        monkeypatch.setattr(f"neurosim_ep.{module}.save", lambda figure, path: paths.append(path))
    return paths


@pytest.fixture
def rows() -> Rows:
    """The rows of a sweep's results.csv."""

    def read(folder: Path) -> list[dict[str, str]]:
        with (folder / "results.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def timeless(rows: Rows) -> Rows:
    """These rows without the times that trainings took."""
    return lambda folder: [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]
