"""Settled problems, gradients by finite differences and by autograd, and small trainings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from neurosim_ep.data import Dataset, Split, load
from neurosim_ep.learning import truncated_backpropagation
from neurosim_ep.models import (
    Activation,
    Convolution,
    Cost,
    CrossEntropy,
    Dense,
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    Sigmoid,
    SquaredError,
    hopfield_resnet13,
    mlp,
    vgg5,
)
from neurosim_ep.settling import States, settle

COSTS: dict[str, Cost] = {"squared error": SquaredError(), "cross entropy": CrossEntropy()}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- problems ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A network in float64, images and labels, and a cost."""

    network: HopfieldNetwork
    images: Tensor
    labels: Tensor
    cost: Cost

    def gradients(self) -> list[Tensor]:
        """What every parameter's ``.grad`` holds now, copied."""
        grads = []
        for parameter in self.network.parameters():
            assert parameter.grad is not None
            grads.append(parameter.grad.clone())
        return grads


def _graph(activation: str) -> HopfieldNetwork:
    """Skips, a pooled edge, strides, parallel edges, identities, an edge backwards."""

    def unit() -> Activation:
        return Sigmoid() if activation == "sigmoid" else ReLUAlpha(2.0)

    shapes = [(1, 4, 4), (2, 4, 4), (2, 2, 2), (3,), (3,)]
    layers = [Layer(shapes[0]), *(Layer(shape, unit()) for shape in shapes[1:-1])]
    edges = [
        Edge(0, 1, Convolution(shapes[0], 2, kernel=3, padding=1)),
        Edge(1, 2, PooledConvolution(shapes[1], 2, kernel=1)),
        Edge(0, 2, Convolution(shapes[0], 2, kernel=2, stride=2)),
        Edge(0, 2, Convolution(shapes[0], 2, kernel=1, stride=2)),
        Edge(1, 2, Convolution(shapes[1], 2, kernel=2, stride=2)),
        Edge(1, 2, Identity(shapes[1], shapes[2], strength=0.3)),
        Edge(2, 1, Convolution(shapes[2], 2, kernel=1, padding=1)),
        Edge(2, 3, Dense(shapes[2], shapes[3])),
        Edge(3, 4, Dense(shapes[3], shapes[4])),
        Edge(3, 4, Identity(shapes[3], shapes[4], strength=0.2)),
    ]
    return HopfieldNetwork([*layers, Layer(shapes[-1])], edges)


def _network(name: str, activation: str) -> HopfieldNetwork:
    if name == "mlp":
        return mlp((1, 2, 2), 3, (4, 3), activation=activation)
    if name == "vgg5":
        return vgg5(1, 3, (2, 3, 2, 3), image_size=16, activation=activation)
    if name == "hopfield_resnet13":
        return hopfield_resnet13(1, 3, (2, 3, 2, 3), image_size=16, activation=activation)
    if name == "identity skips":
        network = hopfield_resnet13(
            1, 3, (2, 3, 2, 3), image_size=16, skip="identity", activation=activation
        )
        for edge in network.edge_list():
            if isinstance(edge.geometry, Identity):
                edge.geometry.strength = 0.3  # A chain of identities of strength 1 runs away.
        return network
    return _graph(activation)


_SCALES = {"mlp": 1.2, "vgg5": 1.2, "hopfield_resnet13": 0.6, "identity skips": 0.7, "graph": 0.45}


@functools.cache
def _problem(name: str, activation: str = "relu_alpha", cost: str = "squared error") -> Problem:
    network = _network(name, activation).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for bias in network.biases[:-1]:
            drawn = torch.rand(bias.shape, generator=generator, dtype=torch.float64)
            bias.copy_(0.3 + 0.4 * drawn)  # No layer is all zeros: every weight has a gradient.
        for edge in network.edge_list():
            for weight in edge.parameters():
                drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
                weight.copy_(_SCALES[name] * (2.0 * drawn - 1.0) / edge.geometry.fan_in**0.5)
    shape = (3, *network.layers[0].shape)
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    return Problem(network, images, torch.tensor([2, 0, 1]), COSTS[cost])


@pytest.fixture(scope="session")
def problem() -> Callable[..., Problem]:
    """A problem that settles: (network's name[, activation, cost]); its weights stay."""
    return _problem


@dataclass(frozen=True)
class Reference:
    """The free states of a problem and its gradient by backpropagation through settling."""

    free: States
    gradients: list[Tensor]


# --- references --------------------------------------------------------------------------------


def _pattern(network: HopfieldNetwork, states: Sequence[Tensor]) -> list[Tensor]:
    """Which units are at a bound, and which currents win their pooling window."""
    pattern = []
    for layer in network.free_layers:
        activation = network.layers[layer].activation
        if isinstance(activation, ReLUAlpha):
            pattern += [states[layer] <= 0.0, states[layer] >= activation.alpha]
    for edge in network.edge_list():
        if edge.geometry.pooled:
            currents = edge.storage.forward_read(states[edge.pre])
            pattern.append(edge.geometry.pool(currents)[1])
    return pattern


def _same_pattern(
    network: HopfieldNetwork, states: Sequence[Tensor], others: Sequence[Tensor]
) -> bool:
    pairs = zip(_pattern(network, states), _pattern(network, others), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _settled(
    problem: Problem, initial: Sequence[Tensor] | None = None, tolerance: float = 1e-14
) -> States:
    states = settle(
        problem.network, problem.images, iterations=2000, tolerance=tolerance, initial=initial
    )
    assert bool((states.residual <= tolerance).all())
    return states


def _settled_cost(problem: Problem, initial: States) -> float:
    """Mean C(s*(theta)), in the free state's linear region."""
    states = _settled(problem, initial, tolerance=1e-14)
    assert _same_pattern(problem.network, initial, states)
    target = torch.eye(3, dtype=torch.float64)[problem.labels]
    if isinstance(problem.cost, SquaredError):
        cost = ((states.output - target) ** 2).sum(1) / 2
    else:
        cost = states.output.exp().sum(1).log() - (states.output * target).sum(1)
    return float(cost.mean())


@torch.no_grad()
def _slope(problem: Problem, free: States, parameter: Tensor, direction: Tensor) -> float:
    step, kept = 1e-5, parameter.clone()
    try:
        parameter.copy_(kept + step * direction)
        above = _settled_cost(problem, free)
        parameter.copy_(kept - step * direction)
        below = _settled_cost(problem, free)
    finally:
        parameter.copy_(kept)
    return (above - below) / (2.0 * step)


@functools.cache
def _finite_differences(name: str, activation: str, cost: str) -> list[Tensor]:
    problem = _problem(name, activation, cost)
    free = _settled(problem)
    gradients = []
    for parameter in problem.network.parameters():
        gradient = torch.zeros_like(parameter)
        for place in range(parameter.numel()):
            direction = torch.zeros(parameter.numel(), dtype=torch.float64)
            direction[place] = 1.0
            slope = _slope(problem, free, parameter, direction.view(parameter.shape))
            gradient[direction.view(parameter.shape).bool()] = slope
        gradients.append(gradient)
    return gradients


@functools.cache
def _directional(name: str, activation: str, cost: str) -> list[tuple[Tensor, float]]:
    problem = _problem(name, activation, cost)
    free = _settled(problem)
    generator = torch.Generator().manual_seed(4)
    found = []
    for parameter in problem.network.parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction = direction / direction.norm()
        found.append((direction, _slope(problem, free, parameter, direction)))
    return found


@pytest.fixture(scope="session")
def finite_differences() -> Callable[[str, str, str], list[Tensor]]:
    """Central differences of the settled cost in every parameter of a named problem."""
    return _finite_differences


@pytest.fixture(scope="session")
def directional_differences() -> Callable[[str, str, str], list[tuple[Tensor, float]]]:
    """One random direction per parameter tensor, and the settled cost's slope along it."""
    return _directional


@functools.cache
def _reference(name: str, activation: str = "relu_alpha", cost: str = "squared error") -> Reference:
    problem = _problem(name, activation, cost)
    free = _settled(problem)
    truncated_backpropagation(
        problem.network,
        problem.images,
        problem.labels,
        cost=problem.cost,
        free_iterations=free.iterations,
        steps=150,
    )
    return Reference(free, problem.gradients())


@pytest.fixture(scope="session")
def reference() -> Callable[..., Reference]:
    """Free states, and dC/dtheta by `truncated_backpropagation`, of a named problem."""
    return _reference


@pytest.fixture(scope="session")
def settled() -> Callable[[Problem], States]:
    """Free states whose residual is asserted to be below 1e-14."""
    return _settled


@pytest.fixture(scope="session")
def same_pattern() -> Callable[[HopfieldNetwork, Sequence[Tensor], Sequence[Tensor]], bool]:
    """Whether two sets of states have the same units at bounds and the same pooling winners."""
    return _same_pattern


def _errors(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> list[float]:
    for tensor in wanted:
        assert float(tensor.norm()) > 0.0
    pairs = zip(found, wanted, strict=True)
    return [float((a - b).norm() / b.norm()) for a, b in pairs]


@pytest.fixture(scope="session")
def errors() -> Callable[[Sequence[Tensor], Sequence[Tensor]], list[float]]:
    """Relative error of every tensor; 1e-3 means a cosine above 0.999999 and the right length."""
    return _errors


# --- data --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """500 training and 360 test images of the digits."""
    data = load("digits")
    return Dataset(data.name, data.variant, data.train.first(500), data.test, data.class_names)


@pytest.fixture(scope="session")
def few_images() -> Split:
    """Eleven random images of three classes, (1, 4, 4)."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (11, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(3, (11,), generator=generator))
