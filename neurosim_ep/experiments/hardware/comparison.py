"""Ideal against analog accuracy: train, try on hardware, attribute, and keep all of it in files."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console

from neurosim_ep.config import Recipe
from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.console import TrialDisplay
from neurosim_ep.experiments.hardware.analog import Measurement, Measurements, Trial
from neurosim_ep.experiments.hardware.attribution import (
    ATTRIBUTION_IMAGES,
    Attribution,
    attribute,
    spread,
    trials_of,
)
from neurosim_ep.experiments.hardware.mapped import Trained, load_trained
from neurosim_ep.experiments.hardware.options import HardwareOptions, check_recipe
from neurosim_ep.experiments.images import load_images
from neurosim_ep.experiments.on_chip.attribution import exact_percent
from neurosim_ep.experiments.on_chip.comparison import (
    OnChipComparison,
    OnChipPlan,
    collect_on_chip,
    plan_on_chip,
)
from neurosim_ep.experiments.on_chip.trainings import check_trainings, train_all
from neurosim_ep.experiments.run import run
from neurosim_ep.figures.hardware import duration


@dataclass(frozen=True)
class Point:
    """One chip at one time.

    Attributes:
        device: name of the card.
        training_seed: of the network.
        device_seed: of the hardware.
        time_s: since programming.
        measured: what it showed.
        ideal: what its network shows by itself.
    """

    device: str
    training_seed: int
    device_seed: int
    time_s: float
    measured: Measurement
    ideal: Measurement


@dataclass(frozen=True)
class HardwareComparison:
    """Ideal against analog accuracy.

    Attributes:
        recipe: of the networks.
        data: how the data set is called.
        test_images: how many it has.
        options: what was asked for.
        ideal: the exact networks, by training seed.
        points: all chips at all times.
        attributions: one per device, where asked for.
        fidelity: what the report on the gradients came to, by device, where asked for.
        on_chip: what devices learned by themselves, where asked for.
    """

    recipe: Recipe
    data: str
    test_images: int
    options: HardwareOptions
    ideal: dict[int, Measurement]
    points: list[Point]
    attributions: list[Attribution]
    fidelity: dict[str, list[str]] = field(default_factory=dict)
    on_chip: OnChipComparison | None = None

    def of(self, device: str, time_s: float) -> list[Point]:
        """All chips of a device at a time."""
        return [p for p in self.points if p.device == device and p.time_s == time_s]


@dataclass(frozen=True)
class Level:
    """An accuracy over several chips or networks, in percent.

    Attributes:
        mean: of all.
        spread: sample standard deviation; None of fewer than two.
    """

    mean: float
    spread: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Level":
        """Of these values."""
        return cls(statistics.mean(values), spread(values))


def accuracies(points: Sequence[Point]) -> list[float]:
    """Of each chip, in percent."""
    return [point.measured.accuracy_percent for point in points]


def gaps(points: Sequence[Point]) -> list[float]:
    """How far each chip is below its own network, in points of accuracy."""
    return [point.ideal.accuracy_percent - point.measured.accuracy_percent for point in points]


def compare_on_hardware(
    recipe: Recipe,
    options: HardwareOptions,
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> HardwareComparison:
    """Train a recipe, put the networks on simulated hardware, and measure what that costs.

    Where asked for, devices learn by themselves as well, beside backpropagation.

    Args:
        recipe: by equilibrium propagation.
        options: what to compare.
        folder: holds the runs and what was measured; see `hardware.records`.
        overrides: of the recipe, for its counterpart by backpropagation.
        data_dir, resume, console: as in `neurosim_ep.experiments.run`; what was measured already is
            kept as well.

    Raises:
        ValueError: as `run`; before anything is trained if the folder holds a comparison already or
            recipe, run and cards do not fit together.
    """
    console, kept = console or Console(stderr=True), folder / "measurements.json"
    recipe = check_recipe(recipe, options)
    if kept.exists() and not resume:
        raise ValueError(
            f"{folder}: there is a comparison in this folder; resume it or choose another folder"
        )
    measure = Measurements(kept, resume=resume)
    if recipe.run.threads is not None:
        torch.set_num_threads(recipe.run.threads)
    runs = [options.run] if options.run else []
    runs += [folder / f"{recipe.name}-seed{s}" for s in (() if options.run else options.seeds)]
    plan, results = None, {}
    if options.on_chip is not None:
        plan = plan_on_chip(recipe, options, folder, overrides)
        check_trainings(plan.trainings, data_dir, resume=resume, progress=console.is_terminal)
        _say_rules(plan, console)
        results = train_all(plan.trainings, options.on_chip.jobs, data_dir, console)
        for training in (*plan.backpropagation, *plan.exact):
            exact_percent(results[training.folder])
    elif options.run is None:
        exact = recipe.model_copy(update={"on_chip": None})
        for seed, place in zip(options.seeds, runs, strict=True):
            seeded = exact.model_copy(update={"seed": seed})
            run(seeded, place, data_dir=data_dir, resume=resume, console=console)
    data = load_images(recipe, data_dir, progress=console.is_terminal)
    trained = [load_trained(place, data) for place in runs]
    folder.mkdir(parents=True, exist_ok=True)
    comparison = compare_trained(trained, options, measure=measure, console=console)
    if plan is not None:
        percents = {
            network.recipe.seed: measure(Trial(network, None))[0].accuracy_percent
            for network in trained
        }
        collected = collect_on_chip(plan, results, percents, data)
        comparison = replace(comparison, on_chip=collected)
    if not options.fidelity:
        return comparison
    from neurosim_ep.experiments.hardware.fidelity import fidelity_lines

    lines = fidelity_lines(
        trained[0], options, folder, data_dir=data_dir, resume=resume, console=console
    )
    return replace(comparison, fidelity=lines)


def _say_rules(plan: OnChipPlan, console: Console) -> None:
    """How each device will learn, and what of the recipe is different for it."""
    for device in plan.devices:
        changes = "; ".join(device.changes)
        line = f"{device.name} learns by {device.choice.name}"
        told = f"{line} ({changes})" if changes else line
        console.print(told, highlight=False, markup=False, soft_wrap=True)


def compare_trained(
    trained: Sequence[Trained],
    options: HardwareOptions,
    *,
    measure: Measurements | None = None,
    console: Console | None = None,
) -> HardwareComparison:
    """Put trained networks on simulated hardware, and measure what that costs.

    Args:
        trained: networks of one recipe, with different seeds.
        options: what to compare; its training seeds and its run play no part.
        measure: makes and keeps the measurements.
        console: where to show progress; standard error by default.

    Raises:
        ValueError: if an array is too small or a settling diverges.
    """
    console, measure = console or Console(stderr=True), measure or Measurements()
    with TrialDisplay(console, _images(trained, options)) as display:
        measure.on_images = display.on_images
        display.describe("exact")
        ideal = {
            network.recipe.seed: measure(Trial(network, options.images))[0] for network in trained
        }
        points: list[Point] = []
        for device in options.devices:
            for network in trained:
                for seed in options.device_seeds:
                    display.describe(f"{device.name}, chip {seed + 1}/{len(options.device_seeds)}")
                    points += _points(network, device, seed, options, ideal, measure)
            display.say(_line(device, points))
        attributions = []
        for device in options.devices if options.attribution else ():
            display.describe(f"{device.name}, attribution")
            attributions.append(
                attribute(
                    trained,
                    device,
                    options.array,
                    seeds=options.device_seeds,
                    time_s=options.attribution_time_of(device),
                    images=_attribution_images(options),
                    measure=measure,
                )
            )
    first = trained[0]
    return HardwareComparison(
        first.recipe,
        first.data.display_name,
        len(first.data.test),
        options,
        ideal,
        points,
        attributions,
    )


def _points(
    trained: Trained,
    device: DeviceCard,
    seed: int,
    options: HardwareOptions,
    ideal: dict[int, Measurement],
    measure: Measurements,
) -> list[Point]:
    """One chip at all times."""
    times, own = options.times_of(device), trained.recipe.seed
    measured = measure(Trial(trained, options.images, device, options.array, seed), times)
    return [
        Point(device.name, own, seed, time_s, measurement, ideal[own])
        for time_s, measurement in zip(times, measured, strict=True)
    ]


def _attribution_images(options: HardwareOptions) -> int:
    return min(options.images or ATTRIBUTION_IMAGES, ATTRIBUTION_IMAGES)


def _images(trained: Sequence[Trained], options: HardwareOptions) -> int:
    """How many images will be settled, those of kept measurements included."""
    available = len(trained[0].data.test)
    chips = sum(len(options.times_of(device)) for device in options.devices)
    total = (1 + chips * len(options.device_seeds)) * min(options.images or available, available)
    for device in options.devices if options.attribution else ():
        trials = 1 + trials_of(device, options.array, len(options.device_seeds))
        total += trials * min(_attribution_images(options), available)
    return total * len(trained)


def _line(device: DeviceCard, points: Sequence[Point]) -> str:
    """Accuracies of a device's chips, first and last time."""
    mine = [point for point in points if point.device == device.name]
    parts = [f"{device.name:20s}"]
    for time_s in sorted({point.time_s for point in mine}):
        level = Level.of(accuracies([point for point in mine if point.time_s == time_s]))
        parts.append(f"{duration(time_s)} {level.mean:.2f} %")
    return "  ".join(parts)
