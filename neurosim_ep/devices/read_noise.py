"""Read noise: what the current of one device varies by from read to read.

Every term gives the variance of a device's current at a read voltage ``v`` as a function of its
conductance, times 1, ``|v|`` or ``v^2``.  The terms are independent, so variances add, over the
terms of a device and over the devices of a column; no term needs a random number per device and
read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import CardTable, Fraction, NonNegative, Positive

BOLTZMANN_JOULE_PER_KELVIN = 1.380649e-23
ELEMENTARY_CHARGE_COULOMB = 1.602176634e-19


@dataclass(frozen=True)
class ReadConditions:
    """What the terms need to know beside the present conductance.

    Attributes:
        programmed: conductance right after programming in siemens, of the devices' shape.
        elapsed_s: time since programming, of all or of each device (of the devices' shape).
        temperature_kelvin: of the devices.
        range_siemens: width of the nominal window.
        fluctuating: mask of the devices with telegraph noise; None where all have it.
    """

    programmed: Tensor
    elapsed_s: float | Tensor
    temperature_kelvin: float
    range_siemens: float
    fluctuating: Tensor | None = None


@dataclass(frozen=True)
class ReadVariance:
    """Variance of each device's current: ``constant + per_volt |v| + per_square_volt v^2``.

    Attributes:
        constant: in A^2, of the devices' shape; None where no term needs it.
        per_volt: in A^2/V, likewise.
        per_square_volt: in S^2, likewise.
    """

    constant: Tensor | None = None
    per_volt: Tensor | None = None
    per_square_volt: Tensor | None = None


class Thermal(CardTable):
    """Thermal noise of a conductance, ``4 k T g B`` (Nyquist, Phys. Rev. 1928).

    Attributes:
        bandwidth_hz: noise bandwidth B of the read.
    """

    voltage_power: ClassVar[int] = 0

    model: Literal["thermal"] = "thermal"
    bandwidth_hz: Positive

    def variance(self, g: Tensor, at: ReadConditions) -> Tensor:
        """Variance of the current in A^2 for conductances in siemens, any shape."""
        density = 4.0 * BOLTZMANN_JOULE_PER_KELVIN * at.temperature_kelvin
        return g * (density * self.bandwidth_hz)


class Shot(CardTable):
    """Shot noise of the current ``g v``, ``2 q g |v| B`` (Schottky, Ann. Phys. 1918).

    Attributes:
        bandwidth_hz: noise bandwidth B of the read.
    """

    voltage_power: ClassVar[int] = 1

    model: Literal["shot"] = "shot"
    bandwidth_hz: Positive

    def variance(self, g: Tensor, at: ReadConditions) -> Tensor:
        """Variance of the current per volt in A^2/V for conductances in siemens, any shape."""
        return g * (2.0 * ELEMENTARY_CHARGE_COULOMB * self.bandwidth_hz)


class Flicker(CardTable):
    """1/f noise accumulated since programming, as Nandakumar et al. (ICECS 2019) fit it to PCM.

    ``sigma = g Q sqrt(ln((t + t_read) / (2 t_read)))`` with ``Q = min(coefficient / x^exponent,
    maximum)``; x is the programmed conductance as a share of the reference, t the time since
    programming plus ``time_offset_s``.  There is none before ``t_read``.

    Attributes:
        coefficient: Q at the reference conductance.
        exponent: how fast Q falls with the conductance.
        maximum: of Q.
        reference_siemens: the conductance that counts as 1.
        read_time_s: duration t_read of a read.
        time_offset_s: how long after programming the clock starts.
    """

    voltage_power: ClassVar[int] = 2

    model: Literal["flicker"] = "flicker"
    coefficient: NonNegative
    exponent: NonNegative
    maximum: NonNegative
    reference_siemens: Positive
    read_time_s: Positive
    time_offset_s: NonNegative = 0.0

    def variance(self, g: Tensor, at: ReadConditions) -> Tensor:
        """Variance of the conductance in S^2 for conductances in siemens, any shape."""
        growth = _logarithm_since(at.elapsed_s + self.time_offset_s, self.read_time_s)
        power = (at.programmed / self.reference_siemens).pow_(self.exponent)
        # Finite at a conductance of zero, where Q is at its maximum.
        power = power.clamp_(min=torch.finfo(power.dtype).tiny)
        quality = (self.coefficient / power).clamp_(max=self.maximum)
        return (g * quality).square_().mul_(growth)


class Logarithmic(CardTable):
    """1/f noise of CMO/HfOx ReRAM (Lombardo et al., DRC 2024, as fit in IBM's aihwkit).

    ``sigma = coefficient log10(g / reference) sqrt(ln((t + t_read) / (2 t_read)))``; none at or
    below the reference conductance and before ``t_read``.

    Attributes:
        coefficient_siemens: sigma at ten times the reference where the second factor is 1.
        reference_siemens: the conductance without noise.
        read_time_s: duration t_read of a read.
        time_offset_s: how long after programming the clock starts.
    """

    voltage_power: ClassVar[int] = 2

    model: Literal["logarithmic"] = "logarithmic"
    coefficient_siemens: NonNegative
    reference_siemens: Positive
    read_time_s: Positive
    time_offset_s: NonNegative = 0.0

    def variance(self, g: Tensor, at: ReadConditions) -> Tensor:
        """Variance of the conductance in S^2 for conductances in siemens, any shape."""
        growth = _logarithm_since(at.elapsed_s + self.time_offset_s, self.read_time_s)
        decades = (g / self.reference_siemens).clamp_(min=1.0).log10_()
        return (decades * self.coefficient_siemens).square_().mul_(growth)


class Telegraph(CardTable):
    """Random telegraph noise: a device is in one of two states, independently at each read.

    The states are ``amplitude g`` apart around the mean g: ``g (1 + amplitude (1 - p))`` with
    probability p, else ``g (1 - amplitude p)``; the variance is ``p (1 - p) (amplitude g)^2``.

    Attributes:
        amplitude_relative: distance of the two states, as a share of the mean conductance.
        high_probability: p, the share of time in the state of higher conductance.
        device_fraction: share of the devices that fluctuate; which ones is drawn at fabrication.
    """

    voltage_power: ClassVar[int] = 2

    model: Literal["telegraph"] = "telegraph"
    amplitude_relative: NonNegative
    high_probability: Fraction = 0.5
    device_fraction: Fraction = 1.0

    @model_validator(mode="after")
    def _low_state_conducts(self) -> Telegraph:
        if self.amplitude_relative * self.high_probability > 1.0:
            allowed = "at most 1 / high_probability, or the lower state would be negative"
            raise ValueError(problem("amplitude_relative", self.amplitude_relative, allowed))
        return self

    def draw(
        self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
    ) -> Tensor | None:
        """Draw a mask of the devices that fluctuate (CPU generator); None where all do."""
        if self.device_fraction == 1.0:
            return None
        return torch.rand(shape, generator=generator, dtype=dtype) < self.device_fraction

    def variance(self, g: Tensor, at: ReadConditions) -> Tensor:
        """Variance of the conductance in S^2 for conductances in siemens, any shape."""
        p = self.high_probability
        variance = (g * self.amplitude_relative).square_().mul_(p * (1.0 - p))
        return variance if at.fluctuating is None else variance.mul_(at.fluctuating)


class Lumped(CardTable):
    """All read noise in one number: a share of the conductance, of the window, or both.

    Attributes:
        sigma_relative: standard deviation as a share of the conductance.
        sigma_of_range_relative: as a share of the window's width; the two add as variances.
    """

    voltage_power: ClassVar[int] = 2

    model: Literal["lumped"] = "lumped"
    sigma_relative: NonNegative = 0.0
    sigma_of_range_relative: NonNegative = 0.0

    def variance(self, g: Tensor, at: ReadConditions) -> Tensor:
        """Variance of the conductance in S^2 for conductances in siemens, any shape."""
        floor = self.sigma_of_range_relative * at.range_siemens
        return (g * self.sigma_relative).square_().add_(floor * floor)


ReadNoise = Annotated[
    Thermal | Shot | Flicker | Logarithmic | Telegraph | Lumped, Field(discriminator="model")
]


def read_variance(terms: tuple[ReadNoise, ...], g: Tensor, at: ReadConditions) -> ReadVariance:
    """Sum of all terms.

    Args:
        terms: of a device card.
        g: present conductances in siemens, any shape.
        at: what else the terms need.
    """
    sums: list[Tensor | None] = [None, None, None]
    for term in terms:
        total, variance = sums[term.voltage_power], term.variance(g, at)
        sums[term.voltage_power] = variance if total is None else total.add_(variance)
    return ReadVariance(*sums)


def _logarithm_since(time_s: float | Tensor, read_time_s: float) -> float | Tensor:
    """``ln((t + t_read) / (2 t_read))``, 0 before t_read."""
    if isinstance(time_s, Tensor):
        return torch.log(time_s + read_time_s).sub_(math.log(2.0 * read_time_s)).clamp_(min=0.0)
    return max(0.0, math.log(time_s + read_time_s) - math.log(2.0 * read_time_s))
