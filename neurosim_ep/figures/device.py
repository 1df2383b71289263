"""Figures of device cards and of fits, in the style of `neurosim_ep.plots`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurosim_ep.devices import DeviceCard
from neurosim_ep.devices.curves import (
    DriftCurve,
    LevelCurve,
    PulseCurve,
    ReadNoiseCurve,
    drift_curve,
    level_curve,
    pulse_curve,
    read_noise_curve,
)
from neurosim_ep.devices.fitting import PulseFit
from neurosim_ep.plots import ACCENT, DARK, GREY, WIDTHS_INCH, save, style

TERM_STYLES = ("--", ":", "-.", (0, (5, 1)), (0, (1, 3)), (0, (3, 1, 1, 1)))
HISTOGRAM_BINS = 160
SHOWN_TRAINS = 4
IDEAL = {
    "pulses": "ideal: no pulse response in the card",
    "levels": "ideal: every target is reached",
    "drift": "ideal: the conductance stays",
    "reads": "ideal: no read noise",
}


@style()
def device_curves(card: DeviceCard, path: Path | None = None, *, seed: int = 0) -> Figure:
    """Pulses, levels, drift and read noise of a card, as a PNG or whatever the suffix says.

    Args:
        card: the kind of device.
        path: the file to write; None writes none.
        seed: of the devices that are drawn.
    """
    figure = Figure(figsize=(WIDTHS_INCH["double"], 5.0))
    (pulses, levels), (drift, reads) = figure.subplots(2, 2)
    unit = _Unit(card.window.g_max_siemens)
    _draw_pulses(pulses, pulse_curve(card, seed), unit)
    _draw_levels(levels, level_curve(card, seed), unit)
    _draw_drift(drift, drift_curve(card, seed), unit)
    _draw_reads(reads, read_noise_curve(card, seed), unit)
    figure.suptitle(card.name)
    save(figure, path)
    return figure


@style()
def fit_curves(fit: PulseFit, path: Path | None = None) -> Figure:
    """Measured trains against the fitted curves, and measured steps against the mean step.

    Args:
        fit: of `fit_pulse_response`.
        path: the file to write; None writes none.
    """
    figure = Figure(figsize=(WIDTHS_INCH["double"], 3.2))
    curves, steps = figure.subplots(1, 2, width_ratios=(3, 2))
    unit = _Unit(fit.g_max_siemens)
    start = 0
    for index, (train, curve) in enumerate(zip(fit.data.trains, fit.curves_siemens, strict=True)):
        if index == SHOWN_TRAINS:
            break
        pulse = start + np.arange(train.up.size)
        start = int(pulse[-1]) + 1
        first = index == 0
        measured = unit.scale * train.conductance_siemens
        curves.plot(pulse, measured, ".", color=GREY, ms=4, label="measured" if first else None)
        label = f"fitted: {fit.model}" if first else None
        curves.plot(pulse, unit.scale * curve, "-", color="black", lw=1.2, label=label)
    for bound in (fit.g_min_siemens, fit.g_max_siemens):
        curves.axhline(unit.scale * bound, color="black", lw=0.7, ls=":")
    curves.set_xlabel("pulse" if len(fit.data.trains) == 1 else "pulse, one train after another")
    curves.set_ylabel(f"conductance ({unit.name})")
    more = len(fit.data.trains) - SHOWN_TRAINS
    shown = f"first {SHOWN_TRAINS} of {len(fit.data.trains)} trains, " if more > 0 else ""
    curves.set_title(f"{shown}predicted from their start alone: R$^2$ = {fit.curve_r_squared:.4f}")
    _draw_steps(steps, fit, unit)
    figure.legend(loc="outside lower center", ncols=4)
    figure.suptitle(f"{fit.data.source}: {fit.data.pulses} pulses")
    save(figure, path)
    return figure


class _Unit:
    """The unit of conductance that gives readable numbers."""

    def __init__(self, largest_siemens: float) -> None:
        choices = (("nS", 1e9), ("µS", 1e6), ("mS", 1e3), ("S", 1.0))
        fitting = [c for c in choices if largest_siemens * c[1] < 1000.0]
        self.name, self.scale = fitting[0] if fitting else choices[-1]


def _draw_pulses(axes: Axes, curve: PulseCurve | None, unit: _Unit) -> None:
    both = curve is None or curve.up_pulses < len(curve.mean_siemens) - 1
    axes.set_title("pulses: up, then down" if both else "pulses: up")
    axes.set_xlabel("pulse")
    axes.set_ylabel(f"conductance ({unit.name})")
    if curve is None:
        _say(axes, IDEAL["pulses"])
        return
    for index, device in enumerate(curve.devices_siemens.numpy()):
        label = "devices" if index == 0 else None
        axes.plot(unit.scale * device, color=GREY, lw=0.7, label=label)
    axes.plot(unit.scale * curve.mean_siemens.numpy(), color=DARK, lw=1.8, label="mean of all")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(loc="center right")


def _draw_levels(axes: Axes, curve: LevelCurve | None, unit: _Unit) -> None:
    axes.set_title("levels: targets (dotted) and what is reached")
    axes.set_xlabel(f"conductance ({unit.name})")
    axes.set_ylabel("devices per bin (%)")
    if curve is None:
        _say(axes, IDEAL["levels"])
        return
    reached = unit.scale * curve.reached_siemens.numpy()
    edges = np.linspace(reached.min(), reached.max(), HISTOGRAM_BINS + 1)
    for index, (target, values) in enumerate(zip(curve.target_siemens, reached, strict=True)):
        share = 100.0 * np.histogram(values, edges)[0] / values.size
        colour = (DARK, ACCENT)[index % 2]
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(share, edges, color=colour, lw=0.8)
        axes.axvline(unit.scale * float(target), color="black", lw=0.7, ls=":", zorder=0)
    axes.set_ylim(bottom=0.0)
    small = _Unit(curve.middle_sigma_siemens)
    sigma = f"sigma in the middle, nominal devices: {small.scale * curve.middle_sigma_siemens:.3g}"
    axes.set_title(f"levels: targets (dotted) and what is reached\n({sigma} {small.name})")


def _draw_drift(axes: Axes, curve: DriftCurve | None, unit: _Unit) -> None:
    axes.set_title("drift: mean and 10 to 90 % of the devices")
    axes.set_xlabel("time since programming (s)")
    axes.set_ylabel(f"conductance ({unit.name})")
    if curve is None:
        _say(axes, IDEAL["drift"])
        return
    time = curve.time_s.numpy()
    parts = zip(curve.mean_siemens, curve.low_siemens, curve.high_siemens, strict=True)
    for index, (mean, low, high) in enumerate(parts):
        colour = (DARK, ACCENT)[index % 2]
        low, high = unit.scale * low.numpy(), unit.scale * high.numpy()
        axes.fill_between(time, low, high, color=colour, alpha=0.25, lw=0)
        axes.plot(time, unit.scale * mean.numpy(), color=colour, ls=("-", "--")[index % 2], lw=1.6)
    axes.set_xscale("log")
    for seconds, name in ((3600.0, "hour"), (86_400.0, "day"), (3.156e7, "year")):
        axes.axvline(seconds, color="black", lw=0.6, ls=":")
        axes.annotate(
            name,
            (seconds, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, -2),
            textcoords="offset points",
            va="top",
            fontsize=6,
        )


def _draw_reads(axes: Axes, curve: ReadNoiseCurve | None, unit: _Unit) -> None:
    axes.set_title("read noise")
    axes.set_xlabel(f"conductance ({unit.name})")
    if curve is None:
        axes.set_ylabel(f"sigma ({unit.name})")
        _say(axes, IDEAL["reads"])
        return
    small = _Unit(float(curve.total_siemens.max()))
    axes.set_title(
        f"read noise at {curve.read_voltage_volt:g} V, {curve.time_s:g} s after programming"
    )
    axes.set_ylabel(f"sigma of one read ({small.name})")
    g = unit.scale * curve.conductance_siemens.numpy()
    if len(curve.sigma_siemens) > 1:
        total = small.scale * curve.total_siemens.numpy()
        axes.plot(g, total, color=GREY, lw=4, label="total")
    for (name, sigma), dashes in zip(curve.sigma_siemens.items(), TERM_STYLES, strict=False):
        axes.plot(g, small.scale * sigma.numpy(), color=DARK, ls=dashes, lw=1.5, label=name)
    axes.set_ylim(bottom=0.0)
    axes.legend()


def _draw_steps(axes: Axes, fit: PulseFit, unit: _Unit) -> None:
    kinds = ((True, DARK, "^", "-", "up"), (False, ACCENT, "v", "--", "down"))
    for up, colour, marker, dashes, label in kinds:
        before, change = [], []
        for train in fit.data.trains:
            chosen = train.up[1:] == up
            before.append(train.conductance_siemens[:-1][chosen])
            change.append(np.diff(train.conductance_siemens)[chosen])
        x, y = unit.scale * np.concatenate(before), unit.scale * np.concatenate(change)
        axes.plot(x, y, marker, color=colour, ms=2, alpha=0.3)
        g, step = fit.mean_steps(up)
        mean = f"mean step {label}"
        axes.plot(unit.scale * g, unit.scale * step, dashes, color=colour, lw=2.2, label=mean)
    axes.axhline(0.0, color="black", lw=0.7)
    axes.set_xlabel(f"conductance before the pulse ({unit.name})")
    axes.set_ylabel(f"step ({unit.name})")


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#555555")
    axes.set_xticks([])
    axes.set_yticks([])
