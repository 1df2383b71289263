"""Rules by device, and what of an exact recipe is different on a chip."""

from __future__ import annotations

import pytest

from neurosim_ep.config import load_recipe
from neurosim_ep.devices import DeviceCard, shipped_device_cards
from neurosim_ep.experiments.on_chip.rules import (
    RuleChoice,
    default_rule,
    on_chip_recipe,
    rule_choices,
)

CARDS = shipped_device_cards()
MOMENTUM = ("learning_rate", "momentum", "nesterov")


def pulses(name: str, **fields: object) -> DeviceCard:
    response = CARDS[name].pulse_response
    assert response is not None
    return CARDS[name].model_copy(update={"pulse_response": response.model_copy(update=fields)})


def chip(*overrides: str, rule: str = "pulsed", name: str = "digits", **fields: object):
    choice = RuleChoice(rule, fields)
    hardware = {"device_card": "pcm", "array_card": "ideal", "device_seed": 3}
    return on_chip_recipe(load_recipe(name, overrides), choice, **hardware)


# --- The rule of a device ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "rule"),
    [
        (CARDS["ideal"].model_copy(update={"pulse_response": None}), "digital"),
        (CARDS["pcm"], "mixed_precision"),  # no down pulses
        (CARDS["symmetric-1000"], "pulsed"),
        (pulses("symmetric-1000", step_relative=0.05), "mixed_precision"),  # 40 states
        (pulses("symmetric-1000", up_down=0.5), "mixed_precision"),
        (pulses("symmetric-1000", cycle_spread_relative=2.0), "mixed_precision"),
        (pulses("symmetric-1000", write_noise_relative=2.0), "mixed_precision"),
        (pulses("symmetric-1000", one_sided=True), "mixed_precision"),
    ],
)
def test_the_default_rule_follows_the_card(card: DeviceCard, rule: str) -> None:
    assert default_rule(card).name == rule


def test_what_needs_a_digital_gradient_gets_a_rule_that_has_one() -> None:
    learning = load_recipe("digits").learning
    assert default_rule(CARDS["symmetric-1000"], learning).name == "pulsed"
    for changes in ({"optimiser": "adam"}, {"estimator": "holomorphic"}):
        other = learning.model_copy(update=changes)
        assert default_rule(CARDS["symmetric-1000"], other).name == "mixed_precision"


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("recipe", ["digits", "vgg5-small-cifar10"])
def test_every_shipped_card_has_a_rule_that_the_recipe_can_have(name: str, recipe: str) -> None:
    choice = default_rule(CARDS[name], load_recipe(recipe).learning)
    chip(rule=choice.rule, name=recipe)


def test_rules_of_all_devices_and_of_one() -> None:
    cards = {"pcm": CARDS["pcm"], "here/mine.toml": CARDS["fefet"]}
    assert rule_choices([], cards) == {"pcm": None, "fefet": None}
    found = rule_choices(["sign", "pcm=tiki_taka:v2"], cards)
    assert found == {"pcm": RuleChoice("tiki_taka", {"variant": "v2"}), "fefet": RuleChoice("sign")}
    assert [choice and choice.name for choice in found.values()] == ["tiki_taka:v2", "sign"]
    # A card is called by its name or as it was given.
    for called in ("fefet", "here/mine.toml"):
        found = rule_choices([f"{called}=pulsed:hebbian"], cards)
        assert found == {"pcm": None, "fefet": RuleChoice("pulsed", {"form": "hebbian"})}
    assert rule_choices(["sign", "pcm=auto"], cards)["pcm"] is None


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (
            ["pulsd"],
            r'rule: "pulsd" is not allowed; must be one of auto, .*; did you mean pulsed',
        ),
        (["pulsed:v2"], r'rule: "pulsed:v2" is not allowed'),
        (["sign:"], r'rule: "sign:" is not allowed'),
        (
            ["pcn=sign"],
            r'rule: "pcn=sign" is not allowed; must be RULE or CARD=RULE .* of pcm',
        ),
        (["=sign"], r'rule: "=sign" is not allowed'),
        (["sign", "pulsed"], r'rule: "pulsed" is not allowed; must be given once for all devices'),
        (["pcm=sign", "pcm=auto"], r"must be given once for pcm"),
    ],
)
def test_rules_that_there_are_not(texts: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        rule_choices(texts, {"pcm": CARDS["pcm"]})
    assert "\n" not in str(error.value)


# --- The recipe on a chip ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("digital", ()),
        ("mixed_precision", ("momentum=0", "nesterov=false")),
        ("mixed_precision", ("optimiser=adam", "learning_rate=0.01")),
    ],
)
def test_a_digital_gradient_keeps_its_optimiser(rule: str, fields: tuple[str, ...]) -> None:
    exact = load_recipe("digits", fields)
    recipe, changes = chip(*fields, rule=rule)
    assert recipe.learning == exact.learning
    assert changes == []
    assert recipe.on_chip is not None
    assert recipe.on_chip.rule == rule
    assert (recipe.on_chip.device_card, recipe.on_chip.array_card) == ("pcm", "ideal")
    assert recipe.on_chip.device_seed == 3
    assert recipe.model_copy(update={"on_chip": None}) == exact


@pytest.mark.parametrize("rule", ["pulsed", "tiki_taka", "sign"])
def test_momentum_becomes_half_the_rate_that_it_comes_to(rule: str) -> None:
    recipe, changes = chip("learning_rate=0.02", "momentum=0.8", rule=rule)
    assert recipe.learning.learning_rate == pytest.approx(0.5 * 0.02 / (1.0 - 0.8))
    assert (recipe.learning.momentum, recipe.learning.nesterov) == (0.0, False)
    assert {change.partition(" ")[0] for change in changes} == set(MOMENTUM)
    assert "learning_rate 0.02 -> 0.05" in changes


@pytest.mark.parametrize("momentum", [0.2, 0.5, 0.9])
def test_mixed_precision_keeps_momentum_and_comes_to_the_same_rate(momentum: float) -> None:
    """Of all rules that pulse, lr / (1 - momentum) is the same."""
    fields = ("learning_rate=0.02", f"momentum={momentum}", "final_learning_rate=0.002")
    recipe, changes = chip(*fields, rule="mixed_precision")
    plain, _ = chip(*fields, rule="sign")
    found = recipe.learning
    assert (found.momentum, found.nesterov) == (momentum, True)
    assert found.learning_rate / (1.0 - momentum) == pytest.approx(plain.learning.learning_rate)
    assert found.final_learning_rate == pytest.approx(0.1 * found.learning_rate)
    assert f"learning_rate 0.02 -> {found.learning_rate:g}" in changes
    assert chip(*fields, rule="digital")[0].learning.learning_rate == 0.02


def test_all_rates_are_scaled_alike() -> None:
    rates = ("weight_learning_rates=[0.1,0.2]", "bias_learning_rates=[0.0,0.4]")
    recipe, _ = chip(*rates, "final_learning_rate=0.01")
    assert recipe.learning.weight_learning_rates == (0.5, 1.0)
    assert recipe.learning.bias_learning_rates == (0.0, 2.0)
    assert recipe.learning.final_learning_rate == 0.05


def test_without_momentum_the_rate_stays_and_a_weak_one_does_not_lower_it() -> None:
    recipe, changes = chip("momentum=0", "nesterov=false")
    assert recipe.learning.learning_rate == 0.1
    assert changes == []
    assert chip("momentum=0.2")[0].learning.learning_rate == 0.1


def test_what_a_rule_cannot_have_is_taken_away_and_told() -> None:
    given = ("weight_decay=0.001", "clip_norm=1.0", "momentum=0", "nesterov=false")
    kept = {rule: chip(*given, rule=rule)[0].learning for rule in ("digital", "sign", "pulsed")}
    assert (kept["digital"].weight_decay, kept["digital"].clip_norm) == (0.001, 1.0)
    assert (kept["sign"].weight_decay, kept["sign"].clip_norm) == (0.0, 1.0)
    assert (kept["pulsed"].weight_decay, kept["pulsed"].clip_norm) == (0.0, None)
    assert chip(*given)[1] == ["weight_decay 0.001 -> 0.0", "clip_norm 1.0 -> absent"]


def test_adam_has_no_counterpart_without_a_digital_gradient() -> None:
    with pytest.raises(ValueError, match=r'learning\.optimiser: "adam" is not allowed') as error:
        chip("optimiser=adam", rule="pulsed")
    assert "\n" not in str(error.value)
    assert chip("optimiser=adam", rule="mixed_precision")[0].learning.optimiser == "adam"


def test_fields_of_the_recipes_own_table_that_the_rule_uses() -> None:
    own = ("on_chip.form=hebbian", "bias=row", "longest_train=7", "weight_headroom=4.0")
    pulsed, _ = chip(*own, name="digits-on-chip")
    assert pulsed.on_chip is not None
    assert (pulsed.on_chip.form, pulsed.on_chip.bias) == ("hebbian", "row")
    assert (pulsed.on_chip.longest_train, pulsed.on_chip.weight_headroom) == (7, 4.0)
    digital, _ = chip(*own, name="digits-on-chip", rule="digital")
    assert digital.on_chip is not None
    assert (digital.on_chip.form, digital.on_chip.bias) == ("difference", "row")
    chosen, _ = chip(*own, name="digits-on-chip", rule="pulsed", form="difference")
    assert chosen.on_chip is not None
    assert chosen.on_chip.form == "difference"


@pytest.mark.parametrize(
    ("rule", "scale", "longest"),
    [("pulsed", 2.5, 78), ("pulsed", 1000.0, 4096), ("tiki_taka", 2.0, 62), ("sign", 9.0, 31)],
)
def test_finer_steps_get_longer_trains(rule: str, scale: float, longest: int) -> None:
    recipe, _ = on_chip_recipe(
        load_recipe("digits"), RuleChoice(rule),
        device_card="pcm", array_card="ideal", device_seed=0, scale_trains=scale,
    )  # fmt: skip
    assert recipe.on_chip is not None
    assert recipe.on_chip.longest_train == longest
