"""Run a recipe: train, keep what is worth keeping, resume where it stopped."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from neurosim_ep.config import Recipe
from neurosim_ep.data import Dataset
from neurosim_ep.experiments.build import Experiment, build, device_of
from neurosim_ep.experiments.console import RunDisplay
from neurosim_ep.experiments.on_chip.building import load_cards
from neurosim_ep.experiments.on_chip.coarseness import explained
from neurosim_ep.experiments.on_chip.records import OnChipRecords
from neurosim_ep.experiments.processes import check_together
from neurosim_ep.experiments.run_folder import RunFolder, epoch_row
from neurosim_ep.learning import (
    ALONE,
    EpochRecord,
    Processes,
    Training,
    evaluate,
    load_checkpoint,
    save_checkpoint,
    write_text,
)
from neurosim_ep.onchip import OnChipUpdates
from neurosim_ep.plots import learning_curve


class Stopped(Exception):
    """A run was asked to stop after a batch; its checkpoint stands there."""


@dataclass(frozen=True)
class Result:
    """Test accuracies of a run, in percent.

    Attributes:
        epochs: done.
        last: after the last epoch.
        best_by_validation: of the epoch with the best validation accuracy; None without one.
        best_epoch: that epoch, counted from 1.
        best_by_test: the best of all epochs on the test set, as the paper reports it; it is chosen
            on what it is measured on, and so flatters.
        seconds: of all epochs together.
    """

    epochs: int
    last: float
    best_by_validation: float | None
    best_epoch: int | None
    best_by_test: float
    seconds: float


def run(
    recipe: Recipe,
    folder: Path,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
    command: Sequence[str] = (),
    stop: Callable[[], bool] | None = None,
    loaded: Dataset | None = None,
    processes: Processes = ALONE,
) -> Result:
    """Train a recipe in a run folder.

    The folder holds the resolved recipe, versions and machine, metrics per epoch, checkpoints, the
    weights of the last and the best epoch, the result and the learning curve.

    Args:
        recipe: what to run.
        folder: where; it must not hold a run yet, unless that run is resumed.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.
        resume: go on from the folder's checkpoint, to the same numbers as without the stop (bit for
            bit on a CPU with the same number of threads); starts anew where there is none.
        console: where to show progress; standard error by default.
        command: recorded with the run; the process's own by default.
        stop: asked after every batch; where it says so, the run stops and can be resumed.  An
            epoch's evaluation is not interrupted; it follows when the run is resumed.
        loaded: the recipe's data set, where it is in memory already.
        processes: those that train together, from `neurosim_ep.learning.joined_processes`; the
            first one writes, the others need no folder.

    Raises:
        Stopped: if `stop` said so.
        ValueError: if the folder is taken, the recipe is not the resumed run's, data or device are
            missing, a checkpoint is damaged, the recipe cannot be trained by several processes, or
            the training diverges.
    """
    files, console = RunFolder(folder), console or Console(stderr=True)
    if not processes.first:
        console = Console(quiet=True, force_terminal=False)
    if recipe.run.threads is not None:
        torch.set_num_threads(recipe.run.threads)
    with processes.together():
        check_together(recipe, processes)
        started = processes.first and resume and files.recipe.exists()
        cards = None if recipe.on_chip is None else load_cards(recipe.on_chip)
        if started:
            files.check_same(recipe, cards)
        elif processes.first:
            files.check_free()
        device = device_of(recipe, processes)
    processes.use(device)
    with processes.together():
        experiment = build(
            recipe,
            data_dir,
            cards=cards,
            progress=console.is_terminal,
            loaded=loaded,
            processes=processes,
        )
        if processes.first and not started:
            data = experiment.data.display_name
            files.start(recipe, command or sys.argv, cards, data, processes.count)
    processes.same_model(experiment.training.method.model)
    updates, records = experiment.training.optimiser, None
    if isinstance(updates, OnChipUpdates):
        records = OnChipRecords(recipe, updates, files)
    history: list[dict[str, Any]] = []
    if processes.decided(started and files.checkpoint.exists()):
        history = _restore(experiment.training, files.checkpoint)
        if processes.first:
            files.write_metrics(history)  # a kill may have come between the two files
    if records is not None:
        records.begin(started)
    try:
        with RunDisplay(console, recipe.name, recipe.learning.epochs) as display:
            for line in records.warnings if records is not None else ():
                display.warn(line)
            _train(experiment, files, history, display, records, stop)
    except ValueError as error:
        if isinstance(updates, OnChipUpdates):
            raise ValueError(explained(str(error), recipe, updates)) from error
        raise
    finally:
        if records is not None:
            records.close()
    result = summarise(history)
    with processes.together():
        if records is not None:
            images, _ = next(iter(experiment.test.epoch(0)))
            records.write(images)
        if processes.first:
            write_text(files.result, json.dumps(result.__dict__, indent=2) + "\n")
            learning_curve(history, files.curve, title=recipe.name)
    return result


def _train(
    experiment: Experiment,
    files: RunFolder,
    history: list[dict[str, Any]],
    display: RunDisplay,
    records: OnChipRecords | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    training, interval_s = experiment.training, experiment.recipe.run.checkpoint_interval_s
    saved_at, processes = time.monotonic(), training.processes

    def save() -> None:
        state = _state(training, history)
        with processes.together():
            if processes.first:
                save_checkpoint(files.checkpoint, state)

    def on_batch(training: Training) -> None:
        nonlocal saved_at
        display.on_batch(training)
        if records is not None:
            records.on_batch(training)
        if stop is not None and processes.decided(stop()):
            save()
            raise Stopped
        # The last batch's checkpoint is the epoch's own, made after the evaluation.
        due = time.monotonic() - saved_at >= interval_s
        if training.batch < len(training.batches) and processes.decided(due):
            save()
            saved_at = time.monotonic()

    while training.epoch < experiment.recipe.learning.epochs:
        start = time.perf_counter()
        rate = training.optimiser.param_groups[0]["lr"]
        summary = training.run_epoch(on_batch)
        record = EpochRecord(training.epoch, summary, None, None, rate, 0.0)
        record = _evaluated(record, experiment)
        record = replace(record, seconds=time.perf_counter() - start)
        history.append(epoch_row(record))
        state = _state(training, history)
        with processes.together():
            if processes.first:
                _save_epoch(files, state)
        saved_at = time.monotonic()
        display.on_epoch(record)


def _save_epoch(files: RunFolder, state: dict[str, Any]) -> None:
    history, weights = state["history"], state["training"]["model"]
    if _best_epoch(history) == history[-1]["epoch"]:
        save_checkpoint(files.best, weights)
    save_checkpoint(files.last, weights)
    save_checkpoint(files.checkpoint, state)
    files.write_metrics(history)


def _evaluated(record: EpochRecord, experiment: Experiment) -> EpochRecord:
    method, validation = experiment.training.method, experiment.validation
    processes = experiment.training.processes
    return replace(
        record,
        validation=evaluate(method, validation.epoch(0), processes) if validation else None,
        test=evaluate(method, experiment.test.epoch(0), processes),
    )


def _state(training: Training, history: list[dict[str, Any]]) -> dict[str, Any]:
    return {"training": training.state_dict(), "history": history}


def _restore(training: Training, path: Path) -> list[dict[str, Any]]:
    processes = training.processes
    with processes.together():
        state = load_checkpoint(path) if processes.first else {}
    # Read by the first alone: the others may be on machines without the folder.
    state = processes.from_first(state)
    with processes.together():
        try:
            training.load_state_dict(state["training"])
            history: list[dict[str, Any]] = state["history"]
        except (KeyError, RuntimeError, TypeError, ValueError):
            raise ValueError(f"{path}: does not fit the recipe of its run folder") from None
    return history


def _best_epoch(history: Sequence[dict[str, Any]]) -> int:
    """Epoch with the highest validation accuracy, the lower cost deciding; without, the last."""
    if history[0]["validation_accuracy_percent"] is None:
        return int(history[-1]["epoch"])
    best = max(history, key=lambda r: (r["validation_accuracy_percent"], -r["validation_cost"]))
    return int(best["epoch"])


def summarise(history: Sequence[dict[str, Any]]) -> Result:
    """Accuracies of a run from its metrics, one row per epoch."""
    validated = history[0]["validation_accuracy_percent"] is not None
    best = _best_epoch(history) if validated else None
    accuracy = {row["epoch"]: row["test_accuracy_percent"] for row in history}
    return Result(
        epochs=len(history),
        last=accuracy[len(history)],
        best_by_validation=accuracy[best] if best else None,
        best_epoch=best,
        best_by_test=max(accuracy.values()),
        seconds=sum(row["seconds"] for row in history),
    )
