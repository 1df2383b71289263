"""A chip as a folder of CSV files: one per array, plane and tile, with an index (docs/arrays.md).

Every file of conductances is a plain table of siemens without a header: a row is a word line, a
column a bit line, commas between, 17 digits where they are needed, so that numbers come back bit
for bit.  With offset columns a tile's last column is its reference.  ``index.csv`` says what every
file is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep._folders import folder_written_beside
from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.crossbar.mapping import OFFSET, PAIR, device_shape
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.exchange._csv_numbers import (
    number_of,
    read_numbers,
    read_text,
    write_numbers,
)
from neurosim_ep.exchange.chip_arrays import (
    ChipArrays,
    MatrixArrays,
    chip_arrays,
    matrices_of,
    meaning_of_a_column,
    meaning_of_a_row,
    plane_names,
    set_chip_arrays,
)

INDEX = "index.csv"
FIELDS = (
    "file",
    "matrix",
    "plane",
    "first_row",
    "end_row",
    "first_column",
    "end_column",
    "unit",
    "weight_per_siemens",
    "mapping",
    "rows",
    "columns",
    "tile_rows",
    "tile_columns",
    "meaning_of_a_row",
    "meaning_of_a_column",
)
"""Columns of the index; row and column ranges are of the weight matrix, their ends left out."""

_MOST = 2_000_000_000
_MOST_INDEX_BYTES = 64 * 2**20

Row = dict[str, str]


def save(chip: CrossbarNetwork, folder: Path | str) -> None:
    """Write what stands on a chip at present into a new folder.

    Args:
        chip: trained, or mapped.
        folder: that does not exist yet.

    Raises:
        ValueError: in one line, if it exists or cannot be made; nothing is left then.
    """
    arrays = chip_arrays(chip)
    with folder_written_beside(Path(folder)) as beside:
        index = []
        for name, geometry, _ in matrices_of(chip):
            matrix = arrays.matrices[name]
            meaning = meaning_of_a_row(name, geometry), meaning_of_a_column(name, geometry)
            for row, values in _tables(name, matrix):
                write_numbers(beside / row["file"], values)
                row["meaning_of_a_row"], row["meaning_of_a_column"] = meaning
                index.append(row)
        for layer, bias in arrays.biases.items():
            write_numbers(beside / f"bias_layer_{layer}.csv", bias.unsqueeze(0))
            index.append(_bias_row(layer, len(bias)))
        with (beside / INDEX).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(index)


def load(folder: Path | str, chip: CrossbarNetwork | None = None) -> ChipArrays:
    """Read a folder of `save`, or one that was measured, and let a chip stand at it.

    Args:
        folder: with an ``index.csv``.
        chip: of the same network, mapping and tiles, whose devices then stand at these
            conductances (`neurosim_ep.exchange.set_chip_arrays`); none is changed without it.

    Returns:
        The arrays, in float64.

    Raises:
        ValueError: in one line that names the file, if something is missing, damaged, too many or
            not allowed, and as `set_chip_arrays` does; the chip is as it was then.
    """
    folder = Path(folder)
    index = _read_index(folder / INDEX)
    matrices = {}
    biases = {}
    for name in dict.fromkeys(row["matrix"] for row in index):
        rows = [row for row in index if row["matrix"] == name]
        if name.startswith("layer_"):
            layer, bias = _read_bias(folder, name, rows)
            biases[layer] = bias
        else:
            matrices[name] = _read_matrix(folder, name, rows)
    arrays = ChipArrays(matrices, biases)
    if chip is not None:
        set_chip_arrays(chip, arrays)
    return arrays


# --- Tables ------------------------------------------------------------------------------------


def _tables(name: str, matrix: MatrixArrays) -> Iterator[tuple[Row, Tensor]]:
    """The index row of every file of a matrix, and its values."""
    for row, where in _places(name, matrix.mapping, matrix.tiling):
        units = matrix.weight_per_siemens[
            int(row["first_column"]) : int(row["end_column"])
        ].tolist()
        same = len(set(units)) == 1
        row["weight_per_siemens"] = " ".join(map(repr, units[:1] if same else units))
        yield row, matrix.conductance_siemens[where]


def _places(
    name: str, mapping: str, tiling: Tiling
) -> Iterator[tuple[Row, tuple[int, slice, list[int]]]]:
    """The index row of every file but for its unit, and where it lies among the devices."""
    for plane, plane_name in enumerate(plane_names(mapping)):
        for down, rows in enumerate(tiling.row_ranges):
            for across, columns in enumerate(tiling.column_ranges):
                label = {"G+": "plus", "G-": "minus", "G": "offset"}[plane_name]
                row = {
                    "file": f"{name}_{label}_tile_{down}_{across}.csv",
                    "matrix": name,
                    "plane": plane_name,
                    "first_row": str(rows.start),
                    "end_row": str(rows.stop),
                    "first_column": str(columns.start),
                    "end_column": str(columns.stop),
                    "unit": "siemens",
                    "mapping": mapping,
                    "rows": str(tiling.rows),
                    "columns": str(tiling.columns),
                    "tile_rows": str(tiling.tile_rows),
                    "tile_columns": str(tiling.tile_columns),
                }
                reference = [tiling.columns + across] if mapping == OFFSET else []
                yield row, (plane, rows, [*range(columns.start, columns.stop), *reference])


def _bias_row(layer: int, channels: int) -> Row:
    return {
        "file": f"bias_layer_{layer}.csv",
        "matrix": f"layer_{layer}",
        "plane": "bias",
        "first_row": "0",
        "end_row": "1",
        "first_column": "0",
        "end_column": str(channels),
        "unit": "1",
        "meaning_of_a_row": "a digital bias, as settling adds it",
        "meaning_of_a_column": "channel of the layer",
    }


# --- Reading -----------------------------------------------------------------------------------


def _read_index(path: Path) -> list[Row]:
    text = read_text(path, _MOST_INDEX_BYTES)
    try:
        lines = list(csv.reader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}: not valid CSV: {error}") from None
    if not lines or tuple(lines[0]) != FIELDS:
        raise ValueError(f"{path}: the first line is not allowed; must be {','.join(FIELDS)}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(FIELDS):
            allowed = f"{len(FIELDS)} fields"
            raise ValueError(f"{path}: line {number} has {len(line)} fields; must have {allowed}")
        row = dict(zip(FIELDS, line, strict=True))
        name = row["file"]
        if not name or Path(name).name != name or name in (".", ".."):
            raise ValueError(
                f"{path}: line {number}: file {name!r} is not allowed; must be a file's name"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no files; must list at least one")
    return rows


def _read_matrix(folder: Path, name: str, rows: Sequence[Row]) -> MatrixArrays:
    path, first = folder / INDEX, rows[0]
    mapping = first["mapping"]
    if mapping not in (PAIR, OFFSET):
        raise ValueError(
            f"{path}: {name}: mapping {mapping!r} is not allowed; must be {PAIR} or {OFFSET}"
        )
    sizes = [_whole(path, name, first, f) for f in ("rows", "columns", "tile_rows", "tile_columns")]
    tiling = Tiling(*sizes)
    shape = device_shape(tiling, mapping)
    tiles = shape[0] * tiling.row_tiles * tiling.column_tiles
    if sizes[2] > sizes[0] or sizes[3] > sizes[1] or math.prod(shape) > _MOST:
        raise ValueError(
            f"{path}: {name}: {sizes[0]} x {sizes[1]} in tiles of {sizes[2]} x {sizes[3]} is not "
            f"allowed; must be tiles within the matrix, and at most {_MOST} devices"
        )
    if len(rows) != tiles:
        raise ValueError(f"{path}: {name} has {len(rows)} files; must have {tiles}")
    given = {_place_of(row): row for row in rows}
    # All files first: a damaged index could ask for more memory than its files fill.
    read: list[tuple[tuple[int, slice, list[int]], Tensor, Row]] = []
    for wanted, where in _places(name, mapping, tiling):
        row = given.get(_place_of(wanted))
        if row is None:
            raise ValueError(
                f"{path}: {name}: no file for {wanted['plane']}, rows {wanted['first_row']} to "
                f"{wanted['end_row']}, columns {wanted['first_column']} to {wanted['end_column']}"
            )
        if row["unit"] != "siemens":
            raise ValueError(
                f"{path}: {row['file']}: unit {row['unit']!r} is not allowed; must be siemens"
            )
        size = (where[1].stop - where[1].start, len(where[2]))
        read.append((where, read_numbers(folder / row["file"], *size), row))
    conductance = torch.empty(shape, dtype=torch.float64)
    units = torch.empty(tiling.columns, dtype=torch.float64)
    known = torch.zeros(tiling.columns, dtype=torch.bool)
    for where, values, row in read:
        if float(values.min()) < 0.0:
            raise ValueError(
                f"{folder / row['file']}: {float(values.min())} is not allowed; must be at least 0"
            )
        conductance[where] = values
        part = slice(int(row["first_column"]), int(row["end_column"]))
        unit = _units(path, row, part.stop - part.start)
        if bool(known[part].all()) and not torch.equal(units[part], unit):
            raise ValueError(
                f"{path}: {row['file']}: weight_per_siemens is not allowed; must be the same for "
                "all files of a column"
            )
        units[part], known[part] = unit, True
    return MatrixArrays(mapping, tiling, conductance, units)


def _place_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """What must be unique among the files of a matrix, and the same in all of them."""
    names = ("plane", "first_row", "end_row", "first_column", "end_column", "mapping")
    sizes = ("rows", "columns", "tile_rows", "tile_columns")
    return tuple(row[name] for name in (*names, *sizes))


def _read_bias(folder: Path, name: str, rows: Sequence[Row]) -> tuple[int, Tensor]:
    path, number = folder / INDEX, name.removeprefix("layer_")
    if len(rows) != 1 or not number.isdecimal() or not number.isascii() or len(number) > 9:
        raise ValueError(f"{path}: {name} is not allowed; must be one file of a layer, as layer_1")
    channels = _whole(path, name, rows[0], "end_column")
    return int(number), read_numbers(folder / rows[0]["file"], 1, channels)[0]


def _whole(path: Path, name: str, row: Row, field: str) -> int:
    text = row[field]
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and 0 < int(text) < 2**31):
        raise ValueError(
            f"{path}: {name}: {field} {text[:40]!r} is not allowed; must be a whole number from 1 "
            f"to {2**31 - 1}"
        )
    return int(text)


def _units(path: Path, row: Row, columns: int) -> Tensor:
    texts = row["weight_per_siemens"].split(" ")
    values = [number_of(text) for text in texts]
    if len(values) not in (1, columns) or any(v is None or v <= 0.0 for v in values):
        allowed = f"one number above 0, or {columns} with a space between"
        raise ValueError(
            f"{path}: {row['file']}: weight_per_siemens is not allowed; must be {allowed}"
        )
    return torch.tensor(values, dtype=torch.float64).expand(columns)
