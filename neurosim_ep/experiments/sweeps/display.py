"""What a person sees while a sweep goes on."""

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from neurosim_ep.experiments.sweeps.axes import short_name, value_label
from neurosim_ep.experiments.sweeps.cells import CellResult, epochs_done
from neurosim_ep.experiments.sweeps.grid import Cell

_REFRESH_S = 0.5


class SweepDisplay:
    """Progress bar over the epochs of all cells, and one line per cell that has ended.

    Args:
        console: where to print; a console that is no terminal gets the lines only.
        cells: that will be trained.
    """

    def __init__(self, console: Console, cells: Sequence[Cell]) -> None:
        self._console, self._left, self._total = console, list(cells), len(cells)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        epochs = sum(cell.recipe.learning.epochs for cell in cells)
        self._task = self._progress.add_task(self._description(), total=epochs)
        self._behind, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "SweepDisplay":
        self._progress.start()
        if self._console.is_terminal:
            self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._watch.is_alive():
            self._watch.join()
        self._progress.stop()

    def ended(self, cell: Cell, result: CellResult) -> None:
        """Print a cell's line."""
        self._left.remove(cell)
        self._behind += cell.recipe.learning.epochs
        self._progress.update(self._task, description=self._description())
        where = f"{told(cell.values)}, seed {cell.seed}"
        done = result.result
        if done is None:
            line = f"{where}: failed: {result.message}"
            self._console.print(line, style="yellow", markup=False, soft_wrap=True)
        else:
            line = f"{where}: {done.last:.2f} % in {done.seconds:.0f} s"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _description(self) -> str:
        return f"cell {self._total - len(self._left)}/{self._total}"

    def _follow(self) -> None:
        """Read how far the cells are from their files: they may train in other processes."""
        while not self._over.wait(_REFRESH_S):
            under_way = sum(epochs_done(cell.folder) for cell in list(self._left))
            self._progress.update(self._task, completed=self._behind + under_way)


def told(values: Mapping[str, str]) -> str:
    """Varied values on one line."""
    return ", ".join(f"{short_name(key)} {value_label(v)}" for key, v in values.items())
