"""Cost of single reads: by hand, and device by device."""

import pathlib

import pytest
import torch

from neurosim_ep.crossbar import load_array_card, map_to_crossbar
from neurosim_ep.crossbar.cost import (
    UNIFORM_MEAN_SQUARE,
    digital_comparison,
    measure_drive,
    read_cost,
    settling_cost,
)
from neurosim_ep.crossbar.cost.report import engineering
from neurosim_ep.models import Convolution, Dense, PooledConvolution, SquaredError, mlp, vgg5
from neurosim_ep.settling import settle, settle_nudged

DOC = pathlib.Path(__file__).parents[2] / "docs" / "cost-model.md"


def test_worked_example(device, storage):
    """A dense edge of 64 x 128 weights on the default card, all devices at 10 uS."""
    edge = Dense((64,), (128,))
    arrays = storage(
        edge, device(1e-5, 1e-4), load_array_card("default"), weight=torch.zeros(64, 128)
    )
    dac, adc = 1.14e-15 * 256, 1.96e-13 * 8 + 4.1e-16 * 256
    ohmic = 0.2**2 * (1 / 3) * (2 * 64 * 128 * 1e-5) * 10e-9
    by_hand = {
        "forward": (ohmic, 64 * dac, 128 * adc, 128 * 0.1e-12, 64 * 1.25e-12),
        "transposed": (ohmic, 128 * dac, 64 * adc, 64 * 0.1e-12, 128 * 1.25e-12),
    }
    times = {"forward": 10e-9 + 128 * 8 * 0.104e-9, "transposed": 10e-9 + 64 * 8 * 0.104e-9}
    text = DOC.read_text(encoding="utf-8")
    for direction, parts in by_hand.items():
        found = read_cost(arrays, direction)
        assert (
            found.array_energy_joule,
            found.dac_energy_joule,
            found.adc_energy_joule,
            found.digital_energy_joule,
            found.memory_energy_joule,
        ) == pytest.approx(parts, rel=1e-9)
        assert found.energy_joule == pytest.approx(sum(parts), rel=1e-9)
        assert found.busy_time_s == pytest.approx(times[direction], rel=1e-9)
        assert (found.macs, found.array_reads) == (8192, 1)
        # The document's example states these numbers.
        row = [engineering(value, "J") for value in (*parts, sum(parts))]
        row.append(engineering(times[direction], "s"))
        assert f"| {direction} | {' | '.join(row)} |" in text


# --- device by device --------------------------------------------------------------------------


def ohmic(arrays, direction, driven, name):
    """Sum over images, positions and devices of v^2 g t, and the read that these voltages give."""
    matrix, geometry = arrays.matrix, arrays.geometry
    g, tiling = matrix.devices.conductance, matrix.tiling
    full = float(arrays.ports[name].full_scale(driven))
    volt, seconds = arrays.array.drive.read_voltage_volt, arrays.array.cost.read_time_s
    unit = float(matrix.largest_unit)
    if direction == "forward":
        rows = volt * geometry.unroll(driven) / full
        energy = sum(float((v.square()[:, None] * plane).sum()) for plane in g for v in flat(rows))
        current = rows @ g.sum(0)[:, : tiling.columns]
        return energy * seconds, current
    columns = geometry.to_columns(driven) * (matrix.units / unit)
    columns = volt * columns / full
    if matrix.mapping == "offset_column":
        extra = [-columns[..., reach].sum(-1, keepdim=True) for reach in tiling.column_ranges]
        volts = [torch.cat([columns, *extra], -1)]
    else:
        volts = [columns, -columns]
    energy = sum(
        float((v.square()[None, :] * plane).sum())
        for plane, signed in zip(g, volts, strict=True)
        for v in flat(signed)
    )
    current = sum(signed @ plane.T for plane, signed in zip(g, volts, strict=True))
    return energy * seconds, geometry.fold(current * unit * full / volt)


def flat(vectors):
    return vectors.reshape(-1, vectors.shape[-1])


@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize(
    "geometry", [Dense((5,), (7,)), Convolution((2, 4, 4), 3, 3, 2, 1)], ids=["dense", "conv"]
)
def test_ohmic_energy_is_the_sum_over_devices(geometry, mapping, scale, device, costly, storage):
    card = costly(18, 2, mapping=mapping, scale=scale, bits=(None, None))
    arrays = storage(geometry, device(), card, bounds=(2.0, 3.0))
    generator = torch.Generator().manual_seed(3)
    shapes = {"forward": geometry.pre_shape, "transposed": geometry.linear_shape}
    for direction, shape in shapes.items():
        driven = 2.0 * torch.rand((3, *shape), generator=generator, dtype=torch.float64)
        energy, current = ohmic(arrays, direction, driven, f"{direction}_full")
        if direction == "transposed":
            # These are the voltages that the read makes.
            assert torch.allclose(arrays.transposed_read(driven), current, rtol=1e-9)
        squares = square_of(arrays, direction, driven)
        found = read_cost(arrays, direction, mean_square=squares)
        assert 3 * found.array_energy_joule == pytest.approx(energy, rel=1e-9)


def square_of(arrays, direction, driven):
    from neurosim_ep.crossbar.cost import drive

    one = drive._forward if direction == "forward" else drive._transposed
    return one(arrays, driven, f"{direction}_full")


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
def test_measured_drive_of_a_network(mapping, device, costly):
    """Full and delta reads of a settled network with pooled edges, drawn from its reads."""
    second = {"dac_bits": 12, "dac_range": "calibrated"}
    card = costly(64, 64, mapping=mapping, bits=(12, None), forward_delta=second)
    network = vgg5(1, 3, (3, 4, 3, 4), image_size=16, alpha=1.0).double()
    chip = map_to_crossbar(network, device(), card)
    images = torch.rand(4, 1, 16, 16, dtype=torch.float64)
    targets, cost = torch.eye(4, 3, dtype=torch.float64), SquaredError()
    with chip.calibrating():
        free = settle(chip, images, iterations=8)
        nudged = settle_nudged(chip, free, targets, [0.3], cost, iterations=4, reads="delta")
    drives = measure_drive(chip, free, nudged)
    assert len(drives) == 5
    for edge, arrays, found in zip(chip.edge_list(), chip.storages, drives, strict=True):
        geometry, pre, post = arrays.geometry, free[edge.pre], free[edge.post]
        seconds = arrays.array.cost.read_time_s
        unit = 4 * geometry_positions(geometry) * 0.2**2 * seconds
        unit *= float(arrays.matrix.devices.conductance.sum())
        energy, _ = ohmic(arrays, "forward", pre, "forward_full")
        assert found.forward == pytest.approx(energy / unit, rel=1e-9)
        if edge.pre == 0:
            assert found.transposed == found.forward_delta == UNIFORM_MEAN_SQUARE
            continue

        def spread(pre, post, geometry=geometry, arrays=arrays):
            winners = None
            if isinstance(geometry, PooledConvolution):
                _, winners = geometry.pool(geometry.linear(pre, arrays.effective_weight()))
            return geometry.unpool(post, winners)

        columns = spread(pre, post)
        energy, _ = ohmic(arrays, "transposed", columns, "transposed_full")
        assert found.transposed == pytest.approx(energy / unit, rel=1e-9)
        moved = nudged[edge.pre], nudged[edge.post]
        for direction, value, change in (
            ("forward", found.forward_delta, moved[0] - pre),
            ("transposed", found.transposed_delta, spread(*moved) - columns),
        ):
            full = float(arrays.ports[f"{direction}_delta"].full_scale(change))
            energy, _ = ohmic(arrays, direction, change.clamp(-full, full), f"{direction}_delta")
            assert value == pytest.approx(energy / unit, rel=1e-9)


def geometry_positions(geometry):
    shape = geometry.linear_shape
    return shape[1] * shape[2] if len(shape) == 3 else 1


def test_measuring_reads_nothing(device, costly):
    """No generator moves: a read after measuring is the one that it would have been."""
    noisy = device(read_noise=[{"model": "lumped", "sigma_relative": 0.1}])
    found = []
    for measured in (False, True):
        chip = map_to_crossbar(vgg5(1, 3, (2, 2, 2, 2), image_size=16), noisy, costly(64, 64))
        states = chip.rest(torch.rand((2, 1, 16, 16), generator=torch.Generator().manual_seed(1)))
        with chip.calibrating():
            settle(chip, states[0], iterations=2)
        if measured:
            measure_drive(chip, states)
        found.append(settle(chip, states[0], iterations=2).output)
    assert torch.equal(*found)


# --- tiles, positions, copies ------------------------------------------------------------------


def test_every_tile_has_its_own_converters(device, costly, storage):
    arrays = storage(Dense((10,), (9,)), device(), costly(4, 5))
    forward, transposed = (read_cost(arrays, way) for way in ("forward", "transposed"))
    # 10 rows on 3 rows of tiles, 9 columns on 2 columns of tiles.
    assert (forward.dac_conversions, forward.adc_conversions) == (20, 27)
    assert (transposed.dac_conversions, transposed.adc_conversions) == (27, 20)
    arrays = storage(Dense((10,), (9,)), device(), costly(4, 5, cost={"lines_per_adc": 2}))
    # The largest tile has 4 rows and 5 columns.
    read = read_cost(arrays, "forward")
    assert read.busy_time_s == pytest.approx(1e-8 + 2 * 8 * 1.04e-10)


def test_a_reference_column_is_driven_in_transposed_reads(device, storage, costly):
    arrays = storage(Dense((10,), (9,)), device(), costly(4, 5, mapping="offset_column"))
    assert read_cost(arrays, "forward").dac_conversions == 20
    assert read_cost(arrays, "transposed").dac_conversions == 27 + 6


@pytest.mark.parametrize(("copies", "turns"), [(1, 16), (3, 6), (16, 1), (99, 1)])
def test_positions_take_turns_on_the_copies(copies, turns, device, storage, costly):
    card = costly(32, 32, cost={"parallel_copies": copies})
    arrays = storage(Convolution((1, 4, 4), 2, 3, padding=1), device(), card)
    found = read_cost(arrays, "forward")
    assert found.array_reads == 16
    assert found.adc_conversions == 32
    assert found.busy_time_s == pytest.approx(turns * (1e-8 + 2 * 8 * 1.04e-10))


def test_pooling_and_delta_reads_cost_digital_operations(device, storage, costly):
    card = costly(32, 32)
    plain = storage(Convolution((1, 4, 4), 2, 3, padding=1), device(), card)
    pooled = storage(PooledConvolution((1, 4, 4), 2, 3, padding=1), device(), card)
    one, other = read_cost(plain, "forward"), read_cost(pooled, "forward")
    # Three comparisons per window.
    assert other.digital_operations - one.digital_operations == 3 * 2 * 4
    delta = read_cost(plain, "forward", delta=True)
    # The free state is subtracted from 16 units, the free current added to 32.
    assert delta.digital_operations - one.digital_operations == 16 + 32
    assert delta.memory_bytes - one.memory_bytes == 16 + 32


def test_ideal_converters_are_named_and_free(device, costly):
    chip = map_to_crossbar(mlp((1, 2, 2), 2, (3,)), device(), costly(8, 8, bits=(None, 8)))
    report = settling_cost(chip, free_iterations=4)
    assert report.unpriced == ("forward.dac_bits", "transposed.dac_bits")
    assert report.total.dac_energy_joule == 0.0 < report.total.adc_energy_joule
    assert any("forward.dac_bits" in line for line in report.lines())


def test_bias_rows_are_driven_with_their_edge(device, costly):
    network = mlp((1, 2, 2), 2, (3,))
    card = costly(8, 8)
    plain = map_to_crossbar(network, device(), card)
    chip = map_to_crossbar(network, device(), card, bias_rows=True)
    energies = [settling_cost(c, free_iterations=7).total.array_energy_joule for c in (plain, chip)]
    sums = [float(chip.bias_rows[n].matrix.devices.conductance.sum()) for n in (1, 2)]
    # The input's edge is read once, the other once per iteration.
    rows = 0.2**2 * 1e-8 * (sums[0] + 7 * sums[1])
    assert energies[1] - energies[0] == pytest.approx(rows, rel=1e-5)


def test_digital_comparison_by_hand(device, costly):
    chip = map_to_crossbar(mlp((1, 8, 8), 10, (128,)), device(), costly(256, 256))
    report = settling_cost(chip, free_iterations=20, nudged_iterations=10, phases=2)
    # The input's edge twice; the other 40 times in either direction.
    macs = 2 * 64 * 128 + 80 * 128 * 10
    assert report.total.macs == macs
    found = digital_comparison(chip, report, images_per_fetch=4, weight_bytes=2.0)
    assert found.macs == macs
    assert found.mac_energy_joule == pytest.approx(macs * 0.3e-12)
    assert found.from_dram_joule == pytest.approx(macs * (0.3e-12 + 0.5 * 31.2e-12))
    assert found.from_sram_joule == pytest.approx(macs * (0.3e-12 + 0.5 * 1.25e-12))
    with pytest.raises(ValueError, match="images_per_fetch: 0 is not allowed; must be above 0"):
        digital_comparison(chip, report, images_per_fetch=0)


def test_a_convolutions_weights_are_fetched_once_for_all_positions(device, costly, storage):
    arrays = storage(Convolution((2, 4, 4), 3, 3, padding=1), device(), costly(32, 32))
    found = read_cost(arrays, "transposed")
    assert (found.macs, found.weights) == (16 * 18 * 3, 18 * 3)
