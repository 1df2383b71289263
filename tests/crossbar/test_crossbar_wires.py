"""Wires in an array: effective weights, reciprocity, refreshing, and the noise that they pass."""

import pytest
import torch

from neurosim_ep.models import Convolution, Dense

DENSE = Dense((7,), (5,))
CONVOLUTION = Convolution((3, 4, 4), 5, kernel=2, stride=1)
EQUAL = {"word_line_ohm": 30.0, "bit_line_ohm": 20.0, "driver_ohm": 50.0, "sense_ohm": 50.0}
UNEQUAL = EQUAL | {"sense_ohm": 400.0}
MAPPINGS = ("differential_pair", "offset_column")


def solve(g, wires, direction):
    """Transfer conductances (..., rows, columns) of arrays by Kirchhoff's current law.

    Node (i, j) of word line i and of bit line j are joined by a device; a row's left end and a
    column's bottom end have a terminal each, behind the termination and one segment.
    """
    rows, columns = g.shape[-2:]
    cells = rows * columns
    left, bottom = wires["driver_ohm"], wires["sense_ohm"]
    if direction == "transposed":
        left, bottom = bottom, left
    number = torch.arange(cells).view(rows, columns)
    terminals = torch.arange(rows + columns) + 2 * cells
    word, bit = number, number + cells
    lines = [
        (word[:, :-1], word[:, 1:], wires["word_line_ohm"]),
        (bit[:-1], bit[1:], wires["bit_line_ohm"]),
        (terminals[:rows], word[:, 0], left + wires["word_line_ohm"]),
        (terminals[rows:], bit[-1], bottom + wires["bit_line_ohm"]),
    ]
    nodes = torch.eye(2 * cells + rows + columns, dtype=torch.float64)

    def between(one, other):
        return nodes[one.reshape(-1)] - nodes[other.reshape(-1)]

    device = between(word, bit)
    laplacian = device.T @ (g.reshape(*g.shape[:-2], cells, 1) * device)
    for one, other, ohm in lines:
        laplacian = laplacian + between(one, other).T @ between(one, other) / ohm
    inner, outer = slice(0, 2 * cells), slice(2 * cells, None)
    # The terminals' currents per volt, all inner nodes eliminated.
    to_inner = torch.linalg.solve(laplacian[..., inner, inner], laplacian[..., inner, outer])
    seen = laplacian[..., outer, inner] @ to_inner - laplacian[..., outer, outer]
    forward = seen[..., rows:, :rows].mT
    return forward if direction == "forward" else seen[..., :rows, rows:]


def expected(storage, wires, direction, conductance=None):
    """Weights (..., rows, columns) that a read sees: array by array, the sign made afterwards."""
    matrix = storage.matrix
    g = matrix.devices.conductance if conductance is None else conductance
    pair, tiling = g.shape[-3] == 2, matrix.tiling
    weights = g.new_empty(*g.shape[:-3], tiling.rows, tiling.columns)
    for rows in tiling.row_ranges:
        for number, columns in enumerate(tiling.column_ranges):
            places = list(range(columns.start, columns.stop))
            places += [] if pair else [tiling.columns + number]
            seen = solve(g[..., rows, :][..., places], wires, direction)
            if pair:
                weights[..., rows, columns] = seen[..., 0, :, :] - seen[..., 1, :, :]
            else:
                weights[..., rows, columns] = seen[..., 0, :, :-1] - seen[..., 0, :, -1:]
    return weights * matrix.units


@pytest.mark.parametrize("direction", ["forward", "transposed"])
@pytest.mark.parametrize("wires", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("geometry", [DENSE, CONVOLUTION], ids=["dense", "convolution"])
def test_the_effective_weight(geometry, mapping, wires, direction, device, array, storage):
    # Two sizes of arrays each way; a lower bound of zero, where only currents by detours remain.
    card = array(4, 3, mapping, "column", wires=wires)
    arrays = storage(geometry, device(0.0), card)
    assert len({(r.stop - r.start) for r in arrays.matrix.tiling.column_ranges}) == 2
    wanted = expected(arrays, wires, direction)
    wanted = geometry.from_matrix(wanted)
    found = arrays.effective_weight(direction)
    assert float((found - wanted).abs().max()) < 1e-12 * float(wanted.abs().max())
    lost = (arrays.weight.detach() - found).abs().max() / wanted.abs().max()
    assert float(lost) > 0.02


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("geometry", [DENSE, CONVOLUTION], ids=["dense", "convolution"])
def test_reads_are_reciprocal_with_equal_terminations(geometry, mapping, device, array, storage):
    def asymmetry(wires):
        arrays = storage(geometry, device(), array(4, 3, mapping, wires=wires))
        generator = torch.Generator().manual_seed(2)
        pre = torch.rand((4, *geometry.pre_shape), generator=generator, dtype=torch.float64)
        post = torch.rand((4, *geometry.linear_shape), generator=generator, dtype=torch.float64)
        forward = (arrays.forward_read(pre) * post).sum()
        backward = (arrays.transposed_read(post) * pre).sum()
        size = arrays.forward_read(pre).norm() * post.norm()
        return float((forward - backward).abs() / size)

    assert asymmetry(EQUAL) < 1e-14
    assert asymmetry(UNEQUAL) > 1e-4
    # The worse the terminations match, the worse the reads do.
    assert asymmetry(EQUAL | {"sense_ohm": 4000.0}) > 2.0 * asymmetry(UNEQUAL)


def test_reciprocity_is_broken_by_so_much(device, array, storage):
    arrays = storage(DENSE, device(), array(8, 8, wires=UNEQUAL))
    forward, backward = (arrays.effective_weight(d) for d in ("forward", "transposed"))
    relative = float((forward - backward).norm() / forward.norm())
    assert 0.01 < relative < 0.1


@pytest.mark.parametrize("wires", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("interval", [1, 2, 3])
def test_wires_are_solved_at_every_nth_programming(interval, wires, device, array, storage):
    card = array(4, 3, wires=wires | {"refresh_interval_programmings": interval})
    arrays = storage(DENSE, device(0.0), card)
    generator = torch.Generator().manual_seed(5)
    for count in range(2 * interval + 1):
        for direction in ("forward", "transposed"):
            wanted = expected(arrays, wires, direction)
            off = (arrays.effective_weight(direction) - wanted).abs() / wanted.abs().max()
            if count % interval == 0:
                assert float(off.max()) < 1e-12
            else:
                # Much less than without any wires, whose weights are off by 8 % and more.
                assert 1e-6 < float(off.norm()) < 0.05
        with torch.no_grad():
            shape = arrays.weight.shape
            change = torch.randn(shape, generator=generator, dtype=torch.float64)
            arrays.weight.add_(change, alpha=0.2)
        arrays.program(rescale=False)


def test_time_solves_the_wires_again(device, array, storage):
    wires = EQUAL | {"refresh_interval_programmings": 10}
    drift = {"model": "retention", "rest_siemens": 0.0, "time_constant_s": 10.0}
    arrays = storage(DENSE, device(drift=drift), array(4, 3, wires=wires))
    arrays.program()
    arrays.advance_time(20.0)
    for direction in ("forward", "transposed"):
        wanted = expected(arrays, EQUAL, direction)
        off = (arrays.effective_weight(direction) - wanted).abs().max() / wanted.abs().max()
        assert float(off) < 1e-12


def test_wires_of_a_tile_do_not_feel_the_other_tiles(device, array, storage):
    card = array(4, 3, wires=EQUAL)
    weight = torch.linspace(-1.0, 1.0, 35, dtype=torch.float64).view(7, 5)
    first = storage(DENSE, device(), card, weight=weight).effective_weight()
    changed = weight.clone()
    changed[:4, :3] *= -0.5
    second = storage(DENSE, device(), card, weight=changed).effective_weight()
    assert torch.equal(first[4:], second[4:])
    assert torch.equal(first[:4, 3:], second[:4, 3:])
    assert not torch.equal(first[:4, :3], second[:4, :3])


# Noise counts as passing the wires by the share that its device's current does when its row or
# column is driven alone.  What the others' currents take from the device's voltage is left out: the
# variance is too large by up to twice the share of the weights that the wires take.
@pytest.mark.parametrize("direction", ["forward", "transposed"])
@pytest.mark.parametrize(("ohm", "least_lost"), [(5.0, 0.002), (60.0, 0.03), (300.0, 0.1)])
def test_noise_through_wires(ohm, least_lost, direction, device, array, storage):
    wires = dict.fromkeys(EQUAL, ohm)
    terms = [{"model": "lumped", "sigma_relative": 0.05}]
    arrays = storage(Dense((4,), (3,)), device(read_noise=terms), array(8, 8, wires=wires))
    driven = torch.linspace(0.4, 2.0, 4 if direction == "forward" else 3, dtype=torch.float64)
    reads = arrays.forward_read if direction == "forward" else arrays.transposed_read
    found = reads(driven.expand(100_000, -1))

    # Every draw disturbs all devices and solves the whole circuit anew.
    g = arrays.matrix.devices.conductance
    generator = torch.Generator().manual_seed(7)
    draw = torch.randn((12_000, *g.shape), generator=generator, dtype=torch.float64)
    weights = expected(arrays, wires, direction, g * (1.0 + 0.05 * draw))
    wanted = driven @ weights if direction == "forward" else weights @ driven
    shift = (found.mean(0) - wanted.mean(0)) / wanted.std(0)
    assert float(shift.abs().max()) < 0.05
    off = float((found.var(0) / wanted.var(0)).mean()) - 1.0
    lost = 1.0 - float(arrays.effective_weight().norm() / arrays.weight.detach().norm())
    assert lost > least_lost
    assert -0.015 < off < 0.015 + 2.0 * lost
