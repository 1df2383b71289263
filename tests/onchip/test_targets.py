"""What rules move: targets, the pulses that products ask of them, and their learning rates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork, map_to_crossbar
from neurosim_ep.learning import (
    CenteredEP,
    Contrast,
    HolomorphicEP,
    Phases,
    accumulate_contrast,
    weighted_equilibria,
)
from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    Sigmoid,
    SquaredError,
    mlp,
)
from neurosim_ep.onchip import (
    MixedPrecision,
    OnChipLearning,
    OnChipUpdates,
    Pulsed,
    Trains,
    on_chip_groups,
    target_products,
    targets_of,
)

SHAPES = [(1, 6, 6), (2, 6, 6), (3, 3, 3), (3, 3, 3), (4,), (2, 2, 2), (3,)]


def graph() -> HopfieldNetwork:
    """Convolutions, a pooled one among them, an identity, and a dense edge onto channels."""
    layers = [Layer(SHAPES[0]), *(Layer(shape, ReLUAlpha(2.0)) for shape in SHAPES[1:])]
    edges = [
        Edge(0, 1, Convolution(SHAPES[0], 2, kernel=3, padding=1)),
        Edge(1, 2, PooledConvolution(SHAPES[1], 3, kernel=3, padding=1)),
        Edge(2, 3, Identity(SHAPES[2], SHAPES[3], strength=0.3)),
        Edge(3, 4, Dense(SHAPES[3], SHAPES[4])),
        Edge(4, 5, Dense(SHAPES[4], SHAPES[5])),
        Edge(5, 6, Dense(SHAPES[5], SHAPES[6])),
    ]
    network = HopfieldNetwork(layers, edges).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for bias in network.biases:
            bias.fill_(0.3)
        for edge in network.edge_list():
            for weight in edge.parameters():
                drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.copy_(0.5 * drawn / edge.geometry.fan_in**0.5)
    return network


def contrast_of(chip: CrossbarNetwork, estimator: Any = None) -> Contrast:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, *chip.layers[0].shape, generator=generator, dtype=torch.float64)
    labels = torch.tensor([2, 0, 1])
    estimator = estimator or CenteredEP(0.2)
    return weighted_equilibria(chip, images, labels, estimator, phases=Phases(30, 10))


def gradients(chip: CrossbarNetwork, contrast: Contrast) -> list[Tensor]:
    """Of weights in edge order, then of the biases on rows."""
    chip.zero_grad()
    accumulate_contrast(chip, contrast.nudged, contrast.terms)
    found = [*chip.weights, *(chip.biases[layer - 1] for layer in chip.bias_rows)]
    return [parameter.grad.clone() for parameter in found]


def test_targets_are_weights_then_rows(layout) -> None:
    chip = map_to_crossbar(graph(), "ideal", layout(), bias_rows=True)
    # The identity edge has no devices; layers 3 and 5 have no array with a column per bias.
    wanted = ["edge 0", "edge 1", "edge 3", "edge 4", "edge 5"]
    rows = ["bias 1", "bias 2", "bias 4", "bias 6"]
    assert [target.name for target in targets_of(chip)] == wanted + rows
    plain = map_to_crossbar(graph(), "ideal", layout())
    assert [target.name for target in targets_of(plain)] == wanted


@pytest.mark.parametrize("form", ["difference", "hebbian"])
@pytest.mark.parametrize("scale", ["layer", "column"])
def test_products_in_pulses_times_steps_are_the_gradients(layout, form: Any, scale: str) -> None:
    # 1e-9: the Hebbian form's sums are up to a million times their difference.
    chip = map_to_crossbar(graph(), "ideal", layout(scale=scale), bias_rows=True)
    contrast, rate = contrast_of(chip), 0.3
    wanted = gradients(chip, contrast)
    products = target_products(chip, contrast, form)
    for target, pairs, gradient in zip(targets_of(chip), products, wanted, strict=True):
        assert float(gradient.norm()) > 0.0
        total = sum(
            target.geometry.correlation(pre, target.demand(post, rate)) for pre, post in pairs
        )
        assert isinstance(total, Tensor)
        found = total * target.step
        torch.testing.assert_close(found, -rate * gradient.view(found.shape), rtol=1e-9, atol=1e-12)


def test_pulses_of_every_kind_of_edge_follow_the_gradient(step_card, layout) -> None:
    # As in `test_rules_follow_sgd`, for one update: a random walk of at most sqrt(pulses) steps.
    card = layout(pair_baseline="middle", scale_headroom=4.0, scale="column")
    chip = map_to_crossbar(graph(), step_card(1e-6), card, bias_rows=True)
    rule = Pulsed("difference", Trains("mean_field", 10**6))
    method = OnChipLearning(chip, rule, CenteredEP(0.2), SquaredError(), Phases(30, 10))
    size = len(chip.weights), len(chip.biases)
    groups = on_chip_groups(chip, [0.5] * size[0], [0.5] * size[1])
    pulses: dict[int, Tensor] = {}
    updates = OnChipUpdates(
        method,
        torch.optim.SGD(groups),
        on_pulses=lambda place, up, down: pulses.__setitem__(place, up + down),
    )
    before = [target.parameter.detach().clone() for target in updates.targets]
    contrast = contrast_of(chip)
    wanted = gradients(chip, contrast)
    method.learn(contrast)
    updates.step()
    for place, target in enumerate(updates.targets):
        off = target.parameter.detach() - before[place] + 0.5 * wanted[place].view_as(before[place])
        assert bool((off.abs() < 6.0 * target.step * (pulses[place].sqrt() + 1.0)).all())
        assert float(pulses[place].max()) > 1000.0


def test_holomorphic_equilibria_are_refused(layout) -> None:
    network = mlp((1, 2, 2), 3, (4,), activation="sigmoid").double()
    assert isinstance(network.layers[1].activation, Sigmoid)
    chip = map_to_crossbar(network, "ideal", layout())
    contrast = contrast_of(chip, HolomorphicEP(0.2, 4))
    with pytest.raises(ValueError, match=r"^estimator: a holomorphic one is not allowed"):
        target_products(chip, contrast, "difference")


def test_a_rule_without_a_digital_gradient_has_none(layout) -> None:
    for rule, rows, held in (
        (Pulsed(), False, False),
        (Pulsed(), True, False),
        (MixedPrecision(), True, True),
    ):
        chip = map_to_crossbar(graph(), "ideal", layout(pair_baseline="middle"), bias_rows=rows)
        method = OnChipLearning(chip, rule, CenteredEP(0.2), SquaredError(), Phases(30, 10))
        contrast = contrast_of(chip)
        wanted = gradients(chip, contrast)
        method.learn(contrast)
        for place, weight in enumerate(chip.weights):
            assert (weight.grad is not None) == held
            if weight.grad is not None:
                assert torch.equal(weight.grad, wanted[place])
        for layer in chip.free_layers:
            row = chip.bias_rows.get(layer)
            assert (chip.biases[layer - 1].grad is None) == (row is not None)
            assert row is None or (row.weight.grad is not None) == held


def test_learning_rates_go_to_their_targets(layout) -> None:
    chip = map_to_crossbar(mlp((1, 2, 2), 3, (4,)), "ideal", layout(), bias_rows=True)
    groups = on_chip_groups(chip, [0.1, 0.2], [0.3, 0.4])
    assert [group["lr"] for group in groups] == [0.3, 0.4, 0.1, 0.2]
    method = OnChipLearning(chip, MixedPrecision(), CenteredEP(0.2), SquaredError(), Phases())
    optimiser = torch.optim.SGD(groups)
    updates = OnChipUpdates(method, optimiser)
    assert updates.target_rates() == [0.1, 0.2, 0.3, 0.4]
    # What a scheduler changes, counts.
    for group in optimiser.param_groups:
        group["lr"] *= 0.5
    assert updates.target_rates() == [0.05, 0.1, 0.15, 0.2]
