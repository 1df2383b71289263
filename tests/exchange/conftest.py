"""Chips with a past, and what is seen of a chip from now on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.devices import DeviceCard
from neurosim_ep.models import HopfieldNetwork, mlp
from neurosim_ep.settling import settle

LUMPED = {"model": "lumped", "sigma_relative": 0.02}
TELEGRAPH = {"model": "telegraph", "amplitude_relative": 0.1, "device_fraction": 0.5}
DRIFT = {
    "model": "power_law",
    "start_s": 20.0,
    "reference_siemens": 1e-4,
    "mean_intercept": 0.06,
    "mean_low": 0.0,
    "mean_high": 1.0,
    "sigma_intercept": 0.02,
    "sigma_high": 1.0,
}
EVERYTHING = {
    "window": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4},
    "spread": {"g_min_sigma_relative": 0.05, "g_max_sigma_relative": 0.1},
    "programming": {"coefficients_siemens": [1e-6], "reference_siemens": 1e-4},
    "write_verify": {"tolerance_siemens": 1e-6, "max_pulses": 3},
    "faults": {"stuck_at_min_fraction": 0.05, "stuck_at_random_fraction": 0.05},
    "read_noise": [LUMPED, TELEGRAPH],
    "drift": DRIFT,
    "pulse_response": {
        "model": "constant",
        "step_relative": 0.05,
        "cycle_spread_relative": 0.3,
        "step_spread_relative": 0.2,
        "write_noise_relative": 1.0,
    },
}
CONVERTERS = {"dac_bits": 8, "adc_bits": 8}
WIRES = {"word_line_ohm": 5.0, "bit_line_ohm": 3.0, "sense_ohm": 10.0}
ARRAY = {
    "drive": {"read_voltage_volt": 0.2},
    "forward": CONVERTERS,
    "transposed": CONVERTERS,
    "forward_delta": CONVERTERS | {"dac_range": "calibrated"},
    "wires": WIRES | {"refresh_interval_programmings": 3},
    "compensation": {"global_drift": True},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _sourced(value: Any) -> Any:
    if isinstance(value, dict):
        return {"source": "a test"} | {key: _sourced(item) for key, item in value.items()}
    return [_sourced(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="session")
def everything() -> DeviceCard:
    """A device card with every phenomenon that there is."""
    tables = {name: _sourced(table) for name, table in EVERYTHING.items()}
    return card_from_mapping(DeviceCard, {"name": "everything"} | tables)


@pytest.fixture(scope="session")
def all_tables() -> Callable[..., ArrayCard]:
    """An array card of small arrays with every table: (mapping, **tables)."""

    def make(mapping: str = "differential_pair", **tables: Any) -> ArrayCard:
        layout = {"rows": 5, "columns": 3, "mapping": mapping, "scale": "column"}
        layout["pair_baseline"] = "middle"
        held = {name: _sourced(table) for name, table in (ARRAY | tables).items()}
        return card_from_mapping(ArrayCard, {"name": "small"} | held | {"layout": _sourced(layout)})

    return make


@pytest.fixture(scope="session")
def small_arrays() -> Callable[..., ArrayCard]:
    """The ideal array card with arrays too small for a matrix: (**layout)."""

    def make(**layout: Any) -> ArrayCard:
        card = load_array_card("ideal")
        tables = {"rows": 20, "columns": 2} | layout
        return card.model_copy(update={"layout": card.layout.model_copy(update=tables)})

    return make


# --- A chip's past and future ------------------------------------------------------------------


def _images(network: HopfieldNetwork, count: int = 3) -> Tensor:
    shape, dtype = network.layers[0].shape, network.biases[0].dtype
    generator = torch.Generator().manual_seed(4)
    return torch.randn((count, *shape), generator=generator, dtype=torch.float64).to(dtype)


def _pulse(chip: CrossbarNetwork, seed: int) -> None:
    """Some pulses on every weight and bias that has devices."""
    generator = torch.Generator().manual_seed(seed)
    targets = [(s, s.weight) for s in chip.storages]
    targets += [(row, row.weight) for row in chip.bias_rows.values()]
    for storage, weight in targets:
        up, down = (torch.randint(0, 3, weight.shape, generator=generator) for _ in range(2))
        storage.pulse(up * (up > 1), down * (down > 1))
    chip.read_bias_rows()


def _lived(chip: CrossbarNetwork) -> CrossbarNetwork:
    images = _images(chip)
    with chip.calibrating():
        settle(chip, images, iterations=3)
    chip.advance_time(100.0)
    with torch.no_grad():
        for weight in chip.weights:
            weight.mul_(0.9)
    chip.program()
    chip.advance_time(40.0)
    if chip.device_card.pulse_response is not None:
        _pulse(chip, 1)
        chip.advance_time(10.0)
        _pulse(chip, 2)
    chip.advance_time(5.0)
    settle(chip, images, iterations=2)
    return chip


def _future(chip: CrossbarNetwork) -> list[Tensor]:
    """What is seen of a chip from now on: noisy reads, ageing, pulses, programming."""
    images, found = _images(chip), []

    def look() -> None:
        found.append(settle(chip, images, iterations=3).output)
        for storage in chip.storages:
            found.extend(storage.effective_weight(d) for d in ("forward", "transposed"))

    look()
    chip.advance_time(1000.0)
    look()
    if chip.device_card.pulse_response is not None:
        _pulse(chip, 3)
        look()
        one_sided = chip.storages[0].matrix.one_sided
        found.append(torch.tensor([s.renew(0.2) if one_sided else 0 for s in chip.storages]))
        look()
    with torch.no_grad():
        for weight in chip.weights:
            weight.mul_(1.05)
    chip.program()
    look()
    chip.program(rescale=True)
    look()
    return found


@pytest.fixture(scope="session")
def lived() -> Callable[[CrossbarNetwork], CrossbarNetwork]:
    """Give a chip a past: calibrated, aged, programmed again, pulsed, read."""
    return _lived


@pytest.fixture(scope="session")
def future() -> Callable[[CrossbarNetwork], list[Tensor]]:
    """All that is seen of a chip from now on."""
    return _future


@pytest.fixture(scope="session")
def everything_chip(
    everything: DeviceCard, all_tables: Callable[..., ArrayCard]
) -> Callable[..., CrossbarNetwork]:
    """A chip with every phenomenon and a past: (mapping, dtype)."""

    def make(mapping: str = "differential_pair", dtype: torch.dtype = torch.float32) -> Any:
        network = mlp((1, 3, 3), 3, (8, 6)).to(dtype)
        return _lived(map_to_crossbar(network, everything, all_tables(mapping), seed=1))

    return make
