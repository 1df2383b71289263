"""Measured pulse trains: reading them from a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurosim_ep._toml_text import problem, show

REQUIRED = ("pulse", "direction", "conductance_siemens")
OPTIONAL = ("device", "cycle")
DIRECTIONS = {"up": True, "down": False, "+1": True, "1": True, "-1": False}
FEWEST_STEPS = 8
"""How many steps a fit needs in each direction."""


@dataclass(frozen=True)
class PulseTrain:
    """Consecutive pulses on one device.

    Attributes:
        device: its name.
        up: direction of each pulse, bool (N,).
        conductance_siemens: what was measured after each pulse, (N,).
    """

    device: str
    up: NDArray[np.bool_]
    conductance_siemens: NDArray[np.float64]


@dataclass(frozen=True)
class PulseData:
    """Measured pulse trains.

    Attributes:
        source: name of the file.
        trains: at least one; a device has several where pulse numbers are missing or where the
            file numbers cycles.
    """

    source: str
    trains: tuple[PulseTrain, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, in the order of the file."""
        return tuple(dict.fromkeys(train.device for train in self.trains))

    @property
    def pulses(self) -> int:
        """How many conductances were measured."""
        return sum(train.up.size for train in self.trains)


@dataclass(frozen=True)
class _Row:
    line: int
    pulse: int
    up: bool
    conductance_siemens: float
    device: str
    cycle: str


def read_pulse_csv(path: str | Path) -> PulseData:
    """Read pulse trains from a CSV file with a line of column names.

    Columns: ``pulse`` (running number), ``direction`` ("up" or "down", +1 or -1) of that pulse,
    ``conductance_siemens`` measured after it, and, where there are several, ``device`` and
    ``cycle`` (names or numbers); others are passed over.  Columns are parted by commas, semicolons
    or tabs, decimals by points.  A step is what one pulse changes against the pulse number before,
    in the same device and cycle, so the first pulse of a train only says where it starts.

    Raises:
        ValueError: one line, with the file, the line and the column.
    """
    path = Path(path)
    name = path.name
    trains = tuple(_trains(list(_rows(_text(path), name)), name))
    if not trains:
        raise ValueError(f"{name}, pulse: no two pulses in a row; must run on without gaps")
    for label, up in (("up", True), ("down", False)):
        found = sum(int((train.up[1:] == up).sum()) for train in trains)
        if found < FEWEST_STEPS:
            raise ValueError(
                f"{name}, pulse: {found} steps {label} are not allowed; must be at least "
                f"{FEWEST_STEPS} (too few pulses)"
            )
    return PulseData(source=name, trains=trains)


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{show(str(path))}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{show(str(path))}: not a CSV file: not UTF-8 text (at byte {error.start})"
        ) from None
    except OSError as error:
        raise ValueError(f"{show(str(path))}: cannot be read: {error.strerror}") from None
    if not text.strip():
        raise ValueError(f"{show(str(path))}: an empty file")
    return text


def _rows(text: str, name: str) -> Iterator[_Row]:
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if columns is None:
                columns = _columns(stripped, name)
            else:
                yield _row(columns, stripped, reader.line_num, f"{name}, line {reader.line_num}")
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: not a CSV file: {error}") from None


def _columns(names: list[str], file: str) -> list[str]:
    if missing := [name for name in REQUIRED if name not in names]:
        plural = "s" if len(missing) > 1 else ""
        found = ", ".join(map(show, names))
        raise ValueError(
            f"{file}: without the column{plural} {', '.join(missing)}; found {found[:200]}"
        )
    for name in (*REQUIRED, *OPTIONAL):
        if names.count(name) > 1:
            raise ValueError(f"{file}: two columns {name}; must be one")
    return names


def _row(columns: list[str], cells: list[str], line: int, where: str) -> _Row:
    if len(cells) != len(columns):
        raise ValueError(
            f"{where}: {len(cells)} columns are not allowed; must be {len(columns)}, as in the "
            "line of names"
        )
    given = dict(zip(columns, cells, strict=True))
    try:
        pulse = int(given["pulse"])
    except ValueError:
        line_text = problem("pulse", given["pulse"], "a whole number")
        raise ValueError(f"{where}, {line_text}") from None
    if given["direction"].lower() not in DIRECTIONS:
        allowed = 'one of "up", "down", +1, -1'
        raise ValueError(f"{where}, {problem('direction', given['direction'], allowed)}")
    try:
        conductance = float(given["conductance_siemens"])
    except ValueError:
        conductance = math.nan
    if not (math.isfinite(conductance) and conductance > 0.0):
        text = problem("conductance_siemens", given["conductance_siemens"], "a number above 0")
        raise ValueError(f"{where}, {text}")
    return _Row(
        line,
        pulse,
        DIRECTIONS[given["direction"].lower()],
        conductance,
        given.get("device", ""),
        given.get("cycle", ""),
    )


def _trains(rows: list[_Row], name: str) -> Iterator[PulseTrain]:
    grouped: dict[tuple[str, str], dict[int, _Row]] = {}
    for row in rows:
        pulses = grouped.setdefault((row.device, row.cycle), {})
        if row.pulse in pulses:
            allowed = f"once per device and cycle; line {pulses[row.pulse].line} has it too"
            raise ValueError(f"{name}, line {row.line}, {problem('pulse', row.pulse, allowed)}")
        pulses[row.pulse] = row
    for (device, _), pulses in grouped.items():
        ordered = [pulses[number] for number in sorted(pulses)]
        gaps = [i for i in range(1, len(ordered)) if ordered[i].pulse != ordered[i - 1].pulse + 1]
        for start, stop in zip([0, *gaps], [*gaps, len(ordered)], strict=True):
            part = ordered[start:stop]
            if len(part) > 1:
                yield PulseTrain(
                    device,
                    np.array([row.up for row in part]),
                    np.array([row.conductance_siemens for row in part]),
                )
