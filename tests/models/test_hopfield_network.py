"""The energy against loops over units, states at rest, and the order of parameters."""

from __future__ import annotations

import copy
import itertools
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    mlp,
    vgg5,
)

LAYERS = [
    Layer((2, 4, 4)),
    Layer((2, 4, 4), ReLUAlpha()),
    Layer((3, 2, 2), ReLUAlpha()),
    Layer((5,)),
]


def every_kind() -> HopfieldNetwork:
    """Every geometry, skips, parallel edges, and edges that lead backwards and into the input."""
    edges = [
        Edge(0, 1, Convolution((2, 4, 4), 2, kernel=3, padding=1)),
        Edge(1, 2, PooledConvolution((2, 4, 4), 3, kernel=3, padding=1)),
        Edge(1, 2, Convolution((2, 4, 4), 3, kernel=2, stride=2)),
        Edge(0, 2, Identity((2, 4, 4), (3, 2, 2), strength=0.5)),
        Edge(2, 3, Dense((3, 2, 2), (5,))),
        Edge(0, 3, Dense((2, 4, 4), (5,))),
        Edge(3, 1, Dense((5,), (2, 4, 4))),
        Edge(2, 0, Dense((3, 2, 2), (2, 4, 4))),
    ]
    return HopfieldNetwork(LAYERS, edges).double()


@pytest.fixture
def network(draw: Any) -> HopfieldNetwork:
    """That network with random weights and biases."""
    network = every_kind()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(draw(*parameter.shape))
    return network


def places(tensor: Tensor) -> itertools.product[tuple[int, ...]]:
    """All indices of a tensor."""
    return itertools.product(*map(range, tensor.shape))


def current(edge: Edge, weight: list[Any], pre: Any, place: tuple[int, ...]) -> float:
    """Current into one unit of an edge's post layer, before pooling, by loops."""
    geometry = edge.geometry
    if isinstance(geometry, Identity):
        c, y, x = place
        step = geometry.stride
        return geometry.strength * pre[c][step * y][step * x] if c < len(pre) else 0.0
    if isinstance(geometry, Dense):
        source = torch.tensor(pre, dtype=torch.float64)
        table = torch.tensor(weight, dtype=torch.float64)
        return sum(float(source[p]) * float(table[p + place]) for p in places(source))
    assert isinstance(geometry, Convolution)
    o, y, x = place
    total = 0.0
    for c, plane in enumerate(pre):
        for i, j in itertools.product(range(geometry.kernel), repeat=2):
            row = y * geometry.stride + i - geometry.padding
            column = x * geometry.stride + j - geometry.padding
            if 0 <= row < len(plane) and 0 <= column < len(plane[0]):
                total += weight[o][c][i][j] * plane[row][column]
    return total


def looped_energy(network: HopfieldNetwork, states: list[Tensor]) -> float:
    """-sum <post, op(pre)> - sum <bias, state> of one image, unit by unit."""
    total = 0.0
    for layer, bias in zip(states[1:], network.biases, strict=True):
        for place in places(layer):
            total -= bias[place[0]].item() * float(layer[place])
    for edge in network.edge_list():
        pre, post = states[edge.pre].tolist(), states[edge.post]
        weight = next((parameter.tolist() for parameter in edge.parameters()), [])
        for place in places(post):
            if edge.geometry.pooled:
                o, y, x = place
                window = itertools.product((2 * y, 2 * y + 1), (2 * x, 2 * x + 1))
                read = max(current(edge, weight, pre, (o, *where)) for where in window)
            else:
                read = current(edge, weight, pre, place)
            total -= float(post[place]) * read
    return total


def test_energy_is_the_sum_over_units(network: HopfieldNetwork, draw: Any) -> None:
    states = [draw(2, *layer.shape) for layer in LAYERS]
    energy = network.energy(states)
    assert energy.shape == (2,)
    for image in range(2):
        expected = looped_energy(network, [state[image] for state in states])
        assert energy[image].item() == pytest.approx(expected, rel=1e-12)


def test_complex_energy_is_the_same_polynomial(network: HopfieldNetwork, draw: Any) -> None:
    """At fixed winners E is a polynomial: shifted along the imaginary axis of one layer, linear."""
    states = [draw(2, *layer.shape) + 0j for layer in LAYERS]
    shift = draw(2, *LAYERS[3].shape)
    moved = [*states[:3], states[3] + 1j * shift]
    with torch.no_grad():
        base = network.energy(states)
        along = network.energy([*states[:3], states[3] + shift]) - base
        torch.testing.assert_close(network.energy(moved), base + 1j * along)


def test_parameters_are_biases_then_weights_in_edge_order() -> None:
    network = every_kind()
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    assert shapes == [
        (2,),
        (3,),
        (5,),
        (2, 2, 3, 3),
        (3, 2, 3, 3),
        (3, 2, 2, 2),
        (3, 2, 2, 5),
        (2, 4, 4, 5),
        (5, 2, 4, 4),
        (3, 2, 2, 2, 4, 4),
    ]
    assert [tuple(weight.shape) for weight in network.weights] == shapes[3:]


def test_the_graph() -> None:
    network = every_kind()
    assert network.output == 3
    assert list(network.free_layers) == [1, 2, 3]
    assert network.num_outputs == 5
    assert [network.neighbours(layer) for layer in range(4)] == [
        {1, 2, 3},
        {0, 2, 3},
        {0, 1, 3},
        {0, 1, 2},
    ]
    edge = network.edge_list()[6]
    assert (edge.other(3), edge.other(1)) == (1, 3)
    assert "3 -> 1" in repr(edge)


def test_states_at_rest(draw: Any) -> None:
    network = every_kind()
    images = draw(3, 2, 4, 4)
    states = network.rest(images)
    assert states[0] is images
    for layer, state in zip(LAYERS[1:], states[1:], strict=True):
        assert state.shape == (3, *layer.shape)
        assert state.dtype == images.dtype
        assert not state.any()


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (2, 4, 4), (3, 32), (3, 1, 4, 4)], ids=str)
def test_images_must_fit(shape: tuple[int, ...]) -> None:
    message = f"images: shape {shape} is not allowed; must be (batch, 2, 4, 4)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        every_kind().rest(torch.zeros(shape))


def test_copies_keep_layers_and_activations_together() -> None:
    original = vgg5(1, 2, (2, 2, 2, 2), image_size=16, alpha="random")
    twin = copy.deepcopy(original)
    for index, activation in enumerate(twin.activations):
        assert twin.layers[index + 1].activation is activation
        assert original.layers[index + 1].activation is not activation
    source = vgg5(
        1,
        2,
        (2, 2, 2, 2),
        image_size=16,
        alpha="random",
        generator=torch.Generator().manual_seed(9),
    )
    twin.load_state_dict(source.state_dict())
    alphas = [repr(layer.activation) for layer in source.layers]
    assert [repr(layer.activation) for layer in twin.layers] == alphas
    assert [repr(layer.activation) for layer in original.layers] != alphas
    for ours, theirs in zip(twin.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_dtype_follows_the_module() -> None:
    network = mlp((1, 2, 2), 2, (3,))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in network.double().parameters()} == {torch.float64}
