"""Mixed precision: accumulate digitally, pulse a device once a full step has come together.

Nandakumar et al., Front. Neurosci. 14:406 (2020).
"""

from typing import Any

import torch
from torch import Tensor

from neurosim_ep.onchip.rule import Rule, Update
from neurosim_ep.onchip.targets import Target


class MixedPrecision(Rule):
    """``chi += wanted change``; a device gets ``trunc(chi / step)`` pulses, which chi then lacks.

    No verification: chi trusts the mean step.  What the device did instead shows in the next
    contrast.
    """

    digital_gradient = True
    bytes_per_weight = 8.0  # gradient and accumulator, 4 bytes each

    def __init__(self) -> None:
        self.accumulators: list[Tensor] = []

    def attach(self, targets: list[Target]) -> None:
        """An accumulator per weight, at zero."""
        self.accumulators = [torch.zeros_like(target.parameter) for target in targets]

    @torch.no_grad()
    def apply(self, update: Update) -> None:
        """Add up, and pulse by the full steps."""
        assert update.wanted is not None
        for place, (target, wanted) in enumerate(zip(update.targets, update.wanted, strict=True)):
            accumulator, step = self.accumulators[place], target.step
            accumulator += wanted
            increments = (accumulator / step).trunc()
            accumulator -= increments * step
            update.pulse_by(place, increments)

    def state_dict(self) -> dict[str, Any]:
        """The accumulators."""
        return {"accumulators": self.accumulators}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the accumulators."""
        for mine, saved in zip(self.accumulators, state["accumulators"], strict=True):
            mine.copy_(saved)
