"""Cells on the workers of a Dask cluster that was there before; Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, KilledWorker, LocalCluster

from neurosim_ep.config import Recipe
from neurosim_ep.experiments import sweep
from neurosim_ep.experiments.sweeps import workers
from neurosim_ep.experiments.sweeps.axes import axes_of
from neurosim_ep.experiments.sweeps.cells import epochs_done, result_of, train_cell
from neurosim_ep.experiments.sweeps.grid import cells_of

Small = Callable[..., Recipe]
Rows = Callable[[Path], list[dict[str, str]]]

pytestmark = pytest.mark.usefixtures("pictures")


def cluster(threads: int, workers: int = 1) -> LocalCluster:
    """Workers in threads of this process, which nobody but their scheduler tells so."""
    return LocalCluster(
        n_workers=workers, threads_per_worker=threads, processes=False, protocol="tcp://",
        dashboard_address="127.0.0.1:0", silence_logs=50, memory_limit=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with cluster(1) as one:
        yield one.scheduler_address


def test_a_scheduler_s_workers_train_to_the_same_numbers(
    small: Small, tmp_path: Path, timeless: Rows, address: str
) -> None:
    recipe, vary = small(), {"learning.beta": [0.1, 0.3], "learning.learning_rate": [0.1, 1e30]}
    sweep(recipe, vary, 2, tmp_path / "here")
    done = sweep(recipe, vary, 2, tmp_path / "there", scheduler=address)
    assert [cell.status for cell in done.cells] == ["finished"] * 2 + ["failed"] * 2 + [
        "finished"
    ] * 2 + ["failed"] * 2
    assert timeless(tmp_path / "there") == timeless(tmp_path / "here")
    assert f'scheduler = "{address}"' in (tmp_path / "there" / "sweep.toml").read_text()


def test_waiting_beside_a_dying_worker_is_no_failure(
    small: Small, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "lost"

    # Sent to the worker by value, so that it must not hold what it stands for.
    def lost_once(cell, data_dir, command, directory) -> None:
        if not flag.exists():
            flag.touch()
            raise KilledWorker("cell", SimpleNamespace(address="tcp://far:1"), 3)
        cell.folder.mkdir(parents=True, exist_ok=True)
        cell.start()
        train_cell(cell.recipe, cell.folder, data_dir, command)

    monkeypatch.setattr(workers, "_train", lost_once)
    done = sweep(small("epochs=1"), ["beta=0.1"], 1, tmp_path / "sweep", scheduler=address)
    assert flag.exists()
    assert [cell.status for cell in done.cells] == ["finished"]


def test_workers_may_come_later(small: Small, tmp_path: Path) -> None:
    cells = cells_of(small("epochs=1"), {}, axes_of(["beta=0.1,0.3"]), 1, tmp_path, threads=1)
    with (
        cluster(2, workers=0) as none,
        workers.workers(1, none.scheduler_address, tmp_path) as client,
    ):
        come = threading.Timer(0.5, none.scale, (1,))
        come.start()
        ended = list(workers.train_cells(cells, client, None, []))
        come.join()
    assert sorted(cell.folder for cell in ended) == sorted(cell.folder for cell in cells)
    assert [result_of(cell).status for cell in cells] == ["finished"] * 2


def test_what_a_worker_cannot_do_is_the_failure_of_its_cell(
    small: Small, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*told: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(workers, "_train", broken)
    done = sweep(small("epochs=1"), ["beta=0.1"], 1, tmp_path / "sweep", scheduler=address)
    assert [cell.message for cell in done.cells] == ["ModuleNotFoundError: No module named 'torch'"]


def test_a_lost_scheduler_ends_the_sweep(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(1) as one:
        address = one.scheduler_address
        monkeypatch.setattr(workers, "_CONNECTING_S", 1)
        with workers.workers(1, address, tmp_path) as client:
            assert client is not None
            cells = cells_of(small("epochs=50"), {}, axes_of(["beta=0.1"]), 1, tmp_path, threads=1)
            ended = workers.train_cells(cells, client, None, [])
            one.close()
            with pytest.raises(ConnectionError, match=f"scheduler: {address} was lost"):
                next(ended)


@pytest.mark.parametrize(
    ("scheduler", "line"),
    [
        ("tcp://127.0.0.1:1", r'scheduler: "tcp://127\.0\.0\.1:1" .*a Dask scheduler that answers'),
        ("nonsense", r'scheduler: "nonsense" .*as in tcp://HOST:8786'),
        ("ftp://x:1", r'scheduler: "ftp://x:1" .*as in tcp://HOST:8786'),
    ],
)
def test_an_address_without_a_scheduler_is_one_line(
    small: Small, tmp_path: Path, scheduler: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_CONNECTING_S", 0.5)
    with pytest.raises(ValueError, match=line) as error:
        sweep(small(), ["beta=0.1"], 1, tmp_path / "sweep", scheduler=scheduler)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_workers_of_several_threads_are_refused(small: Small, tmp_path: Path) -> None:
    with cluster(2) as two, pytest.raises(ValueError, match=r"has 2 threads; must be one"):
        sweep(small(), ["beta=0.1"], 1, tmp_path / "sweep", scheduler=two.scheduler_address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ((1, "0.0.1", True), r"has neurosim-ep 0\.0\.1; must be"),
        ((1, workers.version("neurosim-ep"), False), r"does not see .*; must share it"),
        (ModuleNotFoundError("No module named 'neurosim_ep'"), r"cannot train: No module"),
    ],
)
def test_workers_that_cannot_train_are_refused(
    small: Small, tmp_path: Path, address: str, told: object, line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Client, "run", lambda *a, **options: {"tcp://far:1": told})
    with pytest.raises(ValueError, match=f"^scheduler: the worker tcp://far:1 {line}"):
        sweep(small(), ["beta=0.1"], 1, tmp_path / "sweep", scheduler=address)
    assert list(tmp_path.iterdir()) == []


def _hear_ctrl_c() -> None:
    """A shell's background job, as which the tests may run, does not hear it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_all_processes(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(
        'recipe = "digits"\nout = "here"\nseeds = 1\njobs = 2\n'
        "[set]\nepochs = 2000\n[vary]\nbeta = [0.1, 0.3]\n"
    )
    line = [sys.executable, "-c", "from neurosim_ep.cli import main; main()", "sweep", "sweep.toml"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        line, cwd=tmp_path, text=True, start_new_session=True, preexec_fn=_hear_ctrl_c, **pipes
    ) as process:
        try:
            while process.poll() is None and not any(map(epochs_done, tmp_path.glob("here/*"))):
                time.sleep(0.01)
            children = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            told = process.communicate(timeout=120)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode != 0
    assert len(children) >= 2
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert re.fullmatch(r"(\s|Aborted[!.])*", told[0] + told[1])
    assert not list(tmp_path.rglob("failed.json"))
