"""Cards: what a piece of hardware is, in TOML, with the source of every number beside it.

Device cards (`neurosim_ep.devices`) and array cards (`neurosim_ep.crossbar`) are made of tables;
each table says in ``source`` where its numbers come from, for all at once or field by field.  A
number without a published source says "assumed".
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from neurosim_ep._toml_text import (
    RecipeError,
    describe,
    field_suggestion,
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


def shipped_cards(kind: type[C], folder: str) -> dict[str, C]:
    """All cards of a package folder by name, in alphabetical order."""
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

    Raises:
        CardError: with all problems, one line each.
    """
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise CardError(_error_lines(kind, data, error)) from None


def dump_card(card: Card) -> str:
    """TOML text that loads back to an equal card; absent fields and defaults are left out."""
    data = card.model_dump(exclude_none=True, exclude_unset=True)
    return "\n".join(_toml_lines(data, "")).lstrip("\n") + "\n"


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


def _error_lines(kind: type[Card], data: Mapping[str, Any], error: ValidationError) -> str:
    lines = []
    for entry in error.errors(include_url=False):
        loc = _within_source(data, entry["loc"])
        field, info, siblings = _locate(kind, loc)
        value: Any = data
        for part in _without_tags(data, loc):
            value = _item(value, part)
        if entry["type"] == "value_error":
            # A rule over several fields has named the first of them itself.
            rule = str(entry["ctx"]["error"])
            table = f"{field}." if field else ""
            lines += [table + line for line in rule.splitlines()]
        elif entry["type"] == "extra_forbidden":
            lines.append(f"{field}: unknown field" + field_suggestion(field, siblings))
        elif entry["type"] in ("union_tag_invalid", "union_tag_not_found"):
            allowed = "one of " + ", ".join(map(show, _tags(info)))
            lines.append(problem(f"{field}.model", _item(value, "model"), allowed))
        elif "source" in loc:
            # A table is refused twice: for not being text, and for what is wrong in it.
            if not isinstance(value, Mapping):
                lines.append(problem(field, value, "text that says where the numbers come from"))
        elif info is not None:
            lines.append(problem(field, value, _allowed(info, loc, value)))
        else:
            lines.append(problem(field, value, entry["msg"]))
    return "\n".join(dict.fromkeys(lines))


def _within_source(data: Any, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A location without what pydantic adds below ``source`` for its two forms."""
    if "source" not in loc:
        return loc
    end = loc.index("source") + 1
    value = data
    for part in _without_tags(data, loc[:end]):
        value = _item(value, part)
    return loc[:end] + loc[-1:] if isinstance(value, Mapping) and loc[-1] in value else loc[:end]


def _allowed(info: FieldInfo, loc: tuple[str | int, ...], value: Any) -> str:
    """What a field, or the item of a list that the location ends at, may be, in words."""
    annotation, metadata = info.annotation, info.metadata
    for part in reversed(loc):
        if not isinstance(part, int):
            break
        annotation, metadata = _plain(get_args(_plain(annotation))[0]), []
    if get_origin(annotation) is tuple and _members(info):
        return "a list, each item a table"
    if _members(FieldInfo(annotation=annotation)):
        return "a table or absent" if types.NoneType in get_args(annotation) else "a table"
    return describe(annotation, metadata, value)


def _plain(annotation: Any) -> Any:
    """An annotation without its metadata."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _item(value: Any, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _without_tags(data: Any, loc: tuple[str | int, ...]) -> list[str | int]:
    """The path in the data: without the tags that pydantic adds for the chosen union member."""
    path: list[str | int] = []
    for position, part in enumerate(loc):
        if isinstance(data, Mapping) and part not in data and data.get("model") == part:
            continue
        if not isinstance(data, Mapping | list) and position:
            break
        path.append(part)
        data = _item(data, part)
    return path


def _locate(
    kind: type[BaseModel], loc: tuple[str | int, ...]
) -> tuple[str, FieldInfo | None, list[str]]:
    """Dotted name of a location, the field that it is (if one), and its siblings' names."""
    names: list[str] = []
    siblings: list[str] = []
    present: type[BaseModel] | None = kind
    info: FieldInfo | None = None
    for part in loc:
        if isinstance(part, int):
            names[-1] += f"[{part}]"
            continue
        if present is not None:
            names.append(toml_key(part))
            info = present.model_fields.get(part)
            siblings = list(present.model_fields)
            present = _model_of(info.annotation) if info else None
            if info is None:
                prefix = ".".join(names[:-1])
                return ".".join(names), None, [f"{prefix}.{s}".lstrip(".") for s in siblings]
            continue
        chosen = [m for m in _members(info) if part in _literal(m)]
        if chosen:
            present = chosen[0]
        else:
            names.append(toml_key(part))
    return ".".join(names), info, []


def _members(info: FieldInfo | None) -> list[type[BaseModel]]:
    """The models that a field may hold."""
    found: list[type[BaseModel]] = []
    pending: list[Any] = [info.annotation] if info else []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and not get_args(annotation):
            if issubclass(annotation, BaseModel):
                found.append(annotation)
        elif get_origin(annotation) in (Annotated, tuple, Union, types.UnionType):
            pending += get_args(annotation)
    return found[::-1]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The one model that an annotation stands for, None where there are several or none."""
    members = _members(FieldInfo(annotation=annotation))
    return members[0] if len(members) == 1 and not _literal(members[0]) else None


def _literal(model: type[BaseModel]) -> tuple[Any, ...]:
    """What a member of a tagged union calls itself."""
    info = model.model_fields.get("model")
    return get_args(info.annotation) if info and get_origin(info.annotation) is Literal else ()


def _tags(info: FieldInfo | None) -> list[Any]:
    return [tag for model in _members(info) for tag in _literal(model)]
