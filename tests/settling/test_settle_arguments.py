"""Initial states, limits, and what settling refuses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import (
    Edge,
    HopfieldNetwork,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    SquaredError,
)
from neurosim_ep.settling import settle, settle_nudged, unrolled

Narrow = Callable[..., HopfieldNetwork]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
NAMES = ["mlp", "vgg5", "hopfield_resnet13"]


@pytest.mark.parametrize("name", NAMES)
def test_settling_goes_on_from_initial_states(
    narrow: Narrow, random_states: RandomStates, name: str
) -> None:
    network = narrow(name)
    images = random_states(network, 2, 0)[0]
    whole = settle(network, images, iterations=7)
    first = settle(network, images, iterations=3)
    kept = [state.clone() for state in first]
    # The initial state of the input is not used.
    start = [torch.full_like(images, math.nan), *first[1:]]
    second = settle(network, images, iterations=4, initial=start)
    assert second.iterations == 4
    for result, expected in zip(second, whole, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_settling_changes_nothing_it_is_given(
    narrow: Narrow, random_states: RandomStates, name: str
) -> None:
    network = narrow(name)
    states = random_states(network, 2, 1)
    given = [*states, *network.parameters()]
    before = [tensor.detach().clone() for tensor in given]
    targets = torch.ones(2, 4, dtype=torch.float64)
    settle(network, states[0], iterations=3, initial=states)
    for reads in ("full", "delta"):
        settle_nudged(
            network, states, targets, [0.1, -0.1], SquaredError(), iterations=3, reads=reads
        )
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_images_settle_independently(narrow: Narrow, random_states: RandomStates) -> None:
    network = narrow("hopfield_resnet13")
    images = random_states(network, 4, 2)[0]
    together = settle(network, images, iterations=6)
    for image in range(4):
        alone = settle(network, images[image : image + 1], iterations=6)
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[image], rtol=1e-12, atol=1e-12)


def test_an_empty_batch_settles(narrow: Narrow) -> None:
    states = settle(narrow("vgg5"), torch.zeros(0, 2, 16, 16, dtype=torch.float64), iterations=2)
    assert states.output.shape == (0, 4)
    assert states.residual.shape == (0,)


def refused(message: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


Settle = Callable[..., object]


@pytest.fixture(params=["settle", "settle_nudged", "unrolled"])
def settler(request: pytest.FixtureRequest, narrow: Narrow) -> Settle:
    """Each way to settle a small network, by its options."""
    network = narrow("mlp")
    states = network.rest(torch.ones(2, 2, 3, 3, dtype=torch.float64))
    targets, cost = torch.ones(2, 4, dtype=torch.float64), SquaredError()
    ways: dict[str, Settle] = {
        "settle": lambda **options: settle(network, states[0], **options),
        "settle_nudged": lambda **options: settle_nudged(
            network, states, targets, [0.1], cost, **options
        ),
        "unrolled": lambda **options: unrolled(network, states, **options),
    }
    return ways[request.param]


@pytest.mark.parametrize("iterations", [0, -1, 10_001])
def test_iterations_are_limited(settler: Settle, iterations: int) -> None:
    with refused(f"iterations: {iterations} is not allowed; must be at least 1 and at most 10000"):
        settler(iterations=iterations)


def test_orders_are_known(settler: Settle) -> None:
    with refused(
        "order: 'random' is not allowed; must be one of coloured, asynchronous, synchronous, "
        "forward, backward"
    ):
        settler(iterations=1, order="random")


@pytest.mark.parametrize("tolerance", [0.0, -1e-3, math.nan, math.inf])
def test_tolerances_are_positive(
    narrow: Narrow, random_states: RandomStates, tolerance: float
) -> None:
    network = narrow("mlp")
    states = random_states(network, 2, 3)
    message = f"tolerance: {tolerance} is not allowed; must be a finite number above 0"
    with refused(message):
        settle(network, states[0], tolerance=tolerance)
    with refused(message):
        settle_nudged(network, states, states[-1], [0.1], SquaredError(), tolerance=tolerance)


def test_the_largest_number_of_iterations(narrow: Narrow) -> None:
    images = torch.ones(1, 2, 3, 3, dtype=torch.float64)
    states = settle(narrow("mlp"), images, iterations=10_000, tolerance=1e-3)
    assert states.settled.all()


@pytest.mark.parametrize("shape", [(2, 16, 16), (1, 3, 16, 16), (1, 2, 16, 15)], ids=str)
def test_images_must_fit(narrow: Narrow, shape: tuple[int, ...]) -> None:
    with refused(f"images: shape {shape} is not allowed; must be (batch, 2, 16, 16)"):
        settle(narrow("vgg5"), torch.zeros(shape, dtype=torch.float64))


def test_initial_states_must_fit(narrow: Narrow, random_states: RandomStates) -> None:
    network = narrow("mlp")
    states = random_states(network, 2, 4)
    wrong = [*states[:2], states[2][:1], *states[3:]]
    with refused("initial[2]: shape (1, 6) is not allowed; must be (2, 6)"):
        settle(network, states[0], initial=wrong)


def test_nudged_phases_need_a_beta_and_a_known_read(
    narrow: Narrow, random_states: RandomStates
) -> None:
    network, cost = narrow("mlp"), SquaredError()
    states = random_states(network, 2, 5)
    with refused("betas: an empty list is not allowed; must hold at least one value"):
        settle_nudged(network, states, states[-1], [], cost)
    with refused("reads: 'half' is not allowed; must be one of full, delta"):
        settle_nudged(network, states, states[-1], [0.1], cost, reads="half")


def test_a_pooled_edge_into_the_input_is_refused() -> None:
    """Its winners would change while the input's currents are taken as constant."""
    geometry = PooledConvolution((1, 4, 4), 1, kernel=1)
    network = HopfieldNetwork(
        [Layer((1, 2, 2)), Layer((1, 4, 4), ReLUAlpha())], [Edge(1, 0, geometry)]
    )
    with refused("edges: 1 -> 0 is pooled; must start at the input"):
        settle(network, torch.zeros(1, 1, 2, 2))
