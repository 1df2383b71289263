"""Residual, tolerance, fixed points, and settlings that do not settle."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import (
    Activation,
    Dense,
    Edge,
    HopfieldNetwork,
    Layer,
    ReLUAlpha,
    SquaredError,
    mlp,
)
from neurosim_ep.settling import (
    UNSETTLED_RESIDUAL,
    States,
    relative_change,
    settle,
    settle_nudged,
)

Narrow = Callable[..., HopfieldNetwork]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
NAMES = ["mlp", "vgg5", "hopfield_resnet13"]


def residual(before: States, after: States) -> list[float]:
    """||after - before|| / ||after|| of every image, over all layers but the input."""
    found = []
    for image in range(after[0].shape[0]):
        pairs = zip(before[1:], after[1:], strict=True)
        change = sum(float((b[image] - a[image]).square().sum()) for a, b in pairs)
        size = sum(float(b[image].square().sum()) for b in after[1:])
        found.append(math.sqrt(change / size))
    return found


@pytest.mark.parametrize("activation", ["relu_alpha", "sigmoid"])
@pytest.mark.parametrize("name", NAMES)
def test_converged_states_are_a_fixed_point(
    narrow: Narrow,
    random_states: RandomStates,
    naive_current: Callable[..., Tensor],
    naive_update: Callable[[Activation, Tensor], Tensor],
    name: str,
    activation: str,
) -> None:
    network = narrow(name, activation=activation)
    images = random_states(network, 3, 4)[0]
    states = settle(network, images, iterations=2000, tolerance=1e-13)
    assert states.settled.all()
    for layer in network.free_layers:
        current = naive_current(network, list(states), layer)
        expected = naive_update(network.layers[layer].activation, current)
        torch.testing.assert_close(states[layer], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beta", [0.5, -0.5])
def test_nudged_equilibrium_balances_energy_and_cost(
    narrow: Narrow,
    random_states: RandomStates,
    naive_current: Callable[..., Tensor],
    beta: float,
) -> None:
    """At equilibrium the output is (currents + bias + beta y) / (1 + beta)."""
    network, cost = narrow("vgg5"), SquaredError()
    targets = cost.targets(torch.tensor([1, 2]), 4, torch.float64)
    free = settle(network, random_states(network, 2, 5)[0])
    states = settle_nudged(network, free, targets, [beta], cost, iterations=2000, tolerance=1e-13)
    assert states.settled.all()
    current = naive_current(network, list(states), network.output)
    expected = (current + beta * targets) / (1 + beta)
    torch.testing.assert_close(states.output, expected, rtol=1e-10, atol=1e-10)
    assert (states.output - free.output).norm() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_residual_is_the_last_iterations_relative_change(
    narrow: Narrow, random_states: RandomStates, name: str
) -> None:
    network = narrow(name)
    images = random_states(network, 3, 6)[0]
    for iterations in (2, 5):
        before, after = (
            settle(network, images, iterations=n) for n in (iterations - 1, iterations)
        )
        assert after.residual.tolist() == pytest.approx(residual(before, after), rel=1e-9)
    assert settle(network, images, iterations=1).residual.tolist() == pytest.approx([1.0] * 3)


def test_relative_change_of_complex_states() -> None:
    old = [torch.tensor([[9j]]), torch.tensor([[1 + 1j, 0j]]), torch.tensor([[[[2j]]]])]
    new = [torch.tensor([[0j]]), torch.tensor([[1 - 1j, 3 + 0j]]), torch.tensor([[[[0j]]]])]
    change = relative_change(old, new)
    assert change.dtype == torch.float32
    assert change.tolist() == pytest.approx([math.sqrt((4 + 9 + 4) / (2 + 9))])


def test_states_that_stay_zero_have_settled() -> None:
    zeros = [torch.zeros(2, 3)] * 2
    assert relative_change(zeros, zeros).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_tolerance_stops_as_soon_as_every_image_is_within(
    narrow: Narrow, random_states: RandomStates, name: str
) -> None:
    network, tolerance = narrow(name), 1e-5
    images = random_states(network, 4, 7)[0]
    states = settle(network, images, iterations=500, tolerance=tolerance)
    assert 1 < states.iterations < 500
    assert states.tolerance == tolerance
    assert states.residual.max() <= tolerance
    assert states.settled.all()
    earlier = settle(network, images, iterations=states.iterations - 1)
    assert earlier.residual.max() > tolerance
    counted = settle(network, images, iterations=states.iterations)
    assert all(torch.equal(a, b) for a, b in zip(states, counted, strict=True))
    assert torch.equal(states.residual, counted.residual)


def test_the_slowest_image_decides(narrow: Narrow, random_states: RandomStates) -> None:
    network = narrow("hopfield_resnet13")
    images = random_states(network, 4, 8)[0]
    alone = [
        settle(network, image.unsqueeze(0), iterations=500, tolerance=1e-6).iterations
        for image in images
    ]
    together = settle(network, images, iterations=500, tolerance=1e-6).iterations
    assert together == max(alone) > min(alone)


@pytest.mark.parametrize("iterations", [1, 3])
def test_never_more_iterations_than_the_maximum(
    narrow: Narrow, random_states: RandomStates, iterations: int
) -> None:
    network = narrow("hopfield_resnet13")
    images = random_states(network, 2, 9)[0]
    states = settle(network, images, iterations=iterations, tolerance=1e-14)
    assert states.iterations == iterations
    assert not states.settled.any()
    assert states.residual.min() > 1e-14


def test_a_nudged_phase_stops_at_its_tolerance(narrow: Narrow, random_states: RandomStates) -> None:
    network, cost = narrow("mlp"), SquaredError()
    free = settle(network, random_states(network, 2, 10)[0])
    targets = cost.targets(torch.tensor([0, 1]), 4, torch.float64)
    states = settle_nudged(
        network, free, targets, [0.2, -0.2], cost, iterations=400, tolerance=1e-7
    )
    assert states.residual.shape == (4,)
    assert 1 < states.iterations < 400
    assert states.residual.max() <= 1e-7


def test_oscillations_are_reported() -> None:
    """Two layers that inhibit each other strongly switch on and off together."""
    network = mlp((1, 2, 2), 2, (6, 5), alpha=1.0).double()
    with torch.no_grad():
        network.weights[1].fill_(-1.0)
        for bias in network.biases:
            bias.fill_(1.0)
    images = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    states = settle(network, images, iterations=500, order="synchronous")
    assert states.tolerance == UNSETTLED_RESIDUAL == 1e-2
    assert states.residual.isfinite().all()
    assert not states.settled.any()
    within = settle(network, images, iterations=500, order="synchronous", tolerance=1e-4)
    assert within.iterations == 500
    assert not within.settled.any()
    assert settle(network, images, iterations=500, order="coloured").settled.all()


def test_nan_has_not_settled() -> None:
    tensors = [torch.zeros(3, 1)] * 2
    states = States(tensors, torch.tensor([math.nan, 0.0, math.inf]), 5)
    assert states.settled.tolist() == [False, True, False]


def test_falling_to_zero_at_once_is_a_change_and_no_divergence() -> None:
    network = mlp((1, 1, 2), 1, (3,))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    images = torch.zeros(1, 1, 1, 2)
    start = [images, torch.full((1, 3), 6.0), torch.ones(1, 1)]
    first = settle(network, images, iterations=1, initial=start)
    assert not first.settled.any()
    second = settle(network, images, iterations=2, initial=start)
    assert second.settled.all()
    assert not second.output.any()


def linear_network() -> HopfieldNetwork:
    """Unbounded layers that amplify each other."""
    edges = [Edge(0, 1, Dense((2,), (3,))), Edge(1, 2, Dense((3,), (2,)))]
    network = HopfieldNetwork([Layer((2,)), Layer((3,)), Layer((2,))], edges)
    with torch.no_grad():
        for weight in network.weights:
            weight.fill_(2.0)
    return network


@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_divergence_is_an_error(tolerance: float | None) -> None:
    message = r"^settling: states are not finite after 200 iterations; the network diverges"
    with pytest.raises(ValueError, match=message):
        settle(linear_network(), torch.ones(1, 2), iterations=200, tolerance=tolerance)
    network = HopfieldNetwork(
        [Layer((2,)), Layer((3,), ReLUAlpha()), Layer((2,))], linear_network().edge_list()
    )
    assert settle(network, torch.ones(1, 2), iterations=200).settled.all()


def test_a_nan_in_one_image_is_an_error(narrow: Narrow) -> None:
    images = torch.ones(2, 2, 3, 3, dtype=torch.float64)
    images[1, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"^settling: states are not finite after 4 iterations"):
        settle(narrow("mlp"), images, iterations=4)


def test_states_are_a_sequence(narrow: Narrow, random_states: RandomStates) -> None:
    network = narrow("vgg5")
    states = settle(network, random_states(network, 2, 11)[0], iterations=2)
    assert len(states) == 6
    assert states[-1] is states.output
    assert states[1:3] == states.tensors[1:3]
    for state, layer in zip(states, network.layers, strict=True):
        assert state.shape == (2, *layer.shape)
        assert state.dtype == torch.float64
        assert not state.requires_grad
