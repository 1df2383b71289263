"""An estimator of the cost's gradient is a list of weighted equilibria.

``dC/dtheta ~ sum_k coefficient_k * dE/dtheta(s(beta_k))``, the mean over the batch.
"""

import cmath
import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Term:
    """One weighted equilibrium.

    Attributes:
        coefficient: weight of this equilibrium's dE/dtheta, whose real part counts.
        beta: nudging of this equilibrium.
        multiplicity: how many points of a symmetric estimator this one stands for.
    """

    coefficient: complex
    beta: complex
    multiplicity: int = 1


@dataclass(frozen=True)
class Estimator:
    """Base of all estimators.

    Attributes:
        beta: size of the nudging, above 0.

    Raises:
        ValueError: if beta is not a finite number above 0.
    """

    beta: float

    symmetric = False
    """Whether the points lie symmetrically around beta 0, so that their mean is the free state."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta > 0.0):
            raise ValueError(f"beta: {self.beta} is not allowed; must be a finite number above 0")

    def terms(self, generator: torch.Generator | None = None) -> list[Term]:
        """The weighted equilibria; only `RandomSignEP` uses the generator."""
        raise NotImplementedError


@dataclass(frozen=True)
class PositiveEP(Estimator):
    """[dE(s(beta)) - dE(s(0))] / beta; bias O(beta) (arXiv 2509.26003, equation 4)."""

    def terms(self, generator: torch.Generator | None = None) -> list[Term]:
        """(+1/beta, s(+beta)), (-1/beta, s(0))."""
        return [Term(1.0 / self.beta, self.beta), Term(-1.0 / self.beta, 0.0)]


@dataclass(frozen=True)
class NegativeEP(Estimator):
    """[dE(s(0)) - dE(s(-beta))] / beta; bias O(beta) (Scellier et al. 2023)."""

    def terms(self, generator: torch.Generator | None = None) -> list[Term]:
        """(-1/beta, s(-beta)), (+1/beta, s(0))."""
        return [Term(-1.0 / self.beta, -self.beta), Term(1.0 / self.beta, 0.0)]


@dataclass(frozen=True)
class CenteredEP(Estimator):
    """[dE(s(beta)) - dE(s(-beta))] / 2 beta; bias O(beta^2) (arXiv 2509.26003, equation 5)."""

    symmetric = True

    def terms(self, generator: torch.Generator | None = None) -> list[Term]:
        """(+1/2beta, s(+beta)), (-1/2beta, s(-beta))."""
        half = 0.5 / self.beta
        return [Term(half, self.beta), Term(-half, -self.beta)]


@dataclass(frozen=True)
class RandomSignEP(Estimator):
    """Positive or negative EP, by chance for each batch (Laborieux et al. 2021).

    Its O(beta) bias changes sign and averages out over batches.
    """

    def terms(self, generator: torch.Generator | None = None) -> list[Term]:
        """Those of `PositiveEP` or `NegativeEP`.

        Raises:
            ValueError: without a generator: randomness is explicit.
        """
        if generator is None:
            raise ValueError("generator: None is not allowed; RandomSignEP draws its sign from one")
        draw = torch.rand((), generator=generator, device=generator.device)
        kind = PositiveEP if bool(draw < 0.5) else NegativeEP
        return kind(self.beta).terms()


@dataclass(frozen=True)
class HolomorphicEP(Estimator):
    """Fourier coefficient over N points on a circle (arXiv 2509.26003, equation 6).

    ``1 / (N |beta|) sum_k exp(-2 pi i k / N) dE(s(|beta| exp(2 pi i k / N)))``; bias O(beta^N)
    (Laborieux and Zenke 2022).  The states at conjugate points are conjugate, so only half of the
    circle is settled.  Two points are centered EP.

    Attributes:
        beta: radius of the circle.
        points: number N of points on it, at least 2.
    """

    points: int = 2

    symmetric = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points < 2:
            raise ValueError(f"points: {self.points} is not allowed; must be at least 2")

    def terms(self, generator: torch.Generator | None = None) -> list[Term]:
        """Points of the upper half circle, those off the real axis counted twice."""
        terms = []
        for k in range(self.points // 2 + 1):
            if k == 0 or 2 * k == self.points:
                sign = 1.0 if k == 0 else -1.0
                terms.append(Term(sign / (self.points * self.beta), sign * self.beta))
                continue
            point = cmath.exp(2j * cmath.pi * k / self.points)
            coefficient = 2.0 * point.conjugate() / (self.points * self.beta)
            terms.append(Term(coefficient, self.beta * point, multiplicity=2))
        return terms
