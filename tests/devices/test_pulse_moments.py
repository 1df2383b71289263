"""Closed forms of pulse trains against all orders written out, sums and recursions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from neurosim_ep.devices.pulse_moments import Moments, Steps, geometric, moments, stopped
from neurosim_ep.devices.pulse_trains import first_ups

FAR = 1e6
TRAINS = [(1, 1), (3, 2), (1, 5), (4, 4), (7, 5)]
# Step and slope of up and of down pulses: fine, coarse, one direction straight, steps that grow.
STEPS = [
    (0.02, -0.01, -0.03, -0.02),
    (0.4, -0.5, -0.3, -0.6),
    (0.3, -0.7, -0.2, 0.0),
    (0.2, 0.1, -0.1, -0.4),
]


def number(value: float) -> Tensor:
    return torch.tensor([float(value)], dtype=torch.float64)


def found(
    numbers: tuple[float, float, float, float],
    up: int,
    down: int,
    noise: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
) -> Moments:
    up_step, up_slope, down_step, down_slope = map(number, numbers)
    steps = Steps(up_step, down_step, up_slope, down_slope, *map(number, noise))
    bounds = number(-FAR), number(FAR)
    return moments(steps, number(up), number(down), *bounds, mixed=bool(up and down))


def all_ends(numbers: tuple[float, float, float, float], up: int, down: int) -> np.ndarray:
    """Where every order of the affine maps x -> (1 + slope) x + step leads from 0."""
    up_step, up_slope, down_step, down_slope = numbers
    ends = []
    for places in itertools.combinations(range(up + down), up):
        x = 0.0
        for place in range(up + down):
            if place in places:
                x = (1.0 + up_slope) * x + up_step
            else:
                x = (1.0 + down_slope) * x + down_step
        ends.append(x)
    return np.array(ends)


@pytest.mark.parametrize("numbers", STEPS)
@pytest.mark.parametrize(("up", "down"), TRAINS)
def test_the_mean_is_that_of_all_orders(
    numbers: tuple[float, float, float, float], up: int, down: int
) -> None:
    expected = all_ends(numbers, up, down).mean()
    assert float(found(numbers, up, down).shift) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_a_long_contracting_train_forgets_its_start() -> None:
    # 200 pulses of which each takes away a third: only orders drawn at random can tell.
    generator = np.random.default_rng(1)
    orders = generator.permuted(np.tile(np.arange(200) < 120, (40_000, 1)), axis=1)
    x = np.zeros(40_000)
    for ups in orders.T:
        x = np.where(ups, 0.7 * x + 0.2, 0.6 * x - 0.3)
    expected = float(found((0.2, -0.3, -0.3, -0.4), 120, 80).shift)
    assert x.mean() == pytest.approx(expected, abs=4.5 * x.std() / 200.0)


@pytest.mark.parametrize("slope", [0.0, -1e-9, -0.01, -0.3, -0.9, 0.05])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_trains_of_one_direction_are_geometric_sums(slope: float, count: int) -> None:
    for sign in (1.0, -1.0):
        numbers = (0.3, slope, 0.0, 0.0) if sign > 0 else (0.0, 0.0, -0.3, slope)
        moved = found(numbers, *((count, 0) if sign > 0 else (0, count)))
        expected = sign * 0.3 * sum((1.0 + slope) ** j for j in range(count))
        assert float(moved.shift) == pytest.approx(expected, rel=1e-12)
        assert float(moved.order) == 0.0
    total = geometric(number(count), number(-slope))
    assert float(total) == pytest.approx(sum((1.0 + slope) ** j for j in range(count)), rel=1e-12)


@pytest.mark.parametrize("numbers", STEPS)
def test_two_pulses_have_two_orders(numbers: tuple[float, float, float, float]) -> None:
    expected = all_ends(numbers, 1, 1).var()
    assert float(found(numbers, 1, 1).order) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("up", "down"), TRAINS)
@pytest.mark.parametrize("slope", [-1e-3, -0.05, -0.4])
def test_the_variance_of_the_order_is_exact_where_all_pulses_contract_alike(
    up: int, down: int, slope: float
) -> None:
    numbers = (0.2, slope, -0.3, slope)
    expected = all_ends(numbers, up, down).var()
    assert float(found(numbers, up, down).order) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("up", "down"), TRAINS)
@pytest.mark.parametrize("numbers", [STEPS[0], (0.2, -0.1, -0.3, 0.0), (0.2, -0.1, -0.2, -0.25)])
def test_the_variance_of_the_order_is_near_where_they_do_not(
    up: int, down: int, numbers: tuple[float, float, float, float]
) -> None:
    expected = all_ends(numbers, up, down).var()
    assert float(found(numbers, up, down).order) == pytest.approx(expected, rel=0.35)


def test_constant_steps_have_no_order() -> None:
    assert float(found((0.2, 0.0, -0.3, 0.0), 5, 6).order) == 0.0


@pytest.mark.parametrize("count", [1, 2, 3, 10, 60])
@pytest.mark.parametrize("slope", [0.0, -1e-4, -0.02, -0.2, -0.8])
def test_noise_beside_the_step_is_a_sum_of_shrinking_squares(count: int, slope: float) -> None:
    moved = found((0.3, slope, 0.0, 0.0), count, 0, (0.1, 0.0, 0.0, 0.0))
    expected = 0.01 * sum((1.0 + slope) ** (2 * j) for j in range(count))
    assert float(moved.noise) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("count", "slope"), [(1, -0.5), (2, -0.2), (9, -0.05), (40, -0.03)])
def test_noise_on_the_step_follows_the_recursion_of_its_moments(count: int, slope: float) -> None:
    cycle, step = 0.5, 0.3
    moved = found((step, slope, 0.0, 0.0), count, 0, (cycle * step, 0.0, cycle * slope, 0.0))
    mean = square = 0.0  # of x; one pulse is x + (step + slope x) (1 + cycle xi)
    for _ in range(count):
        length = step**2 + 2.0 * step * slope * mean + slope**2 * square
        square = square + 2.0 * (step * mean + slope * square) + length * (1.0 + cycle**2)
        mean = (1.0 + slope) * mean + step
    assert float(moved.shift) == pytest.approx(mean, rel=1e-9)
    assert float(moved.noise) == pytest.approx(square - mean**2, rel=0.02)


def test_a_pulse_that_overshoots_ends_at_the_bound() -> None:
    steps = Steps(*map(number, (1.6, -0.5, -1.6, -0.1)), *map(number, (0.0,) * 4))
    for count in (1, 5):
        moved = moments(steps, number(count), number(0), number(-1.0), number(1.0), mixed=False)
        assert float(moved.shift) == pytest.approx(1.0, abs=1e-5)


def walked(up: int, down: int, room: float, sigma: float) -> np.ndarray:
    """Walks of unit steps in random order below a bound, simulated."""
    generator = np.random.default_rng(2)
    orders = generator.permuted(np.tile(np.arange(up + down) < up, (20_000, 1)), axis=1)
    x = np.zeros(20_000)
    for ups in orders.T:
        x = np.minimum(
            x + np.where(ups, 1.0, -1.0) * (1 + sigma * generator.normal(size=x.size)), room
        )
    return x


@pytest.mark.parametrize(
    ("up", "down", "room", "sigma"),
    [
        (20, 20, 0.0, 0.0),
        (20, 20, 3.0, 0.0),
        (40, 20, 5.0, 0.3),
        (10, 40, 1.0, 0.3),
        (30, 0, 4.0, 4.0),
    ],
)
def test_a_bound_holds_a_walk_back(up: int, down: int, room: float, sigma: float) -> None:
    generator = torch.Generator().manual_seed(3)
    many = torch.zeros(20_000, dtype=torch.float64)
    steps = Steps(*map(number, (1.0, -1.0, 0.0, 0.0, sigma, sigma, 0.0, 0.0)))
    noise = many + sigma**2 * (up + down)
    xi = torch.randn(many.shape, generator=generator, dtype=torch.float64)
    place = torch.rand(many.shape, generator=generator, dtype=torch.float64)
    bounds = number(-FAR), number(room)
    counts = many + up, many + down
    end = stopped(many + (up - down) + noise.sqrt() * xi, place, steps, noise, *counts, *bounds)
    end = end.clamp(max=room)
    expected = walked(up, down, room, sigma)
    assert float(end.mean()) == pytest.approx(
        expected.mean(), abs=0.05 * (1 + sigma) + 4.5 * expected.std() / 141
    )
    assert float(end.std()) == pytest.approx(expected.std(), rel=0.1, abs=0.1)


def test_without_order_and_noise_a_bound_only_stops() -> None:
    steps = Steps(*map(number, (1.0, -1.0, 0.0, 0.0)), *map(number, (0.0,) * 4))
    for end, expected in ((3.0, 2.0), (1.0, 1.0)):
        arguments: tuple[Any, ...] = (number(0.3), steps, number(0.0), number(3), number(0))
        assert float(stopped(number(end), *arguments, number(-1.0), number(2.0))) == expected


@pytest.mark.parametrize(
    ("up", "down", "count"), [(10, 10, 5), (40, 10, 12), (3, 30, 8), (2, 3, 1)]
)
def test_up_pulses_among_the_first_are_hypergeometric(up: int, down: int, count: int) -> None:
    size = 40_000
    place = torch.rand(size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    counts = (torch.full((size,), float(n), dtype=torch.float64) for n in (up, down, count))
    drawn = first_ups(*counts, place)
    law = stats.hypergeom(up + down, up, count)
    assert torch.equal(drawn, drawn.round())
    assert law.support()[0] <= drawn.min()
    assert drawn.max() <= law.support()[1]
    assert float(drawn.mean()) == pytest.approx(law.mean(), abs=0.05)
    assert float(drawn.std()) == pytest.approx(law.std(), rel=0.1)


def test_all_of_a_train_are_its_first() -> None:
    place = torch.rand(100, generator=torch.Generator().manual_seed(5))
    up, down = torch.full((100,), 3.0), torch.full((100,), 4.0)
    assert torch.equal(first_ups(up, down, up + down, place), up)
