"""Many pulses at once against loops over single pulses in random order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from neurosim_ep.devices import (
    load_device_card,
    pulse_base,
    pulse_trains,
    shipped_device_cards,
)
from neurosim_ep.devices.pulse_response import PulseDevices, PulseResponse

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
SPREAD = {"step_spread_relative": 0.3, "w_max_spread_relative": 0.2, "w_min_spread_relative": 0.2}
STARTS = (-1.0, -0.3, 0.9)
TRAINS = ((12, 0), (0, 20), (3, 3), (8, 8), (20, 6))
COPIES = 2000


def table(model: str, **fields: Any) -> PulseResponse:
    data = {"model": model, "source": "assumed", "step_relative": 0.02, **SHAPES[model], **fields}
    return TypeAdapter(PulseResponse).validate_python(data)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cases(starts: tuple[float, ...], trains: tuple[tuple[int, int], ...]) -> tuple[Tensor, ...]:
    """States and counts (cases, copies): every train from every start."""
    grid = [(w, *train) for w in starts for train in trains]
    columns = torch.tensor(grid, dtype=torch.float64).T
    return tuple(column[:, None].expand(-1, COPIES) for column in columns)


def looped(
    response: PulseResponse, w: Tensor, up: Tensor, down: Tensor, devices: PulseDevices, seed: int
) -> Tensor:
    """One pulse after another, those of every copy in an order of its own."""
    generator, total = seeded(seed), up + down
    longest = int(total.max())
    keys = torch.rand((longest, *w.shape), generator=generator)
    keys += torch.arange(longest)[:, None, None] >= total
    ranks = keys.argsort(0).argsort(0)
    for rank in ranks:
        direction = (rank < up).double() - ((rank >= up) & (rank < total)).double()
        w = response.pulse(w, direction, devices, generator)
    return w


@pytest.fixture
def closed_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed forms from five pulses on; as a rule they begin where loops cost as much."""
    monkeypatch.setattr(pulse_trains, "FEW", 4)


def assert_same_moments(
    response: PulseResponse,
    starts: tuple[float, ...],
    trains: tuple[tuple[int, int], ...],
    *,
    steps: float,
    way: float = 0.0,
    sigma: float = 0.0,
) -> None:
    """Mean and standard deviation of both ways, but for sampling and a stated model error.

    Args:
        steps: model error of both in mean steps.
        way: of the mean, as a share of how far the train goes.
        sigma: of the standard deviation, as a share of it.
    """
    w, up, down = cases(starts, trains)
    devices, step = response.nominal(), response.window_step()
    single = looped(response, w, up, down, devices, 1)
    many = response.pulses(w, up, down, devices, seeded(2))
    for index in range(w.shape[0]):
        a, b = single[index], many[index]
        case = [float(tensor[index, 0]) for tensor in (w, up, down)]
        error = 4.5 * float(((a.var() + b.var()) / COPIES).sqrt())
        far = abs(float(a.mean()) - case[0])
        assert abs(float(a.mean() - b.mean())) < error + steps * step + way * far, case
        error = 4.5 * float(((a.var() + b.var()) / (2.0 * COPIES)).sqrt())
        most = error + steps * step + sigma * float(a.std())
        assert abs(float(a.std() - b.std())) < most, case


@pytest.mark.usefixtures("closed_forms")
@pytest.mark.parametrize("states", [2000, 20, 4])
@pytest.mark.parametrize("model", ["constant", "linear", "soft_bounds", "power"])
def test_trains_have_the_moments_of_a_loop(model: str, states: int) -> None:
    response = table(model, step_relative=2.0 / states, cycle_spread_relative=0.3)
    assert_same_moments(response, STARTS, TRAINS, steps=0.1)


@pytest.mark.usefixtures("closed_forms")
@pytest.mark.parametrize("states", [2000, 20])
def test_trains_of_exponential_steps_have_them_nearly(states: int) -> None:
    response = table("exponential", step_relative=2.0 / states, cycle_spread_relative=0.3)
    assert_same_moments(response, STARTS, TRAINS, steps=0.2, way=0.01)


@pytest.mark.usefixtures("closed_forms")
def test_trains_of_exponential_steps_that_vanish_within_one_step() -> None:
    response = table("exponential", step_relative=0.5, cycle_spread_relative=0.3)
    assert_same_moments(response, STARTS, TRAINS, steps=0.75)


@pytest.mark.usefixtures("closed_forms")
@pytest.mark.parametrize("model", ["linear", "soft_bounds"])
def test_trains_with_noise_beside_the_step(model: str) -> None:
    fields = {"cycle_spread_relative": 0.4, "cycle_noise": "additive"}
    assert_same_moments(table(model, step_relative=0.1, **fields), STARTS, TRAINS, steps=0.1)


@pytest.mark.usefixtures("closed_forms")
@pytest.mark.parametrize("model", SHAPES)
def test_the_order_alone_has_the_variance_of_a_loop(model: str) -> None:
    # Without noise nothing but the order spreads; a tenth of a step would hide it.
    trains = ((8, 8), (20, 6), (5, 20))
    starts = (-0.3, 0.4)
    assert_same_moments(
        table(model, step_relative=0.02), starts, trains, steps=0.005, way=0.005, sigma=0.15
    )


@pytest.mark.usefixtures("closed_forms")
def test_large_noise_at_small_steps() -> None:
    response = table("linear", step_relative=0.002, cycle_spread_relative=2.0)
    assert_same_moments(response, STARTS, TRAINS, steps=0.2)


@pytest.mark.usefixtures("closed_forms")
@pytest.mark.parametrize("name", shipped_device_cards())
def test_the_shipped_cards_have_the_moments_of_a_loop(name: str) -> None:
    response = load_device_card(name).pulse_response
    assert response is not None
    trains = ((6, 0), (25, 0)) if response.one_sided else ((6, 0), (0, 25), (12, 12), (20, 5))
    assert_same_moments(response, STARTS, trains, steps=0.2, way=0.03, sigma=0.1)


@pytest.mark.parametrize("model", SHAPES)
def test_short_and_long_trains_together(model: str) -> None:
    # Cases of 1 to 60 pulses in one tensor: sorted by length, one by one up to 32.
    response = table(model, step_relative=0.1, cycle_spread_relative=0.3)
    trains = ((40, 20), (1, 0), (20, 12), (0, 2), (30, 25), (7, 7))
    assert pulse_trains.FEW == 32
    assert_same_moments(response, (-0.3, 0.9), trains, steps=0.2)


# --- What is exact -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["exponential", "power"])
def test_one_by_one_there_is_no_model_error(model: str) -> None:
    # Steps that bend: closed forms are off by hundredths of a step.
    response = table(model, step_relative=0.1)
    devices, count = response.nominal(), torch.arange(33, dtype=torch.float64)
    w, none = torch.full_like(count, -0.3), torch.zeros_like(count)
    for up, down in ((count, none), (none, count)):
        expected = looped(response, w[:, None], up[:, None], down[:, None], devices, 1)[:, 0]
        moved = response.pulses(w, up, down, devices, seeded())
        assert (moved - expected).abs().max() < 1e-12


@pytest.mark.parametrize("longest", [3, 32, 90])
def test_every_device_gets_its_own_pulses(longest: int) -> None:
    # Constant steps far from the bounds add up in any order.
    response = table("constant", step_relative=0.002, step_spread_relative=0.3)
    devices = response.fabricate((40, 50), seeded(1), torch.float64)
    up, down = torch.randint(0, longest // 2 + 1, (2, 40, 50), generator=seeded(2)).double()
    start = torch.linspace(-0.3, 0.3, 50, dtype=torch.float64).expand(40, 50)
    moved = response.pulses(start, up, down, devices, seeded(3))
    expected = start + up * devices.step_up - down * devices.step_down
    torch.testing.assert_close(moved, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", ["constant", "linear", "soft_bounds"])
def test_noiseless_trains_of_one_direction_are_exact(model: str, dtype: torch.dtype) -> None:
    response = table(model, **SPREAD)
    devices = response.fabricate((60,), seeded(1), dtype)
    w = devices.clip(torch.linspace(-1.0, 1.0, 60, dtype=dtype))
    count = torch.arange(60).to(dtype)
    none = torch.zeros_like(w)
    for direction in (1.0, -1.0):
        expected = w
        for pulse in range(60):
            now = torch.where(count > pulse, direction, none)
            expected = response.pulse(expected, now, devices, seeded())
        up, down = (count, none) if direction > 0 else (none, count)
        moved = response.pulses(w, up, down, devices, seeded())
        error = (moved - expected).abs().max()
        assert error < 100.0 * torch.finfo(dtype).eps


@pytest.mark.parametrize("model", SHAPES)
def test_up_to_one_pulse_is_the_single_pulse_to_the_bit(model: str) -> None:
    response = table(model, cycle_spread_relative=0.5, **SPREAD)
    devices = response.fabricate((7, 30), seeded(1))
    w = devices.clip(torch.rand((7, 30), generator=seeded(2)) * 2.0 - 1.0)
    direction = torch.randint(-1, 2, (7, 30), generator=seeded(3))
    up, down = (direction > 0).float(), (direction < 0).float()
    moved = response.pulses(w, up, down, devices, seeded(4))
    assert torch.equal(moved, response.pulse(w, direction, devices, seeded(4)))


@pytest.mark.parametrize("each", [2, 3])
def test_few_pulses_are_every_order_as_often_as_another(each: int) -> None:
    # Constant steps that one bound stops tell orders of as many up and down pulses apart.
    response = table("constant", step_relative=0.2, up_down=0.5)
    devices = response.nominal()
    w = torch.full((24_000,), 0.85, dtype=torch.float64)
    count = torch.full_like(w, float(each))
    ends, counts = response.pulses(w, count, count, devices, seeded(5)).unique(return_counts=True)
    expected: dict[float, float] = {}
    orders = set(itertools.permutations("ud" * each))
    for order in orders:
        x = 0.85
        for letter in order:
            x = min(x + 0.2, 1.0) if letter == "u" else x - 0.1
        expected[round(x, 9)] = expected.get(round(x, 9), 0.0) + 24_000 / len(orders)
    merged: dict[float, int] = {}
    for end, number in zip(ends.tolist(), counts.tolist(), strict=True):
        merged[round(end, 9)] = merged.get(round(end, 9), 0) + number
    assert set(merged) == set(expected)
    assert len(expected) > 2
    for end, number in expected.items():
        assert abs(merged[end] - number) < 5.0 * number**0.5


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("few", [4, 32])
def test_no_train_leaves_the_bounds(
    model: str, noise: float, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse_trains, "FEW", few)
    response = table(model, step_relative=0.3, cycle_spread_relative=noise, **SPREAD)
    generator = seeded(6)
    devices = response.fabricate((3000,), generator)
    w = devices.clip(torch.rand(3000, generator=generator) * 2.4 - 1.2)
    counts = torch.poisson(torch.full((2, 3000), 6.0), generator=generator)
    counts[:, ::3] = 0.0
    moved = response.pulses(w, counts[0], counts[1], devices, generator)
    assert (moved >= devices.w_min).all()
    assert (moved <= devices.w_max).all()
    assert torch.equal(moved[::3], w[::3])
    assert (moved != w)[counts.sum(0) > 0].double().mean() > 0.5


@pytest.mark.usefixtures("closed_forms")
@pytest.mark.parametrize("model", SHAPES)
def test_single_precision_is_enough(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same random numbers in both, on a card with 7,000 states.
    def normal(like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like.dtype)

    def uniform(like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(like.shape, generator=generator).clamp(min=1e-7).to(like.dtype)

    monkeypatch.setattr(pulse_base, "normal_like", normal)
    monkeypatch.setattr(pulse_trains, "normal_like", normal)
    monkeypatch.setattr(pulse_trains, "uniform_like", uniform)
    step = 3e-4
    response = table(model, step_relative=step, cycle_spread_relative=0.3)
    w = torch.rand(500, generator=seeded(7)) * 1.8 - 0.9
    up, down = torch.poisson(torch.full((2, 500), 9.0), generator=seeded(8))
    ends = []
    for dtype in (torch.float32, torch.float64):
        counts = up.to(dtype), down.to(dtype)
        nominal = response.nominal(dtype)
        ends.append(response.pulses(w.to(dtype), *counts, nominal, seeded(9)).double())
    assert (ends[0] - ends[1]).abs().max() < 0.02 * step


def test_nothing_to_pulse() -> None:
    response = table("linear", cycle_spread_relative=0.3)
    empty = torch.empty(0, 4)
    assert response.pulses(empty, empty, empty, response.nominal(), seeded()).shape == (0, 4)


# --- Slopes, steps, symmetry ---------------------------------------------------------------------


@pytest.mark.parametrize("model", SHAPES)
def test_slopes_are_derivatives_of_steps(model: str) -> None:
    response = table(model, **SPREAD)
    devices = response.fabricate((40,), seeded(1), torch.float64)
    w = torch.linspace(-0.6, 0.6, 40, dtype=torch.float64)
    for up in (torch.tensor(True), torch.tensor(False)):
        ahead = response.mean_step(w + 1e-6, up, devices)
        behind = response.mean_step(w - 1e-6, up, devices)
        slope = response.slope(w, up, devices)
        torch.testing.assert_close(slope, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("model", SHAPES)
def test_window_step_is_the_mean_over_the_window(model: str) -> None:
    response = table(model, up_down=0.2, **SPREAD)
    w = torch.linspace(-1.0, 1.0, 100_001, dtype=torch.float64)
    nominal = table(model, up_down=0.2).fabricate((1,), seeded(), torch.float64)
    lengths = [
        float(torch.trapezoid(response.mean_step(w, torch.tensor(up), nominal).abs(), w)) / 2.0
        for up in (True, False)
    ]
    assert response.window_step() == pytest.approx(sum(lengths) / 2.0, rel=1e-4)
    one_sided = table(model, up_down=0.2, one_sided=True)
    assert one_sided.window_step() == pytest.approx(lengths[0], rel=1e-4)


@pytest.mark.parametrize("model", ["linear", "soft_bounds", "exponential", "power"])
def test_many_pulse_pairs_lead_to_the_symmetry_point(model: str) -> None:
    response = table(model, step_relative=0.01, up_down=0.3, **SPREAD)
    if model == "exponential":  # whose up steps are the longer ones everywhere
        card = load_device_card("hfo2-reram").pulse_response
        assert card is not None
        response = card.model_copy(update={"step_relative": 0.01, "cycle_spread_relative": 0.0})
    devices = response.fabricate((30,), seeded(2), torch.float64)
    point = response.symmetry_point(devices)
    assert point.shape == (30,)
    w = torch.zeros(30, dtype=torch.float64)
    for pulse in range(4000):
        w = response.pulse(w, torch.tensor(pulse % 2 == 0), devices, seeded())
    assert (w - point).abs().max() < 0.02
    inside = (point > devices.w_min + 1e-6) & (point < devices.w_max - 1e-6)
    both = [response.mean_step(point, torch.tensor(up), devices) for up in (True, False)]
    assert inside.any()
    assert (both[0] + both[1])[inside].abs().max() < 1e-9


def test_constant_steps_have_their_symmetry_point_at_a_bound_or_anywhere() -> None:
    for up_down, expected in ((0.2, 1.0), (-0.2, -1.0), (0.0, 0.0)):
        response = table("constant", up_down=up_down)
        assert float(response.symmetry_point(response.nominal())) == pytest.approx(expected)


def test_without_down_pulses_there_is_no_symmetry_point() -> None:
    response = table("constant", one_sided=True)
    with pytest.raises(ValueError, match=r"^one_sided: true is not allowed; must be false for"):
        response.symmetry_point(response.nominal())
