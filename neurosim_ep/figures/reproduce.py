"""Figures 2, 3 and 4 of arXiv 2509.26003 from recorded runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from neurosim_ep.plots import ACCENT, DARK, LIGHT, THIRD, save, style

if TYPE_CHECKING:
    from neurosim_ep.experiments.reproduce.outcomes import Row
    from neurosim_ep.experiments.reproduce.weights import LayerWeights

_MARKED_EPOCHS = 40
"""Runs with fewer epochs get a marker at each."""
_NETWORKS = {"vgg5": "VGG5", "hopfield-resnet13": "Hopfield-Resnet13"}
_SKIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "skip": ("with skip connections", {"color": DARK, "linestyle": "-", "marker": "o"}),
    "no-skip": ("without", {"color": ACCENT, "linestyle": "--", "marker": "s"}),
}
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu1": ("ReLU1", {"color": ACCENT, "marker": "s"}),
    "relu6": ("ReLU6", {"color": DARK, "marker": "o"}),
    "relu-alpha": ("ReLU-alpha", {"color": THIRD, "marker": "^"}),
}
_AUGMENTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "basic": ("flip, crop", {"linestyle": "--", "markerfacecolor": "white"}),
    "randaugment": ("flip, crop, RandAugment", {"linestyle": "-"}),
}


@style(10.0)
def loss_figure(rows: Sequence[Row], path: Path | None = None, *, title: str) -> Figure:
    """Test loss over epochs with and without skip connections (Figure 2).

    Args:
        rows: of the target ``fig2``; those that no epoch has been trained of are left out.
        path: the file to write; its suffix says the format; None writes none.
        title: above the figure.
    """
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.subplots()
    for row in rows:
        label, look = _SKIPS[_word(row, _SKIPS)]
        _line(axes, row, lambda epoch: epoch["test_cost"], label, look)
    axes.set_ylabel("test loss per image (squared error)")
    _dress(axes)
    axes.legend()
    figure.suptitle(_with_seeds(title, rows), fontsize=10)
    save(figure, path)
    return figure


@style(10.0)
def error_figure(rows: Sequence[Row], path: Path | None = None, *, title: str) -> Figure:
    """Test error over epochs by activation and augmentation, one panel per network (Figure 3).

    Args:
        rows: of the target ``fig3``; those that no epoch has been trained of are left out.
        path: the file to write; its suffix says the format; None writes none.
        title: above the figure.
    """
    panels = [name for name in _NETWORKS if any(name in row.entry.words for row in rows)]
    figure = Figure(figsize=(4.4 * len(panels) + 2.4, 4.0))
    grid = list(figure.subplots(1, len(panels), sharey=True, squeeze=False).flat)
    drawn: dict[str, Any] = {}
    for axes, network in zip(grid, panels, strict=True):
        for row in (row for row in rows if network in row.entry.words):
            activation, colours = _ACTIVATIONS[_word(row, _ACTIVATIONS)]
            augmentation, dashes = _AUGMENTATIONS[_word(row, _AUGMENTATIONS)]
            label = f"{activation}; {augmentation}"
            line = _line(axes, row, _error_percent, label, colours | dashes)
            if line is not None:
                drawn.setdefault(label, line)
        axes.set_title(_NETWORKS[network], fontsize=10)
        axes.set_yscale("log")
        _dress(axes)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    grid[0].set_ylabel("test error (%), log scale")
    figure.legend(drawn.values(), drawn.keys(), loc="outside right center", fontsize=8)
    figure.suptitle(_with_seeds(title, rows), fontsize=10)
    save(figure, path)
    return figure


@style(10.0)
def weights_figure(
    bp: Sequence[LayerWeights], ep: Sequence[LayerWeights], path: Path | None = None, *, title: str
) -> Figure:
    """Weights of each edge by backpropagation and by centered EP (Figure 4).

    Boxes hold the middle half, whiskers the middle 98 %.

    Args:
        bp, ep: of the first seed's network; either may be empty.
        path: the file to write; its suffix says the format; None writes none.
        title: above the figure.
    """
    figure = Figure(figsize=(9.6, 4.6))
    axes = figure.subplots()
    ways: tuple[tuple[str, Sequence[LayerWeights], float, dict[str, Any]], ...] = (
        ("backpropagation", bp, -0.19, {"facecolor": LIGHT, "hatch": "////"}),
        ("centered EP", ep, 0.19, {"facecolor": "#5b87b0"}),
    )
    handles = []
    for label, layers, beside, look in ways:
        if not layers:
            continue
        boxes = [
            dict(zip(("whislo", "q1", "med", "q3", "whishi"), layer.quantiles, strict=True))
            for layer in layers
        ]
        axes.bxp(
            boxes,
            positions=[layer.edge + beside for layer in layers],
            widths=0.32,
            showfliers=False,
            manage_ticks=False,
            patch_artist=True,
            boxprops=look | {"edgecolor": DARK},
            medianprops={"color": "black", "linewidth": 1.6},
            whiskerprops={"color": DARK},
            capprops={"color": DARK},
        )
        handles.append(Patch(label=label, **look, edgecolor=DARK))
    named = bp or ep
    axes.set_xticks(
        [layer.edge for layer in named],
        [f"{layer.name}\n(skip)" if layer.skip else layer.name for layer in named],
        rotation=45,
        ha="right",
        fontsize=8,
    )
    axes.set_xlabel("edge: from layer to layer, kernel; input to output")
    axes.set_ylabel("weight (boxes 25 to 75 %, whiskers 1 to 99 %)")
    axes.grid(visible=False, axis="x")
    axes.legend(handles=handles)
    figure.suptitle(title, fontsize=10)
    save(figure, path)
    return figure


def _word(row: Row, known: dict[str, Any]) -> str:
    """The word of a row that is one of these."""
    return next(word for word in row.entry.words if word in known)


def _error_percent(epoch: dict[str, Any]) -> float:
    return 100.0 - float(epoch["test_accuracy_percent"])


def _line(
    axes: Axes,
    row: Row,
    value: Callable[[dict[str, Any]], float],
    label: str,
    look: dict[str, Any],
) -> Any:
    """Draw the mean over the seeds, and from the least to the most; nothing of an untrained row."""
    histories = [outcome.history for outcome in row.outcomes if outcome.history]
    if not histories:
        return None
    # As far as all of them came: a mean over fewer seeds would jump.
    epochs = [epoch["epoch"] for epoch in min(histories, key=len)]
    values = [[value(history[e - 1]) for history in histories] for e in epochs]
    look = dict(look)
    if len(epochs) > _MARKED_EPOCHS:
        look["markevery"] = max(len(epochs) // 10, 1)
    means = [statistics.mean(at) for at in values]
    (line,) = axes.plot(epochs, means, label=label, markersize=5, **look)
    if len(histories) > 1:
        low, high = [min(at) for at in values], [max(at) for at in values]
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.15, linewidth=0)
    return line


def _dress(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(which="both")


def _with_seeds(title: str, rows: Sequence[Row]) -> str:
    seeds = max(sum(1 for outcome in row.outcomes if outcome.history) for row in rows)
    return title + (f"; mean and range of {seeds} seeds" if seeds > 1 else "")
