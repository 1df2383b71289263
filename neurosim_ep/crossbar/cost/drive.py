"""How hard settled states drive the arrays: mean squares of the driven voltages."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim_ep.crossbar.cost.reads import UNIFORM_MEAN_SQUARE
from neurosim_ep.crossbar.mapping import OFFSET
from neurosim_ep.crossbar.network import CrossbarNetwork
from neurosim_ep.crossbar.ports import Port
from neurosim_ep.crossbar.storage import CrossbarStorage
from neurosim_ep.models import Edge


@dataclass(frozen=True)
class Drive:
    """Mean squares of an edge's driven voltages, relative to the read voltage.

    Lines count in proportion to the conductance on them, so that the ohmic energy of a read is
    ``V^2 mean_square sum(g) t`` exactly.

    Attributes:
        forward, transposed: of full reads.
        forward_delta, transposed_delta: of delta reads.
    """

    forward: float = UNIFORM_MEAN_SQUARE
    transposed: float = UNIFORM_MEAN_SQUARE
    forward_delta: float = UNIFORM_MEAN_SQUARE
    transposed_delta: float = UNIFORM_MEAN_SQUARE


@torch.no_grad()
def measure_drive(
    network: CrossbarNetwork, states: Sequence[Tensor], nudged: Sequence[Tensor] | None = None
) -> list[Drive]:
    """Mean squares of what settled states drive, one per storage of ``network.storages``.

    Nothing is read: no generator moves.

    Args:
        network: its converters' ranges must be calibrated where the card asks for it.
        states: settled, one tensor (B, *shape) per layer.
        nudged: nudged states of the same images, phase after phase, for delta reads; those of an
            edge from the input are never read so.

    Raises:
        ValueError: if a range is not calibrated.
    """
    return [
        _of_edge(edge, edge.storage, states, nudged)
        for edge in network.edge_list()
        if isinstance(edge.storage, CrossbarStorage)
    ]


def _of_edge(
    edge: Edge, storage: CrossbarStorage, states: Sequence[Tensor], nudged: Sequence[Tensor] | None
) -> Drive:
    pre, fixed = states[edge.pre], 0 in (edge.pre, edge.post)
    found = {}
    if edge.post != 0:
        found["forward"] = _forward(storage, pre, "forward_full")
    if edge.pre != 0:
        columns = _columns(edge, storage, pre, states[edge.post])
        found["transposed"] = _transposed(storage, columns, "transposed_full")
        if nudged is not None and not fixed:
            moved = _columns(edge, storage, nudged[edge.pre], nudged[edge.post])
            change = _change(moved, columns)
            found["transposed_delta"] = _transposed(storage, change, "transposed_delta")
            change = _change(nudged[edge.pre], pre)
            found["forward_delta"] = _forward(storage, change, "forward_delta")
    return Drive(**found)


def _change(phases: Tensor, free: Tensor) -> Tensor:
    return (phases.reshape(-1, *free.shape) - free).flatten(0, 1)


def _columns(edge: Edge, storage: CrossbarStorage, pre: Tensor, post: Tensor) -> Tensor:
    """Post states where pooling would take them from (B, *linear_shape)."""
    geometry, winners = edge.geometry, None
    if geometry.pooled:
        _, winners = geometry.pool(geometry.linear(pre, storage.effective_weight()))
    return geometry.unpool(post, winners)


def _volts(storage: CrossbarStorage, name: str, driven: Tensor) -> Tensor:
    port = storage.ports[name]
    assert isinstance(port, Port)
    relative = driven / port.full_scale(driven)
    saturates = port.converters is not None and port.converters.dac_bits is not None
    return relative.clamp(-1.0, 1.0) if saturates else relative


def _forward(storage: CrossbarStorage, pre: Tensor, name: str) -> float:
    # Unrolling is linear: mean squares unroll to those of every row and position.
    squares = _volts(storage, name, pre).square().mean(0, keepdim=True)
    rows = storage.geometry.unroll(squares).mean((0, 1))
    return _weighted(rows, storage.matrix.devices.conductance.sum((0, 2)))


def _transposed(storage: CrossbarStorage, currents: Tensor, name: str) -> float:
    matrix = storage.matrix
    columns = storage.geometry.to_columns(currents)
    if storage.array.layout.scale == "column":
        columns = columns * (matrix.units / matrix.largest_unit)
    volts = _volts(storage, name, columns)
    if matrix.mapping == OFFSET:
        sums = [volts[..., reach].sum(-1, keepdim=True) for reach in matrix.tiling.column_ranges]
        volts = torch.cat([volts, *sums], dim=-1)
    squares = volts.square().mean((0, 1))
    return _weighted(squares, matrix.devices.conductance.sum((0, 1)))


def _weighted(squares: Tensor, conductance: Tensor) -> float:
    squares, conductance = squares.double(), conductance.double()
    return float((squares * conductance).sum() / conductance.sum())
