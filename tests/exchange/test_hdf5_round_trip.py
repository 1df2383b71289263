"""A loaded chip goes on as the saved one, bit for bit: reads, noise, time, pulses, learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from neurosim_ep.cards import dump_card
from neurosim_ep.config import load_recipe as recipe_named
from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.devices import DeviceCard, shipped_device_cards
from neurosim_ep.exchange.hdf5 import load, load_recipe, save
from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    ReLU,
    Sigmoid,
    mlp,
)

Future = Callable[[CrossbarNetwork], list[Tensor]]
Lived = Callable[[CrossbarNetwork], CrossbarNetwork]


def same_state(first: CrossbarNetwork, second: CrossbarNetwork) -> None:
    mine, theirs = first.state_dict(), second.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value.nan_to_num(), theirs[name].nan_to_num()), name
        assert value.dtype == theirs[name].dtype


def goes_on_alike(chip: CrossbarNetwork, path: Path, future: Future) -> CrossbarNetwork:
    save(chip, path)
    loaded = load(path)
    same_state(chip, loaded)
    assert (loaded.seed, loaded.report, loaded.elapsed_s) == (
        chip.seed,
        chip.report,
        chip.elapsed_s,
    )
    for name in ("device_card", "array_card"):
        assert dump_card(getattr(loaded, name)) == dump_card(getattr(chip, name))
    for found, wanted in zip(future(loaded), future(chip), strict=True):
        assert torch.equal(found, wanted)
    same_state(chip, loaded)
    return loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
def test_a_chip_with_every_phenomenon(
    mapping: str,
    dtype: torch.dtype,
    everything_chip: Callable[..., CrossbarNetwork],
    future: Future,
    tmp_path: Path,
) -> None:
    chip = everything_chip(mapping, dtype)
    state = chip.state_dict()
    # Wires as they were solved earlier, clocks that differ, hidden states: all of it is there.
    for name in ("_share", "devices._ages", "devices._hidden", "devices.stuck"):
        assert f"edges.0.storage.matrix.{name}" in state
    goes_on_alike(chip, tmp_path / "chip.h5", future)


@pytest.mark.parametrize("name", shipped_device_cards())
def test_every_shipped_device(name: str, lived: Lived, future: Future, tmp_path: Path) -> None:
    response = shipped_device_cards()[name].pulse_response
    two_sided = response is not None and not response.one_sided
    layout = {"rows": 8, "columns": 4, "pair_baseline": "middle" if two_sided else "bottom"}
    card = load_array_card("default")
    card = card.model_copy(update={"layout": card.layout.model_copy(update=layout)})
    chip = map_to_crossbar(mlp((1, 3, 3), 4, (6,)), name, card, seed=2, bias_rows=True)
    goes_on_alike(lived(chip), tmp_path / "chip.h5", future)


@pytest.mark.parametrize("wires", [1, 2])
def test_wires_and_bias_rows(
    wires: int,
    everything: DeviceCard,
    all_tables: Callable[..., ArrayCard],
    lived: Lived,
    future: Future,
    tmp_path: Path,
) -> None:
    resistances = {"word_line_ohm": 5.0, "driver_ohm": 3.0, "sense_ohm": 40.0}
    card = all_tables(wires=resistances | {"refresh_interval_programmings": wires})
    network = mlp((1, 3, 3), 3, (7,)).double()
    with torch.no_grad():
        network.biases[0].uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    chip = lived(map_to_crossbar(network, everything, card, seed=5, bias_rows=True))
    loaded = goes_on_alike(chip, tmp_path / "chip.h5", future)
    assert list(loaded.bias_rows) == [1, 2]


def test_any_graph(lived: Lived, future: Future, tmp_path: Path) -> None:
    """A cycle, parallel edges, an identity of another strength, a layer of channels made dense."""
    layers = [
        Layer((1, 4, 4)),
        Layer((2, 4, 4), Sigmoid()),
        Layer((3, 2, 2), ReLU()),
        Layer((3,)),
    ]
    edges = [
        Edge(0, 1, Convolution((1, 4, 4), 2, 3, padding=1)),
        Edge(1, 2, Convolution((2, 4, 4), 3, 2, stride=2)),
        Edge(1, 2, Identity((2, 4, 4), (3, 2, 2), strength=0.3)),
        Edge(2, 0, Dense((3, 2, 2), (1, 4, 4))),
        Edge(2, 3, Dense((3, 2, 2), (3,))),
        Edge(2, 3, Dense((3, 2, 2), (3,))),
    ]
    network = HopfieldNetwork(layers, edges)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for weight in network.weights:
            weight.uniform_(-0.1, 0.1, generator=generator)
    chip = lived(map_to_crossbar(network, "reram-array-om", "ideal", seed=0))
    loaded = goes_on_alike(chip, tmp_path / "chip.h5", future)
    assert repr(loaded.edge_list()[2].geometry) == "Identity((2, 4, 4), (3, 2, 2), strength=0.3)"


def test_a_chip_that_was_moved_to_double_precision(
    lived: Lived, future: Future, tmp_path: Path
) -> None:
    """What fixes its devices was drawn in float32, and still is when it is loaded."""
    chip = map_to_crossbar(mlp((1, 3, 3), 3, (4,)), "hfo2-reram", "ideal", seed=3).double()
    loaded = goes_on_alike(lived(chip), tmp_path / "chip.h5", future)
    assert loaded.biases[0].dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_chip_on_a_gpu(everything_chip: Callable[..., CrossbarNetwork], tmp_path: Path) -> None:
    """All but where its random numbers stand comes back, on the CPU."""
    chip = everything_chip().to("cuda")
    save(chip, tmp_path / "chip.h5")
    state = load(tmp_path / "chip.h5").state_dict()
    for name, value in chip.state_dict().items():
        if not name.endswith("storage._extra_state"):
            assert torch.equal(value.cpu().nan_to_num(), state[name].nan_to_num()), name


def test_a_second_save_takes_the_place_of_the_first(tmp_path: Path) -> None:
    path, recipe = tmp_path / "chip.h5", recipe_named("digits")
    save(map_to_crossbar(mlp((1, 2, 2), 2, (2,)), "pcm"), path, recipe)
    assert load_recipe(path) == recipe
    save(map_to_crossbar(mlp((1, 2, 2), 2, (2,)), "ideal"), path)
    assert load_recipe(path) is None
    assert load(path).device_card.name == "ideal"
    assert [file.name for file in tmp_path.iterdir()] == ["chip.h5"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, chip = tmp_path / "chip.h5", map_to_crossbar(mlp((1, 2, 2), 2, (2,)), "pcm")
    save(chip, path)
    before = path.read_bytes()
    monkeypatch.setattr(type(chip), "elapsed_s", property(lambda self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        save(chip, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["chip.h5"]
