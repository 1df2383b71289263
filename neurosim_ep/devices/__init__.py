"""What one memristor does: programming, read noise, drift, faults, pulse response; device cards."""

from neurosim_ep.devices.card import DeviceCard, load_device_card, shipped_device_cards
from neurosim_ep.devices.fitting import PulseFit, fit_pulse_response
from neurosim_ep.devices.population import Devices
from neurosim_ep.devices.pulse_data import PulseData, read_pulse_csv
from neurosim_ep.devices.pulse_response import PulseResponse
from neurosim_ep.devices.read_noise import ReadVariance
from neurosim_ep.devices.writing import Programmed

__all__ = [
    "DeviceCard",
    "Devices",
    "Programmed",
    "PulseData",
    "PulseFit",
    "PulseResponse",
    "ReadVariance",
    "fit_pulse_response",
    "load_device_card",
    "read_pulse_csv",
    "shipped_device_cards",
]
