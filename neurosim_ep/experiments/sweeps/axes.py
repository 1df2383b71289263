"""What a sweep varies: keys of recipes and cards, their values, and what figures call them."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosim_ep._recipe.recipe import Recipe
from neurosim_ep._toml_text import apply_override, problem, toml_value
from neurosim_ep.experiments.sweeps.cards import card_targets

CARDS = {"device": "on_chip.device_card", "array": "on_chip.array_card"}
"""Keys that choose a card, and the recipe's fields that they stand for."""

MOST_AXES = 3

_UNITS = {
    "siemens": "S", "ohm": "ohm", "volt": "V", "ampere": "A", "kelvin": "K", "hz": "Hz", "s": "s",
    "bits": "bits", "pixels": "pixels", "relative": "relative", "fraction": "fraction",
}  # fmt: skip
_NAMES = {
    "learning.beta": "nudging beta",
    "network.widths": "hidden widths",
    "device": "device card",
    "array": "array card",
    "device.states": "states of a device",
    "device.read_noise_relative": "read noise (share of the window)",
    "device.pulse_response.step_relative": "step of a pulse (half windows)",
    "device.pulse_response.up_down": "up/down asymmetry (share of a step)",
    "array.adc_bits": "ADC resolution (bits)",
    "array.dac_bits": "DAC resolution (bits)",
}


@dataclass(frozen=True)
class Axis:
    """One varied key, or several that are varied together.

    Attributes:
        keys: full names: ``learning.beta``, ``device.pulse_response.up_down``, ``device``.
        steps: one text per key at each value, as they are written after ``--set key=``.
    """

    keys: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]

    @property
    def key(self) -> str:
        """All keys in one text."""
        return "+".join(self.keys)

    @property
    def settings(self) -> list[dict[str, str]]:
        """What each value sets: texts by full key."""
        return [dict(zip(self.keys, step, strict=True)) for step in self.steps]

    @property
    def name(self) -> str:
        """What figures call it, with its unit."""
        names = [plain_name(key) for key in self.keys]
        return names[0] if self._first_tells_all else ", ".join(names)

    @property
    def labels(self) -> tuple[str, ...]:
        """What figures call the values: by their first part where that tells them apart."""
        if self._first_tells_all:
            return tuple(value_label(step[0]) for step in self.steps)
        return tuple(", ".join(map(value_label, step)) for step in self.steps)

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The values as numbers; None where not all of them are."""
        numbers = []
        for step in self.steps if self._first_tells_all else ():
            value = parsed(step[0])
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            if not math.isfinite(value):
                return None
            numbers.append(float(value))
        return tuple(numbers) or None

    @property
    def words(self) -> bool:
        """Whether the values are words, which stand in no order."""
        return all(isinstance(parsed(step[0]), str) and step[0] != "none" for step in self.steps)

    @property
    def _first_tells_all(self) -> bool:
        return len({step[0] for step in self.steps}) == len(self.steps)


def axes_of(varied: Mapping[str, object] | Sequence[str]) -> tuple[Axis, ...]:
    """The axes of a sweep.

    Args:
        varied: values by key, or one text ``KEY=V1,V2,...`` or several.  Values are separated by
            semicolons where there is one, else by commas, in either case outside of brackets and
            quotes only: ``network.widths=[96];[96,96]``.  Keys that vary together are joined by
            ``+``, and so are their values: ``rule+learning_rate=pulsed+0.1,sign+0.01``; in a
            mapping, their values may be tuples.

    Raises:
        ValueError: for an unknown key, or keys or values that are given twice.
    """
    texts = [varied] if isinstance(varied, str) else varied
    pairs = texts.items() if isinstance(texts, Mapping) else map(_pair, texts)
    axes = tuple(_axis(key, values) for key, values in pairs)
    if not 1 <= len(axes) <= MOST_AXES:
        raise ValueError(problem("vary", len(axes) or None, f"one to {MOST_AXES} varied keys"))
    check_apart([key for axis in axes for key in axis.keys], "vary")
    return axes


def settings_of(overrides: Sequence[str]) -> dict[str, str]:
    """Texts by full key of what all cells share; of two of one key the later wins.

    Raises:
        ValueError: for an unknown key, or text that is not ``key=value``.
    """
    settings = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ValueError(problem("set", override, "key=value, as in learning.epochs=5"))
        settings[full_key(key.strip())] = text.strip()
    return settings


def full_key(key: str) -> str:
    """The one name of a key: ``beta`` is ``learning.beta``, ``device_card`` is ``device``.

    Raises:
        ValueError: if neither a recipe nor a card has it.
    """
    if key in CARDS:
        return key
    if is_of_card(key):
        card_targets(key)
        return key
    data: dict[str, object] = {}
    apply_override(data, Recipe, f"{key}=0")
    ((table, fields),) = data.items()
    if not isinstance(fields, dict):
        return f"recipe.{table}"
    (field,) = fields
    full = f"{table}.{field}"
    return next((card for card, meant in CARDS.items() if meant == full), full)


def is_of_card(key: str) -> bool:
    """Whether a key is a field of a card."""
    return key.startswith(tuple(f"{card}." for card in CARDS))


def check_apart(keys: Sequence[str], option: str, others: Iterable[str] = ()) -> None:
    """No two keys change the same field.

    Args:
        keys: full keys.
        option: that gave them.
        others: full keys that all cells are given.

    Raises:
        ValueError: naming the key that is too many.
    """
    given = {target: key for key in others for target in _targets(key)}
    taken: dict[str, str] = {}
    for key in keys:
        for target in _targets(key):
            if (of := _overlapping(target, given)) is not None:
                allowed = f"absent where all cells are given {of}"
                raise ValueError(f"{option}: {key} is not allowed; must be {allowed}")
            if (of := _overlapping(target, taken)) is not None:
                allowed = "given once" if of == key else f"absent beside {of}"
                raise ValueError(f"{option}: {key} is not allowed; must be {allowed}")
        taken |= dict.fromkeys(_targets(key), key)


def parsed(text: str) -> object:
    """A value as TOML where it is TOML, otherwise the text itself."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if set(table) == {"value"} else text


def short_name(key: str) -> str:
    """The last part of a key."""
    return key.rpartition(".")[2]


def value_label(text: str) -> str:
    """A value as it is read: without quotes, a card's file by its name."""
    value = parsed(text)
    if not isinstance(value, str):
        return text
    return Path(value).stem if value.endswith(".toml") else value


def plain_name(key: str) -> str:
    """A key in words, with its unit."""
    if key in _NAMES:
        return _NAMES[key]
    words = re.sub(r"\[\d+\]", "", key.rpartition(".")[2]).split("_")
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    if unit:
        words = words[:-1]
    name = " ".join(word.upper() if word in ("dac", "adc") else word for word in words)
    return f"{name} ({unit})" if unit else name


def _pair(text: str) -> tuple[str, object]:
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(problem("vary", text, "KEY=V1,V2,..., as in learning.beta=0.1,0.3"))
    separator = ";" if ";" in values else ","
    return key.strip(), _split(values, separator)


def _split(text: str, separator: str) -> list[str]:
    """Parts of a text between separators that stand outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[]":
            depth += 1 if character == "[" else -1
        elif character == separator and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return [part.strip() for part in parts]


def _axis(key: str, values: object) -> Axis:
    keys = tuple(full_key(part) for part in _split(key, "+"))
    for full in keys:
        if full.startswith("recipe."):
            allowed = "a field of a recipe's table or of a card (seeds are varied by their number)"
            raise ValueError(f"vary: {full} is not allowed; must be {allowed}")
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(problem(key, str(values), "a list of values"))
    steps = tuple(_step(key, value, len(keys)) for value in values)
    seen: list[list[object]] = []
    for step in steps:
        found = [_typed(parsed(text)) for text in step]
        if found in seen:
            raise ValueError(f"{key}: {'+'.join(step)} is not allowed; must be given once")
        seen.append(found)
    if not steps:
        raise ValueError(problem(key, "", "a list of values"))
    return Axis(keys, steps)


def _step(key: str, value: object, count: int) -> tuple[str, ...]:
    """The texts of one value, one per key."""
    if count > 1 and isinstance(value, Sequence):
        parts = _split(value, "+") if isinstance(value, str) else list(map(_text, value))
    else:
        parts = [_text(value)]
    if len(parts) != count or "" in parts:
        allowed = "a value" if count == 1 else f"{count} values joined by +, one per key"
        raise ValueError(problem(key, "+".join(parts), allowed))
    return tuple(parts)


def _typed(value: object) -> object:
    """A value that equals those of its kind only; in Python, true is 1."""
    return (bool, value) if isinstance(value, bool) else value


def _text(value: object) -> str:
    """A value as it is written after ``key=``."""
    if isinstance(value, str):
        return value.strip()
    return "none" if value is None else toml_value(value)


def _targets(key: str) -> tuple[str, ...]:
    # The choice of a card, unlike a table of it, has nothing in common with the card's fields.
    return card_targets(key) if is_of_card(key) else (f"<{key}>",)


def _overlapping(target: str, keys: Mapping[str, str]) -> str | None:
    """The key that changes a field too, or something that it lies in or that lies in it."""
    for other, key in keys.items():
        if f"{target}.".startswith((f"{other}.", f"{other}[")):
            return key
        if f"{other}.".startswith((f"{target}.", f"{target}[")):
            return key
    return None
