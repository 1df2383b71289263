"""Cells in several processes: the same numbers, whatever is killed, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from neurosim_ep.config import Recipe, dump_recipe
from neurosim_ep.experiments import sweep
from neurosim_ep.experiments.sweeps.axes import axes_of
from neurosim_ep.experiments.sweeps.cells import epochs_done, result_of
from neurosim_ep.experiments.sweeps.grid import Cell, cells_of
from neurosim_ep.experiments.sweeps.workers import _train, train_cells

Small = Callable[..., Recipe]
Rows = Callable[[Path], list[dict[str, str]]]

pytestmark = pytest.mark.usefixtures("pictures")

EPOCHS = 8
COMMAND = (sys.executable, "-c", "from neurosim_ep.cli import main; main()")


def process_of(cell: Cell) -> int | None:
    """The process that trains a cell."""
    try:
        told = (cell.folder / ".attempts").read_text().split()
    except FileNotFoundError:
        return None
    return int(told[-1]) if told else None


def test_killed_processes_change_no_number_and_leave_nothing_behind(
    small: Small, tmp_path: Path, timeless: Rows
) -> None:
    recipe = small("train_images=640", f"epochs={EPOCHS}")
    vary = {"learning.beta": [0.1, 0.3], "learning.learning_rate": [0.1, 1e30]}
    assert len(sweep(recipe, vary, 1, tmp_path / "whole").failed) == 2
    (tmp_path / "mine.toml").write_text(dump_recipe(recipe))
    (tmp_path / "sweep.toml").write_text(
        'recipe = "mine.toml"\nout = "killed"\nseeds = 1\njobs = 2\n'
        "[vary]\nbeta = [0.1, 0.3]\nlearning_rate = [0.1, 1e30]\n"
    )
    cells = cells_of(recipe, {}, axes_of(vary), 1, tmp_path / "killed", threads=1)
    cell, workers = cells[0], set()
    line = [*COMMAND, "sweep", "sweep.toml"]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for epochs in (1, 3):
            while process.poll() is None and epochs_done(cell.folder) < epochs:
                time.sleep(0.002)
            workers.add(pid := process_of(cell))
            children = psutil.Process(process.pid).children(recursive=True)
            assert pid in [child.pid for child in children]
            if epochs == 1:
                os.kill(pid, signal.SIGKILL)  # another goes on
            else:
                process.kill()
        told = process.communicate(timeout=60)[1]
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert len(workers) == 2
    assert "failed: the process" not in told
    assert "Traceback" not in told
    assert 3 <= epochs_done(cell.folder) < EPOCHS
    assert result_of(cell).status == "unfinished"
    sweep(tmp_path / "mine.toml", vary, 1, tmp_path / "killed", resume=True)
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "whole")


def test_a_cell_of_which_processes_die_fails(small: Small, tmp_path: Path) -> None:
    cells = cells_of(small("epochs=1"), {}, axes_of(["beta=0.1,0.2"]), 1, tmp_path, threads=1)
    for cell, deaths in zip(cells, (1, 2), strict=True):
        cell.folder.mkdir()
        (cell.folder / ".attempts").write_text("1234\n" * deaths)
        _train(cell, None, [], tmp_path)
    assert [result_of(cell).status for cell in cells] == ["finished", "failed"]
    assert result_of(cells[1]).message == "the process that trained it died 2 times"
    # A new start of the sweep tries it anew.
    (cells[1].folder / ".attempts").write_text("1234\n" * 2)
    list(train_cells(cells, None, None, []))
    assert [result_of(cell).status for cell in cells] == ["finished", "finished"]


def test_a_cell_that_another_process_trains_is_waited_for(small: Small, tmp_path: Path) -> None:
    recipe = small("epochs=1")
    (cell,) = cells_of(recipe, {}, axes_of(["beta=0.1"]), 1, tmp_path / "sweep", threads=1)
    cell.folder.mkdir(parents=True)
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print(flush=True); sys.stdin.read()"
    )
    line = [sys.executable, "-c", program, str(cell.folder / ".attempts")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    ended: list[Cell] = []
    waiting = threading.Thread(target=lambda: ended.extend(train_cells([cell], None, None, [])))
    with subprocess.Popen(line, **pipes) as other:
        assert other.stdout is not None
        other.stdout.readline()
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert result_of(cell).status == "unfinished"
        other.kill()
    waiting.join(30)
    assert ended == [cell]
    assert result_of(cell).status == "finished"
    # Whoever comes later takes what is there.
    before = {path: path.stat().st_mtime_ns for path in cell.folder.iterdir() if path.suffix}
    list(train_cells([cell], None, None, []))
    assert {p: p.stat().st_mtime_ns for p in cell.folder.iterdir() if p.suffix} == before
