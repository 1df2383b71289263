"""Feed-forward counterparts against torch.nn modules put together by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurosim_ep.models import (
    Dense,
    Edge,
    FeedForward,
    HopfieldNetwork,
    Layer,
    hopfield_resnet13,
    mlp,
    vgg5,
)

WIDTHS = (3, 4, 5, 4)
BUILDERS: dict[str, Callable[..., HopfieldNetwork]] = {
    "vgg5": lambda **options: vgg5(2, 3, WIDTHS, image_size=16, **options),
    "conv1x1": lambda **options: hopfield_resnet13(2, 3, WIDTHS, image_size=17, **options),
    "identity": lambda **options: hopfield_resnet13(
        2, 3, WIDTHS, image_size=17, skip="identity", **options
    ),
    "mlp": lambda **options: mlp((2, 16, 16), 3, (7, 5), **options),
}
ACTIVATIONS: dict[str, tuple[dict[str, object], Callable[[Tensor], Tensor]]] = {
    "relu": ({"activation": "relu"}, nn.ReLU()),
    "relu_alpha": ({"alpha": 0.7}, nn.Hardtanh(0.0, 0.7)),
    "sigmoid": ({"activation": "sigmoid"}, lambda current: 1 / (1 + torch.exp(2 - 4 * current))),
}


def randomised(name: str, batch_norm: bool, **options: object) -> FeedForward:
    """A counterpart in float64 with random biases and batch-norm parameters."""
    model = FeedForward(BUILDERS[name](**options), batch_norm=batch_norm).double()
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for tensor in (*model.biases, *model.norms.parameters()):
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        for tensor in model.norms.buffers():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    return model


def norm_like(module: nn.Module, training: bool) -> nn.Module:
    """A fresh batch norm with the same parameters, or nothing."""
    if not isinstance(module, nn.BatchNorm2d):
        return nn.Identity()
    twin = nn.BatchNorm2d(module.num_features).double()
    twin.load_state_dict(module.state_dict())
    twin.train(training)
    return twin


class ByHand:
    """Modules of torch.nn with a counterpart's parameters."""

    def __init__(self, model: FeedForward, activate: Callable[[Tensor], Tensor]) -> None:
        self.activate = activate
        self.weights = [
            None if not list(edge.parameters()) else next(edge.parameters()).detach()
            for edge in model.edges
        ]
        self.biases: list[Tensor] = [bias.detach() for bias in model.biases]
        self.norms = [norm_like(norm, model.training) for norm in model.norms]

    def convolve(self, number: int, images: Tensor, stride: int, padding: int) -> Tensor:
        weight = self.weights[number]
        assert weight is not None
        out, channels, kernel, _ = weight.shape
        module = nn.Conv2d(channels, out, kernel, stride, padding, bias=False).double()
        with torch.no_grad():
            module.weight.copy_(weight)
        result: Tensor = self.norms[number](module(images))
        return result

    def bias(self, layer: int) -> Tensor:
        return self.biases[layer - 1].view(-1, 1, 1)

    def head(self, states: Tensor) -> Tensor:
        weight = self.weights[-1]
        assert weight is not None
        flat = weight.reshape(-1, weight.shape[-1])
        outputs: Tensor = F.linear(states.flatten(1), flat.T, self.biases[-1])
        return outputs

    def vgg5(self, images: Tensor) -> Tensor:
        states = images
        for number in range(4):
            pooled = nn.MaxPool2d(2)(self.convolve(number, states, 1, 1))
            states = self.activate(pooled + self.bias(number + 1))
        return self.head(states)

    def resnet(self, images: Tensor, main: list[tuple[int, int]], skips: list[int]) -> Tensor:
        """Blocks of two 3x3 convolutions; ``main`` and ``skips`` number the edges."""
        states = images
        for block, ((first, second), skip) in enumerate(zip(main, skips, strict=True)):
            middle = self.activate(self.convolve(first, states, 1, 1) + self.bias(2 * block + 1))
            current = self.convolve(second, middle, 2, 1) + self.bias(2 * block + 2)
            if self.weights[skip] is not None:
                current = current + self.convolve(skip, states, 2, 0)
            else:
                taken = states[:, :, ::2, ::2]
                shared = min(taken.shape[1], current.shape[1])
                current[:, :shared] += taken[:, :shared]
            states = self.activate(current)
        return self.head(states)

    def mlp(self, images: Tensor) -> Tensor:
        states = images.flatten(1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            assert weight is not None
            states = self.activate(F.linear(states, weight.reshape(-1, weight.shape[-1]).T, bias))
        return self.head(states)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", BUILDERS)
def test_forward(name: str, activation: str, batch_norm: bool, training: bool) -> None:
    options, activate = ACTIVATIONS[activation]
    model = randomised(name, batch_norm, **options).train(training)
    hand = ByHand(model, activate)
    size = (5, *BUILDERS[name]().layers[0].shape)
    images = torch.randn(size, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    # The first block lists its skip edge last, the others second.
    main, skips = [(0, 1), (3, 5), (6, 8), (9, 11)], [2, 4, 7, 10]
    with torch.no_grad():
        if name == "vgg5":
            expected = hand.vgg5(images)
        elif name == "mlp":
            expected = hand.mlp(images)
        else:
            expected = hand.resnet(images, main, skips)
        result = model(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(model.norms, hand.norms, strict=True):
        for mine, yours in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(mine, yours)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_convolution_is_normalised_and_nothing_else(name: str) -> None:
    model = FeedForward(BUILDERS[name](), batch_norm=True)
    for edge, norm in zip(model.edges, model.norms, strict=True):
        shapes = [parameter.dim() for parameter in edge.parameters()]
        convolution = name != "mlp" and shapes == [4] and edge is not model.edges[-1]
        assert isinstance(norm, nn.BatchNorm2d) == convolution
    assert not list(FeedForward(BUILDERS[name]()).norms.parameters())


@pytest.mark.parametrize("name", BUILDERS)
def test_nothing_is_shared_with_the_network(name: str) -> None:
    network = BUILDERS[name]()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    model = FeedForward(network, batch_norm=True)
    assert not {id(module) for module in model.modules()} & {id(m) for m in network.modules()}
    pointers = {parameter.data_ptr() for parameter in network.parameters()}
    assert not pointers & {parameter.data_ptr() for parameter in model.parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    for parameter, copy in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, copy)


def test_gradients_stay_apart() -> None:
    network = BUILDERS["vgg5"]()
    model = FeedForward(network)
    model(torch.ones(2, 2, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_are_drawn_after_he(name: str) -> None:
    network = BUILDERS[name]()
    model = FeedForward(network, generator=torch.Generator().manual_seed(4))
    again = FeedForward(network, generator=torch.Generator().manual_seed(4))
    other = FeedForward(network, generator=torch.Generator().manual_seed(5))
    assert all(not bias.any() for bias in model.biases)
    for number, edge in enumerate(network.edge_list()):
        if edge.geometry.weight_shape is None:
            continue
        weight, same, different = (
            next(m.edges[number].parameters()).detach() for m in (model, again, other)
        )
        gain = 3.0 if edge.post == network.output else 6.0
        bound = math.sqrt(gain / edge.geometry.fan_in)
        assert weight.abs().max() <= bound * (1 + 1e-6)
        assert weight.abs().max() > bound * (1 - 12 / weight.numel())
        assert torch.equal(weight, same)
        assert not torch.equal(weight, different)


def test_the_seed_is_zero_by_default() -> None:
    network = BUILDERS["vgg5"]()
    seeded = FeedForward(network, generator=torch.Generator().manual_seed(0))
    pairs = zip(FeedForward(network).parameters(), seeded.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch norm"])
def test_the_networks_dtype_is_kept(batch_norm: bool) -> None:
    model = FeedForward(BUILDERS["conv1x1"]().double(), batch_norm=batch_norm)
    assert model(torch.zeros(2, 2, 17, 17, dtype=torch.float64)).dtype == torch.float64


def test_image_size() -> None:
    assert FeedForward(BUILDERS["conv1x1"]()).image_size == 17


def test_edges_backwards_are_refused() -> None:
    edges = [Edge(0, 1, Dense((2,), (3,))), Edge(2, 1, Dense((2,), (3,)))]
    network = HopfieldNetwork([Layer((2,)), Layer((3,)), Layer((2,))], edges)
    message = "edges[1]: 2 -> 1 is not allowed feed-forward; must lead to a later layer"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FeedForward(network)
