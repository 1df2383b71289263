"""Figures of devices that have learned, in the style of `neurosim_ep.plots`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurosim_ep.onchip.statistics import ChipStatistics, DeviceStatistics
from neurosim_ep.plots import ACCENT, BAR, DARK, INK, save, style

_NONE = -1.1
"""Place of the devices without a pulse, left of 2^0."""
_ROOM = 1.45
"""Height of an axis over its highest bar: the notes stand above."""


@style(10.0)
def pulse_histograms(
    statistics: ChipStatistics, path: Path | None = None, *, title: str = ""
) -> Figure:
    """Pulses per device, and where devices stand between their bounds; one row per edge.

    Args:
        statistics: of `pulse_statistics`.
        path: the file to write; None writes none.
        title: above the figure.
    """
    edges = statistics.edges
    figure = Figure(figsize=(8.6, 1.5 * len(edges) + 1.5))
    rows = figure.subplots(len(edges), 2, squeeze=False, sharex="col")
    most = max((len(edge.pulses.counts) for edge in edges if edge.pulses), default=0)
    for (pulses, states), edge in zip(rows, edges, strict=True):
        _draw_pulses(pulses, edge, most)
        _draw_states(states, edge)
        pulses.set_ylabel(f"{edge.name}\ndevices (%)")
        for axes in (pulses, states):
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.grid(visible=False, axis="x")
    rows[-1][0].set_xlabel("pulses per device")
    rows[-1][1].set_xlabel("state between the device's own bounds")
    figure.suptitle("\n".join(filter(None, [title, _caption(statistics)])), fontsize=10)
    save(figure, path)
    return figure


def _draw_pulses(axes: Axes, edge: DeviceStatistics, most: int) -> None:
    """Bins of a factor of two, with the devices without a pulse in front."""
    pulses = edge.pulses
    if pulses is None:
        _say(axes, "no pulses: the card has no pulse response")
        return
    shares = _percent([pulses.never, *pulses.counts], edge.devices)
    axes.bar(_NONE, shares[0], 0.9, color="white", edgecolor=DARK, hatch="//")
    axes.bar(np.arange(len(shares) - 1) + 0.5, shares[1:], 1.0, color=BAR, edgecolor=DARK)
    step = -(-most // 8) or 1
    places = list(range(0, most + 1, step))
    axes.set_xticks([_NONE, *places], ["none", *(_count(2**place) for place in places)])
    axes.set_xlim(_NONE - 0.6, most + 0.1)
    axes.set_ylim(0.0, _ROOM * shares.max())
    text = f"mean {_count(pulses.mean)}, most {_count(pulses.maximum)}"
    if pulses.mean >= 1.0:
        place, top = np.log2(pulses.mean), 1.1 / _ROOM
        axes.axvline(place, ymax=top, color=ACCENT, linestyle="--", linewidth=1.5)
        text = text.replace("mean", "mean (dashed)")
    if edge.endurance is not None:
        text += f"\nmost: {100.0 * edge.endurance.maximum_fraction:.2g} % of the endurance"
    _note(axes, text)


def _draw_states(axes: Axes, edge: DeviceStatistics) -> None:
    """Working devices between their lower and their upper bound."""
    working = sum(edge.positions)
    shares = _percent(edge.positions, working)
    borders = np.linspace(0.0, 1.0, len(shares) + 1)
    axes.stairs(shares, borders, fill=True, color=BAR)
    axes.stairs(shares, borders, color=DARK, linewidth=0.8)
    for bound in (0.0, 1.0):
        axes.axvline(bound, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xticks([0.0, 0.5, 1.0], ["lower\nbound", "middle", "upper\nbound"])
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(0.0, _ROOM * max(shares.max(), 1.0))
    text = f"stuck {100.0 * edge.stuck_fraction:.2g} %"
    if edge.at_lower_fraction is not None and edge.at_upper_fraction is not None:
        lower, upper = (100.0 * share for share in (edge.at_lower_fraction, edge.at_upper_fraction))
        text = f"at the lower bound {lower:.2g} %, the upper {upper:.2g} %\n{text}"
    _note(axes, text)


def _caption(statistics: ChipStatistics) -> str:
    total, images = statistics.total, f"{statistics.images:,} training images"
    if total.pulses is None:
        return f"{total.devices:,} devices, {images}"
    rate = f"{total.pulses.per_image_mean:.2g} pulses per device and image"
    return f"{total.devices:,} devices, {images}: {rate}"


def _percent(counts: Sequence[int], of: int) -> np.ndarray:
    return 100.0 * np.asarray(counts, dtype=float) / max(of, 1)


def _count(number: float) -> str:
    """A number of pulses, short."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            unit = size if name != "k" else 1e3
            return f"{number / unit:.3g}{name}"
    return f"{number:.4g}" if number >= 1000 else f"{number:.3g}"


def _note(axes: Axes, text: str) -> None:
    axes.text(
        0.96, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=INK
    )


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#555555")
    axes.set_xticks([])
    axes.set_yticks([])
