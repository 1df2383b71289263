"""The curves that say what a card means: pulses, levels, drift and read noise, as numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurosim_ep.devices.card import DeviceCard
from neurosim_ep.devices.population import Devices
from neurosim_ep.seeds import derive_seed

PULSED_DEVICES = 64
SHOWN_DEVICES = 4
MOST_PULSES = 10_000
LEVEL_DEVICES = 2000
MOST_LEVELS = 16
FEW_LEVELS = 5
DRIFT_STARTS = (0.1, 0.3, 0.5, 0.7, 0.9)
READ_VOLTAGE_VOLT = 0.2
READ_TIME_S = 1.0


@dataclass(frozen=True)
class PulseCurve:
    """Conductance under as many up pulses as down pulses after them, where there are any.

    Attributes:
        up_pulses: how many of the pulses go up.
        mean_siemens: mean over all devices, (N + 1,), the start first.
        devices_siemens: what is seen of a few of them, (D, N + 1).
    """

    up_pulses: int
    mean_siemens: Tensor
    devices_siemens: Tensor


@dataclass(frozen=True)
class LevelCurve:
    """What programming a few conductances reaches.

    Attributes:
        target_siemens: (K,).
        reached_siemens: of many devices each, (K, D).
        middle_sigma_siemens: `programming_sigma` in the middle of the window.
    """

    target_siemens: Tensor
    reached_siemens: Tensor
    middle_sigma_siemens: float


@dataclass(frozen=True)
class DriftCurve:
    """Conductance over time after exact programming.

    Attributes:
        time_s: (T,), over ten decades.
        mean_siemens: over many devices each, (S, T) for S start conductances.
        low_siemens: 10 % of the devices are below.
        high_siemens: 10 % of the devices are above.
    """

    time_s: Tensor
    mean_siemens: Tensor
    low_siemens: Tensor
    high_siemens: Tensor


@dataclass(frozen=True)
class ReadNoiseCurve:
    """Standard deviation of a device's current, divided by the read voltage.

    Attributes:
        conductance_siemens: (N,).
        sigma_siemens: of each term by its model's name, in a device that has it, (N,).
        total_siemens: of all terms, (N,).
        read_voltage_volt: of the read.
        time_s: since programming.
    """

    conductance_siemens: Tensor
    sigma_siemens: dict[str, Tensor]
    total_siemens: Tensor
    read_voltage_volt: float
    time_s: float


def pulse_curve(card: DeviceCard, seed: int) -> PulseCurve | None:
    """Potentiation from the lower bounds, then depression where the card has down pulses.

    Args:
        card: the kind of device.
        seed: of the devices and of the noise.

    Returns:
        the curve; None for a card without pulses.
    """
    response = card.pulse_response
    if response is None:
        return None
    count = min(MOST_PULSES, math.ceil(3.0 / response.step_relative))
    generator = torch.Generator().manual_seed(derive_seed(seed, "pulse curve"))
    made = Devices(card, (PULSED_DEVICES,), seed=seed, dtype=torch.float64)
    devices = made.pulse_devices
    w = devices.w_min.expand(PULSED_DEVICES)
    means, shown = [w.mean()], [response.visible(w, generator)[:SHOWN_DEVICES]]
    for pulse in range(count if response.one_sided else 2 * count):
        w = response.pulse(w, torch.tensor(pulse < count), devices, generator)
        means.append(w.mean())
        shown.append(response.visible(w, generator)[:SHOWN_DEVICES])
    siemens = card.window.siemens
    return PulseCurve(count, siemens(torch.stack(means)), siemens(torch.stack(shown, dim=1)))


def level_curve(card: DeviceCard, seed: int) -> LevelCurve | None:
    """What programming reaches; None for a card whose programming is exact.

    Args:
        card: the kind of device.
        seed: of the devices.
    """
    if not (card.spread or card.programming or card.write_verify or card.faults):
        return None
    window = card.window
    levels = window.levels if window.levels and window.levels <= MOST_LEVELS else FEW_LEVELS
    steps = torch.linspace(0.0, 1.0, levels, dtype=torch.float64)
    target = window.round(window.g_min_siemens + steps * window.range_siemens)
    devices = Devices(card, (levels, LEVEL_DEVICES), seed=seed, dtype=torch.float64)
    devices.program(target[:, None].expand(-1, LEVEL_DEVICES))
    return LevelCurve(target, devices.conductance, programming_sigma(card, seed))


def programming_sigma(card: DeviceCard, seed: int) -> float:
    """Standard deviation in siemens of what is programmed in the middle of the window.

    After write-verify, where the card has it; of devices that are not stuck and have the nominal
    window.

    Args:
        card: the kind of device.
        seed: of the devices.
    """
    alone = _only(card, "programming", "write_verify")
    devices = Devices(alone, (LEVEL_DEVICES,), seed=seed, dtype=torch.float64)
    middle = (card.window.g_min_siemens + card.window.g_max_siemens) / 2.0
    devices.program(torch.full((LEVEL_DEVICES,), middle, dtype=torch.float64))
    return float(devices.conductance.std())


def drift_curve(card: DeviceCard, seed: int) -> DriftCurve | None:
    """Drift from 1 to 1e10 seconds; None for a card without it.

    Args:
        card: the kind of device.
        seed: of the devices.
    """
    if card.drift is None:
        return None
    alone = _only(card, "drift")
    shape = (len(DRIFT_STARTS), LEVEL_DEVICES)
    devices = Devices(alone, shape, seed=seed, dtype=torch.float64)
    share = torch.tensor(DRIFT_STARTS, dtype=torch.float64)[:, None]
    start = card.window.g_min_siemens + share * card.window.range_siemens
    devices.program(start.expand(shape))
    times = torch.logspace(0.0, 10.0, 61, dtype=torch.float64)
    marks = torch.tensor([0.1, 0.9], dtype=torch.float64)
    means, bands = [], []
    for time in times.tolist():
        devices.advance_time(time - devices.elapsed_s)
        means.append(devices.conductance.mean(dim=1))
        bands.append(devices.conductance.quantile(marks, dim=1))
    low, high = torch.stack(bands, dim=-1)
    return DriftCurve(times, torch.stack(means, dim=-1), low, high)


def drift_after(card: DeviceCard, seconds: float, seed: int) -> tuple[float, float] | None:
    """Change, mean and sigma over devices, from nine tenths of the window.

    Args:
        card: the kind of device.
        seconds: since exact programming.
        seed: of the devices.

    Returns:
        in siemens; None for a card without drift.
    """
    if card.drift is None:
        return None
    devices = Devices(_only(card, "drift"), (LEVEL_DEVICES,), seed=seed, dtype=torch.float64)
    start = card.window.g_min_siemens + DRIFT_STARTS[-1] * card.window.range_siemens
    devices.program(torch.full((LEVEL_DEVICES,), start, dtype=torch.float64))
    devices.advance_time(seconds)
    change = devices.conductance - start
    return float(change.mean()), float(change.std())


def read_noise_curve(card: DeviceCard, seed: int) -> ReadNoiseCurve | None:
    """Read noise against conductance, each term apart; None for a card without it.

    Args:
        card: the kind of device.
        seed: of the devices; nothing of the curve is random.
    """
    if not card.read_noise:
        return None
    steps = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    g = card.window.g_min_siemens + steps * card.window.range_siemens
    sigma: dict[str, Tensor] = {}
    total = torch.zeros_like(g)
    for term in card.read_noise:
        # A device that has the noise: the share of devices that do is not part of its size.
        given = {"device_fraction": 1.0} if term.model == "telegraph" else {}
        alone = _only(card, read_noise=(term.model_copy(update=given),))
        devices = Devices(alone, g.shape, seed=seed, dtype=torch.float64)
        devices.program(g)
        devices.advance_time(READ_TIME_S)
        found = devices.read_variance()
        variance = torch.zeros_like(g)
        for power, part in enumerate((found.constant, found.per_volt, found.per_square_volt)):
            if part is not None:
                variance += part * READ_VOLTAGE_VOLT**power
        sigma[term.model] = variance.sqrt() / READ_VOLTAGE_VOLT
        total += variance
    return ReadNoiseCurve(
        g, sigma, total.sqrt() / READ_VOLTAGE_VOLT, READ_VOLTAGE_VOLT, READ_TIME_S
    )


def _only(card: DeviceCard, *tables: str, **changed: Any) -> DeviceCard:
    """The card without levels and with no phenomenon but the named ones."""
    kept: dict[str, Any] = {name: getattr(card, name) for name in tables}
    window = card.window.model_copy(update={"levels": None})
    return DeviceCard.model_construct(
        name=card.name,
        description=card.description,
        window=window,
        operation=card.operation,
        **(kept | changed),
    )
