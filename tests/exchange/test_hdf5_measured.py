"""Conductances that were measured elsewhere: devices stand at them, all else is the card's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from neurosim_ep.cards import dump_card
from neurosim_ep.crossbar import ArrayCard, load_array_card, map_to_crossbar
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.exchange.hdf5 import load, save
from neurosim_ep.models import mlp
from neurosim_ep.settling import settle

US = 1e-6
Change = Callable[[h5py.File], None]


def conductances(shape: tuple[int, ...], low: float = 2 * US, high: float = 20 * US) -> Any:
    return np.random.default_rng(1).uniform(low, high, shape)


def write(
    path: Path,
    g: Any,
    device: DeviceCard | str = "pcm",
    array: ArrayCard | str = "ideal",
    **more: Any,
) -> None:
    """Two dense edges, 6 - 4 - 3, of conductances g of the first."""
    with h5py.File(path, "w") as file:
        file.attrs.update(format="neurosim-ep chip", format_version=1, **more)
        for what, card in (("device", device), ("array", array)):
            if isinstance(card, str):
                file.attrs[f"{what}_card"] = card
            else:
                file[f"cards/{what}"] = dump_card(card)
        file.create_group("graph").attrs.update(layers=3, edges=2)
        shapes = ((6,), (4,), (3,))
        for number, shape in enumerate(shapes):
            layer = file.create_group(f"graph/layer_{number}")
            layer.attrs.update(shape=shape, activation="relu" if number == 1 else "linear")
            if number:
                file[f"biases/layer_{number}"] = np.linspace(0.0, 0.1, *shape)
                edge = {"pre_layer": number - 1, "post_layer": number, "geometry": "dense"}
                file.create_group(f"graph/edge_{number - 1}").attrs.update(edge)
        for number, values in enumerate((g, conductances((2, 4, 3)))):
            group = file.create_group(f"matrices/edge_{number}")
            group["weight_per_siemens"] = np.full(values.shape[-1], 1e4)
            for role, part in zip(("plus", "minus"), values, strict=True):
                group[f"{role}/conductance_siemens"] = part


def test_devices_stand_at_what_was_measured(tmp_path: Path) -> None:
    g, path = conductances((2, 6, 4)), tmp_path / "measured.h5"
    write(path, g, dtype="float64", drawn_dtype="float64")
    chip = load(path)
    matrix = chip.storages[0].matrix
    assert torch.equal(matrix.devices.conductance, torch.from_numpy(g))
    weights = 1e4 * (g[0] - g[1])
    torch.testing.assert_close(chip.weights[0].detach(), torch.from_numpy(weights))
    assert chip.biases[0].tolist() == np.linspace(0.0, 0.1, 4).tolist()
    assert (chip.elapsed_s, chip.report.clipped, chip.report.attempts) == (0.0, 0, 0)
    # Without noise, a forward read is a product with these weights.
    pre = torch.randn(5, 6, dtype=torch.float64)
    quiet = load_device_card("pcm").model_copy(update={"read_noise": ()})
    write(path, g, quiet, dtype="float64")
    read = load(path).storages[0].forward_read(pre)
    torch.testing.assert_close(read, pre @ torch.from_numpy(weights))


def test_all_else_is_what_the_card_draws_for_a_chip_of_that_seed(
    tmp_path: Path, everything: DeviceCard
) -> None:
    """Spread, faults, telegraph noise and drift are those of a mapped chip of the same seed."""
    g, path = conductances((2, 6, 4), 20 * US, 80 * US), tmp_path / "measured.h5"
    write(path, g, everything, chip_seed=7)
    chip, others = load(path), [map_to_crossbar(mlp((1, 1, 6), 3, (4,)), everything, seed=7)]
    others += [map_to_crossbar(mlp((1, 1, 6), 3, (4,)), everything, seed=8)]
    mine, same, other = (c.storages[0].matrix.devices for c in (chip, *others))
    assert mine.stuck is not None
    assert torch.equal(mine.stuck, same.stuck)
    assert not torch.equal(mine.stuck, other.stuck)
    assert torch.equal(mine.fluctuating, same.fluctuating)
    inside = (mine.programmed >= same.lower) & (mine.programmed <= same.upper)
    assert torch.equal(mine.upper[inside], same.upper[inside])
    assert bool((mine.programmed <= mine.upper).all() & (mine.programmed >= mine.lower).all())
    # The drift that programming these conductances for the first time would have drawn.
    assert everything.drift is not None
    assert mine.drift_coefficient.shape == (2, 6, 4)
    assert mine.drift_coefficient.std() > 0.0
    chip.advance_time(3600.0)
    assert (mine.conductance < mine.programmed).double().mean() > 0.5
    with torch.no_grad():
        chip.storages[0].pulse(torch.ones(6, 4), torch.zeros(6, 4))
    again = load(path)
    again.advance_time(3600.0)
    assert not torch.equal(again.storages[0].weight, chip.storages[0].weight)


def test_it_is_programmed_saved_and_loaded_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "measured.h5"
    write(path, conductances((2, 6, 4)), array="default")
    chip, images = load(path), torch.randn(4, 6)
    with pytest.raises(ValueError, match="before the converters are calibrated"):
        settle(chip, images, iterations=2)
    with chip.calibrating():
        settle(chip, images, iterations=4)
    save(chip, tmp_path / "chip.h5")
    again = load(tmp_path / "chip.h5")
    for _ in range(2):
        outputs = [settle(each, images, iterations=4).output for each in (chip, again)]
        assert torch.equal(*outputs)
        for each in (chip, again):
            each.program(rescale=True)
    assert not again.weights[0].equal(again.storages[0].effective_weight())


def test_wires_are_solved_for_what_was_measured(tmp_path: Path) -> None:
    card = load_array_card("default")
    assert card.wires is not None
    rare = card.wires.model_copy(update={"refresh_interval_programmings": 9})
    path, g = tmp_path / "measured.h5", conductances((2, 6, 4))
    seen = []
    for wires in (card.wires, rare):
        write(path, g, "pcm", card.model_copy(update={"wires": wires}))
        seen.append(load(path).storages[0].effective_weight())
    assert torch.equal(*seen)
    assert not torch.allclose(seen[0], 1e4 * torch.from_numpy(g[0] - g[1]).float(), rtol=1e-6)


def test_offset_columns_and_bias_rows(tmp_path: Path) -> None:
    layout = load_array_card("ideal").layout
    layout = layout.model_copy(update={"mapping": "offset_column", "columns": 2})
    card = load_array_card("ideal").model_copy(update={"layout": layout})
    path, g = tmp_path / "measured.h5", conductances((6, 4))
    references = conductances((6, 2), 8 * US, 9 * US)
    write(path, conductances((2, 6, 4)), "hfo2-reram", card, bias_rows=1)
    with h5py.File(path, "r+") as file:
        del file["matrices"]
        for name, (rows, columns) in {
            "edge_0": (6, 4),
            "edge_1": (4, 3),
            "bias_1": (1, 4),
            "bias_2": (1, 3),
        }.items():
            group = file.create_group(f"matrices/{name}")
            group["weight_per_siemens"] = np.full(columns, 2e4)
            some = (g, references) if name == "edge_0" else (g[:rows, :columns], references[:rows])
            for role, part in zip(("weight", "reference"), some, strict=True):
                group[f"{role}/conductance_siemens"] = part
    chip = load(path)
    wanted = 2e4 * (g - references.repeat(2, axis=1))
    np.testing.assert_allclose(chip.storages[0].effective_weight(), wanted, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(chip.biases[0].detach(), wanted[0], rtol=1e-4, atol=1e-7)


def test_given_faults_and_bounds_are_taken(tmp_path: Path, everything: DeviceCard) -> None:
    path, g = tmp_path / "measured.h5", conductances((2, 6, 4), 20 * US, 80 * US)
    write(path, g, everything)
    with h5py.File(path, "r+") as file:
        for role in ("plus", "minus"):
            file[f"matrices/edge_0/{role}/stuck"] = np.eye(6, 4, dtype=np.uint8)
            file[f"matrices/edge_0/{role}/upper_bound_siemens"] = np.full((6, 4), 85 * US)
    chip = load(path)
    devices, before = chip.storages[0].matrix.devices, chip.storages[0].matrix.devices.programmed
    assert torch.equal(devices.stuck, torch.eye(6, 4).bool().expand(2, 6, 4))
    chip.storages[0].pulse(torch.full((6, 4), 400), torch.zeros(6, 4))
    after = devices.programmed
    assert torch.equal(after[0].diagonal(), before[0].diagonal())
    # Write noise of a step of 0.05 goes beyond the bound that the state stops at.
    torch.testing.assert_close(after[0, 5], torch.full((4,), 85 * US), rtol=0.0, atol=15 * US)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("conductance_siemens", 26 * US, "a conductance of 2.6e-05 siemens is not allowed"),
        ("conductance_siemens", -1e-9, "a conductance of -1e-09 siemens"),
        (
            "conductance_siemens",
            np.nan,
            "edge_0/plus/conductance_siemens holds values that are not finite",
        ),
        ("stuck", 1.0, "plus/stuck is not allowed here; these devices of the card 'pcm' have"),
        ("programmed_siemens", 2 * US, "matrices/edge_0: attribute compensation is missing"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, value: float, said: str) -> None:
    path = tmp_path / "measured.h5"
    write(path, conductances((2, 6, 4)))
    with h5py.File(path, "r+") as file:
        group = file["matrices/edge_0/plus"]
        values = np.full((6, 4), 5 * US if name == "conductance_siemens" else value)
        values[2, 1] = value
        if name in group:
            del group[name]
        group[name] = values
    with pytest.raises(ValueError, match=r"measured\.h5: ") as caught:
        load(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(6, 3), (4, 6), (6, 4, 1), (24,)])
def test_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "measured.h5"
    write(path, conductances((2, 6, 4)))
    with h5py.File(path, "r+") as file:
        del file["matrices/edge_0/minus/conductance_siemens"]
        file["matrices/edge_0/minus/conductance_siemens"] = np.full(shape, 5 * US)
    with pytest.raises(ValueError, match=r"has shape .*; must be \(6, 4\)"):
        load(path)


def test_window_and_scale(tmp_path: Path, everything: DeviceCard) -> None:
    """Rounding at the window's ends is let pass, as is what the card says that bounds spread by."""
    path, window = tmp_path / "measured.h5", load_device_card("pcm").window
    g = np.full((2, 6, 4), window.g_max_siemens * (1 + 1e-6))
    write(path, g, "pcm", dtype="float64")
    assert load(path).storages[0].matrix.devices.conductance[0, 0, 0] == g[0, 0, 0]
    # Six standard deviations of 10 %.
    write(path, np.full((2, 6, 4), 155 * US), everything)
    devices = load(path).storages[0].matrix.devices
    assert bool((devices.upper >= devices.programmed).all())
    for beyond in (165 * US, 0.6 * US):
        write(path, np.full((2, 6, 4), beyond), everything)
        with pytest.raises(ValueError, match=rf"a conductance of {beyond:g} siemens is not allow"):
            load(path)
    write(path, g, "pcm")
    with h5py.File(path, "r+") as file:
        file["matrices/edge_0/weight_per_siemens"][1] = 3e4
    with pytest.raises(ValueError, match='differs between columns; the array card has scale = "la'):
        load(path)
