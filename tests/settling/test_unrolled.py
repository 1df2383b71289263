"""Iterations recorded by autograd: the same states, and gradients of the settled output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.settling import ORDERS, settle, unrolled

Narrow = Callable[..., HopfieldNetwork]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
NAMES = ["mlp", "vgg5", "hopfield_resnet13"]


@pytest.mark.parametrize("activation", ["relu_alpha", "sigmoid"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NAMES)
def test_states_are_those_of_settling(
    narrow: Narrow, random_states: RandomStates, name: str, order: str, activation: str
) -> None:
    network = narrow(name, activation=activation)
    states = random_states(network, 2, 0)
    before = [state.clone() for state in states]
    settled = settle(network, states[0], iterations=5, order=order, initial=states)
    for record in (True, False):
        with torch.set_grad_enabled(record):
            result = unrolled(network, states, 5, order)
        for layer in network.free_layers:
            assert result[layer].requires_grad == record
            torch.testing.assert_close(result[layer], settled[layer], rtol=1e-12, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(states, before, strict=True))


@pytest.mark.parametrize("activation", ["relu_alpha", "sigmoid"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_settled_output(
    narrow: Narrow, random_states: RandomStates, name: str, activation: str
) -> None:
    """Against finite differences of settling along a random direction of every parameter."""
    network = narrow(name, activation=activation)
    images = random_states(network, 2, 1)[0]
    generator = torch.Generator().manual_seed(2)
    weighting = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    output = unrolled(network, network.rest(images), 6)[-1]
    parameters = list(network.parameters())
    gradients = torch.autograd.grad((weighting * output).sum(), parameters)
    step = 1e-6
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
                values.append((weighting * settle(network, images, iterations=6).output).sum())
                parameter.sub_(direction, alpha=sign * step)
        expected = (values[0] - values[1]) / (2 * step)
        slope = (gradient * direction).sum()
        assert abs(slope - expected) <= 1e-6 * (1.0 + abs(expected))
    assert all(gradient.any() for gradient in gradients)


def test_gradients_reach_the_images(narrow: Narrow, random_states: RandomStates) -> None:
    network = narrow("hopfield_resnet13")
    images = random_states(network, 2, 3)[0].requires_grad_()
    output = unrolled(network, network.rest(images), 12)[-1]
    (gradient,) = torch.autograd.grad(output.sum(), images)
    assert gradient.any()
