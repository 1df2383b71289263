"""From a fit's numbers to a card's: window, step, asymmetry, noise and spreads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from neurosim_ep.devices.pulse_candidates import Array, Nominal
from neurosim_ep.devices.pulse_data import PulseData
from neurosim_ep.devices.pulse_noise import likeliest_noise
from neurosim_ep.devices.pulse_prediction import Parts, Solution
from neurosim_ep.devices.pulse_response import PulseResponse

FEWEST_DEVICES = 3
"""From how many devices on a device-to-device spread is fitted."""
NO_NOISE = 1e-3
"""A noise below this share of a step is none."""
LARGEST_ASYMMETRY = 0.999
LOGNORMAL_FROM = 0.3
"""From this spread of the steps on a log-normal distribution is tried."""


def window_and_table(
    solution: Solution, parts: Parts, data: PulseData, extremes: tuple[float, float]
) -> tuple[tuple[float, float], PulseResponse]:
    """The window in siemens and the card's table of the pulse response.

    Args:
        solution: the best one.
        parts: what it was fitted to.
        data: the same as read, for the source.
        extremes: the conductances in siemens that are -1 and +1 in the data's coordinate.
    """
    bounds, shown = _bounds(solution, parts)
    low, high = bounds.mean(axis=1)
    nominal = Nominal(middle=float(low + high) / 2.0, half=float(high - low) / 2.0)
    candidate = solution.candidate
    scale_up, scale_down = candidate.scales(nominal, solution.shape, bounds[0], bounds[1])
    step_up, step_down = np.exp(solution.own[0]) * scale_up, np.exp(solution.own[1]) * scale_down
    fields: dict[str, Any]
    fields, step = _steps(step_up, step_down, solution)
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
    table |= {k: _rounded(v) for k, v in candidate.fields(nominal, solution.shape).items()}
    table["step_relative"] = min(table["step_relative"], 2.0)
    response: PulseResponse = TypeAdapter(PulseResponse).validate_python(table)
    # Rounded by its width, which may be far smaller than its bounds.
    places = 6 - math.floor(math.log10(half))
    g_min, g_max = (round(middle + half * float(bound), places) for bound in (low, high))
    return (max(0.0, g_min), g_max), response


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


def _steps(
    step_up: Array, step_down: Array, solution: Solution
) -> tuple[dict[str, float | bool], float]:
    """Mean step, asymmetry and their spreads over the devices."""
    up, down = float(step_up.mean()), float(step_down.mean())
    step = max(up, down)
    bias_up, bias_down = up / step - 1.0, down / step - 1.0
    up_down = min(max(bias_up - bias_down, -LARGEST_ASYMMETRY), LARGEST_ASYMMETRY)
    fields: dict[str, float | bool] = {"step_relative": step, "up_down": up_down}
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
