"""The networks of arXiv 2509.26003, and multi-layer perceptrons."""

from collections.abc import Sequence
from itertools import pairwise

import torch

from neurosim_ep.models.activations import Activation, ReLU, ReLUAlpha, Sigmoid
from neurosim_ep.models.geometry import (
    Convolution,
    Dense,
    Geometry,
    Identity,
    PooledConvolution,
    Shape,
)
from neurosim_ep.models.initialisation import initialise
from neurosim_ep.models.network import Edge, HopfieldNetwork, Layer

VGG5_GAINS = (0.4, 0.7, 0.6, 0.3, 0.6)
HOPFIELD_RESNET13_GAINS = (0.6, 0.6, 0.7, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.8)
MLP_GAIN = 0.5
SKIPS = ("conv1x1", "identity", None)
MAX_RANDOM_ALPHA = 10.0


def mlp(
    in_shape: Shape = (1, 28, 28),
    num_outputs: int = 10,
    widths: Sequence[int] = (512,),
    *,
    activation: str = "relu_alpha",
    alpha: float | str = 6.0,
    gains: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> HopfieldNetwork:
    """Dense layers in a chain.

    Args:
        in_shape: shape of an image (channels, height, width).
        num_outputs: classes.
        widths: units of the hidden layers.
        activation: of the hidden layers, ``"relu_alpha"``, ``"relu"`` (unbounded) or ``"sigmoid"``
            (holomorphic).
        alpha: bound of ReLU-alpha, or ``"random"``: uniform in [0, 10] for each layer.
        gains: one per weight; 0.5 each by default.
        generator: source of randomness on the CPU; None draws from a generator seeded with 0.

    Raises:
        ValueError: if a width, alpha or gain is out of range.
    """
    generator = generator or torch.Generator().manual_seed(0)
    _check_positive("widths", widths)
    _check_positive("num_outputs", (num_outputs,))
    hidden = [(width,) for width in widths]
    shapes: list[Shape] = [tuple(in_shape), *hidden, (num_outputs,)]
    edges = [Edge(i, i + 1, Dense(pre, post)) for i, (pre, post) in enumerate(pairwise(shapes))]
    network = HopfieldNetwork(_layers(shapes, activation, alpha, generator), edges)
    initialise(network, gains if gains is not None else [MLP_GAIN] * len(edges), generator)
    return network


def vgg5(
    in_channels: int = 3,
    num_outputs: int = 10,
    widths: Sequence[int] = (128, 256, 512, 512),
    *,
    image_size: int = 32,
    activation: str = "relu_alpha",
    alpha: float | str = 6.0,
    gains: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> HopfieldNetwork:
    """Four 3x3 convolutions with 2x2 max pooling and a dense head (arXiv 2509.26003).

    Args:
        in_channels: channels of an image.
        num_outputs: classes.
        widths: channels of the four hidden layers; 3.86 M parameters at the default.
        image_size: height and width of an image in pixels, at least 16.
        activation, alpha, gains, generator: as in `mlp`; the paper's five gains by default.

    Raises:
        ValueError: if a size, width, alpha or gain is out of range.
    """
    generator = generator or torch.Generator().manual_seed(0)
    _check_images(in_channels, num_outputs, widths, image_size)
    shapes: list[Shape] = [(in_channels, image_size, image_size)]
    edges = []
    for i, width in enumerate(widths):
        geometry: Geometry = PooledConvolution(shapes[i], width, kernel=3, padding=1)
        edges.append(Edge(i, i + 1, geometry))
        shapes.append(geometry.post_shape)
    edges.append(Edge(4, 5, Dense(shapes[4], (num_outputs,))))
    shapes.append((num_outputs,))
    network = HopfieldNetwork(_layers(shapes, activation, alpha, generator), edges)
    initialise(network, gains if gains is not None else VGG5_GAINS, generator)
    return network


def hopfield_resnet13(
    in_channels: int = 3,
    num_outputs: int = 10,
    widths: Sequence[int] = (128, 256, 512, 512),
    *,
    image_size: int = 32,
    skip: str | None = "conv1x1",
    activation: str = "relu_alpha",
    alpha: float | str = 6.0,
    gains: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> HopfieldNetwork:
    """Four Hopfield-Resnet blocks and a dense head (arXiv 2509.26003, section III-A).

    A block has two 3x3 convolutions, the second with stride 2, and a skip edge from the block's
    first state to its last.

    Args:
        in_channels: channels of an image.
        num_outputs: classes.
        widths: channels of the four blocks; 13 weights and 9.74 M parameters at the default.
        image_size: height and width of an image in pixels, at least 16.
        skip: ``"conv1x1"`` (the paper's choice), ``"identity"`` (no weights), or None (9 weights).
        activation, alpha, gains, generator: as in `mlp`; the paper's gains by default.

    Raises:
        ValueError: if a size, width, alpha, gain or the kind of skip is out of range.
    """
    generator = generator or torch.Generator().manual_seed(0)
    _check_images(in_channels, num_outputs, widths, image_size)
    if skip not in SKIPS:
        raise ValueError(f"skip: {skip!r} is not allowed; must be one of {SKIPS}")
    shapes: list[Shape] = [(in_channels, image_size, image_size)]
    edges: list[Edge] = []
    for block, width in enumerate(widths):
        first = 2 * block
        main = Convolution(shapes[first], width, kernel=3, padding=1)
        down = Convolution(main.post_shape, width, kernel=3, stride=2, padding=1)
        shapes += [main.post_shape, down.post_shape]
        block_edges = [Edge(first, first + 1, main), Edge(first + 1, first + 2, down)]
        shortcut: Geometry | None = None
        if skip == "conv1x1":
            shortcut = Convolution(shapes[first], width, kernel=1, stride=2)
        elif skip == "identity":
            shortcut = Identity(shapes[first], down.post_shape)
        if shortcut is not None:
            # The paper lists the first block's skip edge last and the others' second.
            block_edges.insert(2 if block == 0 else 1, Edge(first, first + 2, shortcut))
        edges += block_edges
    edges.append(Edge(8, 9, Dense(shapes[8], (num_outputs,))))
    shapes.append((num_outputs,))
    network = HopfieldNetwork(_layers(shapes, activation, alpha, generator), edges)
    if gains is None:
        gains = [
            gain
            for gain, edge in zip(HOPFIELD_RESNET13_GAINS, _conv1x1_order(skip, edges), strict=True)
            if edge is not None
        ]
    initialise(network, gains, generator)
    return network


def _conv1x1_order(skip: str | None, edges: list[Edge]) -> list[Edge | None]:
    """The 13 weights' places of the full network; None where this one has no weight."""
    if skip == "conv1x1":
        return list(edges)
    main = iter(e for e in edges if e.geometry.weight_shape is not None)
    skips = {2, 4, 7, 10}
    return [None if place in skips else next(main) for place in range(13)]


def _layers(
    shapes: Sequence[Shape], activation: str, alpha: float | str, generator: torch.Generator
) -> list[Layer]:
    """Input, hidden layers with their activation, linear output."""
    hidden = [
        Layer(shape, _hidden_activation(activation, alpha, generator)) for shape in shapes[1:-1]
    ]
    return [Layer(shapes[0]), *hidden, Layer(shapes[-1])]


def _hidden_activation(
    activation: str, alpha: float | str, generator: torch.Generator
) -> Activation:
    if activation == "sigmoid":
        return Sigmoid()
    if activation == "relu":
        return ReLU()
    if activation != "relu_alpha":
        raise ValueError(
            f"activation: {activation!r} is not allowed; must be 'relu_alpha', 'relu' or 'sigmoid'"
        )
    if alpha == "random":
        # 1 - rand lies in (0, 1]: an alpha of 0 would silence its layer.
        drawn = 1.0 - torch.rand((), generator=generator, dtype=torch.float64, device="cpu")
        return ReLUAlpha(MAX_RANDOM_ALPHA * float(drawn))
    if isinstance(alpha, str):
        raise ValueError(f"alpha: {alpha!r} is not allowed; must be a number above 0 or 'random'")
    return ReLUAlpha(alpha)


def _check_images(channels: int, outputs: int, widths: Sequence[int], image_size: int) -> None:
    _check_positive("in_channels", (channels,))
    _check_positive("num_outputs", (outputs,))
    _check_positive("widths", widths)
    if len(widths) != 4:
        raise ValueError(f"widths: {len(widths)} values are not allowed; must be 4")
    if image_size < 16:
        raise ValueError(f"image_size: {image_size} is not allowed; must be at least 16 pixels")


def _check_positive(name: str, values: Sequence[int]) -> None:
    for value in values:
        if value < 1:
            raise ValueError(f"{name}: {value} is not allowed; must be at least 1")
