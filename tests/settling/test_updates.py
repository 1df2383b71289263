"""One layer's update: states keep their tensors, given ones stay, and one kernel gives the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neurosim_ep.models import HopfieldNetwork, SquaredError, hopfield_resnet13, mlp
from neurosim_ep.settling import Engine, settle, settle_nudged
from neurosim_ep.settling.engine import Nudge, Settling

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler"
)


class Allocations(TorchDispatchMode):
    """Which operations return memory that none of their arguments had, and how much."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        given = {place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and place(made) not in given:
                size = made.untyped_storage().nbytes()
                self.names += [func.overloadpacket.__name__] * (size >= self.least)
        return result


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("reads", ["full", "delta"])
@torch.no_grad()
def test_an_iteration_allocates_no_states(reads: str) -> None:
    """What is left is what libraries return: convolutions, and the output's dense edge."""
    network = hopfield_resnet13(widths=(64, 64, 256, 256))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 32, 32, generator=generator)
    free = settle(network, images, iterations=2).tensors
    nudge = Nudge(SquaredError(), torch.zeros(2, 10), torch.full((2, 1), 0.1))
    settling = Settling(network, list(free), "coloured", nudge, free if reads == "delta" else None)
    settling.iterate()
    settling.iterate()
    places = [{place(state)} for state in settling.states[1:]]
    smallest = min(state.untyped_storage().nbytes() for state in settling.states[1:-1])
    with Allocations(smallest) as made:
        for _ in range(4):
            settling.iterate()
            for known, state in zip(places, settling.states[1:], strict=True):
                known.add(place(state))
    assert {len(known) for known in places} == {2}
    assert set(made.names) <= {"convolution", "mm", "clone"}, set(made.names)


@pytest.mark.parametrize("acceleration", ["none", "overrelaxed"])
@torch.no_grad()
def test_given_states_stay_as_they_are(
    acceleration: str, narrow: Callable[..., HopfieldNetwork]
) -> None:
    network, engine = narrow("hopfield_resnet13"), Engine(acceleration=acceleration)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, *network.layers[0].shape, generator=generator).double()
    initial = settle(network, images, iterations=3).tensors
    copies = [state.clone() for state in initial]
    found = settle(network, images, iterations=5, initial=initial, engine=engine)
    kept = [state.clone() for state in found]
    targets = torch.zeros(3, network.num_outputs, dtype=torch.float64)
    for reads in ("full", "delta"):
        settle_nudged(
            network,
            found,
            targets,
            [0.2, -0.2],
            SquaredError(),
            iterations=5,
            reads=reads,
            engine=engine,
        )
    assert all(torch.equal(a, b) for a, b in zip(initial, copies, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found, kept, strict=True))


@torch.no_grad()
def test_every_iteration_by_itself_gives_what_a_run_gives(
    narrow: Callable[..., HopfieldNetwork],
) -> None:
    """Buffers that are written over again leave nothing behind."""
    network = narrow("hopfield_resnet13")
    images = torch.rand(3, *network.layers[0].shape, dtype=torch.float64)
    states: Sequence[Tensor] = network.rest(images)
    for _ in range(7):
        states = settle(network, images, iterations=1, initial=states).tensors
    together = settle(network, images, iterations=7)
    assert all(torch.equal(a, b) for a, b in zip(states, together, strict=True))


@needs_compiler
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile's own imports
@pytest.mark.parametrize("acceleration", ["none", "overrelaxed"])
@torch.no_grad()
def test_one_kernel_gives_the_same_states(acceleration: str) -> None:
    network = mlp((1, 4, 4), 3, (8, 8), alpha=0.5, gains=[1.0, 1.0, 1.0]).double()
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    plain, fused = (
        Engine(acceleration=acceleration),
        Engine(acceleration=acceleration, fusion="compiled"),
    )
    targets = torch.eye(3, dtype=torch.float64)[torch.arange(5) % 3]
    found: dict[Engine, list[Tensor]] = {}
    for engine in (plain, fused):
        free = settle(network, images, iterations=8, engine=engine)
        nudged = settle_nudged(
            network, free, targets, [0.3, -0.3], SquaredError(), iterations=6, engine=engine
        )
        found[engine] = [*free, *nudged]
    assert any(bool((state == 0.5).any()) for state in found[plain]), "some units are at the bound"
    for expected, result in zip(found[plain], found[fused], strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-13, atol=1e-14)


def test_without_a_compiler_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise torch._dynamo.exc.BackendCompilerFailed(None, RuntimeError("no compiler"), None)

    monkeypatch.setattr("neurosim_ep.settling.update._compiler", lambda: broken)
    with pytest.raises(ValueError, match=r"^fusion: \"compiled\" is not allowed; must be 'none'"):
        settle(mlp((1, 4, 4), 3, (8,)), torch.rand(2, 1, 4, 4), engine=Engine(fusion="compiled"))
