"""The pulse responses as a fit sees them: step lengths in a coordinate of the data.

The data's coordinate v is -1 at the lowest and +1 at the highest conductance that was measured, so
that a fit does not have to move the window to know the step.  `response_fields` turns the fitted
numbers into those of `neurosim_ep.devices.pulse_response`, whose w is -1 and +1 at the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Length = Callable[[Array, NDArray[np.bool_], Array, Array, tuple[Array, ...]], Array]


@dataclass(frozen=True)
class Nominal:
    """The nominal window in the data's coordinate.

    Attributes:
        middle: v at w = 0.
        half: how much of v is one unit of w.
    """

    middle: float
    half: float


@dataclass(frozen=True)
class Candidate:
    """One model of the step's length.

    Attributes:
        name: the model's tag in a card.
        starts: where the fit of the shape begins; the best one counts.
        lower: lower limits of the shape.
        upper: upper limits.
        reaches_bounds: whether the step shrinks to zero at the device's own bounds, so that they
            can be seen from afar.
        length: (v, up, v_min, v_max, shape) -> length of the step for a scale of 1; up (B,), all
            others (P, B) or what broadcasts to that.
        scales: (middle, half, shape, v_min, v_max) -> step_up and step_down for scales of 1.
        fields: (nominal, shape) -> the model's own fields in a card.
    """

    name: str
    starts: tuple[tuple[float, ...], ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    reaches_bounds: bool
    length: Length
    scales: Callable[[Nominal, tuple[float, ...], Array, Array], tuple[Array, Array]]
    fields: Callable[[Nominal, tuple[float, ...]], dict[str, float]]


def _constant_length(
    v: Array, up: NDArray[np.bool_], low: Array, high: Array, shape: tuple[Array, ...]
) -> Array:
    return np.ones_like(v)


def _constant_scales(
    nominal: Nominal, shape: tuple[float, ...], low: Array, high: Array
) -> tuple[Array, Array]:
    one = np.full_like(low, 1.0 / nominal.half)
    return one, one


def _linear_length(
    v: Array, up: NDArray[np.bool_], low: Array, high: Array, shape: tuple[Array, ...]
) -> Array:
    length: Array = 1.0 - np.where(up, shape[0], -shape[1]) * v
    return length


def _linear_scales(
    nominal: Nominal, shape: tuple[float, ...], low: Array, high: Array
) -> tuple[Array, Array]:
    one = np.full_like(low, 1.0 / nominal.half)
    return one * (1.0 - shape[0] * nominal.middle), one * (1.0 + shape[1] * nominal.middle)


def _linear_fields(nominal: Nominal, shape: tuple[float, ...]) -> dict[str, float]:
    return {
        "gamma_up": shape[0] * nominal.half / (1.0 - shape[0] * nominal.middle),
        "gamma_down": shape[1] * nominal.half / (1.0 + shape[1] * nominal.middle),
    }


def _soft_length(
    v: Array, up: NDArray[np.bool_], low: Array, high: Array, shape: tuple[Array, ...]
) -> Array:
    length: Array = 0.5 * np.where(up, high - v, v - low)
    return length


def _soft_scales(
    nominal: Nominal, shape: tuple[float, ...], low: Array, high: Array
) -> tuple[Array, Array]:
    return (
        0.5 * (high - nominal.middle) / nominal.half,
        0.5 * (nominal.middle - low) / nominal.half,
    )


def _exponential_length(
    v: Array, up: NDArray[np.bool_], low: Array, high: Array, shape: tuple[Array, ...]
) -> Array:
    weight_up, weight_down, rate_up, rate_down = shape
    weight = np.where(up, weight_up, weight_down)
    rate = np.where(up, rate_up, -rate_down)
    # 1 at v = 0, whatever the weight: weight and scale would hardly be told apart otherwise.
    length: Array = 1.0 + weight * (1.0 - np.exp(rate * 2.0 * v / (high - low)))
    return np.maximum(length, 0.0)


def _exponential_scales(
    nominal: Nominal, shape: tuple[float, ...], low: Array, high: Array
) -> tuple[Array, Array]:
    one = np.full_like(low, 1.0 / nominal.half)
    return one * (1.0 + shape[0]), one * (1.0 + shape[1])


def _exponential_fields(nominal: Nominal, shape: tuple[float, ...]) -> dict[str, float]:
    weight_up, weight_down, rate_up, rate_down = shape
    shift = nominal.middle / nominal.half
    return {
        "a_up": weight_up / (1.0 + weight_up) * float(np.exp(rate_up * shift)),
        "a_down": weight_down / (1.0 + weight_down) * float(np.exp(-rate_down * shift)),
        "gamma_up": rate_up,
        "gamma_down": rate_down,
    }


def _power_length(
    v: Array, up: NDArray[np.bool_], low: Array, high: Array, shape: tuple[Array, ...]
) -> Array:
    left = np.where(up, high - v, v - low) * 2.0 / (high - low)
    length: Array = np.maximum(left, 0.0) ** np.where(up, shape[0], shape[1])
    return length


def _power_scales(
    nominal: Nominal, shape: tuple[float, ...], low: Array, high: Array
) -> tuple[Array, Array]:
    one = np.full_like(low, 1.0 / nominal.half)
    return one * 2.0 ** shape[0], one * 2.0 ** shape[1]


def _power_fields(nominal: Nominal, shape: tuple[float, ...]) -> dict[str, float]:
    return {"gamma_up": shape[0], "gamma_down": shape[1]}


def _no_fields(nominal: Nominal, shape: tuple[float, ...]) -> dict[str, float]:
    return {}


CANDIDATES = (
    Candidate("constant", ((),), (), (), False, _constant_length, _constant_scales, _no_fields),
    Candidate(
        "linear",
        ((0.3, 0.3),),
        (0.0, 0.0),
        (0.999, 0.999),
        False,
        _linear_length,
        _linear_scales,
        _linear_fields,
    ),
    Candidate("soft_bounds", ((),), (), (), True, _soft_length, _soft_scales, _no_fields),
    Candidate(
        "exponential",
        (
            (0.3, 0.3, 2.0, 2.0),
            (-0.6, -0.6, -2.0, -2.0),
            (0.3, -0.6, 2.0, -2.0),
            (-0.6, 0.3, -2.0, 2.0),
        ),
        (-0.98, -0.98, -10.0, -10.0),
        (20.0, 20.0, 10.0, 10.0),
        False,
        _exponential_length,
        _exponential_scales,
        _exponential_fields,
    ),
    Candidate(
        "power",
        ((1.0, 1.0),),
        (0.05, 0.05),
        (8.0, 8.0),
        True,
        _power_length,
        _power_scales,
        _power_fields,
    ),
)
