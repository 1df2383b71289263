"""Tiki-Taka: what the fast array holds and passes on, and what that is good for."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import CrossbarNetwork, map_to_crossbar
from neurosim_ep.crossbar.card import Compensation, Converters
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.learning import CenteredEP, Phases, Term
from neurosim_ep.models import Dense, Edge, HopfieldNetwork, Layer, SquaredError
from neurosim_ep.onchip import (
    OnChipLearning,
    OnChipUpdates,
    Pulsed,
    Rule,
    TikiTaka,
    Trains,
    on_chip_groups,
)

RATE = 0.1
STEP = 0.01
"""Of the devices' state; an increment moves a weight by as much of the window's end."""
TRAINS = Trains("deterministic", 10**6)
"""Whole numbers of pulses asked for are given as they are."""


def exact(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def chip_of(card: Any, array: Any, weights: Tensor, *, bias_rows: bool = False) -> CrossbarNetwork:
    """One dense edge with these weights (rows, columns)."""
    rows, columns = weights.shape
    layers = [Layer((rows,)), Layer((columns,))]
    network = HopfieldNetwork(layers, [Edge(0, 1, Dense((rows,), (columns,)))]).double()
    with torch.no_grad():
        network.weights[0].copy_(weights)
    return map_to_crossbar(network, card, array, bias_rows=bias_rows)


def updates_of(chip: CrossbarNetwork, rule: Rule, rate: float = RATE, **options: Any) -> Any:
    method = OnChipLearning(chip, rule, CenteredEP(0.2), SquaredError(), Phases())
    return OnChipUpdates(method, torch.optim.SGD(on_chip_groups(chip, [rate], [rate])), **options)


def send(updates: OnChipUpdates, x: Tensor, pulses: Tensor, rate: float = RATE) -> Tensor:
    """One update by one image whose product x (rows,) times pulses (columns,) is in increments.

    Returns the weight change that it asks for (rows, columns).
    """
    chip = updates.method.model
    d = pulses * chip.storages[0].matrix.weight_step / rate
    updates.method.contrast = SimpleNamespace(  # type: ignore[assignment]
        nudged=[torch.stack([x, x]), torch.stack([d, 0.0 * d])],
        terms=[Term(1.0, 0.1), Term(-1.0, -0.1)],
        cost=torch.zeros(1),
    )
    updates.step()
    return torch.outer(x, rate * d)


def signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator).double() - 1.0


def middle(layout: Any, **fields: Any) -> Any:
    return layout(pair_baseline="middle", scale_headroom=2.0, **fields)


WEIGHTS = exact([[0.5, -0.25, 0.0], [0.1, 0.2, -0.3], [0.0, 0.4, 0.5], [-0.5, 0.3, 0.2]])


def tiki_taka(variant: Any, **options: Any) -> TikiTaka:
    """Of ideal devices, which are at their symmetry points where they are programmed."""
    return TikiTaka(variant, "difference", TRAINS, symmetrising_pulses=0, **options)


# --- What is passed on -------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("sweep", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("chop", [1, 3])
def test_agad_passes_on_just_what_has_come_since_the_last_reading(
    pulse_card, layout, sweep: int, mapping: str, chop: int
) -> None:
    chip = chip_of(pulse_card(step=STEP), middle(layout, mapping=mapping), WEIGHTS)
    rule = tiki_taka("agad", sweep_updates=sweep, chop_sweeps=chop)
    updates, generator = updates_of(chip, rule), torch.Generator().manual_seed(1)
    wanted = torch.zeros(4, 3, dtype=torch.float64)  # so far, of all rows
    passed = wanted.clone()  # as it stood when each row was last read
    fast, chopper, reads = wanted.clone(), torch.ones(4, 1, dtype=torch.float64), 0
    for number in range(1, 13):
        x = torch.randint(-1, 2, (4,), generator=generator).double()
        pulses = torch.randint(-3, 4, (3,), generator=generator).double()
        asked = send(updates, x, pulses)
        wanted += asked
        fast += chopper * asked
        # All four rows are read once in every so many updates, in turn.
        while (reads + 1) * sweep <= 4 * number:
            row = reads % 4
            passed[row] = wanted[row]
            if (reads // 4 + 1) % chop == 0:
                chopper[row] *= -1.0
            reads += 1
        held = rule.fast[0]
        torch.testing.assert_close(held.matrix.forward_matrix, fast, rtol=0.0, atol=1e-12)
        assert torch.equal(held.chopper, chopper)
        change = chip.weights[0].detach() - WEIGHTS
        torch.testing.assert_close(change + held.buffer, passed, rtol=0.0, atol=1e-12)
        step = chip.storages[0].matrix.weight_step
        assert bool((held.buffer.abs() < step * (1.0 + 1e-9)).all())
    # By turning rows round, the fast array holds less than what went through it.
    assert float(wanted.abs().max()) > 3.0 * STEP


@pytest.mark.parametrize(("chop", "least"), [(1, 0.0), (10, 0.6)])
def test_agad_sees_gradients_below_one_code_of_the_converter(
    pulse_card, layout, chop: int, least: float
) -> None:
    # Of 4 bits a code is a seventh of the window, 14 steps: a batch's single pulse is far below it.
    # Turned after every reading nothing ever reaches a code; after ten, most of it does.
    array = middle(layout).model_copy(update={"forward": Converters(adc_bits=4, source="a test")})
    chip = chip_of(pulse_card(step=STEP), array, torch.zeros(1, 3).double() + WEIGHTS[:1])
    start = chip.weights[0].detach().clone()
    updates = updates_of(chip, tiki_taka("agad", chop_sweeps=chop))
    wanted = sum(send(updates, exact([1.0]), exact([3.0, -3.0, 0.0])) for _ in range(20))
    assert isinstance(wanted, Tensor)
    passed = (chip.weights[0].detach() - start) / wanted.where(wanted != 0.0, exact(1.0))
    assert float(passed[0, :2].min()) >= least - 1e-9
    assert float(passed[0, :2].max()) <= (1e-9 if chop == 1 else 1.5)


def test_v2_passes_the_fast_array_on_again_and_again(pulse_card, layout) -> None:
    chip = chip_of(pulse_card(step=STEP), middle(layout), WEIGHTS)
    rule = tiki_taka("v2", transfer_gain=0.3)
    updates, none = updates_of(chip, rule), torch.zeros(3, dtype=torch.float64)
    x, pulses = exact([1.0, 0.0, -1.0, 1.0]), exact([2.0, -1.0, 0.0])
    fast = send(updates, x, pulses)
    for number in range(1, 8):
        change = chip.weights[0].detach() - WEIGHTS
        # 0.3 of 2 steps, and of 1, at every reading; full steps of the sum are given.
        torch.testing.assert_close(
            change + rule.fast[0].buffer, number * 0.3 * fast, rtol=0.0, atol=1e-12
        )
        steps = (change / STEP).round()
        torch.testing.assert_close(change, steps * STEP, rtol=0.0, atol=1e-12)
        assert float((steps - (number * 0.3 * fast / STEP)).abs().max()) < 1.0 + 1e-9
        assert not send(updates, x, none).any()
    assert torch.equal(rule.fast[0].chopper, torch.ones(4, 1, dtype=torch.float64))


def test_v1_rounds_by_chance_and_keeps_no_rest(pulse_card, layout) -> None:
    # 0.3 of one pulse, up in half of the columns and down in the others: pulses by chance 0.3.
    columns = 4000
    chip = chip_of(pulse_card(step=STEP), middle(layout), 0.5 * torch.ones(1, columns).double())
    rule = tiki_taka("v1", transfer_gain=0.3)
    updates = updates_of(chip, rule)
    pulses = torch.ones(columns, dtype=torch.float64)
    pulses[columns // 2 :] = -1.0
    send(updates, exact([1.0]), pulses)
    steps = ((chip.weights[0].detach()[0] - 0.5) / STEP).round() * pulses
    assert set(steps.tolist()) == {0.0, 1.0}
    error = (0.3 * 0.7 / (columns // 2)) ** 0.5
    for half in steps.chunk(2):
        assert abs(float(half.mean()) - 0.3) < 5.0 * error
    assert not rule.fast[0].buffer.any()


def test_rates_of_their_own_leave_the_sum_as_it_is(pulse_card, layout) -> None:
    x, pulses = exact([1.0, 0.0, -1.0, 1.0]), exact([2.0, -1.0, 0.0])
    for fast_rate, factor in ((None, 1.0), (2.0 * RATE, 2.0), (3.0 * RATE, 3.0)):
        chip = chip_of(pulse_card(step=STEP), middle(layout), WEIGHTS)
        rule = tiki_taka("agad", fast_learning_rate=fast_rate)
        updates = updates_of(chip, rule)
        asked = send(updates, x, pulses)
        torch.testing.assert_close(rule.fast[0].matrix.forward_matrix, factor * asked)
        torch.testing.assert_close(chip.weights[0].detach(), WEIGHTS + asked)
        # An annealed learning rate turns down what is passed on, not what is gathered.
        for group in updates.param_groups:
            group["lr"] = 0.5 * RATE
        send(updates, x, 2.0 * pulses)
        found = chip.weights[0].detach() + rule.fast[0].buffer
        torch.testing.assert_close(found, WEIGHTS + 2.0 * asked, rtol=0.0, atol=1e-12)


def test_what_has_no_learning_rate_does_not_learn(pulse_card, layout) -> None:
    chip = chip_of(pulse_card(step=STEP), middle(layout), WEIGHTS)
    for fast_rate in (None, RATE):
        updates = updates_of(chip, tiki_taka("v2", fast_learning_rate=fast_rate), rate=0.0)
        for _ in range(3):
            send(updates, torch.ones(4).double(), torch.ones(3).double())
        torch.testing.assert_close(chip.weights[0].detach(), WEIGHTS)
        # A rate that comes later is taken.
        for group in updates.param_groups:
            group["lr"] = RATE
        send(updates, torch.ones(4).double(), torch.ones(3).double())
        assert float((chip.weights[0].detach() - WEIGHTS).min()) > 0.5 * STEP
        chip.storages[0].pulse(torch.zeros(4, 3), torch.zeros(4, 3))
        chip = chip_of(pulse_card(step=STEP), middle(layout), WEIGHTS)


# --- Symmetry points and references ------------------------------------------------------------

SOFT = {"model": "soft_bounds", "step": 0.02, "up_down": 0.3}


def test_fast_arrays_start_at_their_symmetry_points(pulse_card, layout) -> None:
    # Up s (1 - w), down 0.7 s (1 + w): equal at w = 0.3 / 1.7.  Started at mid-window, 500 up and
    # 500 down pulses bring a device there but for exp(-1.7 * 0.02 * 500).
    weights = 0.5 * torch.ones(30, 40).double()
    card = middle(layout, mapping="offset_column")
    chip = chip_of(pulse_card(**SOFT), card, weights)
    rule = TikiTaka("v2", trains=TRAINS, symmetrising_pulses=500)
    updates_of(chip, rule)
    fast = rule.fast[0]
    point = 0.3 / 1.7
    state = fast.matrix.devices.state[0, :, :40]
    # Where pulses come by chance, a device's own walk is about sqrt(s / 2) wide: 1,200 of them.
    assert abs(float(state.mean()) - point) < 5.0 * 0.1 / 1200**0.5
    assert 0.01 < float(state.std()) < 0.15
    # The window's end is 1: the weight that stands for zero is the state.
    torch.testing.assert_close(fast.reference, state, rtol=1e-9, atol=1e-12)
    assert not torch.equal(fast.matrix.devices.state, chip.storages[0].matrix.devices.state)
    assert fast.matrix.devices.seed != chip.storages[0].matrix.devices.seed


@pytest.mark.parametrize("variant", ["v1", "v2", "agad"])
def test_what_the_fast_array_starts_with_is_not_passed_on(pulse_card, layout, variant: Any) -> None:
    # Devices of different steps stand anywhere: without a reference all that would be passed on.
    card = pulse_card(**SOFT, step_spread_relative=0.3, up_down_spread=0.1)
    chip = chip_of(card, middle(layout), 0.5 * torch.ones(10, 10).double())
    rule = TikiTaka(variant, trains=TRAINS, symmetrising_pulses=200)
    updates, before = updates_of(chip, rule), chip.weights[0].detach().clone()
    assert float(rule.fast[0].reference.abs().mean()) > 2.0 * 0.02
    for _ in range(5):
        send(updates, torch.ones(10).double(), torch.zeros(10).double())
    torch.testing.assert_close(chip.weights[0].detach(), before, rtol=0.0, atol=1e-12)


def test_asymmetry_eats_pulsed_weights_and_spares_tiki_taka(pulse_card, layout) -> None:
    """The claim of the rule: pulses of no mean drive a pulsed weight to its symmetry point.

    Twenty columns get one pulse per update, up or down by chance; ten others get three up for each
    down.  Tiki-Taka leaves the former where they are and moves the latter.
    """
    card = pulse_card(**SOFT, step_spread_relative=0.1, up_down_spread=0.05)
    noise, signal = slice(0, 20), slice(20, 30)
    found = {}
    for rule in (
        Pulsed("difference", TRAINS),
        TikiTaka("v2", trains=TRAINS, transfer_gain=0.002, symmetrising_pulses=300),
    ):
        chip = chip_of(card, middle(layout), 0.5 * torch.ones(5, 30).double())
        updates, generator = updates_of(chip, rule), torch.Generator().manual_seed(2)
        start = chip.weights[0].detach().mean()
        assert abs(float(start) - 0.5) < 1e-6
        for _ in range(400):
            pulses = signs((30,), generator)
            pulses[signal] = torch.where(signs((10,), generator) > 0.0, 1.0, pulses[signal])
            send(updates, torch.ones(5).double(), pulses)
        found[type(rule).__name__] = chip.weights[0].detach()
    # 400 pulses of 0.85 * 0.02: exp(-6.8) of what was is left, and a walk of 0.1 in each of twenty
    # independent columns.
    assert abs(float(found["Pulsed"][:, noise].mean())) < 5.0 * 0.1 / 20**0.5
    # Tiki-Taka's own walk: 0.1 over 400 readings that forget in 60, times the gain.
    own = 0.002 * 0.1 * (2.0 * 60.0 * 400.0) ** 0.5 / 20**0.5
    assert abs(float(found["TikiTaka"][:, noise].mean()) - 0.5) < 5.0 * own
    assert float(found["TikiTaka"][:, signal].mean()) > 0.5 + 5.0 * own


def test_devices_without_a_symmetry_point_are_refused(layout) -> None:
    chip = chip_of(load_device_card("pcm"), layout(), WEIGHTS)
    with pytest.raises(ValueError, match=r"^rule: 'tiki_taka' is not allowed with 'pcm'") as caught:
        updates_of(chip, TikiTaka())
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^transfer_sweep_updates: 0 is not allowed"):
        TikiTaka(sweep_updates=0)


# --- Bookkeeping -------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
def test_the_record_counts_fast_pulses_without_the_first(pulse_card, layout, mapping: str) -> None:
    chip = chip_of(pulse_card(step=STEP), middle(layout, mapping=mapping), WEIGHTS)
    rule = TikiTaka("agad", trains=TRAINS, symmetrising_pulses=7)
    updates = updates_of(chip, rule)
    for _ in range(3):
        send(updates, exact([1.0, 1.0, 0.0, 0.0]), exact([2.0, -4.0, 0.0]))
    record = rule.record()
    # Of twelve weights, two get 2 pulses per update and two get 4.
    assert record["fast_pulses_mean"] == pytest.approx(3.0 * (2.0 * 2.0 + 2.0 * 4.0) / 12.0)
    assert record["fast_pulses_max"] == 12.0
    assert record["symmetrising_pulses_per_device"] == 14
    assert record["rows_read_per_update"] == 4
    assert record["fast_learning_rates"] == [RATE]


def test_fast_arrays_age_with_the_chip(pulse_card, layout) -> None:
    card = load_device_card("li-ecram").model_copy(update={"read_noise": ()})
    chip = chip_of(card, middle(layout), WEIGHTS)
    rule = TikiTaka("v2", trains=TRAINS, symmetrising_pulses=10)
    updates = updates_of(chip, rule, image_time_s=1e5)
    before = rule.fast[0].matrix.devices.conductance.clone()
    send(updates, torch.zeros(4).double(), torch.zeros(3).double())
    fast = rule.fast[0].matrix.devices
    assert fast.elapsed_s == 1e5
    # Retention of 1e6 s to the middle of the window: a tenth of the way, more or less.
    centre = 5.5e-6
    share = ((fast.conductance - centre) / (before - centre)).flatten()
    assert 0.8 < float(share.median()) < 0.97


def test_a_fast_array_is_pulsed_by_its_own_compensated_step(pulse_card, layout) -> None:
    """Conductances fall to a half in the slow array alone: its steps count double there."""
    leak = {"model": "retention", "rest_siemens": 0.0, "time_constant_s": 1.0, "source": "a test"}
    card = pulse_card(step=STEP).model_dump() | {"drift": leak}
    array = middle(layout).model_copy(update={"compensation": Compensation(
        global_drift=True, source="a test"
    )})  # fmt: skip
    chip = chip_of(card_from_mapping(DeviceCard, card), array, WEIGHTS)
    rule = tiki_taka("agad")
    updates = updates_of(chip, rule)
    fast = rule.fast[0].matrix
    chip.advance_time(math.log(2.0))
    assert float(chip.storages[0].matrix.compensation) == pytest.approx(2.0)
    assert float(fast.compensation) == 1.0
    before = fast.devices.pulse_count
    assert before is not None
    # Six increments of the slow array's step are twelve of the fast one's.
    asked = send(updates, exact([1.0, 0.0, 0.0, 0.0]), exact([6.0, -3.0, 0.0]))
    assert fast.devices.pulse_count is not None
    assert (fast.devices.pulse_count - before)[0, 0].tolist() == [12, 6, 0]
    torch.testing.assert_close(fast.forward_matrix, asked, rtol=1e-9, atol=1e-12)


def test_bias_rows_have_fast_arrays_of_their_own(pulse_card, layout) -> None:
    chip = chip_of(pulse_card(step=STEP), middle(layout), WEIGHTS, bias_rows=True)
    rule = tiki_taka("agad")
    updates = updates_of(chip, rule)
    assert [fast.buffer.shape for fast in rule.fast] == [(4, 3), (1, 3)]
    send(updates, exact([1.0, 0.0, -1.0, 1.0]), exact([2.0, -1.0, 0.0]))
    torch.testing.assert_close(chip.biases[0].detach(), exact([2.0, -1.0, 0.0]) * STEP)
