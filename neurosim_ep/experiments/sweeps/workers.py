"""Where the cells of a sweep are trained: in this process, or by the workers of a Dask cluster.

A cluster of this machine's processes lives as long as the sweep that started it, however that
ends.  One that was there before is reached through its scheduler's address; its workers see the
sweep's folder, the cards and the data under the same paths.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosim_ep._toml_text import problem
from neurosim_ep.experiments.sweeps.cells import record_failure, result_of, train_cell
from neurosim_ep.experiments.sweeps.grid import Cell

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

MOST_DEATHS = 2
"""Processes that may die of one cell; the next is not tried."""

_ATTEMPTS = ".attempts"
_ONE_CELL = threading.Lock()  # for workers of several threads that came after the check
_CONNECTING_S = 10
_PACKAGE = "neurosim-ep"
_LOCAL = {
    # Workers that compute answer late; processes that end are noticed at once by themselves.
    "distributed.scheduler.worker-ttl": None,
    # One cell to a worker: those that wait for it must not be taken for the cause of its death.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.profile.enabled": False,
}


@contextmanager
def workers(
    jobs: int, scheduler: str | None = None, folder: Path = Path()
) -> Iterator[Client | None]:
    """What trains cells, for as long as the context lasts.

    Args:
        jobs: processes of one thread each to start on this machine; below 2 none are.
        scheduler: address of a Dask scheduler, whose workers are used in their place.
        folder: of the sweep, which these workers must see; it need not be there yet.

    Returns:
        Dask's client; None for this process.

    Raises:
        ValueError: if there is no such scheduler, or one of its workers cannot train.
        ChildProcessError: if the processes do not start.
    """
    if scheduler is not None:
        with _connected(scheduler) as client:
            _check_workers(client, folder)
            yield client
    elif jobs > 1:
        with _local(jobs) as client:
            yield client
    else:
        yield None


def train_cells(
    cells: Sequence[Cell], client: Client | None, data_dir: Path | None, command: Sequence[str]
) -> Generator[Cell, None, None]:
    """Train cells, from their checkpoints where they have some; yield each when it has ended.

    A cell whose process dies is tried again; after `MOST_DEATHS` deaths it has failed.

    Args:
        cells: to start or to go on with.
        client: of `workers`.
        data_dir: folder with the data sets.
        command: recorded with every run.

    Raises:
        ConnectionError: if the scheduler is lost.
    """
    for cell in cells:
        with suppress(FileNotFoundError):
            os.truncate(cell.folder / _ATTEMPTS, 0)
    here = Path.cwd()
    told = (None if data_dir is None else data_dir.resolve(), list(command), here)
    if client is not None:
        yield from _train_by(client, cells, told)
        return
    for cell in cells:
        _train(cell, *told)
        yield cell


def _train_by(
    client: Client, cells: Sequence[Cell], told: tuple[Any, ...]
) -> Generator[Cell, None, None]:
    from distributed import KilledWorker, as_completed

    def submit(cell: Cell) -> Future[None]:
        return client.submit(_train, cell, *told, pure=False)

    address = client.scheduler_info()["address"]
    futures = {submit(cell): cell for cell in cells}
    ended = as_completed(list(futures), loop=client.loop)
    for future in ended:
        cell = futures.pop(future)
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                # Dask has lost patience, be it with a cell that only waited for a dying worker.
                futures[again := submit(cell)] = cell
                ended.add(again)
                continue
            cell.folder.mkdir(parents=True, exist_ok=True)
            record_failure(cell.folder, f"{type(error).__name__}: {error}")
        elif future.status != "finished":
            raise ConnectionError(f"scheduler: {address} was lost; what is finished can be resumed")
        yield cell


def _train(cell: Cell, data_dir: Path | None, command: list[str], directory: Path) -> None:
    """Train a cell, unless another process has done so while this one waited for it.

    Args:
        cell: what to train.
        data_dir: folder with the data sets.
        command: recorded with the run.
        directory: that the paths of cards are relative to.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    with _ONE_CELL, chdir(directory), _attempt(cell.folder) as deaths:
        if result_of(cell).status == "finished":
            return
        if deaths >= MOST_DEATHS:
            record_failure(cell.folder, f"the process that trained it died {deaths} times")
            return
        cell.start()
        train_cell(cell.recipe, cell.folder, data_dir, command)


@contextmanager
def _attempt(folder: Path) -> Iterator[int]:
    """Wait for all others that train in a folder; yields how many processes have died of it.

    The file has a line for each process that began and did not come to an end.
    """
    with (folder / _ATTEMPTS).open("a+", encoding="utf-8") as file:
        with suppress(ImportError, OSError):  # of systems without locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # which no process outlives
        file.seek(0)
        deaths = len(file.readlines())
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield deaths
        finally:
            file.truncate(0)


@contextmanager
def _local(jobs: int) -> Iterator[Client]:
    """Processes of this machine, which end with this one."""
    import dask
    from distributed import Client, LocalCluster

    with dask.config.set(_LOCAL):
        try:
            cluster = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                memory_limit=0,  # no worker is ended for what it takes
                dashboard_address="127.0.0.1:0",  # where none is drawn; by default at a fixed port
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:
            raise ChildProcessError(
                f"jobs: {jobs} processes did not start ({error}); a script that starts some does "
                'so below `if __name__ == "__main__":`'
            ) from error
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    from distributed import Client

    refused = ValueError(
        problem(
            "scheduler",
            scheduler,
            "the address of a Dask scheduler that answers, as in tcp://HOST:8786",
        )
    )
    # Of another protocol Dask leaves a half-made client behind.
    if not re.fullmatch(r"(tcp|tls|ucx|wss?)://[^/]+:\d+", scheduler):
        raise refused
    try:
        client = Client(scheduler, timeout=_CONNECTING_S, set_as_default=False)
    except (OSError, ValueError):
        raise refused from None
    with client:
        yield client


def _check_workers(client: Client, folder: Path) -> None:
    """All workers have one thread, this program in this version, and the sweep's folder.

    Raises:
        ValueError: if not.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    with tempfile.NamedTemporaryFile(prefix=".neurosim-ep-", dir=place) as file:
        found = client.run(_describe, Path(file.name), on_error="return")
    for address, told in found.items():
        if isinstance(told, BaseException):
            raise ValueError(f"scheduler: the worker {address} cannot train: {told}")
        threads, of, sees = told
        if threads != 1:
            raise ValueError(
                f"scheduler: the worker {address} has {threads} threads; must be one, as with "
                "dask worker --nthreads 1"
            )
        if of != (mine := version(_PACKAGE)):
            raise ValueError(f"scheduler: the worker {address} has {_PACKAGE} {of}; must be {mine}")
        if not sees:
            raise ValueError(f"scheduler: the worker {address} does not see {place}; must share it")


def _describe(file: Path, dask_worker: Worker) -> tuple[int, str, bool]:
    """Run by a worker: its threads, its version of this program, and whether it sees a file."""
    return dask_worker.state.nthreads, version(_PACKAGE), file.exists()
