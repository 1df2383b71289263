"""`neurosim-ep export`: a run's chip in a file, which `evaluate` takes for the run's chip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from neurosim_ep.config import Recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.data import load as load_data
from neurosim_ep.devices import load_device_card
from neurosim_ep.exchange import csv_tiles, hdf5, numpy_arrays
from neurosim_ep.experiments import evaluate_run, load_run, load_trained, run
from neurosim_ep.learning import evaluate as evaluate_method

Invoke = Callable[..., Result]


def test_a_mapped_run_is_evaluated_from_its_file_bit_for_bit(
    trained_run: Path, invoke: Invoke, tmp_path: Path
) -> None:
    asked = ("--device", "pcm", "--array", "default", "--seed", "4", "--advance", "1d")
    done = invoke("export", str(trained_run), "new/chip.h5", *asked)
    assert done.exit_code == 0, done.output
    assert "(pcm)" in done.output
    assert "86400 s after the last write: new/chip.h5" in done.output
    # The run's chip, made here: noisy, calibrated, a day old.
    trained = load_trained(trained_run, load_data("digits"))
    chip = trained.chip(load_device_card("pcm"), load_array_card("default"), seed=4)
    chip.advance_time(86_400.0)
    loaded = hdf5.load("new/chip.h5")
    for name, value in chip.state_dict().items():
        assert torch.equal(value.nan_to_num(), loaded.state_dict()[name].nan_to_num())
    wanted = evaluate_method(trained.on(chip), trained.test().epoch(0))
    found = evaluate_run(Path("new/chip.h5"))
    assert found == wanted
    assert wanted.accuracy_percent > 50.0
    said = invoke("evaluate", "new/chip.h5")
    assert f"test accuracy: {wanted.accuracy_percent:.2f} % of 360 images" in said.output
    assert f"cost per image: {wanted.cost:.6f}" in said.output
    assert hdf5.load_recipe("new/chip.h5") == trained.recipe
    # Weights of the last epoch are others than the best ones here, or the same chip.
    last = invoke("export", str(trained_run), "last.h5", *asked, "--weights", "last")
    assert last.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.h5", "new"]


def test_every_format_holds_the_same_chip(trained_run: Path, invoke: Invoke) -> None:
    asked = ("--device", "pcm", "--array", "ideal", "--seed", "4")
    assert invoke("export", str(trained_run), "chip.h5", *asked).exit_code == 0
    chip = hdf5.load("chip.h5")
    assert invoke("export", str(trained_run), "chip.npz", *asked).exit_code == 0
    for name in ("csv", "neurosim", "spice"):
        done = invoke("export", str(trained_run), name, *asked, "--format", name)
        assert done.exit_code == 0, done.output
        assert done.output.rstrip().endswith(f": {name}")
    standing = chip.storages[0].matrix.devices.conductance
    found = csv_tiles.load("csv").matrices["edge_0"]
    assert torch.equal(found.conductance_siemens.float(), standing)
    arrays = numpy_arrays.load("chip.npz")
    assert torch.equal(arrays["edge_0.conductance_siemens"], standing)
    (weight, *_) = sorted(Path("neurosim").glob("weight_edge_0.csv"))
    shape = chip.storages[0].matrix.forward_matrix.shape
    rows = [line.split(",") for line in weight.read_text().split()]
    assert sorted((len(rows), len(rows[0]))) == sorted(shape)
    netlist = (Path("spice") / "edge_0-plus-r0-c0-forward.cir").read_text()
    # A device is a resistor: one over its conductance.
    ohm = {float(line.split()[-1]) for line in netlist.splitlines() if line.startswith("Rd")}
    first = 1.0 / float(standing[0, 0, 0])
    assert any(abs(value / first - 1.0) < 1e-12 for value in ohm)


def test_a_network_that_is_too_large_for_netlists_is_refused(
    trained_run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurosim_ep.experiments.exporting.MAX_NETLIST_DEVICES", 100)
    asked = ("--device", "ideal", "--array", "ideal", "--format", "spice")
    done = invoke("export", str(trained_run), "spice", *asked)
    assert done.exit_code == 2
    assert "is not allowed; must be at most 100 with spice" in done.output
    assert not Path("spice").exists()


@pytest.fixture
def on_chip_run(small: Callable[..., Recipe], tmp_path: Path, pictures: list[Path]) -> Path:
    folder = tmp_path / "run"
    hardware = ("on_chip.device_card=li-ecram", "on_chip.array_card=default")
    run(small("epochs=1", *hardware, name="digits-on-chip"), folder)
    return folder


def test_a_run_on_a_chip_is_exported_as_it_learned(on_chip_run: Path, invoke: Invoke) -> None:
    done = invoke("export", str(on_chip_run), "chip.h5")
    assert done.exit_code == 0, done.output
    assert evaluate_run(Path("chip.h5")) == evaluate_run(on_chip_run)
    _, method = load_run(on_chip_run)
    exported = hdf5.load("chip.h5").state_dict()
    for name, value in method.model.state_dict().items():
        assert torch.equal(value.nan_to_num(), exported[name].nan_to_num())
    # What the run itself has left is the same chip, after a few more reads.
    left = hdf5.load(on_chip_run / "chip.h5")
    for mine, theirs in zip(left.storages, method.model.storages, strict=True):
        assert torch.equal(mine.effective_weight(), theirs.effective_weight())
    assert invoke("evaluate", str(on_chip_run / "chip.h5")).exit_code == 0
    for option, value in (("device", "pcm"), ("array", "ideal"), ("seed", "3")):
        refused = invoke("export", str(on_chip_run), "other.h5", f"--{option}", value)
        assert refused.exit_code == 2
        assert f"error: {option}: {value} is not allowed; {on_chip_run} has" in refused.output
    assert not Path("other.h5").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("chip.npy2",),
            'OUT: suffix: ".npy2" is not allowed; must be .h5 or .npz, or a folder wi',
        ),
        (
            ("chip.h5", "--format", "numpy"),
            'OUT: suffix: ".h5" is not allowed; must be .npz with',
        ),
        (("chip", "--format", "tiles"), 'format: "tiles" is not allowed; must be one of hdf5, num'),
        (("chip.h5",), "device: absent is not allowed; must be a device card for a run"),
        (
            ("chip.h5", "--device", "pcn"),
            '"pcn": neither a shipped device card nor a file; did',
        ),
        (("chip.h5", "--device", "pcm", "--array", "x"), '"x": neither a shipped array card nor a'),
        (("chip.h5", "--device", "pcm", "--seed", "-1"), "seed: -1 is not allowed; must be from 0"),
        (
            ("chip.h5", "--device", "pcm", "--advance", "1x"),
            'advance: "1x" is not allowed; must be',
        ),
        (("chip.h5", "--device", "pcm", "--weights", "all"), "weights: 'all' is not allowed; must"),
        (("there.h5", "--device", "pcm"), "there.h5: there is a file or a folder already"),
    ],
)
def test_wrong_options_are_one_line(
    trained_run: Path, invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "there.h5").write_text("mine")
    done = invoke("export", str(trained_run), *arguments)
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
    assert said in done.output
    assert done.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.h5"]
    assert (tmp_path / "there.h5").read_text() == "mine"


def test_wrong_runs_and_files_are_one_line(
    trained_run: Path, invoke: Invoke, tmp_path: Path, small: Callable[..., Recipe]
) -> None:
    by_backpropagation = tmp_path / "bp"
    run(small("epochs=1", name="digits-bp"), by_backpropagation)
    chip = load_trained(trained_run, load_data("digits")).chip(
        load_device_card("ideal"), load_array_card("ideal"), seed=0
    )
    hdf5.save(chip, tmp_path / "bare.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "bare.h5").read_bytes()[:9000])
    hdf5.save(chip.double(), tmp_path / "double.h5", load_run(trained_run)[0])
    for arguments, said in (
        (("export", "none", "chip.h5"), "none: not a run folder; it must hold recipe.toml"),
        (("export", "bp", "chip.h5", "--device", "pcm"), "learning.algorithm: "),
        (("evaluate", "none.h5"), "none.h5: no such file"),
        (("evaluate", "bare.h5"), "bare.h5: holds no recipe; must be the export of a run"),
        (("evaluate", "cut.h5"), "cut.h5: not an HDF5 file, or a damaged one"),
        (("evaluate", "double.h5"), "double.h5: float64 is not allowed; the recipe in it has flo"),
        (("evaluate", "bare.h5", "--weights", "last"), "weights: 'last' is not allowed with a c"),
    ):
        done = invoke(*arguments)
        assert done.exit_code == 2
        assert done.output.startswith(f"error: {said}")
        assert done.output.count("\n") == 1
    assert not Path("chip.h5").exists()


def test_the_help_says_what_is_needed(invoke: Invoke) -> None:
    said = " ".join(invoke("export", "--help").output.split())
    for part in ("--device", "--advance", "exact run", "must not be there", "hdf5-format.md"):
        assert part in said
