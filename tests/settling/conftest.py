"""Random networks, an independent energy and settling, and storages that count their reads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import (
    Activation,
    Convolution,
    Cost,
    CrossEntropy,
    Dense,
    Edge,
    ExactStorage,
    Geometry,
    HopfieldNetwork,
    Identity,
    Layer,
    NoiseSum,
    PooledConvolution,
    ReLUAlpha,
    Sigmoid,
    Storage,
    hopfield_resnet13,
    mlp,
    vgg5,
)

Shape = tuple[int, ...]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- random networks ---------------------------------------------------------------------------


def _grow(draw: st.DrawFn, shape: Shape) -> Geometry:
    """An edge of any kind out of a layer of this shape; it decides the next layer's shape."""
    kinds = ["dense", "identity"]
    if len(shape) == 3:
        kinds += ["convolution", "convolution", "pooled", "pooled"]
    kind = draw(st.sampled_from(kinds))
    if kind == "identity":
        stride = draw(st.integers(1, 2))
        side = tuple(-(-s // stride) for s in shape[1:])
        strength = draw(st.floats(0.1, 2.0))
        return Identity(shape, (draw(st.integers(1, 4)), *side), strength)
    if len(shape) == 3 and kind in ("convolution", "pooled"):
        padding = draw(st.integers(0, 1))
        kernel = draw(st.integers(1, min(3, min(shape[1:]) + 2 * padding)))
        stride = draw(st.integers(1, 2))
        plain = Convolution(shape, draw(st.integers(1, 3)), kernel, stride, padding)
        if kind == "pooled" and min(plain.post_shape[1:]) >= 2:
            return PooledConvolution(shape, plain.post_shape[0], kernel, stride, padding)
        return plain
    return Dense(shape, (draw(st.integers(1, 5)),))


def _joining(pre: Shape, post: Shape, may_pool: bool) -> list[Geometry]:
    """Every geometry that joins two given shapes."""
    fits: list[Geometry] = [Dense(pre, post)]
    if len(pre) == len(post):
        stride = -(-pre[1] // post[1]) if len(pre) == 3 else 1
        if all(-(-a // stride) == b for a, b in zip(pre[1:], post[1:], strict=True)):
            fits.append(Identity(pre, post, strength=0.7))
    if len(pre) == len(post) == 3:
        for kind in (Convolution, PooledConvolution) if may_pool else (Convolution,):
            for kernel, stride, padding in itertools.product((1, 2, 3), (1, 2), (0, 1)):
                try:
                    fit = kind(pre, post[0], kernel, stride, padding)
                except ValueError:
                    continue
                if fit.post_shape == post:
                    fits.append(fit)
    return fits


@st.composite
def _networks(
    draw: st.DrawFn, holomorphic: bool = False, gains: Sequence[float] = (0.3, 1.0, 3.0, 10.0)
) -> HopfieldNetwork:
    """Any graph that settling accepts: skips, cycles, parallel edges, edges into the input.

    A pooled edge leads to a hidden layer, whose state is not negative.
    """
    shapes: list[Shape] = [
        (draw(st.integers(1, 2)), draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    ]
    edges: list[Edge] = []
    for layer in range(1, draw(st.integers(1, 5)) + 1):
        pre = draw(st.integers(0, layer - 1))
        geometry = _grow(draw, shapes[pre])
        edges.append(Edge(pre, layer, geometry))
        shapes.append(geometry.post_shape)
    output = len(shapes)
    pre = draw(st.integers(0, output - 1))
    shapes.append((draw(st.integers(1, 4)),))
    edges.append(Edge(pre, output, Dense(shapes[pre], shapes[output])))
    for _ in range(draw(st.integers(0, 4))):
        ends = draw(st.permutations(range(output + 1)))[:2]
        fits = _joining(shapes[ends[0]], shapes[ends[1]], may_pool=ends[1] not in (0, output))
        edges.append(Edge(ends[0], ends[1], draw(st.sampled_from(fits))))
    layers = [Layer(shapes[0])]
    for shape in shapes[1:-1]:
        bound = draw(st.one_of(st.just(0.0), st.floats(0.2, 8.0)))
        activation: Activation = Sigmoid() if holomorphic or not bound else ReLUAlpha(bound)
        layers.append(Layer(shape, activation))
    network = HopfieldNetwork([*layers, Layer(shapes[-1])], edges).double()
    gain = draw(st.sampled_from(gains))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    with torch.no_grad():
        for bias in network.biases:
            bias.copy_(torch.randn(bias.shape, generator=generator, dtype=torch.float64))
        for edge in network.edge_list():
            for weight in edge.parameters():
                drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.copy_(drawn * gain / edge.geometry.fan_in**0.5)
    return network


def _random_states(network: HopfieldNetwork, batch: int, seed: int) -> list[Tensor]:
    """Images, hidden states that their activations could give, and outputs."""
    generator = torch.Generator().manual_seed(seed)
    states = []
    for index, layer in enumerate(network.layers):
        drawn = torch.randn((batch, *layer.shape), generator=generator, dtype=torch.float64)
        states.append(layer.activation(2.0 * drawn) if index else drawn)
    return states


@pytest.fixture(scope="session")
def networks() -> Callable[..., st.SearchStrategy[HopfieldNetwork]]:
    """Strategy of random networks in float64; draw from it with ``data.draw(networks())``."""
    return _networks


@pytest.fixture(scope="session")
def random_states() -> Callable[[HopfieldNetwork, int, int], list[Tensor]]:
    """Random states (network, batch, seed), allowed by the layers' activations."""
    return _random_states


# --- the paper's networks, narrow --------------------------------------------------------------

_NARROW: dict[str, Callable[..., HopfieldNetwork]] = {
    "mlp": lambda **options: mlp((2, 3, 3), 4, (7, 6, 5), gains=[0.7] * 4, **options),
    "vgg5": lambda **options: vgg5(2, 4, (3, 4, 3, 4), image_size=16, gains=[1.0] * 5, **options),
    "hopfield_resnet13": lambda **options: hopfield_resnet13(
        2, 4, (3, 4, 3, 4), image_size=16, **options
    ),
}


@pytest.fixture(scope="session")
def narrow() -> Callable[..., HopfieldNetwork]:
    """A narrow network (name, options) in float64."""

    def build(name: str, **options: object) -> HopfieldNetwork:
        return _NARROW[name](**options).double()

    return build


# --- independent energy, currents and settling -------------------------------------------------


def _operate(edge: Edge, pre: Tensor) -> Tensor:
    """op(pre) of the energy, complex or real, by torch's own functions."""
    geometry = edge.geometry
    if isinstance(geometry, Identity):
        channels = min(geometry.pre_shape[0], geometry.post_shape[0])
        result = pre.new_zeros(pre.shape[0], *geometry.post_shape)
        places = (slice(None, None, geometry.stride),) * (pre.dim() - 2)
        result[:, :channels] = geometry.strength * pre[(slice(None), slice(channels), *places)]
        return result
    (parameter,) = edge.parameters()
    weight = parameter.detach().to(pre.dtype)
    if isinstance(geometry, Dense):
        currents: Tensor = torch.tensordot(pre, weight, dims=len(geometry.pre_shape))
        return currents
    assert isinstance(geometry, Convolution)
    result = F.conv2d(pre, weight, stride=geometry.stride, padding=geometry.padding)
    if not geometry.pooled:
        return result
    _, height, width = geometry.post_shape
    corners = itertools.product((0, 1), repeat=2)
    windows = torch.stack(
        [result[:, :, row::2, column::2][:, :, :height, :width] for row, column in corners]
    )
    return windows.gather(0, windows.real.argmax(0, keepdim=True)).squeeze(0)


def _energy(network: HopfieldNetwork, states: Sequence[Tensor]) -> Tensor:
    total = states[0].new_zeros(states[0].shape[0])
    for bias, state in zip(network.biases, states[1:], strict=True):
        total = total - torch.einsum("bc...,c->b", state, bias.detach().to(state.dtype))
    for edge in network.edge_list():
        product = states[edge.post] * _operate(edge, states[edge.pre])
        total = total - product.flatten(1).sum(1)
    return total


def _cost(cost: Cost, output: Tensor, targets: Tensor) -> Tensor:
    if isinstance(cost, CrossEntropy):
        return output.exp().sum(1).log() - (targets * output).sum(1)
    return 0.5 * ((output - targets) ** 2).sum(1)


def _current(
    network: HopfieldNetwork,
    states: Sequence[Tensor],
    layer: int,
    beta: complex | Tensor | None = None,
    cost: Cost | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """-d(E + beta C)/ds of one layer by autograd."""
    with torch.enable_grad():
        moving = states[layer].detach().clone().requires_grad_()
        all_states = [*states[:layer], moving, *states[layer + 1 :]]
        energy = _energy(network, all_states)
        if beta is not None and cost is not None and targets is not None:
            energy = energy + beta * _cost(cost, all_states[-1], targets)
        # Autograd gives the conjugate of a holomorphic function's derivative.
        (gradient,) = torch.autograd.grad(energy.real.sum(), moving)
    return -gradient.conj().resolve_conj()


def _activate(activation: Activation, current: Tensor) -> Tensor:
    if isinstance(activation, ReLUAlpha):
        return current.clamp(min=0.0).clamp(max=activation.alpha)
    if isinstance(activation, Sigmoid):
        return 1.0 / (1.0 + torch.exp(2.0 - 4.0 * current))
    return current


def _naive_settle(
    network: HopfieldNetwork,
    states: Sequence[Tensor],
    groups: Sequence[Sequence[int]],
    iterations: int,
    beta: complex | Tensor | None = None,
    cost: Cost | None = None,
    targets: Tensor | None = None,
) -> list[Tensor]:
    """Every current from the whole energy, anew at every update of a group."""
    states = list(states)
    for _ in range(iterations):
        for group in groups:
            currents = [_current(network, states, n, beta, cost, targets) for n in group]
            for layer, current in zip(group, currents, strict=True):
                states[layer] = _activate(network.layers[layer].activation, current)
    return states


@pytest.fixture(scope="session")
def naive_energy() -> Callable[[HopfieldNetwork, Sequence[Tensor]], Tensor]:
    """E of every image."""
    return _energy


@pytest.fixture(scope="session")
def naive_current() -> Callable[..., Tensor]:
    """-d(E + beta C)/ds of one layer: (network, states, layer[, beta, cost, targets])."""
    return _current


@pytest.fixture(scope="session")
def naive_update() -> Callable[[Activation, Tensor], Tensor]:
    """activation(current), written out."""
    return _activate


@pytest.fixture(scope="session")
def naive_settle() -> Callable[..., list[Tensor]]:
    """Settling: (network, states, groups, iterations[, beta, cost, targets])."""
    return _naive_settle


# --- counting ----------------------------------------------------------------------------------


class CountingStorage(Storage):
    """Counts how many reads, and of how many images, an exact storage makes."""

    def __init__(self, exact: Storage) -> None:
        super().__init__(exact.geometry)
        self.exact = exact
        self.forward_batches: list[int] = []
        self.transposed_batches: list[int] = []

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        self.forward_batches.append(pre.shape[0])
        return self.exact.forward_read(pre)

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        self.transposed_batches.append(currents.shape[0])
        return self.exact.transposed_read(currents)

    def clear(self) -> None:
        self.forward_batches.clear()
        self.transposed_batches.clear()


@pytest.fixture(scope="session")
def count_reads() -> Callable[[HopfieldNetwork], list[CountingStorage]]:
    """Replace a network's storages by counting ones."""

    def replace(network: HopfieldNetwork) -> list[CountingStorage]:
        counters = []
        for edge in network.edge_list():
            assert isinstance(edge.storage, ExactStorage)
            counters.append(CountingStorage(edge.storage))
            edge.storage = counters[-1]
        return counters

    return replace
