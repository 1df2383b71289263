"""The recipe's table of learning on a chip, and the rules that span several of its fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurosim_ep._recipe.tables import LearningRecipe, Table
from neurosim_ep._toml_text import problem

_Count = Annotated[int, Field(ge=1, le=1_000_000)]

RULES = ("digital", "mixed_precision", "pulsed", "tiki_taka", "sign")

# Fields that only some rules use; elsewhere they have to stay as they are.
USERS: dict[str, tuple[str, ...]] = {
    "form": ("pulsed", "tiki_taka"),
    "trains": ("pulsed", "tiki_taka"),
    "longest_train": ("pulsed", "tiki_taka"),
    "write_interval_updates": ("digital",),
    "threshold_steps": ("sign",),
    "variant": ("tiki_taka",),
    "transfer_sweep_updates": ("tiki_taka",),
    "chop_sweeps": ("tiki_taka",),
    "transfer_gain": ("tiki_taka",),
    "fast_learning_rate": ("tiki_taka",),
    "symmetrising_pulses": ("tiki_taka",),
    "weight_headroom": ("mixed_precision", "pulsed", "tiki_taka", "sign"),
    "renew_interval_updates": ("mixed_precision", "pulsed", "sign"),
    "renew_fraction": ("mixed_precision", "pulsed", "sign"),
    "record_pulses_every": ("mixed_precision", "pulsed", "tiki_taka", "sign"),
}


class OnChipRecipe(Table):
    """The chip, and how the contrast is brought to its devices.

    `device_card` and `array_card` are names of shipped cards, or paths of TOML files; `device_seed`
    is the piece of hardware. `rule` is the update rule; `form` and `trains` say how "pulsed" and
    "tiki_taka" make pulses, at most `longest_train` slots per image and position. "digital" writes
    after every `write_interval_updates`; "sign" pulses from `threshold_steps` of a step on.
    "tiki_taka" comes as `variant`, reads all rows of its fast array in `transfer_sweep_updates`
    ("agad" turns a row's sign after `chop_sweeps` of its readings) and passes them on times
    `transfer_gain`; it moves the fast array at `fast_learning_rate` (absent: the learning rate),
    after `symmetrising_pulses` up and down. `bias` is digital or a row of devices.
    `weight_headroom` is the window's end relative to the largest initial weight.
    Converters are calibrated before every `calibration_interval_updates` and more often at first,
    wires solved after every `wire_refresh_interval_updates`.
    Devices that can only be pulsed up are renewed every `renew_interval_updates` where they are
    above `renew_fraction` of the window. `image_time_s` passes per training image.
    `record_pulses_every` n-th update, the pulses of all weights are recorded; 0 records none.
    """

    device_card: Annotated[str, Field(min_length=1)]
    array_card: Annotated[str, Field(min_length=1)] = "default"
    device_seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    rule: Literal["digital", "mixed_precision", "pulsed", "tiki_taka", "sign"] = "pulsed"
    form: Literal["difference", "hebbian"] = "difference"
    trains: Literal["mean_field", "stochastic", "deterministic"] = "mean_field"
    longest_train: Annotated[int, Field(ge=1, le=4096)] = 31
    write_interval_updates: _Count = 1
    threshold_steps: Annotated[float, Field(gt=0)] = 0.5
    variant: Literal["v1", "v2", "agad"] = "agad"
    transfer_sweep_updates: _Count = 1
    chop_sweeps: _Count = 10
    transfer_gain: Annotated[float, Field(gt=0)] = 1.0
    fast_learning_rate: Annotated[float, Field(gt=0)] | None = None
    symmetrising_pulses: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    bias: Literal["digital", "row"] = "digital"
    weight_headroom: Annotated[float, Field(ge=1)] = 8.0
    calibration_interval_updates: _Count = 10
    wire_refresh_interval_updates: _Count = 50
    renew_interval_updates: _Count = 10
    renew_fraction: Annotated[float, Field(gt=0, le=1)] = 0.75
    image_time_s: Annotated[float, Field(ge=0)] = 0.0
    record_pulses_every: Annotated[int, Field(ge=0, le=1_000_000)] = 0


def on_chip_problems(chip: OnChipRecipe, learning: LearningRecipe) -> list[str]:
    """Lines of what is wrong among the fields of `on_chip` and what they go with."""
    lines = []
    if learning.algorithm != "equilibrium_propagation":
        allowed = '"equilibrium_propagation" with a table [on_chip]'
        lines.append(problem("learning.algorithm", learning.algorithm, allowed))
    of_rule = f'with on_chip.rule = "{chip.rule}"'
    if learning.estimator == "holomorphic" and chip.rule in ("pulsed", "tiki_taka"):
        allowed = f"one with real nudgings {of_rule}"
        lines.append(problem("learning.estimator", learning.estimator, allowed))
    for field, rules in USERS.items():
        value, default = getattr(chip, field), OnChipRecipe.model_fields[field].default
        if chip.rule not in rules and value != default:
            allowed = f"absent {of_rule}; it belongs to {', '.join(rules)}"
            lines.append(problem(f"on_chip.{field}", value, allowed))
    if chip.variant != "agad" and chip.chop_sweeps != 10:
        allowed = f'absent with on_chip.variant = "{chip.variant}"; it belongs to agad'
        lines.append(problem("on_chip.chop_sweeps", chip.chop_sweeps, allowed))
    return [*lines, *_digital_means(chip, learning, of_rule)]


def _digital_means(chip: OnChipRecipe, learning: LearningRecipe, of_rule: str) -> list[str]:
    """What a rule cannot have because nothing holds the gradient or the weights digitally."""
    lines: list[str] = []
    if chip.rule == "digital":
        return []
    no_weights = f"0 {of_rule}: only the devices hold the weights"
    if learning.weight_decay:
        lines.append(problem("learning.weight_decay", learning.weight_decay, no_weights))
    if chip.rule == "mixed_precision":
        return lines
    why = f"{of_rule}: no gradient is held between updates"
    if learning.optimiser != "sgd":
        lines.append(problem("learning.optimiser", learning.optimiser, f'"sgd" {why}'))
    elif learning.momentum:
        lines.append(problem("learning.momentum", learning.momentum, f"0 {why}"))
    if learning.clip_norm is not None and chip.rule != "sign":
        allowed = f"absent {of_rule}: no gradient is summed outside the array"
        lines.append(problem("learning.clip_norm", learning.clip_norm, allowed))
    return lines
