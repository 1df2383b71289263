"""What the wires leave of a matrix's conductances, tile by tile."""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from neurosim_ep.crossbar.card import Wires
from neurosim_ep.crossbar.mapping import PAIR
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.crossbar.wires import transfer_matrix, transposed_transfer_matrix

# Arrays solved at once: more cost memory and save nothing.
_ARRAYS_AT_ONCE = 16


def transfer_conductances(
    conductance: Tensor, tiling: Tiling, mapping: str, wires: Wires
) -> tuple[Tensor, Tensor]:
    """Short-circuit transfer conductances of all tiles, for forward and transposed reads.

    Args:
        conductance: of all devices (planes, rows, columns of devices), in siemens.
        tiling: of the matrix; every plane of a tile is one array, a reference column its last.
        mapping: see `neurosim_ep.crossbar.mapping`.
        wires: resistances of lines, drivers and sense amplifiers.

    Returns:
        Two tensors of the same shape, in siemens; one and the same where both terminations are
        equal, by reciprocity.
    """
    ohm = (wires.word_line_ohm, wires.bit_line_ohm)
    ends = (wires.driver_ohm, wires.sense_ohm)
    forward = _each_array(conductance, tiling, mapping, lambda g: transfer_matrix(g, *ohm, *ends))
    if wires.driver_ohm == wires.sense_ohm:
        return forward, forward
    backward = _each_array(
        conductance, tiling, mapping, lambda g: transposed_transfer_matrix(g, *ohm, *ends)
    )
    return forward, backward


def _each_array(
    conductance: Tensor, tiling: Tiling, mapping: str, solve: Callable[[Tensor], Tensor]
) -> Tensor:
    """Solve arrays of equal shape together and put the results back in their places."""
    result = torch.empty_like(conductance)
    arrays: dict[tuple[int, int], list[tuple[int, slice, Tensor]]] = defaultdict(list)
    for rows in tiling.row_ranges:
        for number, reach in enumerate(tiling.column_ranges):
            places = torch.arange(reach.start, reach.stop, device=conductance.device)
            if mapping != PAIR:
                reference = places.new_tensor([tiling.columns + number])
                places = torch.cat([places, reference])
            for plane in range(conductance.shape[0]):
                shape = (rows.stop - rows.start, len(places))
                arrays[shape].append((plane, rows, places))
    for places_of_shape in arrays.values():
        for start in range(0, len(places_of_shape), _ARRAYS_AT_ONCE):
            group = places_of_shape[start : start + _ARRAYS_AT_ONCE]
            solved = solve(torch.stack([conductance[p, r][:, c] for p, r, c in group]))
            for (plane, lines, columns), array in zip(group, solved, strict=True):
                result[plane, lines][:, columns] = array
    return result
