"""Endurance: how many pulses a device stands."""

from __future__ import annotations

from neurosim_ep.cards import CardTable, Positive


class Endurance(CardTable):
    """After how many pulses a device counts as worn out.

    Attributes:
        pulses: up and down pulses together.
    """

    pulses: Positive
