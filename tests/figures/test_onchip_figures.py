"""The figure of devices that have learned: it shows the numbers of the statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch

from neurosim_ep.figures import onchip as onchip_figures
from neurosim_ep.figures.onchip import pulse_histograms
from neurosim_ep.onchip.statistics import (
    ChipStatistics,
    DeviceStatistics,
    EnduranceUse,
    PulseCounts,
)

PULSES = PulseCounts(
    mean=30.0,
    median=12.0,
    maximum=90_000,
    per_image_mean=0.03,
    per_image_maximum=90.0,
    never=20,
    counts=(0, 40, 30, 10),
    bin_edges=(1, 2, 4, 8, 16),
)


def devices(name: str, **changes: Any) -> DeviceStatistics:
    values: dict[str, Any] = {
        "devices": 100,
        "pulses": PULSES,
        "endurance": EnduranceUse(0.001, 0.25, 0.0),
        "at_upper_fraction": 0.125,
        "at_lower_fraction": 0.0,
        "stuck_fraction": 0.04,
        "positions": (16, 48, 32, 0),
        "symmetry": None,
    }
    return DeviceStatistics(name=name, **(values | changes))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were to be written."""
    figures: list[Figure] = []
    monkeypatch.setattr(onchip_figures, "save", lambda figure, path: figures.append(figure))
    return figures


def draw(*edges: DeviceStatistics) -> None:
    statistics = ChipStatistics(1000, edges, devices("all"))
    pulse_histograms(statistics, Path("x.png"), title="digits")


def test_bars_are_shares_of_the_devices(drawn: list[Figure]) -> None:
    draw(devices("edge 0"), devices("bias 1"))
    pulses, states, *_ = drawn[0].axes
    bars = [patch for patch in pulses.patches if isinstance(patch, Rectangle)]
    assert [bar.get_height() for bar in bars] == [20.0, 0.0, 40.0, 30.0, 10.0]
    # Bins of a factor of two; devices without a pulse stand apart, left of one pulse.
    assert [bar.get_x() for bar in bars[1:]] == [0.0, 1.0, 2.0, 3.0]
    assert bars[0].get_x() + bars[0].get_width() < 0.0
    (steps,) = {tuple(p.get_data().values) for p in states.patches if isinstance(p, StepPatch)}
    # Of the working devices, 96 of 100.
    assert steps == pytest.approx((100 / 6, 50.0, 100 / 3, 0.0))
    assert drawn[0].axes[2].get_ylabel().startswith("bias 1")


def test_axes_and_notes_say_what_is_shown(drawn: list[Figure]) -> None:
    draw(devices("edge 0"))
    pulses, states = drawn[0].axes
    assert pulses.get_xlabel() == "pulses per device"
    assert pulses.get_ylabel() == "edge 0\ndevices (%)"
    assert [tick.get_text() for tick in pulses.get_xticklabels()][:3] == ["none", "1", "2"]
    assert states.get_xlabel() == "state between the device's own bounds"
    (note,) = (text.get_text() for text in pulses.texts)
    assert note == "mean (dashed) 30, most 90k\nmost: 25 % of the endurance"
    (note,) = (text.get_text() for text in states.texts)
    assert note == "at the lower bound 0 %, the upper 12 %\nstuck 4 %"
    (mean,) = pulses.lines
    assert 2.0 ** mean.get_xdata()[0] == pytest.approx(30.0)
    title = drawn[0].get_suptitle()
    assert title == "digits\n100 devices, 1,000 training images: 0.03 pulses per device and image"


def test_devices_that_were_only_programmed(drawn: list[Figure]) -> None:
    changes = {"pulses": None, "endurance": None, "at_upper_fraction": None}
    draw(devices("edge 0", **changes, at_lower_fraction=None))
    pulses, states = drawn[0].axes
    assert [text.get_text() for text in pulses.texts] == [
        "no pulses: the card has no pulse response"
    ]
    assert [text.get_text() for text in states.texts] == ["stuck 4 %"]


def test_devices_that_got_no_pulse_yet(drawn: list[Figure]) -> None:
    none = PulseCounts(0.0, 0.0, 0, 0.0, 0.0, 100, (), (1,))
    draw(devices("edge 0", pulses=none, endurance=None))
    pulses, _ = drawn[0].axes
    assert [patch.get_height() for patch in pulses.patches] == [100.0]
    assert [text.get_text() for text in pulses.texts] == ["mean 0, most 0"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(3.14159, "3.14"), (512, "512"), (2048, "2048"), (16384, "16.4k"), (2**20, "1.05M")],
)
def test_counts_are_short(number: float, text: str) -> None:
    assert onchip_figures._count(number) == text


def test_the_figure_is_written_whole(tmp_path: Path) -> None:
    statistics = ChipStatistics(1000, (devices("edge 0"),), devices("all"))
    pulse_histograms(statistics, tmp_path / "devices.png")
    assert (tmp_path / "devices.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["devices.png"]
