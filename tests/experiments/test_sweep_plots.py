"""The figure of a sweep shows its means and spreads, where the values stand."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from neurosim_ep.experiments.run import Result
from neurosim_ep.experiments.sweeps.axes import axes_of
from neurosim_ep.experiments.sweeps.cells import CellResult
from neurosim_ep.experiments.sweeps.result import SweepResult
from neurosim_ep.figures.sweep import sweep_figure

Accuracy = Callable[[Mapping[str, str], int], float | None]


def result(vary: list[str], seeds: int, accuracy: Accuracy) -> SweepResult:
    axes, cells = axes_of(vary), []
    for combination in itertools.product(*(axis.settings for axis in axes)):
        values = {key: text for step in combination for key, text in step.items()}
        for seed in range(seeds):
            last = accuracy(values, seed)
            done = None if last is None else Result(1, last, None, None, last, 1.0)
            status = "failed" if done is None else "finished"
            cells.append(CellResult(values, seed, None, Path(), status, "", done, {}))
    return SweepResult("digits", axes, tuple(cells), Path())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    """The figure, as it would be saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(
        "neurosim_ep.figures.sweep.save", lambda figure, path: figures.append(figure)
    )

    def draw(*arguments: object, references: Mapping[str, float] | None = None) -> Figure:
        sweep_figure(result(*arguments), Path("x.png"), references)  # type: ignore[arg-type]
        return figures[-1]

    return draw


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


def points(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Places and heights of each labelled line."""
    lines = zip(*axes.get_legend_handles_labels(), strict=True)
    found = {}
    for handle, label in lines:
        line = handle[0] if isinstance(handle, tuple) else handle
        found[label] = list(zip(line.get_xdata(), line.get_ydata(), strict=True))
    return found


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def test_means_and_spreads_are_those_of_the_seeds(drawn: Callable[..., Figure]) -> None:
    found = {
        (beta, reads): [90.0 + 10 * float(beta) + seed**2 - (reads == "full") for seed in range(3)]
        for beta in ("0.1", "0.2", "0.3")
        for reads in ("full", "delta")
    }
    figure = drawn(
        ["beta=0.3,0.1,0.2", "nudged_reads=full,delta"],
        3,
        lambda v, seed: found[v["learning.beta"], v["settling.nudged_reads"]][seed],
        references={"exact EP": 97.2},
    )
    (axes,) = panels(figure)
    assert axes.get_xscale() == "linear"
    assert axes.get_xlabel() == "nudging beta"
    assert "%" in axes.get_ylabel()
    # From left to right, whatever the order they were given in.
    for reads, line in points(axes).items():
        if reads in ("full", "delta"):
            means = [statistics.mean(found[beta, reads]) for beta in ("0.1", "0.2", "0.3")]
            assert [height for _, height in line] == pytest.approx(means)
            assert [place for place, _ in line] == pytest.approx([0.1, 0.2, 0.3], abs=0.005)
    bars = [container.lines[2][0].get_segments() for container in axes.containers]
    low, high = sorted(point[1] for point in bars[0][0])
    assert (high - low) / 2 == pytest.approx(statistics.stdev(found["0.1", "full"]))
    assert legend(figure) == ["nudged reads:", "full", "delta", "exact EP, 97.2 %"]
    bottom, top = axes.get_ylim()
    assert bottom < low
    assert top > max(map(max, found.values()))


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        ("1,10,30", "linear", ["1", "10", "30"]),
        ("1,10,31", "log", ["1", "10", "31"]),
        ("-1,10,31", "linear", ["-1", "10", "31"]),
        ("0,0.001,0.1", "log", ["0", "0.001", "0.1"]),
        ("0,1,2", "linear", ["0", "1", "2"]),
    ],
)
def test_wide_positive_numbers_stand_on_a_logarithmic_axis(
    drawn: Callable[..., Figure], values: str, scale: str, labels: list[str]
) -> None:
    key = "device.pulse_response.up_down"
    (axes,) = panels(drawn([f"{key}={values}"], 1, lambda v, seed: 50.0))
    assert axes.get_xscale() == scale
    assert ticks(axes) == labels
    places = [place for place, _ in points(axes)["mean"]]
    assert places == sorted(places)
    given = [float(value) for value in values.split(",")]
    # A zero has no place on a logarithmic axis: it stands left of the others.
    assert places[1:] == pytest.approx(given[1:])
    assert (
        0.0 < places[0] < given[1] if labels[0] == "0" and scale == "log" else places[0] == given[0]
    )


def test_crowded_ticks_give_way(drawn: Callable[..., Figure]) -> None:
    values = ",".join(str(n) for n in range(1, 101))
    (axes,) = panels(drawn([f"epochs={values}"], 1, lambda v, seed: 50.0))
    assert len(axes.get_xticks()) <= 13
    (axes,) = panels(drawn(["epochs=1,2,100"], 1, lambda v, seed: 50.0))
    assert ticks(axes) == ["1", "2", "100"]
    (axes,) = panels(drawn(["epochs=99,100,101,110,200"], 1, lambda v, seed: 50.0))
    assert ticks(axes) == ["99", "110", "200"]


def test_words_stand_apart_and_are_not_joined(drawn: Callable[..., Figure]) -> None:
    (axes,) = panels(
        drawn(
            ["device=pcm,my/card.toml,li-ecram", "nudged_reads=full,delta"],
            2,
            lambda v, s: 50.0 + s,
        )
    )
    assert ticks(axes) == ["pcm", "card", "li-ecram"]
    assert {line.get_linestyle() for line in axes.get_lines() if line.get_label() == "full"} <= {
        "None"
    }
    full, delta = points(axes)["full"], points(axes)["delta"]
    for number in range(3):
        assert full[number][0] < number < delta[number][0]
        assert delta[number][0] - number < 0.5


def test_the_third_key_gives_panels(drawn: Callable[..., Figure]) -> None:
    figure = drawn(
        ["beta=0.1,0.2", "array.adc_bits=4,8,none", "device.states=4,16,64,256,1024"],
        1,
        lambda v, seed: float(v["device.states"]) / 20,
    )
    assert len(panels(figure)) == 5
    for axes, states in zip(panels(figure), (4, 16, 64, 256, 1024), strict=True):
        assert axes.get_title() == f"states of a device: {states}"
        assert {height for _, height in points(axes)["8"]} == {states / 20}
    assert legend(figure) == ["ADC resolution (bits):", "4", "8", "none"]


def test_failures_are_marked_and_leave_gaps(drawn: Callable[..., Figure]) -> None:
    def accuracy(values: Mapping[str, str], seed: int) -> float | None:
        if values["learning.beta"] == "0.2":
            return None
        return None if values["learning.beta"] == "0.3" and seed == 1 else 80.0 + seed

    figure = drawn(["beta=0.1,0.2,0.3"], 2, accuracy)
    (axes,) = panels(figure)
    heights = [height for _, height in points(axes)["mean"]]
    assert heights[0] == 80.5
    assert heights[1] != heights[1]  # no number
    assert heights[2] == 80.0  # of the seed that is left
    (marks,) = [line for line in axes.get_lines() if line.get_label() == "_failed"]
    assert list(marks.get_xdata()) == pytest.approx([0.2, 0.3], abs=0.01)
    assert legend(figure) == ["a seed failed"]
    nothing = drawn(["beta=0.1"], 1, lambda v, seed: None)
    assert panels(nothing)[0].get_ylim() == (0.0, 100.0)


def test_one_line_alone_needs_no_legend(drawn: Callable[..., Figure]) -> None:
    assert legend(drawn(["beta=0.1,0.2"], 1, lambda v, seed: 50.0)) == []


def test_it_is_saved_as_a_picture(tmp_path: Path) -> None:
    vary = ["device.read_noise_relative=0,0.01,0.1,1", "beta=0.1,0.3,1"]
    path = tmp_path / "figure.png"
    sweep_figure(result(vary, 2, lambda v, s: 60.0 + s + 9 * float(v["learning.beta"])), path)
    with Image.open(path) as picture:
        assert min(picture.size) > 400
        assert len(picture.convert("L").getcolors(1_000_000) or []) > 20
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
