"""How many arrays a network takes and how full they are, from its shapes alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neurosim_ep.crossbar.card import ArrayCard
from neurosim_ep.crossbar.mapping import OFFSET, device_shape
from neurosim_ep.crossbar.tiles import edge_tiling
from neurosim_ep.models import Convolution, Edge, Geometry, HopfieldNetwork


@dataclass(frozen=True)
class EdgeTiles:
    """How one edge's weights sit on arrays.

    Attributes:
        where: the edge, such as ``0 -> 1``.
        kind: of the connection, such as ``convolution 3x3``.
        rows, columns: of its weight matrix: the fan-in and the outputs.
        row_tiles, column_tiles: how many tiles it is cut into, each way.
        arrays: physical crossbars; two per tile with differential pairs.
        devices: in use, weights and reference columns.
        crossings: of all these arrays.
        reads_per_image: array reads that one forward or transposed read of an image takes.
    """

    where: str
    kind: str
    rows: int
    columns: int
    row_tiles: int
    column_tiles: int
    arrays: int
    devices: int
    crossings: int
    reads_per_image: int

    @property
    def utilisation_fraction(self) -> float:
        """Share of the crossings that hold a device in use."""
        return self.devices / self.crossings


def edge_tiles(network: HopfieldNetwork, array: ArrayCard) -> list[EdgeTiles]:
    """How the weights of every edge that has some would sit on arrays.

    Nothing is mapped: the answer follows from shapes, and agrees with the report of
    `map_to_crossbar` without bias rows.

    Args:
        network: any network, exact or on arrays.
        array: card of the arrays.

    Raises:
        ValueError: if an array has fewer rows than one input channel of a convolution.
    """
    edges = [edge for edge in network.edge_list() if edge.geometry.weight_shape is not None]
    return [_of_edge(edge, array) for edge in edges]


def tile_lines(tiles: Sequence[EdgeTiles]) -> list[str]:
    """A table to print: one line per edge, and the sum."""
    width = max((len(each.kind) for each in tiles), default=4)
    heading = f"{'edge':<8} {'kind':<{width}} {'matrix':>12} {'tiles':>8} {'arrays':>7} "
    found = [heading + f"{'used':>7} {'reads per image':>16}"]
    for each in tiles:
        matrix = f"{each.rows} x {each.columns}"
        cut = f"{each.row_tiles} x {each.column_tiles}"
        found.append(
            f"{each.where:<8} {each.kind:<{width}} {matrix:>12} {cut:>8} {each.arrays:>7} "
            f"{100 * each.utilisation_fraction:>5.1f} % {each.reads_per_image:>16}"
        )
    arrays, devices = sum(each.arrays for each in tiles), sum(each.devices for each in tiles)
    used = 100 * devices / max(sum(each.crossings for each in tiles), 1)
    found.append(f"all: {arrays} arrays, {used:.1f} % used, {devices:,} devices")
    return found


def _of_edge(edge: Edge, array: ArrayCard) -> EdgeTiles:
    layout, geometry = array.layout, edge.geometry
    tiling = edge_tiling(geometry, layout)
    planes, rows, columns = device_shape(tiling, layout.mapping)
    arrays = planes * tiling.row_tiles * tiling.column_tiles
    return EdgeTiles(
        f"{edge.pre} -> {edge.post}",
        _kind(geometry),
        tiling.rows,
        tiling.columns,
        tiling.row_tiles,
        tiling.column_tiles,
        arrays,
        planes * rows * columns,
        arrays * layout.rows * (layout.columns + (layout.mapping == OFFSET)),
        math.prod(geometry.linear_shape[1:]) if isinstance(geometry, Convolution) else 1,
    )


def _kind(geometry: Geometry) -> str:
    if not isinstance(geometry, Convolution):
        return "dense"
    stride = f", stride {geometry.stride}" if geometry.stride > 1 else ""
    pool = ", pooled" if geometry.pooled else ""
    return f"convolution {geometry.kernel}x{geometry.kernel}{stride}{pool}"
