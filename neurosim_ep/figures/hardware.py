"""Figures of ideal against analog accuracy, in the style of `neurosim_ep.plots`."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neurosim_ep.plots import (
    ACCENT,
    BAR,
    DARK,
    INK,
    LIGHT,
    THIRD,
    WIDTHS_INCH,
    bar_look,
    line_look,
    save,
    style,
)

Accuracies = Sequence[float]
"""Of several chips or networks, in percent."""

# Lines across the figure, in the order in which they are given.
_LEVELS = ((ACCENT, "--"), (THIRD, ":"))
_UNITS = (("year", 365 * 86_400.0), ("day", 86_400.0), ("h", 3_600.0), ("min", 60.0))


def duration(time_s: float) -> str:
    """A time in its largest unit."""
    for name, unit_s in _UNITS:
        if time_s >= unit_s:
            number = f"{time_s / unit_s:.3g}"
            plural = "s" if name in ("year", "day") and number != "1" else ""
            return f"{number} {name}{plural}"
    return f"{time_s:.3g} s"


def after(time_s: float) -> str:
    """How long after programming."""
    return f"{duration(time_s) if time_s > 0.0 else 'right'} after programming"


def signed(points: float) -> str:
    """A change in points, without a negative zero."""
    return f"{round(points, 2) + 0.0:+.2f}"


def label(nonideality: str) -> str:
    """How a nonideality is called in figures and tables."""
    words = nonideality.split("_")
    return " ".join(word.upper() if word in ("dac", "adc") else word for word in words)


@style()
def accuracy_bars(
    lines: Mapping[str, Accuracies],
    devices: Mapping[str, Mapping[str, Accuracies]],
    path: Path | None = None,
    *,
    title: str = "",
) -> Figure:
    """Accuracies without hardware as lines, each device's as a group of bars.

    Args:
        lines: of exact networks, by label.
        devices: of each device's chips, by what was done with them; where nothing came of it, as by
            diverging, the list is empty.
        path: the file to write; None writes none.
        title: above the figure.
    """
    # In the order of the device that has most of them.
    groups = sorted(devices.values(), key=len, reverse=True)
    kinds = list(dict.fromkeys(kind for bars in groups for kind in bars))
    slanted = len(devices) > 4
    width = (0.54 if slanted else 0.8) * len(devices) * max(1.0, 0.55 * len(kinds)) + 2.2
    figure = Figure(figsize=(max(WIDTHS_INCH["single"], width), 2.7))
    axes = figure.subplots()
    everything = [value for values in lines.values() for value in values]
    chips_named, wide = False, 0.65 if len(kinds) == 1 else 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        axes.add_patch(Rectangle((0.0, 0.0), 0.0, 0.0, label=kind, **bar_look(number)))
    for place, bars in enumerate(devices.values()):
        for number, (kind, values) in enumerate(bars.items()):
            where = place + (number - 0.5 * (len(bars) - 1)) * wide
            if not values:
                _above(axes, where, "failed")
                continue
            mean, deviation = statistics.mean(values), _deviation(values)
            everything += [*values, mean + deviation, mean - deviation]
            axes.bar(where, mean, 0.94 * wide, **bar_look(kinds.index(kind)))
            _chips(axes, where, 0.54 * wide, values, named=not chips_named)
            chips_named = chips_named or len(values) > 1
            _above(axes, where, f"{mean:.2f}" if len(kinds) < 3 else f"{mean:.1f}")
    for (name, values), (colour, dashes) in zip(lines.items(), _LEVELS, strict=False):
        mean = statistics.mean(values)
        axes.axhline(mean, color=colour, linestyle=dashes, label=f"{name}, {mean:.2f} %")
        if len(values) > 1:
            deviation = statistics.stdev(values)
            low, high = mean - deviation, mean + deviation
            axes.axhspan(low, high, color=colour, alpha=0.2, linewidth=0, zorder=0.5)
    _accuracy_axis(axes, everything, from_bars=True)
    _name_bars(axes, list(devices), slanted=slanted)
    return _finish(figure, axes, path, title)


@style()
def accuracy_over_time(
    ideal: Accuracies,
    devices: Mapping[str, Mapping[float, Accuracies]],
    path: Path | None = None,
    *,
    title: str = "",
) -> Figure:
    """Accuracy over the time since programming, one line per device.

    Args:
        ideal: of the exact networks.
        devices: accuracies of each device's chips by time in seconds, ascending.
        path: the file to write; None writes none.
        title: above the figure.
    """
    figure = Figure(figsize=(5.4, 2.7))
    axes = figure.subplots()
    times = sorted({time_s for by_time in devices.values() for time_s in by_time})
    later = [time_s for time_s in times if time_s > 0.0]
    # Time 0 has no place on a logarithmic axis: it stands a decade before the first time after it.
    start_s = min(later, default=1.0) / 10.0
    everything = list(ideal)
    for number, (name, by_time) in enumerate(devices.items()):
        means = [statistics.mean(values) for values in by_time.values()]
        spreads = [_deviation(values) for values in by_time.values()]
        everything += [m + s for m, s in zip(means, spreads, strict=True)]
        everything += [m - s for m, s in zip(means, spreads, strict=True)]
        # Set apart a little, so that the spreads do not hide one another.
        aside = 1.04 ** (number - 0.5 * (len(devices) - 1))
        axes.errorbar(
            [max(time_s, start_s) * aside for time_s in by_time],
            means,
            yerr=spreads if any(spreads) else None,
            label=name,
            **line_look(number),
        )
    mean = statistics.mean(ideal)
    axes.axhline(mean, color=INK, linewidth=1, linestyle=(0, (6, 2)), label=f"ideal, {mean:.2f} %")
    axes.set_xscale("log")
    axes.set_xticks([max(t, start_s) for t in times], [duration(t) for t in times])
    axes.minorticks_off()
    axes.set_xlabel("time since programming")
    _accuracy_axis(axes, everything)
    return _finish(figure, axes, path, title)


@style()
def waterfall(
    ideal: float,
    analog: Accuracies,
    steps: Sequence[tuple[str, float]],
    alone: Mapping[str, float],
    off: Mapping[str, float],
    path: Path | None = None,
    *,
    title: str = "",
) -> Figure:
    """From ideal down to analog accuracy, one nonideality after another.

    Args:
        ideal: accuracy of the exact networks, in percent.
        analog: of the chips with everything.
        steps: each nonideality, and how many points it loses on top of those before it.
        alone: accuracy with a nonideality alone, in percent.
        off: accuracy with all but a nonideality, in percent.
        path: the file to write; None writes none.
        title: above the figure.
    """
    figure = Figure(figsize=(max(4.3, 0.68 * len(steps) + 2.5), 3.0))
    axes = figure.subplots()
    names = ["ideal", *(label(name) for name, _ in steps), "analog"]
    levels = [ideal]
    for _, points in steps:
        levels.append(levels[-1] - points)
    everything = [*levels, *analog, *alone.values(), *off.values()]
    for place, level in ((0, ideal), (len(steps) + 1, levels[-1])):
        axes.bar(place, level, 0.7, color=BAR, edgecolor=DARK)
        _above(axes, place, f"{level:.2f}")
    _chips(axes, len(steps) + 1, 0.35, analog)
    for place, (before, after) in enumerate(itertools.pairwise(levels), start=1):
        gain: dict[str, Any] = {"color": LIGHT, "edgecolor": DARK}
        if after > before:
            gain |= {"color": "white", "hatch": "//"}
        axes.bar(place, after - before, 0.7, bottom=before, **gain)
        _above(axes, place, signed(after - before))
    for place, level in enumerate(levels):
        axes.plot([place - 0.35, place + 1.35], [level, level], color=INK, linewidth=0.8)
    place_of = {name: place for place, (name, _) in enumerate(steps, start=1)}
    for legend, marker, filled, where, side in (
        ("this one alone", "v", True, alone, -0.15),
        ("all but this one", "^", False, off, 0.15),
    ):
        axes.plot(
            [place_of[name] + side for name in where],
            list(where.values()),
            linestyle="none",
            marker=marker,
            markersize=5,
            color=ACCENT,
            markeredgecolor=INK,
            markerfacecolor=ACCENT if filled else "white",
            label=legend,
        )
    _accuracy_axis(axes, everything, from_bars=True)
    _name_bars(axes, names, slanted=True)
    return _finish(figure, axes, path, title)


def _chips(
    axes: Axes, where: float, width: float, values: Accuracies, *, named: bool = True
) -> None:
    """Mean and spread as an error bar, each chip as a dot beside it."""
    if len(values) < 2:
        return
    axes.errorbar(
        where, statistics.mean(values), yerr=_deviation(values), color=INK, capsize=2, linewidth=1
    )
    step = width / len(values)
    places = [where + (n - 0.5 * (len(values) - 1)) * step for n in range(len(values))]
    axes.plot(
        places, values, linestyle="none", marker="o", markersize=2.5, color="white",
        markeredgecolor=INK, markeredgewidth=0.7, label="each chip" if named else "_",
    )  # fmt: skip


def _above(axes: Axes, place: float, text: str) -> None:
    """A number in the row above the bars."""
    at = axes.get_xaxis_transform()
    axes.text(place, 1.01, text, transform=at, ha="center", va="bottom", fontsize="small")


def _name_bars(axes: Axes, names: Sequence[str], *, slanted: bool) -> None:
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0)
    if slanted:
        axes.tick_params(axis="x", labelrotation=30)
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")


def _deviation(values: Accuracies) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _accuracy_axis(axes: Axes, values: Accuracies, *, from_bars: bool = False) -> None:
    """Limits around the values; bars that do not start at 0 say so."""
    low, high = min(values), max(values)
    margin = max(0.15 * (high - low), 0.5)
    bottom = low - margin if low - margin > 20.0 else 0.0
    top = min(high + margin, 102.0 - 0.02 * bottom)
    axes.set_ylim(bottom, max(top, high))
    cut = from_bars and bottom > 0.0
    axes.set_ylabel("test accuracy (%)" + ("\n(bars do not start at 0)" if cut else ""))


def _finish(figure: Figure, axes: Axes, path: Path | None, title: str) -> Figure:
    axes.grid(visible=False, axis="x")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(title)
    save(figure, path)
    return figure
