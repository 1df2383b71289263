"""What fabrication fixes: levels of the window, bounds of each device, stuck devices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurosim_ep.devices.faults import Faults
from neurosim_ep.devices.programming import Programming, polynomial
from neurosim_ep.devices.spread import Spread
from neurosim_ep.devices.window import Window

COUNT = 20_000
SIGNIFICANCE = 1e-3
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def window(low=5e-6, high=40e-6, levels=None):
    return Window(g_min_siemens=low, g_max_siemens=high, levels=levels, source="a test")


# --- Window --------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 300), st.floats(0, 1e-5), st.floats(2e-5, 1e-3), st.integers(0, 1000))
def test_rounding_finds_the_nearest_level(levels, low, high, seed):
    table = window(low, high, levels)
    g = torch.rand(64, generator=generator(seed), dtype=torch.float64) * (high - low) + low
    allowed = torch.tensor([low + k * (high - low) / (levels - 1) for k in range(levels)])
    distance = (g[:, None] - allowed.double()).abs().min(1).values
    rounded = table.round(g)
    torch.testing.assert_close((rounded - g).abs(), distance, rtol=1e-6, atol=1e-6 * high)
    torch.testing.assert_close(table.round(rounded), rounded, rtol=1e-12, atol=1e-12 * high)


@DTYPES
def test_rounding_keeps_the_bounds_and_reaches_every_level(dtype):
    table = window(levels=32)
    g = torch.linspace(5e-6, 40e-6, 10_000, dtype=dtype)
    rounded = table.round(g)
    assert len(rounded.unique()) == 32
    assert rounded.dtype == dtype
    assert rounded[0] == g[0]
    torch.testing.assert_close(rounded[-1], g[-1], rtol=1e-6, atol=0.0)
    assert rounded.max() <= torch.tensor(40e-6, dtype=dtype)


@DTYPES
def test_rounding_never_leaves_the_window(dtype):
    for levels in range(2, 400):
        table = window(3.7e-6, 41.3e-6, levels)
        bounds = torch.tensor([3.7e-6, 41.3e-6], dtype=dtype)
        rounded = table.round(bounds)
        assert bounds[0] <= rounded.min()
        assert rounded.max() <= bounds[1]


def test_a_window_without_levels_rounds_nothing():
    g = torch.rand(5)
    assert window().round(g) is g


def test_states_are_minus_one_and_one_at_the_bounds():
    table = window()
    w = torch.tensor([-1.0, 0.0, 1.0, 1.5], dtype=torch.float64)
    g = torch.tensor([5e-6, 22.5e-6, 40e-6, 48.75e-6], dtype=torch.float64)
    torch.testing.assert_close(table.siemens(w), g)
    torch.testing.assert_close(table.state(g), w)
    assert float(table.siemens(torch.tensor(-1.5))) == 0.0


# --- Spread --------------------------------------------------------------------------------------


def test_bounds_are_normal_around_the_nominal_ones():
    table = Spread(g_min_sigma_relative=0.1, g_max_sigma_relative=0.05, source="a test")
    lower, upper = table.draw(window(), (COUNT,), generator(1), torch.float64)
    assert stats.kstest(lower.numpy(), "norm", (5e-6, 0.5e-6)).pvalue > SIGNIFICANCE
    assert stats.kstest(upper.numpy(), "norm", (40e-6, 2e-6)).pvalue > SIGNIFICANCE
    assert stats.pearsonr(lower.numpy(), upper.numpy()).pvalue > SIGNIFICANCE


@DTYPES
@pytest.mark.parametrize("sigma", [0.3, 3.0, 1e3])
def test_every_device_keeps_a_window(dtype, sigma):
    table = Spread(g_min_sigma_relative=sigma, g_max_sigma_relative=sigma, source="a test")
    lower, upper = table.draw(window(), (COUNT,), generator(2), dtype)
    assert (lower >= 0.0).all()
    assert (upper - lower >= 0.0099 * 35e-6).all()
    assert (lower <= 22.5e-6 - 0.0049 * 35e-6).all()
    assert (upper >= 22.5e-6 + 0.0049 * 35e-6).all()


def test_one_spread_does_not_redraw_the_other():
    both = Spread(g_min_sigma_relative=0.1, g_max_sigma_relative=0.1, source="a test")
    lower, upper = both.draw(window(), (9,), generator(3), torch.float64)
    only = Spread(g_max_sigma_relative=0.1, source="a test")
    nominal, same = only.draw(window(), (9,), generator(3), torch.float64)
    assert torch.equal(same, upper)
    assert (nominal == 5e-6).all()
    assert (lower != 5e-6).all()


# --- Faults --------------------------------------------------------------------------------------


def test_stuck_fractions_are_binomial():
    fractions = {"min": 0.03, "max": 0.01, "random": 0.1}
    table = Faults(
        **{f"stuck_at_{kind}_fraction": f for kind, f in fractions.items()}, source="a test"
    )
    stuck, places = table.draw(5e-6, 40e-6, (COUNT,), generator(4), torch.float64)
    counts = {
        "min": int((stuck & (places == 5e-6)).sum()),
        "max": int((stuck & (places == 40e-6)).sum()),
    }
    counts["random"] = int(stuck.sum()) - counts["min"] - counts["max"]
    for kind, fraction in fractions.items():
        assert stats.binomtest(counts[kind], COUNT, fraction).pvalue > SIGNIFICANCE
    elsewhere = places[stuck & (places != 5e-6) & (places != 40e-6)]
    assert stats.kstest(elsewhere.numpy(), "uniform", (5e-6, 35e-6)).pvalue > SIGNIFICANCE


@DTYPES
def test_devices_are_stuck_at_their_own_bounds(dtype):
    lower = torch.linspace(1e-6, 5e-6, COUNT, dtype=dtype)
    upper = torch.linspace(30e-6, 50e-6, COUNT, dtype=dtype)
    table = Faults(stuck_at_min_fraction=0.5, stuck_at_max_fraction=0.5, source="a test")
    stuck, places = table.draw(lower, upper, (COUNT,), generator(5), dtype)
    assert stuck.all()
    assert ((places == lower) | (places == upper)).all()
    assert stats.binomtest(int((places == upper).sum()), COUNT, 0.5).pvalue > SIGNIFICANCE


def test_no_fraction_means_no_stuck_device():
    stuck, _ = Faults(source="a test").draw(0.0, 1.0, (COUNT,), generator(6), torch.float32)
    assert not stuck.any()


# --- Programming noise ---------------------------------------------------------------------------


def test_polynomials():
    x = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    assert polynomial(x, (3.0,)).tolist() == [3.0, 3.0, 3.0]
    assert polynomial(x, (1.0, -2.0, 4.0)).tolist() == [1.0, 1.0, 13.0]
    assert x.tolist() == [0.0, 0.5, 2.0]


def test_a_negative_sigma_counts_as_none():
    table = Programming(
        coefficients_siemens=(1e-6, -2e-6), reference_siemens=10e-6, source="a test"
    )
    g = torch.tensor([0.0, 2e-6, 10e-6], dtype=torch.float64)
    assert table.sigma(g).tolist() == pytest.approx([1e-6, 0.6e-6, 0.0])
