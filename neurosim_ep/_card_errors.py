"""What is wrong with a card, in words: from pydantic's errors to one line per problem.

The fields, their types and limits are read from the cards' models.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from neurosim_ep._toml_text import describe, field_suggestion, problem, show, toml_key


def error_lines(kind: type[BaseModel], data: Mapping[str, Any], error: ValidationError) -> str:
    """All problems that pydantic found in a card, one line each.

    Args:
        kind: the card's model.
        data: parsed TOML tables.
        error: what it raised.
    """
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
