"""One recipe learned in several ways, over several seeds, in one table."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from neurosim_ep.config import Recipe, RecipeError, load_recipe, shipped_recipes
from neurosim_ep.experiments.run import Result, run


@dataclass(frozen=True)
class Row:
    """One way of learning.

    Attributes:
        label: how the table names it.
        results: one per seed.
    """

    label: str
    results: list[Result]


def compare(
    recipes: Sequence[tuple[str, Recipe]],
    seeds: Sequence[int],
    folder: Path,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> list[Row]:
    """Run every recipe with every seed; each run has its folder below ``folder``.

    Args:
        recipes: label and recipe of each way of learning.
        seeds: at least one.
        folder: holds ``<recipe's name>-seed<seed>``.
        data_dir, resume, console: as in `run`.

    Returns:
        One row per recipe.

    Raises:
        ValueError: as `run`, or if no seed is given.
    """
    if not seeds:
        raise ValueError("seeds: an empty list is not allowed; must hold at least one")
    rows = []
    for label, recipe in recipes:
        results = []
        for seed in seeds:
            seeded = recipe.model_copy(update={"seed": seed})
            place = folder / f"{recipe.name}-seed{seed}"
            results.append(run(seeded, place, data_dir=data_dir, resume=resume, console=console))
        rows.append(Row(label, results))
    return rows


def counterpart(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The backpropagation recipe beside a shipped EP recipe.

    Args:
        name: of the EP recipe.
        overrides: each a ``key=value``; those of what only EP has are left out, all others apply to
            both.

    Raises:
        ValueError: if there is none.
    """
    if f"{name}-bp" not in shipped_recipes():
        raise RecipeError(f"recipe: {name!r} has no backpropagation counterpart '{name}-bp'")
    return load_recipe(f"{name}-bp", overrides)


def comparison_table(rows: Sequence[Row], title: str) -> Table:
    """Mean and spread of the test accuracies over the seeds."""
    table = Table(title=title)
    for heading in ("learned by", "seeds", "last epoch (%)", "best by validation (%)", "time (s)"):
        table.add_column(heading, justify="left" if heading == "learned by" else "right")
    for row in rows:
        table.add_row(
            row.label,
            str(len(row.results)),
            _mean_and_spread(row.results, lambda result: result.last),
            _mean_and_spread(row.results, lambda result: result.best_by_validation),
            f"{sum(result.seconds for result in row.results):.1f}",
        )
    return table


def _mean_and_spread(results: Sequence[Result], value: Callable[[Result], float | None]) -> str:
    """Mean and sample standard deviation."""
    values = [v for v in map(value, results) if v is not None]
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}"
