"""Digital writing, mixed precision and the sign rule: small updates worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork, map_to_crossbar
from neurosim_ep.devices import load_device_card
from neurosim_ep.learning import CenteredEP, Phases
from neurosim_ep.models import Dense, Edge, HopfieldNetwork, Layer, SquaredError
from neurosim_ep.onchip import (
    Digital,
    MixedPrecision,
    OnChipLearning,
    OnChipUpdates,
    Rule,
    Sign,
    on_chip_groups,
)

RATE = 0.1
BATCH = 4
START = [[0.5, -1.0, 0.25], [0.0, 0.75, -0.5]]


def exact(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def chip_of(card: Any, array: Any) -> CrossbarNetwork:
    """Two inputs, three outputs, one edge."""
    network = HopfieldNetwork(
        [Layer((2,)), Layer((3,))], [Edge(0, 1, Dense((2,), (3,)))]
    ).double()  # fmt: skip
    with torch.no_grad():
        network.weights[0].copy_(exact(START))
    return map_to_crossbar(network, card, array)


def updates_of(chip: CrossbarNetwork, rule: Rule, **options: Any) -> OnChipUpdates:
    """With plain SGD, or momentum as asked for."""
    method = OnChipLearning(chip, rule, CenteredEP(0.2), SquaredError(), Phases())
    momentum = options.pop("momentum", 0.0)
    optimiser = torch.optim.SGD(on_chip_groups(chip, [RATE], [RATE]), momentum=momentum)
    return OnChipUpdates(method, optimiser, **options)


def learn(updates: OnChipUpdates, change: Tensor) -> Tensor:
    """One update by a batch whose gradient asks for this change; the increments that it made."""
    chip, found = updates.method.model, []
    updates.on_pulses = lambda _, up, down: found.append(up - down)
    chip.weights[0].grad = -change.double() / RATE
    updates.method.contrast = SimpleNamespace(cost=torch.zeros(BATCH))  # type: ignore[assignment]
    updates.step()
    return found[0] if found else torch.zeros(2, 3)


def middle(layout: Any, **fields: Any) -> Any:
    return layout(pair_baseline="middle", scale_headroom=2.0, **fields)


# --- Sign --------------------------------------------------------------------------------------


def test_the_sign_rule_gives_one_pulse_or_none(pulse_card, layout) -> None:
    # The window ends at 2: a pulse of 0.01 of its half on both devices is 0.02.
    chip = chip_of(pulse_card(step=0.01), middle(layout))
    updates = updates_of(chip, Sign())
    asked = exact([[0.0099, 0.0101, -0.2], [-0.0101, -0.0099, 0.0]])
    wanted = exact([[0, 1, -1], [-1, 0, 0]])
    assert torch.equal(learn(updates, asked), wanted)
    torch.testing.assert_close(chip.weights[0].detach(), exact(START) + 0.02 * wanted)
    # No memory: what was too little is lost, however often it comes.
    for _ in range(5):
        assert not learn(updates, exact([[0.0099] * 3] * 2)).any()


@pytest.mark.parametrize("scale", ["layer", "column"])
def test_the_threshold_is_in_steps_of_each_column(pulse_card, layout, scale: str) -> None:
    chip = chip_of(pulse_card(step=0.01), middle(layout, scale=scale))
    largest = exact([0.5, 1.0, 0.5]) if scale == "column" else exact([1.0] * 3)
    step = 2.0 * 0.01 * largest
    updates = updates_of(chip, Sign(threshold_steps=1.5))
    below, above = (exact([[1.0] * 3] * 2) * step * factor for factor in (1.49, 1.51))
    assert not learn(updates, below).any()
    assert bool((learn(updates, -above) == -1.0).all())


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_is_above_zero(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"^threshold_steps: .* is not allowed; must be above 0$"):
        Sign(threshold)


# --- Mixed precision ---------------------------------------------------------------------------


def test_mixed_precision_gives_full_steps_and_keeps_the_rest(pulse_card, layout) -> None:
    chip, rule = chip_of(pulse_card(step=0.01), middle(layout)), MixedPrecision()
    updates, step = updates_of(chip, rule), 0.02
    asked = step * exact([[0.4, -0.4, 1.0], [2.7, -3.6, 0.0]])
    pulses = [
        [[0, 0, 1], [2, -3, 0]],
        [[0, 0, 1], [3, -4, 0]],
        [[1, -1, 1], [3, -3, 0]],
    ]
    total = torch.zeros(2, 3, dtype=torch.float64)
    for number, wanted in enumerate(pulses, start=1):
        # Just above whole steps, so that rounding decides nothing.
        assert torch.equal(learn(updates, asked * (1.0 + 1e-9)), exact(wanted))
        total += exact(wanted)
        torch.testing.assert_close(
            rule.accumulators[0], number * asked - step * total, rtol=0.0, atol=1e-9
        )
        torch.testing.assert_close(chip.weights[0].detach(), exact(START) + step * total)


def test_mixed_precision_may_have_momentum(pulse_card, layout) -> None:
    # v = 0.5 v + g: a constant gradient of 2 steps asks for 2, 3, 3.5, 3.75 steps.
    chip = chip_of(pulse_card(step=0.01), middle(layout))
    updates = updates_of(chip, MixedPrecision(), momentum=0.5)
    asked = 0.02 * 2.0 * (1.0 + 1e-9) * torch.ones(2, 3, dtype=torch.float64)
    found = [float(learn(updates, asked)[0, 0]) for _ in range(4)]
    assert found == [2.0, 3.0, 3.0, 4.0]


# --- Digital -----------------------------------------------------------------------------------


def test_digital_writes_every_nth_update(pulse_card, layout) -> None:
    chip, rule = chip_of(pulse_card(), layout()), Digital(write_interval=3)
    updates, storage = updates_of(chip, rule), chip.storages[0]
    change, counts = exact([[0.1, 0.2, 0.3], [-0.4, 0.5, 0.6]]), []
    for number in range(1, 8):
        assert not learn(updates, change).any()
        digital = exact(START) + number * change
        torch.testing.assert_close(storage.weight.detach(), digital)
        # The largest weight grows beyond the first scale: the window is laid out anew.
        written = exact(START) + number // 3 * 3 * change
        torch.testing.assert_close(storage.effective_weight(), written)
        counts.append((rule.writes, rule.attempts, rule.failed))
    assert counts == [(n // 3, n // 3 * 12, 0) for n in range(1, 8)]
    assert rule.record() == {"writes": 2, "write_pulses": 24, "write_failed": 0}
    copy = Digital(write_interval=3)
    copy.load_state_dict(rule.state_dict())
    assert copy.record() == rule.record()


def test_digital_clips_where_it_keeps_its_scale(pulse_card, layout) -> None:
    chip = chip_of(pulse_card(), layout())
    updates = updates_of(chip, Digital(rescale=False))
    learn(updates, 0.75 * torch.ones(2, 3, dtype=torch.float64))
    wanted = (exact(START) + 0.75).clamp(-1.0, 1.0)
    torch.testing.assert_close(chip.storages[0].effective_weight(), wanted)
    with pytest.raises(ValueError, match=r"^write_interval_updates: 0 is not allowed"):
        Digital(0)


# --- Renewal and time --------------------------------------------------------------------------


def test_one_sided_pairs_are_renewed_when_it_is_their_time(pulse_card, layout) -> None:
    # 0.1 of the half window per pulse; weights of 1 fill half of the window.
    card = pulse_card(step=0.1, one_sided=True)
    chip = chip_of(card, layout(scale_headroom=2.0))
    updates = updates_of(chip, Sign(), renew_interval=4, renew_fraction=0.58)
    devices = chip.storages[0].matrix.devices
    turns = []
    for number in range(12):
        # Up and down in turn: both devices of every pair rise.
        learn(updates, (1.0 if number % 2 == 0 else -1.0) * torch.ones(2, 3))
        turns.append((devices.program_count - 1, updates.renewed))
    programmings, renewed = zip(*turns, strict=True)
    # After updates 4, 8 and 12 a device has risen to 0.5 |w| + 0.05 (2, 4, 6) of its window, unless
    # its pair was renewed: |w| of 1 to 0.6 each time, 0.75 to 0.475, 0.575 and 0.675.
    assert list(programmings) == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert list(renewed) == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 4]
    torch.testing.assert_close(chip.weights[0].detach(), exact(START))
    # Others have risen and were let be.
    assert float(devices.conductance[:, 1, 0].min()) > card.window.g_min_siemens


def test_pairs_that_go_both_ways_are_never_renewed(pulse_card, layout) -> None:
    chip = chip_of(pulse_card(step=0.2), middle(layout))
    updates = updates_of(chip, Sign(), renew_interval=1, renew_fraction=0.1)
    for _ in range(3):
        learn(updates, torch.ones(2, 3))
    assert updates.renewed == 0
    assert chip.storages[0].matrix.devices.program_count == 1


def test_time_passes_per_image(layout) -> None:
    card = load_device_card("pcm").model_copy(update={"programming": None, "read_noise": ()})
    chip = chip_of(card, layout())
    updates = updates_of(chip, Digital(write_interval=3), image_time_s=10.0)
    start, ages, sizes = chip.storages[0].effective_weight().abs().sum(), [], []
    for _ in range(4):
        learn(updates, torch.zeros(2, 3))
        ages.append(chip.elapsed_s)
        sizes.append(float(chip.storages[0].effective_weight().abs().sum() / start))
    # Written at the third update, before its images' time passes.
    assert ages == [40.0, 80.0, 40.0, 80.0]
    assert 1.0 > sizes[0] > sizes[1]
    assert sizes[2] > sizes[1]
