"""Cells of a sweep in several processes, which end with the one that started them.

A worker is this Python with this module's `serve`.  It takes tasks as lines of JSON on its standard
input and answers each with a line; the end of its input, which comes with the end of the sweep
however that ends, ends it at once.  All files of a run are whole at any moment.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurosim_ep.config import dump_recipe, recipe_from_mapping
from neurosim_ep.experiments.sweeps.cells import record_failure, train_cell
from neurosim_ep.experiments.sweeps.grid import Cell

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; "
    "from neurosim_ep.experiments.sweeps.processes import serve; serve()"
)


class _Worker:
    """One process, which trains one cell at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # With -P the present folder does not hide modules; the path is that of this process.
            [sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
        )

    def train(self, task: dict[str, Any]) -> bool:
        """Train a cell to its end, and say whether the process came to that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return bool(self._process.stdout.readline())

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()

    def close(self) -> int:
        """Wait for the killed or ended process; its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        code = self._process.wait()
        self._process.stdout.close()
        with suppress(OSError):  # of a task that it had not read yet
            self._process.stdin.close()
        return code


def train_in_processes(
    cells: Sequence[Cell], jobs: int, data_dir: Path | None, command: Sequence[str]
) -> Generator[Cell, None, None]:
    """Train cells, some at a time, each process with one thread; yield each when it has ended.

    Args:
        cells: to start or to go on with.
        jobs: how many at a time.
        data_dir: folder with the data sets.
        command: recorded with every run.
    """
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    workers, stopped = [_Worker() for _ in range(min(jobs, len(cells)))], threading.Event()
    for worker in workers:
        idle.put(worker)

    def train(cell: Cell) -> Cell:
        worker = idle.get()
        cell.start()
        ended = worker.train(task_of(cell, data_dir, command))
        if not ended and not stopped.is_set():
            record_failure(cell.folder, f"the process ended with exit code {worker.close()}")
            worker = _Worker()
            workers.append(worker)
        idle.put(worker)
        return cell

    pool = ThreadPoolExecutor(len(workers))
    futures = [pool.submit(train, cell) for cell in cells]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        stopped.set()
        for future in futures:
            future.cancel()
        for worker in list(workers):
            worker.kill()
        pool.shutdown()
        for worker in workers:
            worker.kill()  # one that took a dead one's place just now
            worker.close()


def task_of(cell: Cell, data_dir: Path | None, command: Sequence[str]) -> dict[str, Any]:
    """What a worker is told of a cell."""
    return {
        "recipe": dump_recipe(cell.recipe),
        "folder": str(cell.folder),
        "data_dir": None if data_dir is None else str(data_dir),
        "command": list(command),
    }


def serve() -> None:
    """Train what comes on the standard input, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the starting process ends this one
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed must not be taken for a reply
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            tasks.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        task = json.loads(tasks.get())
        data_dir = task["data_dir"]
        train_cell(
            recipe_from_mapping(tomllib.loads(task["recipe"])),
            Path(task["folder"]),
            None if data_dir is None else Path(data_dir),
            task["command"],
        )
        print("done", file=replies, flush=True)
