"""Backpropagation through settling against autograd through a loop written out here."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from neurosim_ep.learning import truncated_backpropagation
from neurosim_ep.models import ReLUAlpha, Sigmoid
from neurosim_ep.settling import settle, update_groups


def unrolled_gradients(
    problem, start: Sequence[Tensor], steps: int, order: str
) -> tuple[Tensor, list[Tensor | None]]:
    """Every current is -dE/ds by autograd, recorded; then C is differentiated through the loop."""
    network = problem.network
    states = [state.detach().clone().requires_grad_() for state in start]
    for _ in range(steps):
        for group in update_groups(network, order):
            # Aliases: the slopes are partial, not through what earlier states have led to.
            moving = [state.view_as(state) for state in states]
            energy = network.energy(moving).sum()
            slopes = torch.autograd.grad(energy, [moving[n] for n in group], create_graph=True)
            for layer, slope in zip(group, slopes, strict=True):
                activation = network.layers[layer].activation
                if isinstance(activation, ReLUAlpha):
                    states[layer] = (-slope).clamp(0.0, activation.alpha)
                elif isinstance(activation, Sigmoid):
                    states[layer] = 1.0 / (1.0 + torch.exp(2.0 + 4.0 * slope))
                else:
                    states[layer] = -slope
    targets = torch.eye(3, dtype=torch.float64)[problem.labels]
    value = problem.cost.value(states[-1], targets)
    gradients = torch.autograd.grad(value.mean(), list(network.parameters()), allow_unused=True)
    return value.detach(), list(gradients)


@pytest.mark.parametrize("order", ["coloured", "asynchronous", "synchronous", "backward"])
@pytest.mark.parametrize(
    ("name", "activation", "cost"),
    [
        ("mlp", "relu_alpha", "squared error"),
        ("mlp", "sigmoid", "cross entropy"),
        ("graph", "relu_alpha", "cross entropy"),
        ("graph", "sigmoid", "squared error"),
        ("vgg5", "relu_alpha", "squared error"),
        ("hopfield_resnet13", "relu_alpha", "cross entropy"),
        ("identity skips", "relu_alpha", "squared error"),
    ],
)
def test_it_equals_autograd_through_a_naive_loop(
    problem, errors, name: str, activation: str, cost: str, order: str
) -> None:
    given, steps = problem(name, activation, cost), 10
    start = settle(given.network, given.images, iterations=5, order=order)
    value, wanted = unrolled_gradients(given, start, steps, order)
    found = truncated_backpropagation(
        given.network,
        given.images,
        given.labels,
        cost=given.cost,
        free_iterations=5,
        steps=steps,
        order=order,
    )
    torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-12)
    assert all(tensor is not None for tensor in wanted)
    assert max(errors(given.gradients(), [t for t in wanted if t is not None])) < 1e-10


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_truncation_reaches_only_so_far(problem, steps: int) -> None:
    given = problem("mlp")
    start = settle(given.network, given.images, iterations=20, order="synchronous")
    _, wanted = unrolled_gradients(given, start, steps, "synchronous")
    truncated_backpropagation(
        given.network,
        given.images,
        given.labels,
        free_iterations=20,
        steps=steps,
        order="synchronous",
    )
    for parameter, tensor in zip(given.network.parameters(), wanted, strict=True):
        if tensor is None:
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, tensor, rtol=1e-10, atol=1e-14)


def test_it_replaces_gradients_and_defaults_to_squared_error(problem) -> None:
    given = problem("mlp")

    def gradients(**options) -> list[Tensor]:
        truncated_backpropagation(
            given.network, given.images, given.labels, free_iterations=9, steps=9, **options
        )
        return given.gradients()

    first = gradients()
    for found, once in zip(gradients(cost=given.cost), first, strict=True):
        assert torch.equal(found, once)


@pytest.mark.parametrize("wrong", [{"free_iterations": 0}, {"steps": 0}, {"order": "random"}])
def test_arguments_out_of_range(problem, wrong: dict[str, object]) -> None:
    given = problem("mlp")
    with pytest.raises(ValueError, match="is not allowed; must be"):
        truncated_backpropagation(given.network, given.images, given.labels, **wrong)
