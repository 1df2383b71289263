"""What pulses bring to learning on a chip: each made ideal by itself, the others as they were."""

from __future__ import annotations

import itertools
import math
import tomllib

import pytest
import torch

from neurosim_ep.cards import card_from_mapping, dump_card
from neurosim_ep.crossbar import (
    LEARNING_NONIDEALITIES,
    NONIDEALITIES,
    load_array_card,
    only,
    present,
    without,
)
from neurosim_ep.crossbar.pulse_nonidealities import (
    IDEAL_STEP,
    PULSE_NONIDEALITIES,
    present_pulses,
    without_pulses,
)
from neurosim_ep.devices import shipped_device_cards
from neurosim_ep.devices.pulse_response import ConstantPulse

DEFAULT = load_array_card("default")
CARDS = shipped_device_cards()
FORMS = {
    "constant": {"model": "constant"},
    "linear": {"model": "linear", "gamma_up": 0.3, "gamma_down": 0.7, "gamma_up_spread": 0.1},
    "soft_bounds": {"model": "soft_bounds"},
    "exponential": {"model": "exponential", "a_up": -9.0, "a_down": 0.2, "gamma_up": 2.0}
    | {"gamma_down": 1.0, "a": -0.8, "b": -0.4},
    "power": {"model": "power", "gamma_up": 1.5, "gamma_down": 0.5, "gamma_down_spread": 0.2},
}
EVERYTHING = {
    "step_relative": 0.02,
    "step_spread_relative": 0.3,
    "up_down": -0.2,
    "up_down_spread": 0.05,
    "cycle_spread_relative": 0.4,
    "write_noise_relative": 0.7,
    "w_max_spread_relative": 0.1,
    "one_sided": True,
}


@pytest.fixture
def response(device):
    """A pulse response with fields as given: (form, **fields)."""

    def make(form: str, **fields: object):
        table = FORMS[form] | {"step_relative": 0.02} | fields
        return device(pulse_response=table).pulse_response

    return make


def steps(response, w, *, up: bool):
    return response.mean_step(w, torch.tensor(up), response.nominal())


def plain(response) -> dict[str, object]:
    return response.model_dump(exclude={"source"})


def test_learning_meets_all_that_mapping_does_and_the_pulses() -> None:
    assert set(LEARNING_NONIDEALITIES) == {*NONIDEALITIES, *PULSE_NONIDEALITIES}
    assert tuple(n for n in LEARNING_NONIDEALITIES if n in NONIDEALITIES) == NONIDEALITIES


@pytest.mark.parametrize("form", FORMS)
def test_each_of_them_by_itself(form: str, response) -> None:
    whole = response(form, **EVERYTHING)
    there = set(PULSE_NONIDEALITIES)
    if form == "constant":  # whose up pulses are all equal, and there are no others
        there.remove("pulse_nonlinearity")
    assert present_pulses(whole) == there
    for name in there:
        rest = there - {name}
        assert present_pulses(without_pulses(whole, [name])) == rest
        assert present_pulses(without_pulses(whole, rest)) == {name}


def test_mapping_does_not_see_pulses(device, array) -> None:
    card = device(pulse_response=FORMS["linear"] | EVERYTHING | {"w_max_spread_relative": 0.0})
    assert present(card, array(8, 8)) == ()
    assert present(card, array(8, 8), learning=True) == tuple(PULSE_NONIDEALITIES)
    assert only(card, array(8, 8), ())[0] == card
    assert present(*only(card, array(8, 8), (), learning=True), learning=True) == ()


def test_the_spread_of_bounds_is_met_by_mapping_too(device, array) -> None:
    card = device(pulse_response=FORMS["constant"] | {"step_relative": 1e-4})
    assert present(card, array(8, 8), learning=True) == ()
    for name in ("w_max_spread_relative", "w_min_spread_relative"):
        varied = device(pulse_response=FORMS["constant"] | {"step_relative": 1e-4, name: 0.2})
        assert present(varied, array(8, 8)) == ("spread",)
        ideal, _ = without(varied, array(8, 8), ["spread"])
        assert present(ideal, array(8, 8), learning=True) == ()
        assert ideal.draw_bounds((3,), torch.Generator(), torch.float64) is None


@pytest.mark.parametrize("form", FORMS)
def test_all_removed_is_the_ideal_response(form: str, response) -> None:
    ideal = without_pulses(response(form, **EVERYTHING), PULSE_NONIDEALITIES)
    wanted = ConstantPulse(step_relative=IDEAL_STEP, w_max_spread_relative=0.1, source="a test")
    assert isinstance(ideal, ConstantPulse)
    assert plain(ideal) | {"step_relative": IDEAL_STEP} == plain(wanted)
    assert ideal.step_relative == pytest.approx(IDEAL_STEP, rel=1e-12)


@pytest.mark.parametrize("name", CARDS)
def test_cards_stay_cards_as_files(name: str) -> None:
    there = present(CARDS[name], DEFAULT, learning=True)
    for names in [(), there, *((one,) for one in there)]:
        for card in (*without(CARDS[name], DEFAULT, names), *only(CARDS[name], DEFAULT, names)):
            assert card_from_mapping(type(card), tomllib.loads(dump_card(card))) == card


@pytest.mark.parametrize("name", [n for n, card in CARDS.items() if card.pulse_response])
def test_the_order_in_which_they_go_does_not_matter(name: str) -> None:
    pulses = CARDS[name].pulse_response
    assert pulses is not None
    for pair in itertools.combinations(sorted(present_pulses(pulses)), 2):
        one, other = (
            without_pulses(without_pulses(pulses, [first]), [second])
            for first, second in (pair, pair[::-1])
        )
        for field, value in plain(one).items():
            wanted = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert getattr(other, field) == wanted, (pair, field)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("up_down", [-0.3, 0.0, 0.3])
def test_down_pulses_mirror_up_pulses(form: str, up_down: float, response) -> None:
    before = response(form, one_sided=True, up_down=up_down, write_noise_relative=0.5)
    after = without_pulses(before, ["one_sided_pulses"])
    w = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
    torch.testing.assert_close(steps(after, w, up=True), steps(before, w, up=True))
    torch.testing.assert_close(steps(after, w, up=False), -steps(before, -w, up=True))
    assert after.window_step() == pytest.approx(before.window_step())
    noise = [r.write_noise_relative * r.step_relative for r in (before, after)]
    assert noise[0] == pytest.approx(noise[1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("one_sided", [True, False])
def test_without_nonlinearity_all_steps_are_the_mean_one(form, one_sided, response) -> None:
    before = response(form, up_down=0.2, one_sided=one_sided)
    after = without_pulses(before, ["pulse_nonlinearity"])
    w = torch.linspace(-1.0, 1.0, 20_001, dtype=torch.float64)
    lengths = [steps(before, w, up=True)] + ([] if one_sided else [-steps(before, w, up=False)])
    mean = float(torch.stack([torch.trapezoid(each, w) / 2.0 for each in lengths]).mean())
    for up, sign in [(True, 1.0)] + ([] if one_sided else [(False, -1.0)]):
        found = steps(after, w, up=up)
        torch.testing.assert_close(found, torch.full_like(w, sign * mean), rtol=1e-4, atol=0)
    assert after.one_sided == one_sided


@pytest.mark.parametrize("cycle_noise", ["additive", "multiplicative"])
@pytest.mark.parametrize("up_down", [-0.4, 0.0, 0.4])
def test_without_nonlinearity_the_noise_keeps_its_mean_size(cycle_noise, up_down, response) -> None:
    fields = {"cycle_noise": cycle_noise, "up_down": up_down, "cycle_spread_relative": 0.5}
    before = response("linear", **fields, write_noise_relative=2.0)
    after = without_pulses(before, ["pulse_nonlinearity"])

    def sigma(pulses, w: float, up: bool) -> float:
        states = torch.full((40_000,), w, dtype=torch.float64)
        generator = torch.Generator().manual_seed(3)
        moved = pulses.pulse(states, torch.tensor(up), pulses.nominal(), generator)
        return float(moved.std())

    # In a linear response the mean over the window is the step, and its noise, in the middle.
    found = [[sigma(pulses, 0.0, up) for up in (True, False)] for pulses in (before, after)]
    assert sum(found[0]) == pytest.approx(sum(found[1]), rel=0.02)
    noise = [r.write_noise_relative * r.step_relative for r in (before, after)]
    assert noise[0] == pytest.approx(noise[1])


@pytest.mark.parametrize("form", ["linear", "soft_bounds"])
def test_finer_steps_lead_as_far_with_as_much_noise(form: str, response) -> None:
    before = response(form, cycle_spread_relative=0.5, write_noise_relative=2.0)
    after = without_pulses(before, ["pulse_steps"])
    finer = before.window_step() / IDEAL_STEP
    assert after.window_step() == pytest.approx(IDEAL_STEP)
    assert finer == pytest.approx(100.0, rel=0.01)
    ends = []
    for pulses, count in ((before, 10), (after, round(10 * finer))):
        w = torch.zeros(20_000, dtype=torch.float64)
        many, none = torch.full_like(w, float(count)), torch.zeros_like(w)
        generator = torch.Generator().manual_seed(1)
        ends.append(pulses.pulses(w, many, none, pulses.nominal(), generator))
    # Ten coarse steps leave the tangent by less than the tolerance.
    assert float(ends[0].mean()) == pytest.approx(float(ends[1].mean()), rel=0.02)
    assert float(ends[0].std()) == pytest.approx(float(ends[1].std()), rel=0.05)
    noise = [r.write_noise_relative * r.step_relative for r in (before, after)]
    assert noise[0] == pytest.approx(noise[1])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("pulse_noise", {"cycle_spread_relative", "write_noise_relative"}),
        ("pulse_spread", {"step_spread_relative", "up_down_spread", "gamma_up_spread"}),
        ("pulse_steps", {"step_relative", "cycle_spread_relative", "write_noise_relative"}),
    ],
)
def test_nothing_else_changes(name: str, fields: set[str], response) -> None:
    before = response("linear", **EVERYTHING)
    after = without_pulses(before, [name])
    changed = {f for f, value in plain(after).items() if value != getattr(before, f)}
    assert changed == fields
    if name != "pulse_steps":
        assert all(getattr(after, field) == 0.0 for field in fields)


@pytest.mark.parametrize("name", ["pulse_noise", "pulse_nonlinearity", "pulse_steps"])
def test_the_spread_of_other_devices_stays(name: str, response) -> None:
    before = response("linear", step_spread_relative=0.3, up_down=0.2, cycle_spread_relative=0.1)
    after = without_pulses(before, [name])

    def drawn(pulses):
        devices = pulses.fabricate((500,), torch.Generator().manual_seed(2), torch.float64)
        return (devices.step_up + devices.step_down) / pulses.step_relative

    one, other = drawn(before), drawn(after)
    correlation = torch.corrcoef(torch.stack([one, other]))[0, 1]
    assert float(correlation) > 0.999
    assert math.isclose(float(one.std()), float(other.std()), rel_tol=0.01)


def test_an_ideal_card_has_none(array) -> None:
    assert present(CARDS["ideal"], array(8, 8), learning=True) == ()
    fine = CARDS["symmetric-1000"].pulse_response
    assert fine is not None
    assert present_pulses(fine) == {"pulse_steps", "pulse_noise"}
