"""Cards: what a piece of hardware is, in TOML, with the source of every number beside it.

Device cards (`neurosim_ep.devices`) and array cards (`neurosim_ep.crossbar`) are made of tables;
each table says in ``source`` where its numbers come from, for all at once or field by field.  A
number without a published source says "assumed".
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from neurosim_ep._card_errors import error_lines
from neurosim_ep._toml_text import (
    RecipeError,
    nearest,
    parse_toml,
    problem,
    show,
    toml_key,
    toml_value,
)

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share from 0 to 1, never percent."""


def as_tuple(value: object) -> object:
    """Take a TOML array for a tuple, and nothing else."""
    return tuple(value) if isinstance(value, list) else value


Numbers = Annotated[tuple[float, ...], BeforeValidator(as_tuple)]
Source = Annotated[str, Field(min_length=1), "text that says where the numbers come from"]


class CardError(ValueError):
    """A card that cannot be read, or that asks for something that is not allowed.

    The message has one complete line per problem: the dotted field, the value, what is allowed.
    """


class CardTable(BaseModel):
    """A part of a card: frozen, strict, without NaN, infinities or unknown fields.

    Attributes:
        source: where the numbers come from: one text for all of them, or a table with one text per
            field that is given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    source: Source | dict[str, Source]

    @model_validator(mode="after")
    def _every_number_has_a_source(self) -> CardTable:
        if "model" in type(self).model_fields:
            self.model_fields_set.add("model")  # or dumping it would leave the choice out
        if isinstance(self.source, str):
            return self
        given = self.model_fields_set - {"source", "model"}
        if missing := sorted(given - set(self.source)):
            raise ValueError(problem(f"source.{missing[0]}", None, f"the source of {missing[0]}"))
        if unknown := sorted(set(self.source) - given):
            raise ValueError(
                problem(f"source.{unknown[0]}", self.source[unknown[0]], "of a field that is given")
            )
        return self


class Card(BaseModel):
    """A complete card.

    Attributes:
        name: how it is called in commands and tables.
        description: one line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[\w.+-]+$"), "letters, digits, -, _, . and +"]
    description: str = ""


C = TypeVar("C", bound=Card)

_CHANGED = "assumed: changed by a program"


def shipped_cards(kind: type[C], folder: str) -> dict[str, C]:
    """All cards of a package folder by name, in alphabetical order.

    Args:
        kind: of card.
        folder: the package, dotted.
    """
    files = [f for f in resources.files(folder).iterdir() if f.name.endswith(".toml")]
    cards = [_card_from_text(kind, f.read_text(encoding="utf-8"), f.name) for f in files]
    return {card.name: card for card in sorted(cards, key=lambda card: card.name)}


def load_card(kind: type[C], folder: str, name_or_path: str | Path, what: str) -> C:
    """A shipped card by name, or the card of a TOML file.

    Args:
        kind: the card's model.
        folder: package that holds the shipped ones.
        name_or_path: shipped names win over files.
        what: "device card" or "array card", for messages.

    Raises:
        CardError: one line per problem.
    """
    text = str(name_or_path)
    file = resources.files(folder).joinpath(f"{text}.toml")
    if "/" not in text and "\\" not in text and file.is_file():
        return _card_from_text(kind, file.read_text(encoding="utf-8"), text)
    path = Path(text)
    if path.suffix != ".toml" and not path.is_file():
        names = list(shipped_cards(kind, folder))
        raise CardError(
            f"{show(text)}: neither a shipped {what} nor a file{nearest(text, names)} "
            f"(shipped: {', '.join(names)})"
        )
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CardError(f"{show(text)}: no such file") from None
    except UnicodeDecodeError as error:
        raise CardError(f"{show(text)}: not UTF-8 text (at byte {error.start})") from None
    except OSError as error:
        raise CardError(f"{show(text)}: cannot be read: {error.strerror}") from None
    return _card_from_text(kind, content, show(text))


def _card_from_text(kind: type[C], text: str, source: str) -> C:
    try:
        data = parse_toml(text, source)
    except RecipeError as error:
        raise CardError(str(error)) from None
    return card_from_mapping(kind, data)


def card_from_mapping(kind: type[C], data: Mapping[str, Any]) -> C:
    """The card that parsed TOML tables describe.

    Args:
        kind: of card.
        data: the parsed tables.

    Raises:
        CardError: with all problems, one line each.
    """
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise CardError(error_lines(kind, data, error)) from None


def dump_card(card: Card) -> str:
    """TOML text that loads back to an equal card; absent fields and defaults are left out.

    Fields that a program changed since the card was loaded say so where they have no source.
    """
    data = _sourced(card.model_dump(exclude_none=True, exclude_unset=True))
    return "\n".join(_toml_lines(data, "")).lstrip("\n") + "\n"


def _sourced(value: Any) -> Any:
    """Tables in which every number that is given has a source, and no other has one."""
    if isinstance(value, list | tuple):
        return [_sourced(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    table = {name: _sourced(item) for name, item in value.items()}
    if isinstance(sources := value.get("source"), Mapping):
        given = [name for name in table if name not in ("source", "model")]
        ordered = [*(name for name in sources if name in given), *given]
        table["source"] = {name: sources.get(name, _CHANGED) for name in ordered}
    return table


def _toml_lines(table: Mapping[str, Any], prefix: str) -> list[str]:
    plain, tables = [], []
    for key, value in table.items():
        path = prefix + toml_key(key)
        if isinstance(value, Mapping):
            tables += ["", f"[{path}]", *_toml_lines(value, f"{path}.")]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for item in value:
                tables += ["", f"[[{path}]]", *_toml_lines(item, f"{path}.")]
        else:
            plain.append(f"{toml_key(key)} = {toml_value(value)}")
    return plain + tables
