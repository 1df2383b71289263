"""Learning on the chip: update rules that bring EP's contrast to the devices themselves."""

from neurosim_ep.onchip.digital import Digital
from neurosim_ep.onchip.learning import OnChipLearning, OnChipUpdates, on_chip_groups
from neurosim_ep.onchip.mixed_precision import MixedPrecision
from neurosim_ep.onchip.pulse_file import load_pulses
from neurosim_ep.onchip.pulsed import Pulsed
from neurosim_ep.onchip.recording import PulseRecorder
from neurosim_ep.onchip.rule import Rule, Update
from neurosim_ep.onchip.sign import Sign
from neurosim_ep.onchip.statistics import array_statistics, pulse_statistics, symmetry_offsets
from neurosim_ep.onchip.tally import LineUse
from neurosim_ep.onchip.targets import OnPulses, Target, target_products, targets_of
from neurosim_ep.onchip.tiki_taka import TikiTaka
from neurosim_ep.onchip.training import train
from neurosim_ep.onchip.trains import Counts, Trains, pulse_counts

__all__ = [
    "Counts",
    "Digital",
    "LineUse",
    "MixedPrecision",
    "OnChipLearning",
    "OnChipUpdates",
    "OnPulses",
    "PulseRecorder",
    "Pulsed",
    "Rule",
    "Sign",
    "Target",
    "TikiTaka",
    "Trains",
    "Update",
    "array_statistics",
    "load_pulses",
    "on_chip_groups",
    "pulse_counts",
    "pulse_statistics",
    "symmetry_offsets",
    "target_products",
    "targets_of",
    "train",
]
