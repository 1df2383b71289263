"""Which nonideality costs a training on a chip how much: shorter trainings with parts of the cards.

Cards with some nonidealities made ideal learn by the same rule, from the same seeds, with the same
settings.  What steps of a device are made shorter by, the longest train of pulses is made longer
by, so that an update may be as large as before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurosim_ep.crossbar import present, without
from neurosim_ep.data import Dataset, spec_for
from neurosim_ep.experiments.hardware.attribution import (
    UPDATE_RULE,
    Attribution,
    kept_sets,
    shares_of,
)
from neurosim_ep.experiments.on_chip.building import Cards
from neurosim_ep.experiments.on_chip.rules import RuleChoice
from neurosim_ep.experiments.on_chip.trainings import Training, TrainingSource
from neurosim_ep.experiments.sweeps.cells import CellResult

Results = Mapping[Path, CellResult]
"""What came of trainings, by folder."""


@dataclass(frozen=True)
class AttributionPlan:
    """Trainings that show where a device's accuracy goes when it learns by itself.

    Attributes:
        cards: of the device, with all nonidealities.
        choice: its rule.
        names: of the nonidealities that learning by this rule meets.
        exact: trainings without hardware, one per pair of seeds; pairs may share one.
        chips: trainings of one chip per pair of seeds, by the nonidealities that were kept.
    """

    cards: Cards
    choice: RuleChoice
    names: tuple[str, ...]
    exact: list[Training]
    chips: dict[frozenset[str], list[Training]]

    @property
    def trainings(self) -> list[Training]:
        """All of them; exact ones may come in several plans."""
        return [*self.exact, *(one for each in self.chips.values() for one in each)]


def shortened(source: TrainingSource, epochs: int, images: int) -> TrainingSource:
    """The same trainings with at most so many epochs and training images."""
    recipe = source.recipe
    held = recipe.data.train_images
    if held is None:
        held = spec_for(recipe.data.name).train_images - recipe.data.validation_images
    data = recipe.data.model_copy(update={"train_images": min(held, images)})
    learning = recipe.learning.model_copy(update={"epochs": min(recipe.learning.epochs, epochs)})
    changed = recipe.model_copy(update={"data": data, "learning": learning})
    return replace(source, recipe=changed)


def learning_nonidealities(
    cards: Cards, choice: RuleChoice, image_time_s: float = 0.0
) -> tuple[str, ...]:
    """The nonidealities that learning on a chip meets.

    - The rule ``digital`` makes no pulses.
    - The rule ``sign`` has no other learning rate than the step: it is left out.
    - Where no time passes nothing drifts.
    """
    names = present(cards.device, cards.array, learning=choice.rule != "digital")
    idle = {"drift"} if image_time_s == 0.0 else set()
    idle |= {"pulse_steps"} if choice.rule == "sign" else set()
    return tuple(name for name in names if name not in idle)


def plan_attribution(
    source: TrainingSource,
    cards: Cards,
    choice: RuleChoice,
    pairs: Sequence[tuple[int, int]],
    folder: Path,
) -> AttributionPlan:
    """Plan the trainings of one device.

    Args:
        source: of the shorter trainings.
        cards, choice: of the device.
        pairs: seeds of training and of hardware.
        folder: holds all of them.

    Raises:
        ValueError: if the rule cannot have what the recipe asks for.
    """
    recipe, device = source.recipe, cards.device.name
    time_s = 0.0 if recipe.on_chip is None else recipe.on_chip.image_time_s
    names = learning_nonidealities(cards, choice, time_s)
    exact = [
        source.exact(folder / f"exact-seed{seed}", seed, {"attribution": "exact"})
        for seed, _ in pairs
    ]
    chips: dict[frozenset[str], list[Training]] = {}
    place = folder / f"{device}-{choice.name.replace(':', '-')}"
    for kept in kept_sets(names):
        if kept in chips:
            continue
        lost = [name for name in names if name not in kept]
        device_card, array_card = without(cards.device, cards.array, lost)
        label = _label(kept, names)
        chips[kept] = [
            source.on_chip(
                place / f"{label.replace(' ', '-')}-seed{seed}-chip{chip}",
                seed,
                {"attribution": device, "with": label},
                Cards(device_card, array_card),
                choice,
                device_seed=chip,
                scale_trains=_finer(cards, device_card),
            )
            for seed, chip in pairs
        ]
    return AttributionPlan(cards, choice, names, exact, chips)


def _finer(cards: Cards, device_card: object) -> float:
    before = cards.device.pulse_response
    after = getattr(device_card, "pulse_response", None)
    if before is None or after is None:
        return 1.0
    return max(before.window_step() / float(after.window_step()), 1.0)


def _label(kept: Collection[str], names: Sequence[str]) -> str:
    """What is kept, in words that make a folder's name."""
    lost = [name for name in names if name not in kept]
    if not kept:
        return "none"
    if not lost:
        return "all"
    if len(kept) == 1:
        return f"only {next(iter(kept))}"
    if len(lost) == 1:
        return f"all but {lost[0]}"
    return f"up to {names[len(kept) - 1]}"


def attribution_of(plan: AttributionPlan, results: Results, data: Dataset) -> Attribution:
    """Where the accuracy after the last epoch goes.

    Which epoch is the best by a few validation images is chance, which short trainings would count.

    Args:
        plan: whose trainings have ended.
        results: of all of them.
        data: the recipe's data set.  Trainings that failed count as guessing.

    Raises:
        ValueError: if an exact training failed.
    """

    def percent(training: Training) -> float:
        done = results[training.folder].result
        return 100.0 / data.num_classes if done is None else done.last

    for training in plan.exact:
        exact_percent(results[training.folder])
    ideal = list(map(percent, plan.exact))
    accuracies = {kept: list(map(percent, chips)) for kept, chips in plan.chips.items()}
    recipe = plan.exact[0].recipe
    epochs, images = recipe.learning.epochs, recipe.data.train_images
    return Attribution(
        plan.cards.device.name,
        plan.cards.array.name,
        0.0,
        len(data.test),
        ideal,
        accuracies[frozenset()],
        shares_of(plan.names, lambda kept: accuracies[frozenset(kept)]),
        UPDATE_RULE,
        f"trained on chip by {plan.choice.name}, {epochs} epochs of {images:,} images",
    )


def accuracy_percent(ended: CellResult) -> float | None:
    """Test accuracy, at the best validation accuracy where there is one; None of a failure."""
    if ended.result is None:
        return None
    best = ended.result.best_by_validation
    return ended.result.last if best is None else best


def exact_percent(ended: CellResult) -> float:
    """Test accuracy of a training that everything else is compared with.

    Raises:
        ValueError: if it failed.
    """
    found = accuracy_percent(ended)
    if found is None:
        raise ValueError(f"{ended.folder}: {ended.message}")
    return found
