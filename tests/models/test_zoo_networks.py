"""The paper's networks at full width: shapes, edges, order and counts of parameters."""

from __future__ import annotations

import pytest
import torch

from neurosim_ep.models import (
    Convolution,
    Dense,
    HopfieldNetwork,
    Linear,
    PooledConvolution,
    ReLUAlpha,
    hopfield_resnet13,
    mlp,
    vgg5,
)

# (pre, post, kernel, stride, padding), in parameter order; the dense head follows.
RESNET_EDGES = [
    (0, 1, 3, 1, 1),
    (1, 2, 3, 2, 1),
    (0, 2, 1, 2, 0),
    (2, 3, 3, 1, 1),
    (2, 4, 1, 2, 0),
    (3, 4, 3, 2, 1),
    (4, 5, 3, 1, 1),
    (4, 6, 1, 2, 0),
    (5, 6, 3, 2, 1),
    (6, 7, 3, 1, 1),
    (6, 8, 1, 2, 0),
    (7, 8, 3, 2, 1),
]
RESNET_STATES = [
    (3, 32, 32),
    (128, 32, 32),
    (128, 16, 16),
    (256, 16, 16),
    (256, 8, 8),
    (512, 8, 8),
    (512, 4, 4),
    (512, 4, 4),
    (512, 2, 2),
    (10,),
]
RESNET_WEIGHTS = [
    (128, 3, 3, 3),
    (128, 128, 3, 3),
    (128, 3, 1, 1),
    (256, 128, 3, 3),
    (256, 128, 1, 1),
    (256, 256, 3, 3),
    (512, 256, 3, 3),
    (512, 256, 1, 1),
    (512, 512, 3, 3),
    (512, 512, 3, 3),
    (512, 512, 1, 1),
    (512, 512, 3, 3),
    (512, 2, 2, 10),
]
VGG_STATES = [(3, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2), (10,)]
VGG_WEIGHTS = [
    (128, 3, 3, 3),
    (256, 128, 3, 3),
    (512, 256, 3, 3),
    (512, 512, 3, 3),
    (512, 2, 2, 10),
]


@pytest.fixture(scope="module")
def resnet() -> HopfieldNetwork:
    with torch.device("meta"):
        return hopfield_resnet13()


@pytest.fixture(scope="module")
def vgg() -> HopfieldNetwork:
    with torch.device("meta"):
        return vgg5()


def parameter_shapes(network: HopfieldNetwork) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in network.parameters()]


def states(network: HopfieldNetwork) -> list[tuple[int, ...]]:
    return [layer.shape for layer in network.layers]


def test_hopfield_resnet13_states_and_parameters(resnet: HopfieldNetwork) -> None:
    assert states(resnet) == RESNET_STATES
    biases: list[tuple[int, ...]] = [(shape[0],) for shape in RESNET_STATES[1:]]
    assert parameter_shapes(resnet) == biases + RESNET_WEIGHTS
    assert [tuple(weight.shape) for weight in resnet.weights] == RESNET_WEIGHTS
    count = sum(parameter.numel() for parameter in resnet.parameters())
    assert round(count / 1e6, 2) == 9.74


def test_hopfield_resnet13_edges(resnet: HopfieldNetwork) -> None:
    *convolutions, head = resnet.edge_list()
    found = []
    for edge in convolutions:
        assert type(edge.geometry) is Convolution
        geometry = edge.geometry
        found.append((edge.pre, edge.post, geometry.kernel, geometry.stride, geometry.padding))
    assert found == RESNET_EDGES
    assert type(head.geometry) is Dense
    assert (head.pre, head.post) == (8, 9)


def test_vgg5_states_and_parameters(vgg: HopfieldNetwork) -> None:
    assert states(vgg) == VGG_STATES
    biases: list[tuple[int, ...]] = [(shape[0],) for shape in VGG_STATES[1:]]
    assert parameter_shapes(vgg) == biases + VGG_WEIGHTS
    count = sum(parameter.numel() for parameter in vgg.parameters())
    assert round(count / 1e6, 2) == 3.86


def test_vgg5_edges(vgg: HopfieldNetwork) -> None:
    edges = vgg.edge_list()
    assert [(edge.pre, edge.post) for edge in edges] == [(i, i + 1) for i in range(5)]
    for edge in edges[:4]:
        assert type(edge.geometry) is PooledConvolution
        assert (edge.geometry.kernel, edge.geometry.stride, edge.geometry.padding) == (3, 1, 1)
    assert type(edges[4].geometry) is Dense


def test_hidden_layers_are_relu6_and_the_output_linear(
    resnet: HopfieldNetwork, vgg: HopfieldNetwork
) -> None:
    for network in (resnet, vgg, mlp((1, 4, 4), 3, (5, 6))):
        *hidden, output = (layer.activation for layer in network.layers[1:])
        assert isinstance(output, Linear)
        for activation in hidden:
            assert isinstance(activation, ReLUAlpha)
            assert activation.alpha == 6.0


def test_mlp() -> None:
    network = mlp((2, 3, 3), 4, (6, 5))
    assert states(network) == [(2, 3, 3), (6,), (5,), (4,)]
    assert parameter_shapes(network) == [(6,), (5,), (4,), (2, 3, 3, 6), (6, 5), (5, 4)]
    assert [(edge.pre, edge.post) for edge in network.edge_list()] == [(0, 1), (1, 2), (2, 3)]
    assert states(mlp()) == [(1, 28, 28), (512,), (10,)]


def test_an_mlp_may_have_no_hidden_layer() -> None:
    assert states(mlp((1, 2, 2), 3, ())) == [(1, 2, 2), (3,)]
