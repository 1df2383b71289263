"""The same hardware with other converters and another read noise."""

import copy

from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork
from neurosim_ep.crossbar.card import Converters
from neurosim_ep.crossbar.ports import Port
from neurosim_ep.devices import DeviceCard

_CONVERTERS = ("forward", "transposed", "forward_delta", "transposed_delta")

# What a term's standard deviation is proportional to, and to which power of it.
_NOISE_FIELDS = {
    "thermal": {"bandwidth_hz": 0.5},
    "shot": {"bandwidth_hz": 0.5},
    "flicker": {"coefficient": 1.0, "maximum": 1.0},
    "logarithmic": {"coefficient_siemens": 1.0},
    "telegraph": {"amplitude_relative": 1.0},
    "lumped": {"sigma_relative": 1.0, "sigma_of_range_relative": 1.0},
}


def converter_tables(array: ArrayCard) -> dict[str, Converters]:
    """The card's converters by name, those that are there."""
    found = {name: getattr(array, name) for name in _CONVERTERS}
    return {name: table for name, table in found.items() if table is not None}


def with_read_noise(device: DeviceCard, scale: float) -> DeviceCard:
    """The card with the standard deviation of all read noise multiplied by a factor."""
    if scale == 0.0:
        return device.model_copy(update={"read_noise": ()})
    terms = []
    for term in device.read_noise:
        powers = _NOISE_FIELDS[term.model]
        changed = {f: getattr(term, f) * scale ** (1.0 / power) for f, power in powers.items()}
        terms.append(term.model_copy(update=changed))
    return device.model_copy(update={"read_noise": tuple(terms)})


def with_converters(array: ArrayCard, **bits: int) -> ArrayCard:
    """The card with ``adc_bits`` or ``dac_bits`` in all its converters.

    An array without any gets ideal ones first, with a calibrated second range for delta reads.
    """
    tables = converter_tables(array)
    if not tables:
        ideal = Converters(source="ideal")
        ranged = Converters(source="ideal", dac_range="calibrated")
        tables = dict(zip(_CONVERTERS, (ideal, ideal, ranged, ranged), strict=True))
    changed = {name: table.model_copy(update=bits) for name, table in tables.items()}
    return array.model_copy(update=changed)


def with_cards(chip: CrossbarNetwork, device: DeviceCard, array: ArrayCard) -> CrossbarNetwork:
    """The same piece of hardware with other converters and another read noise.

    Nothing is fabricated, programmed or solved again, which large arrays with wires would wait for.

    Args:
        chip: stays as it is.
        device: the chip's own card but for the read noise.
        array: the chip's own card but for what is in its converter tables.
    """
    other = copy.deepcopy(chip)
    other.device_card, other.array_card = device, array
    for storage in other.storages:
        storage.matrix.devices.card = device
        storage.array = storage.matrix.array = array
        for name, port in storage.ports.items():
            direction, kind = name.split("_")
            assert isinstance(port, Port)
            port.converters = array.converters(direction, kind == "delta")
    # Whatever was prepared from the old cards is made anew.
    first = other.biases[0]
    return other.to(first.device, first.dtype)
