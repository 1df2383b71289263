"""Programming noise: how far a device lands from the conductance it was programmed to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import model_validator
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import CardTable, Numbers, Positive


def polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """``c0 + c1 x + c2 x^2 + ...`` of a tensor of any shape; at least one coefficient."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total.mul_(x).add_(coefficient)
    return total


class Programming(CardTable):
    """A standard deviation that depends on the conductance aimed at.

    The form is that of Nandakumar et al. (ICECS 2019) for PCM: a polynomial in the conductance as
    a share of a reference.

    Attributes:
        coefficients_siemens: of the polynomial, the constant first.
        reference_siemens: the conductance that counts as 1.
    """

    coefficients_siemens: Numbers
    reference_siemens: Positive

    @model_validator(mode="after")
    def _has_coefficients(self) -> Programming:
        if not self.coefficients_siemens:
            raise ValueError(problem("coefficients_siemens", (), "at least one number"))
        return self

    def sigma(self, g: Tensor) -> Tensor:
        """Standard deviation in siemens for target conductances in siemens, any shape."""
        return polynomial(g / self.reference_siemens, self.coefficients_siemens).clamp_(min=0.0)
