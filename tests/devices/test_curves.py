"""The numbers of a card's curves against closed forms of the phenomena."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import constants, stats

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.devices import DeviceCard, Devices
from neurosim_ep.devices.curves import (
    DRIFT_STARTS,
    drift_after,
    drift_curve,
    level_curve,
    programming_sigma,
    pulse_curve,
    read_noise_curve,
)

LOW, HIGH = 10e-6, 50e-6
POWER_LAW = {
    "model": "power_law",
    "start_s": 20.0,
    "reference_siemens": 50e-6,
    "mean_intercept": 0.05,
    "mean_low": 0.0,
    "mean_high": 1.0,
    "source": "assumed",
}


def card(**tables: Any) -> DeviceCard:
    window = {"g_min_siemens": LOW, "g_max_siemens": HIGH, "source": "assumed"}
    window |= tables.pop("window", {})
    return card_from_mapping(DeviceCard, {"name": "x", "window": window, **tables})


def noise(sigma: float) -> dict[str, Any]:
    return {"coefficients_siemens": [sigma], "reference_siemens": 1e-6, "source": "assumed"}


def test_a_card_without_a_phenomenon_has_no_curve() -> None:
    bare = card()
    assert pulse_curve(bare, 0) is None
    assert level_curve(bare, 0) is None
    assert drift_curve(bare, 0) is None
    assert drift_after(bare, 10.0, 0) is None
    assert read_noise_curve(bare, 0) is None
    assert programming_sigma(bare, 0) == pytest.approx(0.0, abs=1e-18)


def test_constant_steps_draw_a_roof() -> None:
    response = {"model": "constant", "step_relative": 0.1, "up_down": 0.5, "source": "assumed"}
    curve = pulse_curve(card(pulse_response=response), 0)
    assert curve is not None
    assert curve.up_pulses == 30
    up = [min(LOW + k * 0.05 * (HIGH - LOW), HIGH) for k in range(31)]
    down = [max(HIGH - k * 0.025 * (HIGH - LOW), LOW) for k in range(1, 31)]
    expected = torch.tensor(up + down, dtype=torch.float64)
    torch.testing.assert_close(curve.mean_siemens, expected)
    for device in curve.devices_siemens:
        torch.testing.assert_close(device, expected)


def test_pulsed_devices_differ_and_never_conduct_less_than_nothing() -> None:
    response = {
        "model": "soft_bounds",
        "step_relative": 0.2,
        "w_min_spread_relative": 1.0,
        "write_noise_relative": 3.0,
        "source": "assumed",
    }
    first, again = (pulse_curve(card(pulse_response=response), seed) for seed in (1, 1))
    other = pulse_curve(card(pulse_response=response), 2)
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.devices_siemens, again.devices_siemens)
    assert not torch.equal(first.devices_siemens, other.devices_siemens)
    assert float(first.devices_siemens.min()) == 0.0
    assert float(first.devices_siemens.std(dim=0).min()) > 0.0


def test_a_one_sided_card_draws_up_pulses_only() -> None:
    response = {"model": "constant", "step_relative": 0.1, "one_sided": True, "source": "assumed"}
    curve = pulse_curve(card(pulse_response=response), 0)
    assert curve is not None
    assert curve.up_pulses == 30
    expected = [min(LOW + k * 0.05 * (HIGH - LOW), HIGH) for k in range(31)]
    torch.testing.assert_close(curve.mean_siemens, torch.tensor(expected, dtype=torch.float64))


def test_pulses_stop_at_the_bounds_of_the_window_s_spread() -> None:
    spread = {"g_min_sigma_relative": 0.3, "g_max_sigma_relative": 0.1, "source": "assumed"}
    response = {"model": "constant", "step_relative": 0.1, "source": "assumed"}
    curve = pulse_curve(card(pulse_response=response, spread=spread), 0)
    assert curve is not None
    devices = Devices(card(spread=spread), (64,), seed=0, dtype=torch.float64)
    assert devices.lower is not None
    assert devices.upper is not None
    torch.testing.assert_close(curve.devices_siemens[:, 0], devices.lower[:4])
    torch.testing.assert_close(curve.devices_siemens[:, 30], devices.upper[:4])


def test_levels_are_targets_and_what_is_reached() -> None:
    curve = level_curve(card(window={"levels": 5}, programming=noise(0.4e-6)), 0)
    assert curve is not None
    expected = torch.linspace(LOW, HIGH, 5, dtype=torch.float64)
    torch.testing.assert_close(curve.target_siemens, expected)
    inner = curve.reached_siemens[1:-1] - expected[1:-1, None]
    assert stats.kstest((inner / 0.4e-6).flatten().numpy(), "norm").pvalue > 1e-3
    assert curve.middle_sigma_siemens == pytest.approx(0.4e-6, rel=0.05)


def test_write_verify_shrinks_the_sigma_to_that_of_a_truncated_normal() -> None:
    verify = {
        "tolerance_siemens": 0.3e-6,
        "max_pulses": 1000,
        "on_failure": "keep_last",
        "source": "assumed",
    }
    found = programming_sigma(card(programming=noise(1e-6), write_verify=verify), 0)
    assert found == pytest.approx(1e-6 * stats.truncnorm(-0.3, 0.3).std(), rel=0.05)


def test_drift_has_the_mean_and_the_quantiles_of_the_power_law() -> None:
    drift = {**POWER_LAW, "sigma_intercept": 0.01, "sigma_high": 1.0}
    curve = drift_curve(card(drift=drift, programming=noise(5e-6)), 0)
    assert curve is not None
    assert float(curve.time_s[0]) == 1.0
    assert float(curve.time_s[-1]) == pytest.approx(1e10)
    start = LOW + torch.tensor(DRIFT_STARTS, dtype=torch.float64) * (HIGH - LOW)
    elapsed = ((curve.time_s + 20.0) / 20.0)[None]
    z = float(stats.norm.ppf(0.9))
    for found, nu in (
        (curve.mean_siemens, 0.05),
        (curve.low_siemens, 0.05 + 0.01 * z),
        (curve.high_siemens, 0.05 - 0.01 * z),
    ):
        torch.testing.assert_close(found, start[:, None] * elapsed**-nu, rtol=0.03, atol=0.0)


def test_drift_after_a_day_starts_at_nine_tenths() -> None:
    change = drift_after(card(drift=POWER_LAW), 86_400.0, 0)
    start = LOW + 0.9 * (HIGH - LOW)
    expected = start * ((86_420.0 / 20.0) ** -0.05 - 1.0)
    assert change == (pytest.approx(expected, rel=1e-9), pytest.approx(0.0, abs=1e-18))


def test_each_read_noise_and_their_sum() -> None:
    terms = [
        {"model": "thermal", "bandwidth_hz": 1e9, "source": "assumed"},
        {"model": "shot", "bandwidth_hz": 1e9, "source": "assumed"},
        {"model": "lumped", "sigma_relative": 0.01, "source": "assumed"},
        {
            "model": "telegraph",
            "amplitude_relative": 0.1,
            "high_probability": 0.3,
            "device_fraction": 0.05,
            "source": "assumed",
        },
    ]
    curve = read_noise_curve(card(read_noise=terms), 0)
    assert curve is not None
    g, v = curve.conductance_siemens, curve.read_voltage_volt
    expected = {
        "thermal": (4.0 * constants.k * 300.0 * g * 1e9).sqrt() / v,
        "shot": (2.0 * constants.e * g * v * 1e9).sqrt() / v,
        "lumped": 0.01 * g,
        # In a device that has it, though few do.
        "telegraph": math.sqrt(0.3 * 0.7) * 0.1 * g,
    }
    assert list(curve.sigma_siemens) == list(expected)
    for name, sigma in expected.items():
        torch.testing.assert_close(curve.sigma_siemens[name], sigma)
    total = sum(sigma**2 for sigma in expected.values())
    torch.testing.assert_close(curve.total_siemens**2, total)
