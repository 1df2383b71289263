"""The reference for wire resistance: all nodal equations of an array in one sparse LU."""

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

_SOLVED_AT_ONCE = 32  # dense right-hand sides of all nodes


def sparse_transfer_matrix(
    conductance: NDArray[np.float64],
    word_line_ohm: float,
    bit_line_ohm: float,
    driver_ohm: float,
    sense_ohm: float,
) -> NDArray[np.float64]:
    """Short-circuit transfer conductances (rows, cols) of one array (rows, cols), in siemens.

    The circuit and the arguments are those of `neurosim_ep.crossbar.wires.transfer_matrix`, which
    checks them. What no resistance separates is one node.
    """
    rows, columns = conductance.shape
    sources, outputs = np.arange(rows), np.arange(rows, rows + columns)
    word, word_chain = _line_nodes(sources, columns, word_line_ohm, driver_ohm, rows + columns)
    free = max(rows + columns, int(word.max()) + 1)
    # Bit lines run upwards from their outputs.
    bit, bit_chain = _line_nodes(outputs, rows, bit_line_ohm, sense_ohm, free)
    devices = (word.ravel(), bit.T[::-1].ravel(), conductance.ravel())
    one, other, siemens = (
        np.concatenate(parts) for parts in zip(devices, word_chain, bit_chain, strict=True)
    )
    count = max(free, int(bit.max()) + 1)
    laplacian = scipy.sparse.coo_array(
        (
            np.concatenate([siemens, siemens, -siemens, -siemens]),
            (np.concatenate([one, other, one, other]), np.concatenate([one, other, other, one])),
        ),
        shape=(count, count),
    ).tocsc()
    inner = laplacian[rows + columns :]
    # The equations are symmetric: the shorter side is driven.
    driven, sensed = (sources, outputs) if rows <= columns else (outputs, sources)
    solver = scipy.sparse.linalg.splu(
        inner[:, rows + columns :],
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    transfer: NDArray[np.float64] = -laplacian[:, driven][sensed].toarray()
    to_sensed = inner[:, sensed].T.tocsr()
    for start in range(0, len(driven), _SOLVED_AT_ONCE):
        some = slice(start, start + _SOLVED_AT_ONCE)
        transfer[:, some] += to_sensed @ solver.solve(inner[:, driven[some]].toarray())
    return transfer.T if rows <= columns else transfer


def _line_nodes(
    ends: NDArray[np.int64], length: int, segment_ohm: float, end_ohm: float, free: int
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Nodes (lines, length) of lines from their terminals `ends`, and the resistors between them.

    New nodes are numbered from `free`; resistors are pairs of nodes and their conductances.
    """
    lines = len(ends)
    if segment_ohm > 0:
        nodes = free + np.arange(lines * length).reshape(lines, length)
    elif end_ohm > 0:
        nodes = np.repeat(free + np.arange(lines)[:, None], length, axis=1)
    else:
        nodes = np.repeat(ends[:, None], length, axis=1)
    one, other, ohm = [], [], []
    if segment_ohm + end_ohm > 0:
        one, other, ohm = [ends], [nodes[:, 0]], [np.full(lines, segment_ohm + end_ohm)]
    if segment_ohm > 0:
        one.append(nodes[:, :-1].ravel())
        other.append(nodes[:, 1:].ravel())
        ohm.append(np.full(lines * (length - 1), segment_ohm))
    empty = np.empty(0, dtype=np.int64)
    resistors = (
        np.concatenate([empty, *one]),
        np.concatenate([empty, *other]),
        1.0 / np.concatenate([np.empty(0), *ohm]),
    )
    return nodes, resistors
