"""Training what is left of a table within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from neurosim_ep.config import Recipe
from neurosim_ep.data import Dataset, load
from neurosim_ep.experiments.build import device_of
from neurosim_ep.experiments.reproduce.plans import Planned
from neurosim_ep.experiments.run import Stopped, run
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.experiments.sweeps.cells import record_failure

ANOTHER_ROUND_FRACTION = 0.1
"""What must be left of the budget for another round over what is not finished."""


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        label: how progress names it.
        recipe: with its seed.
        folder: of its run.
    """

    label: str
    recipe: Recipe
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return RunFolder(self.folder).result.exists()


def jobs_of(rows: Sequence[Planned]) -> list[Job]:
    """The trainings of a table: the first seed of every row, then the second, each run once."""
    jobs: dict[Path, Job] = {}
    for number in range(max((len(row.recipes) for row in rows), default=0)):
        for row in rows:
            recipe, folder = row.recipes[number], row.folders[number]
            label = f"{row.entry.key}, seed {recipe.seed}"
            jobs.setdefault(folder, Job(label, recipe, folder))
    return list(jobs.values())


def check_jobs(
    jobs: Sequence[Job], data_dir: Path | None, *, progress: bool, train: bool
) -> dict[str, Dataset]:
    """Runs that were started are these trainings; devices and data are there for what is left.

    Args:
        jobs: of the table.
        data_dir: folder with the data sets.
        progress: show a download's progress.
        train: whether anything will be trained.

    Returns:
        The data sets by name.

    Raises:
        ValueError: naming what is not allowed.
    """
    for job in jobs:
        files = RunFolder(job.folder)
        if files.recipe.exists():
            files.check_same(job.recipe)
    left = [job for job in jobs if train and not job.finished]
    for job in left:
        device_of(job.recipe)
    names = dict.fromkeys(job.recipe.data.name for job in left)
    return {name: load(name, data_dir, progress=progress) for name in names}


def train_jobs(
    jobs: Sequence[Job],
    until: float | None,
    *,
    data: Mapping[str, Dataset],
    console: Console,
    command: Sequence[str],
) -> dict[str, float]:
    """Train in turn, each for an equal share of the time that is left at its turn.

    What a training that finishes early leaves over is shared by those after it.  Where a tenth of
    the time is left in the end, another round begins over those that are not finished.  A training
    stops after the batch, or the evaluation, that its share runs out in, and goes on from there in
    the next round or call, so that every call gets on by a batch at least.  One that fails is
    recorded, and not tried again in this call.

    Args:
        jobs: in the order in which they take turns.
        until: `time.monotonic` at which the budget ends; None trains all to their ends.
        data: data sets by name.
        console, command: as in `run`.

    Returns:
        Seconds spent, by folder name.
    """
    start = time.monotonic()
    spent: dict[str, float] = {}
    left = [job for job in jobs if not job.finished]
    while left:
        unfinished = []
        for place, job in enumerate(left):
            began = time.monotonic()
            if until is not None and began >= until and spent:
                return spent
            share = None if until is None else began + (until - began) / (len(left) - place)
            if _train(job, share, data[job.recipe.data.name], console, command):
                unfinished.append(job)
            taken = time.monotonic() - began
            spent[job.folder.name] = spent.get(job.folder.name, 0.0) + taken
        left = unfinished
        if until is not None:
            rest = until - time.monotonic()
            if rest < ANOTHER_ROUND_FRACTION * (until - start):
                break
    return spent


def _train(
    job: Job, until: float | None, data: Dataset, console: Console, command: Sequence[str]
) -> bool:
    """Train until a moment; whether there is more to do."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "failed.json").unlink(missing_ok=True)
    left_min = 0.0 if until is None else max(until - time.monotonic(), 0.0) / 60.0
    told = "to the end" if until is None else f"for {left_min:.1f} min"
    console.print(f"{job.label}: {told}", highlight=False, markup=False, soft_wrap=True)

    def out_of_time() -> bool:
        return until is not None and time.monotonic() >= until

    try:
        run(
            job.recipe,
            job.folder,
            resume=True,
            console=console,
            command=command,
            stop=out_of_time,
            loaded=data,
        )
    except Stopped:
        return True
    except (ValueError, RuntimeError) as error:  # a divergence; a GPU's memory
        console.print(f"failed: {error}", style="yellow", markup=False, soft_wrap=True)
        record_failure(job.folder, f"{error}")
    return False
