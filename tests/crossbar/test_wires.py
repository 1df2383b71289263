"""Wire resistance: against nodal equations in dense form, hand-solved arrays and monotony."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurosim_ep.crossbar import wire_blocks
from neurosim_ep.crossbar.wires import transfer_matrix, transposed_transfer_matrix

Matrix = NDArray[np.float64]
SHAPES = [(1, 1), (1, 7), (7, 1), (5, 6), (7, 6), (6, 13), (14, 5), (11, 12)]
# word line, bit line, driver, sense
RESISTANCES = [
    (1.0, 1.0, 0.0, 0.0),
    (1e-3, 1e-3, 0.0, 0.0),
    (100.0, 100.0, 0.0, 0.0),
    (1e-3, 100.0, 5.0, 0.0),
    (2.5, 0.3, 0.0, 200.0),
    (3e4, 7e3, 50.0, 80.0),
    (0.0, 3.0, 0.0, 0.0),
    (3.0, 0.0, 0.0, 0.0),
    (0.0, 3.0, 40.0, 0.0),
    (3.0, 0.0, 0.0, 40.0),
    (0.0, 0.0, 30.0, 0.0),
    (0.0, 0.0, 0.0, 30.0),
    (0.0, 0.0, 10.0, 20.0),
]


def devices(*shape: int, seed: int = 0, zeros: float = 0.2) -> Tensor:
    """Conductances over two decades, some of them zero."""
    generator = torch.Generator().manual_seed(seed)
    values = 10 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 6)
    return values * (torch.rand(shape, generator=generator) >= zeros)


def kirchhoff(
    conductance: Tensor, word: float, bit: float, left: float, bottom: float, read: str = "forward"
) -> Tensor:
    """Both laws of Kirchhoff for every node and every segment, in one dense matrix.

    Unknowns are the voltages of all nodes and the currents of all segments, so that a segment of
    0 ohm is an equation like any other. `read` says which ends have 1 V in turn; the others 0 V.
    """
    g: Matrix = conductance.numpy()
    rows, columns = g.shape
    cells = rows * columns
    on_word = np.arange(cells).reshape(rows, columns)
    on_bit = on_word + cells
    # Segments of word lines run from left to right, those of bit lines from top to bottom.
    through_word, through_bit = on_word + 2 * cells, on_word + 3 * cells
    matrix = np.zeros((4 * cells, 4 * cells))
    driven = np.zeros((4 * cells, rows + columns))
    for i, j in itertools.product(range(rows), range(columns)):
        w, b, to_right, down = on_word[i, j], on_bit[i, j], through_word[i, j], through_bit[i, j]
        # Current law at both nodes.
        matrix[w, to_right] += 1
        if j + 1 < columns:
            matrix[w, through_word[i, j + 1]] -= 1
        matrix[b, down] -= 1
        if i > 0:
            matrix[b, through_bit[i - 1, j]] += 1
        for node, sign in ((w, -1), (b, 1)):
            matrix[node, w] += sign * g[i, j]
            matrix[node, b] -= sign * g[i, j]
        # Ohm's law of the segment to the left of the word node and of that below the bit node.
        matrix[to_right, w] -= 1
        matrix[to_right, to_right] -= word + (left if j == 0 else 0)
        if j == 0:
            driven[to_right, i] -= 1
        else:
            matrix[to_right, on_word[i, j - 1]] += 1
        matrix[down, b] += 1
        matrix[down, down] -= bit + (bottom if i == rows - 1 else 0)
        if i == rows - 1:
            driven[down, rows + j] += 1
        else:
            matrix[down, on_bit[i + 1, j]] -= 1
    solution = np.linalg.solve(matrix, driven)
    if read == "forward":
        return torch.from_numpy(solution[through_bit[-1], :rows].T.copy())
    return torch.from_numpy(-solution[through_word[:, 0], rows:])


def relative(value: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest element."""
    return ((value - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("resistances", RESISTANCES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kirchhoffs_laws(shape: tuple[int, int], resistances: tuple[float, ...]) -> None:
    conductance = devices(*shape, zeros=0.2 if min(shape) > 1 else 0.0)
    expected = kirchhoff(conductance, *resistances)
    value = transfer_matrix(conductance, *resistances)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15 * expected.max().item())
    value = transfer_matrix(conductance, *resistances, method="sparse")
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-13 * expected.max().item())


@pytest.mark.parametrize("lines", [1, 2, 3, 5])
@pytest.mark.parametrize("resistances", RESISTANCES[3:6], ids=str)
def test_blocks_of_every_size_merge_to_the_same(
    monkeypatch: pytest.MonkeyPatch, resistances: tuple[float, ...], lines: int
) -> None:
    monkeypatch.setattr(wire_blocks, "_BLOCK_LINES", lines)
    for shape in ((12, 11), (12, 3), (2, 11)):
        conductance = devices(*shape)
        value, expected = (
            transfer_matrix(conductance, *resistances),
            kirchhoff(conductance, *resistances),
        )
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("resistances", RESISTANCES, ids=str)
def test_larger_arrays_against_sparse_nodal_equations(resistances: tuple[float, ...]) -> None:
    conductance = devices(53, 38)
    value = transfer_matrix(conductance, *resistances)
    expected = transfer_matrix(conductance, *resistances, method="sparse")
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9 * expected.max().item())


@pytest.mark.parametrize("word_line_ohm", [1e-3, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("bit_line_ohm", [1e-3, 1.0, 100.0])
def test_every_element_is_accurate_beside_wires_a_billion_times_better(
    word_line_ohm: float, bit_line_ohm: float
) -> None:
    """Elementwise, sneak paths through devices without conductance included."""
    conductance = devices(10, 9, zeros=0.5).clamp(max=1e-6)
    expected = kirchhoff(conductance, word_line_ohm, bit_line_ohm, 0.0, 0.0)
    value = transfer_matrix(conductance, word_line_ohm, bit_line_ohm)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0.0)


# --- By hand -------------------------------------------------------------------------------------


def test_one_device_is_in_series_with_everything() -> None:
    value = transfer_matrix(torch.tensor([[1e-4]], dtype=torch.float64), 3.0, 5.0, 70.0, 900.0)
    assert value.item() == pytest.approx(1 / (1e4 + 3 + 5 + 70 + 900), rel=1e-14)


def test_two_columns() -> None:
    """Both devices share driver and first segment; the second has one segment more."""
    word, bit, driver, sense = 300.0, 50.0, 2e3, 700.0
    shared = word + driver
    first, second = 1e4 + bit + sense, word + 2e4 + bit + sense
    determinant = (shared + first) * (shared + second) - shared**2
    expected = torch.tensor([[second, first]], dtype=torch.float64) / determinant
    conductance = torch.tensor([[1e-4, 5e-5]], dtype=torch.float64)
    value = transfer_matrix(conductance, word, bit, driver, sense)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0.0)


def test_two_rows() -> None:
    """Both devices share sensing and last segment; the upper one has one segment more."""
    word, bit, driver, sense = 300.0, 50.0, 2e3, 700.0
    shared = bit + sense
    upper, lower = word + driver + 1e4 + bit, word + driver + 2e4
    determinant = (shared + upper) * (shared + lower) - shared**2
    expected = torch.tensor([[lower], [upper]], dtype=torch.float64) / determinant
    conductance = torch.tensor([[1e-4], [5e-5]], dtype=torch.float64)
    value = transfer_matrix(conductance, word, bit, driver, sense)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0.0)


# --- Physics -------------------------------------------------------------------------------------


def test_ideal_wires_give_the_conductance_itself() -> None:
    conductance = devices(3, 20, 17)
    value = transfer_matrix(conductance, 0.0, 0.0)
    assert torch.equal(value, conductance)
    assert value.data_ptr() != conductance.data_ptr()


@pytest.mark.parametrize("which", range(4))
def test_the_limit_to_ideal_wires_is_linear(which: int) -> None:
    conductance = devices(20, 17)

    def loss(ohm: float) -> Tensor:
        resistances = [0.0] * 4
        resistances[which] = ohm
        return (conductance - transfer_matrix(conductance, *resistances)) / ohm

    assert relative(loss(1e-2), loss(1e-1)) < 1e-3
    resistances = [2.0, 3.0, 5.0, 7.0]
    resistances[which] = 0.0
    exact = transfer_matrix(conductance, *resistances)
    resistances[which] = 1e-9
    assert relative(transfer_matrix(conductance, *resistances), exact) < 1e-9


@pytest.mark.parametrize("which", range(4))
def test_the_total_current_falls_with_every_resistance(which: int) -> None:
    """With one voltage at all rows, the array is one resistor (Rayleigh's monotonicity law)."""
    conductance, totals = devices(30, 19), []
    for ohm in (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e4):
        resistances = [0.5, 0.25, 3.0, 4.0]
        resistances[which] = ohm
        totals.append(transfer_matrix(conductance, *resistances).sum().item())
    assert all(more > less > 0 for more, less in itertools.pairwise(totals))
    assert totals[0] < conductance.sum().item()


def test_devices_far_from_driver_and_sensing_lose_most() -> None:
    remains = transfer_matrix(torch.full((40, 30), 1e-5, dtype=torch.float64), 2.0, 2.0) / 1e-5
    assert (remains.diff(dim=-1) < 0).all()
    assert (remains.diff(dim=-2) > 0).all()


@pytest.mark.parametrize("termination_ohm", [0.0, 25.0, 400.0])
def test_both_reads_are_one_matrix_with_equal_terminations(termination_ohm: float) -> None:
    """Reciprocity, both directions solved independently."""
    conductance = devices(12, 9)
    ends = (2.0, 0.7, termination_ohm, termination_ohm)
    forward = kirchhoff(conductance, *ends)
    transposed = kirchhoff(conductance, *ends, read="transposed")
    assert relative(transposed, forward) < 1e-12
    assert relative(transfer_matrix(conductance, *ends), forward) < 1e-12
    assert relative(transposed_transfer_matrix(conductance, *ends), transposed) < 1e-12


def test_unequal_terminations_break_the_symmetry() -> None:
    """Where the driven ends have another resistance than the sensed ends, in both reads.

    Devices of 10 kOhm to 1 MOhm with drivers of 25 ohm; relative to the largest element.
    """
    conductance = devices(12, 9)
    expected = {
        25.0: 0.0,
        26.0: 1.34e-4,
        50.0: 3.33e-3,
        100.0: 9.84e-3,
        400.0: 0.0449,
        1600.0: 0.138,
    }
    for sense_ohm, broken in expected.items():
        forward = kirchhoff(conductance, 2.0, 0.7, 25.0, sense_ohm)
        # Now the sensing is on the left and the driver at the bottom.
        transposed = kirchhoff(conductance, 2.0, 0.7, sense_ohm, 25.0, read="transposed")
        assert relative(transposed, forward) == pytest.approx(broken, rel=0.02, abs=1e-12)
        value = transposed_transfer_matrix(conductance, 2.0, 0.7, 25.0, sense_ohm)
        assert relative(value, transposed) < 1e-12


# --- Tensors -------------------------------------------------------------------------------------


def test_a_batch_is_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    conductance = devices(2, 3, 10, 14)
    monkeypatch.setattr("neurosim_ep.crossbar.wires._DEVICES_AT_ONCE", 4 * 140)
    for method in ("blocks", "sparse"):
        value = transfer_matrix(conductance, 1.5, 0.5, 3.0, 2.0, method=method)
        for index in itertools.product(range(2), range(3)):
            one = transfer_matrix(conductance[index], 1.5, 0.5, 3.0, 2.0, method=method)
            torch.testing.assert_close(value[index], one, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_lower_precision_only_rounds_the_result(dtype: torch.dtype) -> None:
    conductance = (devices(2, 30, 20) * (1.0 if dtype == torch.float32 else 100.0)).to(dtype)
    value = transfer_matrix(conductance, 2.0, 1.0)
    assert value.dtype == dtype
    assert torch.equal(value, transfer_matrix(conductance.double(), 2.0, 1.0).to(dtype))


def test_strided_conductances() -> None:
    conductance = devices(12, 3, 10, 2).permute(3, 1, 0, 2)
    value = transfer_matrix(conductance, 2.0, 1.0)
    expected = transfer_matrix(conductance.contiguous(), 2.0, 1.0)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0.0)


def test_neither_argument_nor_graph_is_touched() -> None:
    conductance = devices(10, 8).requires_grad_()
    before = conductance.detach().clone()
    for method in ("blocks", "sparse"):
        assert not transfer_matrix(conductance, 2.0, 1.0, method=method).requires_grad
    assert torch.equal(conductance.detach(), before)


@pytest.mark.parametrize("shape", [(0, 5, 4), (0, 4), (4, 0)])
def test_no_devices(shape: tuple[int, ...]) -> None:
    assert transfer_matrix(torch.zeros(shape), 1.0, 1.0).shape == shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu() -> None:
    conductance = devices(3, 70, 45)
    value = transfer_matrix(conductance.cuda(), 2.0, 1.0, 5.0, 6.0)
    assert value.is_cuda
    expected = transfer_matrix(conductance, 2.0, 1.0, 5.0, 6.0)
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-12, atol=0.0)


# --- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("field", ["word_line_ohm", "bit_line_ohm", "driver_ohm", "sense_ohm"])
def test_resistances_that_are_not_allowed(field: str, value: float) -> None:
    resistances = {"word_line_ohm": 1.0, "bit_line_ohm": 1.0, field: value}
    message = f"{field}: {value} is not allowed; must be finite and at least 0"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        transfer_matrix(devices(3, 4), **resistances)


@pytest.mark.parametrize("field", ["bottom_driver_ohm", "left_sense_ohm"])
def test_terminations_of_the_transposed_read_keep_their_names(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: -2.0 is not allowed; must be"):
        transposed_transfer_matrix(devices(3, 4), 1.0, 1.0, **{field: -2.0})


@pytest.mark.parametrize(
    ("conductance", "message"),
    [
        (torch.tensor([[1.0, -2.0]]), "-2.0 is not allowed; must be finite and at least 0"),
        (torch.tensor([[1.0, torch.nan]]), "nan is not allowed; must be finite and at least 0"),
        (torch.tensor([[torch.inf, 1.0]]), "inf is not allowed; must be finite and at least 0"),
        (torch.ones(3), "shape (3,) is not allowed; must be (..., rows, cols)"),
        (torch.ones(3, 3, dtype=torch.int64), "torch.int64 is not allowed; must be floating"),
        (torch.ones(3, 3, dtype=torch.cfloat), "torch.complex64 is not allowed; must be floating"),
    ],
)
def test_conductances_that_are_not_allowed(conductance: Tensor, message: str) -> None:
    for resistance in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"^{re.escape('conductance: ' + message)}$"):
            transfer_matrix(conductance, resistance, resistance)


def test_a_method_that_is_not_allowed() -> None:
    with pytest.raises(ValueError, match=r"^method: 'dense' is not allowed; must be 'blocks'"):
        transfer_matrix(devices(3, 4), 1.0, 1.0, method="dense")  # type: ignore[arg-type]
