"""Image sizes, class counts, skips, activations, and every refused argument."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch

from neurosim_ep.models import (
    Convolution,
    HopfieldNetwork,
    Identity,
    ReLU,
    ReLUAlpha,
    Sigmoid,
    hopfield_resnet13,
    mlp,
    vgg5,
)
from neurosim_ep.settling import settle

WIDTHS = (2, 3, 2, 4)
BUILDERS: dict[str, Callable[..., HopfieldNetwork]] = {
    "mlp": lambda **options: mlp((1, 3, 3), 2, (4, 3), **options),
    "vgg5": lambda **options: vgg5(1, 2, WIDTHS, image_size=16, **options),
    "hopfield_resnet13": lambda **options: hopfield_resnet13(
        1, 2, WIDTHS, image_size=16, **options
    ),
}
VGG_SIDES = {16: (8, 4, 2, 1), 28: (14, 7, 3, 1), 33: (16, 8, 4, 2)}
RESNET_SIDES = {16: (8, 4, 2, 1), 28: (14, 7, 4, 2), 33: (17, 9, 5, 3)}


@pytest.mark.parametrize("size", VGG_SIDES)
@pytest.mark.parametrize("outputs", [1, 7, 100])
def test_vgg5_halves_the_image(size: int, outputs: int) -> None:
    network = vgg5(2, outputs, WIDTHS, image_size=size)
    sides = VGG_SIDES[size]
    assert [layer.shape for layer in network.layers] == [
        (2, size, size),
        *((width, side, side) for width, side in zip(WIDTHS, sides, strict=True)),
        (outputs,),
    ]
    assert network.weights[-1].shape == (4, sides[3], sides[3], outputs)
    assert settle(network, torch.zeros(1, 2, size, size), iterations=1).output.shape == (1, outputs)


@pytest.mark.parametrize("size", RESNET_SIDES)
@pytest.mark.parametrize("outputs", [1, 7, 100])
@pytest.mark.parametrize("skip", ["conv1x1", "identity", None])
def test_hopfield_resnet13_halves_the_image(size: int, outputs: int, skip: str | None) -> None:
    network = hopfield_resnet13(2, outputs, WIDTHS, image_size=size, skip=skip)
    before, shapes = size, [(2, size, size)]
    for width, side in zip(WIDTHS, RESNET_SIDES[size], strict=True):
        shapes += [(width, before, before), (width, side, side)]
        before = side
    assert [layer.shape for layer in network.layers] == [*shapes, (outputs,)]
    assert settle(network, torch.zeros(1, 2, size, size), iterations=1).output.shape == (1, outputs)


def skip_edges(network: HopfieldNetwork) -> list[tuple[int, int, str]]:
    """Edges between a block's first and last state."""
    return [
        (edge.pre, edge.post, type(edge.geometry).__name__)
        for edge in network.edge_list()
        if edge.post == edge.pre + 2
    ]


@pytest.mark.parametrize(
    ("skip", "kind", "weights"),
    [("conv1x1", "Convolution", 13), ("identity", "Identity", 9), (None, None, 9)],
)
def test_skips(skip: str | None, kind: str | None, weights: int) -> None:
    network = BUILDERS["hopfield_resnet13"](skip=skip)
    expected = [] if kind is None else [(2 * i, 2 * i + 2, kind) for i in range(4)]
    assert skip_edges(network) == expected
    assert len(network.weights) == weights
    main = [
        (edge.pre, edge.post)
        for edge in network.edge_list()
        if edge.post == edge.pre + 1 and isinstance(edge.geometry, Convolution)
    ]
    assert main == [(i, i + 1) for i in range(8)]
    for edge in network.edge_list():
        if isinstance(edge.geometry, Identity):
            assert edge.geometry.strength == 1.0


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_activations(build: Callable[..., HopfieldNetwork]) -> None:
    for layer in build(activation="sigmoid").layers[1:-1]:
        assert isinstance(layer.activation, Sigmoid)
    for layer in build(activation="relu").layers[1:-1]:
        assert isinstance(layer.activation, ReLU)
    for layer in build(alpha=2.5).layers[1:-1]:
        assert isinstance(layer.activation, ReLUAlpha)
        assert layer.activation.alpha == 2.5


def alphas(network: HopfieldNetwork) -> list[float]:
    found = []
    for layer in network.layers[1:-1]:
        assert isinstance(layer.activation, ReLUAlpha)
        found.append(layer.activation.alpha)
    return found


def test_random_alphas_fill_their_range() -> None:
    drawn = [
        alpha
        for seed in range(60)
        for alpha in alphas(
            mlp(
                (1, 1, 1),
                1,
                (1,) * 5,
                alpha="random",
                generator=torch.Generator().manual_seed(seed),
            )
        )
    ]
    assert 0.0 < min(drawn) < 0.5
    assert 9.5 < max(drawn) <= 10.0
    assert sum(drawn) / len(drawn) == pytest.approx(5.0, abs=0.7)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_random_alphas_survive_a_state_dict(build: Callable[..., HopfieldNetwork]) -> None:
    saved = build(alpha="random", generator=torch.Generator().manual_seed(5))
    restored = build()
    restored.load_state_dict(saved.state_dict())
    assert alphas(restored) == alphas(saved)
    images = torch.randn((2, *saved.layers[0].shape), generator=torch.Generator().manual_seed(0))
    pairs = zip(settle(saved, images), settle(restored, images), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_random_alphas_are_drawn_on_the_cpu() -> None:
    with torch.device("meta"):
        network = mlp((1, 1, 1), 1, (1, 1), alpha="random")
    assert alphas(network) == alphas(mlp((1, 1, 1), 1, (1, 1), alpha="random"))


EVERY = tuple(BUILDERS)
IMAGES = ("vgg5", "hopfield_resnet13")
SKIPS = "('conv1x1', 'identity', None)"
NUMBER = "must be a finite number above 0"
GAIN = "every gain must be a finite number above 0"
REFUSED: list[tuple[tuple[str, ...], dict[str, object], str]] = [
    (
        EVERY,
        {"activation": "tanh"},
        "activation: 'tanh' is not allowed; must be 'relu_alpha', 'relu' or 'sigmoid'",
    ),
    (
        EVERY,
        {"alpha": "wild"},
        "alpha: 'wild' is not allowed; must be a number above 0 or 'random'",
    ),
    (EVERY, {"alpha": 0.0}, f"alpha: 0.0 is not allowed; {NUMBER}"),
    (EVERY, {"alpha": math.nan}, f"alpha: nan is not allowed; {NUMBER}"),
    (("mlp",), {"gains": [1.0]}, "gains: 1 values are not allowed; must be 3, one per weight"),
    (("vgg5",), {"gains": [1.0] * 4}, "gains: 4 values are not allowed; must be 5, one per weight"),
    (
        ("hopfield_resnet13",),
        {"gains": [1.0] * 9},
        "gains: 9 values are not allowed; must be 13, one per weight",
    ),
    (
        ("hopfield_resnet13",),
        {"gains": [1.0] * 13, "skip": None},
        "gains: 13 values are not allowed; must be 9, one per weight",
    ),
    (("mlp",), {"gains": [1.0, 0.0, 1.0]}, f"gains: 0.0 is not allowed; {GAIN}"),
    (("mlp",), {"gains": [1.0, 1.0, math.nan]}, f"gains: nan is not allowed; {GAIN}"),
    (("mlp",), {"gains": [math.inf, 1.0, 1.0]}, f"gains: inf is not allowed; {GAIN}"),
    (
        ("hopfield_resnet13",),
        {"skip": "conv"},
        f"skip: 'conv' is not allowed; must be one of {SKIPS}",
    ),
]
CASES = [
    pytest.param(name, options, message, id=f"{name} {message}")
    for names, options, message in REFUSED
    for name in names
]


@pytest.mark.parametrize(("name", "options", "message"), CASES)
def test_refused_options(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        BUILDERS[name](**options)


@pytest.mark.parametrize("build", [vgg5, hopfield_resnet13], ids=IMAGES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels: 0 is not allowed; must be at least 1"),
        ({"num_outputs": 0}, "num_outputs: 0 is not allowed; must be at least 1"),
        ({"widths": (4, 4, -1, 4)}, "widths: -1 is not allowed; must be at least 1"),
        ({"widths": (4, 4, 4)}, "widths: 3 values are not allowed; must be 4"),
        ({"widths": (4,) * 5}, "widths: 5 values are not allowed; must be 4"),
        ({"image_size": 15}, "image_size: 15 is not allowed; must be at least 16 pixels"),
    ],
)
def test_refused_shapes(
    build: Callable[..., HopfieldNetwork], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(**arguments)


def test_refused_mlps() -> None:
    with pytest.raises(ValueError, match=r"^widths: 0 is not allowed; must be at least 1$"):
        mlp((1, 2, 2), 2, (3, 0))
    with pytest.raises(ValueError, match=r"^num_outputs: -2 is not allowed; must be at least 1$"):
        mlp((1, 2, 2), -2)
    with pytest.raises(ValueError, match=r"^pre_shape: \(0, 2, 2\) is not allowed; every size"):
        mlp((0, 2, 2))
