"""The read noise of an edge's arrays, added to what its reads return.

A device of noise ``a + b |v| + c v^2`` (ampere squared, `neurosim_ep.devices.read_noise`) that is
driven by a value x at r = full scale / read voltage adds ``u^2 (a r^2 + b r |x| + c x^2)`` to the
variance of its column's number, u being the column's weight per siemens.  Sums over devices are
reads of variances by squared inputs.

Offset columns are read with the columns of their tile: forward, one noisy reference is subtracted
from all of them; transposed, the reference is driven by minus the sum of what drives the others.
"""

from collections.abc import Callable
from functools import cached_property, partial

import torch
from torch import Tensor

from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.noise import NormalSource, add_noise, is_silent
from neurosim_ep.crossbar.reading import TileReads
from neurosim_ep.devices import ReadVariance

Scale = float | Tensor


class ReadNoise:
    """Noise of one matrix, as it was when this was made.

    Args:
        matrix: programmed arrays.
        reads: how their edge reads them.
        read_voltage_volt: at full scale.
    """

    def __init__(self, matrix: CrossbarMatrix, reads: TileReads, read_voltage_volt: float) -> None:
        self._reads, self._volt = reads, read_voltage_volt
        self._units, self._largest = matrix.units, matrix.units.max()
        self._noise, self._reference = matrix.noise, matrix.reference_noise
        self.silent = is_silent(self._noise)
        self._references = not is_silent(self._reference)
        square = self._noise.per_square_volt
        alone = self._noise.constant is None and self._noise.per_volt is None
        reference = self._reference.constant is None and self._reference.per_volt is None
        # Whether it matters at which full scale values are driven.
        self.scaled = not (alone and reference)
        equal_units = bool((self._units == self._units[0]).all())
        # Noise that is equal in all devices of a row costs one column instead of all.
        self._uniform = (
            square is not None
            and alone
            and equal_units
            and not self._references
            and torch.allclose(square, square[:, :1].expand_as(square), rtol=1e-5, atol=0.0)
        )
        device = matrix.units.device
        self._column_tile = torch.tensor(reads.column_tile_of_columns(), device=device)
        self._held: dict[str, Tensor] = {}

    # --- All tiles summed ----------------------------------------------------------------------

    def of_columns(
        self, columns: Tensor, driven: Tensor, scale: Scale, source: NormalSource
    ) -> Tensor | None:
        """Forward: variance of columns (B, columns, ...) of driven rows (B, rows, ...).

        Noise that columns have in common, from a reference, is added to them here.
        """
        reads, ratio = self._reads, scale / self._volt
        if self._uniform:
            weight = self._get("one column", lambda: reads.weight(self._square()[:, :1]))
            return reads.forward(driven.square(), weight)
        variance = self._sum(
            "forward", reads.forward, reads.weight, driven, self._forward_matrices, ratio
        )
        constant = self._noise.constant
        if constant is not None:
            total = self._get("constant", lambda: constant.sum(0) * self._units.square())
            total = _along(total, columns) * ratio**2
            variance = total.expand_as(columns).clone() if variance is None else variance + total
        if self._references:
            self._add_common(columns, driven, ratio, source)
        return variance

    def _add_common(
        self, columns: Tensor, driven: Tensor, ratio: Scale, source: NormalSource
    ) -> None:
        """Noise of the reference columns, the same for all columns of a tile."""
        reads = self._reads
        variance = self._sum(
            "reference", reads.forward, reads.weight, driven, self._reference_matrices, ratio
        )
        constant = self._reference.constant
        if constant is not None:
            total = _along(constant.sum(0), columns) * ratio**2
            shape = (len(columns), len(total), *columns.shape[2:])
            variance = total.expand(shape).clone() if variance is None else variance + total
        assert variance is not None
        common = add_noise(torch.zeros_like(variance), variance, source)
        columns -= common[:, self._column_tile] * _along(self._units, columns)

    def of_rows(self, rows: Tensor, driven: Tensor, scale: Scale) -> Tensor | None:
        """Transposed: variance of rows (B, rows, ...) of driven columns (B, columns, ...)."""
        reads, ratio = self._reads, scale / self._volt
        if self._uniform:
            weight = self._get("one column", lambda: reads.weight(self._square()[:, :1]))
            total = driven.square().sum(1, keepdim=True)
            return reads.transposed(total, weight)
        variance = self._sum(
            "transposed", reads.transposed, reads.weight, driven, self._transposed_matrices, ratio
        )
        constant = self._noise.constant
        if constant is not None:
            weight = self._get("constant rows", lambda: reads.weight(constant))
            all_columns = torch.ones_like(driven[:1])
            total = reads.transposed(all_columns, weight) * (self._largest * ratio) ** 2
            variance = total.expand_as(rows).clone() if variance is None else variance + total
        if self._references:
            sums = self._tile_sums(driven * _along(self._units, driven), 1)
            extra = self._sum(
                "reference rows",
                reads.transposed,
                reads.weight,
                sums,
                self._reference_row_matrices,
                ratio,
            )
            if self._reference.constant is not None:
                weight = self._get(
                    "reference rows constant", partial(reads.weight, self._reference.constant)
                )
                total = reads.transposed(torch.ones_like(sums), weight)
                total = total * (self._largest * ratio) ** 2
                extra = total if extra is None else extra + total
            if extra is not None:
                variance = extra if variance is None else variance + extra
        return variance

    # --- Tile by tile --------------------------------------------------------------------------

    def add_to_column_tiles(
        self, currents: Tensor, driven: Tensor, scale: Scale, source: NormalSource
    ) -> None:
        """Forward: currents (samples, row tiles, columns) of every tile, in place."""
        reads, ratio = self._reads, scale / self._volt
        if self._uniform:
            blocks = self._get("one block", lambda: reads.forward_blocks(self._square()[:, :1]))
            add_noise(currents, reads.forward_tiles(driven.square(), blocks), source)
            return
        variance = self._sum(
            "tiles", reads.forward_tiles, reads.forward_blocks, driven,
            self._forward_matrices, ratio,
        )  # fmt: skip
        constant = self._noise.constant
        if constant is not None:
            total = self._get(
                "constant columns", lambda: _sum_rows(constant, reads) * self._units.square()
            )
            total = total * ratio**2
            variance = total.expand_as(currents).clone() if variance is None else variance + total
        if variance is not None:
            add_noise(currents, variance, source)
        if not self._references:
            return
        variance = self._sum(
            "reference tiles", reads.forward_tiles, reads.forward_blocks, driven,
            self._reference_matrices, ratio,
        )  # fmt: skip
        if self._reference.constant is not None:
            total = _sum_rows(self._reference.constant, reads) * ratio**2
            shape = (*currents.shape[:2], total.shape[1])
            variance = total.expand(shape).clone() if variance is None else variance + total
        assert variance is not None
        common = add_noise(torch.zeros_like(variance), variance, source)
        currents -= common[:, :, self._column_tile] * self._units

    def add_to_row_tiles(
        self, currents: Tensor, samples: Tensor, piece: int, scale: Scale, source: NormalSource
    ) -> None:
        """Transposed: currents (samples, column tiles, rows of a piece) of every tile, in place."""
        reads, ratio = self._reads, scale / self._volt
        if self._uniform:
            rows = self._get("rows", lambda: reads.by_piece(self._square()[:, :1]))[piece]
            total = self._tile_sums(samples.square(), 1)
            add_noise(currents, total.unsqueeze(2) * rows, source)
            return

        def read(values: Tensor, blocks: Tensor) -> Tensor:
            return reads.transposed_tiles(values, blocks[piece])

        matrices = self._transposed_matrices
        variance = self._sum("row tiles", read, reads.transposed_blocks, samples, matrices, ratio)
        constant = self._noise.constant
        if constant is not None:
            blocks = self._get("constant tiles", lambda: reads.transposed_blocks(constant))
            total = blocks[piece].sum(1) * (self._largest * ratio) ** 2
            variance = total.expand_as(currents).clone() if variance is None else variance + total
        if self._references:
            sums = self._tile_sums(samples * self._units, 1).unsqueeze(2)
            for name, values, matrix in (
                ("square", sums.square(), self._reference.per_square_volt),
                ("volt", sums.abs() * (self._largest * ratio), self._reference.per_volt),
                ("constant", torch.ones_like(sums) * (self._largest * ratio) ** 2,
                 self._reference.constant),
            ):  # fmt: skip
                if matrix is None:
                    continue
                rows = self._get(f"reference {name}", partial(reads.by_piece, matrix))
                extra = values * rows[piece]
                variance = extra if variance is None else variance + extra
        if variance is not None:
            add_noise(currents, variance, source)

    # --- Matrices ------------------------------------------------------------------------------

    def _square(self) -> Tensor:
        assert self._noise.per_square_volt is not None
        return self._noise.per_square_volt * self._units.square()

    @cached_property
    def _forward_matrices(self) -> ReadVariance:
        square = self._units.square()
        return ReadVariance(
            per_volt=_times(self._noise.per_volt, square),
            per_square_volt=_times(self._noise.per_square_volt, square),
        )

    @cached_property
    def _transposed_matrices(self) -> ReadVariance:
        return ReadVariance(
            per_volt=_times(self._noise.per_volt, self._largest * self._units),
            per_square_volt=_times(self._noise.per_square_volt, self._units.square()),
        )

    @cached_property
    def _reference_matrices(self) -> ReadVariance:
        return ReadVariance(
            per_volt=self._reference.per_volt, per_square_volt=self._reference.per_square_volt
        )

    @cached_property
    def _reference_row_matrices(self) -> ReadVariance:
        return ReadVariance(
            per_volt=_times(self._reference.per_volt, self._largest),
            per_square_volt=self._reference.per_square_volt,
        )

    def _sum(
        self,
        name: str,
        read: Callable[[Tensor, Tensor], Tensor],
        prepare: Callable[[Tensor], Tensor],
        driven: Tensor,
        matrices: ReadVariance,
        ratio: Scale,
    ) -> Tensor | None:
        """Variance that depends on what is driven; None without such a term."""
        total = None
        square, volt = matrices.per_square_volt, matrices.per_volt
        if square is not None:
            total = read(driven.square(), self._get(f"{name} square", lambda: prepare(square)))
        if volt is not None:
            prepared = self._get(f"{name} volt", lambda: prepare(volt))
            linear = read(driven.abs(), prepared) * ratio
            total = linear if total is None else total.add_(linear)
        return total

    def _get(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = make()
        return held

    def _tile_sums(self, values: Tensor, dimension: int) -> Tensor:
        """Sums over the columns of each column tile."""
        shape = list(values.shape)
        shape[dimension] = self._reads.tiling.column_tiles
        sums = values.new_zeros(shape)
        return sums.index_add_(dimension, self._column_tile, values)


def _times(matrix: Tensor | None, factor: Tensor) -> Tensor | None:
    return None if matrix is None else matrix * factor


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) shaped to broadcast over dimension 1."""
    return values.view(-1, *(1,) * (like.dim() - 2))


def _sum_rows(matrix: Tensor, reads: TileReads) -> Tensor:
    """Sums over the rows of each row tile, (row tiles, columns)."""
    return torch.stack([matrix[rows].sum(0) for rows in reads.tiling.row_ranges])
