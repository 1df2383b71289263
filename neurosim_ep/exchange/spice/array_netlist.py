"""One array as a netlist: driven at one side, sensed at the other, currents printed."""

from typing import Literal

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar.wires import check_conductance, check_resistances
from neurosim_ep.exchange.spice.elements import Resistances, array_resistors
from neurosim_ep.exchange.spice.numbers import comment, control, number, print_commands

Direction = Literal["forward", "transposed"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "transposed")

DRIVE, SENSE = "vdrive", "vsense"
"""How sources are named: ``vdrive3`` drives line 3, ``i(vsense7)`` is what line 7 gives."""


@torch.no_grad()
def array_netlist(
    conductance: Tensor,
    word_line_ohm: float = 0.0,
    bit_line_ohm: float = 0.0,
    driver_ohm: float = 0.0,
    sense_ohm: float = 0.0,
    *,
    direction: Direction = "forward",
    voltages_volt: Tensor | None = None,
    title: str = "array",
) -> str:
    """Netlist of one array that prints the currents of its sensed lines.

    It runs with ``ngspice -b FILE``.  The currents are those of
    `neurosim_ep.crossbar.wires.transfer_matrix`, or of `transposed_transfer_matrix` with the driver
    at the bottom and the sensing on the left, times the voltages.

    Args:
        conductance: of the devices in siemens (rows, columns); row 0 at the top; devices of 0
            siemens are left out.
        word_line_ohm, bit_line_ohm: of one segment; where 0, a line is one node.
        driver_ohm: in series with every driven end; left ends in a forward read, bottom ends in a
            transposed one.
        sense_ohm: in series with every sensed end.
        direction: ``forward`` drives rows and senses columns, ``transposed`` the reverse.
        voltages_volt: of the driven lines (lines,), or several reads one after another (reads,
            lines); 1 V everywhere by default.
        title: first line of the netlist.

    Raises:
        ValueError: if a value is negative or not finite, or a shape does not fit.
    """
    check_conductance(conductance)
    check_resistances(
        {
            "word_line_ohm": word_line_ohm,
            "bit_line_ohm": bit_line_ohm,
            "driver_ohm": driver_ohm,
            "sense_ohm": sense_ohm,
        }
    )
    if conductance.ndim != 2 or conductance.numel() == 0:
        shape = tuple(conductance.shape)
        raise ValueError(f"conductance: shape {shape} is not allowed; must be (rows, columns)")
    if direction not in DIRECTIONS:
        raise ValueError(problem("direction", direction, "forward or transposed"))
    rows, columns = conductance.shape
    forward = direction == "forward"
    driven, sensed = (rows, columns) if forward else (columns, rows)
    reads = _reads(voltages_volt, driven)
    left = [f"left{row}" for row in range(rows)]
    bottom = [f"bottom{column}" for column in range(columns)]
    ends = (driver_ohm, sense_ohm) if forward else (sense_ohm, driver_ohm)
    resistances = Resistances(word_line_ohm, bit_line_ohm, *ends)
    drive_nodes, sense_nodes = (left, bottom) if forward else (bottom, left)
    lines = [
        *_header(title, conductance, resistances, direction, len(reads)),
        *_sources(reads, drive_nodes),
        *(f"{SENSE}{k} {node} 0 DC 0" for k, node in enumerate(sense_nodes)),
        *array_resistors(conductance, resistances, left, bottom),
        *control(_commands(len(reads), sensed)),
    ]
    return "\n".join(lines) + "\n"


def _reads(voltages_volt: Tensor | None, driven: int) -> list[list[float]]:
    if voltages_volt is None:
        return [[1.0] * driven]
    shape = tuple(voltages_volt.shape)
    if len(shape) not in (1, 2) or shape[-1] != driven or voltages_volt.numel() == 0:
        raise ValueError(
            f"voltages_volt: shape {shape} is not allowed; must be ({driven},) or (reads, {driven})"
        )
    if not bool(voltages_volt.isfinite().all()):
        raise ValueError("voltages_volt: NaN or infinity is not allowed; must be finite")
    reads: list[list[float]] = voltages_volt.double().reshape(-1, driven).tolist()
    return reads


def _sources(reads: list[list[float]], nodes: list[str]) -> list[str]:
    """Voltage sources of the driven lines; of several reads, tables that ``v(read)`` looks up."""
    if len(reads) == 1:
        return [
            f"{DRIVE}{k} {node} 0 DC {number(volt)}"
            for k, (node, volt) in enumerate(zip(nodes, reads[0], strict=True))
        ]
    lines = ["vread read 0 DC 0"]
    for k, node in enumerate(nodes):
        table = ", ".join(f"{read}, {number(volts[k])}" for read, volts in enumerate(reads))
        lines.append(f"b{DRIVE}{k} {node} 0 V=pwl(v(read), {table})")
    return lines


def _commands(reads: int, sensed: int) -> list[str]:
    """Solve and print every read.  In a sweep, ngspice orders its equations only once."""
    currents = [f"i({SENSE}{k})" for k in range(sensed)]
    if reads == 1:
        return ["op", *print_commands(currents)]
    commands = [f"dc vread 0 {reads - 1} 1"]
    for read in range(reads):
        commands += print_commands(f"{current}[{read}]" for current in currents)
    return commands


def _header(
    title: str, conductance: Tensor, resistances: Resistances, direction: str, reads: int
) -> list[str]:
    rows, columns = conductance.shape
    forward = direction == "forward"
    driven, sensed = ("row", "column") if forward else ("column", "row")
    drive_end, sense_end = ("left", "bottom") if forward else ("bottom", "left")
    at, off = resistances, int((conductance == 0).sum())
    segments = (
        ("RwI_J", "segments of word line I", at.word_line_ohm),
        ("RbI_J", "segments of bit line J", at.bit_line_ohm),
        ("RleftI", "at the left end of row I", at.left_ohm),
        ("RbottomJ", "at the bottom end of column J", at.bottom_ohm),
    )
    names = {
        f"{DRIVE}K": f"voltage source of {driven} K",
        f"i({SENSE}K)": f"current that leaves {sensed} K: what the read gives",
        "RdI_J": "device in row I, column J (1/conductance)"
        + (f"; {off} of 0 S left out" * (off > 0)),
        **{name: f"{ohm:g} ohm, {what}" for name, what, ohm in segments if ohm > 0.0},
    }
    if at.word_line_ohm > 0.0 or at.bit_line_ohm > 0.0:
        names["wI_J, bI_J"] = "nodes of word and bit line at device I, J; row 0 is at the top"
    return comment(
        " ".join(title.split()),
        f"{rows} x {columns} devices, {direction} read: {driven}s driven at the {drive_end} ends,",
        f"{sensed}s held at 0 V at the {sense_end} ends.  Volt, ampere, ohm.",
        "",
        *(f"  {name:<14} {what}" for name, what in names.items()),
        "",
        *((f"{reads} reads one after another; v(read) counts them from 0.",) if reads > 1 else ()),
        "Where there is no resistance, nodes are joined.  Run: ngspice -b FILE",
        "",
    )
