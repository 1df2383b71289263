"""Chips as CSV per tile and as NumPy arrays: exact round trips, and other input refused."""

from __future__ import annotations

import csv
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neurosim_ep.crossbar import CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.exchange import chip_arrays, csv_tiles, neurosim_csv, numpy_arrays
from neurosim_ep.models import HopfieldNetwork, mlp, vgg5
from neurosim_ep.settling import settle


def quiet(name: str) -> DeviceCard:
    """A card whose reads are repeatable."""
    return load_device_card(name).model_copy(update={"read_noise": (), "telegraph": None})


def chip_of(
    network: HopfieldNetwork | None = None,
    device: str = "reram-array-om",
    *,
    dtype: torch.dtype = torch.float64,
    bias_rows: bool = False,
    seed: int = 3,
    **layout: object,
) -> CrossbarNetwork:
    """A small network on arrays that are too small for its matrices."""
    network = (network or vgg5(1, 4, (3, 2, 3, 2))).to(dtype)
    card = load_array_card("ideal")
    tables = {"rows": 26, "columns": 2} | layout
    card = card.model_copy(update={"layout": card.layout.model_copy(update=tables)})
    return map_to_crossbar(network, quiet(device), card, seed=seed, bias_rows=bias_rows)


def blank(network: HopfieldNetwork) -> HopfieldNetwork:
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.fill_(0.01 * (number + 1))
    return network


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"mapping": "offset_column"},
    {"scale": "column"},
    {"dtype": torch.float32, "mapping": "offset_column", "scale": "column"},
    {"bias_rows": True},
]


def into_csv(chip: CrossbarNetwork, where: Path) -> Callable[[CrossbarNetwork], object]:
    csv_tiles.save(chip, where / "tiles")
    return lambda other: csv_tiles.load(where / "tiles", other)


def into_numpy(chip: CrossbarNetwork, where: Path) -> Callable[[CrossbarNetwork], object]:
    numpy_arrays.save(chip, where / "chip.npz")
    return lambda other: numpy_arrays.load(where / "chip.npz", other)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("how", [into_csv, into_numpy])
@pytest.mark.parametrize("device", ["pcm", "ideal"])
def test_round_trips_are_exact(
    tmp_path: Path, how: Callable[..., Any], layout: dict[str, Any], device: str
) -> None:
    chip = chip_of(device=device, **layout)
    chip.advance_time(3600.0)
    load = how(chip, tmp_path)
    other = chip_of(blank(vgg5(1, 4, (3, 2, 3, 2))), device, seed=3, **layout)
    assert not torch.equal(other.weights[0], chip.weights[0])
    load(other)
    assert other.elapsed_s == 0.0
    for mine, theirs in zip(other.storages, chip.storages, strict=True):
        assert torch.equal(mine.matrix.devices.conductance, theirs.matrix.devices.conductance)
        assert torch.equal(mine.effective_weight(), theirs.effective_weight())
        assert torch.equal(mine.weight, theirs.effective_weight())
    for mine, theirs in zip(other.biases, chip.biases, strict=True):
        assert torch.equal(mine, theirs)
    images = torch.rand(3, 1, 32, 32, dtype=chip.biases[0].dtype)
    settled = [settle(each, images, iterations=5).output for each in (chip, other)]
    assert torch.equal(*settled)
    assert float(settled[0].abs().max()) > 0.0


def test_other_programs_read_the_weights_from_the_files_alone(tmp_path: Path) -> None:
    for mapping in ("differential_pair", "offset_column"):
        chip = chip_of(mapping=mapping, scale="column")
        csv_tiles.save(chip, tmp_path / mapping)
        with (tmp_path / mapping / "index.csv").open(newline="") as file:
            index = list(csv.DictReader(file))
        assert {path.name for path in (tmp_path / mapping).iterdir()} == {
            "index.csv",
            *(row["file"] for row in index),
        }
        for number, storage in enumerate(chip.storages):
            weight = np.zeros(storage.geometry.matrix(storage.weight).shape)
            seen = np.zeros(weight.shape)
            for row in index:
                if row["matrix"] != f"edge_{number}":
                    continue
                assert row["unit"] == "siemens"
                rows = slice(int(row["first_row"]), int(row["end_row"]))
                columns = slice(int(row["first_column"]), int(row["end_column"]))
                g = np.loadtxt(tmp_path / mapping / row["file"], delimiter=",", ndmin=2)
                if row["plane"] == "G":
                    g = g[:, :-1] - g[:, -1:]
                sign = -1.0 if row["plane"] == "G-" else 1.0
                unit = np.array([float(u) for u in row["weight_per_siemens"].split(" ")])
                weight[rows, columns] += sign * unit * g
                seen[rows, columns] += 1
            assert seen.min() == seen.max() == (2 if mapping == "differential_pair" else 1)
            expected = storage.geometry.matrix(storage.effective_weight()).detach().numpy()
            np.testing.assert_allclose(weight, expected, rtol=1e-9, atol=1e-12)


def test_numpy_files_hold_what_the_keys_say(tmp_path: Path) -> None:
    chip = chip_of(bias_rows=True)
    numpy_arrays.save(chip, tmp_path / "chip.npz")
    with np.load(tmp_path / "chip.npz", allow_pickle=False) as file:
        assert str(file["format"]) == "neurosim-ep arrays"
        g, unit = file["edge_1.conductance_siemens"], file["edge_1.weight_per_siemens"]
        weight = file["edge_1.weight"]
        tail = weight.reshape(weight.shape[0], -1).T
        np.testing.assert_allclose((g[0] - g[1]) * unit, tail, rtol=1e-9, atol=1e-12)
        assert file["edge_1.tiling"].tolist() == [27, 2, 18, 2]
        assert file["layer_1.bias"].shape == (3,)
        assert str(file["bias_1.mapping"]) == "differential_pair"


def test_exact_networks_round_trip_and_go_onto_chips(tmp_path: Path) -> None:
    network = vgg5(1, 4, (3, 2, 3, 2)).double()
    numpy_arrays.save(network, tmp_path / "network.npz")
    other = blank(vgg5(1, 4, (3, 2, 3, 2)).double())
    found = numpy_arrays.load(tmp_path / "network.npz", other)
    assert set(found) == {f"edge_{n}.weight" for n in range(5)} | {
        f"layer_{n}.bias" for n in range(1, 6)
    }
    for mine, theirs in zip(other.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    chip = chip_of(blank(vgg5(1, 4, (3, 2, 3, 2))), "ideal", bias_rows=True)
    numpy_arrays.load(tmp_path / "network.npz", chip)
    for storage, weight in zip(chip.storages, network.weights, strict=True):
        torch.testing.assert_close(storage.effective_weight(), weight.detach())


def test_arrays_without_a_chip(tmp_path: Path) -> None:
    chip = chip_of()
    csv_tiles.save(chip, tmp_path / "tiles")
    read, direct = csv_tiles.load(tmp_path / "tiles"), chip_arrays(chip)
    assert list(read.matrices) == list(direct.matrices) == [f"edge_{n}" for n in range(5)]
    for name, matrix in direct.matrices.items():
        assert torch.equal(read.matrices[name].conductance_siemens, matrix.conductance_siemens)
        assert torch.equal(read.matrices[name].weight, matrix.weight)


# --- NeuroSim ----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_arrays", [False, True])
def test_neurosim_reads_unrolled_weights_and_a_table_of_layers(
    tmp_path: Path, on_arrays: bool
) -> None:
    network = vgg5(1, 4, (3, 2, 3, 2)).double()
    subject = chip_of(network, "ideal") if on_arrays else network
    neurosim_csv.save(subject, tmp_path / "neurosim")
    with (tmp_path / "neurosim" / "scales.csv").open(newline="") as file:
        scales = list(csv.DictReader(file))
    layers = np.loadtxt(tmp_path / "neurosim" / "NetWork.csv", delimiter=",", dtype=int)
    first = network.edge_list()[0].geometry
    assert layers[0].tolist() == [32, 32, 1, 3, 3, 3, 1, 1]
    assert first.pooled
    dense = network.edge_list()[-1].geometry
    assert layers[-1].tolist() == [1, 1, dense.fan_in, 1, 1, 4, 0, 1]
    for edge, scale in zip(network.edge_list(), scales, strict=True):
        lines = (tmp_path / "neurosim" / scale["file"]).read_text().splitlines()
        matrix = np.array([[float(value) for value in line.split(",")] for line in lines])
        assert np.abs(matrix).max() == 1.0
        weight = torch.from_numpy(matrix * float(scale["largest_weight"]))
        pre = torch.rand(2, *edge.geometry.pre_shape, dtype=torch.float64)
        read = edge.storage.forward_read(pre).detach()
        if hasattr(edge.geometry, "kernel"):
            g: Any = edge.geometry
            patches = F.unfold(pre, g.kernel, padding=g.padding, stride=g.stride)
            computed = (weight.T @ patches).view(read.shape)
        else:
            computed = pre.flatten(1) @ weight
        torch.testing.assert_close(computed, read, rtol=1e-9, atol=1e-9)


def test_folders_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip, folder = chip_of(), tmp_path / "tiles"
    for save in (csv_tiles.save, neurosim_csv.save):
        folder.mkdir()
        with pytest.raises(ValueError, match="tiles is not allowed; must not exist yet"):
            save(chip, folder)
        folder.rmdir()
        with pytest.raises(ValueError, match="cannot be made"):
            save(chip, tmp_path / "nowhere" / "tiles")

    def fails(*_: object) -> None:
        raise RuntimeError("disk")

    monkeypatch.setattr(csv_tiles, "write_numbers", fails)
    monkeypatch.setattr(neurosim_csv, "write_numbers", fails)
    for save in (csv_tiles.save, neurosim_csv.save):
        with pytest.raises(RuntimeError, match="disk"):
            save(chip, folder)
    assert list(tmp_path.iterdir()) == []


# --- Wrong input -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("saved")
    csv_tiles.save(chip_of(device="ideal"), where / "tiles")
    numpy_arrays.save(chip_of(device="ideal"), where / "chip.npz")
    return where


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def first_number(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "edge_0_plus_tile_0_0.csv"
        _, comma, rest = path.read_text().partition(",")
        path.write_text(f"{text}{comma}{rest}")

    return change


TILE = "edge_0_plus_tile_0_0.csv"
CSV_CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "index.csv").unlink(), "index.csv: no such file"),
    "empty": (lambda f: (f / "index.csv").write_text(""), "the first line is not allowed; must be"),
    "header": (replaced("index.csv", "plane", "plan"), "the first line is not allowed; must be"),
    "no tile": (lambda f: (f / TILE).unlink(), f"{TILE}: no such file"),
    "NaN": (first_number("nan"), "line 1: 'nan' is not allowed; must be a finite number"),
    "word": (first_number("high"), "line 1: 'high' is not allowed; must be a finite number"),
    "outside": (
        first_number("1.0"),
        "edge_0: conductance_siemens: 1.0 is not allowed; must be from",
    ),
    "negative": (first_number("-1e-6"), "-1e-06 is not allowed; must be at least 0"),
    "short": (lambda f: (f / TILE).write_text("1e-6,2e-6\n"), "too short; must be 9 lines of 2"),
    "long": (lambda f: (f / TILE).write_text("1e-6,2e-6\n" * 99), "99 lines; must be 9"),
    "huge": (lambda f: (f / TILE).write_text("0" * 10_000_000), "10000000 bytes; must be at most"),
    "binary": (lambda f: (f / TILE).write_bytes(b"\xff\xfe" * 99), "not a text file"),
    "wider": (lambda f: (f / TILE).write_text("1e-6,2e-6,3e-6\n" * 9), "line 1 has 3 numbers"),
    "away": (replaced("index.csv", TILE, f"../{TILE}"), "is not allowed; must be a file's name"),
    "sizes": (replaced("index.csv", ",9,3,", ",999999999,3,"), "edge_0: no file for|must be|has 4"),
    "words": (replaced("index.csv", ",9,3,", ",nine,3,"), "rows 'nine' is not allowed"),
    "unit": (replaced("index.csv", "siemens", "ohm"), "the first line|unit 'ohm' is not allowed"),
    "mapping": (
        replaced("index.csv", "differential_pair", "pairs"),
        "mapping 'pairs' is not allowed",
    ),
    "fewer": (
        lambda f: (f / "index.csv").write_text(
            "".join((f / "index.csv").read_text().splitlines(keepends=True)[:-1])
        ),
        "biases: 1, 2, 3, 4 is not allowed; must be 1, 2, 3, 4, 5",
    ),
}


@pytest.mark.parametrize("case", CSV_CASES)
def test_a_folder_that_does_not_fit_is_refused_and_the_chip_stays(
    case: str, saved: Path, tmp_path: Path
) -> None:
    change, message = CSV_CASES[case]
    shutil.copytree(saved / "tiles", tmp_path / "tiles")
    if case == "unit":
        # The header names the weight per siemens: the first value comes after it.
        text = (tmp_path / "tiles" / "index.csv").read_text()
        head, _, rest = text.partition("\n")
        (tmp_path / "tiles" / "index.csv").write_text(f"{head}\n{rest.replace('siemens', 'ohm')}")
    else:
        change(tmp_path / "tiles")
    chip = chip_of(blank(vgg5(1, 4, (3, 2, 3, 2))), "ideal")
    before = chip_arrays(chip)
    with pytest.raises(ValueError, match=message) as caught:
        csv_tiles.load(tmp_path / "tiles", chip)
    assert "\n" not in str(caught.value)
    after = chip_arrays(chip)
    for name, matrix in before.matrices.items():
        assert torch.equal(matrix.conductance_siemens, after.matrices[name].conductance_siemens)
    for layer, bias in before.biases.items():
        assert torch.equal(bias, after.biases[layer])


def test_another_chip_is_refused(saved: Path) -> None:
    for other, message in (
        (
            chip_of(device="ideal", mapping="offset_column"),
            "mapping: .* is not allowed; must be .?offset_column",
        ),
        (
            chip_of(device="ideal", rows=27),
            "edge_1: a matrix of 27 x 2 in tiles of 18 x 2 is not allowed; must be",
        ),
        (
            chip_of(mlp((1, 4, 4), 3, (5,)), "ideal"),
            "matrices: edge_0, .* is not allowed; must be edge_0, ",
        ),
    ):
        for load in (
            lambda chip: csv_tiles.load(saved / "tiles", chip),
            lambda chip: numpy_arrays.load(saved / "chip.npz", chip),
        ):
            with pytest.raises(ValueError, match=message) as caught:
                load(other)
            assert "\n" not in str(caught.value)


def repacked(path: Path, changes: dict[str, Any]) -> None:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= changes
    kept = {name: value for name, value in arrays.items() if value is not None}
    np.savez(path, allow_pickle=True, **kept)


def claims(path: Path) -> None:
    """A member that says it is larger than it is."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = "edge_0.conductance_siemens.npy"
    assert b"(2, 9, 3)" in members[name]
    members[name] = (
        members[name].replace(b"(2, 9, 3)", b"(2, 9999999, 3)").replace(b"      \n", b"\n", 1)
    )
    with zipfile.ZipFile(path, "w") as new:
        for each, content in members.items():
            new.writestr(each, content)


NUMPY_CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: p.unlink(), "chip.npz: no such file"),
    "folder": (lambda p: (p.unlink(), p.mkdir()), "chip.npz: a folder"),
    "text": (lambda p: p.write_text("no zip"), "not an .npz file, or a damaged one"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-200]), "not an .npz file, or a damaged one"),
    "format": (lambda p: repacked(p, {"format": np.array("x")}), 'format: "x" is not allowed'),
    "version": (lambda p: repacked(p, {"format_version": np.array(2)}), "format_version: 2"),
    "pickle": (
        lambda p: repacked(p, {"edge_0.weight": np.array([{}], dtype=object)}),
        "edge_0.weight is damaged or not allowed",
    ),
    "name": (lambda p: repacked(p, {"extra": np.zeros(2)}), "array 'extra' is not allowed"),
    "NaN": (
        lambda p: repacked(p, {"edge_0.conductance_siemens": np.full((2, 9, 3), np.nan)}),
        "edge_0.conductance_siemens: NaN or infinity is not allowed",
    ),
    "outside": (
        lambda p: repacked(p, {"edge_0.conductance_siemens": np.full((2, 9, 3), 1.0)}),
        "edge_0: conductance_siemens: 1.0 is not allowed; must be from",
    ),
    "shape": (
        lambda p: repacked(p, {"edge_0.conductance_siemens": np.zeros((9, 3))}),
        r"edge_0.conductance_siemens: shape \[9, 3\] is not allowed; must be \[2, 9, 3\]",
    ),
    "part": (lambda p: repacked(p, {"edge_0.tiling": None}), "edge_0.tiling is missing"),
    "units": (
        lambda p: repacked(p, {"edge_0.weight_per_siemens": np.zeros(3)}),
        "edge_0: weight_per_siemens: 0.0 is not allowed; must be a finite number above 0",
    ),
    "whole": (
        lambda p: repacked(p, {"layer_1.bias": np.zeros(3, dtype=int)}),
        "layer_1.bias is damaged or not allowed",
    ),
    "claims": (claims, "edge_0.conductance_siemens is damaged or not allowed"),
}


@pytest.mark.parametrize("case", NUMPY_CASES)
def test_an_npz_that_does_not_fit_is_refused(case: str, saved: Path, tmp_path: Path) -> None:
    change, message = NUMPY_CASES[case]
    path = tmp_path / "chip.npz"
    shutil.copy(saved / "chip.npz", path)
    change(path)
    chip = chip_of(blank(vgg5(1, 4, (3, 2, 3, 2))), "ideal")
    before = chip_arrays(chip).matrices["edge_0"].conductance_siemens
    with pytest.raises(ValueError, match=message) as caught:
        numpy_arrays.load(path, chip)
    assert "\n" not in str(caught.value)
    assert torch.equal(chip_arrays(chip).matrices["edge_0"].conductance_siemens, before)


def test_damaged_bytes_give_one_line_or_a_whole_file(saved: Path, tmp_path: Path) -> None:
    generator, path = random.Random(0), tmp_path / "chip.npz"
    content = (saved / "chip.npz").read_bytes()
    problems = []
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 8)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged[: generator.randint(len(damaged) // 2, 2 * len(damaged))])
        try:
            numpy_arrays.load(path)
        except ValueError as error:
            problems.append(str(error))
    assert len(problems) > 100
    index = (saved / "tiles" / "index.csv").read_bytes()
    shutil.copytree(saved / "tiles", tmp_path / "tiles")
    for _ in range(100):
        damaged = bytearray(index)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        (tmp_path / "tiles" / "index.csv").write_bytes(damaged)
        try:
            csv_tiles.load(tmp_path / "tiles")
        except ValueError as error:
            problems.append(str(error))
    assert not [problem for problem in problems if "\n" in problem]
