"""The recipe's table [on_chip]: what it builds, what it refuses, and the run that it gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from neurosim_ep.cards import dump_card
from neurosim_ep.config import Recipe, RecipeError, dump_recipe, load_recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments import build
from neurosim_ep.onchip import (
    Digital,
    MixedPrecision,
    OnChipLearning,
    OnChipUpdates,
    Pulsed,
    Sign,
    TikiTaka,
    Trains,
)

SMALL = (
    "train_images=64",
    "epochs=1",
    "learning.batch_size=16",
    "free_iterations=5",
    "nudged_iterations=3",
    "widths=[8]",
    "threads=1",
    "run.device=cpu",
    "on_chip.device_card=symmetric-1000",
    "on_chip.array_card=ideal",
)
PLAIN = ("momentum=0", "nesterov=false")
RULES = ("digital", "mixed_precision", "pulsed", "tiki_taka", "sign")


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("digits", [*SMALL, *overrides])


def of_rule(rule: str, *overrides: str) -> Recipe:
    plain = () if rule in ("digital", "mixed_precision") else PLAIN
    return recipe_of(f"on_chip.rule={rule}", *plain, *overrides)


# --- What is built -----------------------------------------------------------------------------


def built(recipe: Recipe) -> tuple[OnChipLearning, OnChipUpdates]:
    training = build(recipe).training
    assert isinstance(training.method, OnChipLearning)
    assert isinstance(training.optimiser, OnChipUpdates)
    return training.method, training.optimiser


def test_every_field_reaches_what_it_is_for() -> None:
    trains = ("on_chip.trains=stochastic", "on_chip.longest_train=17", "on_chip.form=hebbian")
    method, updates = built(
        of_rule(
            "pulsed",
            *trains,
            "on_chip.calibration_interval_updates=9",
            "on_chip.image_time_s=2.5",
            "on_chip.renew_interval_updates=8",
            "on_chip.renew_fraction=0.6",
            "on_chip.bias=row",
            "on_chip.weight_headroom=3.0",
            "on_chip.device_seed=5",
        )
    )
    assert isinstance(method.rule, Pulsed)
    assert (method.rule.form, method.rule.trains) == ("hebbian", Trains("stochastic", 17))
    assert method.calibration_interval == 9
    assert (updates.image_time_s, updates.renew_interval, updates.renew_fraction) == (2.5, 8, 0.6)
    assert sorted(method.model.bias_rows) == [1, 2]
    assert method.model.seed == 5
    assert method.model.array_card.layout.scale_headroom == 3.0
    rule = built(
        of_rule(
            "tiki_taka",
            *trains,
            "on_chip.variant=v1",
            "on_chip.transfer_sweep_updates=4",
            "on_chip.transfer_gain=0.25",
            "on_chip.fast_learning_rate=0.7",
            "on_chip.symmetrising_pulses=3",
        )
    )[0].rule
    assert isinstance(rule, TikiTaka)
    assert (rule.variant, rule.form, rule.trains) == ("v1", "hebbian", Trains("stochastic", 17))
    assert (rule.sweep_updates, rule.transfer_gain, rule.fast_learning_rate) == (4, 0.25, 0.7)
    assert rule.symmetrising_pulses == 3
    digital = built(of_rule("digital", "on_chip.write_interval_updates=6"))[0].rule
    assert isinstance(digital, Digital)
    assert digital.write_interval == 6
    sign = built(of_rule("sign", "on_chip.threshold_steps=1.5", "clip_norm=1.0"))[0].rule
    assert isinstance(sign, Sign)
    assert sign.threshold_steps == 1.5
    assert isinstance(built(of_rule("mixed_precision"))[0].rule, MixedPrecision)


@pytest.mark.parametrize(
    ("rule", "card", "baseline", "headroom"),
    [
        ("pulsed", "symmetric-1000", "middle", 8.0),
        ("sign", "pcm", "bottom", 8.0),
        ("mixed_precision", "pcm", "bottom", 8.0),
        ("tiki_taka", "li-ecram", "middle", 8.0),
        ("digital", "symmetric-1000", "bottom", 1.0),
        ("digital", "pcm", "bottom", 1.0),
    ],
)
def test_chips_are_laid_out_for_their_rule(
    rule: str, card: str, baseline: str, headroom: float
) -> None:
    recipe = of_rule(rule, f"on_chip.device_card={card}", "on_chip.array_card=default")
    chip = built(recipe)[0].model
    layout, wires = chip.array_card.layout, chip.array_card.wires
    assert (layout.pair_baseline, layout.scale_headroom) == (baseline, headroom)
    assert wires is not None
    assert wires.refresh_interval_programmings == 50
    for storage in chip.storages:
        initial = float(storage.weight.detach().abs().max())
        assert float(storage.matrix.largest_weight.max()) == pytest.approx(headroom * initial)


def test_hardware_and_training_have_seeds_of_their_own() -> None:
    fields = ("on_chip.device_card=hfo2-reram",)
    one, same, hardware, training = (
        built(of_rule("pulsed", *fields, *more))[0].model.storages[0].matrix.devices
        for more in ((), (), ("on_chip.device_seed=1",), ("seed=1",))
    )
    assert (one.conductance == same.conductance).all()
    assert one.stuck is not None
    assert (one.stuck != hardware.stuck).any()
    assert (one.stuck == training.stuck).all()
    assert (one.conductance != training.conductance).any()


@pytest.mark.parametrize("rule", RULES)
def test_the_resolved_recipe_loads_equal(rule: str, tmp_path: Path) -> None:
    more = {
        "tiki_taka": ("on_chip.fast_learning_rate=0.3", "on_chip.transfer_gain=0.1"),
        "pulsed": ("on_chip.bias=row", "on_chip.record_pulses_every=2"),
    }
    recipe, path = of_rule(rule, *more.get(rule, ())), tmp_path / "recipe.toml"
    path.write_text(dump_recipe(recipe))
    assert "[on_chip]" in path.read_text()
    assert load_recipe(path) == recipe
    assert load_recipe("digits").on_chip is None


# --- What is refused ---------------------------------------------------------------------------

HOLOMORPHIC = ("estimator=holomorphic", "points=4", "activation=sigmoid")
REFUSED = {
    "learning.momentum": ("pulsed", "momentum=0.5"),
    "learning.momentum (sign)": ("sign", "momentum=0.5"),
    "learning.momentum (tiki_taka)": ("tiki_taka", "momentum=0.5"),
    "learning.optimiser": ("sign", "learning.optimiser=adam"),
    "learning.weight_decay": ("mixed_precision", "weight_decay=0.01"),
    "learning.weight_decay (pulsed)": ("pulsed", "weight_decay=0.01"),
    "learning.clip_norm": ("pulsed", "clip_norm=1.0"),
    "learning.clip_norm (tiki_taka)": ("tiki_taka", "clip_norm=1.0"),
    "learning.estimator": ("pulsed", *HOLOMORPHIC),
    "learning.estimator (tiki_taka)": ("tiki_taka", *HOLOMORPHIC),
    "learning.algorithm": ("digital", "algorithm=backpropagation"),
    "on_chip.form": ("digital", "on_chip.form=hebbian"),
    "on_chip.trains": ("sign", "on_chip.trains=stochastic"),
    "on_chip.longest_train": ("mixed_precision", "on_chip.longest_train=7"),
    "on_chip.write_interval_updates": ("pulsed", "on_chip.write_interval_updates=2"),
    "on_chip.threshold_steps": ("pulsed", "on_chip.threshold_steps=1.0"),
    "on_chip.variant": ("pulsed", "on_chip.variant=v1"),
    "on_chip.transfer_sweep_updates": ("sign", "on_chip.transfer_sweep_updates=2"),
    "on_chip.transfer_gain": ("pulsed", "on_chip.transfer_gain=0.5"),
    "on_chip.fast_learning_rate": ("pulsed", "on_chip.fast_learning_rate=0.5"),
    "on_chip.symmetrising_pulses": ("pulsed", "on_chip.symmetrising_pulses=5"),
    "on_chip.weight_headroom": ("digital", "on_chip.weight_headroom=2.0"),
    "on_chip.renew_interval_updates": ("tiki_taka", "on_chip.renew_interval_updates=2"),
    "on_chip.renew_fraction": ("digital", "on_chip.renew_fraction=0.5"),
    "on_chip.record_pulses_every": ("digital", "on_chip.record_pulses_every=1"),
    "on_chip.rule": ("backprop",),
    "on_chip.bias": ("pulsed", "on_chip.bias=analog"),
    "on_chip.weight_headroom (range)": ("pulsed", "on_chip.weight_headroom=0.5"),
    "on_chip.renew_fraction (range)": ("pulsed", "on_chip.renew_fraction=1.5"),
    "on_chip.threshold_steps (range)": ("sign", "on_chip.threshold_steps=0.0"),
    "on_chip.image_time_s": ("pulsed", "on_chip.image_time_s=-1.0"),
    "on_chip.device_card": ("digital", "on_chip.device_card=none"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_does_not_go_together_is_one_line_that_names_it(field: str) -> None:
    rule, *overrides = REFUSED[field]
    with pytest.raises(RecipeError) as caught:
        of_rule(rule, *overrides)
    message, name = str(caught.value), field.split(" ")[0]
    assert message.startswith(f"{name}: ")
    assert "is not allowed; must be" in message
    assert "\n" not in message


def test_what_goes_together_is_allowed() -> None:
    of_rule("digital", "weight_decay=0.01", "momentum=0.9", "nesterov=true", "clip_norm=1.0")
    of_rule("mixed_precision", "learning.optimiser=adam", "clip_norm=1.0", *HOLOMORPHIC)
    of_rule("sign", "clip_norm=1.0", *HOLOMORPHIC)
    of_rule("digital", *HOLOMORPHIC)


def card_file(card: Any, path: Path) -> str:
    path.write_text(dump_card(card))
    return str(path)


def misfits(folder: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Overrides of cards that a rule cannot have, and what the message says."""
    mute = load_device_card("ideal").model_copy(update={"pulse_response": None, "name": "mute"})
    array = load_array_card("ideal")
    layout = array.layout.model_copy(update={"mapping": "offset_column"})
    layout.model_fields_set.add("mapping")
    offset = card_file(array.model_copy(update={"layout": layout}), folder / "offset.toml")
    device = f"on_chip.device_card={card_file(mute, folder / 'mute.toml')}"
    pcm = "on_chip.device_card=pcm"
    plain = tuple(f"learning.{field}" for field in PLAIN)
    muted = (
        'on_chip.device_card: "mute" is not allowed; must be a card with a table [pulse_response] '
        "with on_chip.rule = "
    )
    only_up = 'with on_chip.device_card = "pcm", whose devices can only be pulsed up'
    return {
        "no pulses": ((device, "on_chip.rule=pulsed", *plain), f'{muted}"pulsed"'),
        "no pulses, sign": ((device, "on_chip.rule=sign", *plain), f'{muted}"sign"'),
        "no symmetry point": (
            (pcm, "on_chip.rule=tiki_taka", *plain),
            'on_chip.rule: "tiki_taka" is not allowed; must be one of digital, mixed_precision, '
            f"pulsed, sign {only_up}",
        ),
        "one device per weight": (
            (pcm, "on_chip.rule=mixed_precision", f"on_chip.array_card={offset}"),
            'on_chip.array_card: "ideal" is not allowed; must be a card with layout.mapping = '
            f'"differential_pair" {only_up}',
        ),
        "no card": (
            ("on_chip.device_card=pcn", "on_chip.rule=digital"),
            '"pcn": neither a shipped',
        ),
        "no file": (
            ("on_chip.array_card=there/is/none.toml", "on_chip.rule=digital"),
            '"there/is/none.toml": no such file',
        ),
    }


NAMES = ("no pulses", "no pulses, sign", "no symmetry point", "one device per weight", "no card",
         "no file")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_cards_that_do_not_fit_end_the_command_with_code_two(
    invoke: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    overrides, message = misfits(tmp_path)[name]
    fields = [f"--set={field}" for field in (*SMALL, *overrides)]
    result = invoke("train", "digits", *fields, "--out", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_recipes_own_rules_end_the_command_alike(
    invoke: Callable[..., Result], tmp_path: Path
) -> None:
    fields = [f"--set={field}" for field in (*SMALL, "on_chip.rule=pulsed")]
    result = invoke("train", "digits", *fields, "--out", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: learning.momentum: 0.9 is not allowed; must be 0 with")
    assert not (tmp_path / "run").exists()
