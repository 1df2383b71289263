"""Ageing arrays, and the digital correction of their mean drift."""

import math

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.models import Dense, mlp

DENSE = Dense((7,), (5,))
MAPPINGS = ("differential_pair", "offset_column")
POWER_LAW = {
    "model": "power_law",
    "start_s": 20.0,
    "reference_siemens": 1e-4,
    "mean_intercept": 0.06,
    "mean_low": 0.0,
    "mean_high": 1.0,
}
SPREAD = POWER_LAW | {"sigma_intercept": 0.02, "sigma_high": 1.0}
COMPENSATED = {"compensation": {"global_drift": True}}


@pytest.mark.parametrize("drift", [POWER_LAW, SPREAD], ids=["equal", "spread"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_time_adds_up(mapping, drift, device, array, storage):
    once, twice = (
        storage(DENSE, device(drift=drift), array(4, 3, mapping, **COMPENSATED)) for _ in range(2)
    )
    once.advance_time(3000.0)
    twice.advance_time(1000.0)
    assert not torch.equal(twice.effective_weight(), once.effective_weight())
    twice.advance_time(2000.0)
    assert torch.equal(twice.effective_weight(), once.effective_weight())
    assert once.matrix.devices.elapsed_s == 3000.0


def test_the_power_law(device, array, storage):
    arrays = storage(DENSE, device(drift=POWER_LAW), array(4, 3))
    arrays.advance_time(980.0)
    wanted = arrays.weight.detach() * 50.0**-0.06
    torch.testing.assert_close(arrays.effective_weight(), wanted, rtol=1e-12, atol=1e-12)
    driven = torch.ones(1, 7, dtype=torch.float64)
    torch.testing.assert_close(arrays.forward_read(driven), driven @ wanted)
    torch.testing.assert_close(arrays.transposed_read(driven[:, :5]), driven[:, :5] @ wanted.T)
    # Programming again starts the clock again.
    arrays.program()
    torch.testing.assert_close(arrays.effective_weight(), arrays.weight.detach())
    assert arrays.matrix.devices.elapsed_s == 0.0


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_times_that_are_not_allowed(seconds, device, array, storage):
    arrays = storage(DENSE, device(drift=POWER_LAW), array(4, 3))
    arrays.advance_time(100.0)
    before = arrays.effective_weight().clone()
    with pytest.raises(ValueError, match=r"^seconds: .* is not allowed; must be"):
        arrays.advance_time(seconds)
    assert torch.equal(arrays.effective_weight(), before)
    assert arrays.matrix.devices.elapsed_s == 100.0


def test_a_network_ages_as_a_whole(device, array):
    network = mlp((1, 2, 2), 3, (5, 4)).double()
    chip = map_to_crossbar(network, device(drift=POWER_LAW), array(4, 3))
    assert chip.elapsed_s == 0.0
    chip.advance_time(980.0)
    assert chip.elapsed_s == 980.0
    for storage, weight in zip(chip.storages, network.weights, strict=True):
        torch.testing.assert_close(storage.effective_weight(), weight.detach() * 50.0**-0.06)
    chip.program()
    assert chip.elapsed_s == 0.0


# --- compensation ------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_compensation_restores_equal_drift(mapping, device, array, storage):
    arrays = storage(DENSE, device(drift=POWER_LAW), array(4, 3, mapping, **COMPENSATED))
    for _ in range(2):
        arrays.advance_time(1000.0)
        weight = arrays.weight.detach()
        torch.testing.assert_close(arrays.effective_weight(), weight, rtol=1e-10, atol=1e-10)
    driven = torch.ones(1, 7, dtype=torch.float64)
    torch.testing.assert_close(arrays.forward_read(driven), driven @ weight)
    torch.testing.assert_close(arrays.transposed_read(driven[:, :5]), driven[:, :5] @ weight.T)


def test_compensation_restores_the_mean_of_unequal_drift(device, array, storage):
    geometry = Dense((40,), (30,))
    errors = []
    for tables in ({}, COMPENSATED):
        arrays = storage(geometry, device(drift=SPREAD), array(64, 64, **tables))
        programmed = arrays.matrix.devices.programmed.sum()
        arrays.advance_time(86_400.0)
        present = arrays.matrix.devices.conductance.sum() * arrays.matrix.compensation
        assert (float(present / programmed) == pytest.approx(1.0)) == bool(tables)
        weight = arrays.weight.detach()
        errors.append(float((arrays.effective_weight() - weight).norm() / weight.norm()))
    assert errors[1] < 0.5 * errors[0]


def test_compensation_scales_the_read_noise_too(device, array, storage):
    terms = [{"model": "lumped", "sigma_relative": 0.05}]
    driven = torch.ones(20_000, 7, dtype=torch.float64)
    spreads = []
    for tables in ({}, COMPENSATED):
        arrays = storage(DENSE, device(read_noise=terms, drift=POWER_LAW), array(8, 8, **tables))
        arrays.advance_time(1e6)
        spreads.append(arrays.forward_read(driven).std(0) / arrays.matrix.compensation)
    torch.testing.assert_close(*spreads, rtol=0.03, atol=0.0)


@pytest.mark.parametrize("reads", [1, 4])
def test_compensation_is_as_noisy_as_its_reads(reads, device, array, storage):
    terms = [{"model": "lumped", "sigma_relative": 0.2}]
    card = array(8, 8, compensation={"global_drift": True, "reads": reads})
    found = []
    for seed in range(400):
        arrays = storage(Dense((3,), (2,)), device(read_noise=terms), card, seed=seed)
        assert float(arrays.matrix.compensation) == 1.0
        arrays.advance_time(10.0)
        found.append(1.0 / arrays.matrix.compensation)
    # The sum of all currents over what it was when programmed.
    g = arrays.matrix.devices.conductance
    wanted = float((0.2 * g).square().sum().sqrt() / g.sum()) / reads**0.5
    measured = torch.stack(found)
    assert float(measured.mean()) == pytest.approx(1.0, abs=4.0 * wanted / 20.0)
    assert float(measured.std()) == pytest.approx(wanted, rel=4.0 / 800**0.5)


def test_every_compensation_is_another_measurement(device, array, storage):
    terms = [{"model": "lumped", "sigma_relative": 0.2}]
    arrays, again = (
        storage(DENSE, device(read_noise=terms), array(8, 8, **COMPENSATED)) for _ in range(2)
    )

    def measured(arrays, seconds):
        arrays.advance_time(seconds)
        return float(arrays.matrix.compensation)

    seen = [measured(arrays, 10.0), measured(arrays, 10.0)]
    arrays.program()
    assert float(arrays.matrix.compensation) == 1.0
    seen.append(measured(arrays, 10.0))
    assert len(set(seen)) == 3
    # Whatever happens in between: one seed, one result.
    again.forward_read(torch.ones(3, 7, dtype=torch.float64))
    assert [measured(again, 10.0), measured(again, 10.0)] == seen[:2]


def test_read_noise_that_grows_with_time(device, array, storage):
    terms = [
        {"model": "flicker", "coefficient": 0.01, "exponent": 0.65, "maximum": 0.2}
        | {"reference_siemens": 1e-4, "read_time_s": 250e-9}
    ]
    arrays = storage(DENSE, device(read_noise=terms), array(8, 8))
    driven, spread = torch.ones(4000, 7, dtype=torch.float64), []
    for seconds in (1.0, 1e3, 1e6):
        arrays.advance_time(seconds)
        spread.append(arrays.forward_read(driven).std(0).mean())
    growth = [math.log((t + 250e-9) / 500e-9) ** 0.5 for t in (1.0, 1001.0, 1001001.0)]
    for later in (1, 2):
        ratio = float(spread[later] / spread[0])
        assert ratio == pytest.approx(growth[later] / growth[0], rel=0.03)
