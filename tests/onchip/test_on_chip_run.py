"""Runs on a chip: their folders, evaluations, and the hardware that they are resumed on."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

from neurosim_ep.cards import dump_card
from neurosim_ep.config import Recipe, load_recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.experiments import RunFolder, evaluate_run, run
from neurosim_ep.experiments.build import build_network

SMALL = (
    "train_images=64",
    "epochs=1",
    "learning.batch_size=16",
    "free_iterations=5",
    "nudged_iterations=3",
    "widths=[8]",
    "threads=1",
    "run.device=cpu",
    "on_chip.device_card=symmetric-1000",
    "on_chip.array_card=ideal",
)
PULSED = ("on_chip.rule=pulsed", "momentum=0", "nesterov=false")


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("digits", [*SMALL, *PULSED, *overrides])


def card_file(card: Any, path: Path) -> str:
    path.write_text(dump_card(card))
    return str(path)


def test_a_run_is_evaluated_to_what_it_recorded(
    invoke: Callable[..., Result], tmp_path: Path
) -> None:
    # Nothing in this hardware is noisy when read, so an evaluation repeats the epoch's own.
    files = RunFolder(tmp_path / "run")
    larger = ("train_images=400", "epochs=2", "widths=[24]", "learning.learning_rate=0.5")
    recipe = recipe_of(*larger, "on_chip.bias=row")
    result = run(recipe, files.path)
    assert result.last > 30.0
    assert load_recipe(files.recipe) == recipe
    assert evaluate_run(files.path, weights="last").accuracy_percent == result.last
    command = invoke("evaluate", str(files.path), "--weights", "last")
    assert command.exit_code == 0
    assert f"test accuracy: {result.last:.2f} % of 360 images" in command.stdout
    assert load_device_card(files.device_card) == load_device_card("symmetric-1000")
    assert load_array_card(files.array_card) == load_array_card("ideal")
    record = json.loads(files.on_chip.read_text())
    assert record["updates"] == 50
    assert [entry["target"] for entry in record["scaling"]] == [
        "edge 0", "edge 1", "bias 1", "bias 2"
    ]  # fmt: skip
    # Steps of 1/500 of the window's end: what stands in the record is what the rule divided by.
    for entry in record["scaling"]:
        assert entry["weight_step"] == pytest.approx(0.002 * entry["largest_weight"], rel=1e-5)


def other_step(card: DeviceCard) -> DeviceCard:
    assert card.pulse_response is not None
    response = card.pulse_response.model_copy(update={"step_relative": 0.004})
    return card.model_copy(update={"pulse_response": response})


def test_a_run_is_resumed_on_its_own_hardware_only(tmp_path: Path) -> None:
    card, device = load_device_card("symmetric-1000"), tmp_path / "device.toml"
    array = tmp_path / "array.toml"
    card_file(load_array_card("ideal"), array)
    cards = (f"on_chip.device_card={card_file(card, device)}", f"on_chip.array_card={array}")
    recipe, folder = recipe_of(*cards), tmp_path / "run"
    run(recipe, folder)
    # The folder's own copies are what an evaluation takes.
    card_file(other_step(card), device)
    before = evaluate_run(folder, weights="last").accuracy_percent
    with pytest.raises(ValueError, match=r"^on_chip\.device_card: 'symmetric-1000' is not allowed"):
        run(recipe, folder, resume=True)
    card_file(card, device)
    layout = load_array_card("ideal").layout.model_copy(update={"rows": 64})
    card_file(load_array_card("ideal").model_copy(update={"layout": layout}), array)
    with pytest.raises(ValueError, match=r"^on_chip\.array_card: 'ideal' is not allowed"):
        run(recipe, folder, resume=True)
    card_file(load_array_card("ideal"), array)
    with pytest.raises(ValueError, match=r"^on_chip\.form: 'hebbian' is not allowed"):
        run(recipe_of(*cards, "on_chip.form=hebbian"), folder, resume=True)
    without = [field for field in (*SMALL, *PULSED) if not field.startswith("on_chip")]
    exactly = load_recipe("digits", without)
    with pytest.raises(ValueError, match=r"^on_chip: None is not allowed; .* started on a chip$"):
        run(exactly, folder, resume=True)
    assert run(recipe, folder, resume=True).last == before
    run(exactly, tmp_path / "exact")
    with pytest.raises(ValueError, match=r"^on_chip\.device_card: .* is not allowed"):
        run(recipe, tmp_path / "exact", resume=True)


def test_symmetrising_pulses_are_told_apart(tmp_path: Path) -> None:
    rule = ("on_chip.rule=tiki_taka", "on_chip.symmetrising_pulses=400", "momentum=0")
    chip = ("on_chip.array_card=default", "on_chip.bias=row", "nesterov=false")
    files = RunFolder(tmp_path / "run")
    run(load_recipe("digits", [*SMALL, *rule, *chip]), files.path)
    record = json.loads(files.on_chip.read_text())
    fast = record["fast_statistics"]
    assert (fast["pulses_before"], record["statistics"]["pulses_before"]) == (800, 0)
    assert record["symmetrising_pulses_per_device"] == 800
    # 64 images ask for few pulses: nothing of the 800 is among them.
    assert 0.0 < fast["total"]["pulses"]["mean"] < 50.0
    assert fast["total"]["pulses"]["mean"] == pytest.approx(record["fast_pulses_mean"])
    # Nor is it in what an image costs.
    rows = record["cost"]["update"]["rows"]
    counted = sum(r["count"] for r in rows if r["where"][:4] == "fast" and r["what"] == "pulse")
    pulses, devices = fast["total"]["pulses"]["mean"], fast["total"]["devices"]
    assert counted == pytest.approx(pulses * devices / record["images"])


def test_bias_rows_are_written_and_counted(tmp_path: Path) -> None:
    files = RunFolder(tmp_path / "run")
    fields = ("on_chip.rule=digital", "on_chip.bias=row", "write_interval_updates=2")
    run(load_recipe("digits", [*SMALL[:-2], "on_chip.device_card=pcm", *fields]), files.path)
    record = json.loads(files.on_chip.read_text())
    # 64 x 8 and 8 x 10 weights and 18 biases, two devices each, one pulse without write-verify.
    assert record["writes"] == 2
    assert record["write_pulses"] == 2 * 2 * (64 * 8 + 8 * 10 + 18)


COARSE = ("on_chip.device_card=reram-array-hfo2", "on_chip.rule=mixed_precision")


def test_coarse_pulses_are_told_at_the_start(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=400)
    files = RunFolder(tmp_path / "run")
    recipe = load_recipe("digits", [*SMALL, *COARSE, "learning.learning_rate=1e-9"])
    run(recipe, files.path, console=console)
    record = json.loads(files.on_chip.read_text())
    (warning,) = record["warnings"]
    assert console.file.getvalue().splitlines()[0] == f"warning: {warning}"
    # Of the edges' steps over the standard deviation of what was written, the largest.
    network = build_network(recipe)
    steps = [entry["weight_step"] for entry in record["scaling"]]
    ratios = [
        s / float(w.detach().std(correction=0)) for s, w in zip(steps, network.weights, strict=True)
    ]
    worst = max(range(2), key=ratios.__getitem__)
    assert warning.startswith(
        f"one pulse changes a weight of edge {worst} by {steps[worst]:.2g}, {ratios[worst]:.2g} "
    )
    assert ratios[worst] > 1.0
    assert "on_chip.weight_headroom (8.0 now)" in warning
    # Finer pulses are no reason to warn.
    fine = recipe_of()
    run(fine, tmp_path / "fine", console=Console(file=io.StringIO()))
    assert json.loads(RunFolder(tmp_path / "fine").on_chip.read_text())["warnings"] == []


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ((*COARSE, "weight_headroom=200"), r"one pulse changes a weight of edge \d by .* deviat"),
        (
            ("on_chip.rule=mixed_precision", "weight_headroom=200"),
            "a smaller learning.learning_rate or on_chip.weight_headroom helps",
        ),
    ],
)
def test_a_run_that_runs_away_says_what_to_change(
    invoke: Callable[..., Result], tmp_path: Path, fields: tuple[str, ...], what: str
) -> None:
    away = ("learning.learning_rate=30", "free_iterations=40", "activation=relu", *fields)
    sets = [f"--set={field}" for field in (*SMALL[:3], *SMALL[4:], *away)]
    result = invoke("train", "digits", *sets, "--out", str(tmp_path / "run"))
    assert result.exit_code == 2
    *_, line = result.stderr.splitlines()
    assert re.match(rf"error: .*; the network diverges .*; on the chip {what}", line), line
