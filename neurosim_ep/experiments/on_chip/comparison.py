"""Devices that learn by themselves beside backpropagation and exact EP: planned and collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosim_ep.config import Recipe, shipped_recipes
from neurosim_ep.data import Dataset
from neurosim_ep.experiments.compare import counterpart
from neurosim_ep.experiments.hardware.attribution import Attribution
from neurosim_ep.experiments.hardware.options import HardwareOptions
from neurosim_ep.experiments.on_chip.attribution import (
    AttributionPlan,
    Results,
    accuracy_percent,
    attribution_of,
    exact_percent,
    plan_attribution,
    shortened,
)
from neurosim_ep.experiments.on_chip.building import OPTIONS, Cards, check_fit
from neurosim_ep.experiments.on_chip.rules import RuleChoice, default_rule, on_chip_recipe
from neurosim_ep.experiments.on_chip.trainings import Training, TrainingSource
from neurosim_ep.experiments.sweeps.cells import CellResult


@dataclass(frozen=True)
class DevicePlan:
    """How one device learns.

    Attributes:
        name: of the card.
        choice: its rule.
        changes: in words, what of the recipe is other than in the exact training.
        trainings: one per pair of seeds.
    """

    name: str
    choice: RuleChoice
    changes: list[str]
    trainings: list[Training]


@dataclass(frozen=True)
class OnChipPlan:
    """All trainings of a comparison with devices that learn by themselves.

    Attributes:
        backpropagation: one per training seed; none where the recipe has no counterpart, or a
            trained run is taken.
        exact: one per training seed; none where a trained run is taken.
        devices: one per card.
        attributions: one per card, where asked for.
    """

    backpropagation: list[Training]
    exact: list[Training]
    devices: list[DevicePlan]
    attributions: list[AttributionPlan]

    @property
    def trainings(self) -> list[Training]:
        """All of them, each once."""
        every = [*self.backpropagation, *self.exact]
        every += [training for device in self.devices for training in device.trainings]
        every += [training for plan in self.attributions for training in plan.trainings]
        return list({training.folder: training for training in every}.values())


@dataclass(frozen=True)
class ChipRun:
    """One training on a chip.

    Attributes:
        device: name of the card.
        rule: how it learned, with its detail.
        training_seed: of the network and the order of images.
        device_seed: of the hardware.
        folder: of the run.
        accuracy_percent: on all test images; None of a training that failed.
        exact_percent: of the exact network with the same training seed.
        message: why it failed.
        seconds: of all epochs.
        numbers: of ``on-chip.json`` by dotted name.
    """

    device: str
    rule: str
    training_seed: int
    device_seed: int
    folder: Path
    accuracy_percent: float | None
    exact_percent: float
    message: str
    seconds: float | None
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class OnChipComparison:
    """What came of the trainings.

    Attributes:
        backpropagation: test accuracies in percent by training seed; empty where there are none.
        exact: of the exact networks, likewise, on all test images.
        rules: how each device learned, with its detail.
        changes: in words by device, what of the recipe was other than in the exact training.
        chips: all trainings on chips.
        attributions: one per device, where asked for.
    """

    backpropagation: dict[int, float]
    exact: dict[int, float]
    rules: dict[str, str]
    changes: dict[str, list[str]]
    chips: list[ChipRun]
    attributions: list[Attribution]

    def of(self, device: str) -> list[ChipRun]:
        """All chips of a device."""
        return [chip for chip in self.chips if chip.device == device]


def seed_pairs(seeds: Sequence[int], device_seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Seeds of training and of hardware: as many pairs as the longer list, which both run through.

    Trainings on chips cost too much for all combinations; this way every seed of either counts.
    """
    count = max(len(seeds), len(device_seeds))
    return [(seeds[n % len(seeds)], device_seeds[n % len(device_seeds)]) for n in range(count)]


def plan_on_chip(
    recipe: Recipe, options: HardwareOptions, folder: Path, overrides: Sequence[str] = ()
) -> OnChipPlan:
    """Plan all trainings of a comparison.

    Args:
        recipe: by equilibrium propagation; that of the trained run where one is taken.  A table
            [on_chip] of its own gives rules their fields, and its rule where none is chosen.
        options: with ``on_chip``.
        folder: of the comparison.
        overrides: of the recipe, for its counterpart by backpropagation.

    Raises:
        ValueError: if a rule cannot have what the recipe asks for.
    """
    learning = options.on_chip
    assert learning is not None
    source = TrainingSource(recipe, 1 if learning.jobs > 1 else None)
    seeds = (recipe.seed,) if options.run else options.seeds
    exact, backpropagation = [], []
    for seed in () if options.run else seeds:
        place = folder / f"{recipe.name}-seed{seed}"
        exact.append(source.exact(place, seed, {"trained": "exactly"}))
    by_bp = None if options.run else _by_backpropagation(recipe.name, overrides)
    for seed in seeds if by_bp else ():
        assert by_bp is not None
        own = TrainingSource(by_bp, source.threads)
        place = folder / f"{by_bp.name}-seed{seed}"
        backpropagation.append(own.exact(place, seed, {"trained": "by backpropagation"}))
    pairs = seed_pairs(seeds, options.device_seeds)
    devices, attributions = [], []
    shorter = shortened(source, learning.attribution_epochs, learning.attribution_images)
    for card in options.devices:
        cards = Cards(card, options.array)
        choice = (
            learning.rules.get(card.name)
            or _own_rule(recipe)
            or default_rule(card, recipe.learning)
        )
        check_fit(choice.rule, cards, OPTIONS)
        devices.append(_device_plan(source, cards, choice, pairs, folder))
        if options.attribution:
            place = folder / "attribution"
            attributions.append(plan_attribution(shorter, cards, choice, pairs, place))
    return OnChipPlan(backpropagation, exact, devices, attributions)


def _device_plan(
    source: TrainingSource,
    cards: Cards,
    choice: RuleChoice,
    pairs: Sequence[tuple[int, int]],
    folder: Path,
) -> DevicePlan:
    name, rule = cards.device.name, choice.name.replace(":", "-")
    trainings = [
        source.on_chip(
            folder / f"{source.recipe.name}-on-chip-{name}-{rule}-seed{seed}-chip{chip}",
            seed,
            {"trained": "on chip", "device": name, "rule": choice.name, "chip": str(chip)},
            cards,
            choice,
            device_seed=chip,
        )
        for seed, chip in pairs
    ]
    _, changes = on_chip_recipe(
        source.recipe,
        choice,
        device_card=name,
        array_card=cards.array.name,
        device_seed=0,
    )
    return DevicePlan(name, choice, changes, trainings)


def _own_rule(recipe: Recipe) -> RuleChoice | None:
    return None if recipe.on_chip is None else RuleChoice(recipe.on_chip.rule)


def _by_backpropagation(name: str, overrides: Sequence[str]) -> Recipe | None:
    """The shipped counterpart, if there is one."""
    plain = name.removesuffix("-on-chip")
    if f"{plain}-bp" not in shipped_recipes():
        return None
    return counterpart(plain, [text for text in overrides if not text.startswith("on_chip.")])


def collect_on_chip(
    plan: OnChipPlan, results: Results, exact: Mapping[int, float], data: Dataset
) -> OnChipComparison:
    """What came of the trainings.

    Args:
        plan: whose trainings have ended.
        results: of all of them.
        exact: accuracies of the exact networks on all test images, by training seed.
        data: the recipe's data set.

    Raises:
        ValueError: if an exact training failed.
    """
    chips = [
        _chip_run(device, training, results[training.folder], exact[training.seed])
        for device in plan.devices
        for training in device.trainings
    ]
    return OnChipComparison(
        {t.seed: exact_percent(results[t.folder]) for t in plan.backpropagation},
        dict(exact),
        {device.name: device.choice.name for device in plan.devices},
        {device.name: device.changes for device in plan.devices},
        chips,
        [attribution_of(each, results, data) for each in plan.attributions],
    )


def _chip_run(device: DevicePlan, training: Training, ended: CellResult, exact: float) -> ChipRun:
    on_chip, done = training.recipe.on_chip, ended.result
    assert on_chip is not None
    return ChipRun(
        device.name,
        device.choice.name,
        training.seed,
        on_chip.device_seed,
        training.folder,
        accuracy_percent(ended),
        exact,
        ended.message,
        None if done is None else done.seconds,
        ended.on_chip,
    )
