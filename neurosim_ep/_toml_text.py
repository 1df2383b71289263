"""What recipes and cards need to speak TOML and to turn validation problems into single lines.

Nothing here knows a field of either: the fields, their types and limits are read from the
pydantic models that are passed in, so that a limit is written down once only.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f"}
_ESCAPES["\r"] = "\\r"
_LONGEST_SHOWN_VALUE = 120
TOP_LEVEL = "recipe"  # the prefix that names a recipe's own fields, as in `recipe.name`


class RecipeError(ValueError):
    """A recipe that cannot be read, or that asks for something that is not allowed.

    The message has one complete line per problem: the dotted field, the value, what is allowed.
    """


# --- TOML text ---------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """Return `text` as a basic TOML string: one line, everything unprintable escaped."""

    def escaped(character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character.isprintable():
            return character
        code = ord(character)
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

    return '"' + "".join(map(escaped, text)) + '"'


def toml_value(value: object) -> str:
    """Return a bool, int, float, str or a list of them as the TOML text that reads back equal."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no place in a recipe")


def toml_key(key: str) -> str:
    """Return a TOML key, quoted where it is not a bare one."""
    return key if _BARE_KEY.fullmatch(key) else _quoted(key)


def show(value: object) -> str:
    """Return a value for a message: as TOML where TOML has it, on one line, cut when long."""
    if value is None:
        return "absent"
    if isinstance(value, Mapping):
        return "a table"
    try:
        text = toml_value(value)
    except TypeError:
        text = _quoted(str(value))[1:-1]
    except ValueError:  # an int with more digits than Python prints
        text = "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN_VALUE else text[: _LONGEST_SHOWN_VALUE - 3] + "..."


def problem(field: str, value: object, allowed: str) -> str:
    """Return the line of one problem; a `value` of None reads as absent."""
    return f"{field}: {show(value)} is not allowed; must be {allowed}"


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Parse TOML text; `source` names it in errors. Raises RecipeError with line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.split("\n")
        end = f"(at line {len(lines)}, column {len(lines[-1]) + 1}, the end of the file)"
        message = str(error).replace("(at end of document)", end)
        raise RecipeError(f"{source}: not valid TOML: {message}") from None
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        message = str(error).splitlines()[0] if isinstance(error, ValueError) else "nested too deep"
        raise RecipeError(f"{source}: not valid TOML: {message}") from None


# --- What a field allows, in words -------------------------------------------------------------


def _unpacked(annotation: Any, metadata: Iterable[Any] = ()) -> tuple[Any, list[Any]]:
    """Return an annotation without `Annotated`, and all constraints found on the way."""
    constraints = list(metadata)
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        for item in extra:
            constraints.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    return annotation, constraints


def _limits(constraints: Iterable[Any]) -> tuple[str, str]:
    """Return the lower and the upper limit in words, each empty where there is none."""
    lower = upper = ""
    for item in constraints:
        if isinstance(item, annotated_types.Gt):
            lower = f"greater than {item.gt}"
        elif isinstance(item, annotated_types.Ge):
            lower = f"at least {item.ge}"
        elif isinstance(item, annotated_types.Lt):
            upper = f"less than {item.lt}"
        elif isinstance(item, annotated_types.Le):
            upper = f"at most {item.le}"
    return lower, upper


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def describe(annotation: Any, metadata: Iterable[Any] = (), value: object = None) -> str:
    """Return in words what an annotation allows; `value` is the refused one, None if absent."""
    annotation, constraints = _unpacked(annotation, metadata)
    if _is_union(annotation):
        return " or ".join(describe(member, (), value) for member in get_args(annotation))
    if annotation is types.NoneType:
        return "absent"
    if get_origin(annotation) is Literal:
        choices = [show(choice) for choice in get_args(annotation)]
        return choices[0] if len(choices) == 1 else "one of " + ", ".join(choices)
    if get_origin(annotation) is tuple:
        return "a list, each item " + describe(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a table"
    limits = " and ".join(filter(None, _limits(constraints)))
    if annotation is bool:
        return "true or false"
    if annotation is int:
        return f"a whole number {limits}".rstrip()
    if annotation is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and isinstance(value, float) and not math.isfinite(value):
            return f"a finite number {limits}".rstrip()
        return limits if is_number and limits else f"a number {limits}".rstrip()
    for item in constraints:
        if isinstance(item, str):  # a pattern, in words
            return item
    return "a string"


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return "; did you mean X?" for the choice nearest to `word`, or nothing."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def field_suggestion(word: str, fields: Iterable[str]) -> str:
    """Return "; did you mean X?" for a wrong field name, whichever table it was put in."""
    table, _, leaf = word.rpartition(".")

    def likeness(field: str) -> float:
        field_table, _, field_leaf = field.rpartition(".")
        ratio = difflib.SequenceMatcher(None, leaf, field_leaf).ratio()
        return ratio + (0.05 if field_table == table else 0.0)

    best = max(fields, key=likeness)
    return f"; did you mean {best}?" if likeness(best) >= 0.55 else ""


# --- The fields of a recipe --------------------------------------------------------------------


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the fields of a recipe that are tables of their own, those that may be absent too."""
    found = {}
    for name, info in model.model_fields.items():
        members = get_args(info.annotation) if _is_union(info.annotation) else (info.annotation,)
        for member in members:
            if isinstance(member, type) and issubclass(member, BaseModel):
                found[name] = member
    return found


def field_infos(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return all settable fields by dotted name (`seed`, `learning.beta`)."""
    tables = sections(model)
    infos = {name: info for name, info in model.model_fields.items() if name not in tables}
    for table, section in tables.items():
        infos |= {f"{table}.{name}": info for name, info in section.model_fields.items()}
    return infos


def error_lines(model: type[BaseModel], data: Mapping[str, Any], error: ValidationError) -> str:
    """Return all problems that pydantic found in `data`, one line each, joined by newlines."""
    infos, lines = field_infos(model), []
    tables = sections(model)
    for entry in error.errors(include_url=False):
        if not entry["loc"]:
            lines.append(str(entry["ctx"]["error"]))  # the cross-field rules, already lines
            continue
        path = [str(part) for part in entry["loc"][:2]]
        if path[0] not in tables:
            path = path[:1]
        field = ".".join(map(toml_key, path))
        value: Any = data
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if field in infos:
            info = infos[field]
            lines.append(problem(field, value, describe(info.annotation, info.metadata, value)))
        elif field in tables:
            lines.append(problem(field, value, f"a table, [{field}]"))
        else:
            lines.append(f"{field}: unknown field" + field_suggestion(field, [*infos, *tables]))
    return "\n".join(dict.fromkeys(lines))


# --- Overrides ---------------------------------------------------------------------------------


def _resolved(key: str, infos: Mapping[str, FieldInfo]) -> str:
    """Return the dotted name of the field that an override's key means."""
    spelt = {name if "." in name else f"{TOP_LEVEL}.{name}": name for name in infos}
    fitting = [full for full in spelt if key in (full, full.rpartition(".")[2])]
    if len(fitting) == 1:
        return spelt[fitting[0]]
    if fitting:
        listed = ", ".join(sorted(fitting))
        raise RecipeError(f"{key}: more than one field has this name; set one of {listed}")
    shown = key if re.fullmatch(r"[\w.-]+", key, re.ASCII) else show(key)
    raise RecipeError(f"{shown}: unknown field{field_suggestion(key, infos)}")


def _parsed(text: str) -> Any:
    """Return an override's value: TOML where it is TOML, otherwise the text itself."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if set(table) == {"value"} else text


def _takes_none_as_word(annotation: Any) -> bool:
    """Say whether "none" is itself one of a field's values."""
    annotation, _ = _unpacked(annotation)
    if _is_union(annotation):
        return any(map(_takes_none_as_word, get_args(annotation)))
    return get_origin(annotation) is Literal and "none" in get_args(annotation)


def apply_override(data: dict[str, Any], model: type[BaseModel], override: str) -> None:
    """Change `data` in place by one `key=value`; the value `none` removes the field."""
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise RecipeError(problem("override", override, "key=value, as in learning.epochs=5"))
    if key in sections(model):
        fields = ", ".join(name for name in field_infos(model) if name.startswith(f"{key}."))
        raise RecipeError(f"{key}: a table cannot be set as a whole; set one of {fields}")
    infos = field_infos(model)
    name = _resolved(key, infos)
    table, _, leaf = name.rpartition(".")
    target = data.setdefault(table, {}) if table else data
    if not isinstance(target, dict):
        raise RecipeError(problem(table, target, f"a table, [{table}]"))
    if text == "none" and not _takes_none_as_word(infos[name].annotation):
        target.pop(leaf, None)
    else:
        target[leaf] = _parsed(text)
