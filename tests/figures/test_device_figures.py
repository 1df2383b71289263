"""Figures of devices: what they are labelled with, and what they say of an ideal card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from neurosim_ep.devices import load_device_card
from neurosim_ep.devices.fitting import PulseData, PulseTrain, fit_pulse_response
from neurosim_ep.figures import device as device_figures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were to be written."""
    figures: list[Figure] = []
    monkeypatch.setattr(device_figures, "save", lambda figure, path: figures.append(figure))
    return figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_panel_has_labels_with_units(drawn: list[Figure]) -> None:
    device_figures.device_curves(load_device_card("cmo-hfox-reram"), Path("x.png"))
    (figure,) = drawn
    assert not any(text.startswith("ideal") for text in texts(figure))
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels[0] == ("pulse", "conductance (µS)")
    assert labels[1] == ("conductance (µS)", "devices per bin (%)")
    assert labels[2] == ("time since programming (s)", "conductance (µS)")
    assert labels[3] == ("conductance (µS)", "sigma of one read (nS)")
    shown = figure.axes[0].lines[-1].get_ydata()
    assert 9.0 <= np.min(shown) < np.max(shown) < 88.2


def test_panels_say_what_is_ideal(drawn: list[Figure]) -> None:
    ideal = load_device_card("ideal").model_copy(update={"pulse_response": None})
    device_figures.device_curves(ideal, Path("x.png"))
    said = texts(drawn[0])
    assert len(said) == 4
    assert all(text.startswith("ideal: ") for text in said)


def test_a_fit_is_drawn_over_its_data(drawn: list[Figure], tmp_path: Path) -> None:
    up = np.array([True] * 12 + [False] * 12)
    conductance = 1e-6 * np.concatenate([np.arange(1.0, 13.0), np.arange(11.0, -1.0, -1.0) + 0.5])
    fit = fit_pulse_response(PulseData("roof.csv", (PulseTrain("", up, conductance),)))
    device_figures.fit_curves(fit, tmp_path / "fit.png")
    curves, steps = drawn[0].axes
    measured, line = (curves.lines[i].get_ydata() for i in (0, 1))
    np.testing.assert_allclose(measured, 1e6 * conductance)
    np.testing.assert_allclose(line, measured, atol=0.6)
    assert curves.get_ylabel() == "conductance (µS)"
    assert steps.get_xlabel() == "conductance before the pulse (µS)"
    assert drawn[0].get_suptitle() == "roof.csv: 24 pulses"


def test_a_figure_is_written_whole(tmp_path: Path) -> None:
    device_figures.device_curves(load_device_card("fefet"), tmp_path / "fefet.png")
    assert (tmp_path / "fefet.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["fefet.png"]
