"""The report: its recommendation, its records, and the command that makes them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from neurosim_ep.config import load_recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments.build import build_method
from neurosim_ep.experiments.fidelity.bench import Bench
from neurosim_ep.experiments.fidelity.command import fidelity_images
from neurosim_ep.experiments.fidelity.gradients import Fidelity
from neurosim_ep.experiments.fidelity.records import (
    recommendation_line,
    reference_warnings,
    report_record,
    save_report,
)
from neurosim_ep.experiments.fidelity.report import FidelityReport, fidelity_report
from neurosim_ep.experiments.fidelity.settings import (
    Grid,
    Point,
    Setting,
    Sweep,
    recommend,
)
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.figures.fidelity import knob_figure
from neurosim_ep.learning import (
    CenteredEP,
    EquilibriumPropagation,
    Phases,
    save_checkpoint,
)
from neurosim_ep.models import HopfieldNetwork, SquaredError, mlp
from neurosim_ep.plots import axis_labels

SMALL = ("widths=[16]", "free_iterations=8", "nudged_iterations=4", "threads=1")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are small: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def point(cosines: list[float], reads: str = "full", free: int = 20, beta: float = 0.1) -> Point:
    """A point whose draws have these cosines to the programmed weights' response."""
    good = tuple(Fidelity(0.99, 1.0, (0.99, 0.995), (1.0, 1.0)) for _ in cosines)
    draws = tuple(Fidelity(0.9, 1.0, (cosine, 0.999), (1.0, 1.0)) for cosine in cosines)
    return Point(Setting(beta, free, 10, reads), {"intended": good, "programmed": draws})


# --- the recommendation ------------------------------------------------------------------------


def test_the_best_worst_layer_is_recommended() -> None:
    best = point([0.97, 0.98, 0.975], "delta", 40)
    others = [point([0.5, 0.6, 0.55], free=5), point([0.9, 0.91, 0.92], "delta", 20)]
    found = recommend([*others, best])
    assert found.point is best
    assert found.best is best


def test_ties_go_to_fewer_iterations_then_to_full_reads() -> None:
    best = point([0.950, 0.970, 0.960], "delta", 40)
    shorter = point([0.960, 0.955, 0.956], "delta", 20)
    full = point([0.959, 0.957, 0.952], "full", 20)
    shortest = point([0.90, 0.91, 0.905], "full", 5)
    found = recommend([best, shorter, full, shortest])
    assert found.best is best
    assert found.point is full
    assert recommend([best, shorter, shortest]).point is shorter


def test_a_shortfall_beyond_its_standard_error_is_no_tie() -> None:
    """Shortfalls of 0.02 +- 0.01, 0.01 / sqrt(4) of the mean."""
    best = point([0.90, 0.90, 0.90, 0.90], free=40)
    cheaper = point([0.89, 0.88, 0.88, 0.87], free=20)
    assert recommend([cheaper, best]).point is best
    noisier = point([0.95, 0.80, 0.95, 0.86], free=20)
    assert recommend([noisier, best]).point is noisier


def test_noise_common_to_all_settings_makes_no_tie() -> None:
    """Draws on the same hardware go up and down together: the difference is sure."""
    best = point([0.70, 0.80, 0.90], free=40)
    cheaper = point([0.69, 0.79, 0.89], free=20)
    assert recommend([cheaper, best]).point is best


def test_a_single_draw_ties_only_within_the_resolution() -> None:
    best, near, far = point([0.950], free=40), point([0.949], free=20), point([0.94], free=5)
    assert recommend([best, near, far]).point is near
    assert recommend([best, far]).point is best


def test_diverged_settings_are_left_out() -> None:
    diverged = Point(Setting(1.0, 5, 5, "full"), {"intended": (), "programmed": ()})
    assert diverged.worst() is None
    good = point([0.3])
    assert recommend([diverged, good]).point is good
    with pytest.raises(ValueError, match="settling: diverges at every setting"):
        recommend([diverged])


def test_nudged_phases_count_as_often_as_they_are_settled() -> None:
    long_nudge = Point(Setting(0.1, 10, 20, "full"), point([0.9]).draws)
    long_free = Point(Setting(0.1, 35, 5, "full"), point([0.9]).draws)
    assert recommend([long_nudge, long_free], 2).point is long_free
    assert recommend([long_nudge, long_free], 1).point is long_nudge


# --- the report --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> HopfieldNetwork:
    model = build_method(load_recipe("digits", SMALL), torch.device("cpu")).model
    assert isinstance(model, HopfieldNetwork)
    return model


@pytest.fixture(scope="module")
def quick_report(network: HopfieldNetwork) -> FidelityReport:
    return report_of(network)


def report_of(network: HopfieldNetwork, **options: Any) -> FidelityReport:
    recipe = load_recipe("digits", SMALL)
    method = build_method(recipe, torch.device("cpu"))
    assert isinstance(method, EquilibriumPropagation)
    measured, calibration = fidelity_images(recipe, 8, 0)
    given = {"device": "pcm", "array": "default", "quick": True, "title": "digits"} | options
    return fidelity_report(
        network,
        given.pop("device"),
        given.pop("array"),
        *measured,
        *calibration,
        **({"estimator": method.estimator, "phases": method.phases} | given),
    )


def without_environment(report: FidelityReport) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(json.dumps(report_record(report), allow_nan=False))
    del record["environment"]
    return record


def test_records_hold_every_figure_with_cards_and_seeds(
    network: HopfieldNetwork, tmp_path: Path
) -> None:
    report = report_of(network, hardware=2, repeats=2, seed=5)
    one, two = report.programmed
    assert not torch.equal(one.gradients[0], two.gradients[0])
    save_report(report, tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "fidelity.csv",
        "fidelity.json",
        "fidelity.png",
    ]
    record = json.loads((tmp_path / "a" / "b" / "fidelity.json").read_text())
    assert (record["seed"], record["hardware"], record["repeats"]) == (5, 2, 2)
    assert record["device_card"]["name"] == "pcm"
    assert "Nandakumar" in record["device_card"]["programming"]["source"]
    assert record["environment"]["versions"]["torch"]
    names = [sweep["name"] for sweep in record["sweeps"]]
    assert names == [
        "beta",
        "free_iterations",
        "nudged_iterations",
        "adc_bits",
        "dac_bits",
        "read_noise_scale",
    ]
    assert [sweep["own"] for sweep in record["sweeps"]] == [0.3, 8, 4, 8, 8, 1.0]
    assert record["recommendation"]["sentence"] == recommendation_line(report)
    with (tmp_path / "a" / "b" / "fidelity.csv").open() as file:
        rows = list(csv.DictReader(file))
    settings = sum(2 * len(sweep["values"]) for sweep in record["sweeps"])
    settings += len(record["joint_grid"])
    exact = sum(len(sweep["exact"]) for sweep in record["sweeps"])
    # Two layers, the worst one and all weights; two references on arrays, one for exact reads.
    assert len(rows) == 4 * (2 * settings + exact)
    # The table's mean is the mean of the draws.
    draws = record["sweeps"][0]["arrays"]["delta"][0]["draws"]["programmed"]
    assert len(draws) == 4
    found = {
        r["layer"]: float(r["cosine_mean"])
        for r in rows
        if (r["sweep"], r["value"], r["reads"]) == ("beta", "0.05", "delta")
        and (r["reads_by"], r["reference"]) == ("arrays", "programmed")
    }
    assert found["0 -> 1"] == pytest.approx(sum(d["cosines"][0] for d in draws) / 4)
    assert found["worst"] == pytest.approx(sum(min(d["cosines"]) for d in draws) / 4)
    assert found["all"] == pytest.approx(sum(d["cosine"] for d in draws) / 4)
    assert found["worst"] < found["all"]
    with Image.open(tmp_path / "a" / "b" / "fidelity.png") as image:
        assert image.width > 1500
        assert image.convert("L").getextrema()[0] < 60


def test_same_seed_same_report_and_the_network_stays(
    network: HopfieldNetwork, quick_report: FidelityReport
) -> None:
    before = [weight.clone() for weight in network.weights]
    one = without_environment(quick_report)
    again, other = (without_environment(report_of(network, seed=s)) for s in (0, 1))
    assert one == again
    assert one["joint_grid"] != other["joint_grid"]
    assert all(map(torch.equal, before, network.weights))
    assert all(weight.grad is None for weight in network.weights)


def bench_of(network: HopfieldNetwork, brightness: float = 1.0) -> Bench:
    """A bench whose converters are calibrated on images of another brightness."""
    measured, (images, labels) = fidelity_images(load_recipe("digits", SMALL), 8, 0)
    calibration = (brightness * images, labels)
    return Bench(
        network,
        load_device_card("pcm"),
        load_array_card("default"),
        measured,
        calibration,
        CenteredEP(0.3),
        Phases(8, 4),
        SquaredError(),
        seed=0,
        hardware=1,
        repeats=2,
        progress=lambda _: None,
    )


def test_every_knob_is_turned_and_what_was_measured_before_changes_nothing(
    network: HopfieldNetwork,
) -> None:
    """Noise starts anew at every setting: settings differ by the setting alone."""
    own, bench = Setting(0.3, 8, 4, "delta"), bench_of(network)
    changes: list[dict[str, Any]] = [
        {"beta": 0.1},
        {"free_iterations": 3},
        {"nudged_iterations": 2},
        {"reads": "full"},
        {"adc_bits": 5},
        {"dac_bits": 5},
        {"read_noise_scale": 3.0},
    ]
    others = [bench.on_chip(replace(own, **change)).draws for change in changes]
    draws = bench.on_chip(own).draws
    assert draws not in others
    assert draws == bench_of(network).on_chip(own).draws
    assert draws["programmed"][0] != draws["programmed"][1]
    dark = bench_of(network, 0.1).on_chip(own)
    assert (dark.worst() or 0.0) < (bench.on_chip(own).worst() or 0.0) - 0.01


def test_settings_at_their_own_value_are_the_own_setting(quick_report: FidelityReport) -> None:
    report = quick_report
    beta, *others = report.sweeps
    own = beta.chip["full"][beta.values.index(0.3)]
    for sweep in others:
        assert sweep.chip["full"][sweep.values.index(sweep.own or 0.0)].draws == own.draws
    # Turned to 8 bits by hand, the card's 8 bits are no other hardware.
    assert report.own == Setting(0.3, 8, 4, "full")
    assert len({p.setting for p in report.joint}) == len(report.joint)


def test_quiet_hardware_is_measured_once(network: HopfieldNetwork) -> None:
    report = report_of(network, device="ideal", array="ideal", hardware=1, repeats=5)
    assert report.repeats == 1
    assert [sweep.name for sweep in report.sweeps][-1] == "dac_bits"
    beta = report.sweeps[0]
    assert len(beta.chip["full"][0].draws["programmed"]) == 1
    for exact, full in zip(beta.exact, beta.chip["full"], strict=True):
        cosines = exact.draws["intended"][0].cosines
        assert full.draws["intended"][0].cosines == pytest.approx(cosines, abs=1e-4)
    adc = report.sweeps[3]
    assert adc.own is None
    assert (adc.chip["full"][0].worst() or 0.0) < (adc.chip["full"][-1].worst() or 0.0)


def test_a_reference_that_did_not_settle_is_doubtful(quick_report: FidelityReport) -> None:
    report = quick_report
    assert reference_warnings(report) == []
    moving = replace(report.intended, residual=1e-3)
    (line,) = reference_warnings(replace(report, intended=moving))
    assert "intended" in line
    assert "residual of 1.0e-03" in line
    left = replace(report.programmed[0], departure=0.7)
    (line,) = reference_warnings(replace(report, programmed=(left,)))
    assert "programmed" in line
    assert "depart from the free state by 0.70" in line


def test_a_setting_that_diverges_is_a_gap_in_the_records(
    network: HopfieldNetwork, tmp_path: Path
) -> None:
    """At beta 10 the negative phase multiplies the output by 10 in every iteration."""
    estimator, phases = CenteredEP(10.0), Phases(4, 60)
    report = report_of(network, estimator=estimator, phases=phases)
    beta = report.sweeps[0]
    assert [p.worst() is None for p in beta.chip["full"]] == [False, False, False, True]
    assert report.recommendation.point.setting.beta < 1.0
    save_report(report, tmp_path)
    assert (tmp_path / "fidelity.png").stat().st_size > 10_000
    with (tmp_path / "fidelity.csv").open() as file:
        gaps = [row for row in csv.DictReader(file) if row["beta"] == "10.0"]
    assert {(row["cosine_mean"], row["draws"]) for row in gaps} == {("", "0")}


def test_a_network_that_diverges_is_refused() -> None:
    unbounded = mlp((1, 8, 8), 10, (16, 16), activation="relu", gains=(0.5, 40.0, 0.5))
    with pytest.raises(ValueError, match="settling: states are not finite"):
        report_of(unbounded)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"hardware": 0}, "hardware: 0 is not allowed; must be at least 1"),
        ({"repeats": 0}, "repeats: 0 is not allowed; must be at least 1"),
        ({"device": "pmc"}, "pmc.*neither a shipped device card nor a file"),
    ],
)
def test_bad_arguments(network: HopfieldNetwork, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        report_of(network, **options)


def test_measured_images_are_not_those_that_calibrate() -> None:
    recipe = load_recipe("digits", SMALL)
    (measured, labels), (calibration, _) = fidelity_images(recipe, 20, 3)
    assert measured.shape == (20, 1, 8, 8)
    assert labels.shape == (20,)
    distances = (measured.flatten(1)[:, None] - calibration.flatten(1)[None]).abs().sum(2)
    assert float(distances.min()) > 0.0
    again = fidelity_images(recipe, 20, 3)[0][0]
    assert torch.equal(again, measured)
    assert not torch.equal(fidelity_images(recipe, 20, 4)[0][0], measured)


# --- the command -------------------------------------------------------------------------------

QUICK = ("--quick", "--images", "6", "--array", "default")
FEW = tuple(f"--set={item}" for item in SMALL)


def test_command_on_a_recipe_and_on_a_run_folder(invoke, tmp_path: Path) -> None:
    done = invoke("fidelity", "digits", "--device", "pcm", *QUICK, *FEW, "--out", "first")
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "first" / "fidelity.json").read_text())
    last = done.stdout.splitlines()[-1]
    assert last == record["recommendation"]["sentence"]
    assert last.startswith("recommendation: beta ")
    for heading in ("nudging beta", "ADC bits", "DAC bits", "read noise", "joint grid"):
        assert heading in done.stdout
    recipe, files = load_recipe("digits", SMALL), RunFolder(tmp_path / "run")
    files.start(recipe, ())
    trained_weights = build_method(recipe, torch.device("cpu")).model.state_dict()
    trained_weights["edges.0.storage.weight"] *= 1.5
    save_checkpoint(files.best, trained_weights)
    done = invoke("fidelity", "run", "--device", "pcm", *QUICK)
    assert done.exit_code == 0, done.stderr
    trained = json.loads(
        (tmp_path / "runs" / "fidelity-digits-pcm-default" / "fidelity.json").read_text()
    )
    assert trained["measured"] == "run"
    assert trained["recipe"] == record["recipe"]
    assert trained["joint_grid"] != record["joint_grid"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("no-such-recipe", "--device", "pcm"), "no-such-recipe"),
        (("digits-bp", "--device", "pcm"), r"learning\.algorithm: 'backpropagation' .*must be"),
        (("digits", "--device", "pmc"), r"pmc.*device card.*pcm"),
        (("digits", "--device", "pcm", "--array", "nowhere.toml"), "nowhere.toml.*no such file"),
        (("digits", "--device", "pcm", "--images", "0"), "images: 0 .*at least 1"),
        (("digits", "--device", "pcm", "--images", "900"), "images: 900 .*at most 628, half"),
        (("digits", "--device", "pcm", "--hardware", "0"), "hardware: 0 .*at least 1"),
        (("digits", "--device", "pcm", "--repeats", "-1"), "repeats: -1 .*at least 1"),
        (("digits", "--device", "pcm", "--set", "beta=0"), r"learning\.beta: 0"),
        ((".", "--device", "pcm"), "not a run folder; must hold recipe.toml|not a run folder"),
        ((".", "--device", "pcm", "--set", "beta=0.1"), "--set: 'beta=0.1' .*run folder"),
    ],
)
def test_wrong_input_of_fidelity_is_one_line_and_exit_code_2(
    invoke, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    done = invoke("fidelity", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert re.search(line, only), only
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused_at_once(invoke, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    done = invoke("fidelity", "digits", "--device", "pcm", "--out", "taken")
    assert done.exit_code == 2
    assert done.stderr == "error: out: 'taken' is not allowed; must be a folder, or a new one\n"
    assert (tmp_path / "taken").read_text() == "mine"


# --- a grid of one's own, and the figure of one knob ---------------------------------------------


def test_only_what_a_grid_asks_for_is_measured(network: HopfieldNetwork) -> None:
    grid = Grid((0.1, 0.5), (), (), (), (), (0.1,), ((1.0, 1.0),))
    told: list[str] = []
    report = report_of(network, grid=grid, progress=told.append)
    values = {sweep.name: sweep.values for sweep in report.sweeps}
    assert values.pop("beta") == (0.1, 0.3, 0.5)
    assert {value for found in values.values() for value in found} == {1.0, 4, 8}
    # The joint grid takes the own beta too; by full and by delta reads.
    assert {point.setting.beta for point in report.joint} == {0.1, 0.3}
    assert len({point.setting for point in report.joint}) == 4
    assert sum(line.startswith("beta") for line in told) == 2 * 3


def test_a_knob_has_one_panel_per_report_and_loses_nothing(
    quick_report: FidelityReport, tmp_path: Path
) -> None:
    low = replace(quick_report, sweeps=tuple(map(lowered, quick_report.sweeps)))
    figure = knob_figure({"as it is": quick_report, "worse": low}, "beta", tmp_path / "knob.svg")
    for axes, report in zip(figure.axes, (quick_report, low), strict=True):
        sweep = report.sweeps[0]
        expected = [point.worst() for point in sweep.chip["full"]]
        drawn = axes.containers[0].lines[0]
        assert list(drawn.get_ydata()) == expected
        bottom, top = axes.get_ylim()
        assert bottom < min(worst for worst in expected if worst is not None)
        assert top > 1.0
        chosen = report.recommendation.point.setting
        assert axes.get_title().endswith(f"{chosen.beta:g}, {chosen.reads} reads)")
    assert axis_labels(figure) == 2 * [("nudging beta", "cosine to the linear response")]
    assert (tmp_path / "knob.svg").exists()
    with pytest.raises(ValueError, match=r'^name: "gamma" is not allowed; must be one of beta, '):
        knob_figure({"": quick_report}, "gamma")


def lowered(sweep: Sweep) -> Sweep:
    """A sweep whose cosines are lower by 1."""

    def lower(found: Point) -> Point:
        draws = {
            name: tuple(replace(d, cosines=tuple(c - 1.0 for c in d.cosines)) for d in drawn)
            for name, drawn in found.draws.items()
        }
        return replace(found, draws=draws)

    chip = {reads: tuple(map(lower, points)) for reads, points in sweep.chip.items()}
    return replace(sweep, chip=chip)
