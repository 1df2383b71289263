"""``neurosim-ep sweep``: the grid, its files, failures, going on after a stop, wrong inputs."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosim_ep.cards import dump_card
from neurosim_ep.config import Recipe, dump_recipe, load_recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments import run, sweep
from neurosim_ep.experiments.sweeps.cells import epochs_done

Small = Callable[..., Recipe]
Rows = Callable[[Path], list[dict[str, str]]]

pytestmark = pytest.mark.usefixtures("pictures")

TINY = (
    "--set=train_images=96",
    "--set=validation_images=40",
    "--set=epochs=1",
    "--set=free_iterations=6",
    "--set=nudged_iterations=3",
    "--set=widths=[8]",
)
# What rules without a digital gradient ask for.
PULSED = ("learning.momentum=0", "nesterov=false", "learning.learning_rate=0.5")


def test_the_whole_grid_is_trained_and_told(invoke, rows: Rows, pictures: list[Path]) -> None:
    done = invoke(
        "sweep", "digits", *TINY[:-1], "--vary=beta=0.1,0.5", "--vary=network.widths=[4];[8,8]",
        "--vary=nudged_reads=full,delta", "--seeds=2", "--set=recipe.seed=5",
        "--reference=exact EP=97.2", "--out=here",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    table = rows(Path("here"))
    grid = [
        (r["learning.beta"], r["network.widths"], r["settling.nudged_reads"], r["seed"])
        for r in table
    ]
    assert grid == [
        (beta, widths, reads, seed)
        for beta in ("0.1", "0.5")
        for widths in ("[4]", "[8,8]")
        for reads in ("full", "delta")
        for seed in ("5", "6")
    ]
    assert all(r["status"] == "finished" and r["epochs"] == "1" for r in table)
    # The table shows the rows' means.
    last = [float(r["last_percent"]) for r in table[:2]]
    shown = f"{statistics.mean(last):.2f} +- {statistics.stdev(last):.2f} (2)"
    assert re.search(rf"0\.1 .*\[4\] .*full .*{re.escape(shown)}", done.stdout)
    assert "records: here" in done.stdout
    record = json.loads(Path("here/sweep.json").read_text())
    assert record["axes"][1] == {"key": "network.widths", "values": ["[4]", "[8,8]"]}
    assert record["seeds"] == [5, 6]
    assert record["settings"]["learning.epochs"] == "1"
    assert record["runs"][0]["environment"]["versions"]["torch"]
    cells = [path for path in Path("here").iterdir() if path.is_dir()]
    assert len(cells) == 16
    assert all(re.fullmatch(r"[A-Za-z0-9._=+-]+", path.name) for path in cells)
    assert pictures[-1] == Path("here/accuracy.png")


def test_a_cell_is_the_run_of_its_recipe(small: Small, tmp_path: Path) -> None:
    recipe = small("epochs=1")
    done = sweep(recipe, {"learning.beta": [0.2], "batch_size": [16]}, 2, tmp_path / "sweep")
    for cell, seed in zip(done.cells, (0, 1), strict=True):
        alone = small("epochs=1", "beta=0.2", "learning.batch_size=16", f"seed={seed}")
        result = run(alone, tmp_path / f"alone-{seed}")
        assert cell.result is not None
        assert (cell.result.last, cell.result.best_by_validation) == (
            result.last,
            result.best_by_validation,
        )
        assert load_recipe(cell.folder / "recipe.toml") == alone
        assert cell.values == {"learning.beta": "0.2", "learning.batch_size": "16"}


def test_cells_on_a_chip_have_the_cards_of_their_values(small: Small, tmp_path: Path) -> None:
    vary = {"device.states": [50], "array.adc_bits": [6]}
    recipe = small("epochs=1", *PULSED)
    overrides = ("device.drift=none", "on_chip.device_seed=3")
    places = {"device": "li-ecram", "array": "default"}
    done = sweep(recipe, vary, 2, tmp_path / "sweep", overrides=overrides, **places)
    # The same by hand: a device card's text without drift and with other steps, and other bits.
    text = dump_card(load_device_card("li-ecram"))
    text = re.sub(r"step_relative = .*", "step_relative = 0.04", text)
    text = re.sub(r"\[drift\].*?\n\n", "", text, flags=re.DOTALL)
    (tmp_path / "device.toml").write_text(text)
    text = dump_card(load_array_card("default"))
    (tmp_path / "array.toml").write_text(text.replace("adc_bits = 8", "adc_bits = 6"))
    for number, cell in enumerate(done.cells):
        by_hand = small(
            "epochs=1", *PULSED, f"on_chip.device_card={tmp_path}/device.toml",
            f"on_chip.array_card={tmp_path}/array.toml", f"seed={number}",
            f"on_chip.device_seed={3 + number}",
        )  # fmt: skip
        result = run(by_hand, tmp_path / f"by-hand-{number}")
        assert cell.result is not None
        assert (cell.result.last, cell.result.best_by_test) == (result.last, result.best_by_test)
        assert cell.device_seed == 3 + number
        record = json.loads((tmp_path / f"by-hand-{number}" / "on-chip.json").read_text())
        total = record["statistics"]["total"]
        assert total["pulses"]["mean"] > 0.0
        assert cell.row["statistics.total.pulses.mean"] == total["pulses"]["mean"]
        assert cell.row["updates"] == record["updates"]
    assert any("pulses per device" in str(column.header) for column in done.table().columns)


def test_devices_and_rules_are_varied_together_with_what_they_need(invoke, rows: Rows) -> None:
    Path("mine.toml").write_text(dump_card(load_device_card("li-ecram")))
    done = invoke(
        "sweep", "digits", *TINY, "--set=momentum=0", "--set=nesterov=false", "--array=ideal",
        "--vary=device=mo-ecram,mine.toml", "--vary=rule+learning_rate=pulsed+0.5,digital+0.1",
        "--seeds=1", "--out=here",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    cells = [
        (r["device"], r["on_chip.rule"], r["learning.learning_rate"]) for r in rows(Path("here"))
    ]
    assert cells == [
        (device, *rule)
        for device in ("mo-ecram", "mine.toml")
        for rule in (("pulsed", "0.5"), ("digital", "0.1"))
    ]
    for place in Path("here").glob("device=*"):
        recipe = load_recipe(place / "recipe.toml")
        assert recipe.on_chip is not None
        assert (recipe.on_chip.rule == "digital") == (recipe.learning.learning_rate == 0.1)


def test_a_training_that_diverges_is_told_and_the_others_go_on(invoke, rows: Rows) -> None:
    command = ("sweep", "digits", *TINY, "--vary=learning_rate=1e30,0.1", "--out=here")
    done = invoke(*command, "--seeds=2")
    assert done.exit_code == 0, done.stderr
    table = rows(Path("here"))
    assert [r["status"] for r in table] == ["failed", "failed", "finished", "finished"]
    assert [bool(r["last_percent"]) for r in table] == [False, False, True, True]
    assert "not finite" in table[0]["message"]
    assert "failed: 2 of 4 cells" in done.stdout
    assert "2 of 2 failed" in done.stdout
    # Nothing learned at all is no success.
    assert invoke("sweep", "digits", *TINY, "--vary=learning_rate=1e30", "--seeds=1").exit_code == 1


def test_an_error_of_the_program_is_recorded_with_its_trace(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(recipe: Recipe, *arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("neurosim_ep.experiments.sweeps.cells.run", broken)
    done = sweep(small(), ["beta=0.1"], 1, tmp_path)
    (cell,) = done.failed
    assert cell.message == "ZeroDivisionError: a b"
    assert "in broken" in json.loads((cell.folder / "failed.json").read_text())["traceback"]


def test_epochs_are_counted_while_they_are_trained(small: Small, tmp_path: Path) -> None:
    assert epochs_done(tmp_path) == 0
    run(small("epochs=2"), tmp_path)
    assert epochs_done(tmp_path) == 2


def test_a_recipe_file_is_swept(invoke, rows: Rows) -> None:
    recipe = load_recipe(
        "digits", ["epochs=1", "train_images=64", "widths=[4]", "recipe.name=mine"]
    )
    Path("mine.toml").write_text(dump_recipe(recipe))
    done = invoke("sweep", "mine.toml", "--vary=beta=0.1", "--seeds=1")
    assert done.exit_code == 0, done.stderr
    assert rows(Path("runs/sweep-mine"))[0]["status"] == "finished"
