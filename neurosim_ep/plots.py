"""One style for all figures: labelled axes with units, told apart in grey too, vector output.

Nothing is applied on import or for good: `style` holds inside a ``with`` block or one function.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurosim_ep._toml_text import problem

WIDTHS_INCH = {"single": 3.5, "double": 7.2}
"""Widths of one and two columns of a journal's page."""
FONT_SIZE_PT = 8.0
INK, DARK, BAR, LIGHT = "#333333", "#1f4e79", "#86a3be", "#d3dce5"
"""Text and thin lines; edges of bars; their faces, darker and lighter."""
ACCENT, THIRD, GREY = "#e08a1e", "#1f8a7d", "#9aa5b1"
PALETTE = (DARK, ACCENT, THIRD, "#b23a48", "#2b1d4d", "#b8c1cb")
"""Colours of lines: in grey each is 9 or more points of CIE lightness from the others."""
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
HATCHES = ("", "", "///", "xxx", "...", "\\\\\\")

# The same figure gives the same bytes: no dates, and no random numbers as names in SVG.
_DATES: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
_FILES: Any = {  # Any: matplotlib types every name of a setting.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "neurosim_ep",
}
_SHOWN_DPI, _SCREEN_DPI = 200, 110


def line_look(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of a figure's line number 0, 1, ...; apart in grey too."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def bar_look(number: int) -> dict[str, Any]:
    """Face, edge and hatch of bar number 0, 1, ... of a group; apart in grey too."""
    place = number % len(HATCHES)
    face = (BAR, LIGHT)[place] if place < 2 else "white"
    return {"facecolor": face, "edgecolor": DARK, "hatch": HATCHES[place]}


@contextmanager
def style(font_size_pt: float = FONT_SIZE_PT) -> Iterator[None]:
    """The style, inside a ``with`` block or as a function's decorator ``@style()``.

    Args:
        font_size_pt: of text at the figure's own size; 8 at the width of a column, more for figures
            that print scales down.
    """
    small = 0.9 * font_size_pt
    settings: Any = {
        "font.size": font_size_pt,
        "axes.titlesize": font_size_pt,
        "axes.labelsize": font_size_pt,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.fontsize": small,
        "figure.titlesize": 1.1 * font_size_pt,
        "lines.linewidth": 1.4,
        "lines.markersize": 4.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.3,
        "axes.prop_cycle": cycler(color=PALETTE),
        "hatch.linewidth": 0.8,
        "errorbar.capsize": 2.0,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(settings | _FILES):
        yield


def canvas(width: Literal["single", "double"] = "single", height_inch: float = 2.4) -> Figure:
    """An empty figure as wide as one or two columns; inside `style`, with its layout."""
    return Figure(figsize=(WIDTHS_INCH[width], height_inch))


def save(figure: Figure, path: Path | None, *, dpi: int = 200) -> None:
    """Write a figure beside its place and rename it there; the same figure gives the same bytes.

    Args:
        figure: what to write.
        path: the file; its suffix says the format, vectors for ``.pdf`` and ``.svg``, in which
            fonts are embedded; None writes nothing.
        dpi: of formats that hold pixels.
    """
    if path is None:
        return
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    with mpl.rc_context(_FILES):
        figure.savefig(beside, dpi=dpi, metadata=_DATES.get(path.suffix))
    beside.replace(path)


@dataclass(frozen=True)
class Picture:
    """What a notebook shows of a figure.

    Attributes:
        png: the picture.
        width_px: of the picture on a screen.
        says: the files, and the labels of every axes.
    """

    png: bytes
    width_px: int
    says: str

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        return self.png, {"width": self.width_px}

    def __repr__(self) -> str:
        return self.says


def publish(
    figure: Figure, path: str | Path, suffixes: Sequence[str] = (".pdf", ".svg")
) -> Picture:
    """Write a figure of labelled axes as vectors, and return what a notebook shows of it.

    Args:
        figure: what to write.
        path: the files without a suffix; missing folders are made.
        suffixes: the formats.

    Raises:
        ValueError: an axis has neither a label nor words at its ticks.
    """
    labels = axis_labels(figure)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        save(figure, path.with_name(path.name + suffix))
    buffer = io.BytesIO()
    with mpl.rc_context(_FILES):
        figure.savefig(buffer, dpi=_SHOWN_DPI, format="png")
    files = ", ".join(path.name + suffix for suffix in suffixes)
    panels = "; ".join(f"{vertical} over {across}" for across, vertical in labels)
    return Picture(
        buffer.getvalue(), round(_SCREEN_DPI * figure.get_size_inches()[0]), f"{files}: {panels}"
    )


def axis_labels(figure: Figure) -> list[tuple[str, str]]:
    """Labels of every axes, across and vertical; where ticks are words and no label is, the words.

    Raises:
        ValueError: an axis has neither; panels that share an axis may leave it to one of them, and
            a colour bar has its scale only.
    """
    shown = [axes for axes in figure.axes if axes.axison and axes.get_visible()]
    found = []
    for number, axes in enumerate(shown):
        across = _label(axes.get_shared_x_axes().get_siblings(axes), "xaxis")
        vertical = _label(axes.get_shared_y_axes().get_siblings(axes), "yaxis")
        if axes.get_label() == "<colorbar>":
            across = vertical = vertical or across
        for name, label in (("x", across), ("y", vertical)):
            if not label:
                raise ValueError(problem(f"axes[{number}].{name}label", label, "what is drawn"))
        found.append((across, vertical))
    return found


def _label(siblings: Sequence[Axes], name: str) -> str:
    axes_of: list[Axis] = [getattr(axes, name) for axes in siblings]
    for axis in axes_of:
        if text := axis.get_label_text():
            return " ".join(text.split())
    for axis in axes_of:
        words = [tick.get_text() for tick in axis.get_majorticklabels()]
        # Numbers may be set as formulas: names of TeX commands are no words.
        if any(re.search(r"[^\W\d_]{2}", re.sub(r"\\[a-z]+", "", word)) for word in words):
            return " ".join(", ".join(words).split())
    return ""


_SPLITS: dict[str, dict[str, Any]] = {
    "train": {"color": GREY, "linestyle": "-"},
    "validation": {"color": ACCENT, "linestyle": "--"},
    "test": {"color": DARK, "linestyle": "-"},
}


@style(10.0)
def learning_curve(
    history: Sequence[dict[str, Any]], path: Path | None = None, *, title: str = ""
) -> Figure:
    """Accuracy and cost over the epochs, as a PNG (or whatever the path's suffix says).

    Args:
        history: rows of ``metrics.csv``, one per epoch.
        path: the file to write; None writes none.
        title: above the figure.
    """
    figure = Figure(figsize=(8.0, 3.4))
    accuracy, cost = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) < 30 else None
    for split, look in _SPLITS.items():
        rows = [row for row in history if row[f"{split}_accuracy_percent"] is not None]
        if not rows:
            continue
        look = look | {"marker": marker, "markersize": 3, "label": split}
        where = [row["epoch"] for row in rows]
        accuracy.plot(where, [row[f"{split}_accuracy_percent"] for row in rows], **look)
        cost.plot(where, [row[f"{split}_cost"] for row in rows], **look)
    accuracy.set_ylabel("accuracy (%)")
    cost.set_ylabel("cost per image")
    cost.set_yscale("log")
    for axes in (accuracy, cost):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy.legend()
    figure.suptitle(title)
    save(figure, path)
    return figure


@style()
def learning_curves(
    histories: Mapping[str, Sequence[Sequence[dict[str, Any]]]],
    path: Path | None = None,
    *,
    title: str = "",
) -> Figure:
    """Test accuracy over the epochs of several ways of learning, as wide as a column.

    Args:
        histories: by label, the rows of ``metrics.csv`` of one run per seed; drawn are their mean
            and, of several, the range, as far as all of them came.
        path: the file to write; None writes none.
        title: above the figure.
    """
    figure = canvas("single", 2.5)
    axes = figure.subplots()
    for number, (label, runs) in enumerate(histories.items()):
        look, epochs = line_look(number), [row["epoch"] for row in min(runs, key=len)]
        values = [
            [run[place]["test_accuracy_percent"] for run in runs] for place in range(len(epochs))
        ]
        axes.plot(epochs, [sum(at) / len(at) for at in values], label=label, **look)
        if len(runs) > 1:
            low, high = [min(at) for at in values], [max(at) for at in values]
            axes.fill_between(epochs, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend()
    figure.suptitle(title)
    save(figure, path)
    return figure
