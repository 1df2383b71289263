"""Cards with some of their numbers changed by a sweep."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from neurosim_ep._toml_text import field_suggestion, problem, show
from neurosim_ep.cards import Card, CardError, card_from_mapping, dump_card
from neurosim_ep.crossbar import ArrayCard
from neurosim_ep.devices import DeviceCard

SOURCE = "varied by a sweep"
NONE = "none"

_KINDS: dict[str, type[Card]] = {"device": DeviceCard, "array": ArrayCard}
_CONVERTERS = ("forward", "transposed", "forward_delta", "transposed_delta")
# Short keys, and the fields that they stand for.
_SHORT = {
    "device.states": ("device.pulse_response.step_relative",),
    "device.read_noise_relative": ("device.read_noise",),
    "array.adc_bits": tuple(f"array.{table}.adc_bits" for table in _CONVERTERS),
    "array.dac_bits": tuple(f"array.{table}.dac_bits" for table in _CONVERTERS),
}
_PART = re.compile(r"([A-Za-z_]\w*)((?:\[\d+\])*)")

C = TypeVar("C", bound=Card)


def card_targets(key: str) -> tuple[str, ...]:
    """Fields of a card that a key changes.

    Args:
        key: ``device.`` or ``array.`` and a field (``pulse_response.up_down``,
            ``read_noise[0].sigma_relative``), a whole table (which can only be removed), or one of
            the short keys: ``device.states`` (``pulse_response.step_relative`` = 2 / states),
            ``device.read_noise_relative`` (one lumped term ``sigma_of_range_relative``, in place of
            all terms), ``array.adc_bits`` and ``array.dac_bits`` (of all converter tables).

    Raises:
        ValueError: if no card has such a table.
    """
    if key in _SHORT:
        return _SHORT[key]
    kind, _, path = key.partition(".")
    tables = [field for field in _KINDS[kind].model_fields if field not in ("name", "description")]
    steps = _steps(path)
    if not steps or steps[0] not in tables or "source" in steps:
        known = [*(f"{kind}.{table}" for table in tables), *_SHORT]
        shown = key if re.fullmatch(r"[\w.\[\]-]+", key, re.ASCII) else show(key)
        table = re.split(r"[.\[]", path, maxsplit=1)[0]
        raise ValueError(f"{shown}: unknown field{field_suggestion(f'{kind}.{table}', known)}")
    return (key,)


def changed_card(card: C, changes: Mapping[str, object]) -> C:
    """A card with some fields changed.

    Args:
        card: a device or an array card.
        changes: values by key, see `card_targets`; the value "none" removes a field or a table.

    Returns:
        The same card where there are no changes; otherwise one whose name ends in ``-varied``, with
        its changes in the description and as the source of each changed number.

    Raises:
        ValueError: if the card has no such field or a value is not allowed.
    """
    if not changes:
        return card
    data = tomllib.loads(dump_card(card))
    kind = "device" if isinstance(card, DeviceCard) else "array"
    for key, value in changes.items():
        _apply(data, card, kind, key, value)
    told = ", ".join(f"{key.partition('.')[2]} = {show(v)}" for key, v in changes.items())
    data["name"] = f"{card.name}-varied"
    data["description"] = "; ".join(filter(None, (card.description, f"{SOURCE}: {told}")))
    try:
        return card_from_mapping(type(card), data)
    except CardError as error:
        lines = [_as_asked(f"{kind}.{line}", changes) for line in str(error).splitlines()]
        raise CardError("\n".join(dict.fromkeys(lines))) from None


def _as_asked(line: str, changes: Mapping[str, object]) -> str:
    """A problem's line with the short key that was asked for in place of the field."""
    field, _, rest = line.partition(": ")
    short = next((key for key in changes if field in _SHORT.get(key, ())), field)
    return f"{short}: {rest}"


def _apply(data: dict[str, Any], card: Card, kind: str, key: str, value: object) -> None:
    """Change parsed TOML tables by one key."""
    if key == "device.read_noise_relative":
        _replace_read_noise(data, key, value)
        return
    if key == "device.states":
        value = 2.0 / _number(key, value, 1)
    targets = [target.partition(".")[2] for target in card_targets(key)]
    if kind == "array" and key in _SHORT:
        targets = [target for target in targets if target.partition(".")[0] in data]
        if not targets:
            raise ValueError(f"{key}: the array card {card.name!r} has no converters")
    for target in targets:
        _set(data, card, kind, key, _steps(target), value)


def _replace_read_noise(data: dict[str, Any], key: str, value: object) -> None:
    sigma = _number(key, value, 0)
    data.pop("read_noise", None)
    if sigma:
        term = {"model": "lumped", "sigma_of_range_relative": sigma, "source": SOURCE}
        data["read_noise"] = [term]


def _number(key: str, value: object, least: int) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value < math.inf:
        return value
    raise ValueError(problem(key, value, f"a finite number at least {least}"))


def _set(
    data: dict[str, Any], card: Card, kind: str, key: str, steps: list[str | int], value: object
) -> None:
    """Change one field, and say so in its source."""
    table = str(steps[0])
    if len(steps) == 1:
        if value != NONE:
            allowed = '"none"; other changes of a table are made field by field'
            raise ValueError(problem(key, value, allowed))
        data.pop(table, None)
        return
    own = getattr(card, table)
    if table not in data and isinstance(own, BaseModel):
        data[table] = {"source": getattr(own, "source", SOURCE)}
    if table not in data:
        raise ValueError(f"{key}: the {kind} card {card.name!r} has no table [{table}]")
    node: Any = data
    holder, field = data[table], ""
    for step, following in itertools.pairwise(steps):
        node = _child(node, step, key, kind, card)
        if isinstance(node, dict):
            holder, field = node, str(following)
    last = steps[-1]
    if isinstance(last, int):
        _child(node, last, key, kind, card)
        node[last] = value
    elif not isinstance(node, dict):
        raise ValueError(f"{key}: unknown field; {kind}.{table} is a list, {table}[0] its first")
    elif value == NONE:
        node.pop(last, None)
    else:
        node[last] = value
    _note(holder, field, removed=field not in holder)


def _child(node: Any, step: str | int, key: str, kind: str, card: Card) -> Any:
    if isinstance(step, int):
        if isinstance(node, list) and step < len(node):
            return node[step]
        count = len(node) if isinstance(node, list) else 0
        raise ValueError(f"{key}: the {kind} card {card.name!r} has {count} of them")
    if isinstance(node, dict) and step in node:
        return node[step]
    raise ValueError(f"{key}: the {kind} card {card.name!r} has no {step}")


def _note(table: dict[str, Any], field: str, *, removed: bool) -> None:
    """Give a changed number its source; the others keep theirs."""
    source = table["source"]
    if field == "model":
        return
    if removed:
        if isinstance(source, dict):
            source.pop(field, None)
        return
    if not isinstance(source, dict):
        source = {name: source for name in table if name not in ("source", "model")}
    table["source"] = source | {field: SOURCE}


def _steps(path: str) -> list[str | int]:
    """The steps of a path: ``read_noise[0].sigma_relative``; none where it is not one."""
    steps: list[str | int] = []
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            return []
        steps += [match[1], *(int(number) for number in re.findall(r"\d+", match[2]))]
    return steps
