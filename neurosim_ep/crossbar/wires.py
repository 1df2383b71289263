"""Wire resistance: what an array reads when its word and bit lines are not ideal.

An array of linear devices stays linear, so that its short-circuit transfer conductances, computed
once per programming, describe every later read exactly.

The circuit: device (i, j) joins node (i, j) of word line i to node (i, j) of bit line j.
Neighbouring nodes of a line are one segment apart. Row i is driven at its left end, through the
driver and one segment; column j is held at 0 V at its bottom end, behind one segment and the
sensing resistance; the right and the top ends are open.

`neurosim_ep.crossbar.wire_blocks` solves it exactly in about n^3 operations for an n x n array,
`neurosim_ep.crossbar.nodal` is the reference.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from neurosim_ep.crossbar.wire_blocks import merged_transfer_matrix

_DEVICES_AT_ONCE = 2**17  # bounds the memory: about 2 kB per device


@torch.no_grad()
def transfer_matrix(
    conductance: Tensor,
    word_line_ohm: float,
    bit_line_ohm: float,
    driver_ohm: float = 0.0,
    sense_ohm: float = 0.0,
    *,
    method: Literal["blocks", "sparse"] = "blocks",
) -> Tensor:
    """Short-circuit transfer conductances of arrays with resistive wires.

    With voltages v_i at the rows' left ends, the current that leaves the bottom end of column j
    is ``sum_i v_i T_ij``. Computed in float64, whatever the dtype, and accurate to its rounding
    relative to the largest element; without a gradient.

    Args:
        conductance: of the devices, in siemens, (..., rows, cols); row 0 at the top.
        word_line_ohm: resistance of one segment of a word line; 0 is exactly ideal.
        bit_line_ohm: resistance of one segment of a bit line; 0 is exactly ideal.
        driver_ohm: resistance in series with every row's left end.
        sense_ohm: resistance in series with every column's bottom end.
        method: "blocks" merges blocks of the array; "sparse" is the reference, one sparse LU of
            all nodal equations per array, on the CPU.

    Returns:
        The transfer conductances in siemens, (..., rows, cols), in the dtype and on the device
        of `conductance`; with ideal wires a copy of it.

    Raises:
        ValueError: a conductance or a resistance is negative or not finite, or `conductance` is
            not a real floating tensor of at least 2 dimensions.
    """
    resistances = {
        "word_line_ohm": word_line_ohm,
        "bit_line_ohm": bit_line_ohm,
        "driver_ohm": driver_ohm,
        "sense_ohm": sense_ohm,
    }
    check_resistances(resistances)
    check_conductance(conductance)
    if method not in ("blocks", "sparse"):
        raise ValueError(f"method: {method!r} is not allowed; must be 'blocks' or 'sparse'")
    if conductance.numel() == 0 or not any(resistances.values()):
        return conductance.clone()
    rows, columns = conductance.shape[-2:]
    arrays = conductance.detach().reshape(-1, rows, columns)
    transfer = arrays.new_empty(arrays.shape)
    if method == "sparse":
        # Only the reference needs SciPy's solvers, which are slow to import.
        from neurosim_ep.crossbar.nodal import sparse_transfer_matrix

        for array, solved in zip(arrays.double().cpu().numpy(), transfer, strict=True):
            solved.copy_(torch.from_numpy(sparse_transfer_matrix(array, **resistances)))
    else:
        at_once = max(1, _DEVICES_AT_ONCE // (rows * columns))
        for start in range(0, len(arrays), at_once):
            some = slice(start, start + at_once)
            transfer[some] = merged_transfer_matrix(arrays[some].double(), **resistances)
    return transfer.view(conductance.shape)


def transposed_transfer_matrix(
    conductance: Tensor,
    word_line_ohm: float,
    bit_line_ohm: float,
    bottom_driver_ohm: float = 0.0,
    left_sense_ohm: float = 0.0,
) -> Tensor:
    """Transfer conductances of the transposed read: bottom ends driven, left ends sensed.

    With voltages v_j at the columns' bottom ends, the current that leaves the left end of row i
    is ``sum_j T_ij v_j``: a network of resistors is reciprocal, so this is the forward read's
    matrix with the terminations in exchanged roles, and the forward read's own matrix where the
    bottom ends have the same resistance in both reads, and the left ends too.

    Args:
        conductance: as `transfer_matrix`.
        word_line_ohm: as `transfer_matrix`.
        bit_line_ohm: as `transfer_matrix`.
        bottom_driver_ohm: resistance in series with every column's driven bottom end.
        left_sense_ohm: resistance in series with every row's sensed left end.

    Returns:
        The transfer conductances in siemens, (..., rows, cols).

    Raises:
        ValueError: as `transfer_matrix`.
    """
    check_resistances({"bottom_driver_ohm": bottom_driver_ohm, "left_sense_ohm": left_sense_ohm})
    return transfer_matrix(
        conductance,
        word_line_ohm,
        bit_line_ohm,
        driver_ohm=left_sense_ohm,
        sense_ohm=bottom_driver_ohm,
    )


def check_resistances(resistances: dict[str, float]) -> None:
    """Refuse resistances by name that are negative or not finite.

    Raises:
        ValueError: one line with the first one's name.
    """
    for name, value in resistances.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: {value} is not allowed; must be finite and at least 0")


def check_conductance(conductance: Tensor) -> None:
    """Refuse conductances that are not real, finite, at least 0 and at least a matrix.

    Raises:
        ValueError: one line.
    """
    if not conductance.is_floating_point():
        raise ValueError(f"conductance: {conductance.dtype} is not allowed; must be floating")
    if conductance.ndim < 2:
        shape = tuple(conductance.shape)
        raise ValueError(f"conductance: shape {shape} is not allowed; must be (..., rows, cols)")
    allowed = conductance.isfinite() & (conductance >= 0)
    if not allowed.all():
        value = conductance[~allowed][0].item()
        raise ValueError(f"conductance: {value} is not allowed; must be finite and at least 0")
