"""A grid of trainings: every study of what settings, devices and arrays cost is one call."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from neurosim_ep._toml_text import problem
from neurosim_ep.experiments.hardware.options import seed_range
from neurosim_ep.experiments.sweeps.axes import Axis, axes_of, check_apart, settings_of
from neurosim_ep.experiments.sweeps.cells import result_of
from neurosim_ep.experiments.sweeps.checks import check_cells
from neurosim_ep.experiments.sweeps.display import SweepDisplay
from neurosim_ep.experiments.sweeps.file import MOST_JOBS
from neurosim_ep.experiments.sweeps.grid import RecipeSource, cells_of, first_recipe
from neurosim_ep.experiments.sweeps.records import (
    FIGURE,
    check_folder,
    write_record,
)
from neurosim_ep.experiments.sweeps.result import SweepResult
from neurosim_ep.experiments.sweeps.table import write_results
from neurosim_ep.experiments.sweeps.workers import train_cells, workers
from neurosim_ep.figures.sweep import sweep_figure


def sweep(
    recipe: RecipeSource,
    vary: Mapping[str, object] | Sequence[str],
    seeds: int = 3,
    folder: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    device: str | Path | None = None,
    array: str | Path | None = None,
    references: Mapping[str, float] | None = None,
    data_dir: Path | None = None,
    resume: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    console: Console | None = None,
    command: Sequence[str] = (),
) -> SweepResult:
    """Train a recipe at every combination of up to three varied keys, with several seeds each.

    Keys are fields of the recipe (``learning.beta``, or ``beta`` where only one field has that
    name), ``device`` and ``array`` (names or paths of cards), and fields of these cards
    (``device.pulse_response.up_down``, ``device.states``, ``array.adc_bits``; see
    `sweeps.cards.card_targets`).  A changed card is written into the cell's folder.  Everything is
    resolved and checked before anything trains.

    A training that fails, as by diverging, is recorded with its message, and the others go on.

    Args:
        recipe: name, path or recipe.
        vary: lists of values by key, or texts ``KEY=V1,V2,...`` (`sweeps.axes.axes_of`).  The first
            key is the figure's horizontal axis, the second gives its lines, the third its panels.
        seeds: trainings of each combination: the recipe's seed and those after it.  On a chip
            `on_chip.device_seed` grows with it, so that each has hardware of its own.
        folder: ``runs/sweep-<recipe's name>`` by default; it must hold no sweep unless resumed.
        overrides: ``key=value``, of the recipe and of cards, for all cells.
        device, array: names or paths of cards, for all cells; with a device card, an exact recipe
            learns on a chip.
        references: accuracies in percent by label, drawn as horizontal lines.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.
        resume: keep finished cells and go on with the others; values and seeds may have been added.
        jobs: how many cells train at a time; more than one train in processes of one thread each,
            which a script may only start below ``if __name__ == "__main__":``.
        scheduler: address of a Dask scheduler, ``tcp://HOST:8786``, whose workers train instead;
            they see folder, cards and data under the same paths, and have one thread each.
        console: where to show progress; standard error by default.
        command: recorded with the sweep and its runs; the process's own by default.

    Raises:
        ValueError: one line per problem, before anything trains: an unknown or doubled key, a value
            that is not allowed, a card without the field, a folder that is taken, missing data,
            a scheduler that does not answer.
        OSError: if processes do not start, or the scheduler is lost; the sweep can be resumed.
    """
    console, command = console or Console(stderr=True), list(command or sys.argv)
    axes, settings = axes_of(vary), settings_of(overrides)
    for name, card in (("device", device), ("array", array)):
        if card is not None and name in settings:
            raise ValueError(problem(name, str(card), f"absent where {name} is set already"))
        settings |= {} if card is None else {name: str(card)}
    check_apart(list(settings), "set")
    check_apart([key for axis in axes for key in axis.keys], "vary", settings)
    _check_options(axes, seeds, jobs, scheduler, references or {})
    first = first_recipe(recipe, settings, axes)
    folder = folder or Path("runs") / f"sweep-{first.name}"
    check_folder(folder, axes, resume=resume)
    threads = 1 if jobs > 1 or scheduler else None
    cells = cells_of(recipe, settings, axes, seeds, folder, threads=threads)
    for cell in cells:
        cell.check_same()
    results = [result_of(cell) for cell in cells]
    left = [n for n, result in enumerate(results) if result.status != "finished"]
    todo = [cells[n] for n in left]
    check_cells(todo, data_dir, here=scheduler is None, progress=console.is_terminal)
    place = {cells[n].folder: n for n in left}
    with workers(min(jobs, len(todo)), scheduler if todo else None, folder) as client:
        write_record(
            folder, recipe, settings, axes, [cell.seed for cell in cells[:seeds]],
            references or {}, jobs, scheduler, command,
        )  # fmt: skip
        if len(left) < len(cells):
            console.print(f"{len(cells) - len(left)} of {len(cells)} cells are finished already")
        with SweepDisplay(console, todo) as display:
            for cell in train_cells(todo, client, data_dir, command):
                number = place[cell.folder]
                results[number] = result_of(cell)
                display.ended(cell, results[number])
                write_results(folder, results)
    write_results(folder, results)
    result = SweepResult(first.name, axes, tuple(results), folder)
    sweep_figure(result, folder / FIGURE, references or {})
    return result


def _check_options(
    axes: Sequence[Axis],
    seeds: int,
    jobs: int,
    scheduler: str | None,
    references: Mapping[str, float],
) -> None:
    seed_range("seeds", seeds)
    if not 1 <= jobs <= MOST_JOBS:
        raise ValueError(problem("jobs", jobs, f"at least 1 and at most {MOST_JOBS}"))
    if scheduler is not None and jobs > 1:
        raise ValueError(problem("jobs", jobs, "absent where scheduler is given"))
    if any("run.threads" in axis.keys for axis in axes):
        if jobs > 1:
            raise ValueError(problem("jobs", jobs, "1 where run.threads is varied"))
        if scheduler is not None:
            raise ValueError(problem("scheduler", scheduler, "absent where run.threads is varied"))
    for label, percent in references.items():
        if not (math.isfinite(percent) and 0.0 <= percent <= 100.0):
            allowed = "LABEL=PERCENT with a number from 0 to 100"
            raise ValueError(problem("reference", f"{label}={percent}", allowed))
