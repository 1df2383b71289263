"""Pairs of devices that can only be pulsed up, written anew from the bottom of the window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurosim_ep.models import Dense

US = 1e-6


def exact(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one_sided(device: Any, **tables: Any) -> Any:
    response = {"model": "constant", "step_relative": 0.02, "one_sided": True}
    return device(10 * US, 100 * US, pulse_response=response, **tables)


def test_renewal_by_hand(device, array, storage) -> None:
    # 0.9 uS per pulse; 77.5 uS is 0.75 of the window.
    weight = exact([[1.0, 0.5, 0.0], [0.0, -0.5, 0.25]])
    arrays = storage(Dense((2,), (3,)), one_sided(device), array(8, 8), weight=weight)
    devices = arrays.matrix.devices
    # Both devices far up; one far up; both at the top; one just not; none pulsed.
    arrays.pulse(exact([[0, 60, 200], [75, 0, 0]]), exact([[80, 0, 200], [0, 20, 0]]))
    plus, minus = devices.conductance / US
    torch.testing.assert_close(plus, exact([[100.0, 100.0, 100.0], [77.5, 10.0, 32.5]]))
    torch.testing.assert_close(minus, exact([[82.0, 10.0, 100.0], [10.0, 73.0, 10.0]]))
    before, weights = devices.conductance.clone(), arrays.weight.detach().clone()
    assert arrays.renew(0.7501) == 3
    plus, minus = devices.conductance / US
    # What counts is the difference: it stands on the window's foot now.
    torch.testing.assert_close(plus[0], exact([28.0, 100.0, 10.0]), rtol=1e-9, atol=0.0)
    torch.testing.assert_close(minus[0], exact([10.0, 10.0, 10.0]), rtol=1e-9, atol=0.0)
    assert torch.equal(devices.conductance[:, 1], before[:, 1])
    torch.testing.assert_close(arrays.weight.detach(), weights, rtol=1e-9, atol=1e-12)
    assert devices.program_count == 2
    # A pair whose difference alone fills the window is written again and again; the others not.
    assert arrays.renew(0.7501) == 1
    assert arrays.renew(1.0) == 0
    assert devices.program_count == 3


def test_nothing_is_written_where_no_device_is_far_up(device, array, storage) -> None:
    programming = {"coefficients_siemens": [1 * US], "reference_siemens": 100 * US}
    card = one_sided(device, programming=programming)
    arrays = storage(Dense((4,), (4,)), card, array(8, 8))
    devices, before = arrays.matrix.devices, arrays.matrix.devices.conductance.clone()
    assert arrays.renew(1.0) == 0
    assert torch.equal(devices.conductance, before)
    assert devices.program_count == 1


def pulsed_up(device, array, storage, **tables: Any) -> Any:
    """2,500 pairs, all of them far up, between 10 and 30 uS apart."""
    weight = torch.linspace(-0.9, 0.9, 2500, dtype=torch.float64).view(50, 50)
    weight[0, 0] = 1.0
    arrays = storage(Dense((50,), (50,)), one_sided(device, **tables), array(64, 64), weight=weight)
    generator = torch.Generator().manual_seed(1)
    difference = 20.0 * torch.rand(50, 50, dtype=torch.float64, generator=generator) - 10.0
    # Set by programming, so that the differences are known.
    target = 80.0 + torch.stack([difference, -difference])
    arrays.matrix.devices.programmed = target * US
    arrays.matrix.refresh()
    return arrays, 2.0 * difference


def test_renewal_keeps_differences_within_the_programming_noise(device, array, storage) -> None:
    sigma = 0.5
    programming = {"coefficients_siemens": [sigma * US], "reference_siemens": 100 * US}
    arrays, difference = pulsed_up(device, array, storage, programming=programming)
    devices, before = arrays.matrix.devices, arrays.matrix.devices.conductance.clone()
    assert arrays.renew(0.5) == 2500
    found = devices.conductance / US
    # Every device ends lower, and at least one of each pair at the foot of the window.
    assert bool((found < before / US).all())
    assert float(found.amin(0).max()) < 10.0 + 6.0 * sigma
    error = found[0] - found[1] - difference
    # Two devices' noise, of which that of the one at the foot cannot go below it.
    assert float(error.abs().max()) < 6.0 * 2**0.5 * sigma
    far = difference.abs() > 6.0 * sigma
    half = error[far] * difference[far].sign()
    # E[N - max(N', 0)] = -1/sqrt(2 pi), variance 1 + (1 - 1/pi) / 2, over about 2,000 pairs.
    mean, deviation = -sigma / (2.0 * torch.pi) ** 0.5, sigma * (1.5 - 0.5 / torch.pi) ** 0.5
    assert abs(float(half.mean()) - mean) < 5.0 * deviation / len(half) ** 0.5
    assert abs(float(half.std()) / deviation - 1.0) < 5.0 / (2.0 * len(half)) ** 0.5


def test_renewal_reads_with_the_read_noise(device, array, storage) -> None:
    noise = [{"model": "lumped", "sigma_relative": 0.02}]
    arrays, difference = pulsed_up(device, array, storage, read_noise=noise)
    g = arrays.matrix.devices.conductance / US
    deviation = 0.02 * g.square().sum(0).sqrt()
    assert arrays.renew(0.5) == 2500
    first = arrays.matrix.devices.conductance / US
    z = (first[0] - first[1] - difference) / deviation
    assert abs(float(z.mean())) < 5.0 / 50.0
    assert abs(float(z.std()) - 1.0) < 5.0 / (2.0 * 2500) ** 0.5
    # Another renewal reads anew.
    arrays.matrix.devices.programmed = g * US
    assert arrays.renew(0.5) == 2500
    second = arrays.matrix.devices.conductance / US
    again = (second[0] - second[1] - difference) / deviation
    assert abs(float((z * again).mean())) < 5.0 / 50.0


def test_wires_that_are_solved_at_every_write_are_solved_for_renewed_pairs(
    device, array, storage
) -> None:
    wires = {"word_line_ohm": 50.0, "bit_line_ohm": 50.0}
    weight = exact([[1.0, 0.5, 0.0], [0.0, -0.5, 0.25]])
    arrays = storage(Dense((2,), (3,)), one_sided(device), array(8, 8, wires=wires), weight=weight)
    arrays.pulse(exact([[0, 60, 200], [75, 0, 0]]), exact([[80, 0, 200], [0, 20, 0]]))
    assert arrays.renew(0.7501) == 3
    renewed = arrays.effective_weight().clone()
    # No time passes, but the wires are solved.
    arrays.advance_time(0.0)
    assert torch.equal(arrays.effective_weight(), renewed)
