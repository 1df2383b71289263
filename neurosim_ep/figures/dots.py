"""Accuracies of many devices as dots, in two panels: all of them, and the upper end enlarged."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim_ep.figures.hardware import Accuracies
from neurosim_ep.plots import ACCENT, DARK, INK, WIDTHS_INCH, save, style

_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": DARK, "marker": "o", "markerfacecolor": DARK},
    {"color": ACCENT, "marker": "s", "markerfacecolor": "white"},
    {"color": INK, "marker": "^", "markerfacecolor": "white"},
)
_APART = 0.28
"""Between the dots of one device, in rows."""


@style()
def accuracy_dots(
    lines: Mapping[str, Accuracies],
    devices: Mapping[str, Mapping[str, Accuracies]],
    path: Path | None = None,
    *,
    from_percent: float = 90.0,
    title: str = "",
) -> Figure:
    """Accuracies of each device's chips in a row of dots, in two panels: all, and the upper end.

    A dot is the mean over the chips, its bar their sample standard deviation, small dots the chips.

    Args:
        lines: of networks without hardware, by label; mean and spread as a line and a band.
        devices: of each device's chips, by what was done with them; at most three kinds.
        path: the file to write; None writes none.
        from_percent: where the enlarged panel begins.
        title: above the figure.
    """
    kinds = list(dict.fromkeys(kind for dots in devices.values() for kind in dots))
    height = 0.16 * len(devices) * max(1.0, 0.75 * len(kinds)) + 1.1
    figure = Figure(figsize=(WIDTHS_INCH["double"], height))
    panels = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    for axes in panels:
        for label, values in lines.items():
            _line(axes, label, values)
        for row, dots in enumerate(devices.values()):
            for kind, values in dots.items():
                number = kinds.index(kind)
                _dots(axes, row + _APART * (number - 0.5 * (len(kinds) - 1)), values, number, kind)
        axes.set_xlabel("test accuracy (%)")
        axes.grid(visible=True, axis="y", alpha=0.15)
    panels[0].set_yticks(range(len(devices)), list(devices))
    panels[0].set_ylim(len(devices) - 0.4, -0.6)
    panels[0].set_xlim(0.0, 101.5)
    panels[1].set_xlim(from_percent, 100.0 + 0.015 * (100.0 - from_percent))
    panels[0].set_title("(a) whole range", loc="left")
    panels[1].set_title(f"(b) from {from_percent:g} %, enlarged", loc="left")
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    handles, labels = panels[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
    figure.suptitle(title)
    save(figure, path)
    return figure


def _line(axes: Axes, label: str, values: Accuracies) -> None:
    mean = statistics.mean(values)
    axes.axvline(mean, color=INK, linestyle="--", linewidth=1.0, label=f"{label}, {mean:.2f} %")
    if len(values) > 1:
        deviation = statistics.stdev(values)
        axes.axvspan(mean - deviation, mean + deviation, color=INK, alpha=0.15, linewidth=0)


def _dots(axes: Axes, height: float, values: Accuracies, number: int, label: str) -> None:
    look, mean = _LOOKS[number], statistics.mean(values)
    if len(values) > 1:
        axes.plot(
            values, [height] * len(values), ".", markersize=2.5, color=look["color"], alpha=0.5
        )
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    axes.errorbar(
        mean,
        height,
        xerr=deviation or None,
        linestyle="none",
        markersize=4.5,
        label=label,
        **look,
    )
