"""Layers of one colour on streams of their own: forked after what came before, joined after all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.settling import Engine, settle
from neurosim_ep.settling.branches import Branches

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Stream:
    """Stands for a CUDA stream: knows what has happened before anything that it launches next."""

    def __init__(self, _: object = None) -> None:
        self.seen: set[str] = set()

    def wait_stream(self, other: Stream) -> None:
        self.seen |= other.seen


class Machine:
    """Streams without a GPU, and which of them is current."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.current = Stream()
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "current_stream", lambda: self.current)
        patch.setattr(torch.cuda, "stream", self.on)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def job(self, name: str) -> tuple[str, Stream, set[str]]:
        known = set(self.current.seen)
        self.current.seen.add(name)
        return name, self.current, known


def test_branches_follow_what_was_launched_and_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    main = machine.current
    branches = Branches(3, torch.device("cuda"))
    machine.job("before")
    first = branches.run([partial(machine.job, name) for name in "abcd"])
    assert [name for name, _, _ in first] == list("abcd")
    streams = [stream for _, stream, _ in first]
    assert main not in streams
    assert len(set(map(id, streams))) == 3, "the fourth job shares a stream"
    assert all("before" in known for _, _, known in first)
    assert "a" not in first[1][2], "side by side"
    assert main.seen >= {"before", *"abcd"}
    second = branches.run([partial(machine.job, name) for name in "ef"])
    assert all(known >= set("abcd") for _, _, known in second), "a branch sees all of the last ones"
    (alone,) = branches.run([partial(machine.job, "g")])
    assert alone[1] is main
    assert alone[2] >= set("ef")


def test_on_a_cpu_jobs_run_one_after_another() -> None:
    done: list[int] = []
    results = Branches(4, torch.device("cpu")).run([partial(done.append, n) for n in range(5)])
    assert (done, results) == ([0, 1, 2, 3, 4], [None] * 5)


@needs_cuda
@torch.no_grad()
def test_captured_branches_equal_launches(narrow: Callable[..., HopfieldNetwork]) -> None:
    network = narrow("hopfield_resnet13").cuda().float()
    images = torch.rand(4, *network.layers[0].shape, device="cuda")
    plain = settle(network, images, iterations=20)
    captured = settle(network, images, iterations=20, engine=Engine(capture="auto"))
    for expected, found in zip(plain, captured, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
