"""Cells in several processes: the same numbers, a process that dies, an end that leaves none."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosim_ep.config import Recipe
from neurosim_ep.experiments import sweep
from neurosim_ep.experiments.sweeps import processes
from neurosim_ep.experiments.sweeps.axes import axes_of
from neurosim_ep.experiments.sweeps.cells import epochs_done, result_of
from neurosim_ep.experiments.sweeps.grid import Cell, cells_of

Small = Callable[..., Recipe]

# Answers tasks without training; what it got stands in the cell's folder.
_STAND_IN = """
import json, os, pathlib, sys, time
for line in sys.stdin:
    task = json.loads(line)
    place = pathlib.Path(task["folder"])
    (place / "got.json").write_text(json.dumps([task, os.getpid(), os.environ["OMP_NUM_THREADS"]]))
    if "seed = 1" in task["recipe"]:
        os.kill(os.getpid(), 9)
    if "seed = 2" in task["recipe"]:
        time.sleep(60)
    print("done", flush=True)
"""


def timeless(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def grid(recipe: Recipe, folder: Path, seeds: int) -> list[Cell]:
    return cells_of(recipe, {}, axes_of(["beta=0.1,0.3"]), seeds, folder, threads=1)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_and_a_kill_change_no_number(small: Small, tmp_path: Path) -> None:
    recipe = small("train_images=640", "epochs=8")
    values = {"learning.beta": [0.1, 0.3], "learning.learning_rate": [0.1, 1e30]}
    assert len(sweep(recipe, values, 1, tmp_path / "whole").failed) == 2
    # A worker that is cut off from its sweep in the middle of a training.
    folder = tmp_path / "killed"
    cell = cells_of(recipe, {}, axes_of(values), 1, folder, threads=1)[0]
    cell.start()
    program = processes._PROGRAM.format(path=sys.path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-P", "-c", program], text=True, **pipes) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(processes.task_of(cell, None, [])) + "\n")
        worker.stdin.flush()
        while worker.poll() is None and not epochs_done(cell.folder):
            time.sleep(0.005)
        worker.stdin.close()
        assert worker.wait(30) == 0
    assert 1 <= epochs_done(cell.folder) < 8
    assert result_of(cell).status == "unfinished"
    sweep(recipe, values, 1, folder, resume=True, jobs=2)
    assert timeless(folder) == timeless(tmp_path / "whole")


def test_a_process_that_dies_fails_its_cell_alone(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", _STAND_IN.replace("{", "{{").replace("}", "}}"))
    cells = grid(small(), tmp_path, 2)
    ended = list(processes.train_in_processes(cells, 2, None, ["me"]))
    assert sorted(c.folder for c in ended) == sorted(c.folder for c in cells)
    for cell in cells:
        result = result_of(cell)
        assert (cell.folder / "got.json").exists()
        assert '"me"' in (cell.folder / "got.json").read_text()
        assert (cell.folder / "got.json").read_text().endswith('"1"]')
        assert (result.status == "failed") == (cell.seed == 1)
        assert ("exit code -9" in result.message) == (cell.seed == 1)


def test_processes_end_with_the_sweep(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", _STAND_IN.replace("{", "{{").replace("}", "}}"))
    cells = [cell for cell in grid(small(), tmp_path, 3) if cell.seed != 1]
    trained = processes.train_in_processes(cells, 2, None, [])
    assert next(trained).seed == 0
    begun = time.monotonic()
    trained.close()
    assert time.monotonic() - begun < 30
    for got in tmp_path.rglob("got.json"):
        (pid,) = [int(part) for part in got.read_text().split(", ") if part.isdigit()]
        assert not alive(pid)
    assert {result_of(cell).status for cell in cells} == {"unfinished"}
