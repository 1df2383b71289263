"""Stopped, killed and carried-on reproductions come to the table of an uninterrupted one."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from neurosim_ep.config import Recipe, load_recipe
from neurosim_ep.data import load
from neurosim_ep.experiments import RunFolder, run
from neurosim_ep.experiments.build import build_network
from neurosim_ep.experiments.reproduce import reproduce, trainings
from neurosim_ep.experiments.reproduce.trainings import Job, train_jobs
from neurosim_ep.experiments.run import Stopped, summarise
from neurosim_ep.learning import load_checkpoint
from neurosim_ep.models import FeedForward

Small = Callable[..., Recipe]
QUICK = ("free_iterations=3", "nudged_iterations=2", "train_images=32", "test_images=16")
TARGET = "table2"
ONLY = ("cifar10/hopfield-resnet13",)


def console() -> Console:
    return Console(file=io.StringIO(), quiet=True)


def call(folder: Path, **settings: Any) -> Any:
    given = {"only": ONLY, "scale": "tiny", "overrides": QUICK, "console": console()}
    return reproduce(TARGET, out=folder, command=["test"], **(given | settings))


def printed(found: Any) -> str:
    shown = Console(file=io.StringIO(), width=200, color_system=None)
    for table in found.tables:
        shown.print(table)
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue() + "\n".join(found.notes)


def left_behind(folder: Path) -> dict[str, bytes]:
    """The table and the weights of every training, byte for byte or number for number."""
    place = folder / "tiny-faithful"
    found = {"csv": (place / f"{TARGET}.csv").read_bytes()}
    for weights in sorted(place.glob("runs/*/last.pt")):
        state = load_checkpoint(weights)
        numbers = b"".join(value.numpy().tobytes() for value in state.values())
        found[weights.parent.name] = numbers
    return found


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reproduction without a stop; only to be read."""
    folder = tmp_path_factory.mktemp("reproduce") / "whole"
    call(folder)
    return folder


def test_a_stop_after_any_batch_is_carried_on_bit_for_bit(small: Small, tmp_path: Path) -> None:
    recipe = small("estimator=random_sign", "flip_probability=0.5", "train_images=64")
    uninterrupted = tmp_path / "one"
    expected = run(recipe, uninterrupted, console=console())
    stopped, stops, result = tmp_path / "other", 0, None
    while result is None:
        try:
            result = run(recipe, stopped, resume=True, console=console(), stop=lambda: True)
        except Stopped:
            stops += 1
    # 64 images in batches of 32, twice: stopped after every batch, before each evaluation too.
    assert stops == 4
    assert (result.last, result.best_by_validation) == (expected.last, expected.best_by_validation)
    weights = [load_checkpoint(RunFolder(f).last) for f in (uninterrupted, stopped)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_metrics_read_back_are_the_runs_own(small: Small, tmp_path: Path) -> None:
    result = run(small(), tmp_path, console=console())
    files = RunFolder(tmp_path)
    again = summarise(files.read_metrics())
    assert again.__dict__ | {"seconds": 0} == result.__dict__ | {"seconds": 0}
    history = load_checkpoint(files.checkpoint)["history"]
    assert files.read_metrics() == history
    files.metrics.write_text("epoch,what\n1,2\n7,x\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: damaged"):
        files.read_metrics()


def test_small_budgets_one_after_another_come_to_the_same(whole: Path, tmp_path: Path) -> None:
    folder, calls, found = tmp_path / "out", 0, None
    while found is None or any("not finished" in note for note in found.notes):
        found = call(folder, budget_min=0.001)
        calls += 1
        assert calls < 60
    assert calls > 1
    assert left_behind(folder) == left_behind(whole)
    assert printed(found) == printed(call(whole))
    record = json.loads((folder / "tiny-faithful" / f"{TARGET}.json").read_text())
    assert len(record["calls"]) == calls
    assert all(one["command"] == ["test"] for one in record["calls"])
    assert record["rows"][0]["paper_percent"] == 93.78
    assert record["calls"][0]["environment"]["versions"]["torch"]


def test_killed_half_way_and_called_again(whole: Path, tmp_path: Path) -> None:

    folder = tmp_path / "out"
    sets = [part for text in (*QUICK, "checkpoint_interval_s=1e-9") for part in ("--set", text)]
    arguments = ("reproduce", TARGET, "--only", *ONLY, "--scale", "tiny", "--out", str(folder))
    program = "from neurosim_ep.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments, *sets], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 100
    while not list(folder.glob("*/runs/*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert not (folder / "tiny-faithful" / f"{TARGET}.csv").exists()
    call(folder)
    assert left_behind(folder) == left_behind(whole)


def test_without_a_budget_left_rows_show_a_dash_and_no_number(tmp_path: Path) -> None:
    found = call(tmp_path, budget_min=0.0, scale="full", overrides=())
    lines = [line for line in printed(found).splitlines() if "cifar10/hopfield" in line]
    for line, paper in zip(lines, ("93.78", "93.92"), strict=True):
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[1:] == ["-", paper, "-", "-", "-", "-", "0 of 300", "-"]
    assert not list(tmp_path.glob("*/runs/*"))
    with (tmp_path / "full-faithful" / f"{TARGET}.csv").open() as file:
        for row in csv.DictReader(file):
            assert row["status"] == "not started"
            assert not row["last_percent"] + row["difference_points"]
    record = json.loads((tmp_path / "full-faithful" / f"{TARGET}.json").read_text())
    assert list(found.rows) == record["rows"]
    shown = [(row["row"], row["paper_percent"], row["best_by_test_percent"]) for row in found.rows]
    papers = {"cifar10/hopfield-resnet13/bp": 93.78, "cifar10/hopfield-resnet13/ep": 93.92}
    assert shown == [(row, percent, None) for row, percent in papers.items()]


def test_another_recipe_in_the_same_folder_is_refused(whole: Path) -> None:
    before = left_behind(whole)
    with pytest.raises(ValueError, match=r"learning\.epochs: 3 is not allowed"):
        call(whole, overrides=(*QUICK, "epochs=3"))
    assert left_behind(whole) == before


def test_a_failed_training_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    wild = ("learning.learning_rate=1e30", "learning.optimiser=sgd", "clip_norm=none")
    found = call(tmp_path, overrides=(*QUICK, *wild))
    told = [note for note in found.notes if note.startswith("failed: ")]
    assert any("diverges" in note for note in told)
    with (tmp_path / "tiny-faithful" / f"{TARGET}.csv").open() as file:
        rows = list(csv.DictReader(file))
    failed = [row for row in rows if row["status"] == "failed"]
    assert len(failed) == len(told)
    assert all(row["message"] for row in failed)
    assert all(not row["difference_points"] for row in rows)
    assert found.failed == (len(failed) == len(rows))


class Clock:
    """Trainings that take their time on a clock that nobody waits for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, needs: dict[str, float]) -> None:
        self.now, self.needs = 1000.0, dict(needs)
        self.turns: list[tuple[str, float]] = []
        monkeypatch.setattr(trainings.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(trainings, "run", self.run)

    def run(self, recipe: Recipe, folder: Path, *, stop: Callable[[], bool], **_: Any) -> None:
        """Batches of a second each."""
        began, name = self.now, folder.name
        while self.needs[name] > 0.0:
            self.now += 1.0
            self.needs[name] -= 1.0
            if stop() and self.needs[name] > 0.0:
                self.turns.append((name, self.now - began))
                raise Stopped
        folder.mkdir(exist_ok=True)
        RunFolder(folder).result.write_text("{}")
        self.turns.append((name, self.now - began))


def jobs(folder: Path, names: str, recipe: Recipe) -> list[Job]:
    return [Job(name, recipe, folder / name) for name in names]


def trained(folder: Path, recipe: Recipe, names: str, until: float | None) -> dict[str, float]:
    every = jobs(folder, names, recipe)
    data = {"digits": load("digits")}
    return train_jobs(every, until, data=data, console=console(), command=["test"])


def test_a_budget_is_shared_equally(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, dict.fromkeys("abc", 1e9))
    spent = trained(tmp_path, small(), "abc", clock.now + 300.0)
    assert spent == {"a": 100.0, "b": 100.0, "c": 100.0}


def test_what_one_leaves_over_goes_to_those_after_it_and_then_round_again(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, {"a": 1e9, "b": 20.0, "c": 10.0})
    spent = trained(tmp_path, small(), "abc", clock.now + 300.0)
    # a: a third; b and c finish early; a goes on for what is left.
    assert clock.turns == [("a", 100.0), ("b", 20.0), ("c", 10.0), ("a", 170.0)]
    assert spent == {"a": 270.0, "b": 20.0, "c": 10.0}


def test_finished_ones_take_no_share_and_no_budget_trains_all(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, {"a": 30.0, "b": 40.0})
    assert trained(tmp_path, small(), "ab", None) == {"a": 30.0, "b": 40.0}
    clock.needs = dict.fromkeys("abcd", 1e9)
    assert trained(tmp_path, small(), "abcd", clock.now + 10.0) == {"c": 5.0, "d": 5.0}


def test_the_counterparts_gradients_are_those_of_float64() -> None:
    """Its 1x1 kernels with stride 2, once a write out of bounds in float32."""
    recipe = load_recipe("hopfield-resnet13-cifar10", ["widths=[4,4,4,4]"])
    model = FeedForward(build_network(recipe), batch_norm=True)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model = model.to(dtype)
        model.zero_grad()
        model(images.to(dtype)).square().sum().backward()
        parts = [p.grad.flatten().double() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(parts))
    difference = torch.linalg.vector_norm(gradients[0] - gradients[1])
    assert difference <= 1e-3 * torch.linalg.vector_norm(gradients[1])
