"""Cost of learning from one image: what is pulsed, written and read for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from neurosim_ep.crossbar.cost.reads import (
    conductance_sum_siemens,
    copies,
    cost_table,
    side,
    unpriced,
)
from neurosim_ep.crossbar.cost.report import CostReport, CostRow, Span, UnitCost
from neurosim_ep.crossbar.cost_table import CostTable
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.network import CrossbarNetwork
from neurosim_ep.models import Geometry


@dataclass(frozen=True)
class Writes:
    """What one image does to one set of devices: sums over devices, means over images.

    Attributes:
        name: of the edge or bias row.
        matrix: the devices; their present conductances count.
        geometry: of the edge; a convolution's copies are all written.
        pulses: in-place pulses that devices got.
        half_selected: pulse times at which a device saw half the voltage, see `half_selected`.
        slots: pulse times one after another: the slots of all trains, positions and products.
        attempts: programming pulses of write-verify, each followed by a read of the device.
        row_reads, column_reads: reads with one line driven at the read voltage (transfers).
        macs: multiply-adds of gradients formed digitally.
        memory_bytes: traffic of the memory beside the arrays (gradients, accumulators).
    """

    name: str
    matrix: CrossbarMatrix
    geometry: Geometry
    pulses: float = 0.0
    half_selected: float = 0.0
    slots: float = 0.0
    attempts: float = 0.0
    row_reads: float = 0.0
    column_reads: float = 0.0
    macs: float = 0.0
    memory_bytes: float = 0.0


def half_selected(
    matrix: CrossbarMatrix, row_pulses: float, column_pulses: float, pulses: float
) -> float:
    """Pulse times at which one line of a device is pulsed and the other is not.

    Args:
        matrix: the devices; both arrays of a pair get a line's pulses.
        row_pulses, column_pulses: pulses on the lines of one array, summed over its lines.
        pulses: that devices got, where a row's and a column's pulse met.
    """
    tiling, arrays = matrix.tiling, matrix.devices.shape[0]
    touched = row_pulses * tiling.columns + column_pulses * tiling.rows
    return max(arrays * touched - 2.0 * pulses, 0.0)


def update_cost(network: CrossbarNetwork, writes: Sequence[Writes]) -> CostReport:
    """Energy and time of one image's part in learning.

    All edges are written at once; gradients are formed digitally one after another.

    Args:
        network: gives the array card.
        writes: of every edge and bias row that learns.

    Raises:
        ValueError: if the array card has no table of costs, or a number is negative.
    """
    card, cost = network.array_card, cost_table(network.array_card)
    rows: list[CostRow] = []
    longest = macs = 0.0
    for write in writes:
        counts = _counts(write)
        units, busy = _units(write, cost), 0.0
        for what, unit in units.items():
            count, held = counts[what], copies(cost, write.geometry)
            if not count:
                continue
            # Every copy of a convolution's arrays is written; one of them is read.
            written = what in ("pulse", "half-selected", "write attempt")
            rows.append(CostRow(write.name, what, count * (held if written else 1), unit))
            busy += count * unit.busy_time_s
        longest = max(longest, busy + write.slots * cost.pulse_time_s)
        macs += write.macs
    spans = [
        Span("update: arrays", 1.0, longest),
        Span("update: digital", macs, 1.0 / cost.digital_operations_per_s),
    ]
    spans = [span for span in spans if span.count * span.each_s > 0.0]
    verified = any(write.attempts or write.row_reads or write.column_reads for write in writes)
    return CostReport(tuple(rows), tuple(spans), unpriced(card) if verified else ())


def _counts(write: Writes) -> dict[str, float]:
    counts = {
        "pulse": write.pulses,
        "half-selected": write.half_selected,
        "write attempt": write.attempts,
        "row read": write.row_reads,
        "column read": write.column_reads,
        "multiply-add": write.macs,
        "memory byte": write.memory_bytes,
    }
    for name, value in (*counts.items(), ("slots", write.slots)):
        if not value >= 0.0:
            raise ValueError(f"{write.name}: {value} is not allowed for {name}; must be at least 0")
    return counts


def _units(write: Writes, cost: CostTable) -> dict[str, UnitCost]:
    """Cost of one of each; in-place pulses take time by their slots."""
    matrix = write.matrix
    mean_siemens = conductance_sum_siemens(matrix) / matrix.devices.conductance.numel()
    pulse = cost.pulse_voltage_volt**2 * mean_siemens * cost.pulse_time_s
    return {
        "pulse": UnitCost(write_energy_joule=pulse),
        "half-selected": UnitCost(write_energy_joule=0.25 * pulse),
        "write attempt": _attempt(matrix, mean_siemens, cost),
        "row read": _line_read(matrix, "forward", cost),
        "column read": _line_read(matrix, "transposed", cost),
        "multiply-add": UnitCost(
            digital_energy_joule=cost.multiply_energy_joule + cost.add_energy_joule,
            digital_operations=2.0,
        ),
        "memory byte": UnitCost(
            memory_energy_joule=cost.sram_energy_per_byte_joule, memory_bytes=1.0
        ),
    }


def _attempt(matrix: CrossbarMatrix, mean_siemens: float, cost: CostTable) -> UnitCost:
    """One programming pulse and the read that verifies it, as many at once as there are ADCs."""
    ends, tiling = side(matrix, "forward", False), matrix.tiling
    read_volt = matrix.array.drive.read_voltage_volt
    tiles = tiling.row_tiles * tiling.column_tiles
    at_once = tiles * -(-tiling.tile_columns // cost.lines_per_adc)
    time_s = cost.write_time_s + cost.read_time_s + cost.adc_time_s(ends.adc_bits)
    return UnitCost(
        write_energy_joule=cost.write_voltage_volt**2 * mean_siemens * cost.write_time_s,
        array_energy_joule=read_volt**2 * mean_siemens * cost.read_time_s,
        dac_energy_joule=cost.dac_energy_joule(ends.dac_bits),
        adc_energy_joule=cost.adc_energy_joule(ends.adc_bits),
        digital_energy_joule=cost.add_energy_joule,
        array_reads=1.0,
        dac_conversions=1.0,
        adc_conversions=1.0,
        digital_operations=1.0,
        busy_time_s=time_s / at_once,
    )


def _line_read(matrix: CrossbarMatrix, direction: str, cost: CostTable) -> UnitCost:
    """One line driven, all lines that cross it sensed and accumulated digitally."""
    ends, tiling = side(matrix, direction, False), matrix.tiling
    forward = direction == "forward"
    lines = tiling.rows if forward else matrix.devices.shape[2]
    driven = tiling.column_tiles if forward else tiling.row_tiles
    sensed = tiling.columns if forward else tiling.rows
    volt = matrix.array.drive.read_voltage_volt
    return UnitCost(
        array_energy_joule=volt**2 * conductance_sum_siemens(matrix) / lines * cost.read_time_s,
        dac_energy_joule=driven * cost.dac_energy_joule(ends.dac_bits),
        adc_energy_joule=sensed * cost.adc_energy_joule(ends.adc_bits),
        digital_energy_joule=sensed * cost.add_energy_joule,
        array_reads=1.0,
        dac_conversions=driven,
        adc_conversions=sensed,
        digital_operations=sensed,
        busy_time_s=ends.read_time_s(cost),
    )
