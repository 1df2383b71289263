"""F falls with every iteration of an order that updates connected layers one after another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork, SquaredError, mlp
from neurosim_ep.settling import lyapunov, settle, settle_nudged

Networks = Callable[..., st.SearchStrategy[HopfieldNetwork]]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
DESCENDING = st.sampled_from(["coloured", "coloured", "forward", "backward"])
SLACK = 1e-9
ITERATIONS = 8


def rises(values: list[Tensor]) -> list[Tensor]:
    """How far F rises in each iteration, relative to F, per image."""
    return [(after - before) / (1.0 + before.abs()) for before, after in pairwise(values)]


def free_values(
    network: HopfieldNetwork, states: list[Tensor], order: str, iterations: int
) -> list[Tensor]:
    """F before and after each iteration."""
    values = [lyapunov(network, states)]
    for _ in range(iterations):
        states = list(settle(network, states[0], iterations=1, order=order, initial=states))
        values.append(lyapunov(network, states))
    return values


@given(data=st.data(), seed=st.integers(0, 2**31), order=DESCENDING)
@settings(deadline=None, max_examples=100)
def test_f_falls_in_the_free_phase(
    networks: Networks, random_states: RandomStates, data: st.DataObject, seed: int, order: str
) -> None:
    network = data.draw(networks())
    values = free_values(network, random_states(network, 3, seed), order, ITERATIONS)
    assert max(float(rise.max()) for rise in rises(values)) <= SLACK
    # From random states the first iteration has something to do.
    assert (values[1] < values[0]).all()


@given(
    data=st.data(),
    seed=st.integers(0, 2**31),
    order=DESCENDING,
    betas=st.lists(st.floats(-0.99, 0.99), min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=60)
def test_f_and_beta_c_fall_in_a_nudged_phase(
    networks: Networks,
    random_states: RandomStates,
    data: st.DataObject,
    seed: int,
    order: str,
    betas: list[float],
) -> None:
    network, cost = data.draw(networks()), SquaredError()
    states = random_states(network, 2, seed)
    targets = torch.randn(states[-1].shape, generator=torch.Generator().manual_seed(seed)).double()
    for beta in betas:
        here, values = states, []
        for _ in range(ITERATIONS):
            values.append(lyapunov(network, here, beta=beta, cost=cost, targets=targets))
            here = list(
                settle_nudged(network, here, targets, [beta], cost, iterations=1, order=order)
            )
        assert max(float(rise.max()) for rise in rises(values)) <= SLACK


@pytest.mark.parametrize("order", ["coloured", "forward", "backward"])
@pytest.mark.parametrize("name", ["mlp", "vgg5", "hopfield_resnet13"])
def test_f_falls_on_the_papers_networks(
    narrow: Callable[..., HopfieldNetwork], random_states: RandomStates, name: str, order: str
) -> None:
    network = narrow(name)
    values = free_values(network, random_states(network, 3, 1), order, 20)
    assert max(float(rise.max()) for rise in rises(values)) <= SLACK


def test_f_rises_in_synchronous_order() -> None:
    """Two layers that excite each other overshoot together and jump between the bounds."""
    network = mlp((1, 2, 2), 2, (6,), gains=[1.0, 4.0]).double()
    images = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    synchronous = free_values(network, network.rest(images), "synchronous", 30)
    assert max(float(rise.max()) for rise in rises(synchronous)) > 0.1
    coloured = free_values(network, network.rest(images), "coloured", 30)
    assert max(float(rise.max()) for rise in rises(coloured)) <= SLACK


def test_f_rises_where_asynchronous_groups_hold_connected_layers(
    narrow: Callable[..., HopfieldNetwork], random_states: RandomStates
) -> None:
    """A skip edge joins layers of the same half; these two inhibit each other."""
    network = narrow("hopfield_resnet13")
    (skip,) = (edge for edge in network.edge_list() if (edge.pre, edge.post) == (4, 6))
    with torch.no_grad():
        for weight in skip.parameters():
            weight.fill_(-1.0)
        network.biases[3].fill_(1.0)
        network.biases[5].fill_(1.0)
    states = random_states(network, 3, 0)
    worst = {
        order: max(float(rise.max()) for rise in rises(free_values(network, states, order, 30)))
        for order in ("asynchronous", "coloured")
    }
    assert worst["asynchronous"] > 1e-3
    assert worst["coloured"] <= SLACK


def test_a_nudging_above_one_may_make_f_rise() -> None:
    """The output's step of length 1 overshoots a curvature of 1 + beta above 2."""
    network, cost = mlp((1, 2, 2), 2, ()).double(), SquaredError()
    states = network.rest(torch.ones(1, 1, 2, 2, dtype=torch.float64))
    targets = torch.tensor([[0.0, 1.0]], dtype=torch.float64)

    def falls(beta: float) -> bool:
        after = settle_nudged(network, states, targets, [beta], cost, iterations=1)
        before, now = (
            lyapunov(network, here, beta=beta, cost=cost, targets=targets)
            for here in (states, after)
        )
        return bool((now <= before).all())

    assert falls(0.99)
    assert not falls(1.5)
