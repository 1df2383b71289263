"""Devices that stand at measured conductances."""

from __future__ import annotations

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.devices import Devices, load_device_card
from neurosim_ep.models import mlp


def drawn(devices: Devices, seed: int = 0) -> torch.Tensor:
    window = devices.card.window
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(devices.shape, generator=generator, dtype=torch.float64)
    return window.g_min_siemens + share * window.range_siemens


@pytest.mark.parametrize("card", ["ideal", "pcm", "reram-array-om", "li-ecram"])
def test_they_stand_exactly_there_and_age_from_there(card: str) -> None:
    devices = Devices(load_device_card(card), (7, 5), seed=2, dtype=torch.float64)
    devices.program(drawn(devices, 1))
    devices.advance_time(100.0)
    wanted = drawn(devices)
    devices.stand_at(wanted)
    assert torch.equal(devices.conductance, wanted)
    assert torch.equal(devices.programmed, wanted)
    assert devices.elapsed_s == 0.0
    assert devices.program_count == 2
    devices.advance_time(3600.0)
    drift = devices.card.drift
    moved = not torch.equal(devices.conductance, wanted)
    assert moved == (drift is not None)
    if drift is not None:
        free = (
            torch.ones_like(wanted, dtype=torch.bool) if devices.stuck is None else ~devices.stuck
        )
        kelvin = devices.card.operation.temperature_kelvin
        expected = drift.at(wanted, devices.drift_coefficient, 3600.0, kelvin)
        assert torch.equal(devices.conductance[free], expected[free])


def test_what_they_do_not_share_with_the_tensor_they_were_given() -> None:
    devices = Devices(load_device_card("ideal"), (3,), seed=0, dtype=torch.float64)
    wanted = drawn(devices)
    kept = wanted.clone()
    devices.stand_at(wanted)
    wanted.zero_()
    assert torch.equal(devices.conductance, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g[:-1], r"conductance_siemens: shape: \[3\] is not allowed"),
        (lambda g: g.long(), "conductance_siemens: dtype: .* is not allowed; must be floating"),
        (lambda g: g * float("nan"), "conductance_siemens: .* is not allowed; must be from"),
        (lambda g: g + 1.0, "conductance_siemens: .* is not allowed; must be from"),
        (lambda g: -g - 1e-3, "conductance_siemens: .* is not allowed; must be from"),
    ],
)
def test_others_are_refused_in_one_line(change: object, message: str) -> None:
    devices = Devices(load_device_card("li-ecram"), (4,), seed=0, dtype=torch.float64)
    before = devices.conductance.clone()
    with pytest.raises(ValueError, match=message) as caught:
        devices.stand_at(change(drawn(devices)))  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    assert torch.equal(devices.conductance, before)
    assert devices.program_count == 0


@pytest.mark.parametrize("array", ["ideal", "default"])
def test_a_storage_reads_what_was_measured(array: str) -> None:
    network = mlp((1, 4, 4), 3, (5,)).double()
    chip = map_to_crossbar(network, "ideal", array, seed=1, bias_rows=True)
    other = map_to_crossbar(mlp((1, 4, 4), 3, (5,)).double(), "ideal", array, seed=1)
    storage, source = chip.storages[0], other.storages[0]
    storage.stand_at(source.matrix.devices.conductance, source.matrix.units)
    assert torch.equal(storage.effective_weight(), source.effective_weight())
    assert torch.equal(storage.weight, source.effective_weight())
    row = chip.bias_rows[1]
    raised = row.matrix.devices.conductance.clone()
    raised[0] = row.matrix.devices.card.window.g_max_siemens
    row.stand_at(raised, row.matrix.units)
    expected = (raised[0] - raised[1])[0] * row.matrix.units
    torch.testing.assert_close(row.value, expected)
    for units in (row.matrix.units[1:], -row.matrix.units, row.matrix.units * float("inf")):
        with pytest.raises(ValueError, match="weight_per_siemens"):
            row.stand_at(raised, units)
