"""The records of a sweep, and the table that is printed."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from neurosim_ep._toml_text import problem
from neurosim_ep.config import Recipe, dump_recipe
from neurosim_ep.experiments.run_folder import describe_environment
from neurosim_ep.experiments.sweeps.axes import Axis, plain_name, value_label
from neurosim_ep.experiments.sweeps.cells import CellResult
from neurosim_ep.experiments.sweeps.file import sweep_toml
from neurosim_ep.experiments.sweeps.grid import RecipeSource
from neurosim_ep.learning import write_text

RECORD, FILE, FIGURE = "sweep.json", "sweep.toml", "accuracy.png"
_RECIPE = "recipe.toml"


def check_folder(folder: Path, axes: Sequence[Axis], *, resume: bool) -> None:
    """A sweep needs a folder without one, or one that varies the same keys, to resume.

    Raises:
        ValueError: if not.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(problem("out", str(folder), "a folder, or a new one"))
    if not (folder / RECORD).exists():
        return
    if not resume:
        raise ValueError(
            f"{folder}: there is a sweep in this folder; resume it or choose another folder"
        )
    held, mine = [axis["key"] for axis in _held(folder)["axes"]], [axis.key for axis in axes]
    if held != mine:
        raise ValueError(
            f"vary: {', '.join(mine)} is not allowed; the sweep in {folder} varies "
            f"{', '.join(held)}"
        )


def write_record(
    folder: Path,
    source: RecipeSource,
    settings: Mapping[str, str],
    axes: Sequence[Axis],
    seeds: Sequence[int],
    references: Mapping[str, float],
    jobs: int,
    scheduler: str | None,
    command: Sequence[str],
) -> None:
    """Write what the sweep is.

    ``sweep.json`` has the grid; command, versions and machine of each time it was started.
    ``sweep.toml`` can be run again; a recipe that is no file becomes one beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _held(folder)["runs"] if (folder / RECORD).exists() else []
    environment = describe_environment() | {"jobs": jobs, "scheduler": scheduler}
    record = {
        "recipe": dump_recipe(source) if isinstance(source, Recipe) else str(source),
        "settings": dict(settings),
        "axes": [
            {"key": axis.key, "values": ["+".join(step) for step in axis.steps]} for axis in axes
        ],
        "seeds": list(seeds),
        "runs": [*before, {"command": list(command), "environment": environment}],
    }
    name = str(source)
    if isinstance(source, Recipe):
        write_text(folder / _RECIPE, dump_recipe(source))
        name = str(folder / _RECIPE)
    text = sweep_toml(name, settings, axes, len(seeds), references, folder, jobs, scheduler)
    write_text(folder / FILE, text)
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")


def results_table(name: str, groups: Sequence[Sequence[CellResult]]) -> Table:
    """One row per combination of values.

    Args:
        name: of the recipe.
        groups: the seeds of each combination.
    """
    table = Table(title=f"{name}: test accuracy, mean +- spread (seeds)")
    for key in groups[0][0].values:
        table.add_column(plain_name(key))
    told = [heading for heading, of in _ON_CHIP.items() if any(map(of, groups))]
    headings = ["last epoch (%)", "best by validation (%)", *told, "time (s)"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for cells in groups:
        done = [cell.result for cell in cells if cell.result is not None]
        missing = len(cells) - len(done)
        last = _shown([result.last for result in done])
        table.add_row(
            *map(value_label, cells[0].values.values()),
            last + (f", {missing} of {len(cells)} failed" if missing else ""),
            _shown([r.best_by_validation for r in done if r.best_by_validation is not None]),
            *(_ON_CHIP[heading](cells) or "-" for heading in told),
            f"{sum(result.seconds for result in done):.1f}",
        )
    return table


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, None of fewer than two values."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, spread = mean_and_spread(values)
    return f"{mean:.2f}{'' if spread is None else f' +- {spread:.2f}'} ({len(values)})"


def _mean(cells: Sequence[CellResult], name: str) -> float | None:
    """Mean of a number of ``on-chip.json``; None where there is none."""
    found = [cell.on_chip[name] for cell in cells if name in cell.on_chip]
    return statistics.mean(found) if found else None


def _pulses(cells: Sequence[CellResult]) -> str:
    mean = _mean(cells, "statistics.total.pulses.mean")
    fast = _mean(cells, "fast_statistics.total.pulses.mean")
    if mean is None:
        return ""
    return f"{mean:,.1f}" + ("" if fast is None else f", fast {fast:,.1f}")


def _energy(cells: Sequence[CellResult]) -> str:
    mean = _mean(cells, "cost.training_image.energy_joule")
    return "" if mean is None else f"{1e9 * mean:,.3g}"


_ON_CHIP: dict[str, Callable[[Sequence[CellResult]], str]] = {
    "pulses per device": _pulses,
    "energy per training image (nJ)": _energy,
}


def _held(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(held["runs"], list)
        assert all(isinstance(axis["key"], str) for axis in held["axes"])
    except (AssertionError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: damaged or foreign; must be the record of a sweep") from None
    return dict(held)
