"""Tables of numbers in CSV without a header: written exactly, read with every size checked."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

_MOST_BYTES_A_NUMBER = 64


def write_numbers(path: Path, values: Tensor) -> None:
    """Write a table (rows, columns), each number with as many digits as bring it back exactly."""
    lines = (",".join(map(repr, line)) for line in values.double().tolist())
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def read_numbers(path: Path, rows: int, columns: int) -> Tensor:
    """Read a table of finite numbers of known size (rows, columns), in float64.

    Raises:
        ValueError: in one line, for another size, or anything that is not a finite number.
    """
    text = read_text(path, rows * columns * _MOST_BYTES_A_NUMBER + 1024)
    # A number and a comma or the line's end each.
    if len(text) + 1 < 2 * rows * columns:
        raise ValueError(f"{path}: too short; must be {rows} lines of {columns} numbers")
    lines = text.splitlines()
    if len(lines) != rows:
        raise ValueError(f"{path}: {len(lines)} lines; must be {rows}")
    table = []
    for number, line in enumerate(lines, start=1):
        values = [number_of(part) for part in line.split(",")]
        if len(values) != columns:
            raise ValueError(
                f"{path}: line {number} has {len(values)} numbers; must have {columns}"
            )
        if None in values:
            bad = line.split(",")[values.index(None)]
            raise ValueError(
                f"{path}: line {number}: {bad[:40]!r} is not allowed; must be a finite number"
            )
        table.append(values)
    return torch.tensor(table, dtype=torch.float64)


def number_of(text: str) -> float | None:
    """A finite number as spreadsheets and simulators write them, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def read_text(path: Path, most: int) -> str:
    """Read a text file of at most so many bytes.

    Raises:
        ValueError: in one line.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ValueError(f"{path}: not a file")
        if size > most:
            raise ValueError(f"{path}: {size} bytes; must be at most {most} for what it holds")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
