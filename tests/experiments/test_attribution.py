"""Where the accuracy goes: costs alone, what is won back, and a waterfall that adds up."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from neurosim_ep.crossbar import ArrayCard, load_array_card, only, present, without
from neurosim_ep.data import load
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.devices.programming import Programming
from neurosim_ep.experiments import (
    Attribution,
    Measurement,
    Measurements,
    Trained,
    Trial,
    attribute,
    attribution_rows,
    load_trained,
    waterfall_figure,
)
from neurosim_ep.experiments.hardware.attribution import Share, trials_of
from neurosim_ep.plots import axis_labels

DAY_S = 86_400.0


@pytest.fixture(scope="module")
def trained(trained_run: Path) -> Trained:
    return load_trained(trained_run, load("digits"))


def fade(device: DeviceCard) -> DeviceCard:
    """A card whose devices lose much within a day, so that all accuracies differ."""
    assert device.drift is not None
    return device.model_copy(update={"drift": device.drift.model_copy(update={"start_s": 1e-3})})


def attributed(trained: Trained, device: DeviceCard, array: ArrayCard, **options):
    settings = {"seeds": (0, 1), "time_s": DAY_S, "images": 80, "measure": Measurements()}
    return attribute([trained], device, array, **(settings | options))


def test_the_steps_sum_to_the_gap_and_end_at_the_analog_accuracy(trained: Trained) -> None:
    device, array = fade(load_device_card("pcm")), load_array_card("default")
    found = attributed(trained, device, array)
    measure = Measurements()
    ideal = measure(Trial(trained, 80))[0].accuracy_percent
    analog = [
        measure(Trial(trained, 80, device, array, seed), (DAY_S,))[0].accuracy_percent
        for seed in (0, 1)
    ]
    assert found.ideal == [ideal, ideal]
    assert found.analog == analog
    assert ideal - statistics.mean(analog) > 10.0
    steps = [points for _, points in found.steps]
    assert sum(steps) == pytest.approx(ideal - statistics.mean(analog), abs=1e-9)
    assert [name for name, _ in found.steps] == ["mapping", *present(device, array)]
    assert found.images == 80
    # Alone, off and added agree where they mean the same cards.
    assert found.shares[0].alone == found.shares[0].added
    assert found.shares[-1].off == found.shares[-2].added


def test_alone_and_off_are_measured_as_the_cards_say(trained: Trained) -> None:
    device, array = fade(load_device_card("pcm")), load_array_card("default")
    found = {share.name: share for share in attributed(trained, device, array).shares}
    measure = Measurements()

    def accuracy(cards: tuple[DeviceCard, ArrayCard], seed: int) -> float:
        return measure(Trial(trained, 80, *cards, seed), (DAY_S,))[0].accuracy_percent

    for name in ("drift", "adc"):
        for seed in (0, 1):
            # The converters alone draw nothing: one chip stands for all seeds.
            assert found[name].alone[seed] == accuracy(only(device, array, [name]), seed)
            assert found[name].off[seed] == accuracy(without(device, array, [name]), seed)


def test_a_single_nonideality_takes_all_the_blame(trained: Trained) -> None:
    noisy = Programming(
        coefficients_siemens=(25e-6,), reference_siemens=25e-6, source="assumed: far too noisy"
    )
    device = load_device_card("ideal").model_copy(update={"programming": noisy})
    found = attributed(trained, device, load_array_card("ideal"), time_s=0.0)
    (share,) = found.shares
    assert share.name == "programming"
    gap = statistics.mean(found.ideal) - statistics.mean(found.analog)
    assert gap > 5.0
    assert found.steps == [("mapping", 0.0), ("programming", pytest.approx(gap))]
    assert share.alone == share.added == found.analog
    assert share.off == found.mapped == found.ideal
    rows = {row["nonideality"]: row for row in attribution_rows(found)}
    assert rows["programming"]["alone_cost_points"] == pytest.approx(gap)
    assert rows["programming"]["off_recovered_points"] == pytest.approx(gap)


def test_without_nonidealities_nothing_is_lost(trained: Trained) -> None:
    found = attributed(trained, load_device_card("ideal"), load_array_card("ideal"))
    assert found.shares == []
    assert found.steps == [("mapping", 0.0)]
    assert found.analog == found.ideal


def test_what_mapping_clips_is_a_step_of_its_own(trained: Trained) -> None:
    array = load_array_card("ideal")
    layout = array.layout.model_copy(update={"scale_quantile": 0.2})
    found = attributed(
        trained, load_device_card("ideal"), array.model_copy(update={"layout": layout})
    )
    assert dict(found.steps)["mapping"] > 1.0
    assert found.analog == found.mapped


# --- Arithmetic, with accuracies that are made up ----------------------------------------------

LOSSES = {
    "programming": 1.0,
    "read_noise": 2.0,
    "drift": 4.0,
    "wires": 0.5,
    "dac": 0.25,
    "adc": 0.0,
}


def made_up(calls: list[tuple[frozenset[str], int]]):
    """Losses add, but programming hides behind drift; the second chip loses twice as much."""

    def measure(trial: Trial, times_s: Sequence[float]) -> list[Measurement]:
        accuracy = 90.0
        if trial.device is not None and trial.array is not None:
            names = frozenset(present(trial.device, trial.array))
            calls.append((names, trial.seed))
            lost = sum(LOSSES[name] for name in names)
            lost -= LOSSES["programming"] if {"drift", "programming"} <= names else 0.0
            accuracy -= lost * (1 + trial.seed)
        return [Measurement(50, accuracy, 0.0, 0.0, 0.0, 0.0, {})] * len(times_s)

    return measure


def test_costs_and_spreads_of_made_up_losses(trained: Trained) -> None:
    calls: list[tuple[frozenset[str], int]] = []
    device, array = load_device_card("pcm"), load_array_card("default")
    found = attributed(trained, device, array, measure=made_up(calls))
    assert set(present(device, array)) == set(LOSSES)
    rows = {row["nonideality"]: row for row in attribution_rows(found)}
    assert list(rows) == ["ideal", "mapping", *present(device, array)]
    drift = rows["drift"]
    assert drift["alone_cost_points"] == pytest.approx(6.0)  # mean of 4 and 8
    assert drift["alone_cost_spread_points"] == pytest.approx(4.0 / 2**0.5)
    # Without drift programming comes out: 6.75 lost becomes 3.75, and twice that.
    assert drift["off_recovered_points"] == pytest.approx(1.5 * 3.0)
    assert drift["step_points"] == pytest.approx(1.5 * 3.0)
    assert rows["programming"]["alone_cost_points"] == pytest.approx(1.5)
    assert rows["programming"]["off_recovered_points"] == pytest.approx(0.0)
    assert rows["adc"]["added_accuracy_percent"] == pytest.approx(90.0 - 1.5 * 6.75)
    assert rows["ideal"]["added_accuracy_percent"] == 90.0
    assert rows["mapping"]["off_accuracy_percent"] is None
    assert rows["drift"]["chips"] == 2
    # What draws nothing is measured on one chip: nothing at all, wires, DAC and ADC alone.
    drawn = [seed for names, seed in calls if names <= {"wires", "dac", "adc"}]
    assert drawn == [0] * 4
    assert trials_of(device, array, 2) == len(calls)


def test_all_trained_networks_count(trained: Trained) -> None:
    device, array = load_device_card("pcm"), load_array_card("default")
    found = attribute(
        [trained, trained], device, array,
        seeds=(0, 1), time_s=0.0, images=None, measure=made_up([]),
    )  # fmt: skip
    assert len(found.ideal) == len(found.analog) == len(found.mapped) == 4
    assert found.analog == [90.0 - 6.75, 90.0 - 13.5] * 2


def test_the_figure_goes_down_the_steps() -> None:
    shares = [
        Share("drift", [80.0, 84.0], [95.0, 97.0], [80.0, 84.0]),
        Share("read_noise", [97.0, 97.0], [80.0, 84.0], [70.0, 74.0]),
    ]
    found = Attribution("pcm", "default", DAY_S, 80, [98.0, 98.0], [98.0, 98.0], shares)
    figure = waterfall_figure(found)
    (axes,) = figure.axes
    heights = [patch.get_height() for patch in axes.patches]
    # Mapping clips nothing and has no bar: ideal, analog, then both steps.
    assert heights == pytest.approx([98.0, 72.0, -16.0, -10.0])
    assert axis_labels(figure)[0][0] == "ideal, drift, read noise, analog"
    marks = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert marks["this one alone"] == [82.0, 97.0]
    assert marks["all but this one"] == [96.0, 82.0]
    assert figure.get_suptitle() == "pcm on array default, 1 day after programming"
    # Colours of lines come from the figure, their dashes do not from a cycle of lines.
    assert {line.get_linestyle() for line in axes.lines} <= {"-", "None"}
