"""Pulse responses against loops over their equations, closed forms, statistics and aihwkit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats
from torch import Tensor

from neurosim_ep.cards import Card, CardError, card_from_mapping
from neurosim_ep.devices.pulse_response import (
    ConstantPulse,
    ExponentialPulse,
    LinearPulse,
    PowerPulse,
    PulseDevices,
    PulseResponse,
    SoftBoundsPulse,
)

SHAPES: dict[str, dict[str, Any]] = {
    "constant": {},
    "linear": {"gamma_up": 0.4, "gamma_down": 0.7},
    "soft_bounds": {},
    "exponential": {
        "a_up": -1.2,
        "a_down": 0.3,
        "gamma_up": 5.0,
        "gamma_down": 2.0,
        "a": -0.5,
        "b": -0.4,
    },
    "power": {"gamma_up": 1.7, "gamma_down": 0.6},
}
SPREAD = {
    "step_spread_relative": 0.3,
    "up_down": -0.2,
    "up_down_spread": 0.05,
    "w_max_spread_relative": 0.3,
    "w_min_spread_relative": 0.2,
}
MODELS = tuple(SHAPES)


def table(model: str, **fields: Any) -> PulseResponse:
    data = {"model": model, "source": "assumed", "step_relative": 0.02, **SHAPES[model], **fields}
    return TypeAdapter(PulseResponse).validate_python(data)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(response: PulseResponse, w: float, up: bool, d: dict[str, float]) -> float:
    """One noiseless pulse on one device, in Python's own arithmetic."""
    sign, step = (1.0, d["step_up"]) if up else (-1.0, d["step_down"])
    bound = d["w_max"] if up else d["w_min"]
    match response:
        case ConstantPulse():
            factor = 1.0
        case LinearPulse():
            factor = 1.0 - sign * d["gamma_up" if up else "gamma_down"] * w
        case SoftBoundsPulse():
            factor = (bound - w) / bound
        case ExponentialPulse():
            z = response.a * w / ((d["w_max"] - d["w_min"]) / 2.0) + response.b
            weight = response.a_up if up else response.a_down
            rate = response.gamma_up if up else -response.gamma_down
            factor = max(0.0, 1.0 - weight * math.exp(rate * z))
        case PowerPulse():
            left = abs(bound - w) / (d["w_max"] - d["w_min"])
            factor = left ** d["gamma_up" if up else "gamma_down"]
    return min(max(w + sign * step * factor, d["w_min"]), d["w_max"])


def one_device(devices: PulseDevices, index: int) -> dict[str, float]:
    return {k: float(v[index]) for k, v in vars(devices).items() if v is not None}


@pytest.mark.parametrize("model", MODELS)
def test_trains_agree_with_a_loop_over_the_equations(model: str) -> None:
    slopes = {"gamma_up_spread": 0.1, "gamma_down_spread": 0.1}
    spread = SPREAD | (slopes if model in ("linear", "power") else {})
    response = table(model, step_relative=0.05, **spread)
    devices = response.fabricate((12,), seeded(3), torch.float64)
    signs = torch.randint(-1, 2, (150, 12), generator=seeded(4))
    signs[40:90] = 1  # long enough to meet the bounds
    w = torch.zeros(12, dtype=torch.float64)
    for sign in signs:
        w = response.pulse(w, sign, devices, seeded())
    for i in range(12):
        alone = 0.0
        for sign in signs[:, i].tolist():
            if sign:
                alone = by_hand(response, alone, sign > 0, one_device(devices, i))
        assert float(w[i]) == pytest.approx(alone, abs=1e-12)


def test_trains_of_soft_bounds_and_of_power_one_have_a_closed_form() -> None:
    for response, shrink in (
        (table("soft_bounds"), 1.0 - 0.02),
        (table("power", gamma_up=1.0), 1.0 - 0.02 / 2.0),
    ):
        devices = response.fabricate((1,), seeded(), torch.float64)
        w = torch.tensor([-0.7], dtype=torch.float64)
        for _ in range(100):
            w = response.pulse(w, torch.tensor([True]), devices, seeded())
        assert float(w) == pytest.approx(1.0 - 1.7 * shrink**100, abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_a_device_rests_without_a_pulse_and_bools_are_signs(model: str) -> None:
    response = table(model, cycle_spread_relative=0.5)
    devices = response.fabricate((3,), seeded(), torch.float64)
    w = torch.tensor([0.1, 0.1, 5.0], dtype=torch.float64)
    signs = torch.tensor([1, -1, 0])
    moved = response.pulse(w, signs, devices, seeded(1))
    assert moved[2] == 5.0
    as_bools = response.pulse(w, signs > 0, devices, seeded(1))
    assert torch.equal(moved[:2], as_bools[:2])
    steps = response.mean_step(w[:1], signs, devices)
    assert steps.shape == (3,)
    assert steps[0] > 0 > steps[1]
    assert steps[2] == 0


@settings(deadline=None, max_examples=40)
@given(
    model=st.sampled_from(MODELS),
    noise=st.floats(0.0, 10.0),
    spread=st.floats(0.0, 2.0),
    seed=st.integers(0, 2**32),
)
def test_no_pulse_leaves_the_bounds(model: str, noise: float, spread: float, seed: int) -> None:
    response = table(
        model,
        step_relative=0.3,
        cycle_spread_relative=noise,
        w_max_spread_relative=spread,
        w_min_spread_relative=spread,
        step_spread_relative=spread,
    )
    generator = seeded(seed)
    devices = response.fabricate((50,), generator)
    assert (devices.w_min <= 0).all()
    assert (devices.w_max >= 0).all()
    w = torch.zeros(50)
    for _ in range(5):
        signs = torch.randint(-1, 2, (50,), generator=generator)
        w = response.pulse(w, signs, devices, generator)
        assert torch.isfinite(w).all()
        assert (w >= devices.w_min).all()
        assert (w <= devices.w_max).all()


def test_asymmetry_shortens_one_direction() -> None:
    for up_down, up, down in ((0.25, 0.02, 0.015), (-0.25, 0.015, 0.02)):
        devices = table("constant", up_down=up_down).fabricate((1,), seeded(), torch.float64)
        assert float(devices.step_up) == pytest.approx(up)
        assert float(devices.step_down) == pytest.approx(down)


def test_device_to_device_spread_has_the_asked_moments() -> None:
    response = table("constant", **(SPREAD | {"step_spread_relative": 0.1}))
    d = response.fabricate((200_000,), seeded(5), torch.float64)
    # up = 0.02 (0.8 + gain + r), down = 0.02 (1 + gain - r): both spread sqrt(0.1^2 + 0.05^2).
    sigma = 0.02 * math.hypot(0.1, 0.05)
    assert_moments(d.step_up, 0.8 * 0.02, sigma)
    assert_moments(d.step_down, 0.02, sigma)
    assert_moments((d.step_up + d.step_down) / 2.0, 0.9 * 0.02, 0.002)
    assert_moments((d.step_up - d.step_down) / 2.0, -0.1 * 0.02, 0.001)
    assert_moments(d.w_max, 1.0, 0.3, relative=0.02)  # the rare folded draws move it a little
    assert_moments(d.w_min, -1.0, 0.2, relative=0.02)
    assert abs(float(torch.corrcoef(torch.stack([d.w_max, d.step_up]))[0, 1])) < 0.01


def assert_moments(x: Tensor, mean: float, sigma: float, relative: float = 0.01) -> None:
    assert float(x.mean()) == pytest.approx(mean, abs=5.0 * sigma / math.sqrt(x.numel()))
    assert float(x.std()) == pytest.approx(sigma, rel=relative)


def test_lognormal_steps() -> None:
    response = table("constant", step_spread_relative=0.78, step_spread_lognormal=True)
    steps = response.fabricate((20_000,), seeded(6), torch.float64).step_up
    assert stats.kstest((steps / 0.02).log().numpy() / 0.78, "norm").pvalue > 1e-3


def test_one_spread_does_not_redraw_the_others() -> None:
    with_all = table("power", **SPREAD, gamma_up_spread=0.1).fabricate((9,), seeded(7))
    without = table("power", **(SPREAD | {"step_spread_relative": 0.0})).fabricate((9,), seeded(7))
    assert torch.equal(with_all.w_max, without.w_max)
    assert torch.equal(with_all.gamma_down, without.gamma_down)
    assert not torch.equal(with_all.step_up, without.step_up)


def test_bounds_that_a_wide_spread_turns_round_change_places() -> None:
    wide = table("constant", w_max_spread_relative=2.0, w_min_spread_relative=2.0)
    d = wide.fabricate((1000,), seeded(7), torch.float64)
    generator = seeded(7)
    upper = 1.0 + 2.0 * torch.randn(1000, generator=generator, dtype=torch.float64)
    lower = -1.0 - 2.0 * torch.randn(1000, generator=generator, dtype=torch.float64)
    turned = lower > upper
    assert 20 < int(turned.sum()) < 500
    assert torch.equal(d.w_max[turned], lower[turned].abs())
    assert torch.equal(d.w_min[~turned], -lower[~turned].abs())


@pytest.mark.parametrize("model", MODELS)
def test_cycle_noise_is_a_share_of_the_step(model: str) -> None:
    response = table(model, cycle_spread_relative=0.5)
    devices = response.fabricate((1,), seeded(), torch.float64)
    w = torch.full((40_000,), 0.3, dtype=torch.float64)
    for up in (True, False):
        moved = response.pulse(w, torch.tensor(up), devices, seeded(8)) - w
        expected = float(response.mean_step(w, torch.tensor(up), devices)[0])
        z = (moved / expected - 1.0) / 0.5
        assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("model", ["linear", "soft_bounds"])
def test_additive_cycle_noise_does_not_shrink_with_the_step(model: str) -> None:
    response = table(model, cycle_spread_relative=0.5, cycle_noise="additive")
    devices = response.fabricate((1,), seeded(), torch.float64)
    w = torch.full((40_000,), 0.6, dtype=torch.float64)
    down = torch.tensor(False)
    noise = response.pulse(w, down, devices, seeded(9)) - w
    noise -= response.mean_step(w, down, devices)
    assert stats.kstest(noise.numpy() / (0.5 * 0.02), "norm").pvalue > 1e-3


def test_write_noise_is_seen_and_does_not_move_the_state() -> None:
    response = table("constant", write_noise_relative=3.0)
    w = torch.full((40_000,), 0.99, dtype=torch.float64)
    seen = response.visible(w, seeded(10))
    assert stats.kstest(((seen - 0.99) / 0.06).numpy(), "norm").pvalue > 1e-3
    assert torch.equal(table("constant").visible(w, seeded(10)), w)


def test_one_seed_gives_one_train_in_either_precision() -> None:
    response = table("exponential", cycle_spread_relative=1.0, **SPREAD)
    for dtype in (torch.float32, torch.float64):
        runs = []
        for _ in range(2):
            generator = seeded(11)
            devices = response.fabricate((4, 5), generator, dtype)
            w = response.pulse(torch.zeros(4, 5, dtype=dtype), torch.tensor(1), devices, generator)
            assert w.dtype == dtype
            runs.append(w)
        assert torch.equal(*runs)


class CardOfPulses(Card):
    pulse_response: PulseResponse


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"step_relative": 0.0}, "pulse_response.step_relative: 0.0 is not allowed; must be great"),
        ({"step_relative": 2.5}, "pulse_response.step_relative: 2.5 is not allowed"),
        ({"up_down": 1.0}, "pulse_response.up_down: 1.0 is not allowed"),
        ({"up_down": math.nan}, "pulse_response.up_down: nan is not allowed"),
        ({"cycle_spread_relative": -0.1}, "pulse_response.cycle_spread_relative: -0.1"),
        ({"gamma_up": 1.0}, "pulse_response.gamma_up: unknown field"),
        ({"model": "cubic"}, 'pulse_response.model: "cubic" is not allowed; must be one of "const'),
        ({"source": ""}, "pulse_response.source"),
    ],
)
def test_wrong_values_are_one_line(fields: dict[str, Any], line: str) -> None:
    good = {"model": "constant", "step_relative": 0.1, "source": "assumed"}
    with pytest.raises(CardError) as error:
        card_from_mapping(CardOfPulses, {"name": "x", "pulse_response": good | fields})
    assert str(error.value).startswith(line)
    assert len(str(error.value).splitlines()) == 1


# --- Against the IBM Analog Hardware Acceleration Kit -------------------------------------------

KIT = "the IBM Analog Hardware Acceleration Kit is an optional oracle, built from source"
KIT_NAMES = {
    "constant": "ConstantStepDevice",
    "linear": "LinearStepDevice",
    "soft_bounds": "SoftBoundsDevice",
    "exponential": "ExpStepDevice",
    "power": "PowStepDevice",
}


def kit_tile(model: str, rows: int, columns: int, **fields: Any) -> Any:
    configs = pytest.importorskip("aihwkit.simulator.configs", reason=KIT)
    enums = pytest.importorskip("aihwkit.simulator.parameters.enums", reason=KIT)
    tiles = pytest.importorskip("aihwkit.simulator.tiles", reason=KIT)
    shape = dict(SHAPES[model])
    if model == "exponential":
        shape["A_up"], shape["A_down"] = shape.pop("a_up"), shape.pop("a_down")
    if model == "power":
        shape = {"pow_gamma": 1.7, "pow_up_down": 0.3, "pow_gamma_dtod": 0.1}
    noiseless = {"dw_min_dtod": 0.3, "w_max_dtod": 0.3, "w_min_dtod": 0.2, "up_down_dtod": 0.05}
    noiseless |= {"dw_min": 0.02, "w_max": 1.0, "w_min": -1.0, "up_down": -0.2, "dw_min_std": 0.0}
    device = getattr(configs, KIT_NAMES[model])(
        **(noiseless | shape | {"construction_seed": 5} | fields)
    )
    config = configs.SingleRPUConfig(device=device)
    # One pulse per update on every device, whatever the inputs.
    config.update = configs.UpdateParameters(
        desired_bl=1,
        pulse_type=enums.PulseType.DETERMINISTIC_IMPLICIT,
        update_bl_management=False,
        update_management=False,
    )
    tile = tiles.AnalogTile(rows, columns, config)
    tile.set_learning_rate(0.02)
    tile.set_weights(torch.zeros(rows, columns))
    return tile


def kit_pulse(tile: Any, up: bool) -> Tensor:
    sign = -1.0 if up else 1.0
    rows, columns = tile.get_weights()[0].shape
    tile.update(torch.ones(1, columns), torch.full((1, rows), sign))
    return tile.get_weights()[0].clone()


def kit_devices(tile: Any) -> PulseDevices:
    hidden = tile.get_hidden_parameters()
    gammas = (hidden.get("gamma_up"), hidden.get("gamma_down"))
    if "slope_up" in hidden and gammas[0] is None:
        gammas = (
            -hidden["slope_up"] / hidden["dwmin_up"],
            hidden["slope_down"] / hidden["dwmin_down"],
        )
    return PulseDevices(
        hidden["dwmin_up"],
        hidden["dwmin_down"],
        hidden["min_bound"],
        hidden["max_bound"],
        *gammas,
    )


@pytest.mark.parametrize("model", MODELS)
def test_kit_moves_the_same_devices_by_the_same_steps(model: str) -> None:
    tile = kit_tile(model, 9, 7)
    response, devices = table(model), kit_devices(tile)
    w = torch.zeros(9, 7)
    train = [True] * 60 + [False] * 90 + [True, False, False, True] * 5
    for up in train:
        w = response.pulse(w, torch.tensor(up), devices, seeded())
        torch.testing.assert_close(w, kit_pulse(tile, up), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("model", MODELS)
def test_kit_fabricates_the_same_distribution(model: str) -> None:
    slopes = {"gamma_up_dtod": 0.05, "gamma_down_dtod": 0.05} if model == "linear" else {}
    kits = kit_devices(kit_tile(model, 100, 100, **slopes))
    ours = {k.replace("dtod", "spread"): v for k, v in slopes.items()}
    devices = table(model, **SPREAD, **ours).fabricate((100, 100), seeded(12))
    for name in ("step_up", "step_down", "w_min", "w_max"):
        theirs, drawn = getattr(kits, name).flatten(), getattr(devices, name).flatten()
        assert stats.ks_2samp(theirs.numpy(), drawn.numpy()).pvalue > 1e-3, name
    if model == "linear":
        theirs, drawn = kits.gamma_up.flatten(), devices.gamma_up.flatten()
        assert stats.ks_2samp(theirs.numpy(), drawn.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("model", "cycle_noise"),
    [
        *((model, "multiplicative") for model in MODELS),
        ("linear", "additive"),
        ("soft_bounds", "additive"),
    ],
)
def test_kit_has_the_same_cycle_noise(model: str, cycle_noise: str) -> None:
    same = dict.fromkeys(("dw_min_dtod", "w_max_dtod", "w_min_dtod", "up_down_dtod"), 0.0)
    chosen = {"mult_noise": cycle_noise == "multiplicative"}
    if model in ("linear", "soft_bounds"):
        same |= chosen
    if model == "power":
        same |= {"pow_gamma_dtod": 0.0}
    if model == "linear":
        same |= {"gamma_up_dtod": 0.0, "gamma_down_dtod": 0.0}
    tile = kit_tile(model, 100, 100, dw_min_std=0.8, **same)
    ours = {"cycle_noise": cycle_noise} if model in ("linear", "soft_bounds") else {}
    response, devices = table(model, cycle_spread_relative=0.8, **ours), kit_devices(tile)
    w = torch.full((100, 100), 0.4)
    tile.set_weights(w)
    w = response.pulse(w, torch.tensor(True), devices, seeded(13))
    # One pulse: over several, the kit's draws are not independent of each other.
    theirs = kit_pulse(tile, True)
    assert stats.ks_2samp(theirs.flatten().numpy(), w.flatten().numpy()).pvalue > 1e-5


def test_kit_has_the_same_lognormal_steps() -> None:
    tile = kit_tile(
        "soft_bounds", 100, 100, dw_min_dtod=0.7, dw_min_dtod_log_normal=True, up_down=0.0
    )
    response = table(
        "soft_bounds", step_spread_relative=0.7, step_spread_lognormal=True, up_down_spread=0.05
    )
    drawn = response.fabricate((100, 100), seeded(14)).step_up.flatten()
    theirs = kit_devices(tile).step_up.flatten()
    assert stats.ks_2samp(theirs.numpy(), drawn.numpy()).pvalue > 1e-3


def test_kit_shows_the_same_write_noise() -> None:
    tile = kit_tile("linear", 100, 100, write_noise_std=4.0, dw_min_dtod=0.0, w_max_dtod=0.0)
    response = table("linear", write_noise_relative=4.0)
    w = response.mean_step(torch.zeros(100, 100), torch.tensor(True), kit_devices(tile))
    seen = response.visible(w, seeded(15)).flatten()
    theirs = kit_pulse(tile, True).flatten()
    assert stats.ks_2samp(theirs.numpy(), seen.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ups", [50, 35])
def test_kit_trains_have_the_same_moments(model: str, ups: int) -> None:
    # Every row of the kit's tile gets its 50 pulses one by one, in an order of its own.
    rows, columns, pulses = 150, 40, 50
    same = dict.fromkeys(("dw_min_dtod", "w_max_dtod", "w_min_dtod", "up_down_dtod"), 0.0)
    tile = kit_tile(model, rows, columns, dw_min_std=0.3, **same)
    orders = torch.rand((rows, pulses), generator=seeded(16)).argsort(1) < ups
    for upward in orders.T:
        signs = torch.where(upward, -1.0, 1.0)
        tile.update(torch.ones(1, columns), signs[None])
    theirs = tile.get_weights()[0].double()
    response = table(model, cycle_spread_relative=0.3, up_down=-0.2)
    w = torch.zeros(rows, columns, dtype=torch.float64)
    counts = torch.full_like(w, ups), torch.full_like(w, pulses - ups)
    devices = kit_devices(tile).to(dtype=torch.float64)
    ours = response.pulses(w, *counts, devices, seeded(17))
    # Rows share their order, hence the error of a mean over rows.
    error = 4.5 * math.hypot(float(theirs.mean(1).std()) / rows**0.5, float(ours.std()) / 77.0)
    way, step = abs(float(theirs.mean())), response.window_step()
    assert abs(float(theirs.mean() - ours.mean())) < error + 0.2 * step + 0.01 * way
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.15, abs=0.1 * step)
