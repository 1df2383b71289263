"""Which trainings show where the accuracy goes, and what is made of them; nothing trains here."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosim_ep.config import load_recipe
from neurosim_ep.crossbar import load_array_card, present
from neurosim_ep.data import load
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments.hardware.attribution import attribution_rows
from neurosim_ep.experiments.on_chip.attribution import (
    AttributionPlan,
    attribution_of,
    learning_nonidealities,
    plan_attribution,
    shortened,
)
from neurosim_ep.experiments.on_chip.building import Cards
from neurosim_ep.experiments.on_chip.rules import RuleChoice
from neurosim_ep.experiments.on_chip.trainings import Training, TrainingSource
from neurosim_ep.experiments.run import Result
from neurosim_ep.experiments.sweeps.cells import CellResult

PAIRS = [(0, 0), (0, 1)]
FAILED = -1.0


def cards(device: str = "li-ecram", array: str = "default") -> Cards:
    return Cards(load_device_card(device), load_array_card(array))


def plan(hardware: Cards, rule: str = "pulsed", recipe: str = "digits") -> AttributionPlan:
    source = shortened(TrainingSource(load_recipe(recipe)), 4, 300)
    return plan_attribution(source, hardware, RuleChoice(rule), PAIRS, Path("nowhere"))


def ended(training: Training, percent: float) -> CellResult:
    """A run of this accuracy."""
    chip = training.recipe.on_chip
    about = (training.values, training.seed, chip and chip.device_seed, training.folder)
    if percent == FAILED:
        return CellResult(*about, "failed", "diverged", None, {})
    return CellResult(*about, "finished", "", Result(4, percent, 0.0, 3, 99.0, 1.0), {})


def test_what_a_rule_meets() -> None:
    everything = present(*vars(cards()).values(), learning=True)
    assert "drift" in everything
    learned = tuple(name for name in everything if name != "drift")
    for rule in ("pulsed", "mixed_precision", "tiki_taka"):
        assert learning_nonidealities(cards(), RuleChoice(rule)) == learned
    assert learning_nonidealities(cards(), RuleChoice("pulsed"), 1.0) == everything
    mapped = tuple(name for name in present(*vars(cards()).values()) if name != "drift")
    assert learning_nonidealities(cards(), RuleChoice("digital")) == mapped
    of_sign = learning_nonidealities(cards(), RuleChoice("sign"))
    assert of_sign == tuple(name for name in learned if name != "pulse_steps")


def test_trainings_are_short_but_never_longer_than_the_recipe() -> None:
    source = TrainingSource(load_recipe("digits", ["epochs=3", "train_images=500"]))
    for epochs, images, wanted in ((5, 2000, (3, 500)), (2, 100, (2, 100))):
        recipe = shortened(source, epochs, images).recipe
        assert (recipe.learning.epochs, recipe.data.train_images) == wanted
    # All training images that there are: 1437, less those that are held out.
    whole = shortened(TrainingSource(load_recipe("digits")), 5, 2000).recipe
    assert whole.data.train_images == 1437 - 180


@pytest.mark.parametrize("rule", ["pulsed", "sign", "digital"])
def test_each_training_has_the_cards_that_it_stands_for(rule: str) -> None:
    hardware = cards()
    planned = plan(hardware, rule)
    names = planned.names
    everything = set(present(hardware.device, hardware.array, learning=True))
    # None, each alone, all but each, one after another; of these, two mean the same cards twice.
    assert len(planned.chips) == 1 + 3 * len(names) - 2
    folders = [training.folder for each in planned.chips.values() for training in each]
    assert len(set(folders)) == len(folders) == 2 * len(planned.chips)
    for kept, trainings in planned.chips.items():
        for training, (seed, chip) in zip(trainings, PAIRS, strict=True):
            found = set(present(training.device, training.array, learning=True))
            # What learning by this rule does not meet stays as it was.
            assert found == kept | (everything - set(names))
            recipe = training.recipe
            assert recipe.on_chip is not None
            assert (recipe.seed, recipe.on_chip.device_seed) == (seed, chip)
            assert (recipe.learning.epochs, recipe.data.train_images) == (4, 300)
            # As many steps shorter, so many slots longer.
            before = hardware.device.pulse_response
            after = training.device and training.device.pulse_response
            assert before is not None
            assert after is not None
            span = before.window_step() * 31 / after.window_step()
            if rule == "pulsed":
                assert span - 1e-5 <= recipe.on_chip.longest_train < span + 1.0
            else:
                assert recipe.on_chip.longest_train == 31
    whole = planned.chips[frozenset(names)][0]
    assert (whole.device, whole.array, whole.changed) == (*vars(hardware).values(), ())
    assert "device" in planned.chips[frozenset()][0].changed or rule == "digital"


def test_the_steps_sum_to_the_gap() -> None:
    planned = plan(cards("symmetric-1000"))
    losses = {"pulse_steps": 2.0, "pulse_noise": 4.0, "wires": 0.5, "dac": 0.25, "adc": 1.0}
    assert set(planned.names) == set(losses)
    results = {training.folder: ended(training, 95.0) for training in planned.exact}
    for kept, trainings in planned.chips.items():
        lost = sum(losses[name] for name in kept)
        for factor, training in enumerate(trainings, start=1):
            results[training.folder] = ended(training, 92.0 - factor * lost)
    found = attribution_of(planned, results, load("digits"))
    assert found.ideal == [95.0, 95.0]
    assert found.analog == [92.0 - 7.75, 92.0 - 15.5]
    assert found.images == 360
    assert "trained on chip by pulsed, 4 epochs of 300 images" in found.title
    rows = {row["nonideality"]: row for row in attribution_rows(found)}
    assert list(rows) == ["ideal", "update_rule", *planned.names]
    assert rows["update_rule"]["step_points"] == pytest.approx(3.0)
    for name, loss in losses.items():
        assert rows[name]["step_points"] == pytest.approx(1.5 * loss)
        assert rows[name]["off_recovered_points"] == pytest.approx(1.5 * loss)
        assert rows[name]["alone_cost_points"] == pytest.approx(3.0 + 1.5 * loss)


def test_failed_trainings_count_as_guessing_but_not_the_exact_ones() -> None:
    planned = plan(cards("symmetric-1000", "ideal"))
    every = [*planned.exact, *(t for each in planned.chips.values() for t in each)]
    results = {training.folder: ended(training, 90.0) for training in every}
    lost = planned.chips[frozenset(planned.names)][1]
    results[lost.folder] = ended(lost, FAILED)
    assert attribution_of(planned, results, load("digits")).analog == [90.0, 10.0]
    results[planned.exact[0].folder] = ended(planned.exact[0], FAILED)
    with pytest.raises(ValueError, match="diverged"):
        attribution_of(planned, results, load("digits"))
