"""Fitting a card's pulse response to measured pulse trains.

Every model predicts each measurement from the ones before it; what is minimised are the squared
one-step errors.  Neither the steps alone (which read noise biases: an error of the state is also
one of the step) nor the whole curve (whose errors add up over the pulses when steps vary) is sound
for both kinds of noise.  So the predicted state is corrected by a fitted share of each error, as
a Kalman filter in its steady state does (Ljung, System Identification, 2nd ed., ch. 3 and 7): a
share of 1 is the fit of steps, 0 the fit of curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.devices.card import DeviceCard
from neurosim_ep.devices.pulse_candidates import CANDIDATES, Array
from neurosim_ep.devices.pulse_data import PulseData, PulseTrain, read_pulse_csv
from neurosim_ep.devices.pulse_noise import SMALLEST, weights
from neurosim_ep.devices.pulse_prediction import (
    COARSE_PART,
    OWN,
    Parts,
    Solution,
    parts_of,
    predict,
    solve,
    solve_again,
)
from neurosim_ep.devices.pulse_response import PulseResponse
from neurosim_ep.devices.pulse_table import FEWEST_DEVICES, window_and_table

__all__ = ["PulseData", "PulseFit", "PulseTrain", "fit_pulse_response", "read_pulse_csv"]


@dataclass(frozen=True)
class PulseFit:
    """The best model of measured pulse trains.

    Attributes:
        data: what was fitted.
        g_min_siemens: where w = -1 lies.
        g_max_siemens: where w = +1 lies.
        response: the fitted table of a card.
        bic: Bayesian information criterion of every model, by name; the lowest is the best.
        step_rms_siemens: root mean square error of the one-step predictions.
        curve_rms_siemens: of whole trains predicted from their start alone.
        curve_r_squared: share of the conductance's variance that these explain.
        curves_siemens: these predictions, one array (N,) for each train.
    """

    data: PulseData
    g_min_siemens: float
    g_max_siemens: float
    response: PulseResponse
    bic: dict[str, float]
    step_rms_siemens: float
    curve_rms_siemens: float
    curve_r_squared: float
    curves_siemens: tuple[Array, ...]

    @property
    def model(self) -> str:
        """Name of the best model."""
        return self.response.model

    def mean_steps(self, up: bool, points: int = 101) -> tuple[Array, Array]:
        """Mean step of the nominal device over the window: conductances and changes in siemens."""
        w = torch.linspace(-1.0, 1.0, points, dtype=torch.float64)
        spreads = [name for name in type(self.response).model_fields if "spread" in name]
        nominal = self.response.model_copy(update=dict.fromkeys(spreads, 0.0))
        one = nominal.fabricate((1,), torch.Generator(), torch.float64)
        half = (self.g_max_siemens - self.g_min_siemens) / 2.0
        step = nominal.mean_step(w, torch.tensor(up), one)
        return (self.g_min_siemens + half * (w.numpy() + 1.0)), half * step.numpy()

    def card(self, name: str) -> DeviceCard:
        """A device card with the fitted window and pulse response.

        Raises:
            CardError: for a name that a card may not have.
        """
        window = {"g_min_siemens": self.g_min_siemens, "g_max_siemens": self.g_max_siemens}
        data: dict[str, Any] = {
            "name": name,
            "description": f"{self.model} pulse response fitted to {self.data.source}",
            "window": {**window, "source": self.response.source},
            "pulse_response": self.response.model_dump(exclude_unset=True),
        }
        return card_from_mapping(DeviceCard, data)


def fit_pulse_response(data: PulseData) -> PulseFit:
    """Fit every model of a pulse response and keep the one of the lowest BIC.

    Fitted are the window, the step with its asymmetry and shape, cycle-to-cycle noise, write noise
    (which holds the noise of the measurement too) and, from three devices on, the device-to-device
    spread of steps and bounds, less what the fit's own uncertainty adds to it.  A bound that no
    train reaches is the extreme of the data.

    Args:
        data: of `read_pulse_csv`.

    Raises:
        ValueError: one line, where the data do not follow their pulses.
    """
    every = np.concatenate([train.conductance_siemens for train in data.trains])
    low, high = float(every.min()), float(every.max())
    if not high > low:
        raise ValueError(
            f"{data.source}, conductance_siemens: {low:g} throughout is not allowed; must change"
        )
    parts = parts_of(data.trains, low, high)
    few = [train for train in data.trains if train.device in data.devices[:FEWEST_DEVICES]]
    coarse = parts_of(few, low, high, COARSE_PART)
    own_start = _start(parts, data)
    lowest = -(high + low) / (high - low)
    steps = int(parts.real.sum())
    solutions = [solve(candidate, parts, coarse, own_start, lowest) for candidate in CANDIDATES]
    best = min(solutions, key=lambda solution: _bic(solution, steps))
    weight = weights(best, parts)
    solutions = [solve_again(first, parts, own_start, lowest, weight) for first in solutions]
    bic = {solution.candidate.name: _bic(solution, steps) for solution in solutions}
    best = min(solutions, key=lambda solution: bic[solution.candidate.name])
    window, response = window_and_table(best, parts, data, (low, high))
    curves = _curves(best, data, (low, high))
    residual = np.concatenate(
        [t.conductance_siemens - c for t, c in zip(data.trains, curves, strict=True)]
    )
    rms = float(np.sqrt(np.mean(residual**2)))
    errors = best.prediction.error[0][parts.real]
    return PulseFit(
        data=data,
        g_min_siemens=window[0],
        g_max_siemens=window[1],
        response=response,
        bic=bic,
        step_rms_siemens=float(np.sqrt(np.mean(errors**2))) * (high - low) / 2.0,
        curve_rms_siemens=rms,
        curve_r_squared=1.0 - rms**2 / float(every.var()),
        curves_siemens=curves,
    )


def _start(parts: Parts, data: PulseData) -> Array:
    """Where every fit starts, (OWN, devices): mean steps and extremes of each device."""
    start = np.empty((OWN, parts.devices))
    change = np.diff(parts.v, axis=0, prepend=0.0)
    for index, name in enumerate(data.devices):
        mine = parts.real & (parts.device == index)
        for row, (label, chosen) in enumerate(
            (("up", mine & parts.up), ("down", mine & ~parts.up))
        ):
            steps = change[chosen] * (1.0 if row == 0 else -1.0)
            if not steps.size or not steps.mean() > 0.0:
                whose = f" of device {name}" if name else ""
                rises = "raise" if row == 0 else "lower"
                raise ValueError(
                    f"{data.source}, direction: pulses {label}{whose} do not {rises} the "
                    f"conductance on average; must {rises} it"
                )
            start[row, index] = math.log(max(steps.mean(), 0.05 * np.abs(steps).mean()))
        measured = parts.v[:, parts.device == index]
        known = parts.real[:, parts.device == index].copy()
        known[0] = True
        start[2, index], start[3, index] = measured[known].min(), measured[known].max()
    return start


def _bic(solution: Solution, steps: int) -> float:
    """``n ln(RSS / n) + k ln n`` of Gaussian errors, up to a constant (Schwarz 1978)."""
    numbers = solution.own.size + len(solution.shape) + 1
    # In data without any noise rounding must not choose.
    mean_square = max(solution.square_sum / steps, SMALLEST**2)
    return steps * math.log(mean_square) + numbers * math.log(steps)


def _curves(
    solution: Solution, data: PulseData, extremes: tuple[float, float]
) -> tuple[Array, ...]:
    """Every train predicted from its start alone, in siemens."""
    low, high = extremes
    parts = parts_of(data.trains, low, high, longest_part=max(t.up.size for t in data.trains))
    own = np.repeat(solution.own[None], 2, 0)
    shape = np.repeat(np.array(solution.shape)[None], 2, 0)
    start = np.stack([parts.v[0], parts.v[0] + 1e-4])
    ran = predict(solution.candidate, own, shape, None, parts, start)
    # The start is measured with noise; move it once to where the train as a whole wants it.
    slope = np.where(parts.real, (ran.state[1] - ran.state[0]) / 1e-4, 0.0)
    slope[0] = 1.0
    error = np.where(parts.real, ran.error[0], 0.0)
    moved = start[:1] + (slope * error).sum(axis=0) / (slope**2).sum(axis=0)
    ran = predict(solution.candidate, own[:1], shape[:1], None, parts, moved)
    curves = (high + low + (high - low) * ran.state[0]) / 2.0
    return tuple(curves[: t.up.size, i] for i, t in enumerate(data.trains))
