"""Weights on devices: conductances by hand, scales, clipping, tiles, and what does not fit."""

import math

import pytest
import torch

from neurosim_ep.crossbar import CrossbarStorage, map_to_crossbar
from neurosim_ep.crossbar.mapping import quantile_of
from neurosim_ep.crossbar.tiles import cut
from neurosim_ep.models import Convolution, Dense, mlp

MAPPINGS = ("differential_pair", "offset_column")
WEIGHT = torch.tensor([[1.0, -0.25], [-2.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
US = 1e-6


def close(found, wanted, unit=1.0):
    wanted = torch.as_tensor(wanted, dtype=torch.float64) * unit
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-20)


def test_pairs_by_hand(device, array, storage):
    # 90 uS for the largest weight, 2: 45 uS per unit on top of 10 uS.
    arrays = storage(Dense((3,), (2,)), device(10 * US, 100 * US), array(8, 8), weight=WEIGHT)
    plus = [[55, 10], [10, 10], [32.5, 32.5]]
    minus = [[10, 21.25], [100, 10], [10, 10]]
    close(arrays.matrix.devices.conductance, [plus, minus], US)
    close(arrays.matrix.units, [1 / (45 * US)] * 2)
    close(arrays.effective_weight(), WEIGHT)


def test_offset_columns_by_hand(device, array, storage):
    # The middle is 55 uS; 45 uS either way for the largest weight, 22.5 uS per unit.
    card = array(8, 8, "offset_column")
    arrays = storage(Dense((3,), (2,)), device(10 * US, 100 * US), card, weight=WEIGHT)
    wanted = [[77.5, 49.375, 55], [10, 55, 55], [66.25, 66.25, 55]]
    close(arrays.matrix.devices.conductance, [wanted], US)
    close(arrays.effective_weight(), WEIGHT)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_column_fills_the_window(mapping, device, array, storage):
    card = array(8, 8, mapping, "column")
    arrays = storage(Dense((3,), (2,)), device(10 * US, 100 * US), card, weight=WEIGHT)
    per_unit = [45.0, 180.0] if mapping == "differential_pair" else [22.5, 90.0]
    close(arrays.matrix.units, [1 / (value * US) for value in per_unit])
    g = arrays.matrix.devices.conductance
    if mapping == "differential_pair":
        assert float(g[0, 2, 1]) == pytest.approx(100 * US)
        assert float(g[1, 1, 0]) == pytest.approx(100 * US)
    else:
        assert g[0, 2, 1] == pytest.approx(100 * US)
        assert g[0, 1, 0] == pytest.approx(10 * US)
    close(arrays.effective_weight(), WEIGHT)


def test_an_offset_column_stands_in_every_array(device, array, storage):
    weight = torch.linspace(-1.0, 1.0, 35, dtype=torch.float64).view(7, 5)
    card = array(4, 2, "offset_column")
    arrays = storage(Dense((7,), (5,)), device(), card, weight=weight)
    g = arrays.matrix.devices.conductance
    assert tuple(g.shape) == (1, 7, 5 + 3)
    close(g[0, :, 5:], torch.full((7, 3), 50.5), US)
    assert arrays.matrix.arrays == 2 * 3


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_what_is_beyond_the_scale_is_clipped_and_counted(mapping, device, array, storage):
    arrays = storage(Dense((3,), (2,)), device(), array(8, 8, mapping), weight=WEIGHT)
    with torch.no_grad():
        arrays.weight.copy_(
            torch.tensor([[3.0, -2.5], [-2.0, 0.0], [2.0 + 4e-16, 1.0]], dtype=torch.float64)
        )
    assert arrays.program(rescale=False).clipped == 2
    wanted = [[2.0, -2.0], [-2.0, 0.0], [2.0, 1.0]]
    torch.testing.assert_close(
        arrays.effective_weight(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )
    assert arrays.program(rescale=True).clipped == 0
    torch.testing.assert_close(arrays.effective_weight(), arrays.weight.detach())


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("scale", ["layer", "column"])
def test_a_quantile_reaches_the_end_of_the_window(scale, mapping, device, array, storage):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((50, 40), generator=generator, dtype=torch.float64)
    card = array(64, 64, mapping, scale, quantile=0.9)
    arrays = storage(Dense((50,), (40,)), device(), card, weight=weight)
    report = arrays.program(rescale=True)
    if scale == "layer":
        ends = weight.abs().flatten().sort().values[1799].expand(40)
        assert report.clipped == 200
    else:
        ends = weight.abs().sort(0).values[44]
        assert report.clipped == 200
    wanted = torch.minimum(torch.maximum(weight, -ends), ends)
    torch.testing.assert_close(arrays.effective_weight(), wanted, rtol=1e-10, atol=1e-12)


def test_a_quantile_of_very_many_values():
    # torch.quantile takes at most 2^24 values.
    count = 2**24 + 4
    values = (torch.arange(count) * 7919 % count).int()
    assert int(quantile_of(values, 0.75)) == 3 * 2**22 + 2


@pytest.mark.parametrize("quantile", [1.0, 0.5])
@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_zeros(mapping, scale, quantile, device, array, storage):
    card = array(8, 8, mapping, scale, quantile=quantile)
    zeros = torch.zeros(3, 2, dtype=torch.float64)
    arrays = storage(Dense((3,), (2,)), device(), card, weight=zeros)
    assert torch.equal(arrays.effective_weight(), zeros)
    assert torch.equal(arrays.forward_read(zeros[:, :1].T + 1.0), zeros[:1])
    assert torch.equal(arrays.transposed_read(zeros[:1] + 1.0), zeros[:, :1].T)
    # One column of zeros among others.
    weight = torch.tensor([[0.0, 1.0], [0.0, -2.0], [0.0, 3.0]], dtype=torch.float64)
    card = array(8, 8, mapping, scale)
    arrays = storage(Dense((3,), (2,)), device(), card, weight=weight)
    torch.testing.assert_close(arrays.effective_weight(), weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_few_weights_among_zeros_are_not_clipped(mapping, scale, device, array, storage):
    weight = torch.zeros(40, 3, dtype=torch.float64)
    weight[7] = torch.tensor([0.01, -5.0, 2.0])
    card = array(64, 64, mapping, scale, quantile=0.9)
    arrays = storage(Dense((40,), (3,)), device(), card, weight=weight)
    torch.testing.assert_close(arrays.effective_weight(), weight, rtol=1e-10, atol=1e-12)


def test_the_first_programming_chooses_the_scale(device, array, storage):
    geometry = Dense((3,), (2,))
    arrays = CrossbarStorage(geometry, device(), array(8, 8), seed=0, dtype=torch.float64)
    with torch.no_grad():
        arrays.weight.copy_(WEIGHT)
    assert arrays.program().clipped == 0
    torch.testing.assert_close(arrays.effective_weight(), WEIGHT)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rescale", [True, False])
def test_weights_that_are_not_finite(bad, rescale, device, array, storage):
    arrays = storage(Dense((3,), (2,)), device(), array(8, 8), weight=WEIGHT)
    with torch.no_grad():
        arrays.weight[1, 1] = bad
    with pytest.raises(ValueError, match=r"^weights: NaN or infinity is not allowed"):
        arrays.program(rescale=rescale)
    # Nothing was programmed.
    torch.testing.assert_close(arrays.effective_weight(), WEIGHT)


def test_a_network_with_one_weight_that_is_not_finite(device, array):
    chip = map_to_crossbar(mlp((1, 2, 2), 2, (3,)).double(), device(), array(8, 8))
    before = [storage.effective_weight().clone() for storage in chip.storages]
    with torch.no_grad():
        chip.weights[0].mul_(0.5)
        chip.weights[1][0, 0] = math.nan
    with pytest.raises(ValueError, match=r"^weights\[1\]: NaN or infinity is not allowed"):
        chip.program()
    for storage, kept in zip(chip.storages, before, strict=True):
        assert torch.equal(storage.effective_weight(), kept)


def test_an_array_must_hold_one_input_channel(device, array, storage):
    geometry = Convolution((3, 4, 4), 5, kernel=3)
    with pytest.raises(
        ValueError, match=r"^layout.rows: 8 is not allowed; must be at least 9"
    ) as e:
        storage(geometry, device(), array(8, 8))
    assert "\n" not in str(e.value)
    assert storage(geometry, device(), array(9, 8)).matrix.tiling.row_tiles == 3


@pytest.mark.parametrize(
    ("matrix", "arrays", "per_channel", "rows", "columns"),
    [
        ((10, 6), (4, 6), 1, [4, 4, 2], [6]),
        ((9, 6), (4, 4), 1, [3, 3, 3], [3, 3]),
        ((512, 10), (512, 512), 1, [512], [10]),
        ((513, 1), (512, 1), 1, [257, 256], [1]),
        # Whole channels of 9 rows: two fit into 26 rows, and five make 2 + 2 + 1.
        ((45, 7), (26, 3), 9, [18, 18, 9], [3, 3, 1]),
        ((45, 7), (9, 1), 9, [9] * 5, [1] * 7),
    ],
)
def test_tiles(matrix, arrays, per_channel, rows, columns):
    tiling = cut(*matrix, *arrays, per_channel)
    assert [r.stop - r.start for r in tiling.row_ranges] == rows
    assert [c.stop - c.start for c in tiling.column_ranges] == columns
    assert (tiling.row_tiles, tiling.column_tiles) == (len(rows), len(columns))


def test_tiles_cover_every_matrix_with_the_fewest_arrays():
    for rows in range(1, 30):
        for most in range(1, 12):
            tiling = cut(rows, 1, most, 1)
            ranges = tiling.row_ranges
            assert [i for r in ranges for i in range(r.start, r.stop)] == list(range(rows))
            sizes = [r.stop - r.start for r in ranges]
            assert max(sizes) <= most
            assert len(sizes) == math.ceil(rows / most) == tiling.row_tiles
            assert len(set(sizes[:-1])) <= 1


@pytest.mark.parametrize("name", ["rows", "columns", "layout.rows", "layout.columns"])
def test_tiles_of_nothing(name):
    sizes = {"rows": 4, "columns": 4, "layout.rows": 4, "layout.columns": 4} | {name: 0}
    with pytest.raises(ValueError, match=f"^{name}: 0 is not allowed; must be at least 1$"):
        cut(*sizes.values())
