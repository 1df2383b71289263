"""Converter ranges that are set from data."""

import itertools

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.crossbar.card import Converters
from neurosim_ep.crossbar.converters import SAMPLES_PER_READ, Calibration
from neurosim_ep.crossbar.ports import Port
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient
from neurosim_ep.models import Convolution, Dense, mlp
from neurosim_ep.settling import settle

DENSE = Dense((7,), (5,))
CONVOLUTION = Convolution((3, 4, 4), 5, kernel=2, stride=1, padding=1)
DIRECTIONS = ("forward", "transposed")
VOLT = 0.2
QUANTILE = 0.9
# The range of the DAC, the layer's bound, and the full scale that follows; None for the data's.
DRIVES = {
    "known": ({"dac_range": "known"}, 3.0, 3.0),
    "known, but there is no bound": ({"dac_range": "known"}, None, None),
    "calibrated": ({"dac_range": "calibrated"}, 3.0, None),
    "fixed": ({"dac_range": "fixed", "dac_range_state": 1.5}, 3.0, 1.5),
    "each read's own": ({"dac_range": "ideal"}, 3.0, "own"),
}


def draw(*shape, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def quantile(values, share=QUANTILE):
    """The value that this share of the values does not exceed."""
    ranked = values.flatten().sort().values
    return ranked[max(1, round(share * len(ranked))) - 1]


def reads_of(arrays, direction):
    return arrays.forward_read if direction == "forward" else arrays.transposed_read


def calibrate(arrays, *reads):
    """Read (direction, values, delta) while all converters calibrate."""
    for port in arrays.ports.values():
        port.start_calibrating()
    found = [reads_of(arrays, d)(values, delta=delta) for d, values, delta in reads]
    for port in arrays.ports.values():
        port.finish_calibrating()
    return found


def largest_currents(arrays, driven, direction, full_scale):
    """Largest current of every array in ampere, per position: {(row tile, column tile): values}."""
    geometry, matrix = arrays.geometry, arrays.matrix
    g, units, tiling = matrix.devices.conductance, matrix.units, matrix.tiling
    siemens, found = g[0] - g[1], {}
    for (row, rows), (column, columns) in itertools.product(
        enumerate(tiling.row_ranges), enumerate(tiling.column_ranges)
    ):
        block = siemens[rows, columns]
        if direction == "forward":
            volt = geometry.unroll(driven) * VOLT / full_scale
            found[row, column] = (volt[..., rows] @ block).abs().amax(-1).flatten()
            continue
        volt = geometry.to_columns(driven) * (units / units.max()) * VOLT / full_scale
        ampere = (volt[..., columns] @ block.T).abs()
        # One kernel position is read at a time: the largest over the input channels.
        kernel = getattr(geometry, "kernel", 1) ** 2
        found[row, column] = ampere.unflatten(-1, (-1, kernel)).amax(-2).flatten()
    return found


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize(("geometry", "rows"), [(DENSE, 4), (CONVOLUTION, 8)])
def test_full_scale_is_the_quantile_of_what_was_seen(
    geometry, rows, drive, scale, delta, direction, device, array, storage
):
    table, bound, full_scale = DRIVES[drive]
    converters = {"dac_bits": 6, "adc_bits": 6, "calibration_quantile": QUANTILE} | table
    names = ("forward", "transposed", "forward_delta", "transposed_delta")
    card = array(rows, 3, scale=scale, **dict.fromkeys(names, converters))
    arrays = storage(geometry, device(), card, bounds=(bound, bound))
    shape = geometry.pre_shape if direction == "forward" else geometry.linear_shape
    batches = [0.3 * draw(6, *shape), 0.6 * draw(9, *shape, seed=4)]
    calibrate(arrays, *((direction, batch, delta) for batch in batches))

    relative = arrays.matrix.units / arrays.matrix.units.max()
    if direction == "forward":
        volts = batches
    else:
        along = relative.view(-1, *(1,) * (len(shape) - 1))
        volts = [batch * along for batch in batches]
    driven = quantile(torch.cat([volt.abs().flatten() for volt in volts]))
    port = arrays.ports[f"{direction}_{'delta' if delta else 'full'}"]
    assert float(port.dac_full_scale) == pytest.approx(float(driven), rel=1e-12)
    if full_scale == "own":
        scales = [volt.abs().max() for volt in volts]
    else:
        scales = [driven if full_scale is None else full_scale] * 2
    parts = [
        largest_currents(arrays, batch, direction, own)
        for batch, own in zip(batches, scales, strict=True)
    ]
    for place in parts[0]:
        wanted = quantile(torch.cat([part[place] for part in parts]))
        found = float(port.adc_full_scale_ampere[place])
        assert found == pytest.approx(float(wanted), rel=1e-9)
    other = arrays.ports[f"{direction}_{'full' if delta else 'delta'}"]
    assert bool(other.adc_full_scale_ampere.isnan().all())


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize(
    ("converters", "field"),
    [
        ({"adc_bits": 8}, "adc_range"),
        ({"dac_bits": 8, "dac_range": "calibrated"}, "dac_range"),
        ({"dac_bits": 8, "adc_bits": 8, "dac_range": "calibrated"}, "dac_range"),
    ],
)
def test_not_before_the_calibration(converters, field, delta, direction, device, array, storage):
    card = array(8, 8, forward=converters, transposed=converters)
    arrays = storage(DENSE, device(), card)
    read = reads_of(arrays, direction)
    driven = draw(4, 7 if direction == "forward" else 5)
    with pytest.raises(ValueError, match=f"^{field}: .* calibrated on data$") as error:
        read(driven, delta=delta)
    assert "\n" not in str(error.value)
    # Reads ideally while it calibrates, and converts afterwards.
    (found,) = calibrate(arrays, (direction, driven, False))
    weight = arrays.weight.detach()
    exact = driven @ (weight if direction == "forward" else weight.T)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)
    error = (read(driven, delta=delta) - exact).abs().max() / exact.abs().max()
    assert float(error) > 1e-6


def test_known_ranges_need_no_calibration(device, array, storage):
    converters = {"dac_bits": 8, "adc_bits": 8, "adc_range": "ideal"}
    arrays = storage(DENSE, device(), array(8, 8, forward=converters, transposed=converters))
    assert bool(arrays.forward_read(draw(4, 7)).isfinite().all())
    assert bool(arrays.transposed_read(draw(4, 5)).isfinite().all())


def test_one_outlier_does_not_stretch_the_range(device, array, storage):
    converters = {"dac_bits": 8, "dac_range": "calibrated", "adc_bits": 8}
    card = array(4, 3, forward=converters, transposed=converters)
    driven = draw(4000, 7).clamp(-2.5, 2.5)
    ranges = []
    for outlier in (0.0, 1000.0):
        arrays = storage(DENSE, device(), card)
        driven[1234, 3] = outlier
        calibrate(arrays, ("forward", driven, False))
        port = arrays.ports["forward_full"]
        ranges.append((port.dac_full_scale.clone(), port.adc_full_scale_ampere.clone()))
    for without, with_outlier in zip(*ranges, strict=True):
        assert float((with_outlier / without - 1.0).abs().max()) < 0.2


def test_a_large_read_is_sampled_all_over():
    # Images of a power of two of pixels, a few of which (here: every 16th) are always dark.
    values = torch.ones(64 * SAMPLES_PER_READ)
    values[::16] = 0.0
    seen = Calibration()
    seen.add(values)
    assert float(seen.full_scale(0.5)) == 1.0
    assert 0.04 < 1.0 - float(torch.cat(seen._samples).mean()) < 0.09
    for count in (SAMPLES_PER_READ + 1, 3 * SAMPLES_PER_READ - 1, 100_003):
        ramp = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
        for share in (0.1, 0.5, 0.99, 1.0):
            seen = Calibration()
            seen.add(ramp)
            assert abs(float(seen.full_scale(share)) - share) < 0.002


def test_delta_reads_have_a_second_range_with_a_table_of_their_own(device, array, storage):
    converters = {"dac_bits": 8, "adc_bits": 8}
    second = converters | {"dac_range": "calibrated"}
    for direction in DIRECTIONS:
        size = 7 if direction == "forward" else 5
        states, changes = draw(50, size).clamp(0.0, 2.0), 1e-3 * draw(50, size, seed=4)
        errors = []
        for tables in ({}, {"forward_delta": second, "transposed_delta": second}):
            card = array(8, 8, forward=converters, transposed=converters, **tables)
            arrays = storage(DENSE, device(), card)
            calibrate(arrays, (direction, states, False), (direction, changes, True))
            weight = arrays.weight.detach()
            exact = changes @ (weight if direction == "forward" else weight.T)
            found = reads_of(arrays, direction)(changes, delta=True)
            errors.append(float((found - exact).norm() / exact.norm()))
            full = arrays.ports[f"{direction}_full"].adc_full_scale_ampere
            exact = states @ (weight if direction == "forward" else weight.T)
            found = reads_of(arrays, direction)(states)
            assert float((found - exact).norm() / exact.norm()) < 0.02
            assert bool((full > 1e-7).all())
        # A change of a thousandth of the range is less than half a step: nothing arrives.
        assert errors[0] == 1.0
        assert errors[1] < 0.02


def test_ranges_of_full_reads_do_not_follow_delta_reads(device, array, storage):
    converters = {"dac_bits": 8, "adc_bits": 8, "dac_range": "calibrated"}
    arrays = storage(DENSE, device(), array(8, 8, forward=converters, transposed=converters))
    states, changes = draw(50, 7), 100.0 * draw(50, 7, seed=4)
    calibrate(arrays, ("forward", states, False), ("forward", changes, True))
    alone = storage(DENSE, device(), array(8, 8, forward=converters, transposed=converters))
    calibrate(alone, ("forward", states, False))
    for name in ("dac_full_scale", "adc_full_scale_ampere"):
        both = (getattr(a.ports["forward_full"], name) for a in (arrays, alone))
        assert torch.equal(*both)


def test_an_array_that_saw_nothing_stays_silent(device, array, storage):
    converters = {"dac_bits": 8, "adc_bits": 8, "dac_range": "calibrated"}
    for dtype in (torch.float32, torch.float64):
        card = array(4, 3, forward=converters, transposed=converters)
        arrays = storage(DENSE, device(), card, dtype=dtype)
        zeros = torch.zeros(3, 7, dtype=dtype), torch.zeros(3, 5, dtype=dtype)
        calibrate(arrays, ("forward", zeros[0], False), ("transposed", zeros[1], False))
        for values in (*zeros, torch.ones(3, 7, dtype=dtype)):
            read = arrays.forward_read if values.shape[1] == 7 else arrays.transposed_read
            assert float(read(values).abs().max()) < 1e-30


def test_a_network_is_calibrated_as_it_settles(device, array):
    network = mlp((1, 3, 3), 3, (8, 6)).double()
    converters = {"dac_bits": 10, "adc_bits": 10}
    second = converters | {"dac_range": "calibrated"}
    card = array(
        5, 3, forward=converters, transposed=converters,
        forward_delta=second, transposed_delta=second,
    )  # fmt: skip
    chip = map_to_crossbar(network, device(), card)
    images, labels = draw(20, 1, 3, 3), torch.arange(20) % 3
    with pytest.raises(ValueError, match="calibrated on data"):
        settle(chip, images)
    phases = Phases(15, 5, nudged_reads="delta")
    exact = equilibrium_gradient(network, images, labels, CenteredEP(0.1), phases=phases)
    gradients = [weight.grad.clone() for weight in network.weights]
    with chip.calibrating():
        inside = equilibrium_gradient(chip, images, labels, CenteredEP(0.1), phases=phases)
    torch.testing.assert_close(inside.free.output, exact.free.output, rtol=1e-10, atol=1e-10)
    after = equilibrium_gradient(chip, images, labels, CenteredEP(0.1), phases=phases)
    error = (after.free.output - exact.free.output).norm() / exact.free.output.norm()
    assert 1e-6 < float(error) < 0.02
    for weight, gradient in zip(chip.weights, gradients, strict=True):
        assert torch.cosine_similarity(weight.grad.flatten(), gradient.flatten(), 0) > 0.99
    # An empty calibration changes nothing, and a copy by state dict needs none.
    state = {name: value.clone() for name, value in chip.state_dict().items()}
    with chip.calibrating():
        pass
    other = map_to_crossbar(network, device(), card, seed=1)
    other.load_state_dict(state)
    found = settle(chip, images).output, settle(other, images).output
    assert torch.equal(*found)


def test_silent_tiles_and_layers_take_a_usable_range() -> None:
    """What saw only zeros while calibrating must not stay silent for ever."""
    converters = Converters(source="test", adc_bits=8, dac_bits=8, dac_range="calibrated")
    port = Port(converters, 6.0, signed=False, tiles=(1, 2))
    port.start_calibrating()
    port.drive(torch.zeros(10), 6.0, signed=False)
    port.record(torch.tensor([[[0.0, 3.0]]]).expand(10, 1, 2), 1.0)
    port.finish_calibrating()
    assert float(port.dac_full_scale) == 6.0
    assert port.adc_full_scale_ampere.tolist() == [[0.5, 0.5]]
