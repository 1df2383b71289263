"""Exported conductances: they give the chip's weights back, and other files are refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from neurosim_ep.crossbar import CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.exchange import load_conductances, save_conductances
from neurosim_ep.models import mlp, vgg5

Change = Callable[[h5py.File], None]


def chip_of(
    device: DeviceCard | str = "reram-array-om",
    *,
    dtype: torch.dtype = torch.float64,
    **layout: object,
) -> CrossbarNetwork:
    """A small convolutional network on arrays that are too small for its matrices."""
    network = vgg5(1, 4, (3, 2, 3, 2)).to(dtype)
    card = load_array_card("ideal")
    tables = {"rows": 20, "columns": 2} | layout
    card = card.model_copy(update={"layout": card.layout.model_copy(update=tables)})
    return map_to_crossbar(network, device, card, seed=3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "chip.h5"
    save_conductances(chip_of(), path)
    return path


def from_devices(group: h5py.Group) -> np.ndarray:
    """Weights by what the file says of itself, tile by tile and without this program's mapping."""
    g = group["conductance_siemens"][...]
    unit = group["weight_per_siemens"][...] * group.attrs["compensation"]
    if group.attrs["mapping"] == "differential_pair":
        return unit * (g[0] - g[1])
    weights = np.empty((group.attrs["rows"], group.attrs["columns"]))
    bounds = group["column_boundaries"][...]
    for tile in range(group.attrs["column_tiles"]):
        columns = slice(bounds[tile], bounds[tile + 1])
        reference = g[0, :, group.attrs["columns"] + tile]
        weights[:, columns] = g[0, :, columns] - reference[:, None]
    return unit * weights


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("scale", ["layer", "column"])
def test_conductances_give_the_weights_that_reads_see(
    tmp_path: Path, mapping: str, scale: str
) -> None:
    noiseless = load_device_card("pcm").model_copy(update={"read_noise": ()})
    chip, path = chip_of(noiseless, mapping=mapping, scale=scale), tmp_path / "chip.h5"
    chip.advance_time(3600.0)
    save_conductances(chip, path)
    with h5py.File(path) as file:
        assert file.attrs["elapsed_s"] == 3600.0
        assert len(file["matrices"]) == len(chip.storages) == 5
        for number, storage in enumerate(chip.storages):
            group = file[f"matrices/edge_{number}"]
            np.testing.assert_allclose(
                from_devices(group), group["forward_weight"][...], rtol=1e-12, atol=1e-14
            )
            # An impulse on each input reads a row of the weights.
            if number == 4:
                inputs = torch.eye(storage.geometry.fan_in, dtype=torch.float64)
                inputs = inputs.view(-1, *storage.geometry.pre_shape)
                read = storage.forward_read(inputs).detach().numpy()
                np.testing.assert_allclose(group["forward_weight"][...], read, atol=1e-14)
            g, programmed = group["conductance_siemens"], group["programmed_siemens"]
            assert (g[...] < programmed[...]).any()
            assert g.attrs["unit"] == "siemens"
            assert [g.dims[axis].label for axis in range(3)] == ["plane", "row", "column"]


def test_rows_of_a_convolution_are_what_the_file_says(tmp_path: Path) -> None:
    chip, path = chip_of("ideal"), tmp_path / "chip.h5"
    save_conductances(chip, path)
    weight = chip.weights[1].detach().numpy()
    with h5py.File(path) as file:
        group = file["matrices/edge_1"]
        said = group.attrs["meaning_of_a_row"]
        assert said == (
            "(input channel * kernel + row of the kernel) * kernel + column of the kernel"
        )
        kernel, matrix = group.attrs["kernel"], group["forward_weight"][...]
        assert (group.attrs["in_channels"], group.attrs["out_channels"], kernel) == (3, 2, 3)
        assert (group.attrs["stride"], group.attrs["padding"]) == (1, 1)
        for out, channel, y, x in np.ndindex(*weight.shape):
            row = (channel * kernel + y) * kernel + x
            assert matrix[row, out] == pytest.approx(weight[out, channel, y, x], rel=1e-12)
        # 27 rows on arrays of 20: tiles end at whole channels of 9 rows.
        assert group["row_boundaries"][...].tolist() == [0, 18, 27]
        assert group["column_boundaries"][...].tolist() == [0, 2]
        assert group.attrs["arrays"] == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_loaded_is_what_the_chip_holds(tmp_path: Path, dtype: torch.dtype) -> None:
    chip, path = chip_of("cmo-hfox-reram", dtype=dtype), tmp_path / "chip.h5"
    chip.advance_time(60.0)
    save_conductances(chip, path)
    assert [file.name for file in tmp_path.iterdir()] == ["chip.h5"]
    loaded = load_conductances(path)
    assert loaded.device_card == chip.device_card
    assert loaded.array_card == chip.array_card
    assert (loaded.seed, loaded.elapsed_s) == (3, 60.0)
    assert loaded.attributes["version_torch"] == torch.__version__
    assert "edge 4: layer 4 to layer 5, Dense((2, 2, 2), (4,))" in loaded.network
    for layer, bias in zip(chip.free_layers, chip.biases, strict=True):
        assert torch.equal(loaded.biases[layer], bias.detach())
    for number, (mine, storage) in enumerate(zip(loaded.matrices, chip.storages, strict=True)):
        matrix = storage.matrix
        assert mine.name == f"edge {number}"
        assert mine.tiling == matrix.tiling
        assert mine.compensation == matrix.compensation
        for name, wanted in (
            ("programmed_siemens", matrix.devices.programmed),
            ("conductance_siemens", matrix.devices.conductance),
            ("weight_per_siemens", matrix.units),
            ("forward_weight", matrix.forward_matrix),
            ("transposed_weight", matrix.transposed_matrix),
        ):
            found = getattr(mine, name)
            assert found.dtype == dtype
            assert torch.equal(found, wanted)


def test_clocks_that_differ_are_exported(tmp_path: Path) -> None:
    chip, path = chip_of("pcm"), tmp_path / "chip.h5"
    chip.advance_time(60.0)
    one = torch.zeros_like(chip.weights[0])
    one.view(-1)[0] = 1.0
    chip.storages[0].pulse(one, torch.zeros_like(one))
    chip.advance_time(5.0)
    save_conductances(chip, path)
    loaded = load_conductances(path)
    ages = loaded.matrices[0].age_s
    assert ages is not None
    # One increment is one up pulse on G+ of devices that can only be pulsed up.
    assert ages.shape == chip.storages[0].matrix.devices.shape
    assert (ages == 5.0).sum() == 1
    assert (ages == 65.0).sum() == ages.numel() - 1
    assert float(ages[0].flatten()[0]) == 5.0
    assert all(matrix.age_s is None for matrix in loaded.matrices[1:])


def test_bias_rows_are_exported(tmp_path: Path) -> None:
    network, path = mlp((1, 3, 3), 4, (5,)).double(), tmp_path / "chip.h5"
    with torch.no_grad():
        network.biases[0].uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    chip = map_to_crossbar(network, "li-ecram", "ideal", seed=3, bias_rows=True)
    save_conductances(chip, path)
    loaded = load_conductances(path)
    assert [matrix.name for matrix in loaded.matrices] == ["edge 0", "edge 1", "bias 1", "bias 2"]
    row = loaded.matrices[2]
    assert row.attributes["kind"] == "bias row"
    assert row.conductance_siemens.shape == (2, 1, 5)
    torch.testing.assert_close(row.forward_weight[0], loaded.biases[1])


def test_a_second_export_takes_the_place_of_the_first(saved: Path) -> None:
    first = load_conductances(saved)
    save_conductances(chip_of("ideal"), saved)
    assert load_conductances(saved).device_card.name == "ideal"
    assert first.device_card.name == "reram-array-om"


def test_a_failed_export_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    chip = chip_of()
    monkeypatch.setattr(type(chip), "bias_rows", property(lambda self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        save_conductances(chip, saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["chip.h5"]


# --- foreign and damaged files -----------------------------------------------------------------


def _delete(name: str) -> Change:
    return lambda file: file.__delitem__(name)


def _replace(name: str, values: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def _attribute(group: str, name: str, value: object) -> Change:
    return lambda file: file[group].attrs.__setitem__(name, value)


def _huge(file: h5py.File) -> None:
    """A claim of many terabytes that takes no space in the file."""
    group = file["matrices/edge_0"]
    group.attrs["rows"] = group.attrs["tile_rows"] = 10**9
    for name in ("programmed_siemens", "conductance_siemens"):
        del group[name]
        group.create_dataset(name, (2, 10**9, 3), chunks=(1, 10, 3), dtype="f8")
    del group["row_boundaries"]
    group["row_boundaries"] = [0, 10**9]


EDGE = "matrices/edge_0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_attribute("/", "format", "neurosim-ep pulses"), "attribute format: 'neurosim-ep pulses'"),
        (_attribute("/", "format", 3), "attribute format: 3"),
        (_attribute("/", "format_version", 2), "attribute format_version: 2 is not allowed"),
        (lambda file: file.attrs.__delitem__("format"), "attribute format is missing"),
        (_attribute("/", "chip_seed", -1), "attribute chip_seed: -1"),
        (_attribute("/", "elapsed_s", np.nan), "attribute elapsed_s: nan"),
        (_delete("matrices"), "matrices is missing"),
        (_delete("cards/device"), "cards/device is missing"),
        (_replace("cards/device", "name = 3"), "cards/device: name: 3 is not allowed"),
        (_replace("cards/array", "]["), "cards/array: cards/array: not valid TOML"),
        (_replace("cards/array", 7), "cards/array is missing, damaged or not text"),
        (_delete("biases/layer_1"), "biases/layer_1 is missing"),
        (_replace("biases/layer_1", np.full(3, np.inf)), "biases/layer_1 holds values"),
        (_delete(f"{EDGE}/programmed_siemens"), "programmed_siemens is missing"),
        (_replace(f"{EDGE}/conductance_siemens", np.zeros((2, 9, 4))), "has shape (2, 9, 4)"),
        (_replace(f"{EDGE}/conductance_siemens", "text"), "has shape ()"),
        (_replace(f"{EDGE}/forward_weight", np.full((9, 3), np.nan)), "holds values that are not"),
        (_replace(f"{EDGE}/forward_weight", np.zeros((9, 3), int)), "has type int64"),
        (_replace(f"{EDGE}/row_boundaries", [0, 8]), "row_boundaries do not fit"),
        (_attribute(EDGE, "mapping", "offset_column"), "mapping: 'offset_column' is not allowed"),
        (_attribute(EDGE, "rows", 10**15), "row_boundaries has shape (2,)"),
        (_attribute(EDGE, "tile_rows", 0), "tile_rows: 0 is not allowed"),
        (_attribute(EDGE, "place", "first"), "place: 'first' is not allowed"),
        (_huge, "programmed_siemens is damaged"),
    ],
)
def test_wrong_content_is_refused_in_one_line(saved: Path, change: Change, said: str) -> None:
    with h5py.File(saved, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=r"chip\.h5: ") as caught:
        load_conductances(saved)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    for path, said in (
        (tmp_path / "none.h5", "no such file"),
        (tmp_path, "a folder"),
        (text, "not an HDF5 file, or a damaged one"),
    ):
        with pytest.raises(ValueError, match=f"{path}: {said}"):
            load_conductances(path)


def test_mutated_files_are_read_or_refused_in_one_line(saved: Path, tmp_path: Path) -> None:
    whole, draw, refused = saved.read_bytes(), random.Random(0), 0
    for number in range(60):
        damaged = bytearray(whole)
        if number % 3 == 0:
            damaged = damaged[: draw.randrange(len(whole))]
        else:
            for _ in range(draw.randrange(1, 20)):
                place = draw.randrange(8192 if number % 3 == 1 else len(damaged))
                damaged[place] = draw.randrange(256)
        path = tmp_path / f"damaged-{number}.h5"
        path.write_bytes(damaged)
        try:
            load_conductances(path)
            said = ""
        except ValueError as error:
            said, refused = str(error), refused + 1
        assert "\n" not in said
    assert refused >= 20
