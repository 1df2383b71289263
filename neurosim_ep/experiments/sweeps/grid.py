"""The cells of a sweep: one training each, resolved and checked before anything trains."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim_ep._toml_text import apply_override
from neurosim_ep.cards import Card, card_from_mapping, dump_card
from neurosim_ep.config import OnChipRecipe, Recipe, dump_recipe, load_recipe, recipe_from_mapping
from neurosim_ep.crossbar import ArrayCard, load_array_card
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.experiments.sweeps.axes import CARDS, Axis, is_of_card, parsed, short_name
from neurosim_ep.experiments.sweeps.cards import changed_card
from neurosim_ep.learning import write_text

RecipeSource = str | Path | Recipe
"""A shipped recipe's name, the path of a TOML file, or a recipe."""

_LONGEST_VALUE = 40
# What a run may be resumed with other values of.
_FREE = ("threads", "checkpoint_interval_s", "device")


@dataclass(frozen=True)
class Cell:
    """One training of a sweep.

    Attributes:
        values: texts by varied key.
        seed: of the training.
        recipe: as it runs; it names the cards' files where cards were changed.
        folder: of the run.
        device: card; None for exact trainings.
        array: likewise.
        changed: which of the cards were changed, ``device`` and ``array``.
    """

    values: Mapping[str, str]
    seed: int
    recipe: Recipe
    folder: Path
    device: DeviceCard | None = None
    array: ArrayCard | None = None
    changed: tuple[str, ...] = ()

    @property
    def record(self) -> Path:
        """What the cell is, see `start`."""
        return self.folder / "cell.json"

    @property
    def failure(self) -> Path:
        """Why the training stopped, where it did."""
        return self.folder / "failed.json"

    def start(self) -> None:
        """Make the folder, and record in it what will run; changed cards become files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.failure.unlink(missing_ok=True)
        record = {"values": dict(self.values), "seed": self.seed} | self._identity()
        write_text(self.record, json.dumps(record, indent=2) + "\n")
        for kind in self.changed:
            write_text(card_path(self.folder, kind), dump_card(getattr(self, kind)))

    def check_same(self) -> None:
        """A folder that was started must have been started as this cell.

        Raises:
            ValueError: naming the first field that differs.
        """
        if not self.record.exists():
            RunFolder(self.folder).check_free()
            return
        try:
            held = json.loads(self.record.read_text(encoding="utf-8"))
            theirs = _plain(recipe_from_mapping(tomllib.loads(held["recipe"])))
            same = all(self._holds_card(kind, held[f"{kind}_card"]) for kind in CARDS)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{self.record}: damaged or foreign; must be of this sweep") from None
        mine = _plain(recipe_from_mapping(tomllib.loads(self._identity()["recipe"])))
        for name in mine | theirs:
            if mine.get(name) != theirs.get(name):
                raise ValueError(
                    f"{name}: {mine.get(name)!r} is not allowed; the cell in {self.folder} was "
                    f"started with {theirs.get(name)!r}"
                )
        if not same:
            raise ValueError(f"{self.folder}: the cell was started with other cards")

    def _identity(self) -> dict[str, Any]:
        """Recipe and cards in TOML, wherever the folder lies."""
        recipe = self.recipe
        if self.changed:
            recipe = with_cards(recipe, {kind: f"{kind}-card.toml" for kind in self.changed})
        cards = {kind: getattr(self, kind) for kind in CARDS}
        texts = {f"{kind}_card": card and dump_card(card) for kind, card in cards.items()}
        return {"recipe": dump_recipe(recipe), **texts}

    def _holds_card(self, kind: str, text: str | None) -> bool:
        """Whether a card is the one that a text describes."""
        card: Card | None = getattr(self, kind)
        if card is None or text is None:
            return card is None and text is None
        return card_from_mapping(type(card), tomllib.loads(text)) == card


@dataclass
class _KnownCards:
    """Cards by name and path, each read once."""

    device: dict[str, DeviceCard] = field(default_factory=dict)
    array: dict[str, ArrayCard] = field(default_factory=dict)

    def of(self, on_chip: OnChipRecipe) -> tuple[DeviceCard, ArrayCard]:
        """The cards that a recipe names."""
        device, array = on_chip.device_card, on_chip.array_card
        if device not in self.device:
            self.device[device] = load_device_card(device)
        if array not in self.array:
            self.array[array] = load_array_card(array)
        return self.device[device], self.array[array]


def cells_of(
    source: RecipeSource,
    settings: Mapping[str, str],
    axes: Sequence[Axis],
    seeds: int,
    folder: Path,
    *,
    threads: int | None = None,
) -> list[Cell]:
    """All cells of a grid, the last axis changing fastest but for the seeds.

    Args:
        source: of the recipe.
        settings: texts by full key of what all cells share.
        axes: what is varied.
        seeds: how many trainings each, with the recipe's seed and those that follow it; on a chip,
            each has hardware of its own: `on_chip.device_seed` grows with the seed where it is not
            varied itself.
        folder: holds the cells' folders.
        threads: of each cell, in place of the recipe's.

    Raises:
        ValueError: if a recipe or a card of any cell is not valid.
    """
    known, cells = _KnownCards(), []
    for combination in itertools.product(*(axis.settings for axis in axes)):
        values = {key: text for step in combination for key, text in step.items()}
        asked = {**settings, **values}
        recipe = _recipe(source, {k: text for k, text in asked.items() if not is_of_card(k)})
        if threads is not None:
            run = recipe.run.model_copy(update={"threads": threads})
            recipe = recipe.model_copy(update={"run": run})
        device, array, changed = _cards(recipe, asked, known)
        for number in range(seeds):
            seed = recipe.seed + number
            place = (folder / f"{_folder_name(values)}_seed={seed}").resolve()
            own = recipe.model_copy(update={"seed": seed})
            if recipe.on_chip and "on_chip.device_seed" not in values:
                own = _with_on_chip(own, device_seed=recipe.on_chip.device_seed + number)
            if changed:
                own = with_cards(own, {kind: str(card_path(place, kind)) for kind in changed})
            cells.append(Cell(values, seed, own, place, device, array, changed))
    return cells


def first_recipe(source: RecipeSource, settings: Mapping[str, str], axes: Sequence[Axis]) -> Recipe:
    """The recipe of the first cell.

    Raises:
        ValueError: if it is not valid.
    """
    asked = dict(settings)
    for axis in axes:
        asked |= axis.settings[0]
    return _recipe(source, {k: text for k, text in asked.items() if not is_of_card(k)})


def card_path(folder: Path, kind: str) -> Path:
    """Where a cell keeps its changed card; kind is ``device`` or ``array``."""
    return folder / f"{kind}-card.toml"


def with_cards(recipe: Recipe, names: Mapping[str, str]) -> Recipe:
    """A recipe on a chip with other names or paths of its cards, by ``device`` and ``array``."""
    fields = {CARDS[kind].partition(".")[2]: name for kind, name in names.items()}
    return _with_on_chip(recipe, **fields)


def _with_on_chip(recipe: Recipe, **fields: object) -> Recipe:
    assert recipe.on_chip is not None
    on_chip = recipe.on_chip.model_copy(update=fields)
    return recipe.model_copy(update={"on_chip": on_chip})


def _recipe(source: RecipeSource, texts: Mapping[str, str]) -> Recipe:
    overrides = [f"{CARDS.get(key, key)}={text}" for key, text in texts.items()]
    if not isinstance(source, Recipe):
        return load_recipe(source, overrides)
    data = tomllib.loads(dump_recipe(source))
    for override in overrides:
        apply_override(data, Recipe, override)
    return recipe_from_mapping(data)


def _cards(
    recipe: Recipe, asked: Mapping[str, str], known: _KnownCards
) -> tuple[DeviceCard | None, ArrayCard | None, tuple[str, ...]]:
    """The cards of a recipe with their changes, and which of them have any."""
    changes = {key: parsed(text) for key, text in asked.items() if is_of_card(key)}
    if recipe.on_chip is None:
        for key in changes:
            raise ValueError(f"{key}: is not allowed without a device card, --device CARD")
        return None, None, ()
    of = {kind: {k: v for k, v in changes.items() if k.startswith(f"{kind}.")} for kind in CARDS}
    device, array = known.of(recipe.on_chip)
    changed = tuple(kind for kind in CARDS if of[kind])
    return changed_card(device, of["device"]), changed_card(array, of["array"]), changed


def _folder_name(values: Mapping[str, str]) -> str:
    """Varied values in characters that every file system takes; different values, other names."""
    leaves = list(map(short_name, values))
    names = values if len(set(leaves)) < len(leaves) else leaves
    parts = []
    for name, text in zip(names, values.values(), strict=True):
        safe = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text)[:_LONGEST_VALUE].strip("-.")
        if safe != text.lower():
            safe += "-" + hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
        parts.append(f"{re.sub(r'[^A-Za-z0-9._]+', '-', name)}={safe}")
    return "_".join(parts)


def _plain(recipe: Recipe) -> dict[str, Any]:
    """Fields of a recipe by dotted name, without what a run may be resumed with."""
    flat: dict[str, Any] = {}
    for name, value in recipe.model_dump().items():
        fields = value if isinstance(value, dict) else None
        if fields is None:
            flat[f"recipe.{name}"] = value
        else:
            flat |= {f"{name}.{k}": v for k, v in fields.items()}
    return {name: v for name, v in flat.items() if name not in {f"run.{free}" for free in _FREE}}
