"""A sweep in a file: what is trained, what is varied, how often, where."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurosim_ep._recipe.recipe import Recipe
from neurosim_ep._toml_text import (
    error_lines,
    parse_toml,
    problem,
    show,
    toml_key,
    toml_value,
)
from neurosim_ep.config import load_recipe, shipped_recipes
from neurosim_ep.experiments.hardware.options import MOST_SEEDS
from neurosim_ep.experiments.sweeps.axes import Axis, parsed

MOST_JOBS = 256
_FILE_OF = "recipe and [vary]"


class SweepFile(BaseModel):
    """The fields of a sweep's file, checked for their types; `sweep` checks what they ask for.

    Paths are relative to the folder in which the command runs, as on its command line.

    Attributes:
        recipe: a shipped recipe's name, or the path of a TOML file.
        vary: lists of values by key.  Keys that vary together are joined by ``+``; each of their
            values is a list, one item per key.
        set: values by key, of the recipe and of cards, for all cells.
        device: name or path of a device card, for all cells.
        array: name or path of an array card, for all cells.
        seeds: trainings of each combination.
        references: accuracies in percent by label, drawn as horizontal lines.
        out: the sweep's folder.
        jobs: how many cells train at a time on this machine.
        scheduler: address of a Dask scheduler whose workers train them instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    recipe: Annotated[str, Field(min_length=1), "the name or the path of a recipe"]
    vary: Annotated[dict[str, Any], "a table, [vary]"] = {}
    set: Annotated[dict[str, Any], "a table, [set]"] = {}
    device: str | None = None
    array: str | None = None
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 3
    references: Annotated[dict[str, Any], "a table, [references]"] = {}
    out: str | None = None
    jobs: Annotated[int, Field(ge=1, le=MOST_JOBS)] | None = None
    scheduler: str | None = None

    @model_validator(mode="after")
    def _check(self) -> SweepFile:
        lines = [line for key, held in self.vary.items() for line in _wrong_values(key, held)]
        for key, value in self.set.items():
            if not _is_value(value):
                lines.append(_problem("set", key, value, "a value", "..."))
        for label, percent in self.references.items():
            number = isinstance(percent, int | float) and not isinstance(percent, bool)
            if not (number and 0.0 <= percent <= 100.0):
                field = f"references.{toml_key(label)}"
                lines.append(problem(field, percent, "a number from 0 to 100"))
        if self.jobs is not None and self.scheduler is not None:
            lines.append(problem("scheduler", self.scheduler, "absent where jobs is given"))
        if lines:
            raise ValueError("\n".join(lines))
        return self

    @property
    def overrides(self) -> list[str]:
        """The table [set] as texts ``key=value``."""
        return [f"{key}={_text(value)}" for key, value in self.set.items()]


def sweep_or_recipe(source: str) -> SweepFile:
    """A sweep's file, or the bare sweep of a recipe that varies nothing yet.

    Args:
        source: a shipped recipe's name, or the path of a TOML file, which is a sweep's where it
            has a key ``recipe`` or ``vary``.

    Raises:
        ValueError: one line per problem; where a file is neither.
    """
    bare = SweepFile.model_construct(recipe=source)
    if source in shipped_recipes() or not Path(source).is_file():
        load_recipe(source)
        return bare
    try:
        text = Path(source).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return bare  # what is wrong with it is told when it is read as a recipe
    table = parse_toml(text, show(source))
    if {"recipe", "vary"} & set(table):
        return _of_table(table)
    if set(Recipe.model_fields) & set(table):
        return bare
    raise ValueError(
        f"{show(source)}: neither a sweep, which has {_FILE_OF}, nor a recipe, which has [network]"
    )


def sweep_toml(
    recipe: str,
    settings: Mapping[str, str],
    axes: Sequence[Axis],
    seeds: int,
    references: Mapping[str, float],
    out: Path,
    jobs: int,
    scheduler: str | None,
) -> str:
    """Text of a file that asks for the same cells, in the same folders of ``out``.

    Args:
        recipe: name or path.
        settings: texts by full key of what all cells share, with ``device`` and ``array``.
        axes: what is varied.
        seeds: trainings of each combination.
        references: accuracies in percent by label.
        out: folder.
        jobs: how many cells train at a time.
        scheduler: address of a Dask scheduler; None without one.
    """
    cards = {kind: settings[kind] for kind in ("device", "array") if kind in settings}
    shared = {key: text for key, text in settings.items() if key not in cards}
    top = {"recipe": recipe, **cards, "seeds": seeds, "out": str(out)}
    top |= {"jobs": jobs} if scheduler is None else {"scheduler": scheduler}
    tables: dict[str, Mapping[str, object]] = {
        "vary": {axis.key: [_native(step) for step in axis.steps] for axis in axes},
        "set": {key: _native((text,)) for key, text in shared.items()},
        "references": references,
    }
    lines = list(_rows(top))
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]", *_rows(table)]
    return "\n".join(lines) + "\n"


def _of_table(table: dict[str, Any]) -> SweepFile:
    try:
        return SweepFile.model_validate(table)
    except ValidationError as error:
        raise ValueError(error_lines(SweepFile, table, error)) from None


def _wrong_values(key: str, held: object) -> Iterator[str]:
    """Lines on what is no list of values."""
    allowed = "a list of values"
    if not isinstance(held, list) or not held:
        yield _problem("vary", key, held, allowed, "[...]")
        return
    for value in held:
        if not _is_value(value):
            yield _problem("vary", key, value, allowed, "[...]")


def _problem(table: str, key: str, value: object, allowed: str, form: str) -> str:
    """The line of one problem; a table is most often a dotted key without quotes."""
    line = problem(f"{table}.{toml_key(key)}", value, allowed)
    if isinstance(value, dict) and value:
        line += f' (keys with dots are quoted: "{key}.{next(iter(value))}" = {form})'
    return line


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_value, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int | str)


def _text(value: object) -> str:
    return value if isinstance(value, str) else toml_value(value)


def _native(texts: Sequence[str]) -> object:
    """Texts as values of TOML that read back as the very same texts."""
    values = []
    for text in texts:
        value = parsed(text)
        exact = not isinstance(value, str) and _is_value(value) and toml_value(value) == text
        values.append(value if exact else text)
    return values[0] if len(values) == 1 else values


def _rows(table: Mapping[str, object]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{toml_key(key)} = {toml_value(value)}"
