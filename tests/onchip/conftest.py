"""Cards, chips and batches for tests of learning on a chip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.cli import app
from neurosim_ep.crossbar import ArrayCard, load_array_card
from neurosim_ep.devices import DeviceCard, load_device_card


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _pulse_card(model: str = "constant", step: float = 0.01, **fields: Any) -> DeviceCard:
    tables = {
        "window": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4},
        "pulse_response": {"model": model, "step_relative": step} | fields,
    }
    return card_from_mapping(
        DeviceCard,
        {"name": "test"} | {name: table | {"source": "a test"} for name, table in tables.items()},
    )


def _step_card(step: float) -> DeviceCard:
    card = load_device_card("ideal")
    assert card.pulse_response is not None
    response = card.pulse_response.model_copy(update={"step_relative": step})
    return card.model_copy(update={"pulse_response": response})


def _layout(**fields: Any) -> ArrayCard:
    card = load_array_card("ideal")
    return card.model_copy(update={"layout": card.layout.model_copy(update=fields)})


@pytest.fixture(scope="session")
def pulse_card() -> Callable[..., DeviceCard]:
    """A device card with nothing but a window and a pulse response: (model, step, **fields)."""
    return _pulse_card


@pytest.fixture(scope="session")
def step_card() -> Callable[[float], DeviceCard]:
    """The ideal device card with steps of another length."""
    return _step_card


@pytest.fixture(scope="session")
def layout() -> Callable[..., ArrayCard]:
    """The ideal array card with another layout."""
    return _layout


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command within this process, in an empty folder, without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEUROSIM_EP_DATA", raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))
