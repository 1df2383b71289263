"""The nonidealities that cards can have, and cards with some of them taken away."""

from collections.abc import Collection

from neurosim_ep.crossbar.card import ArrayCard, Converters
from neurosim_ep.crossbar.pulse_nonidealities import (
    PULSE_NONIDEALITIES,
    changed,
    present_pulses,
    without_pulses,
)
from neurosim_ep.devices import DeviceCard

# Of the device: the tables of its card that make up each one.
_DEVICE_TABLES = {
    "programming": ("programming", "write_verify"),
    "spread": ("spread",),
    "faults": ("faults",),
    "read_noise": ("read_noise",),
    "drift": ("drift",),
}
_CONVERTERS = ("forward", "transposed", "forward_delta", "transposed_delta")
_IDEAL_CONVERTER: dict[str, dict[str, float | None]] = {
    "dac": {"dac_bits": None},
    "adc": {"adc_bits": None},
    "adc_noise": {"adc_noise_ampere": 0.0},
}

NONIDEALITIES = ("levels", *_DEVICE_TABLES, "wires", *_IDEAL_CONVERTER)
"""All that a mapped network meets, in the order in which a signal meets them."""

LEARNING_NONIDEALITIES = (
    *NONIDEALITIES[: NONIDEALITIES.index("read_noise")],
    *PULSE_NONIDEALITIES,
    *NONIDEALITIES[NONIDEALITIES.index("read_noise") :],
)
"""All that a network meets that learns on the chip: those, and what pulses bring."""

# Bounds of devices whose card has no table of their spread.
_BOUND_SPREADS = ("w_max_spread_relative", "w_min_spread_relative")


def present(device: DeviceCard, array: ArrayCard, *, learning: bool = False) -> tuple[str, ...]:
    """The nonidealities that two cards have together, in the order of the lists above.

    Args:
        device, array: the cards.
        learning: whether devices learn by pulses; otherwise what pulses bring is left out.
    """
    found = {
        name for name, tables in _DEVICE_TABLES.items() if any(map(device.__getattribute__, tables))
    }
    response = device.pulse_response
    if response is not None:
        if any(getattr(response, name) for name in _BOUND_SPREADS):
            found.add("spread")
        if learning:
            found |= present_pulses(response)
    if device.window.levels is not None:
        found.add("levels")
    if array.wires is not None and any(
        (
            array.wires.word_line_ohm,
            array.wires.bit_line_ohm,
            array.wires.driver_ohm,
            array.wires.sense_ohm,
        )
    ):
        found.add("wires")
    for converters in _converters(array).values():
        found |= {
            name
            for name, ideal in _IDEAL_CONVERTER.items()
            if any(getattr(converters, field) != value for field, value in ideal.items())
        }
    return tuple(name for name in LEARNING_NONIDEALITIES if name in found)


def without(
    device: DeviceCard, array: ArrayCard, names: Collection[str]
) -> tuple[DeviceCard, ArrayCard]:
    """The cards with these nonidealities made ideal; what is drawn for the others stays the same.

    Those of pulses are defined in `neurosim_ep.crossbar.pulse_nonidealities.without_pulses`.

    Args:
        device, array: cards, which stay as they are.
        names: of `NONIDEALITIES` or `LEARNING_NONIDEALITIES`.

    Raises:
        ValueError: if a name is not one of `LEARNING_NONIDEALITIES`.
    """
    for name in names:
        if name not in LEARNING_NONIDEALITIES:
            allowed = ", ".join(LEARNING_NONIDEALITIES)
            raise ValueError(f"nonideality: {name!r} is not allowed; must be one of {allowed}")
    of_device: dict[str, object] = {}
    for name, tables in _DEVICE_TABLES.items():
        if name in names:
            of_device |= dict.fromkeys(tables)
    if "read_noise" in names:
        of_device["read_noise"] = ()
    if "levels" in names and device.window.levels is not None:
        of_device["window"] = changed(device.window, {"levels": None})
    if (response := device.pulse_response) is not None:
        if "spread" in names and any(getattr(response, name) for name in _BOUND_SPREADS):
            response = changed(response, dict.fromkeys(_BOUND_SPREADS, 0.0))
        of_device["pulse_response"] = without_pulses(response, names)
    ideal: dict[str, float | None] = {}
    for name in names:
        ideal |= _IDEAL_CONVERTER.get(name, {})
    of_array: dict[str, object] = {
        name: changed(converters, ideal) for name, converters in _converters(array).items() if ideal
    }
    if "wires" in names:
        of_array["wires"] = None
    return device.model_copy(update=of_device), array.model_copy(update=of_array)


def only(
    device: DeviceCard, array: ArrayCard, names: Collection[str], *, learning: bool = False
) -> tuple[DeviceCard, ArrayCard]:
    """The cards with all nonidealities but these made ideal.

    Args:
        device, array: the cards.
        names: of nonidealities that stay.
        learning: whether those of pulses are among the others; they stay where it is False.

    Raises:
        ValueError: if a name is not one of them.
    """
    without(device, array, names)
    every = LEARNING_NONIDEALITIES if learning else NONIDEALITIES
    return without(device, array, [name for name in every if name not in names])


def _converters(array: ArrayCard) -> dict[str, Converters]:
    tables = {name: getattr(array, name) for name in _CONVERTERS}
    return {name: table for name, table in tables.items() if table is not None}
