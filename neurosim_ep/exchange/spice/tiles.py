"""A chip's arrays as netlists: one per tile, plane and direction, with an index."""

import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar import CrossbarMatrix, CrossbarNetwork, CrossbarStorage
from neurosim_ep.crossbar.card import Wires
from neurosim_ep.crossbar.mapping import PAIR
from neurosim_ep.exchange.spice.array_netlist import DIRECTIONS, array_netlist

INDEX, SCALES = "index.csv", "columns.csv"

Drives = Mapping[str, tuple[Tensor, Tensor]]
"""By matrix, what drives its rows (rows,) and its columns (columns,), as shares of full scale."""

_INDEX_FIELDS = (
    "file",
    "matrix",
    "plane",
    "row_tile",
    "column_tile",
    "direction",
    "first_row",
    "last_row",
    "first_column",
    "last_column",
    "reference_column",
)


@dataclass(frozen=True, eq=False)
class TileArray:
    """One physical array of a matrix.

    Attributes:
        plane: ``plus`` or ``minus`` of a pair, ``offset`` with a reference column.
        row_tile, column_tile: its place among the tiles.
        rows, columns: of the matrix.
        reference: whether one more column, the last, holds the references.
        conductance: of its devices at present, in siemens, float64.
    """

    plane: str
    row_tile: int
    column_tile: int
    rows: slice
    columns: slice
    reference: bool
    conductance: Tensor

    @property
    def name(self) -> str:
        """Plane and tile, as in the files' names."""
        return f"{self.plane}-r{self.row_tile}-c{self.column_tile}"


def tile_arrays(matrix: CrossbarMatrix) -> Iterator[TileArray]:
    """All physical arrays of a matrix, plane after plane."""
    tiling, pair = matrix.tiling, matrix.mapping == PAIR
    conductance = matrix.devices.conductance.detach().double().cpu()
    for plane, devices in zip(("plus", "minus") if pair else ("offset",), conductance, strict=True):
        for row_tile, rows in enumerate(tiling.row_ranges):
            for column_tile, columns in enumerate(tiling.column_ranges):
                places = list(range(columns.start, columns.stop))
                places += [] if pair else [tiling.columns + column_tile]
                array = devices[rows][:, places]
                yield TileArray(plane, row_tile, column_tile, rows, columns, not pair, array)


def matrices(source: CrossbarNetwork | CrossbarMatrix) -> dict[str, CrossbarMatrix]:
    """Matrices on arrays by name: ``edge_0``, ..., ``bias_1``, ...; a single one is ``matrix``."""
    if isinstance(source, CrossbarMatrix):
        return {"matrix": source}
    found = {
        f"edge_{number}": edge.storage.matrix
        for number, edge in enumerate(source.edge_list())
        if isinstance(edge.storage, CrossbarStorage)
    }
    return found | {f"bias_{layer}": row.matrix for layer, row in source.bias_rows.items()}


def wire_ohms(wires: Wires | None) -> tuple[float, float, float, float]:
    """Word line, bit line, driver and sense amplifier of a card, in ohm; 0 where it has none."""
    if wires is None:
        return 0.0, 0.0, 0.0, 0.0
    return wires.word_line_ohm, wires.bit_line_ohm, wires.driver_ohm, wires.sense_ohm


def tile_voltages(
    array: TileArray, direction: str, drive: Tensor, full_scale_volt: float
) -> Tensor:
    """Voltages of an array's driven lines (lines,).

    In a transposed read, a reference column is driven by minus the sum of its tile's columns: its
    devices then take their part in every weight, as they do in the forward read.

    Args:
        array: whose rows or columns are driven.
        direction: of the read.
        drive: of all the matrix's rows or columns, as shares of full scale.
        full_scale_volt: the card's read voltage.
    """
    share = drive[array.rows if direction == "forward" else array.columns].double().cpu()
    if array.reference and direction == "transposed":
        share = torch.cat([share, -share.sum().view(1)])
    return share * full_scale_volt


@torch.no_grad()
def save(
    source: CrossbarNetwork | CrossbarMatrix, folder: str | Path, *, drives: Drives | None = None
) -> list[Path]:
    """Write netlists of all arrays, for forward and transposed reads, into a new folder.

    The conductances are the present ones, the wires and the read voltage the array card's.
    ``index.csv`` says which file is which part of which matrix, ``columns.csv`` what a siemens of
    each column stands for.

    Args:
        source: a chip, or one matrix of it.
        folder: must not exist; it takes its place when it is whole.
        drives: what drives each matrix; the full read voltage on every line by default.

    Returns:
        The netlists' paths, in the order of the index.

    Raises:
        ValueError: one line, if the folder exists or a drive does not fit its matrix.
    """
    folder, found = Path(folder), matrices(source)
    if folder.exists() or folder.is_symlink():
        raise ValueError(problem("folder", str(folder), "a path where nothing is yet"))
    _check_drives(drives or {}, found)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        whole = Path(beside) / folder.name
        whole.mkdir()
        index = [row for name in found for row in _write(name, found[name], whole, drives or {})]
        _write_csv(whole / INDEX, _INDEX_FIELDS, index)
        scales = [
            (name, column, repr(weight))
            for name, matrix in found.items()
            for column, weight in enumerate((matrix.units * matrix.compensation).double().tolist())
        ]
        _write_csv(whole / SCALES, ("matrix", "column", "weight_per_siemens"), scales)
        whole.rename(folder)
    return [folder / str(row[0]) for row in index]


def _write(
    name: str, matrix: CrossbarMatrix, folder: Path, drives: Drives
) -> Iterator[tuple[object, ...]]:
    """Write one matrix's netlists and yield their rows of the index."""
    volt, ohms = matrix.array.drive.read_voltage_volt, wire_ohms(matrix.array.wires)
    full = (torch.ones(matrix.tiling.rows), torch.ones(matrix.tiling.columns))
    drive = drives.get(name, full)
    for array in tile_arrays(matrix):
        ends = (array.rows.start, array.rows.stop - 1, array.columns.start, array.columns.stop - 1)
        for place, direction in enumerate(DIRECTIONS):
            title = (
                f"neurosim_ep {name}, plane {array.plane}, matrix rows {ends[0]} to {ends[1]}, "
                f"columns {ends[2]} to {ends[3]}"
            )
            text = array_netlist(
                array.conductance,
                *ohms,
                direction=direction,
                voltages_volt=tile_voltages(array, direction, drive[place], volt),
                title=title + (", then the reference column" if array.reference else ""),
            )
            file = f"{name}-{array.name}-{direction}.cir"
            (folder / file).write_text(text)
            reference = array.columns.stop - array.columns.start if array.reference else ""
            tile = (array.plane, array.row_tile, array.column_tile, direction)
            yield (file, name, *tile, *ends, reference)


def _write_csv(path: Path, fields: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([fields, *rows])


def _check_drives(drives: Drives, found: Mapping[str, CrossbarMatrix]) -> None:
    for name, drive in drives.items():
        if name not in found:
            raise ValueError(problem("drives", name, f"one of {', '.join(found)}"))
        sizes = (found[name].tiling.rows, found[name].tiling.columns)
        for side, values, size in zip(("rows", "columns"), drive, sizes, strict=True):
            if tuple(values.shape) != (size,):
                raise ValueError(
                    f"drives.{name}.{side}: shape {tuple(values.shape)} is not allowed; must be "
                    f"({size},)"
                )
            if not bool(values.isfinite().all()):
                raise ValueError(
                    f"drives.{name}.{side}: NaN or infinity is not allowed; must be finite"
                )
