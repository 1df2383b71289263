"""Ranges and seeds of the paper's initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from neurosim_ep.models import (
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    hopfield_resnet13,
    initialise,
    mlp,
    vgg5,
)

RESNET = (0.6, 0.6, 0.7, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.6, 0.7, 0.6, 0.8)
MAIN = (0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8)
VGG = (0.4, 0.7, 0.6, 0.3, 0.6)
WIDTHS = (12, 10, 8, 9)
# Network, its gains, fan-ins of its weights, fan-ins of its layers' main convolutions.
MAIN_FANS = [27, 108, 108, 90, 90, 72, 72, 81, 36]
CASES: dict[str, tuple[Callable[..., HopfieldNetwork], tuple[float, ...], list[int], list[int]]] = {
    "hopfield_resnet13": (
        lambda **options: hopfield_resnet13(3, 20, WIDTHS, **options),
        RESNET,
        [27, 108, 3, 108, 12, 90, 90, 10, 72, 72, 8, 81, 36],
        MAIN_FANS,
    ),
    "hopfield_resnet13 identity": (
        lambda **options: hopfield_resnet13(3, 20, WIDTHS, skip="identity", **options),
        MAIN,
        MAIN_FANS,
        MAIN_FANS,
    ),
    "hopfield_resnet13 without skips": (
        lambda **options: hopfield_resnet13(3, 20, WIDTHS, skip=None, **options),
        MAIN,
        MAIN_FANS,
        MAIN_FANS,
    ),
    "vgg5": (
        lambda **options: vgg5(3, 20, WIDTHS, **options),
        VGG,
        [27, 108, 90, 72, 36],
        [27, 108, 90, 72, 36],
    ),
    "mlp": (
        lambda **options: mlp((2, 4, 4), 20, (30, 40), **options),
        (0.5, 0.5, 0.5),
        [32, 30, 40],
        [32, 30, 40],
    ),
}


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest,
) -> tuple[Callable[..., HopfieldNetwork], tuple[float, ...], list[int], list[int]]:
    return CASES[request.param]


Case = tuple[Callable[..., HopfieldNetwork], tuple[float, ...], list[int], list[int]]


def assert_uniform(values: torch.Tensor, bound: float) -> None:
    """Inside +-bound, reaching both ends, with a uniform's mean and variance (to 5 sigma)."""
    values = values.detach().double().flatten()
    assert values.abs().max() <= bound * (1 + 1e-6)
    count = values.numel()
    if count < 50:
        return
    assert values.min() < -bound * (1 - 12 / count)
    assert values.max() > bound * (1 - 12 / count)
    assert abs(values.mean()) < 5 * bound / math.sqrt(3 * count)
    # The variance of a squared uniform on [-1, 1] is 4/45.
    assert abs(values.square().mean() / bound**2 - 1 / 3) < 5 * math.sqrt(4 / 45 / count)


def test_weights_are_uniform_in_gain_over_the_root_of_fan_in(case: Case) -> None:
    build, gains, fans, _ = case
    network = build()
    for weight, gain, fan in zip(network.weights, gains, fans, strict=True):
        assert_uniform(weight, gain / math.sqrt(fan))


def test_given_gains_replace_the_papers(case: Case) -> None:
    build, gains, fans, _ = case
    other = [0.1 * (place + 1) for place in range(len(gains))]
    for weight, gain, fan in zip(build(gains=other).weights, other, fans, strict=True):
        assert_uniform(weight, gain / math.sqrt(fan))


def test_biases_scale_with_the_main_convolution(case: Case) -> None:
    """All seeds' biases of a layer together are uniform in +-0.5 / sqrt(fan-in)."""
    build, _, _, fans = case
    seeds = [build(generator=torch.Generator().manual_seed(seed)) for seed in range(12)]
    for layer, fan in enumerate(fans):
        drawn = torch.cat([network.biases[layer].detach() for network in seeds])
        assert drawn.numel() >= 96
        assert_uniform(drawn, 0.5 / math.sqrt(fan))


def equal(ours: HopfieldNetwork, theirs: HopfieldNetwork) -> list[bool]:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return [torch.equal(mine, yours) for mine, yours in pairs]


def test_seeds(case: Case) -> None:
    build = case[0]

    def seeded(seed: int) -> HopfieldNetwork:
        return build(generator=torch.Generator().manual_seed(seed))

    assert all(equal(seeded(3), seeded(3)))
    assert not any(equal(seeded(3), seeded(4)))
    assert all(equal(build(), build()))
    assert all(equal(build(), seeded(0)))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    mlp((1, 2, 2), 2, (3,), alpha="random")
    assert torch.equal(torch.get_rng_state(), before)


def test_one_seed_gives_one_network_in_every_dtype() -> None:
    single, double = mlp((1, 3, 3), 2, (4,)), mlp((1, 3, 3), 2, (4,)).double()
    for network in (single, double):
        initialise(network, [0.5, 0.5], torch.Generator().manual_seed(8))
    for narrow, wide in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(wide.float(), narrow)
        assert not torch.equal(wide, narrow.double())


def test_a_network_without_weights_needs_no_gains() -> None:
    edges = [Edge(0, 1, Identity((3,), (3,)))]
    network = HopfieldNetwork([Layer((3,)), Layer((3,))], edges)
    initialise(network, [])
    assert network.biases[0].abs().max() <= 0.5
    assert network.biases[0].all()
