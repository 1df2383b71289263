"""One style for all figures: labelled axes with units, told apart in grey too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

STYLES = {"train": "-", "validation": "--", "test": "-"}
COLOURS = {"train": "#9aa5b1", "validation": "#e08a1e", "test": "#1f4e79"}


def learning_curve(history: Sequence[dict[str, Any]], path: Path, *, title: str = "") -> None:
    """Accuracy and cost over the epochs, as a PNG (or whatever the path's suffix says).

    Args:
        history: rows of ``metrics.csv``, one per epoch.
        path: the file to write.
        title: above the figure.
    """
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    accuracy, cost = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) < 30 else None
    for split, style in STYLES.items():
        rows = [row for row in history if row[f"{split}_accuracy_percent"] is not None]
        if not rows:
            continue
        look: dict[str, Any] = {
            "linestyle": style,
            "color": COLOURS[split],
            "marker": marker,
            "markersize": 3,
            "label": split,
        }
        where = [row["epoch"] for row in rows]
        accuracy.plot(where, [row[f"{split}_accuracy_percent"] for row in rows], **look)
        cost.plot(where, [row[f"{split}_cost"] for row in rows], **look)
    accuracy.set_ylabel("accuracy (%)")
    cost.set_ylabel("cost per image")
    cost.set_yscale("log")
    for axes in (accuracy, cost):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    accuracy.legend(frameon=False)
    if title:
        figure.suptitle(title)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure beside its place and rename it there."""
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    figure.savefig(beside, dpi=150)
    beside.replace(path)
