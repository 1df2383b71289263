"""Two processes on the CPU train to the single process's result, to rounding."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from neurosim_ep.learning import load_checkpoint

WORKER = Path(__file__).with_name("parallel_worker.py")


def _imported() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parallel_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["parallel_worker"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


worker = _imported()
KINDS = list(worker.KINDS)

Found = list[dict[str, Any]]


def start(out: Path, count: int) -> list[subprocess.Popen[bytes]]:
    """The worker in as many processes, with the environment that torchrun would give them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(count):
        with (out / f"errors-{rank}.txt").open("w") as errors:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(WORKER), str(out)],
                    env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stderr=errors,
                )
            )
    return processes


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("parallel")
    worker.stopped(worker.make(worker.KINDS["warm"]), out / "one.pt")
    processes = start(out, 2)
    try:
        codes = [process.wait(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    texts = [(out / f"errors-{rank}.txt").read_text() for rank in range(2)]
    assert codes == [0, 0], "\n".join(texts)
    results = [load_checkpoint(out / f"rank-{rank}.pt") for rank in range(2)]
    state = load_checkpoint(out / "two.pt")
    alone = worker.make(worker.KINDS["warm"])
    alone.load_state_dict(state)
    return [*results, {"state": state, "alone": worker.finish(alone)}]


def assert_close(mine: dict[str, Any], single: dict[str, Any], relative: float) -> None:
    for name, wanted in single["model"].items():
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        torch.testing.assert_close(
            mine["model"][name], wanted, rtol=0, atol=relative * scale, msg=name
        )
    assert len(mine["summaries"]) == len(single["summaries"]) == worker.EPOCHS + 1
    for summary, wanted in zip(mine["summaries"], single["summaries"], strict=True):
        assert summary["images"] == wanted["images"]
        assert summary["accuracy_percent"] == pytest.approx(wanted["accuracy_percent"], 1e-12)
        assert summary["unsettled_fraction"] == wanted["unsettled_fraction"]
        for name, value in wanted.items():
            # A residual is a small difference of states: it keeps fewer digits than they do.
            loose = 1e3 if name.startswith(("residual", "departure")) else 10.0
            near = None if value is None else pytest.approx(value, rel=loose * relative)
            assert summary[name] == near, name


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_train_as_one(found: Found, name: str) -> None:
    single = worker.finish(worker.make(worker.KINDS[name]))
    relative = 1e-5 if "float32" in name else 1e-12
    assert_close(found[0][name], single, relative)


@pytest.mark.parametrize("name", KINDS)
def test_both_processes_hold_the_same_bits(found: Found, name: str) -> None:
    first, second = found[0][name], found[1][name]
    for key, value in first["model"].items():
        assert torch.equal(value, second["model"][key]), key
    assert first["summaries"] == second["summaries"]


def test_the_settings_of_the_trainings_matter() -> None:
    # Otherwise the tests above could not fail: the warm start, clipping and the last, uneven batch.
    whole = worker.finish(worker.make(worker.KINDS["warm"]))
    for change in ("cold", "unclipped"):
        training = worker.make(worker.KINDS["warm"])
        if change == "cold":
            training.method.warm_start = False
        else:
            training.clip_norm = None
        other = worker.finish(training)
        differences = [
            float((other["model"][name] - value).abs().max())
            for name, value in whole["model"].items()
            if value.numel()
        ]
        assert max(differences) > 1e-6, change


def test_a_resumed_training_of_two_ends_in_the_same_bits(found: Found) -> None:
    for rank in range(2):
        whole, resumed = found[rank]["warm"], found[rank]["resumed from two"]
        for name, value in whole["model"].items():
            assert torch.equal(value, resumed["model"][name]), name
        # The checkpoint is from the second epoch: its own summary and the test's are left.
        assert resumed["summaries"] == whole["summaries"][-len(resumed["summaries"]) :]


def test_a_checkpoint_serves_any_number_of_processes(found: Found) -> None:
    whole = worker.finish(worker.make(worker.KINDS["warm"]))
    for resumed in (found[0]["resumed from one"], found[1]["resumed from one"], found[2]["alone"]):
        summaries = whole["summaries"][-len(resumed["summaries"]) :]
        missing = whole["summaries"][: worker.EPOCHS + 1 - len(summaries)]
        filled = resumed | {"summaries": [*missing, *resumed["summaries"]]}
        assert len(resumed["summaries"]) == 2
        assert_close(filled, whole, 1e-12)


def test_a_checkpoint_holds_the_states_of_all_images(found: Found) -> None:
    state = found[2]["state"]
    assert [len(carried) for carried in state["carried"]] == [4] * 4
    assert [totals["images"] for totals in state["totals"]] == [2, 2]


def test_an_error_in_one_process_is_raised_in_both(found: Found) -> None:
    wanted = "settling: this process diverges (process 1 of 0 to 1)"
    assert [found[rank]["error"] for rank in range(2)] == [wanted, wanted]


@pytest.mark.parametrize("name", list(worker.WEIGHTS))
def test_gradients_are_the_weighted_sums(found: Found, name: str) -> None:
    given = [worker.gradients(rank) for rank in range(2)]
    for index in range(3):
        wanted = torch.zeros(given[0][index].shape)
        for rank, weight in enumerate(worker.WEIGHTS[name]):
            gradient = given[rank][index].grad
            if gradient is not None:
                wanted += weight * gradient
        for rank in range(2):
            torch.testing.assert_close(found[rank][name][index], wanted)
    for rank in range(2):
        # Frozen: left as it was.
        assert torch.equal(found[rank][name][3], given[rank][3].grad)


def test_the_first_process_gives_weights_and_decisions(found: Found) -> None:
    for rank in range(2):
        assert torch.equal(found[rank]["same model"]["weight"], torch.ones(2, 2))
        assert found[rank]["decided"] == [True, False]
