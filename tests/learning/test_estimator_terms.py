"""The weighted equilibria that an estimator asks for."""

import cmath
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim_ep.learning import (
    CenteredEP,
    Estimator,
    HolomorphicEP,
    NegativeEP,
    PositiveEP,
    RandomSignEP,
    Term,
)

BETAS = st.floats(1e-4, 2.0)
KINDS: list[Callable[[float], Estimator]] = [
    PositiveEP,
    NegativeEP,
    CenteredEP,
    RandomSignEP,
    *(lambda beta, n=n: HolomorphicEP(beta, n) for n in (2, 3, 4, 5, 6, 7, 8, 11)),
]


def terms_of(estimator: Estimator, seed: int = 0) -> list[Term]:
    return estimator.terms(torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(BETAS, st.sampled_from(KINDS), st.integers(0, 2**40))
def test_coefficients_sum_to_zero_and_give_a_slope_of_one(
    beta: float, kind: Callable[[float], Estimator], seed: int
) -> None:
    terms = terms_of(kind(beta), seed)
    total = sum(complex(term.coefficient).real for term in terms)
    assert abs(total) * beta < 1e-12
    slope = sum((complex(term.coefficient) * complex(term.beta)).real for term in terms)
    assert slope == pytest.approx(1.0, rel=1e-12)


@settings(deadline=None)
@given(BETAS, st.integers(2, 16))
def test_half_a_circle_stands_for_the_whole(beta: float, points: int) -> None:
    terms = HolomorphicEP(beta, points).terms()
    assert sum(term.multiplicity for term in terms) == points
    assert len(terms) == points // 2 + 1
    for term in terms:
        assert abs(term.beta) == pytest.approx(beta)
        assert (term.multiplicity == 1) == (abs(complex(term.beta).imag) < 1e-12 * beta)
        # A real equilibrium settles in real numbers where all of them are real.
        assert term.multiplicity == 2 or isinstance(term.beta, float)

    def energy_slope(at: complex) -> complex:  # Any function that is real on the real axis.
        return cmath.exp(1.3 * at) + 2.0 * at**3 - 0.7 * at + 5.0

    circle = [cmath.exp(2j * cmath.pi * k / points) for k in range(points)]
    naive = sum(energy_slope(beta * z) / z for z in circle) / (points * beta)
    half = sum((t.coefficient * energy_slope(t.beta)).real for t in terms)
    assert abs(naive.imag) * beta < 1e-10
    assert half == pytest.approx(naive.real, rel=1e-10, abs=1e-10 / beta)


@settings(deadline=None)
@given(BETAS)
def test_two_points_are_centered_ep(beta: float) -> None:
    circle, centered = HolomorphicEP(beta, 2).terms(), CenteredEP(beta).terms()
    assert [(t.coefficient, t.beta, t.multiplicity) for t in circle] == [
        (t.coefficient, t.beta, t.multiplicity) for t in centered
    ]


def test_the_formulas_at_a_quarter() -> None:
    pairs = {
        kind: [(term.coefficient, term.beta) for term in kind(0.25).terms()]
        for kind in (PositiveEP, NegativeEP, CenteredEP)
    }
    assert sorted(pairs[PositiveEP]) == [(-4.0, 0.0), (4.0, 0.25)]
    assert sorted(pairs[NegativeEP]) == [(-4.0, -0.25), (4.0, 0.0)]
    assert sorted(pairs[CenteredEP]) == [(-2.0, -0.25), (2.0, 0.25)]


def test_random_sign_draws_both_signs_equally_often() -> None:
    generator = torch.Generator().manual_seed(1)
    draws = 2000
    positive = 0
    for _ in range(draws):
        terms = RandomSignEP(0.1).terms(generator)
        kinds = [PositiveEP(0.1).terms(), NegativeEP(0.1).terms()]
        assert terms in kinds
        positive += terms == kinds[0]
    assert abs(positive - draws / 2) < 4.0 * math.sqrt(draws) / 2.0


def test_random_sign_is_a_matter_of_its_generator_alone() -> None:
    def draws() -> list[list[Term]]:
        generator = torch.Generator().manual_seed(7)
        return [RandomSignEP(0.1).terms(generator) for _ in range(20)]

    first, state = draws(), torch.get_rng_state()
    torch.manual_seed(99)
    assert draws() == first
    torch.set_rng_state(state)


@pytest.mark.parametrize(
    ("estimator", "symmetric"),
    [
        (PositiveEP(0.1), False),
        (NegativeEP(0.1), False),
        (RandomSignEP(0.1), False),
        (CenteredEP(0.1), True),
        (HolomorphicEP(0.1, 5), True),
    ],
    ids=repr,
)
def test_symmetric_points_have_the_mean_zero(estimator: Estimator, symmetric: bool) -> None:
    assert estimator.symmetric is symmetric
    terms = terms_of(estimator)
    mean = sum(term.multiplicity * complex(term.beta).real for term in terms)
    assert (abs(mean) < 1e-12) is symmetric


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS[:5])
def test_beta_must_be_finite_and_above_zero(
    kind: Callable[[float], Estimator], beta: float
) -> None:
    with pytest.raises(ValueError, match=r"^beta: ") as caught:
        kind(beta)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("points", [1, 0, -2])
def test_a_circle_needs_two_points(points: int) -> None:
    with pytest.raises(ValueError, match=f"^points: {points} .* at least 2$"):
        HolomorphicEP(0.1, points)


def test_random_sign_needs_a_generator() -> None:
    with pytest.raises(ValueError, match=r"^generator: None "):
        RandomSignEP(0.1).terms()
