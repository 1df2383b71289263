"""Trains of pulses against explicit loops over images, positions, rows, columns and slots."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosim_ep.models import Convolution, Dense, Geometry
from neurosim_ep.onchip import Trains, pulse_counts

DENSE = Dense((3,), (4,))
CONVOLUTION = Convolution((2, 3, 4), 2, kernel=2, stride=1, padding=1)
STRIDED = Convolution((1, 4, 4), 2, kernel=3, stride=2, padding=1)
GEOMETRIES = {"dense": DENSE, "convolution": CONVOLUTION, "strided": STRIDED}
WORST = 5.0
"""Standard errors that the worst of some hundred numbers may be off by: 1 in 10,000 tests."""


def factors(geometry: Geometry, largest: list[float], seed: int = 3) -> tuple[Tensor, Tensor]:
    """Signed factors of one image per entry, which asks for at most that many pulses."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        values = torch.randn((len(largest), *shape), generator=generator, dtype=torch.float64)
        return values / values.flatten(1).abs().amax(1).view(-1, *(1,) * len(shape))

    pre, demand = draw(geometry.pre_shape), draw(geometry.linear_shape)
    return pre * 3.0, demand * torch.tensor(largest).view(-1, *(1,) * (demand.dim() - 1)) / 3.0


def crossings(
    geometry: Geometry, pre: Tensor, demand: Tensor, longest: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]]:
    """Per image and position: probabilities of rows and of columns, their signs, and the slots."""
    found = []
    for x, d in zip(pre, demand, strict=True):
        rows = geometry.unroll(x.unsqueeze(0))[0].numpy()
        columns = geometry.to_columns(d.unsqueeze(0))[0].numpy()
        most_x, most_d = float(x.abs().max()), float(d.abs().max())
        asked = most_x * most_d
        slots = min(max(math.ceil(asked), 1), longest)
        share = math.sqrt(asked / slots)
        for row, column in zip(rows, columns, strict=True):
            p_x = np.minimum(np.abs(row) / most_x * share, 1.0)
            p_d = np.minimum(np.abs(column) / most_d * share, 1.0)
            found.append((p_x, p_d, np.sign(row), np.sign(column), slots))
    return found


def moments(
    geometry: Geometry, pre: Tensor, demand: Tensor, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of up and down pulses (2, rows, columns): mean, sum of squared probabilities, and the
    covariance (2 * rows * columns, same) of trains that lines share within one position."""
    shape = (geometry.fan_in, math.prod(geometry.weight_shape or ()) // geometry.fan_in)
    mean, square = np.zeros((2, *shape)), np.zeros((2, *shape))
    covariance = np.zeros((2, *shape, 2, *shape))
    for p_x, p_d, sign_x, sign_d, slots in crossings(geometry, pre, demand, longest):
        places = list(itertools.product(*map(range, shape)))
        side = {(i, j): 0 if sign_x[i] * sign_d[j] >= 0 else 1 for i, j in places}
        for i, j in places:
            mean[side[i, j], i, j] += slots * p_x[i] * p_d[j]
            square[side[i, j], i, j] += slots * (p_x[i] * p_d[j]) ** 2
            for k, m in places:
                both = p_x[i] * (1.0 if i == k else p_x[k]) * p_d[j] * (1.0 if j == m else p_d[m])
                apart = p_x[i] * p_d[j] * p_x[k] * p_d[m]
                covariance[side[i, j], i, j, side[k, m], k, m] += slots * (both - apart)
    return mean, square, covariance.reshape(2 * math.prod(shape), -1)


def sample(
    geometry: Geometry, pre: Tensor, demand: Tensor, trains: Trains, draws: int
) -> np.ndarray:
    """Counts of many draws, (draws, 2, rows, columns)."""
    generator = torch.Generator().manual_seed(11)
    found = []
    for _ in range(draws):
        counts = pulse_counts(geometry, pre, demand, trains, generator)
        found.append(torch.stack([geometry.matrix(counts.up), geometry.matrix(counts.down)]))
    drawn = torch.stack(found)
    assert bool((drawn == drawn.floor()).all())
    assert bool((drawn >= 0.0).all())
    return drawn.numpy()


def deviations(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How far means of samples (draws, ...) are off, in standard errors; exact where constant."""
    error = found.std(0) / math.sqrt(len(found))
    off = np.abs(found.mean(0) - wanted)
    assert bool((off[error == 0.0] < 1e-9).all())
    return off[error > 0.0] / error[error > 0.0]


CASES = [
    ("dense", [0.3, 2.7, 6.5], 31),
    ("dense", [9.0, 4.0], 5),
    ("convolution", [1.6, 0.2], 31),
    ("strided", [7.0], 3),
]


@pytest.mark.parametrize(("name", "largest", "longest"), CASES)
def test_stochastic_trains_are_those_of_the_loops(
    name: str, largest: list[float], longest: int
) -> None:
    geometry = GEOMETRIES[name]
    pre, demand = factors(geometry, largest)
    mean, square, covariance = moments(geometry, pre, demand, longest)
    drawn = sample(geometry, pre, demand, Trains("stochastic", longest), 900)
    # A count that happens in less than one of the draws has no standard error to speak of.
    seen = mean * len(drawn) > 10.0
    assert seen.any()
    assert deviations(drawn[:, seen], mean[seen]).max() < WORST
    assert deviations(((drawn - mean) ** 2)[:, seen], (mean - square)[seen]).max() < WORST
    if name == "dense":
        # Two devices of a row share its train: what one gets, the other gets more often.
        centred = (drawn - mean).reshape(len(drawn), -1)[:, seen.flatten()]
        wanted = covariance[np.ix_(seen.flatten(), seen.flatten())]
        assert np.allclose(np.diag(wanted), (mean - square)[seen])
        products = centred[:, :, None] * centred[:, None, :]
        assert deviations(products, wanted).max() < WORST
        assert np.abs(wanted - np.diag(np.diag(wanted))).max() > 0.05


@pytest.mark.parametrize(("name", "largest", "longest"), CASES)
def test_mean_field_trains_have_the_means_and_variances_of_the_loops(
    name: str, largest: list[float], longest: int
) -> None:
    geometry = GEOMETRIES[name]
    pre, demand = factors(geometry, largest)
    mean, square, _ = moments(geometry, pre, demand, longest)
    drawn = sample(geometry, pre, demand, Trains("mean_field", longest), 1500)
    seen = mean * len(drawn) > 10.0
    assert deviations(drawn[:, seen], mean[seen]).max() < WORST
    # A binomial's number of trials is whole: rounded up from m^2/s, it leaves at most this much.
    trials = mean[seen] ** 2 / square[seen]
    variance = mean[seen] - square[seen]
    whole = np.maximum(np.ceil(trials - 1e-9), np.ceil(mean[seen] - 1e-9))
    rounded = square[seen] * (1.0 - trials / whole)
    assert bool((rounded <= square[seen] / trials).all())
    squares = ((drawn - mean) ** 2)[:, seen]
    assert deviations(squares, variance + rounded).max() < WORST


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_image_never_gives_more_mean_field_pulses_than_its_slots(dtype: torch.dtype) -> None:
    # Of one image, n is the number of slots, whatever rounding makes of m^2/s.
    geometry = Dense((200,), (200,))
    pre = torch.linspace(0.3, 1.0, 200, dtype=dtype).unsqueeze(0)
    demand = torch.linspace(1.0, 6.0, 200, dtype=dtype).unsqueeze(0)
    generator = torch.Generator().manual_seed(2)
    counts = pulse_counts(geometry, pre, demand, Trains("mean_field"), generator)
    assert int(counts.up.max()) == 6
    assert int(counts.up[-1, -1]) == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("longest", [1, 2, 3, 6, 7, 16, 31])
def test_deterministic_trains_meet_as_often_as_their_product_says(
    longest: int, dtype: torch.dtype
) -> None:
    # All pairs of lengths; halves are rounded up, which whole numbers show exactly.
    lengths = torch.arange(longest + 1)
    geometry = Dense((longest + 1,), (longest + 1,))
    counts = pulse_counts(
        geometry,
        (lengths / longest).to(dtype).unsqueeze(0),
        lengths.to(dtype).unsqueeze(0),
        Trains("deterministic", longest),
        torch.Generator(),
    )
    wanted = (2 * lengths[:, None] * lengths + longest) // (2 * longest)
    assert torch.equal(counts.up, wanted.to(dtype))
    assert not counts.down.any()


@pytest.mark.parametrize(("name", "largest", "longest"), CASES)
def test_deterministic_trains_slot_by_slot(name: str, largest: list[float], longest: int) -> None:
    geometry = GEOMETRIES[name]
    pre, demand = factors(geometry, largest)
    wanted = np.zeros((2, *geometry.matrix(torch.zeros(geometry.weight_shape or ())).shape))
    for p_x, p_d, sign_x, sign_d, slots in crossings(geometry, pre, demand, longest):
        for i, j in itertools.product(range(len(p_x)), range(len(p_d))):
            n_x, n_d = round(p_x[i] * slots), round(p_d[j] * slots)
            met = sum(
                slot < n_x
                and (2 * n_d * (slot + 1) + slots) // (2 * slots)
                > (2 * n_d * slot + slots) // (2 * slots)
                for slot in range(slots)
            )
            assert abs(met - n_x * n_d / slots) <= 0.5
            wanted[0 if sign_x[i] * sign_d[j] >= 0 else 1, i, j] += met
    found = sample(geometry, pre, demand, Trains("deterministic", longest), 2)
    assert np.array_equal(found[0], wanted)
    assert np.array_equal(found[1], wanted)
    assert wanted.sum() > 0.0


def test_a_deterministic_update_by_hand() -> None:
    # 6 pulses asked for, 6 slots.  Rows send 6, 3 and 3 pulses, columns 6, 3 and 2; the products
    # over 6 are 6, 3, 2 and 3, 1.5, 1; a half is rounded up.
    counts = pulse_counts(
        Dense((3,), (3,)),
        torch.tensor([[2.0, 1.0, -1.0]]),
        torch.tensor([[3.0, 1.5, -1.0]]),
        Trains("deterministic"),
        torch.Generator(),
    )
    assert counts.up.tolist() == [[6, 3, 0], [3, 2, 0], [0, 0, 1]]
    assert counts.down.tolist() == [[0, 0, 2], [0, 0, 1], [3, 2, 0]]


@pytest.mark.parametrize("kind", ["mean_field", "stochastic", "deterministic"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_signs_zeros_and_saturation(geometry: Geometry, kind: str) -> None:
    trains, generator = Trains(kind, 5), torch.Generator().manual_seed(0)  # type: ignore[arg-type]
    one = torch.ones(2, *geometry.pre_shape), torch.ones(2, *geometry.linear_shape)
    positions = geometry.correlation(*(side[:1] for side in one))
    # 100 pulses are asked for where 5 slots are: each image gives each position its 5.
    full = pulse_counts(geometry, 10.0 * one[0], 10.0 * one[1], trains, generator)
    assert torch.equal(full.up, 10.0 * positions)
    assert not full.down.any()
    for pre, post in ((-10.0, 10.0), (10.0, -10.0)):
        turned = pulse_counts(geometry, pre * one[0], post * one[1], trains, generator)
        assert torch.equal(turned.down, full.up)
        assert not turned.up.any()
    both = pulse_counts(geometry, -10.0 * one[0], -10.0 * one[1], trains, generator)
    assert torch.equal(both.up, full.up)
    # An image without anything to learn gets nothing, and disturbs no other.
    for silent in (0, 1):
        halves = [10.0 * side for side in one]
        halves[silent][0] = 0.0
        counts = pulse_counts(geometry, *halves, trains, generator)
        assert torch.equal(counts.up, 5.0 * positions)
        halves[silent][1] = 0.0
        counts = pulse_counts(geometry, *halves, trains, generator)
        assert not counts.up.any()
        assert not counts.down.any()


@pytest.mark.parametrize("kind", ["mean_field", "stochastic", "deterministic"])
@pytest.mark.parametrize("size", [1e-30, 1e-38, 1e-44])
def test_a_vanishing_demand_gives_no_pulse_and_no_nan(kind: str, size: float) -> None:
    pre, demand = torch.rand(2, 3), torch.full((2, 4), size)
    trains = Trains(kind)  # type: ignore[arg-type]
    counts = pulse_counts(DENSE, pre, demand, trains, torch.Generator().manual_seed(0))
    assert torch.equal(counts.up + counts.down, torch.zeros(3, 4))


def test_one_generator_gives_one_result() -> None:
    pre, demand = factors(DENSE, [2.5, 1.5])
    for kind in ("mean_field", "stochastic"):
        trains = Trains(kind)  # type: ignore[arg-type]
        first, same, other = (
            pulse_counts(DENSE, pre, demand, trains, torch.Generator().manual_seed(seed))
            for seed in (1, 1, 2)
        )
        assert torch.equal(first.up, same.up)
        assert torch.equal(first.down, same.down)
        assert not (torch.equal(first.up, other.up) and torch.equal(first.down, other.down))


def test_trains_have_at_least_one_slot() -> None:
    with pytest.raises(ValueError, match=r"^longest: 0 is not allowed; must be at least 1$"):
        Trains(longest=0)
