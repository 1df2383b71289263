"""Pulses on populations of devices: what moves, what stays, what is drawn, what is saved."""

import copy

import pytest
import torch

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.devices import DeviceCard, Devices, load_device_card, shipped_device_cards

SHAPE = (30, 40)
LOW, HIGH = 2e-6, 26e-6
HALF = (HIGH - LOW) / 2.0
CONSTANT = {"model": "constant", "step_relative": 0.1}
SOFT = {"model": "soft_bounds", "step_relative": 0.05, "cycle_spread_relative": 0.3}
VARIED = {**SOFT, "step_spread_relative": 0.2, "up_down_spread": 0.05}
SPREAD = {"g_min_sigma_relative": 0.3, "g_max_sigma_relative": 0.1}
LEAK = {"model": "retention", "rest_siemens": 14e-6, "time_constant_s": 10.0}
FAULTS = {"stuck_at_random_fraction": 0.1}


def card(pulse_response=CONSTANT, **tables):
    data = {"name": "test", "window": {"g_min_siemens": LOW, "g_max_siemens": HIGH}, **tables}
    data["pulse_response"] = pulse_response
    sourced = {
        k: {"source": "a test", **v} if isinstance(v, dict) else v
        for k, v in data.items()
        if v is not None
    }
    return card_from_mapping(DeviceCard, sourced)


def at(devices, share=0.5):
    """The devices, programmed to a share of the window."""
    target = torch.full_like(devices.programmed, LOW + share * (HIGH - LOW))
    devices.program(target)
    return devices


def counts(seed, most=3, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, most + 1, (2, *shape), generator=generator)


def pulsed(of, seed=5, dtype=torch.float32, updates=3):
    devices = at(Devices(of, SHAPE, seed=seed, dtype=dtype))
    for update in range(updates):
        devices.pulse(*counts(update))
    return devices


# --- What pulses do ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_pulses_move_conductances_by_steps_of_the_window(kind):
    devices = at(Devices(card(), (4,), seed=0, dtype=torch.float64))
    up, down = torch.tensor([0, 1, 3, 2]).to(kind), torch.tensor([0, 0, 1, 9]).to(kind)
    devices.pulse(up, down)
    expected = torch.tensor([0.0, 0.1, 0.2, -0.7], dtype=torch.float64)
    torch.testing.assert_close(devices.state, expected, atol=1e-9, rtol=0.0)
    torch.testing.assert_close(devices.conductance, LOW + HALF * (expected + 1.0))
    assert devices.pulse_count.tolist() == [0, 1, 4, 11]
    assert devices.pulse_count.dtype == torch.int64
    assert devices.update_count == 1


def test_devices_without_a_pulse_keep_their_conductance_to_the_bit():
    devices = at(Devices(card(VARIED, spread=SPREAD), SHAPE, seed=1), 0.3)
    before = devices.conductance
    up = torch.zeros(SHAPE)
    up[::2] = 2.0
    devices.pulse(up, torch.zeros(SHAPE))
    assert torch.equal(devices.conductance[1::2], before[1::2])
    assert (devices.conductance[::2] > before[::2]).double().mean() > 0.95


def test_stuck_devices_stay_and_are_pulsed_all_the_same():
    devices = at(Devices(card(VARIED, faults=FAULTS), SHAPE, seed=1))
    before, stuck = devices.conductance, devices.stuck
    devices.pulse(torch.full(SHAPE, 5), torch.zeros(SHAPE))
    assert 60 < stuck.sum() < 180
    assert torch.equal(devices.conductance[stuck], before[stuck])
    assert (devices.conductance != before)[~stuck].all()
    assert (devices.pulse_count == 5).all()


@pytest.mark.parametrize(("up", "side"), [(40, 1), (0, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [None, SPREAD])
def test_pulses_stop_at_the_bounds_of_programming(up, side, dtype, spread):
    devices = at(Devices(card(spread=spread), SHAPE, seed=2, dtype=dtype))
    devices.pulse(torch.full(SHAPE, up), torch.full(SHAPE, 40 - up))
    bound = (devices.lower, devices.upper)[side]
    nominal = torch.tensor((LOW, HIGH)[side], dtype=dtype)
    assert torch.equal(devices.conductance, nominal.expand(SHAPE) if bound is None else bound)
    assert torch.equal(devices.state, devices.state_bounds[side].expand(SHAPE))
    devices.program(torch.full(SHAPE, (0.0, 1.0)[side]))
    beyond = torch.minimum if side else torch.maximum
    reached = nominal if bound is None else beyond(bound, nominal)
    assert torch.equal(devices.conductance, reached.expand(SHAPE))


def test_spread_of_the_states_bounds_programming_too():
    table = {**CONSTANT, "w_max_spread_relative": 0.2, "w_min_spread_relative": 0.3}
    devices = Devices(card(table), (20_000,), seed=3, dtype=torch.float64)
    lower, upper = devices.state_bounds
    assert float(upper.std()) == pytest.approx(0.2, rel=0.03)
    # A lower bound cannot be below zero siemens, here at w = -7 / 6.
    assert float(lower.min()) == pytest.approx(-7.0 / 6.0)
    assert float(lower.max()) > -0.3
    assert (devices.lower >= 0.0).all()
    devices.program(torch.full((20_000,), HIGH, dtype=torch.float64))
    assert torch.equal(devices.conductance, devices.upper.clamp(max=HIGH))
    devices.pulse(torch.full((20_000,), 40), torch.zeros(20_000))
    assert torch.equal(devices.conductance, devices.upper)


def test_every_device_keeps_the_middle_of_its_window():
    wild = {"g_min_sigma_relative": 5.0, "g_max_sigma_relative": 2.0}
    for of in (card(spread=wild), card({**SOFT, "w_max_spread_relative": 3.0})):
        lower, upper = Devices(of, SHAPE, seed=4).state_bounds
        assert (lower < -0.0099).all()
        assert (upper > 0.0099).all()
        assert (upper < 0.02).any()


@pytest.mark.parametrize("name", shipped_device_cards())
def test_every_card_s_pulses_raise_and_lower(name):
    of = load_device_card(name)
    devices = Devices(of, SHAPE, seed=6)
    middle = (of.window.g_min_siemens + of.window.g_max_siemens) / 2.0
    devices.program(torch.full(SHAPE, middle))
    moves = []
    for up in (True, False):
        if of.pulse_response.one_sided and not up:
            continue
        before = devices.state.mean()
        devices.pulse(torch.full(SHAPE, 9 * up), torch.full(SHAPE, 9 * (not up)))
        moves.append(float(devices.state.mean() - before))
        assert torch.isfinite(devices.conductance).all()
        assert (devices.conductance >= 0.0).all()
    assert moves[0] > 0.0
    assert all(move < 0.0 for move in moves[1:])


# --- Write noise ---------------------------------------------------------------------------------

NOISY = {**CONSTANT, "step_relative": 0.01, "write_noise_relative": 5.0}


def test_write_noise_is_shown_and_not_kept():
    devices = at(Devices(card(NOISY), (4000,), seed=7, dtype=torch.float64))
    none = torch.zeros(4000)
    start = float(devices.state[0])
    for update in range(1, 4):
        devices.pulse(none + 2, none)
        expected = torch.full((4000,), start + 0.02 * update, dtype=torch.float64)
        torch.testing.assert_close(devices.state, expected, atol=1e-9, rtol=0.0)
        seen = (devices.conductance - LOW) / HALF - 1.0 - expected
        assert float(seen.mean()) == pytest.approx(0.0, abs=0.004)
        assert float(seen.std()) == pytest.approx(0.05, rel=0.05)


def test_write_noise_stays_with_devices_that_get_no_pulse():
    devices = at(Devices(card(NOISY), (100,), seed=7))
    up = torch.zeros(100)
    devices.pulse(up + 1, up)
    before, hidden = devices.conductance, devices.state
    up[:50] = 1.0
    devices.pulse(up, torch.zeros(100))
    assert (devices.conductance[:50] != before[:50]).all()
    assert torch.equal(devices.conductance[50:], before[50:])
    assert torch.equal(devices.state[50:], hidden[50:])


def test_programming_fixes_the_hidden_state():
    devices = at(Devices(card(NOISY), (100,), seed=7))
    devices.pulse(torch.ones(100), torch.zeros(100))
    at(devices, 0.25)
    torch.testing.assert_close(devices.state, torch.full((100,), -0.5))
    some = torch.arange(100) < 30
    devices.pulse(torch.ones(100), torch.zeros(100))
    devices.program(torch.full((100,), HIGH), some)
    torch.testing.assert_close(devices.state, torch.where(some, 1.0, -0.49))


# --- Drift ---------------------------------------------------------------------------------------


def test_pulses_start_from_the_drifted_conductance_and_restart_time():
    devices = at(Devices(card(drift=LEAK), (3,), seed=8, dtype=torch.float64), 1.0)
    devices.advance_time(10.0)
    left = 14e-6 + 12e-6 * torch.tensor(-1.0, dtype=torch.float64).exp()
    devices.pulse(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 0]))
    steps = torch.tensor([0.0, -0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close(devices.conductance, left + HALF * steps)
    assert devices.elapsed_s == 0.0
    now = devices.conductance
    devices.advance_time(10.0)
    expected = 14e-6 + (now - 14e-6) * torch.tensor(-1.0, dtype=torch.float64).exp()
    torch.testing.assert_close(devices.conductance, expected)


def test_a_hidden_state_drifts_along():
    devices = at(Devices(card(NOISY, drift=LEAK), (500,), seed=8, dtype=torch.float64), 0.9)
    devices.pulse(torch.ones(500), torch.zeros(500))
    hidden, shown = devices.state, devices.conductance
    devices.advance_time(3.0)
    drifted = (devices.conductance - shown) / HALF
    assert drifted.abs().min() > 0.01
    torch.testing.assert_close(devices.state, hidden + drifted)


def test_devices_that_were_never_programmed_drift_once_pulsed():
    devices = Devices(card(drift=LEAK), (3,), seed=8)
    devices.pulse(torch.ones(3), torch.zeros(3))
    before = devices.conductance
    devices.advance_time(10.0)
    assert (devices.conductance > before).all()


# --- Programming some ----------------------------------------------------------------------------


def test_programming_some_leaves_the_others():
    devices = pulsed(card(VARIED, drift=LEAK, faults=FAULTS))
    devices.advance_time(2.0)
    before, coefficient = devices.conductance, devices.drift_coefficient
    some = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.3
    target = torch.where(some, HIGH, float("nan"))
    report = devices.program(target, some)
    assert report.attempts == int(some.sum())
    assert report.clipped == 0
    assert torch.equal(devices.conductance[~some], before[~some])
    assert torch.equal(devices.drift_coefficient[~some], coefficient[~some])
    free = some & ~devices.stuck
    assert (devices.conductance[free] == torch.tensor(HIGH)).all()
    assert devices.elapsed_s == 0.0


def test_write_verify_counts_the_programmed_devices_only():
    tables = {
        "programming": {"coefficients_siemens": [1e-6], "reference_siemens": 1e-6},
        "write_verify": {"tolerance_siemens": 1e-7, "max_pulses": 3},
    }
    devices = Devices(card(**tables), SHAPE, seed=1)
    some = torch.zeros(SHAPE, dtype=torch.bool)
    some[:3] = True
    report = devices.program(torch.full(SHAPE, 14e-6), some)
    assert 0 < report.failed <= 120
    assert 120 < report.attempts <= 360
    assert devices.program(torch.full(SHAPE, 14e-6), ~torch.ones_like(some)).attempts == 0


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (torch.ones(SHAPE), r'^where: dtype: "torch.float32" is not allowed; must be torch.bool$'),
        (torch.ones(5) > 0, r"^where: shape: \[5\] is not allowed; must be \[30, 40\], the shape"),
    ],
)
def test_masks_that_are_refused(where, line):
    with pytest.raises(ValueError, match=line):
        Devices(card(), SHAPE, seed=0).program(torch.full(SHAPE, LOW), where)


# --- Seeds, saving, moving -----------------------------------------------------------------------

EVERYTHING = card({**VARIED, "write_noise_relative": 0.5}, spread=SPREAD, drift=LEAK, faults=FAULTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_dict_resumes_pulses_bit_for_bit(dtype, tmp_path):
    original = pulsed(EVERYTHING, dtype=dtype)
    original.advance_time(0.3)
    torch.save(original.state_dict(), tmp_path / "devices.pt")
    restored = Devices(EVERYTHING, SHAPE, seed=99, dtype=dtype)
    restored.pulse(*counts(9))  # what it drew by its own seed has to go
    restored.load_state_dict(torch.load(tmp_path / "devices.pt", weights_only=True))
    for update in range(3):
        for devices in (original, restored):
            devices.pulse(*counts(20 + update, most=9))
            devices.advance_time(0.1)
        assert torch.equal(original.conductance, restored.conductance)
        assert torch.equal(original.state, restored.state)
        assert torch.equal(original.pulse_count, restored.pulse_count)
    assert restored.update_count == 6
    assert restored.seed == 5
    assert torch.equal(original.pulse_devices.step_up, restored.pulse_devices.step_up)


def test_what_follows_from_the_seed_is_not_saved():
    devices = pulsed(EVERYTHING)
    saved = set(devices.state_dict())
    assert {"_pulse_count", "_hidden"} <= saved
    assert saved - {"_pulse_count", "_hidden"} == set(
        at(Devices(EVERYTHING, SHAPE, seed=5)).state_dict()
    )


def test_devices_that_are_only_programmed_pay_nothing():
    devices = at(Devices(card(VARIED), SHAPE, seed=1))
    assert set(devices.state_dict()) == {"programmed", "_extra_state"}
    assert devices._pulse_devices is None
    assert devices.pulse_count.sum() == 0
    assert devices.pulse_count.shape == SHAPE
    # One number for all devices where the card has no spread.
    assert Devices(card(), SHAPE, seed=1).pulse_devices.step_up.shape == ()


def test_a_state_from_before_there_were_pulses_loads():
    devices = pulsed(EVERYTHING)
    old = at(Devices(EVERYTHING, SHAPE, seed=5)).state_dict()
    old["_extra_state"] = old["_extra_state"][:3]
    devices.load_state_dict(old)
    assert (devices.update_count, devices.program_count) == (0, 1)
    assert devices.pulse_count.sum() == 0
    fresh = at(Devices(EVERYTHING, SHAPE, seed=5))
    for each in (devices, fresh):
        each.pulse(*counts(3))
    assert torch.equal(devices.conductance, fresh.conductance)


def test_every_update_draws_anew_and_other_seeds_others():
    first, second = pulsed(card(SOFT), updates=1), pulsed(card(SOFT), updates=1)
    assert torch.equal(first.conductance, second.conductance)
    assert not torch.equal(first.conductance, pulsed(card(SOFT), seed=6, updates=1).conductance)
    moves = []
    for _ in range(2):
        at(first)
        before = first.state
        first.pulse(torch.ones(SHAPE), torch.zeros(SHAPE))
        moves.append(first.state - before)
    assert (moves[0] != moves[1]).double().mean() > 0.95


@pytest.mark.parametrize("off", ["spread", "faults", "drift"])
def test_other_phenomena_leave_the_pulse_devices_as_they_were(off):
    tables = {"spread": SPREAD, "faults": FAULTS, "drift": LEAK}
    whole = Devices(card(VARIED, **tables), SHAPE, seed=3)
    part = Devices(card(VARIED, **(tables | {off: None})), SHAPE, seed=3)
    assert torch.equal(whole.pulse_devices.step_up, part.pulse_devices.step_up)
    assert torch.equal(whole.pulse_devices.step_down, part.pulse_devices.step_down)


def test_pulse_devices_move_along():
    devices = pulsed(EVERYTHING)
    steps = devices.pulse_devices.step_up
    devices.double()
    assert torch.equal(devices.pulse_devices.step_up, steps.double())
    assert devices.pulse_count.dtype == torch.int64
    devices.pulse(*counts(1))
    assert devices.conductance.dtype == devices.state.dtype == torch.float64


def test_the_global_generator_is_neither_used_nor_moved():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = pulsed(EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(pulsed(EVERYTHING).conductance, one.conductance)


def test_a_copy_goes_its_own_way():
    devices = pulsed(EVERYTHING)
    other = copy.deepcopy(devices)
    before = devices.conductance.clone()
    other.pulse(*counts(7))
    assert torch.equal(devices.conductance, before)
    devices.pulse(*counts(7))
    assert torch.equal(devices.conductance, other.conductance)


def test_tensors_that_were_handed_out_are_left_alone():
    devices = pulsed(EVERYTHING)
    held = [devices.conductance, devices.state, devices.pulse_count]
    copies = [tensor.clone() for tensor in held]
    devices.pulse(*counts(8))
    for tensor, before in zip(held, copies, strict=True):
        assert torch.equal(tensor, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_pulses_the_same_devices():
    here, there = (Devices(EVERYTHING, SHAPE, seed=5, device=d) for d in ("cpu", "cuda"))
    assert torch.equal(here.pulse_devices.step_up, there.pulse_devices.step_up.cpu())
    for devices in (here, there):
        up, down = counts(1, most=9)
        devices.pulse(up.to(devices.programmed.device), down.to(devices.programmed.device))
    assert there.conductance.is_cuda
    assert torch.equal(here.pulse_count, there.pulse_count.cpu())
    # Noise comes from another generator; the mean does not.
    difference = (here.state - there.state.cpu())[~here.stuck]
    assert difference.mean().abs() < 5.0 * difference.std() / difference.numel() ** 0.5


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("up", "line"),
    [
        (torch.full(SHAPE, -1), r"^up: -1.0 is not allowed; must be a whole number of at least 0$"),
        (torch.full(SHAPE, 0.5), r"^up: 0.5 is not allowed; must be a whole number of at least 0$"),
        (torch.full(SHAPE, float("nan")), r"^up: nan is not allowed; must be a whole number"),
        (torch.full(SHAPE, float("inf")), r"^up: inf is not allowed; must be a whole number"),
        (
            torch.ones(40, 30),
            r"^up: shape: \[40, 30\] is not allowed; must be \[30, 40\], the shape",
        ),
        (torch.ones(SHAPE) * 1j, r'^up: dtype: "torch.complex64" is not allowed; must be real$'),
    ],
)
def test_counts_that_are_refused(up, line):
    devices = pulsed(card(SOFT))
    before = devices.conductance
    for arguments, name in (((up, torch.ones(SHAPE)), "up"), ((torch.ones(SHAPE), up), "down")):
        with pytest.raises(ValueError, match=line.replace("^up", f"^{name}")):
            devices.pulse(*arguments)
    assert torch.equal(devices.conductance, before)
    assert devices.update_count == 3


def test_a_one_sided_card_has_no_down_pulses():
    devices = Devices(load_device_card("pcm"), (3,), seed=0)
    line = r"^down: 2.0 is not allowed; must be 0, as pcm has up pulses only$"
    with pytest.raises(ValueError, match=line):
        devices.pulse(torch.ones(3), torch.tensor([0, 2, 1]))
    assert devices.pulse_count.sum() == devices.update_count == 0
    devices.pulse(torch.ones(3), torch.zeros(3))
    assert (devices.conductance > 0.0).all()


def test_a_card_without_a_pulse_response_takes_no_pulses():
    devices = Devices(card(None), (3,), seed=0)
    assert devices.pulse_count is None
    line = r"^pulse_response: absent is not allowed; must be a table in the card test for its"
    with pytest.raises(ValueError, match=line):
        devices.pulse(torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match=line):
        _ = devices.pulse_devices


def test_no_devices_are_fine():
    devices = Devices(EVERYTHING, (0, 5), seed=0)
    devices.pulse(torch.empty(0, 5), torch.empty(0, 5))
    assert devices.state.shape == (0, 5)
