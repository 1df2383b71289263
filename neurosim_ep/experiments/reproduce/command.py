"""One call that trains what a table or figure of the paper needs, and says how far it came."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neurosim_ep._toml_text import problem
from neurosim_ep.experiments.build import device_of
from neurosim_ep.experiments.reproduce import memory, weights
from neurosim_ep.experiments.reproduce.outcomes import Row, rows_of
from neurosim_ep.experiments.reproduce.plans import Planned, at_batch, plan
from neurosim_ep.experiments.reproduce.records import (
    csv_row,
    earlier_calls,
    json_row,
    write_csv,
    write_json,
)
from neurosim_ep.experiments.reproduce.tables import accuracy_table, notes_of
from neurosim_ep.experiments.reproduce.targets import TITLES
from neurosim_ep.experiments.reproduce.trainings import check_jobs, jobs_of, train_jobs
from neurosim_ep.experiments.run_folder import describe_environment
from neurosim_ep.figures.reproduce import error_figure, loss_figure, weights_figure

DEFAULT_FOLDER = Path("runs") / "reproduce"
_RUNS = "runs"


@dataclass(frozen=True)
class Reproduction:
    """What a call came to.

    Attributes:
        tables: to print.
        rows: the same and more as plain numbers, as in ``TARGET.json``.
        notes: what must be said beside them, one line each.
        folder: of the record, the figure and, below, the run folders.
        files: written in it.
        failed: whether every row failed.
    """

    tables: tuple[Table, ...]
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    folder: Path
    files: tuple[Path, ...]
    failed: bool


@dataclass(frozen=True)
class _Call:
    """What was asked for."""

    target: str
    overrides: tuple[str, ...]
    scale: str
    schedule: str
    command: tuple[str, ...]
    folder: Path

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.target}{suffix}"

    def record(self, calls: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "target": self.target,
            "title": TITLES[self.target],
            "source": "arXiv 2509.26003",
            "scale": self.scale,
            "schedule": self.schedule,
            "overrides": list(self.overrides),
            "comparable": self.scale == "full",
            **more,
            "calls": calls,
        }


def reproduce(
    target: str,
    *,
    only: Sequence[str] = (),
    budget_min: float | None = None,
    out: Path | None = None,
    data_dir: Path | None = None,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    scale: str = "full",
    schedule: str = "faithful",
    console: Console | None = None,
    command: Sequence[str] = (),
) -> Reproduction:
    """Train what is left of a table or figure, and compare with arXiv 2509.26003.

    Runs are shared by all targets of one folder, scale and schedule, and resumed from their
    checkpoints: a call that was stopped or killed is carried on by the same call, on a CPU to the
    same numbers bit for bit.

    Args:
        target: ``table1``, ``table2``, ``fig2``, ``fig3``, ``fig4`` or ``memory``.
        only: rows to train and show, each given by words of its name joined by ``/``.
        budget_min: minutes of this call, shared equally by what is left (`train_jobs`); a batch or
            an evaluation under way is finished.  0 trains nothing; None trains all to their ends.
        out: holds a folder for each scale and schedule; runs/reproduce by default.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.
        seeds: trainings of each row: the recipe's seed and those after it.
        overrides: ``key=value``, for all rows.
        scale: ``full``; ``small`` and ``tiny`` exercise the same on a CPU, and are not comparable.
        schedule: ``faithful`` (the paper's settings) or ``fast``.
        console: where to show progress; standard error by default.
        command: recorded; the process's own by default.

    Raises:
        ValueError: one line per problem, before anything trains.
    """
    began = time.monotonic()
    console, command = console or Console(stderr=True), command or sys.argv
    if budget_min is not None and not (math.isfinite(budget_min) and budget_min >= 0.0):
        raise ValueError(problem("budget", budget_min, "a number of minutes, at least 0"))
    folder = (out or DEFAULT_FOLDER) / f"{scale}-{schedule}"
    settings = {"only": only, "seeds": seeds, "overrides": overrides}
    settings |= {"scale": scale, "schedule": schedule}
    plans = plan(target, folder / _RUNS, **settings)  # type: ignore[arg-type]
    _check_folder(out or DEFAULT_FOLDER)
    call = _Call(target, tuple(overrides), scale, schedule, tuple(command), folder)
    calls = earlier_calls(call.path(".json"))
    if target == "memory":
        for name, value, unset in (("budget", budget_min, None), ("seeds", seeds, 1)):
            if value != unset:
                raise ValueError(problem(name, value, "absent with memory, which trains nothing"))
        return _memory(call, calls, plans, console)
    jobs = jobs_of(plans)
    train = budget_min is None or budget_min > 0.0
    data = check_jobs(jobs, data_dir, progress=console.is_terminal, train=train)
    until = None if budget_min is None else began + 60.0 * budget_min
    spent: dict[str, float] = {}
    if train:
        spent = train_jobs(jobs, until, data=data, console=console, command=command)
    about = {"budget_min": budget_min, "seconds_by_run": _rounded(spent)}
    return _accuracies(call, [*calls, _described(call, about)], rows_of(plans))


def _accuracies(call: _Call, calls: list[dict[str, Any]], rows: Sequence[Row]) -> Reproduction:
    comparable = call.scale == "full"
    notes = notes_of(call.target, rows, call.scale, call.schedule, call.overrides)
    tables = [accuracy_table(call.target, rows, call.scale, call.schedule)]
    more: dict[str, Any] = {}
    pictures = [call.path(".png"), call.path(".pdf")]
    drawn = call.target.startswith("fig") and any(o.history for r in rows for o in r.outcomes)
    if drawn and call.target == "fig4":
        layers = {row.entry.learned_by: _first_weights(row) for row in rows}
        bp, ep = layers.get("bp", []), layers.get("ep", [])
        told = "Weights of the best epoch by validation" + _told(call)
        tables.append(weights.weights_table(bp, ep, told))
        more["layers"] = {way: weights.plain(found) for way, found in layers.items()}
    call.folder.mkdir(parents=True, exist_ok=True)
    for path in pictures if drawn else ():
        title = TITLES[call.target] + _told(call)
        if call.target == "fig2":
            loss_figure(rows, path, title=title)
        elif call.target == "fig3":
            error_figure(rows, path, title=title)
        else:
            weights_figure(bp, ep, path, title=title)
    if call.target.startswith("fig") and not drawn:
        notes.append("no figure yet: no epoch has been finished")
    table = [csv_row(row, o, comparable=comparable) for row in rows for o in row.outcomes]
    write_csv(call.path(".csv"), table)
    listed = [json_row(row, comparable=comparable) for row in rows]
    write_json(call.path(".json"), call.record(calls, rows=listed, notes=notes, **more))
    files = (call.path(".json"), call.path(".csv"), *(pictures if drawn else ()))
    failed = all(o.status == "failed" for row in rows for o in row.outcomes)
    return Reproduction(tuple(tables), tuple(listed), tuple(notes), call.folder, files, failed)


def _memory(
    call: _Call, calls: list[dict[str, Any]], plans: Sequence[Planned], console: Console
) -> Reproduction:
    plans = [at_batch(planned, memory.BATCH_SIZE) for planned in plans]
    for planned in plans:
        device_of(planned.recipes[0])
    found = []
    for planned in plans:
        console.print(f"{planned.entry.key}: measuring in a fresh process", highlight=False)
        found.append(memory.measure_memory(planned))
    notes = memory.memory_notes(found, call.scale, call.overrides)
    listed = [memory.plain(one) for one in found]
    record = call.record([*calls, _described(call, {})], rows=listed, notes=notes)
    write_json(call.path(".json"), record)
    write_csv(call.path(".csv"), listed)
    files = (call.path(".json"), call.path(".csv"))
    table = memory.memory_table(found, call.scale, call.schedule)
    failed = all(one.message for one in found)
    return Reproduction((table,), tuple(listed), tuple(notes), call.folder, files, failed)


def _first_weights(row: Row) -> list[weights.LayerWeights]:
    """Of the first seed."""
    return weights.layer_weights(row.outcomes[0].folder)


def _told(call: _Call) -> str:
    """What a figure says of its trainings."""
    scale = "" if call.scale == "full" else f", scale {call.scale}: not comparable with the paper"
    return f", schedule {call.schedule}{scale}"


def _described(call: _Call, more: dict[str, Any]) -> dict[str, Any]:
    return {"command": list(call.command), **more, "environment": describe_environment()}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in seconds.items()}


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(problem("out", str(folder), "a folder, or a new one"))
