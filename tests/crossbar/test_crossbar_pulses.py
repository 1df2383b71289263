"""Weights moved by pulses on their devices: which device, how far, and what reads then see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import ArrayCard, CrossbarStorage, load_array_card
from neurosim_ep.crossbar.lines import transfer_conductances
from neurosim_ep.crossbar.mapping import signed
from neurosim_ep.devices import load_device_card
from neurosim_ep.models import Convolution, Dense

US = 1e-6
MAPPINGS = ["differential_pair", "offset_column"]
GEOMETRIES = {"dense": Dense((2, 3), (5,)), "convolution": Convolution((2, 4, 4), 3, kernel=2)}
STEP = 0.02


def laid_out(card: ArrayCard, **fields: Any) -> ArrayCard:
    return card.model_copy(update={"layout": card.layout.model_copy(update=fields)})


def constant(**fields: Any) -> dict[str, Any]:
    return {"model": "constant", "step_relative": STEP} | fields


def counts_like(weight: Tensor, seed: int = 4) -> tuple[Tensor, Tensor]:
    """A few increments and decrements for every weight."""
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randint(0, 4, (2, *weight.shape), generator=generator)
    return up.to(weight), down.to(weight)


def exact(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(found: Tensor, wanted: Tensor) -> None:
    # Sums of a few numbers of order 1 in float64.
    found, wanted = found.detach(), wanted.detach()
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


# --- Which device moves ------------------------------------------------------------------------


def test_push_pull_about_mid_window_by_hand(device, array, storage) -> None:
    # A window of 90 uS: a pulse of 0.02 of its half is 0.9 uS.  2 fills it: 45 uS per unit.
    card = laid_out(array(8, 8), pair_baseline="middle")
    weight = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    arrays = storage(
        Dense((1,), (2,)), device(10 * US, 100 * US, pulse_response=constant()), card, weight=weight
    )
    g = arrays.matrix.devices
    close(g.conductance / US, exact([[[100.0, 32.5]], [[10.0, 77.5]]]))
    arrays.pulse(torch.tensor([[0, 3]]), torch.tensor([[2, 1]]))
    close(g.conductance / US, exact([[[98.2, 34.3]], [[11.8, 75.7]]]))
    assert g.pulse_count is not None
    assert g.pulse_count.tolist() == [[[2, 4]], [[2, 4]]]
    # Two devices of 0.9 uS, 45 uS per unit: 0.04 per increment.
    close(arrays.matrix.weight_step, exact([0.04, 0.04]))
    close(arrays.weight, exact([[1.92, -0.92]]))


def test_from_the_bottom_of_the_window_one_device_cannot_follow(device, array, storage) -> None:
    weight = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    card = device(10 * US, 100 * US, pulse_response=constant())
    arrays = storage(Dense((1,), (2,)), card, array(8, 8), weight=weight)
    arrays.pulse(torch.tensor([[0, 5]]), torch.tensor([[1, 0]]))
    found = arrays.matrix.devices.conductance / US
    close(found, exact([[[99.1, 14.5]], [[10.9, 10.0]]]))


def test_one_sided_pairs_count_up_on_one_device_and_down_on_the_other(
    device, array, storage
) -> None:
    response = constant(one_sided=True)
    weight = exact([[0.5, -0.25], [0.0, -1.0]])
    arrays = storage(
        Dense((2,), (2,)), device(10 * US, 100 * US, pulse_response=response), array(8, 8),
        weight=weight,
    )  # fmt: skip
    before = arrays.matrix.devices.conductance.clone()
    up, down = exact([[3, 0], [1, 0]]), exact([[1, 2], [0, 0]])
    arrays.pulse(up, down)
    after = arrays.matrix.devices.conductance
    close((after - before) / US, 0.9 * torch.stack([up, down]))
    # One device of 0.9 uS, 90 uS per unit.
    close(arrays.matrix.weight_step, exact([0.01, 0.01]))
    close(arrays.weight, weight + 0.01 * (up - down))


@pytest.mark.parametrize("columns", [8, 2])
def test_offset_columns_keep_their_references(device, array, storage, columns: int) -> None:
    card = laid_out(array(8, columns, "offset_column"), scale_headroom=2.0)
    arrays = storage(Dense((2,), (5,)), device(pulse_response=constant()), card)
    devices, before = arrays.matrix.devices, arrays.matrix.devices.conductance.clone()
    up, down = counts_like(arrays.weight)
    arrays.pulse(up, down)
    moved = 0.5 * STEP * devices.card.window.range_siemens * (up - down)
    close(devices.conductance[0, :, :5] / US, (before[0, :, :5] + moved) / US)
    assert torch.equal(devices.conductance[0, :, 5:], before[0, :, 5:])
    assert devices.pulse_count is not None
    assert not devices.pulse_count[0, :, 5:].any()


# --- How far weights move ----------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_counts_times_the_step_are_the_change(
    device, array, storage, geometry, mapping: str, scale: str
) -> None:
    # Room for growth, so that nothing clips; tiles of three columns.
    card = laid_out(array(8, 3, mapping, scale), pair_baseline="middle", scale_headroom=4.0)
    arrays = storage(geometry, device(pulse_response=constant()), card)
    before = arrays.weight.detach().clone()
    up, down = counts_like(before)
    arrays.pulse(up, down)
    step, matrix = arrays.matrix.weight_step, geometry.matrix
    close(matrix(arrays.weight - before), matrix(up - down) * step)
    largest = matrix(before).abs().amax(0) if scale == "column" else before.abs().max()
    # The window from -4 to 4 times the largest weight is 2 / 0.02 steps wide.
    close(step, (4.0 * largest * STEP).expand(len(step)))
    close(arrays.weight, arrays.effective_weight())


@pytest.mark.parametrize(
    ("response", "mean"),
    [
        ({"model": "linear", "gamma_up": 0.4, "gamma_down": 0.1}, 1.0),
        ({"model": "soft_bounds"}, 1.0),
        ({"model": "soft_bounds", "up_down": 0.5}, 0.75),
        ({"model": "power", "gamma_up": 2.0, "gamma_down": 1.0}, 0.5 * (1 / 3 + 1 / 2)),
    ],
)
def test_the_step_is_the_mean_over_the_window(
    device, array, storage, response: dict[str, Any], mean: float
) -> None:
    # Integrals over the window by hand; 2,000 points leave an error of less than 1e-7 of them.
    card = device(pulse_response={"step_relative": STEP} | response)
    arrays = storage(Dense((2,), (2,)), card, laid_out(array(8, 8), pair_baseline="middle"))
    wanted = arrays.weight.abs().max() * STEP * mean
    torch.testing.assert_close(arrays.matrix.weight_step, wanted.expand(2), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_weights_stop_at_the_ends_of_the_window(device, array, storage, mapping: str) -> None:
    card = laid_out(array(8, 8, mapping), pair_baseline="middle", scale_headroom=2.0)
    arrays = storage(Dense((3,), (4,)), device(pulse_response=constant()), card)
    largest, zero = 2.0 * arrays.weight.abs().max(), torch.zeros_like(arrays.weight)
    arrays.pulse(zero + 1000.0, zero)
    close(arrays.weight, zero + largest)
    arrays.pulse(zero, zero + 1000.0)
    close(arrays.weight, zero - largest)
    close(arrays.matrix.largest_weight, largest.expand(4))


def test_stuck_devices_and_noise_show_in_the_weights(device, array, storage) -> None:
    faults = {"stuck_at_random_fraction": 0.3}
    card = device(pulse_response=constant(cycle_spread_relative=0.3), faults=faults)
    arrays = storage(Dense((8,), (8,)), card, laid_out(array(8, 8), pair_baseline="middle"))
    devices, before = arrays.matrix.devices, arrays.matrix.devices.conductance.clone()
    assert devices.stuck is not None
    assert devices.stuck.any()
    arrays.pulse(torch.ones_like(arrays.weight), torch.zeros_like(arrays.weight))
    assert torch.equal(devices.conductance[devices.stuck], before[devices.stuck])
    g = devices.conductance
    close(arrays.weight, (g[0] - g[1]) * arrays.matrix.units)
    assert len(set((arrays.matrix.devices.conductance - before)[~devices.stuck].tolist())) > 30


def test_reads_see_the_pulsed_weights_at_once(device, array, storage) -> None:
    converters = {"adc_bits": 12, "adc_range": "ideal"}
    for tables in ({}, {"forward": converters, "transposed": converters}):
        geometry = GEOMETRIES["convolution"]
        arrays = storage(geometry, device(pulse_response=constant()), array(8, 8, **tables))
        generator = torch.Generator().manual_seed(3)
        pre, post = (
            torch.rand(2, *shape, dtype=torch.float64, generator=generator)
            for shape in (geometry.pre_shape, geometry.linear_shape)
        )
        reads = arrays.forward_read(pre), arrays.transposed_read(post)
        arrays.pulse(*counts_like(arrays.weight))
        weight = arrays.weight.detach()
        wanted = geometry.linear(pre, weight), geometry.transposed(post, weight)
        found = arrays.forward_read(pre), arrays.transposed_read(post)
        # 12 bits of full scale over a few tiles, or rounding.
        limit = 5e-3 if tables else 1e-12
        for old, new, right in zip(reads, found, wanted, strict=True):
            assert float((new - right).abs().max()) < limit * float(right.abs().max())
            assert float((old - right).abs().max()) > 0.01 * float(right.abs().max())


# --- Wires and time ----------------------------------------------------------------------------


def test_wires_are_solved_after_every_nth_update(device, array, storage) -> None:
    wires = {"word_line_ohm": 20.0, "bit_line_ohm": 20.0, "refresh_interval_programmings": 3}
    card = laid_out(array(8, 8, wires=wires), pair_baseline="middle", scale_headroom=2.0)
    arrays = storage(Dense((8,), (6,)), device(pulse_response=constant()), card)
    matrix = arrays.matrix
    assert card.wires is not None

    def solved() -> Tensor:
        g = matrix.devices.conductance
        transfer = transfer_conductances(g, matrix.tiling, matrix.mapping, card.wires)[0]
        return signed(transfer, matrix.mapping, matrix.tiling) * matrix.units

    agree = []
    for update in range(7):
        before = matrix.forward_matrix.clone()
        arrays.pulse(*counts_like(arrays.weight, seed=update))
        assert not torch.equal(matrix.forward_matrix, before)
        error = (matrix.forward_matrix - solved()).abs().max() / solved().abs().max()
        agree.append(float(error) < 1e-9)
        # Between, each device keeps its share of its conductance: near, but not the solution.
        assert float(error) < 0.01
    assert agree == [True, False, False, True, False, False, True]
    close(arrays.weight, matrix.forward_matrix)


def test_a_copy_by_state_dict_goes_on_alike(device, array, storage) -> None:
    wires = {"word_line_ohm": 20.0, "bit_line_ohm": 20.0, "refresh_interval_programmings": 3}
    response = constant(cycle_spread_relative=0.5, write_noise_relative=2.0)
    card = laid_out(array(8, 8, wires=wires), pair_baseline="middle", scale_headroom=2.0)
    made: Callable[[int], CrossbarStorage] = lambda seed: storage(  # noqa: E731
        Dense((8,), (6,)), device(pulse_response=response), card, seed=seed
    )
    one, other = made(0), made(1)
    for update in range(2):
        one.pulse(*counts_like(one.weight, seed=update))
    other.load_state_dict(one.state_dict())
    for update in range(2, 6):
        for arrays in (one, other):
            arrays.pulse(*counts_like(arrays.weight, seed=update))
    for name, value in one.matrix.state_dict().items():
        assert torch.equal(value, other.matrix.state_dict()[name]), name
    assert torch.equal(one.matrix.forward_matrix, other.matrix.forward_matrix)


def drifting(compensated: bool) -> tuple[CrossbarStorage, Tensor]:
    """PCM without any noise, a day old, and its weights before."""
    card = load_device_card("pcm")
    assert card.pulse_response is not None
    quiet = card.pulse_response.model_copy(
        update={"cycle_spread_relative": 0.0, "step_spread_relative": 0.0, "up_down_spread": 0.0}
    )
    card = card.model_copy(update={"pulse_response": quiet, "programming": None, "read_noise": ()})
    array = load_array_card("default-compensated")
    update: dict[str, Any] = {"wires": None, "forward": None, "transposed": None}
    update |= {"forward_delta": None, "transposed_delta": None}
    update |= {} if compensated else {"compensation": None}
    arrays = CrossbarStorage(
        Dense((9,), (7,)), card, array.model_copy(update=update), seed=2, dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        arrays.weight.copy_(torch.randn(9, 7, generator=generator, dtype=torch.float64))
    arrays.program(rescale=True)
    before = arrays.effective_weight().clone()
    arrays.advance_time(86_400.0)
    return arrays, before


@pytest.mark.parametrize("compensated", [False, True])
def test_what_has_drifted_stays_when_pulses_come(compensated: bool) -> None:
    arrays, _ = drifting(compensated)
    aged, zero = arrays.effective_weight().clone(), torch.zeros(9, 7)
    # An update without pulses is none, and the clock that it starts anew moves nothing at once.
    arrays.pulse(zero, zero)
    close(arrays.effective_weight(), aged)
    arrays.advance_time(0.0)
    close(arrays.effective_weight(), aged)


def test_drift_compensation_goes_on_after_pulses() -> None:
    arrays, before = drifting(compensated=True)
    plain, _ = drifting(compensated=False)
    lost = float(plain.effective_weight().norm() / before.norm())
    kept = float(arrays.effective_weight().norm() / before.norm())
    assert lost < 0.75
    assert abs(kept - 1.0) < 0.1
    zero = torch.zeros(9, 7)
    for _ in range(3):
        arrays.pulse(zero, zero)
        arrays.advance_time(86_400.0)
        # The factor of the first day is kept, and every later day's comes on top.
        assert abs(float(arrays.effective_weight().norm() / before.norm()) - 1.0) < 0.2
    # An increment is as much of a weight as the factor says.
    step = arrays.matrix.weight_step
    assert float(step[0] / plain.matrix.weight_step[0]) == pytest.approx(
        float(arrays.matrix.compensation)
    )
    assert float(arrays.matrix.compensation) > 1.5


# --- What is refused ---------------------------------------------------------------------------


def test_a_card_without_pulses_is_refused_by_name(device, array, storage) -> None:
    arrays = storage(Dense((2,), (2,)), device(), array(8, 8))
    one = torch.ones(2, 2)
    with pytest.raises(ValueError, match=r"^device: 'test' is not allowed to learn by pulses"):
        _ = arrays.matrix.weight_step
    with pytest.raises(ValueError, match=r"pulse_response") as caught:
        arrays.pulse(one, one)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [-1.0, 0.5, float("nan"), float("inf")])
def test_counts_that_are_none_change_nothing(device, array, storage, wrong: float) -> None:
    arrays = storage(Dense((2,), (2,)), device(pulse_response=constant()), array(8, 8))
    before, count = arrays.matrix.devices.conductance.clone(), torch.ones(2, 2)
    bad = count.clone()
    bad[1, 0] = wrong
    for counts in ((bad, count), (count, bad)):
        with pytest.raises(ValueError, match=r"(up|down): .* is not allowed"):
            arrays.pulse(*counts)
    assert torch.equal(arrays.matrix.devices.conductance, before)
    assert arrays.matrix.devices.update_count == 0
