"""The window: between which conductances a device is programmed, and in how many levels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import CardTable, NonNegative, Positive


class Window(CardTable):
    """The nominal range of a device's conductance.

    Attributes:
        g_min_siemens: lower bound.
        g_max_siemens: upper bound, above the lower one.
        levels: how many equidistant conductances, both bounds among them, programming aims at;
            None where it aims at any.
    """

    g_min_siemens: NonNegative
    g_max_siemens: Positive
    levels: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Window:
        if self.g_min_siemens >= self.g_max_siemens:
            allowed = f"less than g_max_siemens, {self.g_max_siemens}"
            raise ValueError(problem("g_min_siemens", self.g_min_siemens, allowed))
        return self

    @property
    def range_siemens(self) -> float:
        """Width of the window."""
        return self.g_max_siemens - self.g_min_siemens

    def round(self, g: Tensor) -> Tensor:
        """The nearest level of each conductance.

        Args:
            g: conductances in siemens, any shape, within the window.

        Returns:
            conductances in siemens; ``g`` itself where the window has no levels.
        """
        if self.levels is None:
            return g
        step = self.range_siemens / (self.levels - 1)
        level = ((g - self.g_min_siemens) / step).round()
        return (self.g_min_siemens + level * step).clamp(self.g_min_siemens, self.g_max_siemens)

    def state(self, g: Tensor) -> Tensor:
        """Conductances in siemens as states: -1 at the lower bound, +1 at the upper one."""
        return (g - self.g_min_siemens) * (2.0 / self.range_siemens) - 1.0

    def siemens(self, w: Tensor) -> Tensor:
        """States as conductances in siemens; not below zero."""
        return (self.g_min_siemens + (w + 1.0) * (self.range_siemens / 2.0)).clamp(min=0.0)
