"""Statistics of devices that were pulsed: against counts made by hand, and against equations."""

from __future__ import annotations

import json
import math
import statistics as python_statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.devices import DeviceCard
from neurosim_ep.models import mlp
from neurosim_ep.onchip.statistics import (
    POSITION_BINS,
    array_statistics,
    pulse_statistics,
    symmetry_offsets,
)

Chip = Callable[..., CrossbarNetwork]


def device_card(response: dict[str, Any] | None, **tables: Any) -> DeviceCard:
    window = {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4, "source": "a test"}
    data: dict[str, Any] = {"name": "test", "window": window}
    if response is not None:
        tables["pulse_response"] = response
    data |= {name: table | {"source": "a test"} for name, table in tables.items()}
    return card_from_mapping(DeviceCard, data)


def array_card(mapping: str, baseline: str = "middle") -> ArrayCard:
    card = load_array_card("ideal")
    layout = {"rows": 4, "columns": 3, "mapping": mapping, "pair_baseline": baseline}
    return card.model_copy(update={"layout": card.layout.model_copy(update=layout)})


def chip_of(
    card: DeviceCard, mapping: str = "differential_pair", *, widths: tuple[int, ...] = (5,)
) -> CrossbarNetwork:
    network = mlp((1, 2, 3), 4, widths).double()
    return map_to_crossbar(network, card, array_card(mapping), seed=3)


def pulse(chip: CrossbarNetwork, times: int = 1, *, seed: int = 0) -> list[Tensor]:
    """Random pulses on all weights; how many each weight got."""
    generator, totals = torch.Generator().manual_seed(seed), []
    for storage in chip.storages:
        shape, total = storage.weight.shape, torch.zeros(storage.weight.shape)
        # Many weights without, a few with many pulses.
        rate = 40.0 * torch.rand(shape, generator=generator) ** 6
        for _ in range(times):
            up, down = (torch.poisson(rate, generator=generator) for _ in range(2))
            storage.pulse(up, down)
            total += up + down
        totals.append(total)
    return totals


CONSTANT = {"model": "constant", "step_relative": 0.001}


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
def test_pulses_are_those_that_the_devices_got(mapping: str) -> None:
    chip = chip_of(device_card(CONSTANT, endurance={"pulses": 50.0}), mapping)
    planes = 2 if mapping == "differential_pair" else 1
    totals = pulse(chip, 3)
    found = pulse_statistics(chip, images=24)
    assert [edge.name for edge in found.edges] == ["edge 0", "edge 1"]
    everything: list[float] = []
    for edge, total in zip(found.edges, totals, strict=True):
        # Both devices of a pair get all pulses of their weight; reference devices count as none.
        one_by_one = planes * total.flatten().tolist()
        everything += one_by_one
        assert edge.devices == planes * total.numel()
        check_counts(edge.pulses, one_by_one, images=24)
        assert edge.endurance is not None
        assert edge.endurance.mean_fraction == pytest.approx(
            python_statistics.fmean(one_by_one) / 50.0
        )
        assert edge.endurance.maximum_fraction == max(one_by_one) / 50.0
        worn = sum(count >= 50.0 for count in one_by_one)
        assert 0 < worn < len(one_by_one)
        assert edge.endurance.worn_fraction == pytest.approx(worn / len(one_by_one))
    assert found.total.devices == len(everything)
    check_counts(found.total.pulses, everything, images=24)


def check_counts(pulses: Any, one_by_one: list[float], *, images: int) -> None:
    assert pulses.mean == pytest.approx(python_statistics.fmean(one_by_one))
    assert pulses.median == python_statistics.median(one_by_one)
    assert pulses.maximum == max(one_by_one)
    assert pulses.per_image_mean == pytest.approx(pulses.mean / images)
    assert pulses.per_image_maximum == pulses.maximum / images
    assert pulses.never == one_by_one.count(0.0) > 0
    borders = zip(pulses.bin_edges[:-1], pulses.bin_edges[1:], strict=True)
    wanted = [sum(low <= count < high for count in one_by_one) for low, high in borders]
    assert list(pulses.counts) == wanted
    assert sum(wanted) + pulses.never == len(one_by_one)
    assert list(pulses.bin_edges) == [2**k for k in range(len(wanted) + 1)]


def test_bins_begin_exactly_at_powers_of_two() -> None:
    chip = chip_of(device_card(CONSTANT))
    storage = chip.storages[0]
    up = torch.zeros(storage.weight.shape)
    for place, count in enumerate((1, 2, 3, 4, 7, 8, 1023, 1024, 2**20 - 1, 2**20)):
        up.view(-1)[place] = count
    storage.pulse(up, torch.zeros_like(up))
    pulses = pulse_statistics(chip, images=1).edges[0].pulses
    assert pulses is not None
    found = {low: n for low, n in zip(pulses.bin_edges, pulses.counts, strict=False) if n}
    # Two devices per weight.
    assert found == {1: 2, 2: 4, 4: 4, 8: 2, 512: 2, 1024: 2, 2**19: 2, 2**20: 2}


def test_before_the_first_pulse_everything_is_zero() -> None:
    chip = chip_of(device_card(CONSTANT))
    found = pulse_statistics(chip, images=1, start=symmetry_offsets(chip)).total
    assert found.pulses is not None
    assert (found.pulses.mean, found.pulses.median, found.pulses.maximum) == (0.0, 0.0, 0)
    assert found.pulses.never == found.devices
    assert (found.pulses.counts, found.pulses.bin_edges) == ((), (1,))
    assert found.endurance is None
    assert found.symmetry is not None
    assert found.symmetry.relative_change == 0.0


def test_devices_at_their_bounds() -> None:
    """Some up to their top, some one step short of the bottom, some two steps short."""
    step = 0.01
    chip = chip_of(device_card({"model": "constant", "step_relative": step}), "offset_column")
    storage = chip.storages[0]
    state = storage.matrix.devices.state[0, :, :5].reshape(storage.weight.shape)
    up, down = torch.zeros_like(state), torch.zeros_like(state)
    up.view(-1)[:7] = 300.0
    to_bottom = ((state + 1.0) / step).floor()
    down.view(-1)[7:12] = to_bottom.view(-1)[7:12]  # less than a step is left
    down.view(-1)[12:16] = to_bottom.view(-1)[12:16] - 1.0  # more than one
    storage.pulse(up, down)
    edge = pulse_statistics(chip, images=1).edges[0]
    devices = edge.devices
    assert devices == 30
    # The card maps the largest weight to the end of the window: count those that were there.
    others = storage.matrix.devices.state[0, :, :5].reshape(-1)[16:]
    already_up, already_down = int((others >= 1 - step).sum()), int((others <= step - 1).sum())
    assert edge.at_upper_fraction == pytest.approx((7 + already_up) / devices)
    assert edge.at_lower_fraction == pytest.approx((5 + already_down) / devices)


def test_stuck_devices_are_counted_apart() -> None:
    faults = {"stuck_at_max_fraction": 0.5}
    chip = chip_of(device_card(CONSTANT, faults=faults), widths=(60,))
    found = pulse_statistics(chip, images=1).total
    stuck = sum(int(storage.matrix.devices.stuck.sum()) for storage in chip.storages)
    assert found.stuck_fraction == pytest.approx(stuck / found.devices)
    assert 0.3 < found.stuck_fraction < 0.7
    # They sit at the top, but no pulse brought them there.
    assert found.at_upper_fraction is not None
    assert found.at_upper_fraction < 0.05
    assert sum(found.positions) == found.devices - stuck


def test_positions_lie_between_each_devices_own_bounds() -> None:
    spread = {"g_min_sigma_relative": 0.3, "g_max_sigma_relative": 0.3}
    chip = chip_of(device_card(CONSTANT, spread=spread), widths=(40,))
    pulse(chip, 5)
    found, wanted = pulse_statistics(chip, images=1).total, [0] * POSITION_BINS
    for storage in chip.storages:
        devices = storage.matrix.devices
        for g, low, high in zip(
            devices.conductance.flatten().tolist(),
            devices.lower.flatten().tolist(),
            devices.upper.flatten().tolist(),
            strict=True,
        ):
            share = (g - low) / (high - low)
            wanted[min(int(share * POSITION_BINS), POSITION_BINS - 1)] += 1
    moved = sum(abs(a - b) for a, b in zip(found.positions, wanted, strict=True))
    assert moved <= 4  # rounding may take a device across a border
    assert sum(found.positions) == sum(wanted)


def test_cancelling_pulses_drift_to_the_symmetry_point() -> None:
    """Soft bounds with unequal steps: up is (1 - w) a, down (1 + w) b, equal at (a-b)/(a+b).

    One up and one down pulse leave the state, to first order in the step, nearer to that point by
    the factor 1 - a - b, so n of each leave exp(-n (a + b)) of the distance.
    """
    step, up_down = 0.001, -0.5
    response = {"model": "soft_bounds", "step_relative": step, "up_down": up_down}
    a, b = (1.0 + up_down) * step, step
    point = (a - b) / (a + b)
    chip = chip_of(device_card(response), widths=(50,))
    before = {s: s.matrix.devices.state.clone() for s in chip.storages}
    start = symmetry_offsets(chip)
    first = before[chip.storages[0]]
    assert start["edge 0"].distance == pytest.approx(float((first - point).abs().mean()))
    assert start["edge 0"].offset == pytest.approx(float((first - point).mean()))
    cancelling = 400
    for storage in chip.storages:
        count = torch.full(storage.weight.shape, float(cancelling))
        storage.pulse(count, count)
    found = pulse_statistics(chip, images=10, start=start)
    left = math.exp(-cancelling * (a + b))
    for edge in (*found.edges, found.total):
        assert edge.symmetry is not None
        assert edge.symmetry.start == start[edge.name]
        assert edge.symmetry.relative_change == pytest.approx(left - 1.0, abs=0.02)
        assert edge.symmetry.now.offset == pytest.approx(left * start[edge.name].offset, abs=0.01)


def test_learning_both_ways_leaves_the_offset_of_pairs() -> None:
    """Push-pull: what one device gains the other loses, while both go away from the middle."""
    chip = chip_of(device_card(CONSTANT), widths=(50,))
    start, changes = symmetry_offsets(chip), []
    for storage in chip.storages:
        before = storage.matrix.devices.state.clone()
        up = torch.where(storage.weight > 0.0, 100.0, 0.0)
        storage.pulse(up, 100.0 - up)
        changes.append((storage.matrix.devices.state - before).abs().flatten())
    found = pulse_statistics(chip, images=10, start=start).total.symmetry
    assert found is not None
    assert found.now.offset == pytest.approx(found.start.offset, abs=1e-9)
    moved = float(torch.cat(changes).mean())
    assert moved == pytest.approx(0.1, abs=0.01)  # less at the bounds
    assert found.now.distance == pytest.approx(found.start.distance + moved)
    assert found.relative_change == pytest.approx(moved / found.start.distance)


def test_stuck_devices_have_no_drift() -> None:
    response = {"model": "soft_bounds", "step_relative": 0.01}
    chip = chip_of(device_card(response, faults={"stuck_at_min_fraction": 0.5}), widths=(30,))
    start = symmetry_offsets(chip)
    for storage in chip.storages:
        count = torch.full(storage.weight.shape, 500.0)
        storage.pulse(count, count)
    drift = pulse_statistics(chip, images=1, start=start).total.symmetry
    assert drift is not None
    assert drift.now.distance < 0.1  # those stuck at the bottom are a distance of 1 away


def test_devices_without_a_symmetry_point_or_without_pulses() -> None:
    one_sided = chip_of(device_card(CONSTANT | {"one_sided": True}))
    assert symmetry_offsets(one_sided) == {}
    assert pulse_statistics(one_sided, images=1, start={}).total.symmetry is None
    programmed = chip_of(device_card(None, endurance={"pulses": 1e6}))
    assert symmetry_offsets(programmed) == {}
    found = pulse_statistics(programmed, images=1).total
    assert found.pulses is found.endurance is found.symmetry is None
    assert found.at_upper_fraction is found.at_lower_fraction is None
    assert sum(found.positions) == found.devices


def test_bias_rows_are_counted_and_named() -> None:
    network = mlp((1, 2, 3), 4, (5,)).double()
    array = array_card("differential_pair")
    chip = map_to_crossbar(network, device_card(CONSTANT), array, bias_rows=True)
    up = torch.full((1, 5), 3.0)
    chip.bias_rows[1].pulse(up, torch.zeros_like(up))
    found = pulse_statistics(chip, images=1)
    assert [edge.name for edge in found.edges] == ["edge 0", "edge 1", "bias 1", "bias 2"]
    assert [edge.devices for edge in found.edges] == [60, 40, 10, 8]
    assert found.edges[2].pulses is not None
    assert found.edges[2].pulses.mean == 3.0
    assert found.total.pulses is not None
    assert found.total.pulses.mean == pytest.approx(30 / 118)


def test_any_matrices_can_be_counted() -> None:
    chip = chip_of(device_card(CONSTANT))
    (total, _), matrix = pulse(chip), chip.storages[0].matrix
    found = array_statistics({"fast": matrix}, images=2)
    assert found.edges[0].name == "fast"
    assert found.total.pulses is not None
    assert found.total.pulses.maximum == int(total.max())


def test_pulses_before_learning_use_endurance_only() -> None:
    chip = chip_of(device_card(CONSTANT, endurance={"pulses": 1000.0}))
    ones = torch.ones(chip.storages[0].weight.shape)
    chip.storages[0].pulse(400.0 * ones, 400.0 * ones)
    ones.view(-1)[0] = 250.0
    chip.storages[0].pulse(ones, 0.0 * ones)
    matrices = {"fast edge 0": chip.storages[0].matrix}
    found = array_statistics(matrices, images=10, pulses_before=800)
    count = ones.numel()
    assert found.pulses_before == 800
    assert found.total.pulses is not None
    assert found.total.pulses.maximum == 250
    assert found.total.pulses.mean == pytest.approx((count - 1 + 250) / count)
    assert found.total.pulses.counts[0] == 2 * (count - 1)
    assert found.total.endurance is not None
    assert found.total.endurance.before_fraction == pytest.approx(0.8)
    assert found.total.endurance.mean_fraction == pytest.approx(
        0.8 + (count - 1 + 250) / count / 1000.0
    )
    assert found.total.endurance.maximum_fraction == 1.05
    assert found.total.endurance.worn_fraction == pytest.approx(1 / count)


def test_the_record_is_json(tmp_path: object) -> None:
    chip = chip_of(device_card(CONSTANT, endurance={"pulses": 1e6}))
    start = symmetry_offsets(chip)
    pulse(chip)
    found = pulse_statistics(chip, images=128, start=start)
    record = json.loads(json.dumps(found.as_record(), allow_nan=False))
    assert record["images"] == 128
    assert [edge["name"] for edge in record["edges"]] == ["edge 0", "edge 1"]
    total = record["total"]
    assert total["pulses"]["mean"] == found.total.pulses.mean
    assert len(total["pulses"]["bin_edges"]) == len(total["pulses"]["counts"]) + 1
    assert set(total["symmetry"]) == {"start", "now", "relative_change"}


def test_bad_arguments_are_refused_in_one_line() -> None:
    chip = chip_of(device_card(CONSTANT))
    start = symmetry_offsets(chip)
    start.pop("edge 1")
    for call, said in (
        (lambda: pulse_statistics(chip, images=0), "images: 0 is not allowed"),
        (lambda: pulse_statistics(chip, images=1, start=start), "start: "),
        (lambda: array_statistics({}, images=1), "matrices: "),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
