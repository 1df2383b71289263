"""Cost of settling one image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields

from neurosim_ep.crossbar.cost.clock import Clock
from neurosim_ep.crossbar.cost.counts import EdgeReads, settling_reads
from neurosim_ep.crossbar.cost.drive import Drive
from neurosim_ep.crossbar.cost.reads import (
    conductance_sum_siemens,
    cost_table,
    positions,
    read_cost,
    unpriced,
)
from neurosim_ep.crossbar.cost.report import CostReport, CostRow, UnitCost
from neurosim_ep.crossbar.cost_table import CostTable
from neurosim_ep.crossbar.network import CrossbarNetwork
from neurosim_ep.crossbar.storage import CrossbarStorage
from neurosim_ep.models import Edge, HopfieldNetwork, Identity

# Adding what does not change while settling, and clipping.
_UPDATE_OPERATIONS = 2
# Subtracting the target, and adding beta times the rest.
_NUDGE_OPERATIONS = 2


def settling_cost(
    network: CrossbarNetwork,
    *,
    free_iterations: float,
    nudged_iterations: float = 0.0,
    phases: int = 0,
    order: str = "coloured",
    reads: str = "full",
    drive: float | Sequence[Drive] | None = None,
) -> CostReport:
    """Energy and time of one image's free phase and nudged phases.

    Phases follow one another, and so do images.  In an iteration the groups of the order follow one
    another; within a group all edges are read at once, each by arrays of its own, and an edge that
    the group reads in both directions is read twice.

    Args:
        network: on arrays; their present conductances count.
        free_iterations, nudged_iterations, phases, order, reads: as in `settling_reads`.
        drive: mean squares of the driven voltages, one `Drive` per storage (`measure_drive`) or one
            number for all; 1/3 by default.

    Raises:
        ValueError: if an argument is out of range, or the array card has no table of costs.
    """
    counts = settling_reads(
        network,
        free_iterations=free_iterations,
        nudged_iterations=nudged_iterations,
        phases=phases,
        order=order,
        reads=reads,
    )
    card, cost = network.array_card, cost_table(network.array_card)
    drives = iter(_drives(network, drive))
    units: list[dict[str, UnitCost]] = []
    rows: list[CostRow] = []
    for edge, count in zip(network.edge_list(), counts, strict=True):
        each = _edge_units(edge, drives, cost)
        units.append(each)
        for name, unit in each.items():
            if times := getattr(count, name):
                where, what = f"{edge.pre} -> {edge.post}", f"{name.replace('_', ' ')} read"
                rows.append(CostRow(where, what, times, unit))
    rows += _neurons(network, cost, free_iterations, phases * nudged_iterations)
    clock = Clock(network, order, units, cost.neuron_time_s)
    spans = clock.spans(free_iterations, nudged_iterations, phases, reads)
    return CostReport(tuple(rows), tuple(spans), unpriced(card, reads if phases else "full"))


def _drives(network: CrossbarNetwork, drive: float | Sequence[Drive] | None) -> list[Drive]:
    count = len(network.storages)
    if drive is None:
        return [Drive()] * count
    if isinstance(drive, float | int):
        if not (math.isfinite(drive) and drive >= 0.0):
            raise ValueError(f"drive: {drive} is not allowed; must be finite and at least 0")
        return [Drive(drive, drive, drive, drive)] * count
    if len(drive) != count:
        raise ValueError(f"drive: {len(drive)} are not allowed; must be {count}, one per storage")
    return list(drive)


def _edge_units(edge: Edge, drives: Iterator[Drive], cost: CostTable) -> dict[str, UnitCost]:
    """One read of each kind, of the storage's next drive."""
    if not isinstance(edge.storage, CrossbarStorage):
        # An identity edge is read digitally: one addition per pair of units.
        assert isinstance(edge.geometry, Identity)
        pre, post = edge.geometry.pre_shape, edge.geometry.post_shape
        joined = float(min(pre[0], post[0]) * math.prod(post[1:]))
        unit = UnitCost(
            digital_energy_joule=joined * cost.add_energy_joule, digital_operations=joined
        )
        return dict.fromkeys((f.name for f in fields(EdgeReads)), unit)
    drive = next(drives)
    units = {}
    for direction in ("forward", "transposed"):
        for delta in (False, True):
            name = f"{direction}_delta" if delta else direction
            units[name] = read_cost(
                edge.storage, direction, delta=delta, mean_square=getattr(drive, name)
            )
    units["forward"] += _bias_row(edge.storage, cost)
    return units


def _bias_row(storage: CrossbarStorage, cost: CostTable) -> UnitCost:
    """Ohmic energy of a bias row on an edge's arrays, at full scale in every position's read."""
    row = storage.bias_row
    if row is None:
        return UnitCost()
    volt = storage.array.drive.read_voltage_volt
    one = volt**2 * conductance_sum_siemens(row.matrix) * cost.read_time_s
    return UnitCost(array_energy_joule=positions(storage.geometry) * one)


def _neurons(
    network: HopfieldNetwork, cost: CostTable, free: float, nudged: float
) -> list[CostRow]:
    """Updates of all free layers, and the cost's pull on the output."""
    rows = []
    for layer in network.free_layers:
        units = math.prod(network.layers[layer].shape)
        update = UnitCost(
            digital_energy_joule=_UPDATE_OPERATIONS * units * cost.add_energy_joule,
            memory_energy_joule=units * cost.state_bytes * cost.sram_energy_per_byte_joule,
            digital_operations=_UPDATE_OPERATIONS * units,
            memory_bytes=units * cost.state_bytes,
            busy_time_s=cost.neuron_time_s,
        )
        rows.append(CostRow(f"layer {layer}", "update", free + nudged, update))
    if nudged:
        operations = _NUDGE_OPERATIONS * network.num_outputs
        pull = UnitCost(
            digital_energy_joule=operations * cost.add_energy_joule, digital_operations=operations
        )
        rows.append(CostRow(f"layer {network.output}", "nudge", nudged, pull))
    return rows
