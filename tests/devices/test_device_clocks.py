"""Devices that drift by clocks of their own: against a loop over devices with their histories."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.devices import DeviceCard, Devices
from neurosim_ep.devices.read_noise import ReadConditions, read_variance

LOW, HIGH, STEP = 2e-6, 26e-6, 0.1
HALF = (HIGH - LOW) / 2.0
COUNT = 12
POWER = {"start_s": 20.0, "reference_siemens": 26e-6, "mean_intercept": 0.06, "mean_low": 0.0}
LAWS: dict[str, dict[str, Any]] = {
    "power_law": POWER | {"mean_high": 1.0, "sigma_intercept": 0.02, "sigma_high": 1.0},
    "logarithmic": {
        "mean_slope_siemens": -0.2e-6,
        "sigma_slope_siemens": 0.1e-6,
        "sigma_offset_siemens": 0.3e-6,
    },
    "retention": {
        "rest_siemens": 10e-6,
        "time_constant_s": 300.0,
        "time_constant_sigma_log": 0.3,
    },
    "relaxation": {
        "times_s": [1.0, 60.0, 3600.0],
        "coefficients_siemens": [[0.2e-6], [0.5e-6, 0.4e-6], [1.5e-6]],
        "reference_siemens": 26e-6,
    },
}


def card(law: str, **response: Any) -> DeviceCard:
    tables: dict[str, Any] = {
        "window": {"g_min_siemens": LOW, "g_max_siemens": HIGH},
        "pulse_response": {"model": "constant", "step_relative": STEP} | response,
        "drift": {"model": law} | LAWS[law],
    }
    sourced = {name: {"source": "a test"} | table for name, table in tables.items()}
    return card_from_mapping(DeviceCard, {"name": "test"} | sourced)


def drifted(law: str, g0: float, draw: float, age_s: float) -> float:
    """Conductance of one device, from the equations of the law."""
    numbers = LAWS[law]
    if age_s == 0.0:
        return g0
    if law == "power_law":
        return g0 * ((age_s + 20.0) / 20.0) ** -draw
    if law == "retention":
        tau = 300.0 * math.exp(0.3 * draw)
        return 10e-6 + (g0 - 10e-6) * math.exp(-age_s / tau)
    if law == "logarithmic":
        logarithm = math.log(max(age_s, 1.0))
        sigma = 0.1e-6 * logarithm + 0.3e-6 * min(age_s, 1.0)
        return max(g0 - 0.2e-6 * logarithm + sigma * draw, 0.0)
    x, time_s = g0 / 26e-6, 1.0 + age_s
    sigmas = [0.2e-6, 0.5e-6 + 0.4e-6 * x, 1.5e-6]
    times = numbers["times_s"]
    sigma = sigmas[2]
    for place in (0, 1):
        if times[place] <= time_s < times[place + 1]:
            share = math.log(time_s / times[place]) / math.log(times[place + 1] / times[place])
            sigma = sigmas[place] + share * (sigmas[place + 1] - sigmas[place])
    return max(g0 + math.sqrt(max(sigma**2 - sigmas[0] ** 2, 0.0)) * draw, 0.0)


class Single:
    """One device: what it was written to, when, and its draw."""

    def __init__(self, g0: float, draw: float) -> None:
        self.g0, self.draw, self.written_s = g0, draw, 0.0

    def now(self, law: str, clock_s: float) -> float:
        return drifted(law, self.g0, self.draw, clock_s - self.written_s)

    def pulse(self, law: str, clock_s: float, net: int) -> None:
        g = self.now(law, clock_s) + net * STEP * HALF
        self.g0, self.written_s = min(max(g, LOW), HIGH), clock_s


def events(seed: int = 3) -> list[tuple[str, Tensor, float]]:
    """Pulses (signed, most devices none), partial programmings, and pauses after each."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(9):
        chosen = torch.rand(COUNT, generator=generator) < 0.3
        signs = torch.randint(0, 2, (COUNT,), generator=generator) * 2 - 1
        pause = float(torch.rand((), generator=generator)) * 10.0 ** (number % 4)
        what = "program" if number % 4 == 2 else "pulse"
        found.append((what, chosen * signs, 0.0 if number == 4 else pause))
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("law", LAWS)
def test_each_device_drifts_since_its_own_last_write(law: str, dtype: torch.dtype) -> None:
    devices = Devices(card(law), (COUNT,), seed=4, dtype=dtype)
    start = torch.linspace(LOW + 0.3 * HALF, HIGH - 0.2 * HALF, COUNT, dtype=torch.float64)
    devices.program(start)
    assert devices.drift_coefficient is not None
    draws = devices.drift_coefficient.tolist()
    singles = [Single(g, draw) for g, draw in zip(start.tolist(), draws, strict=True)]
    devices.advance_time(5.0)
    clock_s = 5.0
    tolerance = 1e-12 if dtype == torch.float64 else 3e-5
    for what, chosen, pause in events():
        if what == "pulse":
            devices.pulse(chosen.clamp(min=0), (-chosen).clamp(min=0))
            for single, net in zip(singles, chosen.tolist(), strict=True):
                if net:
                    single.pulse(law, clock_s, net)
        else:
            devices.program(start, chosen != 0)
            draws = devices.drift_coefficient.tolist()
            for place, net in enumerate(chosen.tolist()):
                if net:
                    singles[place] = Single(float(start[place]), draws[place])
                    singles[place].written_s = clock_s
        devices.advance_time(pause)
        clock_s += pause
        wanted = torch.tensor([s.now(law, clock_s) for s in singles], dtype=torch.float64)
        torch.testing.assert_close(
            devices.conductance.double(), wanted, rtol=tolerance, atol=tolerance * HALF
        )
        ages = torch.tensor([clock_s - s.written_s for s in singles], dtype=torch.float64)
        torch.testing.assert_close(torch.as_tensor(devices.age_s), ages, rtol=1e-12, atol=1e-9)
    assert len(set(ages.tolist())) > 3


def test_hidden_states_of_devices_without_a_pulse_drift_on() -> None:
    of = card("power_law", write_noise_relative=2.0)
    devices = Devices(of, (2,), seed=4, dtype=torch.float64)
    devices.program(torch.tensor([20e-6, 20e-6]))
    devices.pulse(torch.ones(2), torch.zeros(2))
    shown, hidden = devices.conductance.clone(), devices.state.clone()
    assert devices.drift_coefficient is not None
    nu = float(devices.drift_coefficient[1])
    devices.advance_time(100.0)
    devices.pulse(torch.tensor([1, 0]), torch.zeros(2))
    devices.advance_time(300.0)
    wanted = float(shown[1]) * (420.0 / 20.0) ** -nu
    assert float(devices.conductance[1]) == pytest.approx(wanted, rel=1e-12)
    moved = (wanted - float(shown[1])) / HALF
    assert float(devices.state[1]) == pytest.approx(float(hidden[1]) + moved, rel=1e-9)


def test_temperature_speeds_up_every_clock() -> None:
    hot = card("power_law").model_dump()
    hot["drift"] |= {"activation_energy_ev": 0.5, "reference_temperature_kelvin": 300.0}
    hot["operation"] = {"temperature_kelvin": 330.0, "source": "a test"}
    devices = Devices(card_from_mapping(DeviceCard, hot), (2,), seed=4, dtype=torch.float64)
    devices.program(torch.tensor([20e-6, 20e-6]))
    devices.advance_time(50.0)
    devices.pulse(torch.tensor([1, 0]), torch.zeros(2))
    restarted = float(devices.programmed[0])
    devices.advance_time(70.0)
    faster = math.exp(0.5 / 8.617333262e-5 * (1.0 / 300.0 - 1.0 / 330.0))
    assert devices.drift_coefficient is not None
    for g0, age_s, nu, now in zip(
        (restarted, 20e-6), (70.0, 120.0), devices.drift_coefficient, devices.conductance,
        strict=True,
    ):  # fmt: skip
        wanted = g0 * ((faster * age_s + 20.0) / 20.0) ** -float(nu)
        assert float(now) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("model", ["flicker", "logarithmic"])
def test_read_noise_grows_by_each_device_s_clock(model: str) -> None:
    fields = {
        "flicker": {"coefficient": 0.01, "exponent": 0.6, "maximum": 0.2},
        "logarithmic": {"coefficient_siemens": 1e-7},
    }[model]
    noise = {"model": model, "reference_siemens": 1e-6, "read_time_s": 1e-6, "source": "a test"}
    of = card_from_mapping(
        DeviceCard, card("power_law").model_dump() | {"read_noise": [noise | fields]}
    )
    devices = Devices(of, (3,), seed=4, dtype=torch.float64)
    devices.program(torch.full((3,), 20e-6))
    devices.advance_time(100.0)
    devices.pulse(torch.tensor([0, 1, 0]), torch.zeros(3))
    for pause, ages in ((0.0, (100.0, 0.0, 100.0)), (7.0, (107.0, 7.0, 107.0))):
        devices.advance_time(pause)
        found = devices.read_variance().per_square_volt
        assert found is not None
        for place, age_s in enumerate(ages):
            one = ReadConditions(devices.programmed[place], age_s, 300.0, HIGH - LOW)
            alone = read_variance(of.read_noise, devices.conductance[place], one).per_square_volt
            assert alone is not None
            assert float(found[place]) == pytest.approx(float(alone), rel=1e-9, abs=1e-30)
        assert (float(found[1]) == 0.0) == (pause == 0.0)
        assert float(found[0]) > 0.0


def test_clocks_are_held_only_where_they_differ() -> None:
    plain = card("power_law").model_copy(update={"drift": None})
    for of, held in ((card("power_law"), True), (plain, False)):
        devices = Devices(of, (5,), seed=1)
        devices.program(torch.full((5,), 20e-6))
        up = torch.tensor([1, 0, 0, 0, 0])
        devices.pulse(up, torch.zeros(5))
        assert "_ages" not in devices.state_dict()
        devices.advance_time(2.0)
        devices.pulse(up, torch.zeros(5))
        assert ("_ages" in devices.state_dict()) == held
        devices.program(torch.full((5,), 20e-6))
        assert "_ages" not in devices.state_dict()
        assert devices.age_s == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clocks_are_saved_bit_for_bit_and_keep_their_precision(
    dtype: torch.dtype, tmp_path
) -> None:
    devices, other = (Devices(card("power_law"), (5,), seed=s, dtype=dtype) for s in (1, 2))
    devices.program(torch.full((5,), 20e-6))
    up = torch.tensor([1, 0, 0, 0, 1])
    for pause in (1e9 / 3.0, 1e-3 / 7.0, 0.1):
        devices.advance_time(pause)
        devices.pulse(up.roll(int(pause)), torch.zeros(5))
    devices.advance_time(0.3)
    torch.save(devices.state_dict(), tmp_path / "devices.pt")
    other.load_state_dict(torch.load(tmp_path / "devices.pt", weights_only=True))
    for each in (devices, other):
        each.advance_time(1.7)
        each.pulse(up, torch.zeros(5))
        each.advance_time(11.0)
    assert torch.equal(devices.conductance, other.conductance)
    for found, wanted in zip(devices.age_s, other.age_s, strict=True):  # type: ignore[arg-type]
        assert float(found) == float(wanted)
    before = torch.as_tensor(devices.age_s).clone()
    devices.float()
    assert torch.equal(torch.as_tensor(devices.age_s), before)
    # A state from before there were clocks: all of one age.
    old = devices.state_dict()
    del old["_ages"]
    other.load_state_dict(old)
    assert other.age_s == 11.0
