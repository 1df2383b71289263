"""``torchrun -m neurosim_ep train``: one run folder, one voice, one process's result."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neurosim_ep.config import load_recipe
from neurosim_ep.experiments import RunFolder, run
from neurosim_ep.learning import load_checkpoint

SMALL = (
    "train_images=163",
    "validation_images=41",
    "test_images=51",
    "epochs=2",
    "learning.batch_size=32",
    "free_iterations=6",
    "nudged_iterations=3",
    "widths=[16]",
    "threads=1",
    "run.dtype=float64",
    "warm_start=true",
)


def environment() -> dict[str, str]:
    """Without data, on one thread, with a port for two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if k != "NEUROSIM_EP_DATA"}
    kept |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return kept | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}


def arguments(out: Path, *overrides: str) -> list[str]:
    sets = [part for text in (*SMALL, *overrides) for part in ("--set", text)]
    return ["-m", "neurosim_ep", "train", "digits", "--out", str(out), *sets]


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
        ),
    ],
)
def test_torchrun_leaves_the_run_folder_of_one_process(tmp_path: Path, device: str) -> None:
    on_device = f"run.device={device}"
    two, one = RunFolder(tmp_path / "two"), RunFolder(tmp_path / "one")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    without = {k: v for k, v in environment().items() if not k.startswith(("MASTER_", "WORLD_"))}
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", *arguments(two.path, on_device)],
        env=without,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    result = run(load_recipe("digits", [*SMALL, on_device]), one.path)
    assert {path.name for path in two.path.iterdir()} == {p.name for p in one.path.iterdir()}
    for name in ("last.pt", "best.pt"):
        mine, single = load_checkpoint(two.path / name), load_checkpoint(one.path / name)
        for key, wanted in single.items():
            assert float((mine[key] - wanted).abs().max()) < 1e-11, key
    with two.metrics.open() as mine_file, one.metrics.open() as single_file:
        rows = zip(csv.DictReader(mine_file), csv.DictReader(single_file), strict=True)
        for row, wanted_row in rows:
            assert int(row["train_images"]) == 163
            assert int(row["test_images"]) == 51
            for key in ("train_cost", "validation_cost", "test_accuracy_percent"):
                assert float(row[key]) == pytest.approx(float(wanted_row[key]), rel=1e-10)
    # One process speaks: a line per epoch, one answer.
    assert done.stdout.count(f"test accuracy after the last epoch (2): {result.last:.2f} %") == 1
    assert done.stderr.count("epoch   1/2") == done.stderr.count("epoch   2/2") == 1
    assert json.loads(two.environment.read_text())["processes"] == 2
    assert json.loads(one.environment.read_text())["processes"] == 1


def test_a_diverging_training_ends_all_with_one_line(tmp_path: Path) -> None:
    folder, common = tmp_path / "run", environment()
    command = [
        *arguments(folder, "run.device=cpu", "learning.learning_rate=1e30", "clip_norm=none")
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        texts = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [2, 2], texts
    assert texts[0].startswith("error: settling: states are not finite")
    assert texts[0].count("\n") == 1
    assert texts[1] == ""
    assert {path.name for path in folder.iterdir()} == {"recipe.toml", "environment.json"}
