"""The figure of a sweep: accuracy over one key, lines by a second, panels by a third."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from neurosim_ep.plots import INK, line_look, save, style

if TYPE_CHECKING:
    from neurosim_ep.experiments.sweeps.axes import Axis
    from neurosim_ep.experiments.sweeps.cells import CellResult
    from neurosim_ep.experiments.sweeps.result import SweepResult

LOGARITHMIC_SPAN = 30.0
"""Positive values that span more than this factor get a logarithmic axis."""

_REFERENCE_DASHES = ((0, (6, 2)), (0, (2, 2)), (0, (8, 2, 2, 2)))
_MOST_COLUMNS = 3
_ONLY_LINE, _FAILED = "mean", "_failed"
_MOST_TICKS, _MOST_CHARACTERS = 12, 45
# Shares of the axis: between ticks, beside the outermost values, among all lines of one value.
_ROOM, _MARGIN, _APART, _APART_WORDS = 0.05, 0.06, 0.025, 0.5


class _Scale:
    """Where values stand on the horizontal axis.

    Numbers stand on a linear axis, or a logarithmic one where they are positive and span more than
    `LOGARITHMIC_SPAN`; a zero beside such numbers stands at its left end.  What is not a number
    stands at equal distances, in the order given.

    Args:
        axis: the values.
        lines: how many are drawn.
        apart: whether lines stand beside one another, so that their spreads can be told apart.

    Attributes:
        order: the values' numbers from left to right.
        connected: whether lines join neighbours; words have none.
    """

    def __init__(self, axis: Axis, lines: int, *, apart: bool) -> None:
        numbers = axis.numbers
        self._numeric, self._labels = numbers is not None, axis.labels
        values = list(map(float, range(len(axis.steps)))) if numbers is None else list(numbers)
        positive = [value for value in values if value > 0.0]
        self._logarithmic = (
            numbers is not None
            and min(values) >= 0.0
            and len(positive) > 1
            and max(positive) / min(positive) > LOGARITHMIC_SPAN
        )
        self._with_zero = self._logarithmic and len(positive) < len(values)
        if self._logarithmic:
            decades = math.log10(max(positive) / min(positive))
            zero = min(positive) / 10.0 ** max(0.15 * decades, 0.3)
            values = [math.log10(value or zero) for value in values]
        self._positions = values
        self._span = (max(values) - min(values)) or 1.0
        self.order = sorted(range(len(values)), key=values.__getitem__)
        self.connected = not axis.words
        # Apart, so that spreads do not hide one another, and near enough to the value.
        room = _APART if self.connected else _APART_WORDS / max(len(values) - 1, 1)
        self._apart = room / lines if apart or axis.words else 0.0
        self._middle = 0.5 * (lines - 1)

    def place(self, number: int, line: int) -> float:
        """Where a value of a line is drawn: lines stand beside one another."""
        return self._at(self._positions[number], (line - self._middle) * self._apart)

    def _at(self, position: float, share: float) -> float:
        """A position on the paper, some share of the axis to the right, as a number of the axis."""
        moved = position + share * self._span
        return float(10.0**moved) if self._logarithmic else moved

    def dress(self, axes: Axes, name: str) -> None:
        """Scale, ticks at the values where they have room, and label."""
        if self._logarithmic:
            axes.set_xscale("log")
        kept: list[int] = []
        for number in self.order:
            here = self._positions[number]
            if not kept or here - self._positions[kept[-1]] > _ROOM * self._span:
                kept.append(number)
        every = kept if self._numeric else self.order
        if not self._numeric or self._with_zero or len(kept) <= _MOST_TICKS:
            axes.xaxis.set_major_locator(
                FixedLocator([self._at(self._positions[number], 0.0) for number in every])
            )
            axes.xaxis.set_minor_locator(NullLocator())
            labels = [self._labels[number] for number in every]
            axes.set_xticklabels(labels)
            if sum(map(len, labels)) + len(labels) > _MOST_CHARACTERS:
                axes.tick_params(axis="x", labelrotation=30)
                for tick in axes.get_xticklabels():
                    tick.set_horizontalalignment("right")
        left, right = min(self._positions), max(self._positions)
        margin = _MARGIN if self.connected else 0.5 / max(len(self._positions) - 1, 1)
        axes.set_xlim(self._at(left, -margin), self._at(right, margin))
        axes.set_xlabel(name)


@style(10.0)
def sweep_figure(
    result: SweepResult,
    path: Path | None = None,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Test accuracy after the last epoch, mean and sample standard deviation over the seeds.

    Combinations of which a seed failed are marked at the bottom; their mean is that of the others.

    Args:
        result: of the sweep.
        path: the file to write, a PNG or whatever its suffix says; None writes none.
        references: accuracies in percent by label, as horizontal lines.
    """
    references = references or {}
    axes = [*result.axes, None, None][:3]
    first, second, third = axes
    assert first is not None
    lines = second.steps if second else ((),)
    panels = third.steps if third else ((),)
    cells = {tuple(group[0].values.values()): group for group in result.groups}
    columns = 2 if len(panels) == 4 else min(len(panels), _MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    size = (4.3 if columns > 1 else 5.6) * columns + 2.0, 3.4 * rows + 0.6
    figure = Figure(figsize=size)
    grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    seeds = len(result.groups[0])
    scale, heights = _Scale(first, len(lines), apart=seeds > 1), list(references.values())
    for number, (panel, step) in enumerate(zip(grid, panels, strict=False)):
        for place, line in enumerate(lines):
            groups = [cells[(*x, *line, *step)] for x in first.steps]
            label = second.labels[place] if second else _ONLY_LINE
            heights += _line(panel, scale, groups, place, _look(place, second), label)
        for place, (name, percent) in enumerate(references.items()):
            dashes = _REFERENCE_DASHES[place % len(_REFERENCE_DASHES)]
            told = f"{name}, {percent:g} %"
            panel.axhline(percent, color=INK, linewidth=1, linestyle=dashes, label=told)
        scale.dress(panel, first.name)
        if third:
            panel.set_title(f"{third.name}: {third.labels[number]}", fontsize=10)
        if number % columns == 0:
            panel.set_ylabel("test accuracy (%)")
    for panel in grid[len(panels) :]:
        panel.set_axis_off()
    _limits(grid[0], heights)
    _legend(figure, grid[: len(panels)], second)
    spread = f", mean +- spread of {seeds} seeds" if seeds > 1 else ""
    figure.suptitle(f"{result.name}{spread}", fontsize=11)
    save(figure, path)
    return figure


def _line(
    axes: Axes,
    scale: _Scale,
    groups: Sequence[Sequence[CellResult]],
    line: int,
    look: dict[str, Any],
    label: str,
) -> list[float]:
    """Draw one line; the heights that it reaches."""
    places, means, spreads, failed = [], [], [], []
    for number in scale.order:
        found = [cell.result.last for cell in groups[number] if cell.result is not None]
        places.append(scale.place(number, line))
        if len(found) < len(groups[number]):
            failed.append(places[-1])
        # A gap where nothing was learned: a line across it would claim an accuracy there.
        means.append(statistics.mean(found) if found else math.nan)
        spreads.append(statistics.stdev(found) if len(found) > 1 else 0.0)
    if not scale.connected:
        look = look | {"linestyle": "none"}
    # A spread of trainings that learn or do not says nothing of accuracies beyond the possible.
    bars = [
        [min(s, m) for m, s in zip(means, spreads, strict=True)],
        [min(s, 100.0 - m) for m, s in zip(means, spreads, strict=True)],
    ]
    axes.errorbar(
        places,
        means,
        yerr=bars if any(spreads) else None,
        label=label,
        markersize=5,
        capsize=2,
        **look,
    )
    if failed:
        axes.plot(
            failed,
            [0.02] * len(failed),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="x",
            markersize=7,
            markeredgewidth=1.8,
            color=look["color"],
            clip_on=False,
            zorder=4,
            label=_FAILED,
        )
    ends = [
        (m + above, m - below)
        for m, below, above in zip(means, *bars, strict=True)
        if not math.isnan(m)
    ]
    return [height for pair in ends for height in pair]


def _look(place: int, axis: Axis | None) -> dict[str, Any]:
    """Colour, dashes and marker of a line; numbers go from dark to light."""
    look = line_look(place)
    if axis is not None and axis.numbers is not None and len(axis.steps) > 2:
        ranks = sorted(axis.numbers)
        share = ranks.index(axis.numbers[place]) / (len(ranks) - 1)
        look["color"] = colormaps["viridis"](0.9 * share)
    return look


def _limits(axes: Axes, heights: Sequence[float]) -> None:
    """Limits around what is drawn, from 0 where it reaches down to chance."""
    if not heights:
        axes.set_ylim(0.0, 100.0)
        return
    low, high = min(heights), max(heights)
    margin = max(0.12 * (high - low), 0.5)
    bottom = low - margin if low - margin > 20.0 else 0.0
    axes.set_ylim(bottom, max(min(high + margin, 102.0 - 0.02 * bottom), high))


def _legend(figure: Figure, panels: Sequence[Axes], second: Axis | None) -> None:
    """Beside the panels, where it hides nothing; one line alone needs no name."""
    drawn = dict(zip(*panels[0].get_legend_handles_labels()[::-1], strict=True))
    entries: list[tuple[Any, str]] = []
    if second is not None:
        entries.append((_blank(), f"{second.name}:"))
        entries += [(drawn[label], label) for label in second.labels]
    named = [label for label in drawn if second is None or label not in second.labels]
    entries += [(drawn[label], label) for label in named if label != _ONLY_LINE]
    if any(line.get_label() == _FAILED for panel in panels for line in panel.get_lines()):
        mark = Line2D([], [], linestyle="none", marker="x", markeredgewidth=1.8, color=INK)
        entries.append((mark, "a seed failed"))
    if entries:
        handles, labels = zip(*entries, strict=True)
        figure.legend(handles, labels, loc="outside right center", fontsize=8)


def _blank() -> Line2D:
    """What stands before a heading of the legend."""
    return Line2D([], [], linestyle="none")
