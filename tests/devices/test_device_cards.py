"""Device cards: the shipped ones make sense, and a bad one is refused in one clear line."""

import math

import pytest
import torch

from neurosim_ep.cards import CardError, card_from_mapping, dump_card
from neurosim_ep.devices import DeviceCard, Devices, load_device_card, shipped_device_cards
from neurosim_ep.devices.pulse_response import LinearPulse

CARDS = shipped_device_cards()
NAMES = (
    "ideal hfo2-reram cmo-hfox-reram reram-array-om reram-array-hfo2 wan2022-reram pcm li-ecram "
    "mo-ecram fefet capacitor symmetric-1000"
)
S = {"source": "a test"}
WINDOW = {"g_min_siemens": 1e-6, "g_max_siemens": 25e-6, **S}
THERMAL = {"model": "thermal", "bandwidth_hz": 1e6, **S}
VERIFY = {"tolerance_siemens": 1e-7, "max_pulses": 9, **S}
PULSE = {"model": "constant", "step_relative": 0.1, **S}
RETENTION = {"model": "retention", "rest_siemens": 1e-6, "time_constant_s": 1.0, **S}
POWER_LAW = {
    "model": "power_law",
    "start_s": 20.0,
    "reference_siemens": 25e-6,
    "mean_intercept": 0.05,
    "mean_low": 0.0,
    "mean_high": 0.1,
    **S,
}
RELAXATION = {
    "model": "relaxation",
    "times_s": [1.0, 10.0],
    "coefficients_siemens": [[1e-6], [2e-6]],
    "reference_siemens": 25e-6,
    **S,
}


def make(**tables):
    return card_from_mapping(DeviceCard, {"name": "test", "window": WINDOW} | tables)


# --- The shipped cards ---------------------------------------------------------------------------


def test_the_shipped_cards():
    assert set(CARDS) == set(NAMES.split())
    for name, card in CARDS.items():
        assert card.name == name
        assert load_device_card(name) == card
        assert card.description
        assert card.pulse_response is not None


@pytest.mark.parametrize("name", CARDS)
def test_a_card_comes_back_from_its_own_text(name, tmp_path):
    file = tmp_path / "copy.toml"
    file.write_text(dump_card(CARDS[name]))
    assert load_device_card(file) == CARDS[name]


def test_a_card_made_in_python_comes_back_too(tmp_path):
    # Its model names were never given: they are the tables' own.
    card = DeviceCard(
        name="test",
        window=CARDS["pcm"].window,
        pulse_response=LinearPulse(step_relative=0.1, source="a test"),
    )
    file = tmp_path / "card.toml"
    file.write_text(dump_card(card))
    assert load_device_card(file) == card


@pytest.mark.parametrize("name", CARDS)
def test_a_card_s_numbers_fit_together(name):
    card = CARDS[name]
    low, high = card.window.g_min_siemens, card.window.g_max_siemens
    assert 1e-7 <= high <= 1e-3
    assert low == 0.0 or 2.0 < high / low <= 200.0
    devices = Devices(card, (20_000,), seed=1, dtype=torch.float64)
    targets = torch.linspace(low, high, 20_000, dtype=torch.float64)
    assert devices.program(targets).clipped == 0
    error = (devices.conductance - card.window.round(targets)) / card.window.range_siemens
    assert error.square().mean().sqrt() < 0.2
    assert error.mean().abs() < 0.02
    variance = devices.read_variance().per_square_volt
    assert (variance is None) == (name in ("ideal", "symmetric-1000"))
    if variance is not None:
        relative = variance.mean().sqrt() / card.window.range_siemens
        assert 1e-4 < relative < 0.05
    devices.advance_time(3600.0)
    assert (devices.conductance >= 0.0).all()
    assert (devices.conductance <= 2.2 * high).all()  # five sigma of the widest spread


def test_the_ideal_card_is_ideal():
    devices = Devices(CARDS["ideal"], (100,), seed=1, dtype=torch.float64)
    targets = torch.linspace(1e-6, 1e-4, 100, dtype=torch.float64)
    devices.program(targets)
    devices.advance_time(1e9)
    assert torch.equal(devices.conductance, targets)
    assert set(vars(devices.read_variance()).values()) == {None}


# Step, states and noise of aihwkit's presets: dw_min, cycle-to-cycle, device-to-device.
PRESETS = {
    "hfo2-reram": (0.00135, 5.0, 0.2),
    "reram-array-om": (0.0949, 0.42, 0.78),
    "reram-array-hfo2": (0.462, 0.22, 0.71),
    "capacitor": (0.005, 0.3, 0.1),
    "pcm": (0.01, 0.6, 0.2),
}


@pytest.mark.parametrize("name", PRESETS)
def test_pulse_responses_are_the_presets(name):
    pulse = CARDS[name].pulse_response
    step, cycle, spread = PRESETS[name]
    assert pulse.step_relative == pytest.approx(step, rel=5e-3)
    assert pulse.cycle_spread_relative == pytest.approx(cycle, rel=0.02)
    assert pulse.step_spread_relative == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize(
    ("name", "step", "low", "high", "gamma_up", "gamma_down"),
    [
        ("li-ecram", 0.002, -0.8276, 1.1724, 0.1153, 0.5085),
        ("mo-ecram", 2.8214e-4, -0.8286, 1.1714, 0.4152, 0.7342),
    ],
)
def test_shifted_ecram_steps_are_the_preset_s(name, step, low, high, gamma_up, gamma_down):
    # The preset's window is not centred: its state is ours plus the middle of its window.
    table = CARDS[name].pulse_response
    ideal = type(table)(
        step_relative=table.step_relative,
        up_down=table.up_down,
        gamma_up=table.gamma_up,
        gamma_down=table.gamma_down,
        source="the card without its variations",
    )
    devices = ideal.fabricate((9,), torch.Generator().manual_seed(1), torch.float64)
    w = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64)
    preset = w + (low + high) / 2
    up = ideal.mean_step(w, torch.ones(9), devices)
    down = ideal.mean_step(w, -torch.ones(9), devices)
    torch.testing.assert_close(up, step * (1 - gamma_up * preset / high), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(down, -step * (1 - gamma_down * preset / low), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(
    ("name", "steps", "step"),
    [("hfo2-reram", 75.0, 0.00135), ("reram-array-om", 1.41, 0.0949)],
)
def test_programming_noise_is_the_presets_write_noise(name, steps, step):
    card = CARDS[name]
    half_window = card.window.range_siemens / 2
    (sigma,) = card.programming.coefficients_siemens
    assert sigma == pytest.approx(steps * step * half_window, rel=5e-3)


# Device-to-device sigma of the bounds in half windows, as in aihwkit's presets.
BOUNDS = {
    "capacitor": (0.07, 0.07),
    "hfo2-reram": (None, 0.3),
    "li-ecram": (0.0414, 0.0586),
    "mo-ecram": (0.0414, 0.0586),
    "reram-array-hfo2": (None, 0.4295),
    "reram-array-om": (None, 0.3499),
}


@pytest.mark.parametrize("name", CARDS)
def test_bounds_are_given_once_and_are_the_presets(name):
    card = CARDS[name]
    assert (card.spread is not None) == (name in BOUNDS)
    assert card.pulse_response.w_max_spread_relative == 0.0
    assert card.pulse_response.w_min_spread_relative == 0.0
    if card.spread is None:
        assert card.draw_bounds((5,), torch.Generator(), torch.float32) is None
        return
    half_window = card.window.range_siemens / 2
    lower, upper = BOUNDS[name]
    sigma = card.spread.g_max_sigma_relative * card.window.g_max_siemens
    assert sigma == pytest.approx(upper * half_window, rel=5e-3)
    if lower is not None:
        sigma = card.spread.g_min_sigma_relative * card.window.g_min_siemens
        assert sigma == pytest.approx(lower * half_window, rel=2e-2)


def test_only_phase_change_memory_has_up_pulses_alone():
    assert [n for n, card in CARDS.items() if card.pulse_response.one_sided] == ["pcm"]


def test_endurance_is_given_where_anything_wears_out():
    for name, card in CARDS.items():
        assert (card.endurance is None) == (name in ("ideal", "symmetric-1000", "capacitor"))
        if card.endurance:
            assert 1e5 <= card.endurance.pulses <= 1e10
            assert card.endurance.source.startswith("assumed: ")


def test_the_card_to_study_rules_with_is_symmetric_and_has_a_thousand_states():
    card = CARDS["symmetric-1000"]
    assert card.description.startswith("Hypothetical")
    pulse = card.pulse_response
    assert pulse.window_step() == pytest.approx(2.0 / 1000)
    assert float(pulse.symmetry_point(pulse.nominal())) == 0.0
    assert card.window.model_dump(exclude={"source"}) == CARDS["ideal"].window.model_dump(
        exclude={"source"}
    )
    given = {name for name in type(card).model_fields if getattr(card, name)}
    assert given == {"name", "description", "window", "pulse_response", "operation"}


def test_published_windows_and_faults():
    windows = {"pcm": (0, 25), "cmo-hfox-reram": (9, 88.2), "wan2022-reram": (1, 40)}
    for name, (low, high) in windows.items():
        window = CARDS[name].window
        assert (window.g_min_siemens, window.g_max_siemens) == pytest.approx(
            (low * 1e-6, high * 1e-6)
        )
    fefet = CARDS["fefet"].window
    assert fefet.g_max_siemens / fefet.g_min_siemens == pytest.approx(45.0)
    assert fefet.levels == 32
    corrupt = {"reram-array-om": 0.135, "reram-array-hfo2": 0.1, "hfo2-reram": 0.002}
    for name, fraction in corrupt.items():
        assert CARDS[name].faults.total_fraction == pytest.approx(fraction, abs=0.003)


# --- Absent tables, defaults ---------------------------------------------------------------------


def test_absent_tables_are_absent_phenomena():
    card = make()
    assert card.read_noise == ()
    assert card.telegraph is None
    assert card.operation.temperature_kelvin == 300.0
    assert card.endurance is None
    for name in ("spread", "programming", "write_verify", "faults", "drift", "pulse_response"):
        assert getattr(card, name) is None


# --- Refused -------------------------------------------------------------------------------------

MODELS = '"thermal", "shot", "flicker", "logarithmic", "telegraph", "lumped"'
DRIFTS = '"power_law", "logarithmic", "retention", "relaxation"'
NAN, INF = math.nan, math.inf
REFUSED = [
    # window
    ({"window": {**WINDOW, "g_min_siemens": 3e-5}},
     "window.g_min_siemens: 3e-05 is not allowed; must be less than g_max_siemens, 2.5e-05"),
    ({"window": {**WINDOW, "g_min_siemens": 25e-6}},
     "window.g_min_siemens: 2.5e-05 is not allowed; must be less than g_max_siemens, 2.5e-05"),
    ({"window": {**WINDOW, "g_min_siemens": -1e-6}},
     "window.g_min_siemens: -1e-06 is not allowed; must be at least 0"),
    ({"window": {**WINDOW, "g_max_siemens": NAN}},
     "window.g_max_siemens: nan is not allowed; must be a finite number greater than 0"),
    ({"window": {**WINDOW, "levels": 1}},
     "window.levels: 1 is not allowed; must be a whole number at least 2 or absent"),
    ({"window": {"g_min_siemens": 0.0, "g_max_siemens": 1e-6}},
     "window.source: absent is not allowed; must be text that says where the numbers come from"),
    ({"window": None}, "window: absent is not allowed; must be a table"),
    # spread, programming, write-verify, faults
    ({"spread": {"g_max_sigma_relative": -0.1, **S}},
     "spread.g_max_sigma_relative: -0.1 is not allowed; must be at least 0"),
    ({"programming": {"coefficients_siemens": [], "reference_siemens": 1e-6, **S}},
     "programming.coefficients_siemens: [] is not allowed; must be at least one number"),
    ({"programming": {"coefficients_siemens": [1.0], "reference_siemens": 0.0, **S}},
     "programming.reference_siemens: 0.0 is not allowed; must be greater than 0"),
    ({"programming": {"coefficients_siemens": [0.0, INF], "reference_siemens": 1e-6, **S}},
     "programming.coefficients_siemens[1]: inf is not allowed; must be a finite number"),
    ({"write_verify": {**VERIFY, "tolerance_siemens": 0.0}},
     "write_verify.tolerance_siemens: 0.0 is not allowed; must be greater than 0"),
    ({"write_verify": {**VERIFY, "tolerance_siemens": 1.0}},
     "write_verify.tolerance_siemens: 1.0 is not allowed; must be at most the width of the window, "
     "2.4e-05"),
    ({"write_verify": {**VERIFY, "max_pulses": 0}},
     "write_verify.max_pulses: 0 is not allowed; must be a whole number at least 1"),
    ({"write_verify": {**VERIFY, "on_failure": "retry"}},
     'write_verify.on_failure: "retry" is not allowed; must be one of "keep_last", "keep_best", '
     '"reset"'),
    ({"faults": {"stuck_at_min_fraction": 1.5, **S}},
     "faults.stuck_at_min_fraction: 1.5 is not allowed; must be at least 0 and at most 1"),
    ({"faults": {"stuck_at_min_fraction": 0.7, "stuck_at_random_fraction": 0.4, **S}},
     "faults.stuck_at_random_fraction: 0.4 is not allowed; must be such that the three fractions "
     "together are at most 1"),
    # read noise
    ({"read_noise": [THERMAL, {**THERMAL, "model": "hot"}]},
     f'read_noise[1].model: "hot" is not allowed; must be one of {MODELS}'),
    ({"read_noise": [{"bandwidth_hz": 1.0, **S}]},
     f"read_noise[0].model: absent is not allowed; must be one of {MODELS}"),
    ({"read_noise": [THERMAL, THERMAL]},
     'read_noise[1].model: "thermal" is not allowed; must be a model that no earlier term has'),
    ({"read_noise": [{**THERMAL, "bandwidth_hz": -1.0}]},
     "read_noise[0].bandwidth_hz: -1.0 is not allowed; must be greater than 0"),
    ({"read_noise": [{"model": "thermal", "bandwidth_hz": 1.0}]},
     "read_noise[0].source: absent is not allowed; must be text that says where the numbers come "
     "from"),
    ({"read_noise": [{**THERMAL, "bandwith_hz": 1.0}]},
     "read_noise[0].bandwith_hz: unknown field; did you mean read_noise[0].bandwidth_hz?"),
    ({"read_noise": ["thermal"]}, 'read_noise[0]: "thermal" is not allowed; must be a table'),
    ({"read_noise": THERMAL},
     "read_noise: a table is not allowed; must be a list, each item a table"),
    ({"read_noise": [{"model": "telegraph", "amplitude_relative": 3.0, **S}]},
     "read_noise[0].amplitude_relative: 3.0 is not allowed; must be at most 1 / high_probability, "
     "or the lower state would be negative"),
    # drift
    ({"drift": {**RETENTION, "model": "leak"}},
     f'drift.model: "leak" is not allowed; must be one of {DRIFTS}'),
    ({"drift": {**RETENTION, "time_constant_s": 0.0}},
     "drift.time_constant_s: 0.0 is not allowed; must be greater than 0"),
    ({"drift": {**RETENTION, "time_constant_sigma_log": -1.0}},
     "drift.time_constant_sigma_log: -1.0 is not allowed; must be at least 0"),
    ({"drift": {**POWER_LAW, "mean_low": 0.2}},
     "drift.mean_low: 0.2 is not allowed; must be at most mean_high, 0.1"),
    ({"drift": {**POWER_LAW, "sigma_low": 0.2}},
     "drift.sigma_low: 0.2 is not allowed; must be at most sigma_high, 0.0"),
    ({"drift": {**RELAXATION, "times_s": [10.0, 1.0]}},
     "drift.times_s: [10.0, 1.0] is not allowed; must be at least two ascending times above 0"),
    ({"drift": {**RELAXATION, "coefficients_siemens": [[1e-6]]}},
     "drift.coefficients_siemens: [[1e-06]] is not allowed; must be a list of 2 polynomials, one "
     "per time"),
    ({"drift": 3}, "drift: 3 is not allowed; must be a table or absent"),
    # the rest
    ({"operation": {"temperature_kelvin": 0.0, **S}},
     "operation.temperature_kelvin: 0.0 is not allowed; must be greater than 0"),
    ({"windw": WINDOW}, "windw: unknown field; did you mean window?"),
    ({"name": "two words"},
     'name: "two words" is not allowed; must be letters, digits, -, _, . and +'),
    ({"spread": {"g_max_sigma_relative": 0.1, **S},
      "pulse_response": {**PULSE, "w_max_spread_relative": 0.2}},
     "pulse_response.w_max_spread_relative: 0.2 is not allowed; must be absent beside the table "
     "spread, which gives the bounds"),
    ({"spread": {"g_max_sigma_relative": 0.1, **S},
      "pulse_response": {**PULSE, "w_min_spread_relative": 0.2}},
     "pulse_response.w_min_spread_relative: 0.2 is not allowed; must be absent beside the table "
     "spread, which gives the bounds"),
    ({"endurance": {"pulses": 0.0, **S}},
     "endurance.pulses: 0.0 is not allowed; must be greater than 0"),
    ({"endurance": {"pulses": 1e6}},
     "endurance.source: absent is not allowed; must be text that says where the numbers come from"),
    ({"pulse_response": {"model": "magic", **S}},
     'pulse_response.model: "magic" is not allowed; must be one of "constant", "linear", '
     '"soft_bounds", "exponential", "power"'),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "message"), REFUSED, ids=[m[:60] for _, m in REFUSED])
def test_a_bad_card_is_refused_in_one_line(tables, message):
    data = {"name": "test", "window": WINDOW} | tables
    with pytest.raises(CardError) as error:
        card_from_mapping(DeviceCard, {k: v for k, v in data.items() if v is not None})
    assert str(error.value) == message


def test_models_that_the_refused_list_builds_on_are_fine():
    card = make(read_noise=[THERMAL], write_verify=VERIFY, drift=RELAXATION)
    assert card.read_noise[0].bandwidth_hz == 1e6
    for drift in (RETENTION, POWER_LAW):
        assert make(drift=drift).drift.model == drift["model"]


@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.1), (1.0, 0.0, 0.0), (0.1, 0.1, 0.8)])
def test_all_devices_may_be_stuck(fractions):
    names = ("stuck_at_min_fraction", "stuck_at_max_fraction", "stuck_at_random_fraction")
    make(faults=dict(zip(names, fractions, strict=True)) | S)
