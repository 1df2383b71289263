"""One synchronous iteration is activation(-dE/ds), for any graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import Activation, Cost, CrossEntropy, HopfieldNetwork, SquaredError
from neurosim_ep.settling import lyapunov, settle, settle_nudged

Networks = Callable[..., st.SearchStrategy[HopfieldNetwork]]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
CLOSE = 1e-10


def close(result: Tensor, expected: Tensor) -> None:
    """Equal to rounding of the largest current."""
    scale = 1.0 + float(expected.abs().max())
    torch.testing.assert_close(result, expected, rtol=CLOSE, atol=CLOSE * scale)


@given(data=st.data(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_energy_of_any_network(
    networks: Networks,
    random_states: RandomStates,
    naive_energy: Callable[[HopfieldNetwork, Sequence[Tensor]], Tensor],
    data: st.DataObject,
    seed: int,
) -> None:
    network = data.draw(networks())
    states = random_states(network, 3, seed)
    expected = naive_energy(network, states)
    with torch.no_grad():
        close(network.energy(states), expected)
    for layer in network.free_layers:
        potential = network.layers[layer].activation.potential(states[layer])
        expected = expected + potential.flatten(1).sum(1)
    close(lyapunov(network, states), expected)
    targets = torch.rand(states[-1].shape, dtype=torch.float64)
    distance = 0.5 * (states[-1] - targets).square().sum(1)
    nudged = lyapunov(network, states, beta=0.3, cost=SquaredError(), targets=targets)
    close(nudged, expected + 0.3 * distance)


@given(data=st.data(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_a_synchronous_iteration_follows_the_energys_gradient(
    networks: Networks,
    random_states: RandomStates,
    naive_update: Callable[[Activation, Tensor], Tensor],
    data: st.DataObject,
    seed: int,
) -> None:
    """Against autograd through the package's own energy."""
    network = data.draw(networks())
    states = [state.requires_grad_() for state in random_states(network, 2, seed)]
    gradients = torch.autograd.grad(network.energy(states).sum(), states, allow_unused=True)
    start = [state.detach() for state in states]
    settled = settle(network, start[0], iterations=1, order="synchronous", initial=start)
    assert settled[0] is start[0]
    for layer in network.free_layers:
        gradient = gradients[layer]
        assert gradient is not None
        close(settled[layer], naive_update(network.layers[layer].activation, -gradient))


@given(
    data=st.data(),
    seed=st.integers(0, 2**31),
    beta=st.floats(-2.0, 2.0),
    cost=st.sampled_from([SquaredError(), CrossEntropy()]),
)
@settings(deadline=None, max_examples=60)
def test_a_nudged_iteration_follows_energy_and_cost(
    networks: Networks,
    random_states: RandomStates,
    naive_current: Callable[..., Tensor],
    naive_update: Callable[[Activation, Tensor], Tensor],
    data: st.DataObject,
    seed: int,
    beta: float,
    cost: Cost,
) -> None:
    network = data.draw(networks())
    states = random_states(network, 2, seed)
    labels = torch.arange(2) % network.num_outputs
    targets = cost.targets(labels, network.num_outputs, torch.float64)
    settled = settle_nudged(
        network, states, targets, [beta], cost, iterations=1, order="synchronous"
    )
    for layer in network.free_layers:
        current = naive_current(network, states, layer, beta, cost, targets)
        close(settled[layer], naive_update(network.layers[layer].activation, current))


@pytest.mark.parametrize("name", ["mlp", "vgg5", "hopfield_resnet13"])
def test_the_papers_networks(
    narrow: Callable[..., HopfieldNetwork],
    random_states: RandomStates,
    naive_settle: Callable[..., list[Tensor]],
    name: str,
) -> None:
    network = narrow(name)
    states = random_states(network, 3, 0)
    expected = naive_settle(network, states, [list(network.free_layers)], 1)
    settled = settle(network, states[0], iterations=1, order="synchronous", initial=states)
    for result, reference in zip(settled, expected, strict=True):
        close(result, reference)
