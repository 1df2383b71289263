"""What every on-chip update rule answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.learning import Contrast
from neurosim_ep.onchip.tally import LineUse, serial_use
from neurosim_ep.onchip.targets import OnPulses, Target
from neurosim_ep.seeds import derive_seed


@dataclass(frozen=True, eq=False)
class Update:
    """One batch's update, as a rule gets it.

    Attributes:
        chip: settles; its devices are to be moved.
        targets: what moves, see `targets_of`.
        contrast: the batch's weighted equilibria.
        rates: learning rate of every target at present.
        wanted: what the digital optimiser changed of every target's weights; None for rules
            without a digital gradient.
        number: counted from 0.
        seed: of whatever the rule draws.
        uses: what every target's lines did so far; updates add to it.
        on_pulses: is told the pulses of every target.
    """

    chip: CrossbarNetwork
    targets: list[Target]
    contrast: Contrast
    rates: list[float]
    wanted: list[Tensor] | None
    number: int
    seed: int
    uses: list[LineUse]
    on_pulses: OnPulses | None = None

    def generator(self, *parts: int | str) -> torch.Generator:
        """A generator of this update's own, on the chip's device."""
        seed = derive_seed(self.seed, self.number, *parts)
        return torch.Generator(self.chip.biases[0].device).manual_seed(seed)

    def pulse(self, place: int, up: Tensor, down: Tensor, use: LineUse | None = None) -> None:
        """Move a target's devices, and tell so.

        Args:
            place: of the target.
            up, down: increments and decrements, in ``weight_shape``.
            use: of the lines; None where the counts are given row by row.
        """
        target = self.targets[place]
        target.pulse(up, down)
        if use is None:
            use = serial_use(target.geometry.matrix(up), target.geometry.matrix(down))
        self.uses[place] = self.uses[place] + use
        if self.on_pulses is not None:
            self.on_pulses(place, up, down)

    def pulse_by(self, place: int, increments: Tensor) -> None:
        """Move a target's devices by signed whole numbers of increments."""
        self.pulse(place, increments.clamp_min(0.0), (-increments).clamp_min(0.0))


class Rule(ABC):
    """How a contrast is brought to the devices.

    Attributes:
        digital_gradient: whether the contrast is summed digitally, so that a ``torch.optim``
            optimiser says what is wanted of the weights.
        pulsed: whether it moves devices by single pulses, not by write-verify.
        bytes_per_weight: memory beside the array that an update reads and writes again.
    """

    digital_gradient: bool = False
    pulsed: bool = True
    bytes_per_weight: float = 0.0

    def attach(self, targets: list[Target]) -> None:  # noqa: B027  (many rules keep none)
        """Make the state that the rule keeps of every target."""

    @abstractmethod
    def apply(self, update: Update) -> None:
        """Move the devices for one batch."""

    def advance_time(self, seconds: float) -> None:  # noqa: B027
        """Let devices of the rule's own age."""

    def record(self) -> dict[str, Any]:
        """Plain numbers that belong into a run's record."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers that the next update depends on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Stand where the saved rule stood."""
