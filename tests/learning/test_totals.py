"""Means over batches against numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim_ep.learning import Report, Totals


def reports(sizes: list[int], seed: int, settling: bool, departing: bool) -> list[Report]:
    draw = np.random.default_rng(seed)
    found = []
    for size in sizes:
        residual = torch.from_numpy(draw.exponential(size=size).astype(np.float32))
        found.append(
            Report(
                torch.from_numpy(draw.normal(size=size).astype(np.float32)),
                torch.from_numpy(draw.random(size) < 0.3),
                residual if settling else None,
                residual <= 0.5 if settling else None,
                torch.from_numpy(draw.random(size).astype(np.float32)) if departing else None,
            )
        )
    return found


def joined(batches: list[Report], name: str) -> np.ndarray:
    return np.concatenate([getattr(report, name).numpy() for report in batches])


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(0, 99),
    st.booleans(),
    st.booleans(),
)
def test_means_over_images_not_over_batches(
    sizes: list[int], seed: int, settling: bool, departing: bool
) -> None:
    batches = reports(sizes, seed, settling, departing)
    totals = Totals()
    for report in batches:
        totals.add(report)
    summary = totals.summary()
    assert summary.images == sum(sizes)
    assert summary.cost == pytest.approx(joined(batches, "cost").astype(float).mean(), abs=1e-12)
    right = 100.0 * (~joined(batches, "wrong")).mean()
    assert summary.accuracy_percent == pytest.approx(right, abs=1e-10)
    if settling:
        residual = joined(batches, "residual").astype(float)
        assert summary.residual_mean == pytest.approx(residual.mean(), rel=1e-12)
        assert summary.residual_max == residual.max()
        assert summary.unsettled_fraction == pytest.approx((residual > 0.5).mean(), abs=1e-12)
    else:
        assert summary.residual_mean is None
        assert summary.residual_max is None
        assert summary.unsettled_fraction is None
    if departing:
        wanted = joined(batches, "departure").astype(float).mean()
        assert summary.departure_mean == pytest.approx(wanted, rel=1e-12)
    else:
        assert summary.departure_mean is None


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 99), st.data())
def test_saved_in_the_middle_they_end_in_the_same_bits(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    batches = reports(sizes, seed, settling=True, departing=True)
    stop = data.draw(st.integers(0, len(sizes)))
    whole, first, second = Totals(), Totals(), Totals()
    for report in batches:
        whole.add(report)
    for report in batches[:stop]:
        first.add(report)
    state = first.state_dict()
    assert all(type(value) in (int, float) for value in state.values())
    second.load_state_dict(state, torch.device("cpu"))
    for report in batches[stop:]:
        second.add(report)
    assert second.summary() == whole.summary()
    assert second.state_dict() == whole.state_dict()
    assert state == first.state_dict()  # Loading takes nothing out of what it was given.


def test_sums_are_in_double_precision() -> None:
    totals = Totals()
    many = torch.full((1000,), 0.1, dtype=torch.float32)
    for _ in range(1000):
        totals.add(Report(many, many > 1.0))
    assert totals.summary().cost == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_no_image_has_no_mean() -> None:
    with pytest.raises(ValueError, match=r"^images: 0 is not allowed"):
        Totals().summary()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_cost_that_is_not_finite_is_refused_in_one_line(bad: float) -> None:
    totals = Totals()
    totals.add(Report(torch.tensor([1.0, bad]), torch.tensor([True, False])))
    with pytest.raises(
        ValueError, match=r"^cost: .* is not finite; the training diverges"
    ) as found:
        totals.summary()
    assert "\n" not in str(found.value)
