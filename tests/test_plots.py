"""The figures' style: apart in grey, labelled, vectors with fonts, the same bytes every time."""

from __future__ import annotations

import itertools
import re
import zlib
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neurosim_ep import plots


def lightness(colour: str) -> float:
    """CIE L* of a colour, 0 to 100."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return float(116.0 * y ** (1.0 / 3.0) - 16.0) if y > 0.008856 else 903.3 * y


def drawn() -> Figure:
    figure = plots.canvas("single")
    axes = figure.subplots()
    for number in range(3):
        axes.plot([1.0, 2.0], [number, number + 1.0], label=f"n{number}", **plots.line_look(number))
    axes.set(xlabel="time (s)", ylabel="conductance (µS)")
    axes.legend()
    return figure


def test_lines_are_apart_in_grey_by_colour_dashes_and_marker() -> None:
    looks = [plots.line_look(number) for number in range(len(plots.PALETTE))]
    for one, other in itertools.combinations(looks, 2):
        assert abs(lightness(one["color"]) - lightness(other["color"])) > 8.0
        assert str(one["linestyle"]) != str(other["linestyle"])
        assert one["marker"] != other["marker"]
    assert all(lightness(look["color"]) < 80.0 for look in looks)


def test_bars_are_apart_in_grey_by_face_or_hatch() -> None:
    looks = [plots.bar_look(number) for number in range(len(plots.HATCHES))]
    for one, other in itertools.combinations(looks, 2):
        faces = abs(lightness(one["facecolor"]) - lightness(other["facecolor"]))
        assert faces > 10.0 or one["hatch"] != other["hatch"]
        Rectangle((0.0, 0.0), 1.0, 1.0, **one)


def test_the_style_ends_with_its_block() -> None:
    before = dict(mpl.rcParams)
    with plots.style():
        axes = Figure().subplots()
        assert not axes.spines["top"].get_visible()
        assert axes.xaxis.label.get_fontsize() == plots.FONT_SIZE_PT
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert dict(mpl.rcParams) == before


def test_the_style_goes_with_a_function() -> None:
    @plots.style(11.0)
    def size() -> float:
        return float(mpl.rcParams["font.size"])

    assert (size(), size()) == (11.0, 11.0)
    assert mpl.rcParams["font.size"] != 11.0


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        with plots.style():
            plots.save(drawn(), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_vectors_have_no_date_and_embed_their_fonts(tmp_path: Path) -> None:
    with plots.style():
        figure = drawn()
    plots.save(figure, tmp_path / "f.pdf")
    plots.save(figure, tmp_path / "f.svg")
    pdf = (tmp_path / "f.pdf").read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    everything = pdf + b"".join(zlib.decompress(s) if s[:1] == b"x" else s for s in streams)
    assert b"CreationDate" not in everything
    # Type 42 fonts are TrueType programs within the file; the default, type 3, has none.
    assert b"FontFile2" in everything
    assert b"/Type3" not in everything
    svg = (tmp_path / "f.svg").read_text()
    assert "<dc:date>" not in svg
    assert "<text" not in svg
    assert "<path" in svg
    assert "<image" not in svg


def test_publishing_writes_vectors_and_shows_a_picture(tmp_path: Path) -> None:
    with plots.style():
        picture = plots.publish(drawn(), tmp_path / "new" / "1.5-accuracy")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["1.5-accuracy.pdf", "1.5-accuracy.svg"]
    assert picture.png.startswith(b"\x89PNG")
    assert repr(picture) == "1.5-accuracy.pdf, 1.5-accuracy.svg: conductance (µS) over time (s)"


def test_axes_without_a_label_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    figure = Figure()
    figure.subplots().set_xlabel("beta")
    with pytest.raises(ValueError, match=r"^axes\[0\]\.ylabel: .* is not allowed; must be"):
        plots.publish(figure, tmp_path / "figure")
    assert list(tmp_path.iterdir()) == []


def test_shared_axes_words_at_ticks_and_empty_panels_need_no_label() -> None:
    figure = Figure()
    (left, right), (below, empty) = figure.subplots(2, 2, sharey=True)
    for axes in (left, right, below):
        axes.set_xticks([0, 1], ["pcm", "li-ecram"])
    empty.set_axis_off()
    left.set_ylabel("test accuracy (%)")
    assert plots.axis_labels(figure) == 3 * [("pcm, li-ecram", "test accuracy (%)")]
    bar = figure.colorbar(mpl.cm.ScalarMappable(), ax=right)
    with pytest.raises(ValueError, match=r"axes\[3\]\.xlabel"):
        plots.axis_labels(figure)
    bar.set_label("share of devices")
    assert plots.axis_labels(figure)[3:] == [("share of devices", "share of devices")]
    right.set_xscale("log")
    with pytest.raises(ValueError, match=r"axes\[1\]\.xlabel"):
        plots.axis_labels(figure)


def history(*percents: float) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "test_accuracy_percent": percent}
        for epoch, percent in enumerate(percents, start=1)
    ]


def test_learning_curves_are_means_as_far_as_all_seeds_came() -> None:
    runs = [history(10.0, 20.0, 90.0), history(30.0, 40.0)]
    figure = plots.learning_curves({"exact": [history(50.0, 60.0)], "chip": runs})
    (axes,) = figure.axes
    exact, chip = axes.lines
    assert list(exact.get_ydata()) == [50.0, 60.0]
    assert list(chip.get_xdata()) == [1, 2]
    assert list(chip.get_ydata()) == [20.0, 30.0]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (10.0, 40.0)
    assert plots.axis_labels(figure) == [("epoch", "test accuracy (%)")]
