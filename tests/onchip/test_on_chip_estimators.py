"""On-chip learning with every real estimator, with warm starts, and on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.data import Batches, Preparation, load
from neurosim_ep.learning import (
    CenteredEP,
    Estimator,
    NegativeEP,
    Phases,
    PositiveEP,
    RandomSignEP,
    Training,
    accumulate_contrast,
)
from neurosim_ep.models import SquaredError, mlp
from neurosim_ep.onchip import (
    Digital,
    MixedPrecision,
    OnChipLearning,
    OnChipUpdates,
    Pulsed,
    Rule,
    Sign,
    TikiTaka,
    Trains,
    on_chip_groups,
)

LONG = Trains("mean_field", 4096)
RATES = {"digital": 0.3, "mixed_precision": 0.3, "pulsed": 0.3, "tiki_taka": 0.3, "sign": 0.05}


def rule_of(name: str) -> Rule:
    if name == "digital":
        return Digital(write_interval=2)
    if name == "mixed_precision":
        return MixedPrecision()
    if name == "sign":
        return Sign()
    return TikiTaka("agad", trains=LONG) if name == "tiki_taka" else Pulsed(trains=LONG)


def training_of(
    chip: CrossbarNetwork, rule: Rule, estimator: Estimator, rate: float, **options: Any
) -> Training:
    """On 240 digits in batches of 8."""
    method = OnChipLearning(
        chip, rule, estimator, SquaredError(), Phases(8, 4), **options
    )  # fmt: skip
    updates = OnChipUpdates(method, torch.optim.SGD(on_chip_groups(chip, [rate] * 2, [rate] * 2)))
    data, first = load("digits"), chip.biases[0]
    batches = Batches(
        data.train.first(240),
        batch_size=8,
        preparation=Preparation.for_dataset(data, 8),
        dtype=first.dtype,
        device=first.device,
    )
    return Training(method, updates, batches)


def chip_of(card: Any, array: Any, **options: Any) -> CrossbarNetwork:
    network = mlp((1, 8, 8), 10, (16,), generator=torch.Generator().manual_seed(3)).double()
    return map_to_crossbar(network, card, array, **options)


@pytest.mark.parametrize("rule", RATES)
@pytest.mark.parametrize("estimator", [NegativeEP(0.3), RandomSignEP(0.3)], ids=["-", "+-"])
def test_every_rule_learns_with_every_estimator(
    step_card, layout, rule: str, estimator: Estimator
) -> None:
    # A hundredth of the window's half per pulse is what `sign` can learn by; others ask for less.
    card = step_card(0.01 if rule == "sign" else 0.002)
    array = layout(pair_baseline="middle", scale_headroom=8.0)
    training = training_of(
        chip_of(card, array), rule_of(rule), estimator, RATES[rule], warm_start=True
    )
    costs: list[Tensor] = []
    step = training.method.step

    def stepping(*arguments: Any) -> Any:
        report = step(*arguments)
        costs.append(report.cost.mean())
        return report

    training.method.step = stepping  # type: ignore[method-assign]
    training.run_epoch()
    training.run_epoch()
    # Guessing costs 0.45 with the best constant output; no training ends there by chance.
    first, last = torch.stack(costs[:5]).mean(), torch.stack(costs[-15:]).mean()
    assert float(first) > 0.42
    assert float(last) < 0.9 * float(first)
    assert training.method.carried() is None


def test_a_warm_start_begins_where_the_largest_nudging_ended(step_card, layout) -> None:
    array = layout(pair_baseline="middle", scale_headroom=8.0)
    training = training_of(
        chip_of(step_card(0.002), array), Pulsed(), PositiveEP(0.3), 0.1, warm_start=True
    )
    method = training.method
    assert isinstance(method, OnChipLearning)
    images, labels = next(iter(training.batches.epoch(0)))
    method.step(images, labels, torch.Generator())
    assert method.contrast is not None
    carried = method.carried()
    assert carried is not None
    for state, wanted in zip(carried, method.contrast.nudged, strict=True):
        assert torch.equal(state, wanted[:8])


def test_a_random_sign_is_the_same_for_calibration_and_learning(step_card) -> None:
    # Calibrating must not take the draw that decides which equilibria are learned from.
    found = []
    for interval in (1, 10**6):
        chip = chip_of(step_card(0.002), load_array_card("default"))
        training = training_of(
            chip, Pulsed(), RandomSignEP(0.3), 0.1, calibration_interval=interval
        )
        method = training.method
        assert isinstance(method, OnChipLearning)
        betas = []
        for number, (images, labels) in enumerate(training.batches.epoch(0)):
            method.step(images, labels, torch.Generator().manual_seed(number))
            assert method.contrast is not None
            betas.append([term.beta for term in method.contrast.terms])
            if number == 8:
                break
        found.append(betas)
    assert found[0] == found[1]
    assert len({tuple(betas) for betas in found[0]}) == 2


def test_converters_are_calibrated_at_first_and_at_intervals(
    step_card, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = chip_of(step_card(0.002), load_array_card("default"))
    training = training_of(chip, Pulsed(), CenteredEP(0.3), 0.1, calibration_interval=5)
    done, real = [], chip.calibrating

    def calibrating() -> Any:
        done.append(training.batch)
        return real()

    monkeypatch.setattr(chip, "calibrating", calibrating)
    training.run_epoch()
    assert done == [0, 1, 2, 4, 5, 8, 10, 15, 16, 20, 25]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rule", RATES)
def test_a_gpu_learns_what_the_cpu_learns(step_card, layout, rule: str) -> None:
    # Deterministic trains and devices without noise draw nothing that could differ; but a count of
    # pulses may be rounded the other way, and gradients follow.
    array, trains = layout(pair_baseline="middle", scale_headroom=8.0), Trains("deterministic")
    ends = []
    for device in ("cpu", "cuda"):
        made = rule_of(rule)
        if isinstance(made, Pulsed | TikiTaka):
            made.trains = trains
        if isinstance(made, TikiTaka):
            made.symmetrising_pulses = 0
        network = mlp((1, 8, 8), 10, (16,), generator=torch.Generator().manual_seed(3))
        chip = map_to_crossbar(network.double().to(device), step_card(0.002), array, bias_rows=True)
        training = training_of(chip, made, CenteredEP(0.3), RATES[rule])
        contrast = _first_batches(training, 6)
        assert contrast > 0.0
        ends.append([weight.detach().cpu() for weight in chip.weights])
        step = [storage.matrix.weight_step.max().cpu() for storage in chip.storages]
        restored = training_of(chip, made, CenteredEP(0.3), RATES[rule])
        restored.load_state_dict(training.state_dict())
    for one, other, most in zip(*ends, step, strict=True):
        allowed = 1e-9 if rule == "digital" else 6.0 * float(most)
        assert float((one - other).abs().max()) < allowed


def _first_batches(training: Training, count: int) -> float:
    """Learn from some batches; the largest gradient of the last."""
    method, updates = training.method, training.optimiser
    assert isinstance(method, OnChipLearning)
    largest = 0.0
    for number, (images, labels) in enumerate(training.batches.epoch(0)):
        if number == count:
            break
        method.step(images, labels, torch.Generator())
        assert method.contrast is not None
        probe = mlp((1, 8, 8), 10, (16,)).to(images)
        accumulate_contrast(probe, method.contrast.nudged, method.contrast.terms)
        gradient = probe.weights[0].grad
        assert gradient is not None
        largest = float(gradient.abs().max())
        updates.step()
    return largest
