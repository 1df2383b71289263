"""``neurosim-ep compare --on-chip``: one table and one figure of all ways, resume, wrong inputs."""

from __future__ import annotations

import csv
import importlib
import json
import re
import statistics
from pathlib import Path

import pytest
from PIL import Image

from neurosim_ep.config import load_recipe
from neurosim_ep.exchange import hdf5
from neurosim_ep.experiments import Measurements, run
from neurosim_ep.experiments.on_chip.comparison import seed_pairs
from neurosim_ep.experiments.sweeps import workers

TINY = (
    "--set=train_images=64",
    "--set=validation_images=40",
    "--set=epochs=1",
    "--set=free_iterations=6",
    "--set=nudged_iterations=3",
    "--set=widths=[16]",
    "--set=threads=1",
)
IDEAL = ("--array", "ideal", "--device-seeds", "1")
COARSE = """
name = "coarse"
[window]
source = "assumed"
g_min_siemens = 1e-6
g_max_siemens = 1e-4
[pulse_response]
source = "assumed"
model = "constant"
step_relative = 0.02
"""
COLUMNS = ["trained", "device", "rule", "time_s", "images", "runs", "failed"]


@pytest.fixture(autouse=True)
def no_figures_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of every run take most of such small runs' time."""
    for module, figure in (("run", "learning_curve"), ("on_chip.records", "pulse_histograms")):
        where = importlib.import_module(f"neurosim_ep.experiments.{module}")
        monkeypatch.setattr(where, figure, lambda *arguments, **options: None)


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def compare(invoke, *arguments: str, out: str = "here"):
    return invoke("compare", "digits", *TINY, "--on-chip", *arguments, "--out", out)


def test_all_ways_stand_in_one_table_and_one_figure(invoke) -> None:
    done = compare(
        invoke, "--device", "li-ecram", "--device", "pcm", "--array", "ideal", "--seeds", "2",
        "--device-seeds", "2", "--times", "0,1d", "--no-attribution",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    table = rows("here/accuracy.csv")
    ways = [tuple(row[name] for name in COLUMNS) for row in table]
    assert ways == [
        ("backpropagation", "", "", "", "360", "2", "0"),
        ("exact EP", "", "", "", "360", "2", "0"),
        ("exact EP, mapped", "li-ecram", "", "0.0", "360", "4", "0"),
        ("exact EP, mapped", "li-ecram", "", "86400.0", "360", "4", "0"),
        ("trained on chip", "li-ecram", "pulsed", "", "360", "2", "0"),
        ("exact EP, mapped", "pcm", "", "0.0", "360", "4", "0"),
        ("exact EP, mapped", "pcm", "", "86400.0", "360", "4", "0"),
        ("trained on chip", "pcm", "mixed_precision", "", "360", "2", "0"),
    ]
    # Its numbers are those of the runs, each against its own exact network.
    chips = [row for row in rows("here/on-chip.csv") if row["device"] == "li-ecram"]
    assert [(c["training_seed"], c["device_seed"]) for c in chips] == [("0", "0"), ("1", "1")]
    results, exact, pulses = [], [], []
    for chip in chips:
        folder = Path("here") / chip["folder"]
        results.append(json.loads((folder / "result.json").read_text())["best_by_validation"])
        seed = chip["training_seed"]
        held = json.loads(Path(f"here/digits-seed{seed}/result.json").read_text())
        exact.append(held["best_by_validation"])
        counts = json.loads((folder / "on-chip.json").read_text())["statistics"]["total"]["pulses"]
        pulses.append((counts["mean"], counts["maximum"]))
        assert hdf5.load(folder / "chip.h5").device_card.name == "li-ecram"
        assert (folder / "recipe.toml").read_text().count('rule = "pulsed"') == 1
    row = table[4]
    assert float(row["accuracy_percent"]) == pytest.approx(statistics.mean(results))
    assert float(row["accuracy_spread_percent"]) == pytest.approx(statistics.stdev(results))
    below = [e - r for e, r in zip(exact, results, strict=True)]
    assert float(row["below_exact_points"]) == pytest.approx(statistics.mean(below))
    assert float(row["pulses_per_device_mean"]) == pytest.approx(
        statistics.mean(mean for mean, _ in pulses)
    )
    assert float(row["pulses_per_device_maximum"]) == pytest.approx(
        statistics.mean(most for _, most in pulses)
    )
    assert float(table[1]["accuracy_percent"]) == pytest.approx(statistics.mean(exact))
    # What is printed says the same, and what was changed for the rule.
    shown = rf"li-ecram .* trained on chip: pulsed .* 2 .* {statistics.mean(results):.2f} \+- "
    assert re.search(shown, done.stdout)
    assert re.search(r"li-ecram learns by pulsed \(.*learning_rate 0.1 -> 0.5\)", done.stderr)
    assert "pcm learns by mixed_precision (learning_rate 0.1 -> 0.05)\n" in done.stderr
    assert "figure: here/accuracy.png" in done.stdout
    record = json.loads(Path("here/comparison.json").read_text())["on_chip"]
    assert record["rules"] == {"li-ecram": "pulsed", "pcm": "mixed_precision"}
    assert [chip["accuracy_percent"] for chip in record["chips"][:2]] == results
    assert record["chips"][0]["numbers"]["statistics.total.pulses.mean"] == pulses[0][0]
    with Image.open("here/accuracy.png") as image:
        assert min(image.size) > 400
        assert len(image.convert("RGB").getcolors(1_000_000) or []) > 50


def test_an_ideal_chip_learns_digitally_as_the_exact_network_does(invoke) -> None:
    done = compare(invoke, "--device", "ideal", *IDEAL, "--rule", "digital", "--no-attribution")
    assert done.exit_code == 0, done.stderr
    (row,) = (row for row in rows("here/accuracy.csv") if row["trained"] == "trained on chip")
    assert (row["rule"], float(row["below_exact_points"])) == ("digital", 0.0)


def test_attribution_trains_with_parts_of_a_card_of_ones_own(invoke) -> None:
    Path("coarse.toml").write_text(COARSE)
    done = compare(
        invoke, "--device", "coarse.toml", *IDEAL, "--attribution-epochs", "2", "--set=epochs=3",
        "--attribution-images", "48", "--rule", "coarse.toml=pulsed",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    steps = rows("here/attribution-on-chip-coarse.csv")
    assert [row["nonideality"] for row in steps] == ["ideal", "update_rule", "pulse_steps"]
    place = Path("here/attribution")
    assert {path.name for path in place.iterdir()} == {"exact-seed0", "coarse-pulsed"}
    folders = {path.name: path for path in (place / "coarse-pulsed").iterdir()}
    assert set(folders) == {"none-seed0-chip0", "all-seed0-chip0"}
    for name, step, longest in (("none", 2e-4, 3100), ("all", 0.02, 31)):
        folder = folders[f"{name}-seed0-chip0"]
        assert f"step_relative = {step:g}\n" in (folder / "device-card.toml").read_text()
        recipe = (folder / "recipe.toml").read_text()
        for line in (f"longest_train = {longest}", "epochs = 2", "train_images = 48"):
            assert f"\n{line}\n" in recipe
    accuracy = {
        path.name: json.loads((path / "result.json").read_text())["last"]
        for path in (place / "exact-seed0", *folders.values())
    }
    levels = [float(row["added_accuracy_percent"]) for row in steps]
    found = [accuracy[name] for name in ("exact-seed0", "none-seed0-chip0", "all-seed0-chip0")]
    assert levels == pytest.approx(found)
    gap = sum(float(row["step_points"]) for row in steps[1:])
    assert gap == pytest.approx(levels[0] - levels[-1])
    assert "trained on chip by pulsed, 2 epochs of 48 images" in done.stdout
    assert Path("here/waterfall-on-chip-coarse.png").exists()
    # Of the mapped network nothing is attributed to pulses.
    assert [r["nonideality"] for r in rows("here/attribution-coarse.csv")] == ["ideal", "mapping"]


def test_a_stopped_comparison_goes_on(invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("coarse.toml").write_text(COARSE)
    command = ("--device", "coarse.toml", *IDEAL, "--no-attribution", "--rule", "pulsed")
    assert compare(invoke, *command, out="whole").exit_code == 0
    train, left = workers.train_cell, [2]

    def stopped(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        train(*arguments)

    monkeypatch.setattr(workers, "train_cell", stopped)
    assert compare(invoke, *command, out="parts").exit_code != 0
    monkeypatch.setattr(workers, "train_cell", train)
    again = compare(invoke, *command, out="parts")
    assert again.exit_code == 2
    assert re.search(r"there is a run in this folder; resume it", again.stderr)
    assert compare(invoke, *command, "--resume", out="parts").exit_code == 0
    assert rows("parts/accuracy.csv") == rows("whole/accuracy.csv")
    # A finished one trains nothing, and another one is not taken for it.
    monkeypatch.setattr(workers, "train_cell", None)
    monkeypatch.setattr(Measurements, "_measure", None)
    assert compare(invoke, *command, "--resume", out="parts").exit_code == 0
    other = compare(invoke, *command, "--resume", "--set=batch_size=16", out="parts")
    assert other.exit_code == 2
    (line,) = other.stderr.splitlines()
    assert re.search(r"learning\.batch_size: 16 is not allowed; the run in .* 32", line)
    Path("coarse.toml").write_text(COARSE.replace("0.02", "0.04"))
    other = compare(invoke, *command, "--resume", out="parts")
    assert other.exit_code == 2
    assert re.search(r"on_chip\.device_card: .* was started with another", other.stderr)


def test_a_training_that_fails_does_not_stop_the_others(
    invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = workers.train_cell

    def failing(recipe, folder, *rest: object) -> None:
        if recipe.on_chip is not None and recipe.on_chip.device_card == "ideal":
            (folder / "failed.json").write_text('{"message": "diverged"}')
        else:
            train(recipe, folder, *rest)

    monkeypatch.setattr(workers, "train_cell", failing)
    done = compare(
        invoke, "--device", "ideal", "--device", "symmetric-1000", *IDEAL, "--no-attribution"
    )
    assert done.exit_code == 0, done.stderr
    failed, fine = (r for r in rows("here/accuracy.csv") if r["trained"] == "trained on chip")
    assert (failed["runs"], failed["failed"], failed["accuracy_percent"]) == ("0", "1", "")
    assert (fine["runs"], fine["failed"]) == ("1", "0")
    assert re.search(r"ideal .* 0 \(1 failed\) .* failed ", done.stdout)
    assert "failed: diverged" in done.stderr
    assert rows("here/on-chip.csv")[0]["message"] == "diverged"


def test_trainings_run_in_several_processes(invoke) -> None:
    one = ("--device", "symmetric-1000", *IDEAL, "--no-attribution")
    assert compare(invoke, *one, out="one").exit_code == 0
    done = compare(invoke, *one, "--jobs", "2", out="two")
    assert done.exit_code == 0, done.stderr
    assert rows("one/accuracy.csv") == rows("two/accuracy.csv")


def test_a_recipe_with_a_chip_of_its_own_learns_on_chips(invoke) -> None:
    done = invoke(
        "compare", "digits-on-chip", *TINY, "--device", "capacitor", *IDEAL, "--no-attribution",
        "--set=on_chip.form=hebbian", "--out", "here",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    learned = [row["trained"] for row in rows("here/accuracy.csv")]
    assert learned[:2] == ["backpropagation", "exact EP"]
    assert learned[-1] == "trained on chip"
    (folder,) = Path("here").glob("digits-on-chip-on-chip-capacitor-pulsed-seed0-chip0")
    text = (folder / "recipe.toml").read_text()
    assert 'form = "hebbian"' in text
    assert 'device_card = "capacitor"' in text
    exact = Path("here/digits-on-chip-seed0/recipe.toml").read_text()
    assert "learning" in exact
    assert "[on_chip]" not in exact


def test_a_trained_run_stands_for_exact_ep(invoke) -> None:
    run(load_recipe("digits", [text.removeprefix("--set=") for text in TINY]), Path("run"))
    done = invoke(
        "compare", "digits", "--run", "run", "--device", "ideal", *IDEAL, "--on-chip",
        "--no-attribution", "--images", "50", "--out", "here",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    exact, mapped, chip = rows("here/accuracy.csv")
    assert [row["images"] for row in (exact, mapped, chip)] == ["50", "50", "360"]
    held = json.loads(Path("run/result.json").read_text())["best_by_validation"]
    assert float(chip["accuracy_percent"]) + float(chip["below_exact_points"]) == pytest.approx(
        held, abs=1e-6
    )
    assert not list(Path("here").glob("digits-seed*"))
    refused = invoke(
        "compare", "digits", "--device", "ideal", "--out", "there",
        "--run", str(next(Path("here").glob("digits-on-chip-ideal-*"))),
    )  # fmt: skip
    assert refused.exit_code == 2
    assert re.search(r"run: .* was trained on a chip; must be an exact run", refused.stderr)


def test_every_seed_and_every_chip_has_its_turn() -> None:
    assert seed_pairs((0, 1), (5,)) == [(0, 5), (1, 5)]
    assert seed_pairs((0,), (5, 6)) == [(0, 5), (0, 6)]
    assert seed_pairs((0, 1), (5, 6, 7)) == [(0, 5), (1, 6), (0, 7)]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--device", "pcm", "--on-chip", "--rule", "pulsd"), r'rule: "pulsd" .*did you mean'),
        (("--device", "pcm", "--on-chip", "--rule", "fefet=sign"), r'rule: "fefet=sign" .*pcm'),
        (("--device", "pcm", "--rule", "sign"), r"rule: is not allowed without --on-chip"),
        (("--device", "pcm", "--jobs", "2"), r"jobs: is not allowed without --on-chip"),
        (
            ("--device", "pcm", "--attribution-epochs", "2"),
            r"attribution-epochs: is not allowed without --on-chip",
        ),
        (("--on-chip",), r"on-chip: is not allowed without --device"),
        (("--rule", "sign"), r"rule: is not allowed without --device"),
        (("--device", "pcm", "--on-chip", "--jobs", "0"), r"jobs: 0 .*at least 1"),
        (
            ("--device", "pcm", "--on-chip", "--attribution-images", "0"),
            r"attribution-images: 0 .*at least 1",
        ),
        (
            ("--device", "pcm", "--on-chip", "--rule", "tiki_taka"),
            r'^error: rule: "tiki_taka" is not allowed; must be one of digital, mixed_precision, '
            r'pulsed, sign with device = "pcm", whose devices can only be pulsed up$',
        ),
        (
            ("--device", "bare.toml", "--on-chip", "--rule", "pulsed"),
            r'^error: device: "bare" is not allowed; must be a card with a table '
            r'\[pulse_response\] with rule = "pulsed"$',
        ),
        (
            ("--device", "ideal", "--on-chip", "--rule", "sign", "--set", "optimiser=adam"),
            r'learning\.optimiser: "adam" is not allowed; must be "sgd"',
        ),
    ],
)
def test_wrong_input_is_one_line_before_anything_trains(
    invoke, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    Path("bare.toml").write_text(COARSE.partition("[pulse")[0].replace("coarse", "bare"))
    done = invoke("compare", "digits", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert re.search(line, only), only
    assert [path.name for path in tmp_path.iterdir()] == ["bare.toml"]
