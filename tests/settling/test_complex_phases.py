"""Phases at complex values of beta, for holomorphic EP."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import (
    Activation,
    Cost,
    CrossEntropy,
    HopfieldNetwork,
    Layer,
    SquaredError,
)
from neurosim_ep.settling import ORDERS, settle, settle_nudged, update_groups

Narrow = Callable[..., HopfieldNetwork]
Networks = Callable[..., st.SearchStrategy[HopfieldNetwork]]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
COSTS = [SquaredError(), CrossEntropy()]
NAMES = ["mlp", "vgg5", "hopfield_resnet13"]
BETAS = [0.3 + 0.4j, -0.2 + 0.1j, 0.5j]


@pytest.fixture(params=NAMES)
def network(request: pytest.FixtureRequest, narrow: Narrow) -> HopfieldNetwork:
    """A narrow network of sigmoids."""
    return narrow(request.param, activation="sigmoid")


def nudge(
    network: HopfieldNetwork,
    free: list[Tensor],
    betas: list[complex],
    cost: Cost,
    iterations: int = 6,
    order: str = "coloured",
) -> list[Tensor]:
    labels = torch.arange(free[0].shape[0]) % network.num_outputs
    targets = cost.targets(labels, network.num_outputs, torch.float64)
    states = settle_nudged(network, free, targets, betas, cost, iterations=iterations, order=order)
    assert not states.residual.is_complex()
    return states.tensors


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_against_a_complex_energys_derivative(
    network: HopfieldNetwork,
    random_states: RandomStates,
    naive_settle: Callable[..., list[Tensor]],
    cost: Cost,
) -> None:
    free = random_states(network, 2, 0)
    targets = cost.targets(torch.tensor([0, 1]), 4, torch.float64)
    groups = update_groups(network, "coloured")
    states = nudge(network, free, BETAS, cost)
    start = [state + 0j for state in free]
    for phase, beta in enumerate(BETAS):
        expected = naive_settle(network, start, groups, 6, beta, cost, targets)
        for result, reference in zip(states, expected, strict=True):
            torch.testing.assert_close(
                result[2 * phase : 2 * phase + 2], reference, rtol=1e-9, atol=1e-10
            )


@given(data=st.data(), seed=st.integers(0, 2**31), order=st.sampled_from(ORDERS))
@settings(deadline=None, max_examples=40)
def test_any_network(
    networks: Networks,
    random_states: RandomStates,
    naive_settle: Callable[..., list[Tensor]],
    data: st.DataObject,
    seed: int,
    order: str,
) -> None:
    # Larger gains lead close to the sigmoid's poles, where rounding grows.
    network = data.draw(networks(holomorphic=True, gains=(0.3, 1.0)))
    free = random_states(network, 1, seed)
    states = nudge(network, free, [0.2 - 0.3j], SquaredError(), 2, order)
    targets = torch.zeros_like(free[-1])
    targets[:, 0] = 1.0
    expected = naive_settle(
        network,
        [state + 0j for state in free],
        update_groups(network, order),
        2,
        0.2 - 0.3j,
        SquaredError(),
        targets,
    )
    for result, reference in zip(states, expected, strict=True):
        scale = 1.0 + float(reference.abs().max())
        torch.testing.assert_close(result, reference, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_conjugate_betas_give_conjugate_states(
    network: HopfieldNetwork, random_states: RandomStates, cost: Cost
) -> None:
    free = random_states(network, 3, 1)
    states = nudge(network, free, [0.4 + 0.3j, 0.4 - 0.3j], cost, 15)
    for layer in network.free_layers:
        above, below = states[layer].chunk(2)
        assert above.imag.norm() > 1e-8
        torch.testing.assert_close(below, above.conj().resolve_conj(), rtol=1e-12, atol=1e-12)


def test_a_complex_number_on_the_real_axis_is_a_real_beta(
    network: HopfieldNetwork, random_states: RandomStates
) -> None:
    free = random_states(network, 2, 2)
    cost = SquaredError()
    for result, expected in zip(
        nudge(network, free, [complex(0.3)], cost), nudge(network, free, [0.3], cost), strict=True
    ):
        assert not result.imag.any()
        torch.testing.assert_close(result.real, expected, rtol=1e-12, atol=1e-12)


def test_equilibria_are_holomorphic_in_beta(
    network: HopfieldNetwork, random_states: RandomStates
) -> None:
    """Cauchy-Riemann by finite differences of the settled output."""
    free = settle(network, random_states(network, 2, 3)[0], iterations=400, tolerance=1e-14)
    step, beta = 1e-4, 0.2 + 0.1j
    betas = [beta + step, beta - step, beta + 1j * step, beta - 1j * step]
    right, left, up, down = nudge(network, list(free), betas, SquaredError(), 300)[-1].chunk(4)
    along, across = (right - left) / (2 * step), (up - down) / (2j * step)
    assert along.abs().max() > 1e-2
    torch.testing.assert_close(along, across, rtol=1e-5, atol=1e-7)


def test_free_states_may_be_complex_already(
    network: HopfieldNetwork, random_states: RandomStates
) -> None:
    free = random_states(network, 2, 4)
    expected = nudge(network, free, [0.2j], SquaredError())
    states = nudge(network, [state + 0j for state in free], [0.2j], SquaredError())
    assert all(torch.equal(a, b) for a, b in zip(states, expected, strict=True))


@pytest.mark.parametrize("beta", [0.1j, complex(0.1)])
def test_activations_that_are_not_holomorphic_are_refused(
    narrow: Narrow, random_states: RandomStates, beta: complex
) -> None:
    network = narrow("mlp", alpha=2.0)
    message = (
        "activation: ReLUAlpha(alpha=2) of layer 1 is not allowed with a complex beta; must be "
        "holomorphic (sigmoid)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        nudge(network, random_states(network, 2, 5), [0.1, beta], SquaredError())


def test_one_layer_that_is_not_holomorphic_is_enough(
    narrow: Narrow, random_states: RandomStates
) -> None:
    class Cube(Activation):
        """An activation that does not say that it is holomorphic."""

    source = narrow("mlp", activation="sigmoid")
    layers = list(source.layers)
    layers[2] = Layer(layers[2].shape, Cube())
    network = HopfieldNetwork(layers, source.edge_list())
    with pytest.raises(ValueError, match="of layer 2 is not allowed with a complex beta"):
        nudge(network, random_states(source, 2, 6), [0.1j], SquaredError())
