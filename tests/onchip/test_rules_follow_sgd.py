"""At vanishing step the rules follow exact SGD: 50 batches of digits, 64-32-10, centered EP.

Ideal devices (equal steps, no noise) on ideal arrays.  What is allowed is derived from the step:

- `digital`: the rounding of conductances.
- `pulsed`: in every update a weight's pulses scatter about what was asked for, independently and
  with a variance of at most their number, so that against its own gradients a weight is off by a
  random walk of at most sqrt(pulses) steps.  Against exact SGD, whose weights see other gradients,
  the walks of all weights come in; no weight is off by more than six times the longest walk.
- `mixed_precision`: what was wanted and not yet given is less than one step, weight by weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.data import Batches, Preparation, load
from neurosim_ep.learning import (
    CenteredEP,
    EquilibriumPropagation,
    Phases,
    accumulate_contrast,
    equilibrium_gradient,
)
from neurosim_ep.models import HopfieldNetwork, SquaredError, mlp
from neurosim_ep.onchip import (
    Digital,
    MixedPrecision,
    OnChipLearning,
    OnChipUpdates,
    Pulsed,
    Rule,
    Trains,
    on_chip_groups,
)

BATCHES, BATCH = 50, 8
RATE = 0.2
PHASES = Phases(8, 4)
ESTIMATOR = CenteredEP(0.3)
LONG = 10**6
"""Slots that no train needs: nothing saturates."""
SIGMAS = 6.0
"""Of some thousand weights, none is off by more."""

Optimiser = Callable[[Any], torch.optim.Optimizer]


def plain_sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=RATE)


def momentum_sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=RATE / 5.0, momentum=0.9, nesterov=True, weight_decay=1e-3)


def adam(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=0.003)


def start(dtype: torch.dtype) -> HopfieldNetwork:
    network = mlp((1, 8, 8), 10, (32,), generator=torch.Generator().manual_seed(3))
    return network.to(dtype)


@functools.cache
def batches(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    data = load("digits")
    found = Batches(
        data.train.first(BATCHES * BATCH),
        batch_size=BATCH,
        preparation=Preparation.for_dataset(data, 8),
        seed=0,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    return list(found.epoch(0))


@functools.cache
def exact(dtype: torch.dtype, optimiser: Optimiser) -> HopfieldNetwork:
    """Trained exactly."""
    network = start(dtype)
    method = EquilibriumPropagation(network, ESTIMATOR, SquaredError(), PHASES)
    updates = optimiser([{"params": [p]} for p in network.parameters()])
    for images, labels in batches(dtype):
        method.step(images, labels, torch.Generator())
        updates.step()
    return network.requires_grad_(False)


@dataclass
class Trained:
    """What a training on a chip came to, per target.

    Attributes:
        weights: at the end.
        steps: of their devices.
        pulses: that each weight got, increments and decrements.
        wanted: what plain SGD makes of the gradients at the chip's own weights.
        biases: at the end.
        rule: as it stands.
    """

    weights: list[Tensor]
    steps: list[Tensor]
    pulses: list[Tensor]
    wanted: list[Tensor]
    biases: list[Tensor]
    rule: Rule


def train(
    rule: Rule,
    card: Any,
    array: Any,
    dtype: torch.dtype = torch.float64,
    optimiser: Optimiser = plain_sgd,
    *,
    bias_rows: bool = False,
) -> Trained:
    chip = map_to_crossbar(start(dtype), card, array, bias_rows=bias_rows)
    method = OnChipLearning(chip, rule, ESTIMATOR, SquaredError(), PHASES)
    pulses: dict[int, Tensor] = {}

    def count(place: int, up: Tensor, down: Tensor) -> None:
        pulses[place] = pulses.get(place, 0.0) + up + down

    groups = on_chip_groups(chip, [RATE] * 2, [RATE] * 2)
    updates = OnChipUpdates(
        method, optimiser([{"params": g["params"]} for g in groups]), on_pulses=count
    )
    gradients = start(dtype)  # of the same states; those of dense edges ask for no weights
    wanted = [t.parameter.detach().clone() for t in updates.targets]
    for images, labels in batches(dtype):
        method.step(images, labels, torch.Generator())
        contrast = method.contrast
        assert contrast is not None
        gradients.zero_grad()
        accumulate_contrast(gradients, contrast.nudged, contrast.terms)
        found = [*gradients.weights, *(gradients.biases if bias_rows else ())]
        for total, parameter in zip(wanted, found, strict=True):
            assert parameter.grad is not None
            total -= RATE * parameter.grad.view(total.shape)
        updates.step()
    return Trained(
        [t.parameter.detach() for t in updates.targets],
        [t.step for t in updates.targets] if rule.pulsed else [],
        [pulses[place] for place in sorted(pulses)],
        wanted,
        [bias.detach() for bias in chip.biases],
        rule,
    )


@functools.cache
def pulsed(
    step_card: Callable[..., Any], layout: Callable[..., Any], case: tuple[Any, Any, float, Any]
) -> Trained:
    """Trained by pulses, with room for growth; in the first case with biases on rows."""
    form, kind, step, dtype = case
    card, rows = layout(pair_baseline="middle", scale_headroom=8.0), case == CASES[0]
    return train(Pulsed(form, Trains(kind, LONG)), step_card(step), card, dtype, bias_rows=rows)


def distances(found: list[Tensor], wanted: list[Tensor]) -> list[float]:
    return [float((a - b.view(a.shape)).abs().max()) for a, b in zip(found, wanted, strict=True)]


def test_the_training_goes_far() -> None:
    # Else following it would be no merit.
    network = exact(torch.float64, plain_sgd)
    assert min(distances(start(torch.float64).requires_grad_(False).weights, network.weights)) > 0.1
    wrong = [
        equilibrium_gradient(network, *batch, ESTIMATOR, phases=PHASES).wrong
        for batch in batches(torch.float64)[-10:]
    ]
    assert float(torch.cat(wrong).double().mean()) < 0.6


@pytest.mark.parametrize("optimiser", [plain_sgd, momentum_sgd, adam])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_digital_is_exact_training(
    step_card, layout, dtype: torch.dtype, limit: float, optimiser: Optimiser
) -> None:
    # A conductance is rounded by half an epsilon of the window at every one of 50 writings.
    found = train(Digital(), step_card(1e-3), layout(), dtype, optimiser)
    wanted = exact(dtype, optimiser)
    assert max(distances(found.weights, wanted.weights)) < limit
    assert max(distances(found.biases, list(wanted.biases))) < limit


CASES = [
    ("difference", "mean_field", 1e-6, torch.float64),
    ("hebbian", "mean_field", 1e-6, torch.float64),
    ("difference", "mean_field", 1e-5, torch.float32),
    ("difference", "stochastic", 4e-3, torch.float64),
    ("hebbian", "stochastic", 2e-2, torch.float32),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]} {case[3]}")
def test_pulsed_follows_by_random_walks(step_card, layout, case: Any) -> None:
    found, (_, _, step, dtype) = pulsed(step_card, layout, case), case
    for weight, wanted, pulses, own in zip(
        found.weights, found.wanted, found.pulses, found.steps, strict=True
    ):
        # One step more for weights with so few pulses that their number is no normal one; float32
        # adds half an epsilon of the window in every update.
        rounding = BATCHES * torch.finfo(dtype).eps * float(own.max()) / step
        limit = SIGMAS * own * (pulses.sqrt() + 1.0) + rounding
        assert bool(((weight - wanted).abs() < limit).all())
        # And it does scatter: the walk is no longer than it has to be.
        scatter = ((weight - wanted) / (own * pulses.sqrt().clamp_min(1.0)))[pulses > 10.0]
        assert 0.1 < float(scatter.square().mean().sqrt()) < 1.1
    references = exact(dtype, plain_sgd).weights
    for place, wanted in enumerate(references):
        longest = float((found.steps[place] * found.pulses[place].sqrt()).max())
        assert float((found.weights[place] - wanted).abs().max()) < SIGMAS * longest


def test_a_sixteenth_of_the_step_halves_the_distance_twice(step_card, layout) -> None:
    wanted, off = exact(torch.float64, plain_sgd).weights, []
    form, kind, step, dtype = CASES[0]
    for longer in (16.0, 1.0):
        found = pulsed(step_card, layout, (form, kind, longer * step, dtype)).weights[:2]
        pairs = zip(found, wanted, strict=True)
        off.append([float((a - b).square().mean().sqrt()) for a, b in pairs])
    for long, short in zip(*off, strict=True):
        # sqrt(16), of one training each: a factor of two for the walks' chance.
        assert 2.0 < long / short < 8.0


def test_biases_on_rows_follow_too(step_card, layout) -> None:
    found = pulsed(step_card, layout, CASES[0])
    walks = [float((s * p.sqrt()).max()) for s, p in zip(found.steps, found.pulses, strict=True)]
    assert len(walks) == 4
    for place, wanted in enumerate(exact(torch.float64, plain_sgd).biases):
        # The weights' walks reach the biases through the gradients.
        assert float((found.biases[place] - wanted).abs().max()) < SIGMAS * max(walks)
        assert torch.equal(found.biases[place], found.weights[2 + place][0])
        assert float(wanted.abs().max()) > 30.0 * max(walks)


def test_deterministic_trains_are_off_by_less_than_their_rounding(step_card, layout) -> None:
    # n_x and n_d are rounded by half a pulse each and their product by another half: per image and
    # product at most 1.5 pulses and a quarter of one.
    card = layout(pair_baseline="middle", scale_headroom=8.0)
    rule = Pulsed("difference", Trains("deterministic", LONG))
    found = train(rule, step_card(1e-3), card)
    for place, products in ((0, 1), (1, 2)):
        limit = 1.75 * products * BATCH * BATCHES * found.steps[place]
        off = found.weights[place] - found.wanted[place]
        assert bool((off.abs() < limit).all())
        moved = found.wanted[place] - start(torch.float64).weights[place].detach()
        # Most of what was wanted arrives.
        assert float(off.norm()) < 0.3 * float(moved.norm())


@pytest.mark.parametrize("step", [1e-3, 1e-4])
def test_mixed_precision_owes_less_than_one_step(step_card, layout, step: float) -> None:
    card = layout(pair_baseline="middle", scale_headroom=8.0)
    found = train(MixedPrecision(), step_card(step), card)
    assert isinstance(found.rule, MixedPrecision)
    for weight, wanted, owed, own in zip(
        found.weights, found.wanted, found.rule.accumulators, found.steps, strict=True
    ):
        assert bool((owed.abs() < own).all())
        # Sums of 50 numbers of order 1e-2 on weights of order 1.
        torch.testing.assert_close(weight + owed, wanted, rtol=0.0, atol=1e-12)
    for weight, wanted, own in zip(
        found.weights, exact(torch.float64, plain_sgd).weights, found.steps, strict=True
    ):
        # One step, and what the gradients of 50 batches at weights a step off have made of it.
        assert float((weight - wanted).abs().max()) < 20.0 * float(own.max())
