"""What is not ideal about the pulses that devices learn by, and pulse responses without it."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import torch

from neurosim_ep.cards import CardTable
from neurosim_ep.devices.pulse_response import (
    ConstantPulse,
    ExponentialPulse,
    LinearPulse,
    PowerPulse,
    PulseResponse,
    SoftBoundsPulse,
)

IDEAL_STEP = 2e-4
"""Mean step that counts as ideal: 10,000 states, as of the card ``ideal``."""

_SPREADS = ("step_spread_relative", "up_down_spread", "gamma_up_spread", "gamma_down_spread")
_BOUNDS = ("w_max_spread_relative", "w_min_spread_relative")
_NOISES = ("cycle_spread_relative", "write_noise_relative")
_SAME = 1e-9

T = TypeVar("T", bound=CardTable)


def present_pulses(response: PulseResponse) -> set[str]:
    """The nonidealities of a pulse response; see `without_pulses`."""
    found = {
        "one_sided_pulses": response.one_sided,
        "pulse_nonlinearity": not _equal_steps(response),
        "pulse_steps": response.window_step() > IDEAL_STEP * (1.0 + _SAME),
        "pulse_noise": any(getattr(response, name) for name in _NOISES),
        "pulse_spread": any(getattr(response, name, 0.0) for name in _SPREADS),
    }
    return {name for name, there in found.items() if there}


def without_pulses(response: PulseResponse, names: Collection[str]) -> PulseResponse:
    """A pulse response with some of its nonidealities made ideal.

    - ``one_sided_pulses``: down pulses exist, each the mirror image of the up pulse at -w.
    - ``pulse_nonlinearity``: every step is as long as the mean step over the window, up as down and
      at every state; the noise of a step keeps its absolute mean size.  Slopes go, and with them
      their spread.
    - ``pulse_steps``: steps are as short as `IDEAL_STEP`; their form stays, and so does the noise:
      the variance that a device gathers on its way, and the write noise in units of the state.
    - ``pulse_noise``: neither cycle-to-cycle nor write noise.
    - ``pulse_spread``: all devices have the same steps and slopes.  The spread of the bounds is not
      here: it hits programming as well.

    Args:
        response: of a device card.
        names: of nonidealities; those that it does not have change nothing.
    """
    there = present_pulses(response)
    for name, make_ideal in PULSE_NONIDEALITIES.items():
        if name in names and name in there:
            response = make_ideal(response)
    return response


def changed(table: T, fields: Mapping[str, object]) -> T:
    """A card's table with other fields, which still is one as a file: one source for all of it."""
    source = table.source
    if not isinstance(source, str):
        source = "; ".join(dict.fromkeys(source.values()))
    return table.model_copy(update={**fields, "source": source})


def _equal_steps(response: PulseResponse) -> bool:
    """Whether all steps of a device without spread are equal, up and down, at every state."""
    devices, w = response.nominal(), torch.linspace(-1.0, 1.0, 201, dtype=torch.float64)
    directions = (True,) if response.one_sided else (True, False)
    steps = [
        response.mean_step(w, torch.tensor(up), devices) * (1 if up else -1) for up in directions
    ]
    lengths = torch.cat(steps)
    return bool((lengths - lengths[0]).abs().max() <= _SAME * lengths.abs().max())


def _two_sided(response: PulseResponse) -> PulseResponse:
    shortened = 1.0 + min(response.up_down, 0.0)
    mirrored: dict[str, object] = {
        "one_sided": False,
        "up_down": 0.0,
        "step_relative": response.step_relative * shortened,
        "write_noise_relative": response.write_noise_relative / shortened,
    }
    match response:
        case LinearPulse() | PowerPulse():
            mirrored["gamma_down"] = response.gamma_up
            mirrored["gamma_down_spread"] = response.gamma_up_spread
        case ExponentialPulse():
            # exp(gamma z) at -w is exp(2 gamma b) exp(-gamma z) at w.
            mirrored["gamma_down"] = response.gamma_up
            mirrored["a_down"] = response.a_up * math.exp(2.0 * response.gamma_up * response.b)
    return changed(response, mirrored)


def _linear(response: PulseResponse) -> PulseResponse:
    step = response.window_step()
    scale, cycle = response.step_relative / step, response.cycle_spread_relative
    if isinstance(response, LinearPulse | SoftBoundsPulse) and response.cycle_noise == "additive":
        # A share of the step before it depends on the state, up and down on average.
        up, down = 1.0 + min(response.up_down, 0.0), 1.0 - max(response.up_down, 0.0)
        cycle *= scale * (up if response.one_sided else (up + down) / 2.0)
    kept = {name: getattr(response, name) for name in (*_SPREADS[:2], "step_spread_lognormal")}
    kept |= {name: getattr(response, name) for name in _BOUNDS}
    constant = ConstantPulse(
        step_relative=min(step, 2.0),
        cycle_spread_relative=cycle,
        write_noise_relative=response.write_noise_relative * scale,
        one_sided=response.one_sided,
        source="a mean",
        **kept,
    )
    return changed(constant.model_copy(update={"source": response.source}), {})


def _fine(response: PulseResponse) -> PulseResponse:
    finer = response.window_step() / IDEAL_STEP
    changes = {
        "step_relative": response.step_relative / finer,
        "cycle_spread_relative": response.cycle_spread_relative * math.sqrt(finer),
        "write_noise_relative": response.write_noise_relative * finer,
    }
    return changed(response, changes)


def _silent(response: PulseResponse) -> PulseResponse:
    return changed(response, dict.fromkeys(_NOISES, 0.0))


def _uniform(response: PulseResponse) -> PulseResponse:
    held = [name for name in _SPREADS if name in type(response).model_fields]
    return changed(response, dict.fromkeys(held, 0.0))


PULSE_NONIDEALITIES: dict[str, Callable[[PulseResponse], PulseResponse]] = {
    "one_sided_pulses": _two_sided,
    "pulse_nonlinearity": _linear,
    "pulse_steps": _fine,
    "pulse_noise": _silent,
    "pulse_spread": _uniform,
}
"""What takes each one away, in the order in which they are taken away."""
