"""Settings of a gradient, what was measured at them, and which of them to train with."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neurosim_ep.experiments.fidelity.gradients import Fidelity

READS = ("full", "delta")
REFERENCES = ("intended", "programmed")
DECISIVE = "programmed"
"""Beta, iterations and reads cannot mend the weights: they are judged by the response of the
weights as programmed, the slope of the cost that the hardware itself has."""
SWEEPS = (
    "beta",
    "free_iterations",
    "nudged_iterations",
    "adc_bits",
    "dac_bits",
    "read_noise_scale",
)
RESOLUTION = 0.002
"""Cosines closer than this are not told apart."""


@dataclass(frozen=True)
class Setting:
    """How a gradient is measured; None is the array card's own value.

    Attributes:
        beta: nudging.
        free_iterations: of the free phase.
        nudged_iterations: of each nudged phase.
        reads: of the nudged phases, ``full`` or ``delta``.
        adc_bits, dac_bits: of all converters.
        read_noise_scale: factor on the standard deviation of the devices' read noise.
    """

    beta: float
    free_iterations: int
    nudged_iterations: int
    reads: str
    adc_bits: int | None = None
    dac_bits: int | None = None
    read_noise_scale: float = 1.0

    def iterations(self, nudged_phases: int) -> int:
        """Of one gradient: the free phase's and all nudged phases'."""
        return self.free_iterations + nudged_phases * self.nudged_iterations


@dataclass(frozen=True)
class Point:
    """What was measured at one setting.

    Attributes:
        setting: where.
        draws: fidelities by reference, one per piece of hardware and repeat; empty where the
            settling diverged.
    """

    setting: Setting
    draws: Mapping[str, tuple[Fidelity, ...]]

    def mean_and_spread(
        self, value: Callable[[Fidelity], float], reference: str = DECISIVE
    ) -> tuple[float, float] | None:
        """Mean and sample standard deviation over the draws; None where there are none.

        Both are NaN where the value is not known in any draw.
        """
        if not self.draws[reference]:
            return None
        found = map(value, self.draws[reference])
        values = [number for number in found if not math.isnan(number)]
        if not values:
            return math.nan, math.nan
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    def of_layer(self, layer: int, reference: str = DECISIVE) -> tuple[float, float] | None:
        """Mean and spread of one layer's cosine; None where there are no draws."""
        return self.mean_and_spread(lambda fidelity: fidelity.cosines[layer], reference)

    def worst(self, reference: str = DECISIVE) -> float | None:
        """Mean cosine of the worst layer."""
        found = self.mean_and_spread(lambda fidelity: fidelity.worst, reference)
        return found[0] if found else None


@dataclass(frozen=True)
class Sweep:
    """One knob turned, all others at their own values.

    Attributes:
        name: one of `SWEEPS`.
        values: of the knob.
        own: the recipe's or the card's value; None where the card has none or several.
        chip: points by reads, one per value.
        exact: the same by exact reads, where the knob means something to them; else empty.
    """

    name: str
    values: tuple[float, ...]
    own: float | None
    chip: Mapping[str, tuple[Point, ...]]
    exact: tuple[Point, ...]


@dataclass(frozen=True)
class Grid:
    """The values that are tried; iterations are factors on the recipe's.

    Attributes:
        betas, adc_bits, dac_bits, noise_scales: values of the sweeps.
        factors: of free and of nudged iterations, in their sweeps.
        joint_betas: of the joint grid.
        joint_factors: of free and nudged iterations together, in the joint grid.
    """

    betas: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    adc_bits: tuple[int, ...] = (4, 5, 6, 7, 8, 10, 12)
    dac_bits: tuple[int, ...] = (4, 5, 6, 7, 8, 10)
    noise_scales: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    joint_betas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5)
    joint_factors: tuple[tuple[float, float], ...] = (
        (0.5, 0.25),
        (0.5, 0.5),
        (1.0, 0.5),
        (1.0, 1.0),
        (2.0, 1.0),
    )


QUICK = Grid(
    betas=(0.05, 0.2, 0.5),
    adc_bits=(4, 6, 8, 12),
    dac_bits=(4, 6, 8),
    noise_scales=(0.0, 1.0, 4.0),
    factors=(0.5, 1.0),
    joint_betas=(0.1, 0.5),
    joint_factors=((0.5, 0.5), (1.0, 1.0)),
)


@dataclass(frozen=True)
class Recommendation:
    """The setting of a joint grid to train with.

    Attributes:
        point: the chosen one.
        best: the one with the highest mean cosine of the worst layer, which the chosen one ties
            with.
    """

    point: Point
    best: Point


def recommend(points: Sequence[Point], nudged_phases: int = 2) -> Recommendation:
    """The best setting by the worst layer's mean cosine to the hardware's own linear response.

    Of those that tie with it, the one with the fewest iterations, then full reads, then the higher
    cosine.  A tie is a mean shortfall, over draws on the same hardware, of at most its standard
    error, or of at most `RESOLUTION`.

    Args:
        points: measured at the same draws.
        nudged_phases: of one gradient.

    Raises:
        ValueError: if all of them diverged.
    """
    measured = [(point, worst) for point in points if (worst := point.worst()) is not None]
    if not measured:
        raise ValueError("settling: diverges at every setting of the joint grid; smaller gains or "
                         "a bounded activation settle")  # fmt: skip
    best = max(measured, key=lambda found: found[1])[0]

    def expense(found: tuple[Point, float]) -> tuple[int, bool, float]:
        setting = found[0].setting
        return setting.iterations(nudged_phases), setting.reads != "full", -found[1]

    chosen, _ = min((found for found in measured if _ties(found[0], best)), key=expense)
    return Recommendation(chosen, best)


def joint_settings(grid: Grid, own: Setting) -> list[Setting]:
    """Beta x reads x iterations, each setting once."""
    betas = sorted({*grid.joint_betas, own.beta})
    settings = [
        Setting(beta, scaled(own.free_iterations, f), scaled(own.nudged_iterations, n), reads)
        for beta in betas
        for reads in READS
        for f, n in grid.joint_factors
    ]
    return list(dict.fromkeys(settings))


def scaled(iterations: int, factor: float) -> int:
    """A number of iterations times a factor, at least 1."""
    return max(1, round(iterations * factor))


def _ties(point: Point, best: Point) -> bool:
    """Whether a point falls short of the best one by no more than can be told."""
    pairs = zip(best.draws[DECISIVE], point.draws[DECISIVE], strict=True)
    shortfalls = [high.worst - low.worst for high, low in pairs]
    mean, count = statistics.fmean(shortfalls), len(shortfalls)
    error = statistics.stdev(shortfalls) / count**0.5 if count > 1 else 0.0
    return mean <= max(RESOLUTION, error)
