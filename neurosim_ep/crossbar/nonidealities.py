"""The nonidealities that cards can have, and cards with some of them taken away."""

from collections.abc import Collection

from neurosim_ep.crossbar.card import ArrayCard, Converters
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
"""All of them, in the order in which a signal meets them."""


def present(device: DeviceCard, array: ArrayCard) -> tuple[str, ...]:
    """The nonidealities that two cards have together, in the order of `NONIDEALITIES`."""
    found = {
        name for name, tables in _DEVICE_TABLES.items() if any(map(device.__getattribute__, tables))
    }
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
    return tuple(name for name in NONIDEALITIES if name in found)


def without(
    device: DeviceCard, array: ArrayCard, names: Collection[str]
) -> tuple[DeviceCard, ArrayCard]:
    """The cards with these nonidealities made ideal; what is drawn for the others stays the same.

    Raises:
        ValueError: if a name is not one of `NONIDEALITIES`.
    """
    for name in names:
        if name not in NONIDEALITIES:
            raise ValueError(
                f"nonideality: {name!r} is not allowed; must be one of {', '.join(NONIDEALITIES)}"
            )
    of_device: dict[str, object] = {}
    for name, tables in _DEVICE_TABLES.items():
        if name in names:
            of_device |= dict.fromkeys(tables)
    if "read_noise" in names:
        of_device["read_noise"] = ()
    if "levels" in names:
        of_device["window"] = device.window.model_copy(update={"levels": None})
    ideal: dict[str, float | None] = {}
    for name in names:
        ideal |= _IDEAL_CONVERTER.get(name, {})
    of_array: dict[str, object] = {
        name: converters.model_copy(update=ideal) for name, converters in _converters(array).items()
    }
    if "wires" in names:
        of_array["wires"] = None
    return device.model_copy(update=of_device), array.model_copy(update=of_array)


def only(
    device: DeviceCard, array: ArrayCard, names: Collection[str]
) -> tuple[DeviceCard, ArrayCard]:
    """The cards with all nonidealities but these made ideal.

    Raises:
        ValueError: if a name is not one of `NONIDEALITIES`.
    """
    without(device, array, names)
    return without(device, array, [name for name in NONIDEALITIES if name not in names])


def _converters(array: ArrayCard) -> dict[str, Converters]:
    tables = {name: getattr(array, name) for name in _CONVERTERS}
    return {name: table for name, table in tables.items() if table is not None}
