"""How dense and convolution edges read a matrix: summed over all tiles, or tile by tile.

Inside, a driven or sensed tensor has its rows or columns in dimension 1: (B, units) for a dense
edge, (B, channels, height, width) for a convolution.  A read of single tiles has the shape
(samples, tiles, columns or rows), a sample being one position of one image.

A matrix may have any number of columns: the same functions read weights, variances and reference
columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.models import Convolution, Dense, Geometry


class TileReads(ABC):
    """Reads of one edge's matrix.

    Attributes:
        tiling: how the matrix is cut.
        rows_per_channel: matrix rows that belong to one unit of dimension 1 of the driven tensor.
    """

    tiling: Tiling
    rows_per_channel: int = 1

    @abstractmethod
    def inside(self, states: Tensor) -> Tensor:
        """Pre states (B, *pre_shape) or currents (B, *linear_shape) in the inner form."""

    @abstractmethod
    def outside_columns(self, columns: Tensor) -> Tensor:
        """Columns in the inner form as (B, *linear_shape)."""

    @abstractmethod
    def outside_rows(self, rows: Tensor) -> Tensor:
        """Rows in the inner form as (B, *pre_shape)."""

    @abstractmethod
    def weight(self, matrix: Tensor) -> Tensor:
        """A matrix (rows, n) made ready for `forward` and `transposed`."""

    @abstractmethod
    def forward(self, driven: Tensor, weight: Tensor) -> Tensor:
        """Rows driven, columns sensed, all tiles summed."""

    @abstractmethod
    def transposed(self, driven: Tensor, weight: Tensor) -> Tensor:
        """Columns driven, rows sensed, all tiles summed and patches folded."""

    @abstractmethod
    def forward_blocks(self, matrix: Tensor) -> Tensor:
        """A matrix (rows, n) made ready for `forward_tiles`."""

    @abstractmethod
    def forward_tiles(self, driven: Tensor, blocks: Tensor) -> Tensor:
        """Currents of every row of tiles: (samples, row tiles, n)."""

    @abstractmethod
    def gather(self, columns: Tensor, driven: Tensor) -> Tensor:
        """Columns (samples, n) in the inner form, for the driven tensor of their forward read."""

    @abstractmethod
    def transposed_blocks(self, matrix: Tensor) -> Tensor:
        """A matrix (rows, columns) made ready for `transposed_tiles`: (pieces, tiles, ...)."""

    @abstractmethod
    def samples(self, driven: Tensor) -> Tensor:
        """Driven columns in the inner form as (samples, columns)."""

    @abstractmethod
    def transposed_tiles(self, samples: Tensor, block: Tensor) -> Tensor:
        """Row currents of every column of tiles, one piece: (samples, column tiles, rows)."""

    @abstractmethod
    def fold(self, pieces: Iterator[Tensor], driven: Tensor) -> Tensor:
        """All pieces' rows (samples, rows of a piece), overlaps added, in the inner form."""

    def by_piece(self, matrix: Tensor) -> Tensor:
        """A matrix (rows, n) cut into the pieces of a transposed read: (pieces, n, rows)."""
        channels = self.tiling.rows // self.rows_per_channel
        return matrix.reshape(channels, self.rows_per_channel, -1).permute(1, 2, 0).contiguous()

    def row_tile_of_piece_rows(self) -> list[int]:
        """Row tile of every row of a piece."""
        size = self.tiling.tile_rows // self.rows_per_channel
        return [row // size for row in range(self.tiling.rows // self.rows_per_channel)]

    def column_tile_of_columns(self) -> list[int]:
        """Column tile of every column."""
        return [column // self.tiling.tile_columns for column in range(self.tiling.columns)]

    def _split_columns(self, samples: Tensor) -> Tensor:
        """(samples, columns) as (column tiles, samples, tile columns), zeros at the end."""
        tiles, size = self.tiling.column_tiles, self.tiling.tile_columns
        if missing := tiles * size - samples.shape[1]:
            samples = F.pad(samples, (0, missing))
        return samples.view(-1, tiles, size).transpose(0, 1)

    def _pad_columns(self, matrix: Tensor) -> Tensor:
        """(rows, columns) as (column tiles, tile columns, rows), the last filled with zeros."""
        tiles, size = self.tiling.column_tiles, self.tiling.tile_columns
        padded = F.pad(matrix, (0, tiles * size - matrix.shape[1]))
        return padded.T.reshape(tiles, size, -1)


class DenseReads(TileReads):
    """Reads of a dense edge: one sample per image."""

    def __init__(self, geometry: Dense, tiling: Tiling) -> None:
        self.geometry, self.tiling = geometry, tiling

    def inside(self, states: Tensor) -> Tensor:
        """(B, units)."""
        return states.flatten(1)

    def outside_columns(self, columns: Tensor) -> Tensor:
        """(B, *linear_shape)."""
        return columns.reshape(-1, *self.geometry.linear_shape)

    def outside_rows(self, rows: Tensor) -> Tensor:
        """(B, *pre_shape)."""
        return rows.reshape(-1, *self.geometry.pre_shape)

    def weight(self, matrix: Tensor) -> Tensor:
        """The matrix."""
        return matrix.contiguous()

    def forward(self, driven: Tensor, weight: Tensor) -> Tensor:
        """(B, rows) to (B, n)."""
        return driven @ weight

    def transposed(self, driven: Tensor, weight: Tensor) -> Tensor:
        """(B, n) to (B, rows)."""
        return driven @ weight.T

    def forward_blocks(self, matrix: Tensor) -> Tensor:
        """(row tiles, tile rows, n), the last filled with zeros."""
        tiles, size = self.tiling.row_tiles, self.tiling.tile_rows
        padded = F.pad(matrix, (0, 0, 0, tiles * size - matrix.shape[0]))
        return padded.reshape(tiles, size, -1)

    def forward_tiles(self, driven: Tensor, blocks: Tensor) -> Tensor:
        """(B, rows) to (B, row tiles, n)."""
        tiles, size = self.tiling.row_tiles, self.tiling.tile_rows
        if tiles == 1:
            return (driven @ blocks[0]).unsqueeze(1)
        if missing := tiles * size - driven.shape[1]:
            driven = F.pad(driven, (0, missing))
        return torch.bmm(driven.view(-1, tiles, size).transpose(0, 1), blocks).transpose(0, 1)

    def gather(self, columns: Tensor, driven: Tensor) -> Tensor:
        """(B, n)."""
        return columns

    def transposed_blocks(self, matrix: Tensor) -> Tensor:
        """(1, column tiles, tile columns, rows)."""
        return self._pad_columns(matrix).unsqueeze(0)

    def samples(self, driven: Tensor) -> Tensor:
        """(B, columns)."""
        return driven

    def transposed_tiles(self, samples: Tensor, block: Tensor) -> Tensor:
        """(B, columns) to (B, column tiles, rows)."""
        if block.shape[0] == 1:
            return (samples @ block[0]).unsqueeze(1)
        return torch.bmm(self._split_columns(samples), block).transpose(0, 1)

    def fold(self, pieces: Iterator[Tensor], driven: Tensor) -> Tensor:
        """The one piece."""
        return next(pieces)


class ConvolutionReads(TileReads):
    """Reads of a convolution edge: one sample per output position.

    Row tiles end at whole input channels, so that a grouped convolution computes all partial sums
    at once.  The pieces of a transposed read are the positions of the kernel, each with one row per
    input channel.
    """

    def __init__(self, geometry: Convolution, tiling: Tiling) -> None:
        self.geometry, self.tiling = geometry, tiling
        self.rows_per_channel = geometry.kernel**2
        self.channels = geometry.pre_shape[0]
        self.tile_channels = tiling.tile_rows // self.rows_per_channel

    def inside(self, states: Tensor) -> Tensor:
        """As they are."""
        return states

    def outside_columns(self, columns: Tensor) -> Tensor:
        """As they are."""
        return columns

    def outside_rows(self, rows: Tensor) -> Tensor:
        """As they are."""
        return rows

    def weight(self, matrix: Tensor) -> Tensor:
        """(n, in_channels, kernel, kernel), channels-last."""
        kernel = self.geometry.kernel
        weight = matrix.T.reshape(-1, self.channels, kernel, kernel)
        return weight.contiguous(memory_format=torch.channels_last)

    def forward(self, driven: Tensor, weight: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, n, H', W')."""
        return self.geometry.linear(driven, weight)

    def transposed(self, driven: Tensor, weight: Tensor) -> Tensor:
        """(B, n, H', W') to (B, in_channels, H, W)."""
        return self.geometry.transposed(driven, weight)

    def forward_blocks(self, matrix: Tensor) -> Tensor:
        """(row tiles * n, tile channels, kernel, kernel), channels-last, zeros at the end."""
        tiles, kernel = self.tiling.row_tiles, self.geometry.kernel
        rows = tiles * self.tile_channels * self.rows_per_channel
        padded = F.pad(matrix, (0, 0, 0, rows - matrix.shape[0]))
        blocks = padded.reshape(tiles, -1, matrix.shape[1]).transpose(1, 2)
        weight = blocks.reshape(-1, self.tile_channels, kernel, kernel)
        return weight.contiguous(memory_format=torch.channels_last)

    def forward_tiles(self, driven: Tensor, blocks: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B * H' * W', row tiles, n)."""
        tiles = self.tiling.row_tiles
        if missing := tiles * self.tile_channels - self.channels:
            driven = F.pad(driven, (0, 0, 0, 0, 0, missing))
        stride, padding = self.geometry.stride, self.geometry.padding
        currents = F.conv2d(driven, blocks, stride=stride, padding=padding, groups=tiles)
        return self.samples(currents).view(-1, tiles, blocks.shape[0] // tiles)

    def gather(self, columns: Tensor, driven: Tensor) -> Tensor:
        """(B * H' * W', n) to (B, n, H', W'), channels-last."""
        _, height, width = self.geometry.linear_shape
        return columns.view(len(driven), height, width, -1).permute(0, 3, 1, 2)

    def transposed_blocks(self, matrix: Tensor) -> Tensor:
        """(kernel * kernel, column tiles, tile columns, in_channels)."""
        tiles, size = self.tiling.column_tiles, self.tiling.tile_columns
        blocks = self._pad_columns(matrix).view(tiles, size, self.channels, -1)
        return blocks.permute(3, 0, 1, 2).contiguous()

    def samples(self, driven: Tensor) -> Tensor:
        """(B, columns, H', W') to (B * H' * W', columns)."""
        return driven.permute(0, 2, 3, 1).reshape(-1, driven.shape[1])

    def transposed_tiles(self, samples: Tensor, block: Tensor) -> Tensor:
        """(samples, columns) to (samples, column tiles, in_channels)."""
        if block.shape[0] == 1:
            return (samples @ block[0]).unsqueeze(1)
        return torch.bmm(self._split_columns(samples), block).transpose(0, 1)

    def fold(self, pieces: Iterator[Tensor], driven: Tensor) -> Tensor:
        """Each kernel position's currents added at their places, (B, in_channels, H, W)."""
        geometry, batch = self.geometry, len(driven)
        kernel, stride, padding = geometry.kernel, geometry.stride, geometry.padding
        _, height, width = geometry.pre_shape
        _, out_height, out_width = geometry.linear_shape
        size = (batch, height + 2 * padding, width + 2 * padding, self.channels)
        rows = torch.zeros(size, dtype=driven.dtype, device=driven.device)
        reach_down, reach_right = stride * (out_height - 1) + 1, stride * (out_width - 1) + 1
        for position, piece in enumerate(pieces):
            down, right = divmod(position, kernel)
            window = rows[
                :, down : down + reach_down : stride, right : right + reach_right : stride
            ]
            window += piece.view(batch, out_height, out_width, self.channels)
        inner = rows[:, padding : padding + height, padding : padding + width]
        return inner.permute(0, 3, 1, 2)


def tile_reads(geometry: Geometry, tiling: Tiling) -> TileReads:
    """The reads of a geometry.

    Raises:
        ValueError: for a geometry without weights.
    """
    if isinstance(geometry, Convolution):
        return ConvolutionReads(geometry, tiling)
    if isinstance(geometry, Dense):
        return DenseReads(geometry, tiling)
    raise ValueError(f"geometry: {geometry!r} is not allowed; must be dense or a convolution")
