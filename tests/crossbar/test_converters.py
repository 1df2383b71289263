"""Codes of the converters, and reads that are converted array by array."""

import itertools

import pytest
import torch

from neurosim_ep.crossbar.converters import quantise_
from neurosim_ep.models import Convolution, Dense

DENSE = Dense((7,), (5,))
CONVOLUTION = Convolution((3, 4, 4), 5, kernel=2, stride=1, padding=1)
MAPPINGS = ("differential_pair", "offset_column")
SCALES = ("layer", "column")
DIRECTIONS = ("forward", "transposed")
VOLT = 0.2


def both(**converters):
    return {"forward": converters, "transposed": converters}


def draw(*shape, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rounded(values, full_scale, bits, signed=True):
    """To the nearest of the codes, of which the last ones stand for full scale."""
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    codes = torch.arange(-top if signed else 0, top + 1, dtype=torch.float64)
    nearest = ((values / full_scale * top).unsqueeze(-1) - codes).abs().argmin(-1)
    return codes[nearest] / top * full_scale


# --- codes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_codes(bits, signed, dtype):
    full_scale = 0.7
    count = 2**bits - 1 if signed else 2**bits
    step = full_scale / (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
    values = torch.linspace(-1.0, 1.0, 20_001, dtype=dtype)
    codes = quantise_(values.clone(), step, bits, signed)
    assert len(codes.unique()) == count
    low = -full_scale if signed else 0.0
    assert float(codes.min()) == pytest.approx(low, abs=1e-6)
    assert float(codes.max()) == pytest.approx(full_scale, rel=1e-6)
    # Saturation outside, at most half a step of error inside.
    assert bool((codes[values > full_scale] == codes.max()).all())
    assert bool((codes[values < low] == codes.min()).all())
    inside = (values >= low) & (values <= full_scale)
    assert float((codes - values)[inside].abs().max()) <= 0.5 * step * (1.0 + 1e-4)
    assert torch.equal(quantise_(codes.clone(), step, bits, signed), codes)
    assert float(quantise_(torch.zeros(1, dtype=dtype), step, bits, signed)) == 0.0


def test_a_step_of_zero_makes_zeros():
    for dtype in (torch.float32, torch.float64):
        for step in (0.0, torch.zeros((), dtype=dtype), torch.finfo(dtype).tiny / 127):
            values = quantise_(torch.zeros(3, dtype=dtype), step, 8)
            assert bool((values == 0.0).all())


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("bits", [2, 4])
def test_states_within_a_bound_take_unsigned_codes_and_changes_signed_ones(
    bits, delta, direction, device, array, storage
):
    arrays = storage(
        Dense((1,), (1,)), device(), array(4, 4, **both(dac_bits=bits)), weight=torch.ones(1, 1)
    )
    read = arrays.forward_read if direction == "forward" else arrays.transposed_read
    driven = 2.0 * draw(4000, 1)
    found = read(driven, delta=delta)
    torch.testing.assert_close(found[:, 0], rounded(driven[:, 0], 2.0, bits, signed=delta))
    assert len(found.unique()) == (2**bits - 1 if delta else 2**bits)


def test_driven_values_without_a_bound_take_signed_codes(device, array, storage):
    fixed = both(dac_bits=3, dac_range="fixed", dac_range_state=1.5)
    arrays = storage(DENSE, device(), array(4, 4, **fixed), bounds=(None, 1.0))
    driven = draw(20, 7)
    wanted = rounded(driven, 1.5, 3) @ arrays.weight.detach()
    torch.testing.assert_close(arrays.forward_read(driven), wanted)
    # A fixed range stands above the bound of the layer.
    driven = 2.0 * draw(20, 5).abs()
    wanted = rounded(driven, 1.5, 3, signed=False) @ arrays.weight.detach().T
    torch.testing.assert_close(arrays.transposed_read(driven), wanted)


def test_both_parts_of_complex_states_are_signed(device, array, storage):
    arrays = storage(DENSE, device(), array(4, 4, **both(dac_bits=8)))
    driven = torch.complex(draw(9, 7), draw(9, 7, seed=4)).mul_(0.5)
    wanted = driven @ arrays.weight.detach().to(driven.dtype)
    error = (arrays.forward_read(driven) - wanted).abs().max() / wanted.abs().max()
    assert float(error) < 0.02
    driven = torch.complex(draw(9, 5), draw(9, 5, seed=4)).mul_(0.5)
    wanted = driven @ arrays.weight.detach().T.to(driven.dtype)
    error = (arrays.transposed_read(driven) - wanted).abs().max() / wanted.abs().max()
    assert float(error) < 0.02


# --- arrays ------------------------------------------------------------------------------------


def converted(storage, driven, direction, *, adc, dac=None, full_scale=2.0):
    """A read by hand: unrolled, driven, summed and digitised per array; then added and folded.

    Args:
        adc: bits and full scale in ampere, one number or "ideal" for each array's largest current;
            None is ideal.
        dac: bits and whether they are signed; None is ideal.
        full_scale: of the driven values.
    """
    geometry, matrix = storage.geometry, storage.matrix
    g, units, tiling = matrix.devices.conductance, matrix.units, matrix.tiling
    if g.shape[0] == 2:
        siemens = g[0] - g[1]
    else:
        siemens = g[0, :, : tiling.columns].clone()
        for number, reach in enumerate(tiling.column_ranges):
            siemens[:, reach] -= g[0, :, tiling.columns + number, None]
    forward = direction == "forward"
    samples = geometry.unroll(driven) if forward else geometry.to_columns(driven)
    if not forward:
        samples = samples * (units / units.max())
    if dac is not None:
        samples = rounded(samples, full_scale, *dac)
    volt = samples * VOLT / full_scale
    total = volt.new_zeros(*volt.shape[:2], tiling.columns if forward else tiling.rows)
    for rows, columns in itertools.product(tiling.row_ranges, tiling.column_ranges):
        block = siemens[rows, columns]
        ampere = volt[..., rows] @ block if forward else volt[..., columns] @ block.T
        if adc is not None:
            largest = ampere.abs().max() if adc[1] == "ideal" else adc[1]
            ampere = rounded(ampere, largest, adc[0])
        total[..., columns if forward else rows] += ampere
    number = (units if forward else units.max()) * full_scale / VOLT
    return geometry.from_columns(total * number) if forward else geometry.fold(total * number)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("full_scale", [4e-6, "ideal"])
@pytest.mark.parametrize(("mapping", "scale"), list(itertools.product(MAPPINGS, SCALES)))
@pytest.mark.parametrize(("geometry", "rows"), [(DENSE, 5), (CONVOLUTION, 8)])
def test_every_array_digitises_its_own_current(
    geometry, rows, mapping, scale, full_scale, direction, device, array, storage
):
    adc = {"adc_bits": 4, "adc_range": "ideal"}
    if full_scale != "ideal":
        adc |= {"adc_range": "fixed", "adc_range_ampere": full_scale}
    for dac in (None, (5, False)):
        converters = adc | ({} if dac is None else {"dac_bits": dac[0]})
        # Rows, or rows per channel, and columns leave smaller arrays at the ends.
        card = array(rows, 3, mapping, scale, **both(**converters))
        arrays = storage(geometry, device(), card)
        assert min(arrays.matrix.tiling.row_tiles, arrays.matrix.tiling.column_tiles) > 1
        forward = direction == "forward"
        shape = geometry.pre_shape if forward else geometry.linear_shape
        driven = draw(3, *shape).abs().clamp(max=2.0)
        found = (arrays.forward_read if forward else arrays.transposed_read)(driven)
        wanted = converted(arrays, driven, direction, adc=(4, full_scale), dac=dac)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_ampere_by_hand(device, array, storage):
    # 1 V / 5 at a full scale of 2: a state of 1 is 0.1 V.  0.5 of the window's 99 uS is 49.5 uS for
    # a pair, whose current is 4.95 uA; with 7 steps of 6 uA / 7 it is 6 of them, 5.142857 uA.
    weight = torch.tensor([[0.5, 1.0]])
    adc = {"adc_bits": 4, "adc_range": "fixed", "adc_range_ampere": 6e-6}
    arrays = storage(Dense((1,), (2,)), device(), array(4, 4, **both(**adc)), weight=weight)
    one = torch.ones(1, 1, dtype=torch.float64)
    found = arrays.forward_read(one)
    assert float(found[0, 0]) == pytest.approx(36e-6 / 7 / 4.95e-6 * 0.5, rel=1e-12)
    assert float(found[0, 1]) == pytest.approx(6e-6 / 9.9e-6, rel=1e-12)  # 9.9 uA saturates
    # An offset column has half the conductance per weight, 2.475 uA: 3 steps.
    arrays = storage(
        Dense((1,), (2,)), device(), array(4, 4, MAPPINGS[1], **both(**adc)), weight=weight
    )
    found = arrays.forward_read(one)
    assert float(found[0, 0]) == pytest.approx(18e-6 / 7 / 2.475e-6 * 0.5, rel=1e-12)
    # With a scale per column both weights fill the window: 9.9 uA, and half of them transposed.
    arrays = storage(
        Dense((1,), (2,)), device(), array(4, 4, scale="column", **both(**adc)), weight=weight
    )
    found = arrays.forward_read(one)[0].tolist()
    assert found == pytest.approx([0.5 * 6 / 9.9, 6 / 9.9], rel=1e-12)
    driven = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert float(arrays.transposed_read(driven)) == pytest.approx(0.5 * 36 / 7 / 4.95, rel=1e-12)


@pytest.mark.parametrize("bits", [2, 5])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_single_array_has_an_odd_number_of_codes(bits, direction, device, array, storage):
    adc = {"adc_bits": bits, "adc_range": "fixed", "adc_range_ampere": 6e-6}
    arrays = storage(
        Dense((1,), (1,)), device(), array(4, 4, **both(**adc)), weight=torch.ones(1, 1)
    )
    read = arrays.forward_read if direction == "forward" else arrays.transposed_read
    found = read(torch.linspace(-2.0, 2.0, 4001, dtype=torch.float64).view(-1, 1), delta=True)
    assert len(found.unique()) == 2**bits - 1
    assert float(found.max()) == -float(found.min()) == pytest.approx(2.0 * 6.0 / 19.8)
    assert float(read(torch.zeros(1, 1, dtype=torch.float64))) == 0.0


def test_digitised_before_the_sum_over_arrays(device, array, storage):
    # Three arrays of one row: 0.4 of a step each is nothing, although together it is 1.2 steps.
    adc = {"adc_bits": 4, "adc_range": "fixed", "adc_range_ampere": 7e-6}
    weight = torch.ones(3, 1)
    arrays = storage(Dense((3,), (1,)), device(), array(1, 4, **both(**adc)), weight=weight)
    together = storage(Dense((3,), (1,)), device(), array(3, 4, **both(**adc)), weight=weight)
    step = 1e-6 / 9.9e-6  # of a state: 1 uA of 9.9 uA per unit
    driven = torch.full((1, 3), 0.4 * step, dtype=torch.float64)
    assert float(arrays.forward_read(driven)) == 0.0
    assert float(together.forward_read(driven)) == pytest.approx(step)
    # Saturation is each array's own too.
    driven = torch.full((1, 3), 2.0, dtype=torch.float64)
    assert float(arrays.forward_read(driven)) == pytest.approx(21 * step)
    assert float(together.forward_read(driven)) == pytest.approx(7 * step)


def test_digitised_before_patches_are_folded(device, array, storage):
    # Each pixel inside is read in four patches.
    adc = {"adc_bits": 4, "adc_range": "fixed", "adc_range_ampere": 7e-6}
    geometry = Convolution((1, 4, 4), 1, kernel=2)
    weight = torch.ones(1, 1, 2, 2)
    arrays = storage(geometry, device(), array(8, 4, **both(**adc)), weight=weight)
    step = 1e-6 / 9.9e-6
    for share, codes in ((0.4, 0), (0.6, 4), (1.4, 4), (1.6, 8)):
        driven = torch.full((1, 1, 3, 3), share * step, dtype=torch.float64)
        assert float(arrays.transposed_read(driven)[0, 0, 1, 1]) == pytest.approx(codes * step)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("mapping", "scale"), list(itertools.product(MAPPINGS, SCALES)))
@pytest.mark.parametrize("geometry", [DENSE, CONVOLUTION], ids=["dense", "convolution"])
def test_noise_before_the_conversion(geometry, mapping, scale, direction, device, array, storage):
    noise, draws = 2e-7, 4000
    arrays = storage(
        geometry, device(), array(8, 2, mapping, scale, **both(adc_noise_ampere=noise))
    )
    matrix, forward = arrays.matrix, direction == "forward"
    shape = geometry.pre_shape if forward else geometry.linear_shape
    driven = draw(1, *shape).abs().clamp(max=2.0)
    read = arrays.forward_read if forward else arrays.transposed_read
    found = read(driven.expand(draws, *shape).contiguous())
    # Independent in every array, and in every patch that is folded.
    if forward:
        volts = matrix.units.view(-1, *(1,) * (found.dim() - 2)).expand(found.shape[1:])
        arrays_read = torch.full_like(volts, matrix.tiling.row_tiles)
    else:
        ones = torch.ones(1, *geometry.linear_shape, dtype=torch.float64)
        positions = geometry.to_columns(ones).shape[1]
        patches = geometry.fold(ones.new_ones(1, positions, geometry.fan_in))[0]
        arrays_read = patches * matrix.tiling.column_tiles
        volts = matrix.units.max()
    wanted = arrays_read * (noise * volts * 2.0 / VOLT) ** 2
    off = (found.var(0) / wanted - 1.0) / (2.0 / draws) ** 0.5
    assert float(off.abs().max()) < 4.5
    assert float(off.square().mean()) < 1.0 + 5.0 * (2.0 / off.numel()) ** 0.5
    mean = (found.mean(0) - converted(arrays, driven, direction, adc=None)[0]).abs()
    assert float((mean / (wanted / draws).sqrt()).max()) < 4.5


def test_nothing_driven_gives_nothing(device, array, storage):
    for dac, adc, dtype in itertools.product(
        ("known", "ideal"), ("ideal", "fixed"), (torch.float32, torch.float64)
    ):
        converters = {"dac_bits": 8, "adc_bits": 8, "dac_range": dac, "adc_range": adc}
        converters |= {"adc_range_ampere": 1e-6} if adc == "fixed" else {}
        for geometry in (DENSE, CONVOLUTION):
            arrays = storage(geometry, device(), array(8, 2, **both(**converters)), dtype=dtype)
            zeros = torch.zeros(2, *geometry.pre_shape, dtype=dtype)
            assert bool((arrays.forward_read(zeros) == 0.0).all())
            zeros = torch.zeros(2, *geometry.linear_shape, dtype=dtype)
            assert bool((arrays.transposed_read(zeros) == 0.0).all())


def test_the_compensation_of_drift_comes_after_the_converter(device, array, storage):
    adc = {"adc_bits": 4, "adc_range": "fixed", "adc_range_ampere": 7e-6}
    drift = {"model": "retention", "rest_siemens": 0.0, "time_constant_s": 1.0}
    card = array(4, 4, compensation={"global_drift": True}, **both(**adc))
    arrays = storage(
        Dense((1,), (1,)), device(0.0, 1e-4, drift=drift), card, weight=torch.ones(1, 1)
    )
    arrays.advance_time(0.6931471805599453)
    assert float(arrays.matrix.compensation) == pytest.approx(2.0)
    # 10 uA per unit have become 5: of 3.7 uA the ADC makes 4 steps, which count twice.
    found = arrays.forward_read(torch.tensor([[0.74]], dtype=torch.float64))
    assert float(found) == pytest.approx(2 * 4 * 0.1)
    found = arrays.transposed_read(torch.tensor([[2.0]], dtype=torch.float64))
    assert float(found) == pytest.approx(2 * 7 * 0.1)
