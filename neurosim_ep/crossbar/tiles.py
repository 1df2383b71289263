"""How a weight matrix is cut into arrays."""

import math
from dataclasses import dataclass

from neurosim_ep.crossbar.card import Layout
from neurosim_ep.models import Convolution, Geometry


@dataclass(frozen=True)
class Tiling:
    """A matrix (rows, columns) cut into the fewest tiles of at most the arrays' size.

    All tiles but the last of a direction have the same size.

    Attributes:
        rows, columns: of the matrix.
        tile_rows, tile_columns: of all tiles but the last.
    """

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int

    @property
    def row_ranges(self) -> list[slice]:
        """Rows of every row of tiles."""
        return _ranges(self.rows, self.tile_rows)

    @property
    def column_ranges(self) -> list[slice]:
        """Columns of every column of tiles."""
        return _ranges(self.columns, self.tile_columns)

    @property
    def row_tiles(self) -> int:
        """How many tiles stand above one another."""
        return -(-self.rows // self.tile_rows)

    @property
    def column_tiles(self) -> int:
        """How many tiles stand side by side."""
        return -(-self.columns // self.tile_columns)


def cut(
    rows: int, columns: int, array_rows: int, array_columns: int, rows_per_channel: int = 1
) -> Tiling:
    """Cut a matrix into tiles; a row of tiles ends at whole input channels.

    Args:
        rows, columns: of the matrix.
        array_rows, array_columns: of one array.
        rows_per_channel: rows that belong to one input channel (kernel squared).

    Raises:
        ValueError: if a number is below 1 or an array has fewer rows than one input channel.
    """
    for name, value in (
        ("rows", rows),
        ("columns", columns),
        ("layout.rows", array_rows),
        ("layout.columns", array_columns),
    ):
        if value < 1:
            raise ValueError(f"{name}: {value} is not allowed; must be at least 1")
    if array_rows < rows_per_channel:
        raise ValueError(
            f"layout.rows: {array_rows} is not allowed; must be at least {rows_per_channel}, the "
            "rows of one input channel"
        )
    channels = rows // rows_per_channel
    return Tiling(
        rows,
        columns,
        _even(channels, array_rows // rows_per_channel) * rows_per_channel,
        _even(columns, array_columns),
    )


def edge_tiling(geometry: Geometry, layout: Layout) -> Tiling:
    """How an edge's matrix (fan-in, outputs) is cut into arrays of a card's size.

    Args:
        geometry: of an edge with weights.
        layout: of the array card.

    Raises:
        ValueError: as `cut`.
    """
    assert geometry.weight_shape is not None
    rows, columns = geometry.fan_in, math.prod(geometry.weight_shape) // geometry.fan_in
    per_channel = geometry.kernel**2 if isinstance(geometry, Convolution) else 1
    return cut(rows, columns, layout.rows, layout.columns, per_channel)


def _even(total: int, most: int) -> int:
    """Size of the tiles when the fewest share the total evenly."""
    tiles = -(-total // most)
    return -(-total // tiles)


def _ranges(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
