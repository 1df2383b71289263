"""What a sweep came to."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from neurosim_ep.experiments.sweeps.axes import Axis
from neurosim_ep.experiments.sweeps.cells import CellResult
from neurosim_ep.experiments.sweeps.records import results_table


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Attributes:
        name: of the recipe.
        axes: what was varied.
        cells: one per combination of values and seed, the last axis but the seeds changing fastest.
        folder: of ``sweep.toml``, ``sweep.json``, ``results.csv``, ``results.parquet``,
            ``accuracy.png`` and the cells' run folders.
    """

    name: str
    axes: tuple[Axis, ...]
    cells: tuple[CellResult, ...]
    folder: Path

    @property
    def groups(self) -> list[list[CellResult]]:
        """The seeds of each combination of values."""
        groups: dict[tuple[str, ...], list[CellResult]] = {}
        for cell in self.cells:
            groups.setdefault(tuple(cell.values.values()), []).append(cell)
        return list(groups.values())

    @property
    def failed(self) -> list[CellResult]:
        """Cells without an accuracy."""
        return [cell for cell in self.cells if cell.result is None]

    def table(self) -> Table:
        """Mean and spread of the accuracies over the seeds."""
        return results_table(self.name, self.groups)
