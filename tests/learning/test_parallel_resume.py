"""A process is killed: the other ends by itself, and both go on from the last checkpoint."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from neurosim_ep.config import load_recipe
from neurosim_ep.experiments import RunFolder, run
from neurosim_ep.learning import load_checkpoint

SMALL = (
    "train_images=99",
    "validation_images=20",
    "test_images=20",
    "epochs=8",
    "learning.batch_size=20",
    "free_iterations=4",
    "nudged_iterations=2",
    "widths=[8]",
    "threads=1",
    "run.dtype=float64",
    "run.device=cpu",
    "warm_start=true",
    "flip_probability=0.5",
)
EVERY_BATCH = "checkpoint_interval_s=1e-9"


def start(out: Path, errors: Path, *options: str) -> list[subprocess.Popen[bytes]]:
    """Two processes, with the environment that torchrun would give them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    sets = [part for text in (*SMALL, EVERY_BATCH) for part in ("--set", text)]
    command = [sys.executable, "-m", "neurosim_ep", "train", "digits", "--out", str(out)]
    processes = []
    for rank in range(2):
        with (errors / f"errors-{rank}.txt").open("w") as file:
            environment = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(
                subprocess.Popen(
                    [*command, *sets, *options],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                )
            )
    return processes


def test_a_killed_process_ends_the_other_and_both_resume(tmp_path: Path) -> None:
    files = RunFolder(tmp_path / "run")
    processes = start(files.path, tmp_path)
    try:
        waited_until = time.monotonic() + 240
        while not files.checkpoint.exists():
            assert time.monotonic() < waited_until
            time.sleep(0.005)
        processes[1].kill()
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    told = (tmp_path / "errors-0.txt").read_text().splitlines()
    assert codes[0] == 2, told
    assert told[-1].startswith("error: processes: the others cannot be reached")
    assert sum(line.startswith("epoch") for line in told) + 1 == len(told)
    state = load_checkpoint(files.checkpoint)["training"]
    assert (state["epoch"], state["batch"]) < (8, 0)
    processes = start(files.path, tmp_path, "--resume")
    try:
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0, 0], (tmp_path / "errors-0.txt").read_text()
    run(load_recipe("digits", SMALL), tmp_path / "one")
    mine, single = load_checkpoint(files.last), load_checkpoint(RunFolder(tmp_path / "one").last)
    for key, wanted in single.items():
        assert float((mine[key] - wanted).abs().max()) < 1e-10, key
