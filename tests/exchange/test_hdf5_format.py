"""What a reader with h5py alone finds in a chip file, and docs/hdf5-format.md's examples."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from neurosim_ep.config import load_recipe as recipe_named
from neurosim_ep.config import recipe_from_mapping
from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, map_to_crossbar
from neurosim_ep.devices import load_device_card
from neurosim_ep.exchange.hdf5 import load, save
from neurosim_ep.models import mlp, vgg5

DOCUMENT = Path(__file__).parents[2] / "docs" / "hdf5-format.md"
Arrays = Callable[..., ArrayCard]


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def by_tiles(group: h5py.Group) -> np.ndarray:
    """Weights from the devices, tile by tile, by what the file says and nothing else."""
    weights = np.full((group.attrs["rows"], group.attrs["columns"]), np.nan)
    unit = group["weight_per_siemens"][...] * group.attrs["compensation"]
    tiles, seen = group["tiles"][...], []
    for top, bottom, left, right in tiles:
        if group.attrs["mapping"] == "differential_pair":
            plus, minus = group["plus/conductance_siemens"], group["minus/conductance_siemens"]
            difference = plus[top:bottom, left:right] - minus[top:bottom, left:right]
        else:
            if left not in seen:
                seen.append(left)
            references = group["reference/conductance_siemens"][top:bottom, seen.index(left)]
            g = group["weight/conductance_siemens"][top:bottom, left:right]
            difference = g - references[:, None]
        weights[top:bottom, left:right] = unit[left:right] * difference
    return weights


@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("scale", ["layer", "column"])
def test_conductances_give_the_weights_that_reads_see(
    tmp_path: Path, mapping: str, scale: str, small_arrays: Arrays
) -> None:
    noiseless = load_device_card("pcm").model_copy(update={"read_noise": ()})
    network, path = vgg5(1, 4, (3, 2, 3, 2)).double(), tmp_path / "chip.h5"
    card = small_arrays(mapping=mapping, scale=scale)
    chip = map_to_crossbar(network, noiseless, card, seed=3)
    chip.advance_time(3600.0)
    save(chip, path)
    with h5py.File(path) as file:
        assert file.attrs["elapsed_s"] == 3600.0
        assert sorted(file["matrices"]) == [f"edge_{number}" for number in range(5)]
        for number, storage in enumerate(chip.storages):
            group = file[f"matrices/edge_{number}"]
            found = by_tiles(group)
            np.testing.assert_allclose(found, group["forward_weight"][...], rtol=1e-12, atol=1e-14)
            # An impulse on each input reads a row of the weights.
            if number == 4:
                inputs = torch.eye(storage.geometry.fan_in, dtype=torch.float64)
                read = storage.forward_read(inputs.view(-1, *storage.geometry.pre_shape))
                np.testing.assert_allclose(found, read.detach().numpy(), atol=1e-14)
            role = "plus" if mapping == "differential_pair" else "weight"
            g, programmed = (group[f"{role}/{n}_siemens"] for n in ("conductance", "programmed"))
            assert (g[...] < programmed[...]).any()


def test_rows_of_a_convolution_are_what_the_file_says(tmp_path: Path, small_arrays: Arrays) -> None:
    chip = map_to_crossbar(vgg5(1, 4, (3, 2, 3, 2)).double(), "ideal", small_arrays(), seed=3)
    save(chip, tmp_path / "chip.h5")
    weight = chip.weights[1].detach().numpy()
    with h5py.File(tmp_path / "chip.h5") as file:
        group, edge = file["matrices/edge_1"], file["graph/edge_1"]
        said = group.attrs["meaning_of_a_row"]
        assert said == (
            "(input channel * kernel + row of the kernel) * kernel + column of the kernel"
        )
        assert group.attrs["meaning_of_a_column"] == "output channel"
        kernel, matrix = edge.attrs["kernel"], group["forward_weight"][...]
        assert edge.attrs["geometry"] == "pooled_convolution"
        assert (edge.attrs["out_channels"], edge.attrs["stride"], edge.attrs["padding"]) == (
            2,
            1,
            1,
        )
        for out, channel, y, x in np.ndindex(*weight.shape):
            row = (channel * kernel + y) * kernel + x
            assert matrix[row, out] == pytest.approx(weight[out, channel, y, x], rel=1e-12)
        # 27 rows on arrays of 20: tiles end at whole channels of 9 rows.
        assert group["tiles"][...].tolist() == [[0, 18, 0, 2], [18, 27, 0, 2]]
        assert group.attrs["arrays"] == 4


def test_every_dataset_says_its_unit_and_is_compressed_and_checked(
    tmp_path: Path, everything_chip: Callable[..., CrossbarNetwork]
) -> None:
    chip, path = everything_chip(), tmp_path / "chip.h5"
    recipe = recipe_named("digits")
    save(chip, path, recipe)
    units = {"_siemens": "siemens", "_s": "second", "_ampere": "ampere"}
    documented = DOCUMENT.read_text(encoding="utf-8")
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        datasets = {name: file[name] for name in names if isinstance(file[name], h5py.Dataset)}
        for name, item in datasets.items():
            leaf = name.rpartition("/")[2]
            assert f"`{leaf}`" in documented or f"`{name}`" in documented or "biases/" in name
            if item.dtype.kind == "O":
                continue
            if not name.endswith("weight_per_siemens"):
                assert (item.compression, item.shuffle, item.fletcher32) == ("gzip", True, True)
                ends = [unit for end, unit in units.items() if name.endswith(end)]
                assert item.attrs["unit"] == (ends[0] if ends else "1")
        for name in [*names, "/"]:
            for attribute in file[name].attrs:
                if name not in datasets and not attribute.startswith("version_"):
                    assert f"`{attribute}`" in documented, (name, attribute)
        plus = file["matrices/edge_0/plus"]
        # An array of 5 x 3, a matrix of 9 x 8 in four tiles of 5 x 3 at most: one small chunk.
        assert plus["conductance_siemens"].chunks == (9, 8)
        assert [plus["wire_share"].dims[axis].label for axis in range(3)] == [
            "direction",
            "row",
            "column",
        ]
        assert plus["stuck"][...].any()
        assert len(np.unique(plus["age_at_last_write_s"][...])) > 2
        assert plus["pulse_count"][...].sum() > 0
        converters = file["matrices/edge_0/converters"]
        assert converters["forward_full/adc_full_scale_ampere"].shape == (2, 3)
        assert converters["forward_full"].attrs["dac_full_scale"] > 0.0
        # Only full reads were calibrated.
        assert len(converters["forward_delta"]) == len(converters["forward_delta"].attrs) == 0
        assert recipe_from_mapping(tomllib.loads(file["recipe"][()].decode())) == recipe
        assert tomllib.loads(file["cards/device"][()].decode())["name"] == "everything"


def test_nothing_that_has_not_drifted_is_stored_twice(tmp_path: Path) -> None:
    chip = map_to_crossbar(mlp((1, 3, 3), 3, (4,)), "pcm", "ideal")
    save(chip, tmp_path / "chip.h5")
    with h5py.File(tmp_path / "chip.h5") as file:
        group = file["matrices/edge_0"]
        assert group["plus/programmed_siemens"] == group["plus/conductance_siemens"]
        assert group["transposed_weight"] == group["forward_weight"]


def test_large_tiles_are_chunks_and_small_ones_share_them(
    tmp_path: Path, small_arrays: Arrays
) -> None:
    card = small_arrays(rows=150, columns=128)
    chip = map_to_crossbar(mlp((1, 24, 24), 2, (300,)), "ideal", card)
    save(chip, tmp_path / "chip.h5")
    with h5py.File(tmp_path / "chip.h5") as file:
        group = file["matrices/edge_0"]
        # Four by three tiles of 144 x 100.
        assert len(group["tiles"]) == 12
        assert group["plus/conductance_siemens"].chunks == (144, 200)


def test_the_documents_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    read, write, take = examples()
    chip = map_to_crossbar(mlp((1, 8, 8), 10, (32,)).double(), "li-ecram", "ideal", seed=1)
    save(chip, tmp_path / "chip.h5")
    found: dict[str, np.ndarray] = {}
    exec(read, found)
    np.testing.assert_allclose(found["weights"], chip.storages[0].matrix.forward_matrix, rtol=1e-9)
    assert "unit of the pre side" in capsys.readouterr().out
    measured = np.random.default_rng(0).uniform(1e-6, 2e-5, (2, 64, 10))
    np.save(tmp_path / "measured.npy", measured)
    exec(write, {})
    loaded: dict[str, CrossbarNetwork] = {}
    exec(take, loaded)
    matrix = loaded["chip"].storages[0].matrix
    np.testing.assert_allclose(matrix.devices.conductance, measured, rtol=1e-6)
    # At most ten lines beside the imports, as promised.
    for example in (read, write):
        lines = [line for line in example.splitlines() if line and not line.startswith("import")]
        assert len(lines) <= 13
    assert load(tmp_path / "measured.h5").elapsed_s == 0.0
