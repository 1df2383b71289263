"""Recipes: what a complete experiment is, the rules it obeys, and its TOML form.

A recipe has six parts: its own name, description and seed, and the tables `network`, `data`,
`settling`, `learning` and `run`. All models are frozen, refuse unknown fields and NaN, and take
neither text nor a truth value for a number; a whole number stands for a float. Settings of the
shipped recipes of Table I follow arXiv 2509.26003 and, where it is silent, its public code.

`load_recipe` and `recipe_from_mapping` raise `RecipeError` with one complete line per problem;
building a model directly raises pydantic's own `ValidationError`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neurosim_ep._recipe.on_chip import OnChipRecipe
from neurosim_ep._recipe.recipe import Recipe
from neurosim_ep._recipe.tables import (
    DataRecipe,
    LearningRecipe,
    NetworkRecipe,
    RunRecipe,
    SettlingRecipe,
)
from neurosim_ep._toml_text import (
    RecipeError,
    apply_override,
    error_lines,
    nearest,
    parse_toml,
    show,
    toml_key,
    toml_value,
)

__all__ = [
    "DataRecipe",
    "LearningRecipe",
    "NetworkRecipe",
    "OnChipRecipe",
    "Recipe",
    "RecipeError",
    "RunRecipe",
    "SettlingRecipe",
    "dump_recipe",
    "load_recipe",
    "recipe_from_mapping",
    "shipped_recipes",
]


def _shipped_files() -> dict[str, Traversable]:
    """Return the file of every shipped recipe by name, in alphabetical order."""
    folder = resources.files("neurosim_ep.recipes")
    files = {f.name.removesuffix(".toml"): f for f in folder.iterdir() if f.name.endswith(".toml")}
    return dict(sorted(files.items()))


def shipped_recipes() -> dict[str, str]:
    """Return the description of every shipped recipe by name, in alphabetical order."""
    tables = {
        name: tomllib.loads(file.read_text(encoding="utf-8"))
        for name, file in _shipped_files().items()
    }
    return {name: str(table.get("description", "")) for name, table in tables.items()}


def _file_text(path: str) -> str:
    """Return the text of a recipe file. Raises RecipeError where there is none to be had."""
    if not os.path.isfile(path):
        reason = "not a file" if os.path.exists(path) else "no such file"
        raise RecipeError(f"{show(path)}: {reason}")
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text (at byte {error.start})"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise RecipeError(f"{show(path)}: {reason}")


def _source_text(name_or_path: str) -> str:
    """Return the TOML text that a shipped recipe's name or a path stands for."""
    shipped = _shipped_files()
    if name_or_path in shipped:
        return shipped[name_or_path].read_text(encoding="utf-8")
    is_path = name_or_path.endswith(".toml") or os.path.basename(name_or_path) != name_or_path
    if is_path or os.path.isfile(name_or_path):
        return _file_text(name_or_path)
    hint, listed = nearest(name_or_path, shipped), ", ".join(shipped)
    shown = show(name_or_path)
    raise RecipeError(f"{shown}: neither a shipped recipe nor a file{hint} (shipped: {listed})")


def recipe_from_mapping(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe that parsed TOML tables describe. Raises RecipeError with all problems."""
    try:
        return Recipe.model_validate(dict(data))
    except ValidationError as error:
        raise RecipeError(error_lines(Recipe, data, error)) from None


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a shipped recipe by name, or the recipe of a TOML file, with overrides applied.

    An override is `key=value`: the key is dotted (`learning.epochs`; `recipe.name` for a field
    outside all tables) or a field's own name where only one field has it (`epochs`); the value
    is TOML, or text where it is not TOML. `none` removes a field, except in `skip=none`, where
    it is one of the field's values. Shipped names win over files; of two overrides of one field
    the later wins.

    Args:
        name_or_path: of a recipe.
        overrides: each a `key=value`.

    Raises:
        RecipeError: with one line per problem.
    """
    name_or_path = str(name_or_path)
    data = parse_toml(_source_text(name_or_path), show(name_or_path))
    for override in overrides:
        apply_override(data, Recipe, override)
    return recipe_from_mapping(data)


def dump_recipe(recipe: Recipe) -> str:
    """Return TOML text that loads back to an equal recipe; absent fields are left out."""
    plain: list[str] = []
    tables: list[str] = []
    for field, value in recipe.model_dump(exclude_none=True).items():
        if isinstance(value, dict):
            rows = [f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()]
            tables.append("\n".join(["", f"[{field}]", *rows]))
        else:
            plain.append(f"{field} = {toml_value(value)}")
    return "\n".join([*plain, *tables]) + "\n"
