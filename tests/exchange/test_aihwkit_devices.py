"""Our pulse responses and trains against aihwkit's: the same devices, the same products."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from neurosim_ep.devices import Devices, PulseResponse, load_device_card
from neurosim_ep.devices.pulse_response import PulseDevices
from neurosim_ep.exchange import Tile, aihwkit_problem
from neurosim_ep.models import Dense
from neurosim_ep.onchip import Trains, pulse_counts

REASON = aihwkit_problem()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

STEP, CYCLE = 0.01, 0.3
SLOPES = {"gamma_up": 0.4, "gamma_down": 0.7}
CURVE = {"gamma_up": 5.0, "gamma_down": 2.0, "a": -0.5, "b": -0.4}

# aihwkit's device, our fields, its fields.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "constant": ("ConstantStepDevice", {}, {}),
    "linear": ("LinearStepDevice", SLOPES, SLOPES | {"mult_noise": True}),
    "linear additive": (
        "LinearStepDevice",
        SLOPES | {"cycle_noise": "additive"},
        SLOPES | {"mult_noise": False},
    ),
    "soft_bounds": ("SoftBoundsDevice", {}, {"mult_noise": True}),
    "exponential": (
        "ExpStepDevice",
        CURVE | {"a_up": -1.2, "a_down": 0.3},
        CURVE | {"A_up": -1.2, "A_down": 0.3},
    ),
    # Its spread of exponents makes that of up and of down pulses, which our devices take over.
    "power": (
        "PowStepDevice",
        {"gamma_up": 1.3, "gamma_down": 0.8},
        {"pow_gamma": 1.3, "pow_up_down": 0.3, "pow_gamma_dtod": 0.1},
    ),
}
KIT_SPREAD = {
    "dw_min": STEP,
    "dw_min_std": CYCLE,
    "dw_min_dtod": 0.3,
    "up_down": -0.2,
    "up_down_dtod": 0.05,
    "w_max": 1.0,
    "w_min": -1.0,
    "w_max_dtod": 0.3,
    "w_min_dtod": 0.2,
}


def kit_tile(model: str, rows: int, columns: int) -> Tile:
    from aihwkit.simulator import configs

    kind, _, fields = MODELS[model]
    config = configs.SingleRPUConfig(device=getattr(configs, kind)(**KIT_SPREAD, **fields))
    return Tile(config, rows, columns, seed=4)


def response_of(model: str) -> PulseResponse:
    fields = {"model": model.split()[0], "source": "assumed", **MODELS[model][1]}
    fields |= {"step_relative": STEP, "cycle_spread_relative": CYCLE}
    return TypeAdapter(PulseResponse).validate_python(fields)


def devices_of(tile: Tile) -> PulseDevices:
    """aihwkit's own devices, as our pulse responses take them."""
    hidden = tile.hidden
    gammas = (hidden.get("gamma_up"), hidden.get("gamma_down"))
    if "slope_up" in hidden:
        gammas = (
            -hidden["slope_up"] / hidden["dwmin_up"],
            hidden["slope_down"] / hidden["dwmin_down"],
        )
    bounds = hidden["min_bound"], hidden["max_bound"]
    return PulseDevices(hidden["dwmin_up"], hidden["dwmin_down"], *bounds, *gammas)


def products(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Row factors in [0, 1] and signed column factors, more of them positive than negative."""
    generator = torch.Generator().manual_seed(rows)
    pre = torch.rand(40, rows, generator=generator)
    return pre, 0.3 * torch.randn(40, columns, generator=generator) + 0.1


def assert_same_distribution(theirs: Tensor, ours: Tensor) -> None:
    """Repeated end states (R, rows, columns): each device's mean, and the variance of all."""
    repeats, independent = len(ours), min(ours.shape[1:])
    variances = theirs.var(0), ours.var(0)
    # At a bound, the form for many pulses at once may be a third of a step off.
    error = (sum(variances) / repeats + (STEP / 3.0) ** 2).sqrt()
    score = (theirs.mean(0) - ours.mean(0)) / error
    assert float(score.abs().max()) < 6.0
    # Devices of one line share its trains: few of them are independent.
    assert float(score.square().mean()) < 1.0 + 6.0 * math.sqrt(2.0 / independent)
    scatter = math.log(float(variances[0].mean() / variances[1].mean()))
    assert abs(scatter) < 6.0 * math.sqrt(4.0 / (repeats - 1) / independent)
    assert float(ours.mean(0).abs().mean()) > 0.2 * STEP


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("rows", "columns", "repeats"), [(1, 1, 50), (7, 12, 30), (64, 64, 25)])
def test_stochastic_updates_end_in_the_same_distribution(
    model: str, rows: int, columns: int, repeats: int
) -> None:
    tile, response = kit_tile(model, rows, columns), response_of(model)
    devices, geometry = devices_of(tile), Dense((rows,), (columns,))
    pre, post = products(rows, columns)
    assert tile.pulse_step is not None
    rate = 6.0 * STEP
    demand = post * (rate / tile.pulse_step)
    generator = torch.Generator().manual_seed(11)
    start = torch.zeros(rows, columns)
    theirs, ours = [], []
    for _ in range(repeats):
        tile.write(start)
        # Our pulses come in random order: so do its products.
        order = torch.randperm(len(pre), generator=generator)
        report = tile.update(pre[order], post[order], rate)
        theirs.append(tile.matrix)
        counts = pulse_counts(geometry, pre, demand, Trains("stochastic"), generator)
        ours.append(response.pulses(start, counts.up, counts.down, devices, generator))
    assert report.saturated_fraction == 0.0
    assert_same_distribution(torch.stack(theirs), torch.stack(ours))


CARDS = {
    "li-ecram": ("EcRamPresetDevice", {}, 5, 0.3),
    "mo-ecram": ("EcRamMOPresetDevice", {}, 30, 0.4),
    "capacitor": ("CapacitorPresetDevice", {}, 3, 0.1),
    # Without the noise beside the step and the spread of the bound, which the card leaves out.
    "pcm": (
        "PCMPresetDevice",
        {"dw_min_std_add": 0.0, "dw_min_std_slope": 0.0, "w_max_dtod": 0.0},
        1,
        0.1,
    ),
}


@pytest.mark.parametrize("card", CARDS)
def test_shipped_cards_follow_their_presets(card: str) -> None:
    """Mean state after trains up and then down; the scatter as far as the card's form allows."""
    from aihwkit.simulator.configs import SingleRPUConfig
    from aihwkit.simulator.presets import devices as presets

    name, fields, calls, scatter = CARDS[card]
    preset = getattr(presets, name)(**fields)
    tile = Tile(SingleRPUConfig(device=preset), 64, 64, seed=3)
    devices = Devices(load_device_card(card), (64, 64), seed=3)
    middle, half = (preset.w_max + preset.w_min) / 2.0, (preset.w_max - preset.w_min) / 2.0
    tile.write(torch.full((64, 64), preset.w_min))
    devices.program(torch.full((64, 64), devices.card.window.g_min_siemens))
    one, pulses = torch.ones(1, 64), torch.full((64, 64), 20.0)
    none = torch.zeros(64, 64)
    moved = 0.0
    for up in (True,) * 4 + (False,) * 4 * (card != "pcm"):
        before = devices.state
        for _ in range(calls):
            assert tile.pulse_step is not None
            # Both probabilities are 1, less what rounding could make one pulse more of.
            tile.update(one, one if up else -one, 19.999 * tile.pulse_step)
            devices.pulse(*((pulses, none) if up else (none, pulses)))
        moved += float((devices.state - before).abs().mean())
        theirs = (tile.matrix - middle) / half
        assert float(devices.state.mean()) == pytest.approx(float(theirs.mean()), abs=0.02)
        assert float(devices.state.std()) == pytest.approx(
            float(theirs.std()), rel=scatter, abs=0.01
        )
    assert moved > 1.0
