"""One table of a sweep's results, as CSV and as Parquet: one row per cell, the same columns."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

from neurosim_ep.experiments.sweeps.axes import parsed
from neurosim_ep.experiments.sweeps.cells import CellResult
from neurosim_ep.learning import write_text

CSV, PARQUET = "results.csv", "results.parquet"

_TYPES = {
    "seed": pa.int64(),
    "device_seed": pa.int64(),
    "status": pa.string(),
    "best_epoch": pa.int64(),
    "epochs": pa.int64(),
    "message": pa.string(),
}
_LAST = "message"
_LARGEST = 2**63 - 1


def write_results(folder: Path, cells: Sequence[CellResult]) -> None:
    """Write ``results.csv`` and ``results.parquet``.

    In Parquet, seeds and epochs are whole numbers and all other results floating-point numbers,
    null where there is none.  A varied key's column has numbers where all its values are numbers
    (``none`` is null), truth values where all are, and else the texts of the CSV file.
    """
    rows = [cell.row for cell in cells]
    names = [*dict.fromkeys(name for row in rows for name in row if name != _LAST), _LAST]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / CSV, text.getvalue())
    columns, varied = {}, set(cells[0].values) if cells else set()
    for name in names:
        values = [row.get(name) for row in rows]
        if name in varied:
            columns[name] = varied_column(list(map(str, values)))
        else:
            columns[name] = pa.array(values, _TYPES.get(name, pa.float64()))
    beside = folder / f".{PARQUET}.part"
    pq.write_table(pa.table(columns), beside)
    os.replace(beside, folder / PARQUET)


def varied_column(texts: Sequence[str]) -> pa.Array:
    """Values of a varied key in the narrowest type that holds them all."""
    values = [None if text == "none" else parsed(text) for text in texts]
    kinds = {type(value) for value in values if value is not None}
    small = all(not isinstance(value, int) or abs(value) <= _LARGEST for value in values)
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and small:
        return pa.array(values, pa.int64())
    if kinds and kinds <= {int, float} and small:
        return pa.array(values, pa.float64())
    return pa.array(texts, pa.string())
