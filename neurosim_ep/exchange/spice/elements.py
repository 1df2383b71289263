"""The resistors of one array: devices, wire segments, and what stands at the lines' ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from neurosim_ep.exchange.spice.numbers import number


@dataclass(frozen=True)
class Resistances:
    """Of an array's lines and their ends, in ohm; 0 is exactly ideal.

    Attributes:
        word_line_ohm, bit_line_ohm: of one segment.
        left_ohm, bottom_ohm: in series with every row's left and every column's bottom end.
    """

    word_line_ohm: float = 0.0
    bit_line_ohm: float = 0.0
    left_ohm: float = 0.0
    bottom_ohm: float = 0.0


def array_resistors(
    conductance: Tensor,
    resistances: Resistances,
    left: Sequence[str],
    bottom: Sequence[str],
    prefix: str = "",
) -> list[str]:
    """Resistors of an array between the nodes of its rows' left and its columns' bottom ends.

    The circuit is that of `neurosim_ep.crossbar.wires`: device (i, j) joins ``w<i>_<j>`` to
    ``b<i>_<j>``; the left end's resistance and the first segment of row i are in series, and so are
    the last segment of column j and the bottom end's resistance.  What no resistance separates is
    one node: of lines without segments ``w<i>`` or ``b<j>``, and the end's own node where the end
    has no resistance either.  Devices without conductance are left out.

    Args:
        conductance: of the devices in siemens (rows, columns); row 0 at the top.
        resistances: of lines and ends.
        left, bottom: nodes of the ends.
        prefix: of all new names, where a netlist holds several arrays.
    """
    rows, columns = conductance.shape
    lines = []
    word_nodes = []
    for row, end in enumerate(left):
        nodes, chain = _line(
            f"{prefix}w{row}",
            [f"{prefix}w{row}_{column}" for column in range(columns)],
            [f"R{prefix}w{row}_{column}" for column in range(columns)],
            (resistances.word_line_ohm, resistances.left_ohm),
            (end, f"R{prefix}left{row}"),
        )
        word_nodes.append(nodes)
        lines += chain
    bit_nodes = []
    for column, end in enumerate(bottom):
        # Bit lines run upwards from their bottom ends.
        upwards = range(rows - 1, -1, -1)
        nodes, chain = _line(
            f"{prefix}b{column}",
            [f"{prefix}b{row}_{column}" for row in upwards],
            [f"R{prefix}b{row}_{column}" for row in upwards],
            (resistances.bit_line_ohm, resistances.bottom_ohm),
            (end, f"R{prefix}bottom{column}"),
        )
        bit_nodes.append(nodes[::-1])
        lines += chain
    for row, values in enumerate(conductance.double().tolist()):
        lines += [
            f"R{prefix}d{row}_{column} {word_nodes[row][column]} {bit_nodes[column][row]} "
            f"{number(1.0 / siemens)}"
            for column, siemens in enumerate(values)
            if siemens > 0.0
        ]
    return lines


def _line(
    name: str,
    nodes: list[str],
    segments: list[str],
    ohms: tuple[float, float],
    end: tuple[str, str],
) -> tuple[list[str], list[str]]:
    """Nodes of one line, nearest to its end first, and the resistors between them.

    Args:
        name: of the line, and of its node where it has no segments.
        nodes, segments: names to give where it has some.
        ohms: of one segment and of the end.
        end: node of the end, and name of its resistor.
    """
    segment_ohm, end_ohm = ohms
    last, end_resistor = end
    chain = []
    if end_ohm > 0.0:
        inside = f"{name}_end" if segment_ohm > 0.0 else name
        chain.append(f"{end_resistor} {last} {inside} {number(end_ohm)}")
        last = inside
    if segment_ohm == 0.0:
        return [last] * len(nodes), chain
    value = number(segment_ohm)
    for resistor, node in zip(segments, nodes, strict=True):
        chain.append(f"{resistor} {last} {node} {value}")
        last = node
    return nodes, chain
