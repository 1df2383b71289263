"""Device-to-device spread of the window: every device has bounds of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from neurosim_ep.cards import CardTable, NonNegative
from neurosim_ep.devices.window import Window

LEAST_RANGE_FRACTION = 0.01
"""What a device keeps of the nominal range, about its middle, where its bounds would meet."""


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

        A lower bound below zero becomes zero.  The middle of the nominal window stays between the
        bounds, half a hundredth of the range from each, so that every device has a window and the
        steps of soft bounds keep their direction.

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
        return between(window, lower, upper)


def between(window: Window, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds in siemens that a device may have, from drawn ones; see `Spread.draw`."""
    middle = (window.g_min_siemens + window.g_max_siemens) / 2.0
    least = LEAST_RANGE_FRACTION * window.range_siemens / 2.0
    return lower.clamp(0.0, middle - least), upper.clamp(min=middle + least)
