"""Single rows read weight by weight: noise against devices drawn one by one, and converters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import read_rows
from neurosim_ep.models import Dense

US = 1e-6
VOLT = 0.2  # of the fixture `array`
MAPPINGS = ["differential_pair", "offset_column"]
GEOMETRY = Dense((5,), (4,))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_without_noise_rows_are_the_weights(device, array, storage, mapping, scale) -> None:
    arrays = storage(GEOMETRY, device(), array(2, 3, mapping, scale))
    found = read_rows(arrays.matrix, rows_of(3, 0, 3), generator())
    wanted = arrays.weight.detach()[[3, 0, 3]]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_rows_are_seen_through_the_wires(device, array, storage) -> None:
    wires = {"word_line_ohm": 50.0, "bit_line_ohm": 50.0}
    arrays = storage(GEOMETRY, device(), array(8, 8, wires=wires))
    found = read_rows(arrays.matrix, rows_of(0, 1, 2, 3, 4), generator())
    # What a forward read of the unit vectors gives.
    wanted = arrays.forward_read(torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    assert float((found - arrays.weight.detach()).abs().max()) > 1e-3


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("scale", ["layer", "column"])
def test_noise_is_that_of_every_device_by_itself(
    device, array, storage, simulate, same_statistics, mapping: str, scale: str
) -> None:
    # The conftest's arrays, one draw per device: a row driven alone is a unit vector.
    terms: list[dict[str, Any]] = [
        {"model": "lumped", "sigma_relative": 0.03, "sigma_of_range_relative": 0.01},
        {"model": "shot", "bandwidth_hz": 1e9},
        {"model": "thermal", "bandwidth_hz": 1e9},
    ]
    card = array(8, 3, mapping, scale)
    arrays = storage(GEOMETRY, device(read_noise=terms), card)
    rows, draw = rows_of(*[2] * 4000), generator(3)
    found = read_rows(arrays.matrix, rows, draw)
    unit = torch.zeros(1, 5, dtype=torch.float64)
    unit[0, 2] = 1.0
    wanted = simulate(arrays, terms, unit, "forward", draws=4000, full_scale=1.0)
    wanted = wanted.flatten(1)
    if mapping == "differential_pair":
        same_statistics(found, wanted)
        return
    # A tile's columns share their reference there; here weights are verified one at a time.
    for column in range(4):
        same_statistics(found[:, column : column + 1], wanted[:, column : column + 1])


def test_converters_round_to_codes_of_a_whole_device(device, array, storage) -> None:
    # Full scale is 90 uS: +-7 codes of 4 bits, 1/7 of the largest weight each.
    converters = {"adc_bits": 4, "adc_range": "ideal"}
    weight = torch.tensor([[2.0, -0.9, 0.2, 0.1]], dtype=torch.float64)
    arrays = storage(
        Dense((1,), (4,)), device(10 * US, 100 * US), array(8, 8, forward=converters), weight=weight
    )
    found = read_rows(arrays.matrix, rows_of(0), generator())
    wanted = torch.tensor([[7.0, -3.0, 1.0, 0.0]]).double() * 2.0 / 7.0
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_the_converters_noise_is_of_the_current(device, array, storage) -> None:
    # 0.1 uA at 0.2 V are 0.5 uS, of 90 uS that stand for 1.
    converters = {"adc_noise_ampere": 1e-7, "adc_range": "ideal"}
    weight = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    arrays = storage(
        Dense((1,), (2,)), device(10 * US, 100 * US), array(8, 8, forward=converters), weight=weight
    )
    found = read_rows(arrays.matrix, rows_of(*[0] * 20_000), generator())
    deviation = 1e-7 / VOLT / (90 * US)
    # Five standard errors of a mean and of a deviation of 20,000.
    assert float((found.mean(0) - weight[0]).abs().max()) < 5.0 * deviation / 20_000**0.5
    assert float((found.std(0) / deviation - 1.0).abs().max()) < 5.0 / 40_000**0.5


def test_one_generator_gives_one_reading(device, array, storage) -> None:
    noise = [{"model": "lumped", "sigma_relative": 0.03}]
    matrix = storage(GEOMETRY, device(read_noise=noise), array(8, 8)).matrix
    draw = generator(1)
    first, second = (read_rows(matrix, rows_of(1, 4), draw) for _ in range(2))
    assert torch.equal(first, read_rows(matrix, rows_of(1, 4), generator(1)))
    assert not torch.equal(first, second)
