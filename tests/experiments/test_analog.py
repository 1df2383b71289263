"""Measurements on chips: what is read, when, with which noise, and what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neurosim_ep.crossbar import load_array_card, only
from neurosim_ep.data import load
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments import Measurements, Trained, Trial, load_trained, prepare_chip
from neurosim_ep.experiments.hardware.mapped import calibration_betas
from neurosim_ep.learning import EquilibriumPropagation, evaluate
from neurosim_ep.settling import settle

DAY_S = 86_400.0


@pytest.fixture(scope="module")
def trained(trained_run: Path) -> Trained:
    return load_trained(trained_run, load("digits"))


def on(trained: Trained, device: str, array: str = "default", seed: int = 0, images: int = 60):
    return Trial(trained, images, load_device_card(device), load_array_card(array), seed)


def test_ideal_hardware_is_exactly_as_right_as_the_exact_network(trained: Trained) -> None:
    measure = Measurements()
    (exact,) = measure(Trial(trained, None))
    (ideal,) = measure(on(trained, "ideal", "ideal", images=360))
    assert exact.images == ideal.images == 360
    assert exact.accuracy_percent > 50.0
    assert ideal.accuracy_percent == exact.accuracy_percent
    assert ideal.cost == pytest.approx(exact.cost, rel=1e-5)
    images, _ = next(trained.test().epoch(0))
    chip = trained.chip(load_device_card("ideal"), load_array_card("ideal"), seed=0)
    states = settle(chip, images, iterations=6), settle(trained.method.model, images, iterations=6)
    assert torch.equal(states[0].output.argmax(1), states[1].output.argmax(1))


def test_the_exact_network_is_as_right_as_its_run_says(trained: Trained, trained_run: Path) -> None:
    result = json.loads((trained_run / "result.json").read_text())
    assert Measurements()(Trial(trained, None))[0].accuracy_percent == result["best_by_validation"]


def test_a_measurement_is_that_of_a_chip_made_by_hand(trained: Trained) -> None:
    method = trained.method
    chip = prepare_chip(
        method.model,
        "pcm",
        "default",
        seed=2,
        images=trained.images,
        labels=trained.labels,
        phases=method.phases,
        betas=calibration_betas(method.estimator),
        cost=method.cost,
    )
    report = chip.report
    chip.advance_time(30 * DAY_S)
    mine = EquilibriumPropagation(chip, method.estimator, method.cost, method.phases)
    summary = evaluate(mine, trained.test(60).epoch(0))
    (found,) = Measurements()(on(trained, "pcm", seed=2), (30 * DAY_S,))
    assert found.accuracy_percent == summary.accuracy_percent
    assert found.cost == summary.cost
    assert found.residual_mean == summary.residual_mean
    assert found.mapping == report
    assert found.versions["torch"].startswith("2.")


def test_times_are_told_apart_by_ageing_alone(trained: Trained) -> None:
    trial = on(trained, "wan2022-reram")
    assert trial.device is not None
    now, later = Measurements()(trial, (0.0, DAY_S))
    assert later.cost != now.cost
    still = replace(trial, device=trial.device.model_copy(update={"drift": None}))
    now, later = Measurements()(still, (0.0, DAY_S))
    assert now.residual_mean > 1e-3
    assert later == now


def test_a_time_does_not_depend_on_those_before_it(trained: Trained) -> None:
    trial = on(trained, "pcm")
    assert Measurements()(trial, (0.0, 3600.0, DAY_S))[2] == Measurements()(trial, (DAY_S,))[0]


def test_seeds_are_different_chips_and_draw_the_same_again(trained: Trained) -> None:
    costs = [Measurements()(on(trained, "pcm", seed=seed))[0].cost for seed in (0, 0, 1)]
    assert costs[0] == costs[1] != costs[2]


def test_read_noise_keeps_the_residual_up(trained: Trained) -> None:
    card, array = load_device_card("pcm"), load_array_card("ideal")
    noisy, _ = only(card, array, ["read_noise"])
    quiet, _ = only(card, array, ["programming"])
    measure = Measurements()
    residuals = [
        measure(Trial(trained, 60, device, array))[0].residual_mean for device in (noisy, quiet)
    ]
    assert residuals[0] > 10 * residuals[1]


def test_finished_measurements_are_kept(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, trial, times = tmp_path / "kept.json", on(trained, "pcm"), (0.0, 3600.0)
    found = Measurements(kept)(trial, times)
    text = kept.read_bytes()
    counted: list[int] = []
    again = Measurements(kept, resume=True, on_images=counted.append)
    with monkeypatch.context() as patch:
        patch.setattr(Trained, "chip", None)  # no chip can be made
        assert again(trial, times) == found
    assert counted == [120]
    assert kept.read_bytes() == text
    # Anything else is measured: another chip, another network, other images, another time.
    other = replace(trained, digest="another")
    for different in (on(trained, "pcm", seed=1), on(other, "pcm"), on(trained, "pcm", images=40)):
        assert different.key(0.0) != trial.key(0.0)
    assert trial.key(1.0) != trial.key(0.0)
    assert on(trained, "pcm", "ideal").key(0.0) != trial.key(0.0)


def test_without_resume_nothing_is_taken_over(trained: Trained, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("{}")
    assert len(Measurements(kept)._kept) == 0
    Measurements(kept)(Trial(trained, 20))
    assert len(json.loads(kept.read_text())) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {}}', '{"a": {"mapping": {}}}'])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(text)
    with pytest.raises(ValueError, match=r"kept.json: damaged or foreign; must be .*") as caught:
        Measurements(kept, resume=True)
    assert "\n" not in str(caught.value)
