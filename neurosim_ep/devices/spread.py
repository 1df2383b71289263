"""Device-to-device spread of the window: every device has bounds of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from neurosim_ep.cards import CardTable, NonNegative
from neurosim_ep.devices.window import Window

LEAST_RANGE_FRACTION = 0.01
"""What a device keeps of the nominal range where its bounds would meet."""


class Spread(CardTable):
    """Normal device-to-device variation of the bounds.

    Attributes:
        g_min_sigma_relative: standard deviation of the lower bound, as a share of the nominal one.
        g_max_sigma_relative: of the upper bound, likewise.
    """

    g_min_sigma_relative: NonNegative = 0.0
    g_max_sigma_relative: NonNegative = 0.0

    def draw(
        self,
        window: Window,
        shape: tuple[int, ...],
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Draw the bounds of a tensor of devices.

        A lower bound below zero becomes zero.  An upper bound that comes nearer to the lower one
        than a hundredth of the nominal range is put there, so that every device has a window.

        Args:
            window: the nominal bounds.
            shape: of the tensor of devices.
            generator: a CPU generator.
            dtype: of the draws.

        Returns:
            lower and upper bounds in siemens, of the shape, on the CPU.
        """
        normal = torch.randn((2, *shape), generator=generator, dtype=dtype)
        lower = window.g_min_siemens * (1.0 + self.g_min_sigma_relative * normal[0])
        upper = window.g_max_siemens * (1.0 + self.g_max_sigma_relative * normal[1])
        lower = lower.clamp_(min=0.0)
        least = LEAST_RANGE_FRACTION * window.range_siemens
        return lower, torch.maximum(upper, lower + least)
