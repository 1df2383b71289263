"""Dots of accuracies: where they stand, and what is enlarged."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosim_ep.figures.dots import accuracy_dots
from neurosim_ep.plots import axis_labels

DEVICES = {
    "pcm": {"now": [98.0, 99.0, 97.0], "later": [60.0, 62.0, 64.0]},
    "ideal": {"now": [99.0]},
}


def test_every_device_has_a_row_and_every_kind_its_dot(tmp_path: Path) -> None:
    figure = accuracy_dots({"exact": [99.0, 99.5]}, DEVICES, tmp_path / "d.pdf", from_percent=95.0)
    whole, enlarged = figure.axes
    assert [text.get_text() for text in whole.get_yticklabels()] == ["pcm", "ideal"]
    means = [(c.lines[0].get_xdata()[0], c.lines[0].get_ydata()[0]) for c in whole.containers]
    assert [x for x, _ in means] == pytest.approx([98.0, 62.0, 99.0])
    assert means[0][1] < 0.0 < means[1][1] < means[2][1]
    # Sample standard deviations: 1 and 2 points; one chip alone has none.
    bars = [c.lines[2][0].get_segments()[0] for c in whole.containers if c.lines[2]]
    assert [bar[1][0] - bar[0][0] for bar in bars] == pytest.approx([2.0, 4.0])
    assert whole.get_xlim()[0] == 0.0
    assert enlarged.get_xlim()[0] == 95.0
    assert enlarged.get_xlim()[1] > 100.0
    assert axis_labels(figure)[0] == ("test accuracy (%)", "pcm, ideal")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "exact, 99.25 %",
        "now",
        "later",
    ]
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")


def test_kinds_are_apart_in_grey(tmp_path: Path) -> None:
    figure = accuracy_dots({"exact": [99.0]}, DEVICES)
    dots = [container.lines[0] for container in figure.axes[0].containers]
    assert dots[0].get_marker() != dots[1].get_marker()
    assert dots[0].get_markerfacecolor() != dots[1].get_markerfacecolor()
