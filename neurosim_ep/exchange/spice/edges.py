"""The arrays of a network's circuit, driven by its states, with their currents in its membranes."""

from torch import Tensor

from neurosim_ep.crossbar import CrossbarMatrix, CrossbarStorage
from neurosim_ep.exchange.spice.circuit import Circuit
from neurosim_ep.exchange.spice.elements import Resistances, array_resistors
from neurosim_ep.exchange.spice.numbers import comment, number
from neurosim_ep.exchange.spice.tiles import TileArray, tile_arrays, wire_ohms
from neurosim_ep.models import Edge


def edge_arrays(edge_number: int, edge: Edge, circuit: Circuit) -> list[str]:
    """All arrays of an edge, for every direction in which currents reach a layer that settles."""
    assert isinstance(edge.storage, CrossbarStorage)
    matrix, name = edge.storage.matrix, f"e{edge_number}"
    both = edge.pre != 0
    lines = comment("", f"Edge {edge_number}: layer {edge.pre} -> {edge.post}")
    units = (matrix.units * matrix.compensation).double()
    drive = [f"s{edge.post}_{k}" for k in range(len(units))]
    references: list[str] = []
    if both:
        drive, references, more = _column_drive(name, matrix, units, drive)
        lines += more
    for array in tile_arrays(matrix):
        sign = -1.0 if array.plane == "minus" else 1.0
        gains = sign * units[array.columns] / circuit.neuron_ohm
        if edge.post != 0:
            lines += _forward_array(name, array, matrix, edge, gains.tolist())
        if both:
            gain = sign * units.max().item() / circuit.neuron_ohm
            nodes = drive[array.columns] + references[array.column_tile :][:1]
            lines += _transposed_array(name, array, matrix, edge, nodes, gain)
    return lines


def _forward_array(
    name: str, array: TileArray, matrix: CrossbarMatrix, edge: Edge, gains: list[float]
) -> list[str]:
    """One array driven by the pre states; mirrors bring its columns' currents to the membranes."""
    word, bit, driver, sense = wire_ohms(matrix.array.wires)
    prefix = f"{name}_{array.name.replace('-', '_')}_f_"
    bottom = [f"{prefix}bottom{k}" for k in range(array.conductance.shape[1])]
    left = [f"s{edge.pre}_{row}" for row in range(array.rows.start, array.rows.stop)]
    lines = comment(f"{array.name}, forward")
    lines += [f"V{prefix}sense{k} {node} 0 DC 0" for k, node in enumerate(bottom)]
    lines += array_resistors(
        array.conductance, Resistances(word, bit, driver, sense), left, bottom, prefix
    )
    for k, gain in enumerate(gains):
        unit = f"u{edge.post}_{array.columns.start + k}"
        lines.append(f"F{prefix}{k} 0 {unit} V{prefix}sense{k} {number(gain)}")
        if array.reference:
            last = f"V{prefix}sense{len(gains)}"
            lines.append(f"F{prefix}ref{k} 0 {unit} {last} {number(-gain)}")
    return lines


def _transposed_array(
    name: str, array: TileArray, matrix: CrossbarMatrix, edge: Edge, drive: list[str], gain: float
) -> list[str]:
    """The array's other copy, driven by the post states and sensed at its rows."""
    word, bit, driver, sense = wire_ohms(matrix.array.wires)
    prefix = f"{name}_{array.name.replace('-', '_')}_t_"
    left = [f"{prefix}left{k}" for k in range(array.conductance.shape[0])]
    lines = comment(f"{array.name}, transposed")
    lines += [f"V{prefix}sense{k} {node} 0 DC 0" for k, node in enumerate(left)]
    lines += array_resistors(
        array.conductance, Resistances(word, bit, sense, driver), left, drive, prefix
    )
    lines += [
        f"F{prefix}{k} 0 u{edge.pre}_{array.rows.start + k} V{prefix}sense{k} {number(gain)}"
        for k in range(len(left))
    ]
    return lines


def _column_drive(
    name: str, matrix: CrossbarMatrix, units: Tensor, states: list[str]
) -> tuple[list[str], list[str], list[str]]:
    """What drives columns and reference columns in a transposed read, and the amplifiers for it.

    Columns of their own scale are driven in proportion to it, a reference column by minus the sum
    of its tile's columns.
    """
    lines, drive = [], states
    ratios = (units / units.max()).tolist()
    if any(ratio != 1.0 for ratio in ratios):
        drive = [f"{name}_x{k}" for k in range(len(states))]
        for k, ratio in enumerate(ratios):
            lines.append(f"E{name}_x{k} {drive[k]} 0 {states[k]} 0 {number(ratio)}")
    references = []
    if next(tile_arrays(matrix)).reference:
        for tile, columns in enumerate(matrix.tiling.column_ranges):
            total, reference = f"{name}_sum{tile}", f"{name}_ref{tile}"
            references.append(reference)
            lines += [f"G{total}_{k} 0 {total} {node} 0 1" for k, node in enumerate(drive[columns])]
            lines += [f"R{total} {total} 0 1", f"E{reference} {reference} 0 {total} 0 -1"]
    return drive, references, lines
