"""Netlists of a chip's arrays, put together as its digital side does, against its own reads."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.crossbar.card import Wires
from neurosim_ep.devices import load_device_card
from neurosim_ep.exchange.spice import run_ngspice, save, sensed_currents
from neurosim_ep.models import mlp

needs_ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice (Debian's package ngspice) is not installed"
)


def card_of(**layout: object) -> ArrayCard:
    """Arrays of 5 x 3 with unequal terminations."""
    card = load_array_card("ideal")
    tables = {"rows": 5, "columns": 3} | layout
    wires = Wires.model_validate(
        {
            "source": "assumed",
            "word_line_ohm": 8.0,
            "bit_line_ohm": 5.0,
            "driver_ohm": 150.0,
            "sense_ohm": 60.0,
        }
    )
    return card.model_copy(update={"layout": card.layout.model_copy(update=tables), "wires": wires})


def chip_of(**layout: object) -> CrossbarNetwork:
    """12-7-4 on those arrays: several tiles in both directions, some smaller than others."""
    network = mlp((1, 3, 4), 4, (7,)).double()
    quiet = load_device_card("reram-array-om").model_copy(update={"read_noise": ()})
    return map_to_crossbar(network, quiet, card_of(**layout), seed=5)


def drives_of(chip: CrossbarNetwork) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return {
        f"edge_{number}": (
            torch.rand(rows, generator=generator, dtype=torch.float64),
            torch.rand(columns, generator=generator, dtype=torch.float64) - 0.5,
        )
        for number, (rows, columns) in enumerate(((12, 7), (7, 4)))
    }


def read_folder(folder: Path, volt: float) -> dict[tuple[str, str], Tensor]:
    """Weights times drives by matrix and direction, from nothing but the folder and ngspice.

    A forward read sums row tiles, a transposed one column tiles; planes and reference columns are
    subtracted, and siemens become weights.
    """
    with (folder / "columns.csv").open() as file:
        lines = list(csv.DictReader(file))
    units: dict[str, list[float]] = {}
    for line in lines:
        units.setdefault(line["matrix"], []).append(float(line["weight_per_siemens"]))
    results: dict[tuple[str, str], Tensor] = {}
    with (folder / "index.csv").open() as file:
        for line in csv.DictReader(file):
            currents = sensed_currents(run_ngspice((folder / line["file"]).read_text()))[0] / volt
            forward = line["direction"] == "forward"
            unit = torch.tensor(units[line["matrix"]], dtype=torch.float64)
            side = "column" if forward else "row"
            first, last = int(line[f"first_{side}"]), int(line[f"last_{side}"])
            if forward:
                if line["reference_column"]:
                    currents = currents[:-1] - currents[int(line["reference_column"])]
                currents = currents * unit[first : last + 1]
                size = len(unit)
            else:
                currents = currents * unit.max()
                size = last + 1
            key = (line["matrix"], line["direction"])
            total = results.get(key, torch.zeros(0, dtype=torch.float64))
            if len(total) < size:
                total = torch.cat([total, total.new_zeros(size - len(total))])
            total[first : last + 1] += -currents if line["plane"] == "minus" else currents
            results[key] = total
    return results


@needs_ngspice
@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
def test_tiles_together_are_the_chips_reads(tmp_path: Path, mapping: str, scale: str) -> None:
    chip = chip_of(mapping=mapping, scale=scale)
    chip.advance_time(3600.0)
    states = drives_of(chip)
    drives = {}
    for name, storage in zip(states, chip.storages, strict=True):
        rows, columns = states[name]
        # Columns of their own scale are driven in proportion to it.
        units = storage.matrix.units
        drives[name] = (rows, columns * units / units.max())
    save(chip, tmp_path / "chip", drives=drives)
    found = read_folder(tmp_path / "chip", chip.array_card.drive.read_voltage_volt)
    for (name, (rows, columns)), storage in zip(states.items(), chip.storages, strict=True):
        shape = (1, *storage.geometry.pre_shape)
        forward = storage.forward_read(rows.view(shape))[0]
        transposed = storage.transposed_read(columns.view(1, -1))[0].flatten()
        for direction, read in (("forward", forward), ("transposed", transposed)):
            difference = (found[name, direction] - read).abs().max() / read.abs().max()
            assert difference < 1e-6, (name, direction)
        # Wires, spread and drift are in it: the digital weights give something else.
        exact = rows @ storage.weight.detach().view(len(rows), -1)
        assert (forward - exact).abs().max() > 1e-3 * exact.abs().max()


def test_the_index_and_the_files_of_a_folder(tmp_path: Path) -> None:
    chip = chip_of()
    paths = save(chip, tmp_path / "new" / "chip")
    assert len(paths) == 2 * sum(storage.matrix.arrays for storage in chip.storages)
    assert {path.name for path in paths} | {"index.csv", "columns.csv"} == {
        path.name for path in (tmp_path / "new" / "chip").iterdir()
    }
    assert paths[0].name == "edge_0-plus-r0-c0-forward.cir"
    text = paths[1].read_text()
    assert text.startswith("* neurosim_ep edge_0, plane plus, matrix rows 0 to 3, columns 0 to 2\n")
    assert "transposed read" in text
    # 0.2 V on every line, behind the driver of the bottom ends.
    assert "vdrive2 bottom2 0 DC 0.2" in text
    assert "Rbottom2 bottom2 b2_end 150" in text
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chip"]


def test_a_single_matrix_and_bias_rows(tmp_path: Path) -> None:
    chip = chip_of()
    names = [path.name for path in save(chip.storages[1].matrix, tmp_path / "one")]
    assert names[0] == "matrix-plus-r0-c0-forward.cir"
    assert len(names) == 2 * chip.storages[1].matrix.arrays
    with_rows = map_to_crossbar(mlp((1, 3, 4), 4, (7,)), array=card_of(), bias_rows=True)
    files = save(with_rows, tmp_path / "rows")
    assert "bias_2-minus-r0-c1-transposed.cir" in {path.name for path in files}


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "chip"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"^folder: .* is not allowed; must be a path where"):
        save(chip_of(), folder)
    assert not list(folder.iterdir())


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> str:
        raise OSError("no space")

    monkeypatch.setattr("neurosim_ep.exchange.spice.tiles.array_netlist", fails)
    with pytest.raises(OSError, match="no space"):
        save(chip_of(), tmp_path / "chip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("drives", "message"),
    [
        ({"edge_7": (torch.ones(12), torch.ones(7))}, 'drives: "edge_7" is not allowed; must be'),
        (
            {"edge_0": (torch.ones(11), torch.ones(7))},
            "drives.edge_0.rows: shape (11,) is not allowed; must be (12,)",
        ),
        (
            {"edge_0": (torch.ones(12), torch.full((7,), torch.inf))},
            "drives.edge_0.columns: NaN or infinity is not allowed; must be finite",
        ),
    ],
    ids=["name", "shape", "infinity"],
)
def test_drives_that_are_not_allowed(
    tmp_path: Path, drives: dict[str, tuple[Tensor, Tensor]], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        save(chip_of(), tmp_path / "chip", drives=drives)
    assert not list(tmp_path.iterdir())
