"""What a sweep finds out before anything trains, so that no cell fails for it later."""

from collections.abc import Sequence
from pathlib import Path

import torch

from neurosim_ep.config import DataRecipe, NetworkRecipe, Recipe
from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.data import load
from neurosim_ep.experiments.build import build_method, build_network, device_of
from neurosim_ep.experiments.on_chip.building import Cards, on_chip_updates
from neurosim_ep.experiments.sweeps.grid import Cell
from neurosim_ep.onchip import OnChipLearning, on_chip_groups


def check_cells(
    cells: Sequence[Cell], data_dir: Path | None, *, here: bool = True, progress: bool
) -> None:
    """Devices and data are there, networks fit on their arrays, and rules move their devices.

    Args:
        cells: that will train.
        data_dir: folder with the data sets.
        here: whether they train on this machine and its devices.
        progress: show a download's progress.

    Raises:
        ValueError: naming what is not allowed.
    """
    for cell in cells if here else ():
        device_of(cell.recipe)
    fitting: list[object] = []
    going: list[object] = []
    for cell in cells:
        recipe, chip = cell.recipe, cell.recipe.on_chip
        if chip is None:
            continue
        assert cell.device is not None
        assert cell.array is not None
        layout, size = cell.array.layout, (recipe.data.name, recipe.data.image_size)
        if (on := (recipe.network, size, layout, chip.bias)) not in fitting:
            bare = cell.array.model_copy(update={"wires": None})
            map_to_crossbar(build_network(recipe), "ideal", bare, bias_rows=chip.bias == "row")
            fitting.append(on)
        table = chip.model_copy(update={"device_seed": 0, "device_card": "", "array_card": ""})
        if (rule := (table, cell.device, cell.array)) not in going:
            _check_rule(recipe, Cards(cell.device, cell.array))
            going.append(rule)
    for name in dict.fromkeys(cell.recipe.data.name for cell in cells):
        load(name, data_dir, progress=progress)


def _check_rule(recipe: Recipe, cards: Cards) -> None:
    """Put two units on the chip and ready the rule for them: it sees the cards' devices."""
    network = NetworkRecipe(model="mlp", widths=(2,), activation=recipe.network.activation)
    small = recipe.model_copy(update={"network": network, "data": DataRecipe(name="digits")})
    method = build_method(small, torch.device("cpu"), cards)
    assert isinstance(method, OnChipLearning)
    ones = [1.0, 1.0]
    on_chip_updates(small, method, torch.optim.SGD(on_chip_groups(method.model, ones, ones)))
