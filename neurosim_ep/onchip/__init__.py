"""Learning on the chip: update rules that bring EP's contrast to the devices themselves."""

from neurosim_ep.onchip.digital import Digital
from neurosim_ep.onchip.learning import OnChipLearning, OnChipUpdates, on_chip_groups
from neurosim_ep.onchip.mixed_precision import MixedPrecision
from neurosim_ep.onchip.pulsed import Pulsed
from neurosim_ep.onchip.rule import Rule, Update
from neurosim_ep.onchip.sign import Sign
from neurosim_ep.onchip.tally import LineUse
from neurosim_ep.onchip.targets import OnPulses, Target, target_products, targets_of
from neurosim_ep.onchip.tiki_taka import TikiTaka
from neurosim_ep.onchip.trains import Counts, Trains, pulse_counts

__all__ = [
    "Counts",
    "Digital",
    "LineUse",
    "MixedPrecision",
    "OnChipLearning",
    "OnChipUpdates",
    "OnPulses",
    "Pulsed",
    "Rule",
    "Sign",
    "Target",
    "TikiTaka",
    "Trains",
    "Update",
    "on_chip_groups",
    "pulse_counts",
    "target_products",
    "targets_of",
]
