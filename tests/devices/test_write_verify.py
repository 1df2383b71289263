"""Write-verify's closed form against a loop that attempts, measures and stops."""

import math

import pytest
import torch
from scipy import stats

from neurosim_ep.devices.write_verify import WriteVerify

SHAPE = (20_000,)
SIGNIFICANCE = 1e-3

# target, lower, upper, tolerance in units of sigma = 1, budget
CASES = {
    "mid-window": (0.0, -50.0, 50.0, 0.4, 4),
    "wide tolerance": (0.0, -50.0, 50.0, 2.5, 3),
    "narrow tolerance": (0.0, -50.0, 50.0, 0.05, 5),
    "at the lower bound": (0.0, 0.0, 50.0, 0.3, 2),
    "at the upper bound": (0.0, -50.0, 0.0, 0.3, 2),
    "bound within the tolerance": (0.0, -0.2, 50.0, 0.6, 2),
    "bound just beyond the tolerance": (0.0, -0.7, 50.0, 0.6, 3),
    "two near bounds": (0.0, -0.7, 0.9, 0.6, 3),
    "upper bound out of reach": (0.0, -50.0, -0.8, 0.5, 4),
    "lower bound out of reach": (0.0, 0.8, 50.0, 0.5, 4),
    "one attempt": (0.0, -0.5, 50.0, 0.4, 1),
}


def brute_force(case, on_failure, seed):
    """Attempt by attempt, as a programming circuit would."""
    target, lower, upper, tolerance, budget = case
    generator = torch.Generator().manual_seed(seed)
    value = torch.full(SHAPE, math.nan, dtype=torch.float64)
    best = torch.full(SHAPE, math.inf, dtype=torch.float64)
    attempts = torch.zeros(SHAPE, dtype=torch.int64)
    busy = torch.ones(SHAPE, dtype=torch.bool)
    for _ in range(budget):
        xi = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        landed = (target + xi).clamp(lower, upper)
        value = torch.where(busy, landed, value)
        better = busy & ((landed - target).abs() < (best - target).abs())
        best = torch.where(better, landed, best)
        attempts += busy
        busy &= (landed - target).abs() > tolerance
    if on_failure == "keep_best":
        value = torch.where(busy, best, value)
    if on_failure == "reset":
        value = torch.where(busy, lower, value)
    return value, attempts, busy


def closed_form(case, on_failure, seed, dtype=torch.float64):
    target, lower, upper, tolerance, budget = case
    table = WriteVerify(
        tolerance_siemens=tolerance, max_pulses=budget, on_failure=on_failure, source="a test"
    )
    like = torch.zeros(SHAPE, dtype=dtype)
    return table.write(
        like + target,
        like + 1.0,
        like.new_tensor(lower),
        like.new_tensor(upper),
        torch.Generator().manual_seed(seed),
    )


def same_distribution(a, b):
    """Kolmogorov-Smirnov, which is valid for distributions with atoms too (conservative)."""
    return stats.ks_2samp(a.numpy(), b.numpy(), method="asymp").pvalue > SIGNIFICANCE


@pytest.mark.parametrize("on_failure", ["keep_last", "keep_best", "reset"])
@pytest.mark.parametrize("name", CASES)
def test_the_closed_form_is_the_loop(name, on_failure):
    case = CASES[name]
    value, attempts, failed = brute_force(case, on_failure, seed=1)
    written = closed_form(case, on_failure, seed=2)
    for mask in (failed, ~failed):
        of_written = written.failed if mask is failed else ~written.failed
        assert (of_written.sum() == 0) == (mask.sum() == 0)
        if mask.any():
            assert same_distribution(written.conductance[of_written], value[mask])
    counts = [torch.bincount(a, minlength=case[-1] + 1)[1:] for a in (attempts, written.attempts)]
    table = torch.stack(counts)
    table = table[:, table.sum(0) > 0]
    if table.shape[1] > 1:
        assert stats.chi2_contingency(table.numpy()).pvalue > SIGNIFICANCE
    failures = [[int(m.sum()), int((~m).sum())] for m in (failed, written.failed)]
    assert stats.fisher_exact(failures).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("on_failure", ["keep_last", "keep_best", "reset"])
def test_the_atoms_at_near_bounds_weigh_the_same(on_failure):
    # The Kolmogorov-Smirnov test hardly sees where equal values lie; count them.
    case = CASES["two near bounds"]
    value, _, failed = brute_force(case, on_failure, seed=3)
    written = closed_form(case, on_failure, seed=4)
    for bound in case[1:3]:
        a = int((value[failed] == bound).sum())
        b = int((written.conductance[written.failed] == bound).sum())
        table = [[a, int(failed.sum()) - a], [b, int(written.failed.sum()) - b]]
        assert stats.fisher_exact(table).pvalue > SIGNIFICANCE


def test_accepted_values_are_within_the_tolerance_and_others_are_not():
    for case in CASES.values():
        written = closed_form(case, "keep_last", seed=5)
        within = (written.conductance - case[0]).abs() <= case[3] * (1.0 + 1e-9)
        assert torch.equal(within, ~written.failed)
        assert written.conductance.min() >= case[1]
        assert written.conductance.max() <= case[2]
        assert written.attempts.min() >= 1
        assert written.attempts.max() <= case[4]


def test_attempts_are_geometric():
    tolerance, budget = 0.5, 1000
    written = closed_form((0.0, -50.0, 50.0, tolerance, budget), "keep_last", seed=6)
    success = math.erf(tolerance / math.sqrt(2.0))
    assert not written.failed.any()
    mean = written.attempts.double().mean().item()
    error = math.sqrt(1.0 - success) / success / math.sqrt(SHAPE[0])
    assert mean == pytest.approx(1.0 / success, abs=4 * error)


def test_the_best_of_many_failures_is_at_the_edge_of_the_tolerance():
    case = (0.0, -50.0, 50.0, 1e-3, 200)
    best = closed_form(case, "keep_best", seed=7)
    last = closed_form(case, "keep_last", seed=7)
    assert torch.equal(best.failed, last.failed)
    assert best.failed.sum() > 1000
    assert best.conductance[best.failed].abs().max() < 0.1
    assert last.conductance[last.failed].abs().mean() > 0.7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-2, 1.0, 6.0, 40.0])
@pytest.mark.parametrize("sigma", [0.0, 1e-12, 1e-6])
def test_nothing_is_lost_to_rounding(dtype, tolerance, sigma):
    # In siemens, with tolerances from far below to far above sigma, for every way to fail.
    for on_failure in ("keep_last", "keep_best", "reset"):
        table = WriteVerify(
            tolerance_siemens=tolerance * 1e-6, max_pulses=20, on_failure=on_failure, source="test"
        )
        target = torch.linspace(1e-6, 40e-6, SHAPE[0], dtype=dtype)
        stuck = torch.arange(SHAPE[0]) % 7 == 0
        lower = torch.where(stuck, 3e-6, 1e-6).to(dtype)
        upper = torch.where(stuck, 3e-6, 40e-6).to(dtype)
        written = table.write(
            target, torch.full_like(target, sigma), lower, upper, torch.Generator().manual_seed(8)
        )
        assert written.conductance.dtype == dtype
        assert torch.isfinite(written.conductance).all()
        assert (written.conductance >= lower).all()
        assert (written.conductance <= upper).all()
        if sigma < 1e-6 * tolerance / 10:
            assert not written.failed[~stuck].any()
            assert (written.attempts[~stuck] == 1).all()


def test_a_stuck_device_succeeds_only_where_it_is_stuck():
    table = WriteVerify(tolerance_siemens=0.5e-6, max_pulses=9, source="a test")
    target = torch.tensor([3e-6, 3.4e-6, 8e-6])
    stuck = torch.full_like(target, 3e-6)
    written = table.write(
        target, torch.full_like(target, 1e-6), stuck, stuck, torch.Generator().manual_seed(9)
    )
    assert written.failed.tolist() == [False, False, True]
    assert written.attempts.tolist() == [1, 1, 9]
    assert torch.equal(written.conductance, stuck)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("on_failure", ["keep_last", "keep_best", "reset"])
def test_the_rarest_random_numbers_are_harmless(monkeypatch, dtype, on_failure):
    # Uniform numbers of exactly 0 and next to 1 come up once in 16 million devices.
    last = 1.0 - torch.finfo(dtype).eps / 2
    extremes = torch.tensor([0.0, last, 0.5], dtype=dtype)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: extremes.clone())
    target = torch.full((3,), 20.0, dtype=dtype)
    for budget in (1, 10**9):
        for sigma in (0.0, 1.0):
            for lower, upper in ((0.0, 40.0), (0.0, 19.0), (21.0, 40.0), (20.0, 40.0)):
                table = WriteVerify(
                    tolerance_siemens=0.5, max_pulses=budget, on_failure=on_failure, source="test"
                )
                written = table.write(
                    target,
                    torch.full_like(target, sigma),
                    target.new_tensor(lower),
                    target.new_tensor(upper),
                    torch.Generator(),
                )
                assert ((lower <= written.conductance) & (written.conductance <= upper)).all()
                assert ((written.attempts >= 1) & (written.attempts <= budget)).all()
