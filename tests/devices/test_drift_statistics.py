"""Programming and drift of the shipped cards against the published equations, restated here."""

import math

import pytest
import torch
from scipy import constants, stats

from neurosim_ep.devices import Devices, load_device_card
from neurosim_ep.devices.drift import Logarithmic, PowerLaw, Relaxation, Retention

MICRO = 1e-6
COUNT = 20_000
SIGNIFICANCE = 1e-3
DAY_S = 86_400.0


def programmed(name, microsiemens, seed=1):
    """Devices of a shipped card, all programmed to one conductance, and what they came to in uS."""
    devices = Devices(load_device_card(name), (COUNT,), seed=seed, dtype=torch.float64)
    devices.program(torch.full((COUNT,), microsiemens * MICRO, dtype=torch.float64))
    return devices, devices.conductance / MICRO


def assert_normal(sample, mean, sigma):
    """Kolmogorov-Smirnov against the distribution, and chi-square for its width."""
    assert stats.kstest(sample.numpy(), "norm", (mean, sigma)).pvalue > SIGNIFICANCE
    statistic = (len(sample) - 1) * sample.var().item() / sigma**2
    assert stats.chi2.sf(statistic, len(sample) - 1) > SIGNIFICANCE / 2
    assert stats.chi2.cdf(statistic, len(sample) - 1) > SIGNIFICANCE / 2


# --- PCM: Nandakumar et al., ICECS 2019; g_max 25 uS, t0 20 s ---------------------------------


@pytest.mark.parametrize("x", [0.2, 0.5, 0.7])
def test_pcm_programming(x):
    _, g = programmed("pcm", 25.0 * x)
    assert_normal(g, 25.0 * x, 0.26348 + 1.9650 * x - 1.1731 * x**2)


def test_pcm_at_its_lower_bound_is_half_a_normal():
    _, g = programmed("pcm", 0.0)
    assert (g == 0.0).double().mean().item() == pytest.approx(0.5, abs=0.015)
    positive = g[g > 0.0].numpy()
    assert stats.kstest(positive, "halfnorm", (0.0, 0.26348)).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("x", [0.001, 0.02, 0.1, 0.5, 1.0])
def test_pcm_drift_exponents(x):
    drift = load_device_card("pcm").drift
    assert isinstance(drift, PowerLaw)
    g0 = torch.full((COUNT,), 25.0 * MICRO * x, dtype=torch.float64)
    coefficient = drift.draw(g0, torch.Generator().manual_seed(2))
    later = drift.at(g0, coefficient, DAY_S, 300.0)
    nu = -torch.log(later / g0) / math.log((DAY_S + 20.0) / 20.0)
    mu = min(max(-0.0155 * math.log(x) + 0.0244, 0.049), 0.1)
    sigma = min(max(-0.0125 * math.log(x) - 0.0059, 0.008), 0.045)
    folded = stats.foldnorm(mu / sigma, scale=sigma)
    assert stats.kstest(nu.numpy(), folded.cdf).pvalue > SIGNIFICANCE


def test_pcm_falls_as_a_power_of_time():
    devices, _ = programmed("pcm", 10.0)
    g0 = devices.conductance.clone()
    logarithms = []
    for time_s in (20.0, 180.0, 1800.0):  # ln((t + 20) / 20) = ln 2, ln 11, ln 111
        devices.advance_time(time_s)
        logarithms.append(torch.log(devices.conductance / g0))
    torch.testing.assert_close(logarithms[1] / logarithms[0], torch.full_like(g0, math.log2(11)))
    torch.testing.assert_close(logarithms[2] / logarithms[0], torch.full_like(g0, math.log2(101.0)))


# --- CMO/HfOx ReRAM: Falcone et al. 2025; conductances in uS ------------------------------------


@pytest.mark.parametrize("g", [12.0, 40.0, 80.0])
def test_cmo_programming(g):
    _, landed = programmed("cmo-hfox-reram", g)
    assert_normal(landed, g, 0.00081107 + 0.00106879 * g)


@pytest.mark.parametrize("time_s", [1.0, 600.0, DAY_S])
def test_cmo_relaxation(time_s):
    devices, g0 = programmed("cmo-hfox-reram", 40.0)
    devices.advance_time(time_s)
    change = devices.conductance / MICRO - g0
    logarithm = math.log(time_s)
    assert_normal(change, -0.0890 * logarithm, 0.04201 * logarithm + 0.41183)


def test_cmo_relaxation_begins_without_a_jump():
    devices, g0 = programmed("cmo-hfox-reram", 40.0)
    changes = []
    for step_s in (0.25, 0.25, 0.5 - 1e-9, 2e-9):
        devices.advance_time(step_s)
        changes.append(devices.conductance / MICRO - g0)
    torch.testing.assert_close(changes[1], 2.0 * changes[0])
    assert (changes[3] - changes[2]).abs().max() < 1e-7


# --- HfO2 array: Wan et al., Nature 2022; g_max 40 uS -------------------------------------------

WAN_SECOND = (0.348, 16.030, -43.853, 45.393, -16.815)
WAN_DAY = (0.701, 22.086, -50.773, 47.095, -16.458)


def wan_sigma(coefficients, x):
    return sum(c * x**n for n, c in enumerate(coefficients))


@pytest.mark.parametrize("x", [0.3, 0.5, 0.7])
def test_wan_programming_has_the_deviation_of_a_second(x):
    _, g = programmed("wan2022-reram", 40.0 * x)
    assert_normal(g, 40.0 * x, wan_sigma(WAN_SECOND, x))


def test_wan_peaks_as_published():
    x = [i / 1000 for i in range(1001)]
    assert max(wan_sigma(WAN_SECOND, v) for v in x) / 40.0 == pytest.approx(0.057, abs=0.002)
    assert max(wan_sigma(WAN_DAY, v) for v in x) / 40.0 == pytest.approx(0.1, abs=0.003)


@pytest.mark.parametrize("x", [0.25, 0.4, 0.7, 1.0])
def test_wan_relaxation_reaches_the_deviation_of_a_day(x):
    drift = load_device_card("wan2022-reram").drift
    assert isinstance(drift, Relaxation)
    g0 = torch.full((COUNT,), 40.0 * MICRO * x, dtype=torch.float64)
    coefficient = drift.draw(g0, torch.Generator().manual_seed(3))
    later = drift.at(g0, coefficient, DAY_S - 1.0, 300.0)  # the clock starts at one second
    added = math.sqrt(wan_sigma(WAN_DAY, x) ** 2 - wan_sigma(WAN_SECOND, x) ** 2)
    assert_normal((later - g0) / MICRO, 0.0, added)


def test_wan_programming_and_relaxation_together_are_the_day_s_deviation():
    devices, _ = programmed("wan2022-reram", 20.0)
    devices.advance_time(DAY_S - 1.0)
    deviation = devices.conductance / MICRO - 20.0
    # The relaxation goes by the programmed conductance, which scatters around x = 0.5.
    assert deviation.std().item() == pytest.approx(wan_sigma(WAN_DAY, 0.5), rel=0.03)


def test_relaxation_is_linear_in_the_logarithm_of_time_and_then_stays():
    drift = Relaxation(
        times_s=(1.0, 100.0),
        coefficients_siemens=((0.0,), (2e-6,)),
        reference_siemens=40e-6,
        source="a test",
    )
    g0 = torch.full((5,), 20e-6, dtype=torch.float64)
    coefficient = drift.draw(g0, torch.Generator().manual_seed(4))
    for time_s, share in ((9.0, 0.5), (99.0, 1.0), (1e9, 1.0)):
        later = drift.at(g0, coefficient, time_s, 300.0)
        torch.testing.assert_close((later - g0) / MICRO, coefficient * 2.0 * share)


# --- Retention and temperature -----------------------------------------------------------------


def test_retention_is_exponential_with_log_normal_times():
    drift = Retention(
        rest_siemens=5e-6, time_constant_s=50.0, time_constant_sigma_log=0.4, source="a test"
    )
    g0 = torch.full((COUNT,), 9e-6, dtype=torch.float64)
    coefficient = drift.draw(g0, torch.Generator().manual_seed(5))
    for time_s in (1e-3, 20.0, 200.0):
        left = (drift.at(g0, coefficient, time_s, 300.0) - 5e-6) / 4e-6
        assert_normal(torch.log(-time_s / torch.log(left)), math.log(50.0), 0.4)


@pytest.mark.parametrize(("kelvin", "faster"), [(350.0, True), (270.0, False)])
def test_temperature_runs_time_by_the_arrhenius_law(kelvin, faster):
    common = {"rest_siemens": 0.0, "time_constant_s": 50.0, "source": "a test"}
    hot = Retention(activation_energy_ev=0.6, reference_temperature_kelvin=300.0, **common)
    cold = Retention(**common)
    energy_joule = 0.6 * constants.electron_volt
    rate = math.exp(energy_joule / constants.Boltzmann * (1.0 / 300.0 - 1.0 / kelvin))
    assert (rate > 1.0) == faster
    g0 = torch.full((3,), 9e-6, dtype=torch.float64)
    xi = torch.zeros_like(g0)
    for at, seconds in ((kelvin, 7.0 * rate), (300.0, 7.0)):
        expected = cold.at(g0, xi, seconds, at) / MICRO
        torch.testing.assert_close(hot.at(g0, xi, 7.0, at) / MICRO, expected)


# --- What holds for all of them ------------------------------------------------------------------

DRIFTS = {
    name: load_device_card(name).drift
    for name in ("pcm", "cmo-hfox-reram", "wan2022-reram", "capacitor")
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DRIFTS)
def test_time_zero_changes_nothing_and_no_time_gives_nonsense(name, dtype):
    drift = DRIFTS[name]
    g0 = torch.tensor([0.0, 1e-12, 1e-6, 25e-6, 90e-6] * 200, dtype=dtype)
    coefficient = drift.draw(g0, torch.Generator().manual_seed(6))
    assert coefficient.dtype == dtype
    assert torch.equal(drift.at(g0, coefficient, 0.0, 300.0), g0)
    for time_s in (5e-324, 1e-9, 1e-3, 1.0, 1e10, 1.7e308):
        later = drift.at(g0, coefficient, time_s, 300.0)
        assert later.dtype == dtype
        assert torch.isfinite(later).all()
        assert (later >= 0.0).all()
    # A nanosecond does next to nothing, even where deviations grow as the root of time.
    torch.testing.assert_close(drift.at(g0, coefficient, 1e-9, 300.0), g0, rtol=1e-3, atol=5e-9)


@pytest.mark.parametrize("kelvin", [1e-3, 1e6])
def test_absurd_temperatures_stay_finite(kelvin):
    drift = PowerLaw(
        start_s=20.0,
        reference_siemens=25e-6,
        mean_intercept=0.05,
        mean_low=0.0,
        mean_high=1.0,
        activation_energy_ev=50.0,
        source="a test",
    )
    g0 = torch.tensor([0.0, 1e-6], dtype=torch.float64)
    coefficient = drift.draw(g0, torch.Generator().manual_seed(7))
    assert torch.isfinite(drift.at(g0, coefficient, 1e6, kelvin)).all()


def test_a_relaxing_device_never_conducts_backwards():
    drift = Logarithmic(
        mean_slope_siemens=-1e-6,
        sigma_slope_siemens=0.0,
        sigma_offset_siemens=0.0,
        source="a test",
    )
    g0 = torch.tensor([2e-6, 50e-6], dtype=torch.float64)
    coefficient = drift.draw(g0, torch.Generator().manual_seed(8))
    later = drift.at(g0, coefficient, math.exp(10.0), 300.0)
    assert later.tolist() == pytest.approx([0.0, 40e-6])
