"""Stuck devices: their conductance is fixed at fabrication and no programming moves it."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import CardTable, Fraction


class Faults(CardTable):
    """Fractions of all devices that are stuck; together at most 1.

    Attributes:
        stuck_at_min_fraction: stuck at their lower bound (stuck off).
        stuck_at_max_fraction: stuck at their upper bound (stuck on).
        stuck_at_random_fraction: stuck anywhere between their bounds, uniformly.
    """

    stuck_at_min_fraction: Fraction = 0.0
    stuck_at_max_fraction: Fraction = 0.0
    stuck_at_random_fraction: Fraction = 0.0

    @model_validator(mode="after")
    def _at_most_all(self) -> Faults:
        # A sum like 0.7 + 0.2 + 0.1 may exceed 1 by rounding.
        if self.total_fraction > 1.0 + 1e-12:
            allowed = "such that the three fractions together are at most 1"
            name = "stuck_at_random_fraction"
            raise ValueError(problem(name, self.stuck_at_random_fraction, allowed))
        return self

    @property
    def total_fraction(self) -> float:
        """Share of devices that are stuck."""
        return (
            self.stuck_at_min_fraction + self.stuck_at_max_fraction + self.stuck_at_random_fraction
        )

    def draw(
        self,
        lower: Tensor | float,
        upper: Tensor | float,
        shape: tuple[int, ...],
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Draw which devices are stuck, and where.

        Args:
            lower: the devices' lower bounds in siemens, one or of the shape.
            upper: upper bounds, likewise.
            shape: of the tensor of devices.
            generator: a CPU generator.
            dtype: of the draws.

        Returns:
            mask of the stuck devices, and a conductance in siemens for each device that is only
            meant for these; both of the shape, on the CPU.
        """
        kind, place = torch.rand((2, *shape), generator=generator, dtype=dtype)
        at_max = self.stuck_at_min_fraction + self.stuck_at_max_fraction
        place[kind < at_max] = 1.0
        place[kind < self.stuck_at_min_fraction] = 0.0
        # Not lower + place * (upper - lower): both ends shall be hit exactly.
        return kind < self.total_fraction, (1.0 - place) * lower + place * upper
