"""The variance of a column's current against sampling the current of every device.

Each term's sampler is written from its physics and draws one current per device and read: electrons
are counted for shot noise, a device is in one of two states for telegraph noise.
"""

import math

import pytest
import torch
from scipy import constants, stats

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.devices import DeviceCard, Devices

READS = 4_000
ROWS = 48
SIGNIFICANCE = 1e-3
ELAPSED_S = 1000.0
KELVIN = 320.0

THERMAL = {"model": "thermal", "bandwidth_hz": 2e8}
SHOT = {"model": "shot", "bandwidth_hz": 5e8}
FLICKER = {
    "model": "flicker",
    "coefficient": 0.0088,
    "exponent": 0.65,
    "maximum": 0.2,
    "reference_siemens": 25e-6,
    "read_time_s": 250e-9,
    "time_offset_s": 20.0,
}
LOGARITHMIC = {
    "model": "logarithmic",
    "coefficient_siemens": 0.02773e-6,
    "reference_siemens": 1e-6,
    "read_time_s": 1e-6,
}
TELEGRAPH = {
    "model": "telegraph",
    "amplitude_relative": 0.4,
    "high_probability": 0.3,
    "device_fraction": 0.6,
}
LUMPED = {"model": "lumped", "sigma_relative": 0.05, "sigma_of_range_relative": 0.02}
TERMS = {t["model"]: t for t in (THERMAL, SHOT, FLICKER, LOGARITHMIC, TELEGRAPH, LUMPED)}


def column(*terms, dtype=torch.float64, rows=ROWS, window=(0.0, 25e-6)):
    """A column of devices from the bottom to the top of the window, aged by a while."""
    card = card_from_mapping(
        DeviceCard,
        {
            "name": "test",
            "window": {"g_min_siemens": window[0], "g_max_siemens": window[1], "source": "test"},
            "read_noise": [{"source": "a test", **term} for term in terms],
            "operation": {"temperature_kelvin": KELVIN, "source": "a test"},
        },
    )
    devices = Devices(card, (rows,), seed=11, dtype=dtype)
    devices.program(torch.linspace(*window, rows, dtype=dtype))
    devices.advance_time(ELAPSED_S)
    return devices


def voltages(rows=ROWS):
    generator = torch.Generator().manual_seed(12)
    return torch.rand(rows, generator=generator, dtype=torch.float64) * 0.8 - 0.4


def noise_of_columns(variance, volt):
    """The column's variance in A^2 as a reader of arrays adds it up."""
    total = 0.0
    if variance.constant is not None:
        total += variance.constant.double().sum().item()
    if variance.per_volt is not None:
        total += (variance.per_volt.double() @ volt.abs()).item()
    if variance.per_square_volt is not None:
        total += (variance.per_square_volt.double() @ volt.square()).item()
    return total


def sample(model, devices, volt, generator):
    """Currents (READS, ROWS) of every device, in ampere."""
    g = devices.conductance
    normal = torch.randn((READS, len(g)), generator=generator, dtype=torch.float64)
    mean = g * volt
    if model == "thermal":
        # Nyquist's voltage noise of a resistor, seen as a current.
        ohm = 1.0 / g
        volt_rms = (4.0 * constants.Boltzmann * KELVIN * ohm * 2e8).sqrt()
        return mean + torch.where(g > 0.0, volt_rms / ohm, 0.0) * normal
    if model == "shot":
        # A window of 1 / (2 B) collects a Poisson number of electrons.
        window_s = 1.0 / (2.0 * 5e8)
        electrons = (mean.abs() * window_s / constants.elementary_charge).expand(READS, -1)
        counted = torch.poisson(electrons, generator=generator)
        return counted * constants.elementary_charge / window_s * mean.sign()
    if model == "flicker":
        x = (g / 25e-6).clamp(min=1e-30)
        quality = torch.minimum(0.0088 / x**0.65, torch.tensor(0.2, dtype=torch.float64))
        since = ELAPSED_S + 20.0
        growth = math.sqrt(math.log((since + 250e-9) / (2 * 250e-9)))
        return mean + volt * g * quality * growth * normal
    if model == "logarithmic":
        microsiemens = (g / 1e-6).clamp(min=1.0)
        growth = math.sqrt(math.log((ELAPSED_S + 1e-6) / 2e-6))
        return mean + volt * 1e-6 * 0.02773 * torch.log10(microsiemens) * growth * normal
    if model == "telegraph":
        high = torch.rand(normal.shape, generator=generator, dtype=torch.float64) < 0.3
        state = torch.where(high, g * (1.0 + 0.4 * 0.7), g * (1.0 - 0.4 * 0.3))
        return volt * torch.where(devices.fluctuating, state, g)
    assert model == "lumped"
    second = torch.randn(normal.shape, generator=generator, dtype=torch.float64)
    return mean + volt * (0.05 * g * normal + 0.02 * 25e-6 * second)


@pytest.mark.parametrize("model", TERMS)
def test_a_column_varies_as_its_devices_do(model):
    devices, volt = column(TERMS[model]), voltages()
    predicted = noise_of_columns(devices.read_variance(), volt)
    currents = sample(model, devices, volt, torch.Generator().manual_seed(13)).sum(1)
    statistic = (READS - 1) * currents.var().item() / predicted
    p = min(stats.chi2.sf(statistic, READS - 1), stats.chi2.cdf(statistic, READS - 1))
    assert p > SIGNIFICANCE / 2
    # Noise leaves the mean where it is.
    mean = (devices.conductance @ volt).item()
    assert abs(currents.mean().item() - mean) < 4.0 * math.sqrt(predicted / READS)


@pytest.mark.parametrize("model", TERMS)
def test_a_single_device_varies_as_predicted(model):
    # One conductance and one voltage at a time, so that no term's shape hides in a sum.
    devices, volt = column(TERMS[model]), torch.full((ROWS,), 0.2, dtype=torch.float64)
    variance = devices.read_variance()
    predicted = torch.zeros(ROWS, dtype=torch.float64)
    for part, power in (
        (variance.constant, 0),
        (variance.per_volt, 1),
        (variance.per_square_volt, 2),
    ):
        if part is not None:
            predicted += part * 0.2**power
    currents = sample(model, devices, volt, torch.Generator().manual_seed(14))
    centred = currents - currents.mean(0)
    measured, fourth = centred.square().mean(0), centred.pow(4).mean(0)
    error = ((fourth - measured.square()) / READS).sqrt()
    rounding = (1e-12 * devices.conductance * volt).square()
    assert ((measured - predicted).abs() <= 5.0 * error + rounding).all()
    assert (predicted > 0.0).sum() > ROWS // 3


@pytest.mark.parametrize(
    ("model", "power"),
    [("thermal", 0), ("shot", 1), ("flicker", 2), ("logarithmic", 2), ("telegraph", 2)],
)
def test_a_term_comes_with_its_own_power_of_the_voltage(model, power):
    variance = column(TERMS[model]).read_variance()
    parts = [variance.constant, variance.per_volt, variance.per_square_volt]
    assert [part is not None for part in parts] == [n == power for n in range(3)]


def test_terms_add():
    together = column(*TERMS.values()).read_variance()
    volt = voltages()
    separate = [noise_of_columns(column(t).read_variance(), volt) for t in TERMS.values()]
    assert noise_of_columns(together, volt) == pytest.approx(sum(separate), rel=1e-12, abs=0.0)


def test_without_terms_there_is_no_variance():
    variance = column().read_variance()
    assert variance.constant is variance.per_volt is variance.per_square_volt is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", TERMS)
def test_any_conductance_has_a_finite_variance(model, dtype):
    devices = column(TERMS[model], dtype=dtype)
    assert devices.conductance[0] == 0.0
    variance = devices.read_variance()
    exact = column(TERMS[model]).read_variance()
    for part, same in zip(vars(variance).values(), vars(exact).values(), strict=True):
        if part is not None:
            assert part.dtype == dtype
            assert torch.isfinite(part).all()
            assert (part >= 0.0).all()
            if model != "telegraph":  # other devices fluctuate where others are drawn
                torch.testing.assert_close(part.double(), same, rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("exponent", [0.0, 0.65, 40.0])
@pytest.mark.parametrize("coefficient", [0.0, 0.0088, 1e30])
def test_flicker_noise_of_a_device_that_is_off_is_finite(coefficient, exponent):
    term = {**FLICKER, "coefficient": coefficient, "exponent": exponent}
    for dtype in (torch.float32, torch.float64):
        part = column(term, dtype=dtype).read_variance().per_square_volt
        assert torch.isfinite(part).all()
        assert part[0] == 0.0


@pytest.mark.parametrize("term", [{**FLICKER, "time_offset_s": 0.0}, LOGARITHMIC])
def test_flicker_noise_grows_from_the_first_read_on(term):
    devices = column(term)
    devices.program(devices.conductance)
    previous = torch.zeros(ROWS, dtype=torch.float64)
    assert torch.equal(devices.read_variance().per_square_volt, previous)
    devices.advance_time(term["read_time_s"] / 2)
    assert torch.equal(devices.read_variance().per_square_volt, previous)
    for seconds in (1e-5, 1.0, 1e6):
        devices.advance_time(seconds)
        variance = devices.read_variance().per_square_volt
        assert (variance[1:] >= previous[1:]).all()
        assert variance[-1] > previous[-1]
        previous = variance


def test_telegraph_noise_affects_a_binomial_number_of_devices():
    rows = 20_000
    devices = column(TELEGRAPH, rows=rows)
    affected = int(devices.fluctuating.sum())
    assert stats.binomtest(affected, rows, 0.6).pvalue > SIGNIFICANCE
    variance = devices.read_variance().per_square_volt
    assert (variance[~devices.fluctuating] == 0.0).all()
    assert column({**TELEGRAPH, "device_fraction": 1.0}).fluctuating is None
    nobody = column({**TELEGRAPH, "device_fraction": 0.0})
    assert not nobody.fluctuating.any()


def test_drift_takes_its_noise_along():
    card = card_from_mapping(
        DeviceCard,
        {
            "name": "test",
            "window": {"g_min_siemens": 0.0, "g_max_siemens": 25e-6, "source": "test"},
            "read_noise": [{"source": "a test", **FLICKER}],
            "drift": {
                "model": "retention",
                "rest_siemens": 0.0,
                "time_constant_s": 100.0,
                "source": "a test",
            },
        },
    )
    devices = Devices(card, (1,), seed=1, dtype=torch.float64)
    devices.program(torch.tensor([10e-6], dtype=torch.float64))
    devices.advance_time(100.0)
    # The quality is that of the programmed conductance, the current that of the present one.
    quality = min(0.0088 / 0.4**0.65, 0.2)
    sigma = 10e-6 / math.e * quality * math.sqrt(math.log((120.0 + 250e-9) / 500e-9))
    assert devices.read_variance().per_square_volt.item() == pytest.approx(
        sigma**2, rel=1e-9, abs=0.0
    )
