"""Figures and memory of the reproduction: what they say is what the runs left."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from neurosim_ep.experiments.reproduce import memory_probe, reproduce
from neurosim_ep.experiments.reproduce.memory import (
    Memory,
    measured_recipe,
    memory_notes,
    memory_table,
)
from neurosim_ep.experiments.reproduce.outcomes import Outcome, Row
from neurosim_ep.experiments.reproduce.plans import plan
from neurosim_ep.experiments.reproduce.weights import NEAR_ZERO, layer_weights
from neurosim_ep.figures import reproduce as reproduce_figures
from neurosim_ep.learning import load_checkpoint

QUICK = ("free_iterations=3", "nudged_iterations=2", "train_images=32", "test_images=16")


def quiet() -> Console:
    return Console(file=io.StringIO(), quiet=True)


@pytest.fixture(scope="module")
def figure4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    found = reproduce("fig4", out=folder, scale="tiny", overrides=QUICK, console=quiet())
    assert len(found.tables) == 2
    return folder / "tiny-faithful"


def test_weights_by_layer_are_those_of_the_checkpoint(figure4: Path) -> None:
    record = json.loads((figure4 / "fig4.json").read_text())
    for way, name in (("ep", ""), ("bp", "-bp")):
        run = figure4 / "runs" / f"hopfield-resnet13-cifar10{name}-seed0"
        state = load_checkpoint(run / "best.pt")
        weights = [v.double().numpy().ravel() for k, v in state.items() if "storage" in k]
        layers = record["layers"][way]
        assert len(layers) == len(weights) == 13
        assert [layer["skip"] for layer in layers] == [n in (3, 5, 8, 11) for n in range(1, 14)]
        for layer, values in zip(layers, weights, strict=True):
            assert layer["count"] == values.size
            assert layer["deviation"] == pytest.approx(values.std(ddof=1), rel=1e-12)
            assert layer["near_zero_fraction"] == np.mean(np.abs(values) < NEAR_ZERO)
            quantiles = np.quantile(values, (0.01, 0.25, 0.5, 0.75, 0.99), method="nearest")
            assert layer["quantiles"] == pytest.approx(list(quantiles), rel=1e-12)


def test_figures_are_written_as_picture_and_document(figure4: Path) -> None:
    with Image.open(figure4 / "fig4.png") as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20
    assert (figure4 / "fig4.pdf").read_bytes().startswith(b"%PDF")
    assert layer_weights(figure4 / "runs" / "none") == []


def rows(target: str, lengths: dict[str, list[int]]) -> list[Row]:
    """Rows with made-up histories: the n-th seed of a key has so many epochs."""

    def epoch(number: int, seed: int) -> dict[str, Any]:
        return {
            "epoch": number,
            "test_accuracy_percent": 100.0 - 80.0 / (number + seed),
            "test_cost": 1.0 / (number + seed),
            "validation_accuracy_percent": None,
            "seconds": 1.0,
        }

    made = []
    for planned in plan(target, Path("runs"), seeds=2):
        outcomes = []
        for seed, folder in enumerate(planned.folders):
            counts = lengths.get(planned.entry.key, [0, 0])
            history = [epoch(n + 1, seed) for n in range(counts[seed])]
            outcomes.append(Outcome(seed, folder, 300, "under way", history, "cifar10", ""))
        made.append(Row(planned, tuple(outcomes)))
    return made


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures instead of files."""
    kept: list[Any] = []
    monkeypatch.setattr(reproduce_figures, "save", lambda figure, path: kept.append(figure))
    return kept


def test_figure2_draws_the_mean_over_seeds_as_far_as_all_came(drawn: list[Any]) -> None:
    lengths = {"cifar10/hopfield-resnet13/ep/skip": [5, 3]}
    reproduce_figures.loss_figure(rows("fig2", lengths), Path("x.png"), title="title")
    (axes,) = drawn[0].axes
    (line,) = axes.get_lines()
    assert line.get_label() == "with skip connections"
    assert list(line.get_xdata()) == [1, 2, 3]
    expected = [0.5 * (1 / n + 1 / (n + 1)) for n in (1, 2, 3)]
    assert list(line.get_ydata()) == pytest.approx(expected)
    assert axes.get_xlabel() == "epoch"
    assert "squared error" in axes.get_ylabel()
    assert "2 seeds" in drawn[0].get_suptitle()


def test_figure3_has_a_log_axis_and_lines_that_grey_keeps_apart(drawn: list[Any]) -> None:
    every = [row.entry.key for row in plan("fig3", Path("runs"))]
    lengths = {key: [4 + n, 0] for n, key in enumerate(every)}
    reproduce_figures.error_figure(rows("fig3", lengths), Path("x.png"), title="title")
    panels = drawn[0].axes
    assert [axes.get_title() for axes in panels] == ["VGG5", "Hopfield-Resnet13"]
    for axes in panels:
        assert axes.get_yscale() == "log"
        lines = axes.get_lines()
        assert len(lines) == 6
        looks = {(line.get_linestyle(), line.get_marker()) for line in lines}
        assert len(looks) == 6
        assert list(lines[0].get_ydata()[:3]) == pytest.approx([80.0, 40.0, 80.0 / 3.0])
    assert "%" in panels[0].get_ylabel()


# --- Memory ------------------------------------------------------------------------------------


def test_memory_is_told_beside_the_papers_and_not_compared(invoke) -> None:
    ballast = np.ones(1024 * 2**17)  # 1 GiB of this process, which is none of the other's
    done = invoke("reproduce", "memory", "--scale", "tiny", "--only", "ep")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"hopfield-resnet13/ep .*1,612 .*not comparable", done.stdout)
    assert "NOT comparable with the paper" in done.stdout
    (row,) = json.loads(Path("runs/reproduce/tiny-faithful/memory.json").read_text())["rows"]
    assert row["batch_size"] == 128
    assert row["paper_mib"] == 1612.0
    if row["device"] == "CPU":
        assert 1000.0 > row["peak_mib"] > row["bare_mib"] > 50.0
    assert ballast.any()


def test_resident_memory_counts_what_is_touched() -> None:
    before = memory_probe._resident_mib("VmRSS")
    ballast = np.ones(96 * 2**17)  # 96 MiB
    assert memory_probe._resident_mib("VmRSS") - before == pytest.approx(96.0, abs=16.0)
    assert memory_probe._resident_mib("VmHWM") >= before + 80.0
    assert ballast.any()


def test_a_measurement_that_failed_shows_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Memory("a/ep", "ep", "CPU", None, None, None, "exit code 1: no memory")
    gpu = Memory("b/bp", "bp", "H200", 1400.0, 1500.0, None, "")
    shown = Console(file=io.StringIO(), width=200, color_system=None)
    shown.print(memory_table([failed, gpu], "full", "faithful"))
    assert isinstance(shown.file, io.StringIO)
    told = shown.file.getvalue()
    assert re.search(r"a/ep +│ +1,612 │ +- │ +- │ +- │ +- │", told)
    assert re.search(r"b/bp +│ +1,324 │ +1,400 │ +\+76 │ +1,500 │", told)
    notes = memory_notes([failed, gpu], "full", [])
    assert "not measured: a/ep: exit code 1: no memory" in notes


def test_a_gpu_is_measured_at_the_papers_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = plan("memory", Path("runs"))[1].recipes[0]
    module = "neurosim_ep.experiments.reproduce.memory.device_of"
    monkeypatch.setattr(module, lambda recipe: torch.device("cuda"))
    assert measured_recipe(recipe) == recipe
    monkeypatch.setattr(module, lambda recipe: torch.device("cpu"))
    assert measured_recipe(recipe).settling.free_iterations < 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_memory_on_a_gpu(tmp_path: Path) -> None:
    reproduce("memory", out=tmp_path, only=["ep"], scale="small", console=quiet())
    (row,) = json.loads((tmp_path / "small-faithful" / "memory.json").read_text())["rows"]
    assert not row["message"]
    assert 0.0 < row["peak_mib"] <= row["reserved_mib"] < 4096.0
    assert row["device"] != "CPU"
    assert math.isfinite(row["peak_mib"])
