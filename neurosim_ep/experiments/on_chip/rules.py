"""Which rule a device learns by, and the recipe on a chip that stands beside an exact one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from neurosim_ep._recipe.on_chip import RULES, USERS
from neurosim_ep._toml_text import nearest, problem, show
from neurosim_ep.config import LearningRecipe, OnChipRecipe, Recipe, recipe_from_mapping
from neurosim_ep.devices import DeviceCard
from neurosim_ep.devices.pulse_response import PulseResponse

AUTO = "auto"
STABLE_FRACTION = 0.5
"""Of the learning rate that momentum comes to in the long run, what devices are given."""

LONGEST_TRAIN = 4096
"""Slots that a recipe allows at most."""

# A pulsed update without digital memory is worth its loss only on devices as good as this.
_FINE_STATES = 100.0
_EVEN_ASYMMETRY = 0.2
_QUIET_STEPS = 1.0
# What may follow a rule's name, and the field of [on_chip] that it stands for.
_DETAILS = {
    "pulsed": ("form", ("difference", "hebbian")),
    "tiki_taka": ("variant", ("v1", "v2", "agad")),
}
_DIGITAL_GRADIENT = ("digital", "mixed_precision")


@dataclass(frozen=True)
class RuleChoice:
    """An update rule as a comparison uses it.

    Attributes:
        rule: one of ``digital``, ``mixed_precision``, ``pulsed``, ``tiki_taka``, ``sign``.
        fields: further fields of the table [on_chip].
    """

    rule: str
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How it is written: ``pulsed``, or with its detail ``pulsed:hebbian``."""
        detail, _ = _DETAILS.get(self.rule, ("", ()))
        return f"{self.rule}:{self.fields[detail]}" if detail in self.fields else self.rule


def default_rule(card: DeviceCard, learning: LearningRecipe | None = None) -> RuleChoice:
    """The rule that a device learns by where nobody says which.

    - A card without a pulse response can only be written: ``digital``.
    - Devices with fine (at least 100 states), even (up and down steps differ by at most a fifth of
      their sum, on average over the window) and quiet pulses (cycle-to-cycle and write noise up to
      one step) learn in place, without digital memory: ``pulsed``.
    - All others: ``mixed_precision``.  It gives a device a pulse only once a whole step has come
      together, so that coarse steps are not drawn at random; it needs no down pulses, which PCM
      does not have; and as it gives the fewest pulses, noise and asymmetry are paid for least
      often.  It also serves recipes that need a digital gradient: for another optimiser than SGD,
      or the holomorphic estimator.

    Args:
        card: of the devices.
        learning: of the recipe; None for SGD and real nudgings.
    """
    response = card.pulse_response
    if response is None:
        return RuleChoice("digital")
    noise = max(response.cycle_spread_relative, _write_noise_steps(response))
    fine = 2.0 / response.window_step() >= _FINE_STATES
    good = fine and not response.one_sided and noise <= _QUIET_STEPS
    if learning is not None:
        good = good and learning.optimiser == "sgd" and learning.estimator != "holomorphic"
    if good and _asymmetry(response) <= _EVEN_ASYMMETRY:
        return RuleChoice("pulsed")
    return RuleChoice("mixed_precision")


def _write_noise_steps(response: PulseResponse) -> float:
    return response.write_noise_relative * response.step_relative / response.window_step()


def _asymmetry(response: PulseResponse) -> float:
    """Difference of up and down steps over their sum, mean over the window."""
    w, devices = torch.linspace(-1.0, 1.0, 401, dtype=torch.float64), response.nominal()
    up = response.mean_step(w, torch.tensor(True), devices).abs()
    down = response.mean_step(w, torch.tensor(False), devices).abs()
    return float(((up - down).abs() / (up + down).clamp_min(1e-300)).mean())


def rule_choices(
    texts: Sequence[str], devices: Mapping[str, DeviceCard]
) -> dict[str, RuleChoice | None]:
    """The rule of every device.

    Args:
        texts: ``RULE`` for all devices, ``CARD=RULE`` for one, which goes before it.  ``RULE`` is
            ``auto``, a rule, or a rule with its detail, such as ``pulsed:hebbian``.
        devices: cards by what the user called them.

    Returns:
        Rules by the cards' own names; None where it is ``auto``.

    Raises:
        ValueError: for an unknown rule or card, or two rules for one.
    """
    called = {text: card.name for text, card in devices.items()}
    called |= {name: name for name in called.values()}
    given: dict[str, RuleChoice | None] = {}
    for text in texts:
        card, equals, rule = text.rpartition("=")
        name = called.get(card, "") if equals else ""
        if equals and not name:
            allowed = f"RULE or CARD=RULE with one of {', '.join(sorted(set(called.values())))}"
            raise ValueError(problem("rule", text, allowed))
        if name in given:
            raise ValueError(problem("rule", text, f"given once for {name or 'all devices'}"))
        given[name] = _choice(rule)
    return {card.name: given.get(card.name, given.get("")) for card in devices.values()}


def _choice(text: str) -> RuleChoice | None:
    if text == AUTO:
        return None
    rule, colon, detail = text.partition(":")
    details = [f"{rule}:{one}" for rule, (_, every) in _DETAILS.items() for one in every]
    if not colon and rule in RULES:
        return RuleChoice(rule)
    if text in details:
        return RuleChoice(rule, {_DETAILS[rule][0]: detail})
    known = [AUTO, *RULES, *details]
    raise ValueError(
        f"rule: {show(text)} is not allowed; must be one of {', '.join(known)}"
        f"{nearest(text, known)}"
    )


def on_chip_recipe(
    recipe: Recipe,
    choice: RuleChoice,
    *,
    device_card: str,
    array_card: str,
    device_seed: int,
    scale_trains: float = 1.0,
) -> tuple[Recipe, list[str]]:
    """The recipe that trains on a chip what another one trains exactly.

    Rules without a digital gradient can have no momentum: plain SGD takes its place, at the
    learning rate that momentum comes to in the long run, ``learning_rate / (1 - momentum)``, times
    `STABLE_FRACTION`: momentum averages over updates, and without that average the whole rate
    diverges (the shipped digits recipe does at 1.0, and learns as well as with momentum at 0.5).
    ``mixed_precision`` keeps momentum, but its weights are what coarse and noisy pulses made of
    it: at the whole rate a training runs away now and then, so that its ``learning_rate`` is
    lowered to come to the same as theirs in the long run.  ``digital``, which holds exact
    weights, learns as the exact recipe does.  Where devices alone hold the weights there is no
    weight decay, and where no gradient is summed outside the array no clipping of its norm.

    Args:
        recipe: by equilibrium propagation; of its own table [on_chip], if it has one, what the rule
            uses is taken over.
        choice: the rule.
        device_card, array_card: names or paths.
        device_seed: of the hardware.
        scale_trains: factor on the longest train, for steps that are shorter by it than those that
            trains were chosen for.

    Returns:
        The recipe, and in words what is other than in the exact one.

    Raises:
        ValueError: if the rule cannot have what the recipe asks for.
    """
    learning, changes = _learning(recipe.learning, choice.rule)
    held = recipe.on_chip.model_dump(exclude_none=True) if recipe.on_chip else {}
    table = {name: v for name, v in held.items() if choice.rule in USERS.get(name, RULES)}
    table |= {"rule": choice.rule, **choice.fields}
    table |= {"device_card": device_card, "array_card": array_card, "device_seed": device_seed}
    if choice.rule in USERS["longest_train"] and scale_trains != 1.0:
        longest = table.get("longest_train", OnChipRecipe.model_fields["longest_train"].default)
        table["longest_train"] = min(math.ceil(longest * scale_trains - 1e-6), LONGEST_TRAIN)
    data = recipe.model_dump(exclude_none=True)
    data["learning"] = learning.model_dump(exclude_none=True)
    data["on_chip"] = table
    return recipe_from_mapping(data), changes


def _learning(learning: LearningRecipe, rule: str) -> tuple[LearningRecipe, list[str]]:
    """How the rule learns instead, and what is different."""
    update: dict[str, object] = {}
    if rule == "digital":
        return learning, []
    if learning.weight_decay:
        update["weight_decay"] = 0.0
    if rule in _DIGITAL_GRADIENT:
        if learning.optimiser == "sgd" and learning.momentum:
            update |= _rates(learning, max(STABLE_FRACTION, 1.0 - learning.momentum))
        return _updated(learning, update)
    if learning.optimiser != "sgd":
        allowed = f'"sgd" with rule "{rule}", or a rule with a digital gradient: mixed_precision'
        raise ValueError(problem("learning.optimiser", learning.optimiser, allowed))
    if learning.clip_norm is not None and rule != "sign":
        update["clip_norm"] = None
    if learning.momentum:
        factor = max(STABLE_FRACTION / (1.0 - learning.momentum), 1.0)
        update |= {"momentum": 0.0, "nesterov": False, **_rates(learning, factor)}
    return _updated(learning, update)


def _rates(learning: LearningRecipe, factor: float) -> dict[str, object]:
    """All learning rates, times a factor."""
    scaled: dict[str, object] = {}
    for name in ("learning_rate", "final_learning_rate"):
        scaled[name] = _scaled(getattr(learning, name), factor)
    for name in ("weight_learning_rates", "bias_learning_rates"):
        if (rates := getattr(learning, name)) is not None:
            scaled[name] = tuple(_scaled(rate, factor) for rate in rates)
    return scaled


def _scaled(rate: float, factor: float) -> float:
    """Without the last digits of binary fractions."""
    return float(f"{rate * factor:.12g}")


def _updated(
    learning: LearningRecipe, update: Mapping[str, object]
) -> tuple[LearningRecipe, list[str]]:
    changed = {name: value for name, value in update.items() if value != getattr(learning, name)}
    words = [f"{n} {show(getattr(learning, n))} -> {show(value)}" for n, value in changed.items()]
    return learning.model_copy(update=changed), words
