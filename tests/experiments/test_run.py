"""A run folder holds what it promises, and a stopped run goes on to the same numbers."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from neurosim_ep.config import Recipe, load_recipe
from neurosim_ep.experiments import RunFolder, evaluate_run, run
from neurosim_ep.learning import Training, load_checkpoint

Small = Callable[..., Recipe]


def rows(folder: Path) -> list[dict[str, str]]:
    """Metrics without what the clock decides."""
    with RunFolder(folder).metrics.open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_checkpoint(one), load_checkpoint(other)
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def test_folder_holds_recipe_environment_metrics_weights_and_curve(
    small: Small, tmp_path: Path
) -> None:
    recipe, files = small("seed=7"), RunFolder(tmp_path / "run")
    result = run(recipe, files.path)
    assert load_recipe(files.recipe) == recipe
    environment = json.loads(files.environment.read_text())
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0] or (
        environment["versions"]["torch"] == torch.__version__
    )
    assert environment["seed"] == 7
    table = rows(files.path)
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert float(table[1]["test_accuracy_percent"]) == pytest.approx(result.last)
    assert {"train_residual_mean", "train_departure_mean"} <= table[0].keys()
    assert json.loads(files.result.read_text())["last"] == result.last
    best = max(table, key=lambda r: (float(r["validation_accuracy_percent"]), r["epoch"]))
    accuracy = float(best["validation_accuracy_percent"])
    chosen = table[(result.best_epoch or 0) - 1]
    assert float(chosen["validation_accuracy_percent"]) == accuracy
    assert evaluate_run(files.path, weights="last").accuracy_percent == result.last
    assert evaluate_run(files.path).accuracy_percent == result.best_by_validation
    with Image.open(files.curve) as picture:
        assert picture.size[0] > 600
        assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20


def test_a_second_run_needs_another_folder(small: Small, tmp_path: Path) -> None:
    recipe = small("epochs=1")
    run(recipe, tmp_path)
    before = RunFolder(tmp_path).result.read_bytes()
    with pytest.raises(ValueError, match="there is a run in this folder"):
        run(recipe, tmp_path)
    assert RunFolder(tmp_path).result.read_bytes() == before


def test_a_run_is_resumed_with_its_own_recipe_only(small: Small, tmp_path: Path) -> None:
    run(small("epochs=1"), tmp_path)
    with pytest.raises(ValueError, match=r"learning.beta: 0.5 is not allowed; .* 0.3"):
        run(small("epochs=1", "beta=0.5"), tmp_path, resume=True)


def test_resuming_a_finished_run_changes_nothing(small: Small, tmp_path: Path) -> None:
    recipe, files = small(), RunFolder(tmp_path)
    first = run(recipe, tmp_path)
    weights = files.last.read_bytes()
    assert run(recipe, tmp_path, resume=True) == first
    assert files.last.read_bytes() == weights


@pytest.mark.parametrize(
    "overrides",
    [
        ("warm_start=true",),
        ("estimator=random_sign", "flip_probability=0.5", "crop_padding_pixels=1"),
        ("optimiser=adam", "nudged_reads=delta"),
    ],
)
def test_a_stop_after_any_batch_is_resumed_bit_for_bit(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    # An interval shorter than a batch: a checkpoint after every batch.
    recipe = small("checkpoint_interval_s=1e-9", *overrides)
    whole = tmp_path / "whole"
    run(recipe, whole)
    step = Training.run_epoch
    for stop_after in (1, 4, 5, 7):
        folder, batches = tmp_path / f"stopped-{stop_after}", 0

        def stopping(training: Training, on_batch: Callable[[Training], None]) -> object:
            def counted(present: Training) -> None:
                nonlocal batches
                on_batch(present)
                batches += 1
                if batches == stop_after:  # noqa: B023
                    raise KeyboardInterrupt

            return step(training, counted)

        monkeypatch.setattr(Training, "run_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, folder)
        monkeypatch.setattr(Training, "run_epoch", step)
        run(recipe, folder, resume=True)
        assert rows(folder) == rows(whole)
        assert same_weights(folder / "last.pt", whole / "last.pt")
        assert same_weights(folder / "best.pt", whole / "best.pt")


def test_a_killed_process_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    overrides = [
        f"--set={pair}"
        for pair in ("epochs=6", "train_images=640", "threads=1", "checkpoint_interval_s=0.02")
    ]
    program = [sys.executable, "-c", "from neurosim_ep.cli import main; main()", "train", "digits"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*program, *overrides, "--out", str(folder), *more],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start(tmp_path / "whole").wait(120) == 0
    folder, kills = tmp_path / "killed", 0
    while kills < 2:
        process = start(folder, "--resume")
        checkpoint, seen = RunFolder(folder).checkpoint, None
        # Wait until this process has written a checkpoint of its own, then kill it without warning.
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        while process.poll() is None:
            seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
            if seen is not None and seen != before:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.003)
        process.wait(60)
        kills += 1
    assert start(folder, "--resume").wait(120) == 0
    assert rows(folder) == rows(tmp_path / "whole")
    assert same_weights(folder / "last.pt", tmp_path / "whole" / "last.pt")


@pytest.mark.parametrize("damage", ["truncate", "foreign", "other network"])
def test_a_damaged_checkpoint_is_refused(small: Small, tmp_path: Path, damage: str) -> None:
    recipe, files = small("epochs=1"), RunFolder(tmp_path / "run")
    run(recipe, files.path)
    if damage == "truncate":
        files.checkpoint.write_bytes(files.checkpoint.read_bytes()[:500])
    elif damage == "foreign":
        torch.save({"something": torch.zeros(3)}, files.checkpoint)
    else:
        run(small("epochs=1", "widths=[17]"), tmp_path / "other")
        files.checkpoint.write_bytes((tmp_path / "other" / "checkpoint.pt").read_bytes())
    with pytest.raises(ValueError, match=r"checkpoint\.pt: ") as caught:
        run(recipe, files.path, resume=True)
    assert "\n" not in str(caught.value)


def test_diverging_training_says_so_in_one_line(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="diverges") as caught:
        run(small("learning_rate=1e30", "epochs=30", "activation=relu"), tmp_path)
    assert "\n" not in str(caught.value)
