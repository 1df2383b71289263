"""Foreign, damaged and absurd chip files are refused in one line, and nothing is made for them."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from neurosim_ep._hdf5 import probe
from neurosim_ep.crossbar import CrossbarNetwork, map_to_crossbar
from neurosim_ep.exchange.hdf5 import load, load_recipe, save
from neurosim_ep.models import HopfieldNetwork, Layer, ReLUAlpha, mlp
from neurosim_ep.models.activations import Activation
from neurosim_ep.models.geometry import Dense
from neurosim_ep.models.network import Edge

Change = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, everything_chip: Callable[..., CrossbarNetwork]
) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "chip.h5"
    save(everything_chip(), path)
    return path.read_bytes()


def refused(path: Path) -> str:
    """What is said of a file, within a few MB."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^.*: ") as caught:
            load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 24
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def _delete(name: str) -> Change:
    return lambda file: file.__delitem__(name)


def _replace(name: str, values: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def _attribute(group: str, name: str, value: object) -> Change:
    return lambda file: file[group].attrs.__setitem__(name, value)


def _claim(name: str, shape: tuple[int, ...], **how: Any) -> Change:
    """A claim of petabytes that takes no space in the file."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, "f4", **how)

    return change


def _set(name: str, value: float) -> Change:
    return lambda file: file[name].__setitem__((0, 0), value)


def _huge_layers(file: h5py.File) -> None:
    """A graph that asks for terabytes, with claims of datasets that would fit it."""
    file["graph/layer_0"].attrs["shape"] = [2**20]
    file["graph/layer_1"].attrs["shape"] = [2**20]
    for role in ("plus", "minus"):
        name = f"matrices/edge_0/{role}/conductance_siemens"
        del file[name]
        file.create_dataset(name, (2**20, 2**20), "f4", chunks=(64, 64))


def _many_layers(file: h5py.File) -> None:
    file["graph"].attrs["layers"] = 5000
    for number in range(4, 5000):
        file["graph"][f"layer_{number}"] = file["graph/layer_3"]


def _aliases(file: h5py.File) -> None:
    """One matrix of zeros under hundreds of names."""
    file["graph/layer_0"].attrs["shape"], file["graph/layer_1"].attrs["shape"] = [720], [900]
    for role in ("plus", "minus"):
        name = f"matrices/edge_0/{role}/conductance_siemens"
        del file[name]
        zeros = np.zeros((720, 900), "f4")
        file.create_dataset(name, data=zeros, compression="gzip", compression_opts=9)
    for name in ("weight_per_siemens", "tiles"):
        del file[f"matrices/edge_0/{name}"]
    file["matrices/edge_0/weight_per_siemens"] = np.ones(900, "f4")
    for group in ("graph", "matrices"):
        for number in range(1, 200):
            file[group].pop(f"edge_{number}", None)
            file[group][f"edge_{number}"] = file[f"{group}/edge_0"]
    file["graph"].attrs["edges"] = 200


def _link(name: str, link: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def _virtual(file: h5py.File) -> None:
    name = "matrices/edge_0/plus/conductance_siemens"
    del file[name]
    layout = h5py.VirtualLayout((9, 8), "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", (9, 8))
    file.create_virtual_dataset(name, layout)


def _outside(file: h5py.File) -> None:
    name = "matrices/edge_0/plus/conductance_siemens"
    del file[name]
    file.create_dataset(name, (9, 8), "f4", external=[("/etc/passwd", 0, 288)])


def _no_card(file: h5py.File) -> None:
    del file["cards/device"]
    file.attrs["device_card"] = "/etc/passwd"


def _number(card: str, old: str, new: str) -> Change:
    def change(file: h5py.File) -> None:
        text = file[f"cards/{card}"][()].decode()
        assert old in text
        del file[f"cards/{card}"]
        file[f"cards/{card}"] = text.replace(old, new)

    return change


def _extra(file: h5py.File) -> None:
    file["matrices/edge_0/plus/pulse_rate"] = np.zeros((9, 8))


EDGE = "matrices/edge_0"
G = f"{EDGE}/plus/conductance_siemens"
BEFORE = f"{EDGE}/plus/programmed_siemens"

CASES: list[tuple[Change, str]] = [
    (_attribute("/", "format", "neurosim-ep pulses"), "attribute format: 'neurosim-ep pulses'"),
    (_attribute("/", "format", 3), "attribute format: 3 is not allowed"),
    (_attribute("/", "format", np.zeros(10**6)), "attribute format is damaged"),
    (_attribute("/", "format_version", 2), "attribute format_version: 2 is not allowed; must be"),
    (lambda file: file.attrs.__delitem__("format"), "attribute format is missing"),
    (_attribute("/", "chip_seed", -1), "attribute chip_seed: -1"),
    (_attribute("/", "dtype", "float16"), "attribute dtype: 'float16' is not allowed"),
    (_attribute("/", "bias_rows", 1), "matrices/bias_1/plus/conductance_siemens is missing"),
    (_attribute("/", "clipped", -5), "attribute clipped: -5 is not allowed"),
    (_delete("matrices"), "matrices/edge_0/plus/conductance_siemens is missing"),
    (_delete("graph"), "graph: attribute layers is damaged"),
    (_no_card, "attribute device_card: '/etc/passwd' is not allowed; must be one of capacitor"),
    (_replace("cards/device", "name = 3"), "cards/device: name: 3 is not allowed"),
    (_replace("cards/array", "]["), "cards/array: cards/array: not valid TOML"),
    (_replace("cards/array", 7), "cards/array is missing, damaged or not text"),
    (_replace("cards/array", "#" * 2**21), "cards/array is too long"),
    (_number("array", "rows = 5", "rows = 6"), "tiles has shape (2, 4); must be (1, 4)"),
    (_number("array", "rows = 5", "rows = 0"), "layout.rows: 0 is not allowed"),
    (_number("device", "start_s = 20.0", "start_s = 2.0"), "is not what its devices have drifted"),
    (_attribute("graph", "layers", 1), "attribute graph.layers: 1 is not allowed"),
    (_many_layers, "attribute graph.layers: 5000 is not allowed; must be a whole number from 2"),
    (_attribute("graph", "edges", 10**9), "attribute graph.edges: 1000000000 is not allowed"),
    (_attribute("graph", "edges", 2), "layer 3 is not connected to the input"),
    (_attribute("graph/layer_0", "shape", [2**31, 2**31, 2**31]), "graph/layer_0.shape: "),
    (_attribute("graph/layer_0", "shape", np.ones(5000, int)), "attribute shape is damaged"),
    (_attribute("graph/layer_0", "shape", [0]), "graph/layer_0.shape: [0] is not allowed"),
    (_attribute("graph/layer_1", "shape", [9]), f"{G} has shape (9, 8); must be (9, 9)"),
    (_attribute("graph/layer_1", "activation", "tanh"), "activation: 'tanh' is not allowed"),
    (_attribute("graph/layer_1", "alpha", 1e300), "graph/layer_1.alpha: 1e+300 is not allowed"),
    (_attribute("graph/layer_1", "alpha", np.nan), "graph/layer_1.alpha: nan is not allowed"),
    (_attribute("graph/edge_0", "post_layer", 4), "post_layer: 4 is not allowed"),
    (_attribute("graph/edge_0", "geometry", "convolution"), "attribute out_channels is missing"),
    (_attribute("graph/edge_0", "geometry", "identity"), "attribute strength is missing"),
    (_huge_layers, "devices: 2199023255552 is not allowed; must be at most "),
    (_aliases, "is not allowed; must be at most "),
    (_delete("biases/layer_1"), "biases/layer_1 is missing"),
    (_replace("biases/layer_1", np.full(8, np.inf)), "biases/layer_1 holds values that are not fi"),
    (_delete(G), f"{G} is missing"),
    (_replace(G, np.zeros((9, 7))), f"{G} has shape (9, 7); must be (9, 8)"),
    (_replace(G, np.zeros((9, 8), int)), f"{G} has type int64; must be of kind 'float'"),
    (_replace(G, np.zeros((9, 8), "S4")), f"{G} has type |S4; must be of kind 'float'"),
    (_replace(G, "text"), f"{G} has shape ()"),
    (_claim(G, (2**40, 2**20), chunks=(64, 64)), f"{G} has shape (1099511627776, 1048576)"),
    (_claim(G, (9, 8)), f"{G} is damaged"),
    (_claim(G, (9, 8), chunks=(2**20, 2**10), maxshape=(None, None)), f"{G} is damaged"),
    (_virtual, f"{G} is damaged"),
    (_outside, f"{G} is damaged"),
    (_link(G, h5py.SoftLink(BEFORE)), f"{G} is missing"),
    (_link("matrices", h5py.ExternalLink("chip.h5", "/matrices")), "edge_0/plus/conductance"),
    (_set(G, 9.9e-5), "conductance_siemens is not what its devices have drifted to"),
    (_set(BEFORE, 1e-3), "a conductance of 0.001 siemens is not allowed; must be from"),
    (_set(BEFORE, np.nan), f"{BEFORE} holds values that are not finite"),
    (_delete(BEFORE), f"{BEFORE} is missing"),
    (_delete(f"{EDGE}/minus/stuck"), f"{EDGE}/minus/stuck is missing"),
    (_set(f"{EDGE}/minus/stuck", 2), "minus/stuck holds values that are not 0 or 1"),
    (_set(f"{EDGE}/plus/age_at_last_write_s", -1.0), "age_at_last_write_s holds values below 0"),
    (_set(f"{EDGE}/plus/drift_coefficient", np.inf), "drift_coefficient holds values that are not"),
    (_extra, f"{EDGE}/plus/pulse_rate is not allowed here; these devices of the card 'everything'"),
    (_delete(f"{EDGE}/plus/wire_share"), f"{EDGE}/plus/wire_share is missing"),
    (_replace(f"{EDGE}/weight_per_siemens", np.zeros(8)), "holds values that are not above 0"),
    (_replace(f"{EDGE}/tiles", np.zeros((6, 4), int)), f"{EDGE}/tiles do not fit the network"),
    (_delete(f"{EDGE}/digital_weight"), f"{EDGE}/digital_weight is missing"),
    (_replace(f"{EDGE}/read_generator_state", np.zeros(5056, "u1")), "does not fit its own cards"),
    (_replace(f"{EDGE}/read_generator_state", np.zeros(10**6, "u1")), "must have at most 65536"),
    (_attribute(EDGE, "compensation", np.nan), f"{EDGE}.compensation: nan is not allowed"),
    (_attribute(EDGE, "elapsed_s", -1.0), f"{EDGE}.elapsed_s: -1.0 is not allowed"),
    (_attribute(EDGE, "device_seed", 2**63), f"{EDGE}.device_seed: 9223372036854775808"),
    (_attribute(EDGE, "program_count", "two"), f"{EDGE}.program_count: 'two' is not allowed"),
]


@pytest.mark.parametrize(("change", "said"), CASES)
def test_what_is_wrong_is_said_in_one_line(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, said: str
) -> None:
    # Without a process for each of these files; the tests below have some.
    monkeypatch.setattr("neurosim_ep._hdf5.reader.survives", lambda path: True)
    path = tmp_path / "chip.h5"
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        change(file)
    message = refused(path)
    assert said in message


def test_other_files_are_refused_in_one_line(whole: bytes, tmp_path: Path) -> None:
    text, empty, short = (tmp_path / name for name in ("text.h5", "empty.h5", "short.h5"))
    text.write_text("no HDF5")
    empty.write_bytes(b"")
    short.write_bytes(whole[: len(whole) // 2])
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["data"] = np.zeros(3)
    for path, said in (
        (tmp_path / "none.h5", "no such file"),
        (tmp_path, "a folder"),
        (text, "not an HDF5 file, or a damaged one"),
        (empty, "not an HDF5 file, or a damaged one"),
        (short, "not an HDF5 file, or a damaged one"),
        (other, "attribute format is missing"),
    ):
        assert refused(path) == f"{path}: {said}" or said in refused(path)


# --- The digest, and files without one ---------------------------------------------------------


def test_every_changed_byte_is_told_by_the_digest(whole: bytes, tmp_path: Path) -> None:
    path, step = tmp_path / "chip.h5", len(whole) // 40
    for place in range(100, len(whole) - 90, step):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert refused(path).endswith("its contents are not those that its digest was made of")


def test_a_file_that_was_changed_on_purpose_has_no_digest(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "chip.h5"
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.attrs["chip_seed"] = 5
        file.attrs["note"] = "mine"
    assert b"neurosim-ep sha256" in whole[-100:]
    assert b"neurosim-ep sha256" not in path.read_bytes()[-100:]
    assert load(path).seed == 5
    # Without the digest it is the same file.
    path.write_bytes(whole[:-85])
    assert load(path).seed == 1


def endless(folder: Path) -> Path:
    """A file in h5py's own layout whose heap of texts has an entry that leads to itself."""
    path = folder / "endless.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "neurosim-ep chip"
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    size = int.from_bytes(data[heap + 8 : heap + 16], "little")
    free, end = heap + 16, heap + size
    while free < end and int.from_bytes(data[free : free + 2], "little"):
        length = int.from_bytes(data[free + 8 : free + 16], "little")
        free += 16 + -(-length // 8) * 8
    data[free + 8 : free + 16] = bytes(8)
    path.write_bytes(data)
    return path


def test_a_file_that_hdf5_reads_without_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 1.0)
    path = endless(tmp_path)
    assert refused(path) == f"{path}: damaged; HDF5 does not come to an end with it"


def test_reading_through_first_finds_what_is_there(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "chip.h5"
    path.write_bytes(whole[:-85])
    assert probe.survives(path)
    command = [sys.executable, "-P", probe.__file__, str(path), "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- What cannot be saved ----------------------------------------------------------------------


class Own(Activation):
    def forward(self, current: torch.Tensor) -> torch.Tensor:
        return current


def test_what_cannot_be_saved_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    network = mlp((1, 2, 2), 2, (2,))
    path = tmp_path / "chip.h5"
    with pytest.raises(ValueError, match='chip: "HopfieldNetwork" is not allowed; must be a Cr'):
        save(network, path)  # type: ignore[arg-type]
    layers = [Layer((2,)), Layer((3,), Own()), Layer((1,))]
    edges = [Edge(0, 1, Dense((2,), (3,))), Edge(1, 2, Dense((3,), (1,)))]
    own = map_to_crossbar(HopfieldNetwork(layers, edges))
    with pytest.raises(ValueError, match=r'layers\[1\].activation: "Own" is not allowed; must '):
        save(own, path)
    layers[1] = Layer((3,), ReLUAlpha(1e7))
    edges = [Edge(0, 1, Dense((2,), (3,))), Edge(1, 2, Dense((3,), (1,)))]
    with pytest.raises(ValueError, match=r"alpha: 10000000\.0 is not allowed; must be at most 1e"):
        save(map_to_crossbar(HopfieldNetwork(layers, edges)), path)
    mixed = map_to_crossbar(network)
    mixed.storages[0].double()
    with pytest.raises(ValueError, match=r'chip: dtype: "torch\.float32, torch\.float64" is not'):
        save(mixed, path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_a_chip_holds_is_left_out(tmp_path: Path) -> None:
    chip = map_to_crossbar(mlp((1, 2, 2), 2, (2,)), "pcm")
    chip.storages[0].register_buffer("later", torch.zeros(1))
    with pytest.raises(AssertionError, match="later"):
        save(chip, tmp_path / "chip.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_recipe_is_told(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "chip.h5"
    path.write_bytes(whole)
    assert load_recipe(path) is None
    for text, said in (("name = 3", "recipe: name: 3 is not allowed"), ("][", "not valid TOML")):
        with h5py.File(path, "r+") as file:
            file.pop("recipe", None)
            file["recipe"] = text
        with pytest.raises(ValueError, match=said) as caught:
            load_recipe(path)
        assert "\n" not in str(caught.value)
