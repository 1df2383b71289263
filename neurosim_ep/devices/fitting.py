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
from pydantic import TypeAdapter

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.devices.card import DeviceCard
from neurosim_ep.devices.pulse_candidates import CANDIDATES, Array, Nominal
from neurosim_ep.devices.pulse_data import PulseData, PulseTrain, read_pulse_csv
from neurosim_ep.devices.pulse_noise import SMALLEST, likeliest_noise, weights
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

__all__ = ["PulseData", "PulseFit", "PulseTrain", "fit_pulse_response", "read_pulse_csv"]

FEWEST_DEVICES = 3
"""From how many devices on a device-to-device spread is fitted."""
NO_NOISE = 1e-3
"""A noise below this share of a step is none."""
LOGNORMAL_FROM = 0.3


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
    window, response = _table(best, parts, data, (low, high))
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


def _bounds(solution: Solution, parts: Parts) -> tuple[Array, tuple[bool, bool]]:
    """Bounds (2, devices), and whether the data show the lower and the upper ones."""
    bounds = solution.own[2:].copy()
    shown = []
    stopped, state = solution.prediction.stopped[0], solution.prediction.state[0]
    inside = parts.real.copy()
    inside[0] = True
    for side, towards in enumerate((~parts.up, parts.up)):
        met = np.array(
            [
                (stopped & towards & parts.real)[:, parts.device == d].sum() > 1
                for d in range(parts.devices)
            ]
        )
        if solution.candidate.reaches_bounds:
            met[:] = True
        shown.append(bool(met.mean() >= 0.5))
        for d in range(parts.devices):
            states = state[:, parts.device == d][inside[:, parts.device == d]]
            bounds[side, d] = bounds[side, d] if met[d] else (states.min(), states.max())[side]
        if not shown[side]:
            bounds[side] = (bounds[side].min(), bounds[side].max())[side]
    return bounds, (shown[0], shown[1])


def _table(
    solution: Solution, parts: Parts, data: PulseData, extremes: tuple[float, float]
) -> tuple[tuple[float, float], PulseResponse]:
    """The window in siemens and the card's table."""
    bounds, shown = _bounds(solution, parts)
    low, high = bounds.mean(axis=1)
    nominal = Nominal(middle=float(low + high) / 2.0, half=float(high - low) / 2.0)
    candidate = solution.candidate
    scale_up, scale_down = candidate.scales(nominal, solution.shape, bounds[0], bounds[1])
    step_up, step_down = np.exp(solution.own[0]) * scale_up, np.exp(solution.own[1]) * scale_down
    fields: dict[str, Any]
    fields, step = _steps(step_up, step_down, solution)
    fields |= candidate.fields(nominal, solution.shape)
    fields |= _noise(solution, parts, step * nominal.half, nominal, bounds)
    if parts.devices >= FEWEST_DEVICES:
        for side, name in enumerate(("w_min", "w_max")):
            if shown[side]:
                w = (bounds[side] - nominal.middle) / nominal.half
                error = solution.deviation[2 + side] / nominal.half
                fields[f"{name}_spread_relative"] = _spread(w, error)
    middle, half = sum(extremes) / 2.0, (extremes[1] - extremes[0]) / 2.0
    table: dict[str, Any] = {
        "model": candidate.name,
        "source": f"fitted from {data.source}, {data.pulses} pulses, date not included",
    }
    table |= {k: _rounded(v) if type(v) is float else v for k, v in fields.items() if v}
    table["step_relative"] = min(table["step_relative"], 2.0)
    response: PulseResponse = TypeAdapter(PulseResponse).validate_python(table)
    window = _rounded(max(0.0, middle + half * float(low))), _rounded(middle + half * float(high))
    return window, response


def _steps(
    step_up: Array, step_down: Array, solution: Solution
) -> tuple[dict[str, float | bool], float]:
    """Mean step, asymmetry and their spreads over the devices."""
    up, down = float(step_up.mean()), float(step_down.mean())
    step = max(up, down)
    bias_up, bias_down = up / step - 1.0, down / step - 1.0
    fields: dict[str, float | bool] = {"step_relative": step, "up_down": bias_up - bias_down}
    if step_up.size < FEWEST_DEVICES:
        return fields, step
    # step_up = (gain + r + bias) step and step_down = (gain - r + bias) step, device by device.
    up_share, down_share = step_up / step - bias_up, step_down / step - bias_down
    gain, imbalance = (up_share + down_share) / 2.0, (up_share - down_share) / 2.0
    error_up = solution.deviation[0] * step_up / step
    error_down = solution.deviation[1] * step_down / step
    error = np.hypot(error_up, error_down) / 2.0
    spread = _spread(gain, error)
    fields |= {"step_spread_relative": spread, "up_down_spread": _spread(imbalance, error)}
    if spread > LOGNORMAL_FROM and gain.min() > 0.0:
        logs = np.log(gain)
        # Log-likelihoods of the two distributions at their own mean and width.
        normal = -gain.size * math.log(gain.std())
        lognormal = -gain.size * math.log(logs.std()) - float(logs.sum())
        if lognormal > normal:
            width = _spread(logs, error / gain)
            step *= math.exp(float(logs.mean()))
            fields |= {
                "step_relative": step,
                "step_spread_relative": width,
                "step_spread_lognormal": True,
            }
    return fields, step


def _noise(
    solution: Solution, parts: Parts, step: float, nominal: Nominal, bounds: Array
) -> dict[str, Any]:
    """Cycle-to-cycle and write noise; on the step or beside it, whichever is likelier."""
    fields: dict[str, Any] = {}
    noise = likeliest_noise(solution, parts)
    if solution.candidate.name in ("linear", "soft_bounds"):
        scales = solution.candidate.scales(nominal, solution.shape, bounds[0], bounds[1])
        fixed = np.exp(solution.own[:2]) * np.stack(scales) * nominal.half
        beside = likeliest_noise(solution, parts, fixed)
        if beside.cost < noise.cost:
            noise, fields = beside, {"cycle_noise": "additive"}
    if noise.cycle < NO_NOISE:
        fields = {}
    else:
        fields["cycle_spread_relative"] = noise.cycle
    if noise.write > NO_NOISE:
        fields["write_noise_relative"] = noise.write / step
    return fields


def _spread(values: Array, errors: Array) -> float:
    """Standard deviation, less the variance that the values' own errors add."""
    return math.sqrt(max(0.0, float(values.var(ddof=1)) - float((errors**2).mean())))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


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
