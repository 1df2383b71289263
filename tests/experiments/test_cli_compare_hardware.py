"""``neurosim-ep compare --device``: files, tables, going on after a stop, wrong inputs."""

from __future__ import annotations

import csv
import json
import re
import statistics
from pathlib import Path

import pytest
from PIL import Image

from neurosim_ep.experiments import Measurements, Trained, hardware_options
from neurosim_ep.experiments.hardware.fidelity import FIDELITY_IMAGES
from neurosim_ep.figures.hardware import duration

TINY = (
    "--set=train_images=120",
    "--set=validation_images=40",
    "--set=epochs=1",
    "--set=free_iterations=6",
    "--set=nudged_iterations=3",
    "--set=widths=[16]",
    "--set=threads=1",
)
DEVICES = ("--device", "pcm", "--device", "ideal", "--device-seeds", "2", "--images", "40")
FILES = {
    "measurements.json",
    "comparison.json",
    "comparison.csv",
    "accuracy.png",
    "drift.png",
    *(f"{kind}-{card}" for kind in ("attribution", "waterfall") for card in ("pcm", "ideal")),
}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_trained_run_is_compared_on_two_devices(invoke, trained_run: Path) -> None:
    done = invoke(
        "compare", "digits", "--run", str(trained_run), *DEVICES, "--times", "0,1d", "--out", "here"
    )
    assert done.exit_code == 0, done.stderr
    held = {name.removesuffix(".png").removesuffix(".csv") for name in files(Path("here"))}
    assert held == {name.removesuffix(".png").removesuffix(".csv") for name in FILES}
    chips = rows(Path("here/comparison.csv"))
    assert [(r["device"], r["device_seed"], r["time_s"]) for r in chips] == [
        ("pcm", "0", "0.0"),
        ("pcm", "0", "86400.0"),
        ("pcm", "1", "0.0"),
        ("pcm", "1", "86400.0"),
        ("ideal", "0", "0.0"),
        ("ideal", "1", "0.0"),
    ]
    assert {r["array"] for r in chips} == {"default"}
    assert {r["images"] for r in chips} == {"40"}
    assert all(float(r["residual_mean"]) >= 0.0 and r["version_torch"] for r in chips)
    assert int(chips[0]["devices"]) == 2 * int(chips[0]["weights"])
    # The summary is that of the rows, and what is printed is the summary.
    record = json.loads(Path("here/comparison.json").read_text())
    pcm = [float(r["accuracy_percent"]) for r in chips if r["device"] == "pcm"]
    last = record["devices"][0]["accuracy"][1]
    assert last["time_s"] == 86_400.0
    assert last["accuracy_percent"] == pytest.approx(statistics.mean(pcm[1::2]))
    assert last["accuracy_spread_percent"] == pytest.approx(statistics.stdev(pcm[1::2]))
    shown = rf"pcm .* 1 day .* 2 .* {last['accuracy_percent']:.2f} \+- "
    assert re.search(shown, done.stdout)
    assert "records: here" in done.stdout
    assert re.search(r"pcm +0 s .* 1 day [0-9.]+ %", done.stderr)
    # The attribution starts at the ideal and ends at the analog accuracy of the same time.
    steps = rows(Path("here/attribution-pcm.csv"))
    assert steps[0]["nonideality"] == "ideal"
    assert float(steps[0]["added_accuracy_percent"]) == record["ideal"][0]["accuracy_percent"]
    assert float(steps[-1]["added_accuracy_percent"]) == pytest.approx(last["accuracy_percent"])
    for picture in Path("here").glob("*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 400
            assert len(image.convert("L").getcolors(1_000_000) or []) > 20


def test_a_stopped_comparison_goes_on_to_the_same_files(
    invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("--device", "pcm", "--array", "ideal", "--device-seeds", "2", "--images", "20")
    command = ("compare", "digits", *TINY, *small, "--times", "0,1h")
    assert invoke(*command, "--out", "whole").exit_code == 0
    measure, left = Measurements._measure, [7]

    def stopped(self, trial, times_s):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return measure(self, trial, times_s)

    monkeypatch.setattr(Measurements, "_measure", stopped)
    assert invoke(*command, "--out", "parts").exit_code != 0
    assert not Path("parts/comparison.json").exists()
    monkeypatch.setattr(Measurements, "_measure", measure)
    # Not without being asked to go on.
    again = invoke(*command, "--out", "parts")
    assert again.exit_code == 2
    assert "there is a comparison in this folder; resume it" in again.stderr
    assert invoke(*command, "--out", "parts", "--resume").exit_code == 0
    assert files(Path("parts")) == files(Path("whole"))
    # A finished one computes nothing.
    monkeypatch.setattr(Measurements, "_measure", None)
    monkeypatch.setattr(Trained, "chip", None)
    assert invoke(*command, "--out", "parts", "--resume").exit_code == 0
    assert files(Path("parts")) == files(Path("whole"))


def test_trainings_are_compared_each_with_its_own_ideal(invoke) -> None:
    done = invoke(
        "compare", "digits", *TINY, "--seeds", "2", "--device", "ideal", "--array", "ideal",
        "--device-seeds", "1", "--out", "here",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    chips = rows(Path("here/comparison.csv"))
    assert [row["training_seed"] for row in chips] == ["0", "1"]
    assert all(row["accuracy_percent"] == row["ideal_accuracy_percent"] for row in chips)
    assert {row["images"] for row in chips} == {"360"}
    assert not Path("here/drift.png").exists()
    assert (Path("here") / "digits-seed1" / "result.json").exists()


def test_without_attribution_there_is_none(invoke, trained_run: Path) -> None:
    done = invoke(
        "compare", "digits", "--run", str(trained_run), *DEVICES, "--no-attribution",
        "--times", "0", "--out", "here",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert set(files(Path("here"))) == {
        "measurements.json", "comparison.json", "comparison.csv", "accuracy.png",
    }  # fmt: skip


def test_fidelity_is_reported_once_per_device(
    invoke, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def report(network, device, array, *images, estimator, title, quick, **options):
        assert [len(tensor) for tensor in images] == [FIDELITY_IMAGES] * 4
        assert quick
        asked.append(f"{title} {device.name} {array.name} {estimator.beta}")
        return asked[-1]

    where = "neurosim_ep.experiments.hardware.fidelity"
    monkeypatch.setattr(f"{where}.fidelity_report", report)
    monkeypatch.setattr(f"{where}.save_report", lambda report, folder: folder.mkdir())
    monkeypatch.setattr(f"{where}.recommendation_line", lambda report: f"train with {report}")
    monkeypatch.setattr(f"{where}.reference_warnings", lambda report: ["wanders"])
    command = (
        "compare", "digits", "--run", str(trained_run), "--device", "ideal", "--array", "ideal",
        "--images", "10", "--no-attribution", "--fidelity", "--out", "here",
    )  # fmt: skip
    done = invoke(*command)
    assert done.exit_code == 0, done.stderr
    assert asked == ["digits ideal ideal 0.3"]
    record = json.loads(Path("here/comparison.json").read_text())
    assert record["devices"][0]["fidelity"] == [f"train with {asked[0]}", "warning: wanders"]
    assert f"train with {asked[0]}" in done.stdout
    again = invoke(*command, "--resume")
    assert len(asked) == 1
    assert again.stdout == done.stdout


def test_times_have_units_and_are_sorted() -> None:
    options = hardware_options(["ideal", "pcm"], times="1d, 1.5h,0,90,2min,1y,1e2s,24h")
    year_s = 365 * 24 * 3600.0
    assert options.times_s == (0.0, 90.0, 100.0, 120.0, 5400.0, 86_400.0, year_s)
    ideal, pcm = options.devices
    assert options.times_of(pcm) == options.times_s
    assert options.times_of(ideal) == (0.0,)
    assert options.attribution_time_of(pcm) == 86_400.0
    assert options.attribution_time_of(ideal) == 0.0
    shown = [duration(time_s) for time_s in (*options.times_s, 2.592e6, 2 * year_s)]
    assert shown == [
        "0 s", "1.5 min", "1.67 min", "2 min", "1.5 h", "1 day", "1 year", "30 days", "2 years",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("digits", "--device", "pcn"), r"pcn\": neither a shipped device card .*pcm"),
        (("digits", "--device", "pcm", "--array", "none"), r"none\": neither a shipped array card"),
        (("digits", "--device", "mine.toml"), r"mine\.toml\": no such file"),
        (("digits", "--device", "pcm", "--device", "pcm"), r"device: \"pcm\" .*given once"),
        (("digitz", "--device", "pcm"), r"digitz\": neither a shipped recipe"),
        (("digits-bp", "--device", "pcm"), r"learning\.algorithm: .*backpropagation"),
        (("digits", "--seeds", "0"), r"seeds: 0 .*at least 1"),
        (("digits", "--device", "pcm", "--seeds", "0"), r"seeds: 0 .*at least 1"),
        (("digits", "--device", "pcm", "--device-seeds", "0"), r"device-seeds: 0 .*at least 1"),
        (("digits", "--device", "pcm", "--images", "0"), r"images: 0 .*at least 1"),
        (("digits", "--device", "pcm", "--times", "0,-5"), r"times: \"-5\" .*at least 0"),
        (("digits", "--device", "pcm", "--times", ""), r"times: \"\" .*at least 0"),
        (("digits", "--device", "pcm", "--times", "1w"), r"times: \"1w\" .*min, h, d, y"),
        (("digits", "--device", "pcm", "--times", "1e999"), r"times: \"1e999\" "),
        (("digits", "--device", "pcm", "--attribution-time", "-1d"), r"attribution-time: \"-1d\""),
        (("digits", "--device", "pcm", "--run", "nowhere"), r"nowhere: not a run folder"),
        (("digits", "--device", "pcm", "--run", "x", "--seeds", "1"), r"seeds: .*a trained run"),
        (("digits", "--device", "pcm", "--run", "x", "--set", "epochs=1"), r"set: .*a trained run"),
        (("digits", "--array", "default"), r"array: is not allowed without --device"),
        (("digits", "--no-attribution"), r"attribution: is not allowed without --device"),
        (("digits", "--device", "pcm", "--set", "device=cuda:99"), r"run\.device.*cuda:99"),
        (("mlp-mnist", "--device", "pcm", "--data-dir", "nowhere"), "nowhere"),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(
    invoke, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    done = invoke("compare", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert re.search(line, only), only
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_recipe_is_refused(invoke, trained_run: Path, tmp_path: Path) -> None:
    done = invoke("compare", "mlp-mnist", "--device", "pcm", "--run", str(trained_run))
    assert done.exit_code == 2
    (only,) = done.stderr.splitlines()
    assert re.search(r"holds a run of 'digits', not of 'mlp-mnist'", only)
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_is_too_small_is_refused_before_training(invoke, tmp_path: Path) -> None:
    Path("small.toml").write_text(
        'name = "small"\n[layout]\nsource = "assumed"\nrows = 4\ncolumns = 4\n'
        '[drive]\nsource = "assumed"\nread_voltage_volt = 0.2\n'
    )
    done = invoke("compare", "vgg5-small-cifar10", "--device", "pcm", "--array", "small.toml")
    assert done.exit_code == 2
    (only,) = done.stderr.splitlines()
    assert re.search(r"rows: 4 .*9", only), only
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]
