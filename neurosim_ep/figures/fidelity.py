"""The fidelity report's figure: one panel per knob, the joint grid, and the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from neurosim_ep._toml_text import problem
from neurosim_ep.plots import ACCENT, DARK, INK, WIDTHS_INCH, save, style

if TYPE_CHECKING:
    from neurosim_ep.experiments.fidelity.report import FidelityReport
    from neurosim_ep.experiments.fidelity.settings import Point, Sweep

# Told apart by dash and marker in grey: full reads solid, delta reads dashed, exact reads dotted.
_LOOKS: dict[str, dict[str, Any]] = {
    "full": {"color": DARK, "linestyle": "-", "marker": "o"},
    "delta": {"color": ACCENT, "linestyle": "--", "marker": "s"},
    "exact": {"color": "#6b7580", "linestyle": ":", "marker": "x"},
}
HEADINGS = {
    "beta": "nudging beta",
    "free_iterations": "free iterations",
    "nudged_iterations": "nudged iterations",
    "adc_bits": "ADC bits",
    "dac_bits": "DAC bits",
    "read_noise_scale": "read noise, times the card's",
}
"""Axis label of every sweep."""
_SMALLEST_SPAN = 0.1
_LOGARITHMIC = ("beta", "free_iterations", "nudged_iterations")


@style(10.0)
def fidelity_figure(report: FidelityReport, path: Path | None = None) -> Figure:
    """Cosines to the linear response as a PNG (or whatever the path's suffix says).

    Args:
        report: what was measured.
        path: the file to write; None writes none.
    """
    figure = Figure(figsize=(13.0, 6.6))
    panels = list(figure.subplots(2, 4).flat)
    for axes, sweep in zip(panels, report.sweeps, strict=False):
        _sweep(axes, sweep, HEADINGS[sweep.name])
    for axes in panels[len(report.sweeps) : -2]:
        axes.set_axis_off()
    _joint(panels[-2], report)
    _layers(panels[-1], report)
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    own = report.own
    figure.suptitle(
        f"{report.title} on {report.device.name}, array {report.array.name}: cosine of the "
        "contrastive gradient to the linear response of the weights as programmed\n"
        f"(own setting: beta {own.beta:g}, "
        f"{own.free_iterations} free and {own.nudged_iterations} nudged iterations, {own.reads} "
        "reads; it is the dotted vertical line)",
        fontsize=11,
    )
    save(figure, path)
    return figure


@style()
def knob_figure(
    reports: Mapping[str, FidelityReport], name: str, path: Path | None = None
) -> Figure:
    """Cosines to the linear response over one knob, one panel per report.

    Args:
        reports: by title.
        name: of a sweep, such as ``beta``.
        path: the file to write; None writes none.

    Raises:
        ValueError: if a report has no such sweep.
    """
    figure = Figure(figsize=(WIDTHS_INCH["double"] if len(reports) > 1 else 4.6, 3.3))
    panels = figure.subplots(1, len(reports), squeeze=False, sharey=True)[0]
    for axes, (title, report) in zip(panels, reports.items(), strict=True):
        sweeps = {sweep.name: sweep for sweep in report.sweeps}
        if name not in sweeps:
            raise ValueError(problem("name", name, f"one of {', '.join(sweeps)}"))
        chosen = report.recommendation.point.setting
        place = getattr(chosen, name)
        if place is not None:
            axes.axvline(place, color=INK, linewidth=1.0, linestyle="--", label="recommended")
            title += f"\n(recommended: {place:g}, {chosen.reads} reads)"
        _sweep(axes, sweeps[name], HEADINGS[name], "own setting")
        axes.set_ylabel("cosine to the linear response" if axes is panels[0] else "")
        axes.set_title(title)
    # The panels share an axis, which only knows its limits when all of them are drawn.
    _limits(panels[0], min(axes.dataLim.y0 for axes in panels))
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3 if len(panels) > 1 else 2)
    save(figure, path)
    return figure


def _sweep(axes: Axes, sweep: Sweep, heading: str, own: str = "_") -> None:
    for reads, points in sweep.chip.items():
        _line(axes, sweep.values, points, reads, f"{reads} reads")
    if sweep.exact:
        _line(axes, sweep.values, sweep.exact, "exact", "exact reads, no arrays")
    if sweep.own is not None:
        axes.axvline(sweep.own, color="black", linewidth=0.8, linestyle=":", label=own)
    if sweep.name in _LOGARITHMIC:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(sweep.values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{value:g}" for value in sweep.values], fontsize=8)
    _finish(axes, heading)


def _line(
    axes: Axes, values: Sequence[float], points: Sequence[Point], kind: str, label: str
) -> None:
    """Worst layer as a marked line with its spread, all weights as a pale one."""
    look, colour = _LOOKS[kind], _LOOKS[kind]["color"]
    reference = "intended" if kind == "exact" else "programmed"
    worst = [point.mean_and_spread(lambda f: f.worst, reference) for point in points]
    shown = [(v, w) for v, w in zip(values, worst, strict=True) if w is not None]
    axes.errorbar(
        [value for value, _ in shown],
        [w[0] for _, w in shown],
        # No cosine lies beyond 1, whatever the spread of a few draws says.
        [[w[1] for _, w in shown], [min(w[1], max(1.0 - w[0], 0.0)) for _, w in shown]],
        markersize=4,
        capsize=2,
        label=f"{label}: worst layer",
        **look,
    )
    if kind == "exact":
        return
    everything = [point.mean_and_spread(lambda f: f.cosine) for point in points]
    pale = [(v, w[0]) for v, w in zip(values, everything, strict=True) if w is not None]
    axes.plot(
        [value for value, _ in pale],
        [cosine for _, cosine in pale],
        color=colour,
        alpha=0.45,
        linewidth=1.0,
        linestyle=look["linestyle"],
        label=f"{label}: all weights",
    )


def _joint(axes: Axes, report: FidelityReport) -> None:
    """Best beta of every number of iterations, and the recommended setting."""
    expense = {p.setting: p.setting.iterations(report.nudged_phases) for p in report.joint}
    for reads in ("full", "delta"):
        best: dict[int, float] = {}
        for point in report.joint:
            cosine, count = point.worst(), expense[point.setting]
            if point.setting.reads == reads and cosine is not None:
                best[count] = max(best.get(count, -1.0), cosine)
        look = _LOOKS[reads]
        counts = sorted(best)
        axes.plot(counts, [best[count] for count in counts], markersize=4, **look)
    chosen = report.recommendation
    height = chosen.point.worst()
    assert height is not None
    axes.plot(
        [expense[chosen.point.setting]],
        [height],
        marker="*",
        markersize=15,
        color="black",
        markerfacecolor="none",
        linestyle="none",
    )
    axes.set_xscale("log")
    counts = sorted(set(expense.values()))
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(count) for count in counts], fontsize=8)
    axes.set_title(f"worst layer, best beta (star: beta {chosen.point.setting.beta:g})", fontsize=9)
    _finish(axes, "iterations of one gradient")


def _layers(axes: Axes, report: FidelityReport) -> None:
    """Both references, layer by layer, at the own setting."""
    places = range(len(report.layers))
    beta = next(sweep for sweep in report.sweeps if sweep.name == "beta")
    for reads in ("full", "delta"):
        point = beta.chip[reads][beta.values.index(report.own.beta)]
        for reference, filled in (("programmed", True), ("intended", False)):
            found = [point.of_layer(n, reference) for n in places]
            shown = [(n, cosine) for n, cosine in enumerate(found) if cosine is not None]
            look = _LOOKS[reads] | ({} if filled else {"markerfacecolor": "none"})
            if not filled:
                look |= {"alpha": 0.6}
            axes.errorbar(
                [n for n, _ in shown],
                [c[0] for _, c in shown],
                [c[1] for _, c in shown],
                markersize=5,
                capsize=2,
                **look,
            )
    axes.set_xticks(list(places), report.layers, fontsize=8, rotation=0 if len(places) < 6 else 90)
    axes.set_title("own setting (open: to the intended)", fontsize=9)
    _finish(axes, "layer (pre -> post)")


def _finish(axes: Axes, heading: str) -> None:
    """Labels, and limits that neither blow small differences up nor go beyond a cosine."""
    axes.set_xlabel(heading)
    axes.set_ylabel("cosine")
    _limits(axes, axes.dataLim.y0)


def _limits(axes: Axes, lowest: float) -> None:
    low = max(lowest - 0.03 * (1.0 - lowest), -1.05) if isfinite(lowest) else -1.05
    low = min(low, 1.0 - _SMALLEST_SPAN)
    axes.set_ylim(low, 1.0 + 0.03 * (1.0 - low))
