"""Drift: how the conductance of a device moves on its own after programming.

A drift model draws one coefficient per device when it is programmed, and gives the conductance at
any time from the programmed conductance and that coefficient.  Nothing is integrated step by step,
so ageing twice is the same as ageing once for the sum of the times.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import CardTable, NonNegative, Numbers, Positive, as_tuple
from neurosim_ep.devices.programming import polynomial

BOLTZMANN_EV_PER_KELVIN = 8.617333262e-5
_LONGEST_TIME_S = 1e300

Time = float | Tensor

Polynomials = Annotated[tuple[Numbers, ...], BeforeValidator(as_tuple)]


class DriftTable(CardTable):
    """What all drift models share.

    Attributes:
        activation_energy_ev: Ea of the Arrhenius law; time runs ``exp(Ea/k (1/T_ref - 1/T))`` times
            as fast at temperature T.  None where temperature makes no difference.
        reference_temperature_kelvin: T_ref, at which the other numbers hold.
    """

    activation_energy_ev: NonNegative | None = None
    reference_temperature_kelvin: Positive = 300.0

    def draw(self, g0: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the coefficient of each device when it is programmed.

        Args:
            g0: programmed conductances in siemens, any shape; its dtype is that of the draws.
            generator: a CPU generator.

        Returns:
            what `at` needs to know of each device, of the shape, on the device of ``g0``.
        """
        normal = torch.randn(g0.shape, generator=generator, dtype=g0.dtype)
        return self._coefficient(g0, normal.to(g0.device))

    def at(
        self, g0: Tensor, coefficient: Tensor, time_s: Time, temperature_kelvin: float
    ) -> Tensor:
        """Conductance at a time after programming; ``g0`` itself at time 0.

        Args:
            g0: programmed conductances in siemens.
            coefficient: what `draw` gave, of the same shape.
            time_s: since programming, of all devices or of each (float64, of the shape).
            temperature_kelvin: of the devices.

        Returns:
            conductances in siemens, of the shape; never negative.
        """
        if not isinstance(time_s, Tensor) and time_s == 0.0:
            return g0
        if self.activation_energy_ev is not None:
            inverse = 1.0 / self.reference_temperature_kelvin - 1.0 / temperature_kelvin
            exponent = self.activation_energy_ev / BOLTZMANN_EV_PER_KELVIN * inverse
            # Bounded, so that absurd cards meet the end of time and not an overflow.
            time_s = time_s * math.exp(min(exponent, 600.0))
        if isinstance(time_s, Tensor):
            aged = self._after(g0, coefficient, time_s.clamp(max=_LONGEST_TIME_S)).clamp_(min=0.0)
            return torch.where(time_s > 0.0, aged, g0)
        return self._after(g0, coefficient, min(time_s, _LONGEST_TIME_S)).clamp_(min=0.0)

    def _coefficient(self, g0: Tensor, normal: Tensor) -> Tensor:
        return normal

    def _after(self, g0: Tensor, coefficient: Tensor, time_s: Time) -> Tensor:
        raise NotImplementedError


class PowerLaw(DriftTable):
    """Power law of PCM (Nandakumar et al., ICECS 2019): ``g = g0 ((t + t0) / t0)^-nu``.

    nu = ``|mu + sigma xi|`` per device, xi standard normal; mu and sigma are
    ``clip(slope ln x + intercept, low, high)`` of the programmed conductance x as a share of the
    reference.

    Attributes:
        start_s: t0, how long after programming the clock starts.
        reference_siemens: the conductance that counts as 1.
        mean_slope: of mu.
        mean_intercept: of mu.
        mean_low: least mu.
        mean_high: greatest mu.
        sigma_slope: of sigma.
        sigma_intercept: of sigma.
        sigma_low: least sigma.
        sigma_high: greatest sigma.
    """

    model: Literal["power_law"] = "power_law"
    start_s: Positive
    reference_siemens: Positive
    mean_slope: float = 0.0
    mean_intercept: float
    mean_low: float
    mean_high: float
    sigma_slope: float = 0.0
    sigma_intercept: float = 0.0
    sigma_low: NonNegative = 0.0
    sigma_high: NonNegative = 0.0

    @model_validator(mode="after")
    def _limits_in_order(self) -> PowerLaw:
        for name in ("mean", "sigma"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if low > high:
                raise ValueError(problem(f"{name}_low", low, f"at most {name}_high, {high}"))
        return self

    def _coefficient(self, g0: Tensor, normal: Tensor) -> Tensor:
        x = g0 / self.reference_siemens
        # The logarithm stays finite at a conductance of zero.
        logarithm = x.clamp_(min=torch.finfo(x.dtype).tiny).log_()
        mu = logarithm * self.mean_slope + self.mean_intercept
        sigma = logarithm.mul_(self.sigma_slope).add_(self.sigma_intercept)
        sigma = sigma.clamp_(self.sigma_low, self.sigma_high)
        return sigma.mul_(normal).add_(mu.clamp_(self.mean_low, self.mean_high)).abs_()

    def _after(self, g0: Tensor, coefficient: Tensor, time_s: Time) -> Tensor:
        if isinstance(time_s, Tensor):
            logarithm = torch.log1p(time_s / self.start_s).to(g0.dtype)
            return g0 * torch.exp(coefficient * -logarithm)
        return g0 * torch.exp(coefficient * -math.log1p(time_s / self.start_s))


class Logarithmic(DriftTable):
    """Relaxation of CMO/HfOx ReRAM (Falcone et al. 2025, as fit in IBM's aihwkit).

    ``g = g0 + mean_slope ln t + (sigma_slope ln t + sigma_offset) xi`` with t in seconds and one
    standard normal xi per device.  In the first second, which the fit does not cover, the
    logarithm counts as 0 and the offset grows in proportion to time.

    Attributes:
        mean_slope_siemens: of the mean, per unit of ln t.
        sigma_slope_siemens: of the standard deviation, per unit of ln t.
        sigma_offset_siemens: standard deviation after one second.
    """

    model: Literal["logarithmic"] = "logarithmic"
    mean_slope_siemens: float
    sigma_slope_siemens: NonNegative
    sigma_offset_siemens: NonNegative

    def _after(self, g0: Tensor, coefficient: Tensor, time_s: Time) -> Tensor:
        logarithm: float | Tensor
        begun: float | Tensor
        if isinstance(time_s, Tensor):
            logarithm = time_s.clamp(min=1.0).log().to(g0.dtype)
            begun = time_s.clamp(max=1.0).to(g0.dtype)
        else:
            logarithm, begun = math.log(max(time_s, 1.0)), min(time_s, 1.0)
        sigma = self.sigma_slope_siemens * logarithm + self.sigma_offset_siemens * begun
        return g0 + (coefficient * sigma + self.mean_slope_siemens * logarithm)


class Retention(DriftTable):
    """Exponential loss, as of a leaking capacitor: ``g = g_rest + (g0 - g_rest) exp(-t / tau)``.

    tau is log-normal: its median times ``exp(sigma xi)`` with one standard normal xi per device.

    Attributes:
        rest_siemens: where the conductance ends.
        time_constant_s: median of tau.
        time_constant_sigma_log: standard deviation of ln tau.
    """

    model: Literal["retention"] = "retention"
    rest_siemens: NonNegative
    time_constant_s: Positive
    time_constant_sigma_log: NonNegative = 0.0

    def _after(self, g0: Tensor, coefficient: Tensor, time_s: Time) -> Tensor:
        # Of tensors minus infinity where no time has passed, and nothing is lost.
        passed = time_s.log() if isinstance(time_s, Tensor) else math.log(time_s)
        logarithm = passed - math.log(self.time_constant_s)
        if isinstance(logarithm, Tensor):
            logarithm = logarithm.to(g0.dtype)
        lived = torch.exp(logarithm - coefficient * self.time_constant_sigma_log)
        # The share that is lost is exact for short times, and 0 leaves g0 as it is.
        return g0 + (self.rest_siemens - g0) * -torch.expm1(-lived)


class Relaxation(DriftTable):
    """Spreading of ReRAM, of which only the standard deviation is known (Wan et al., Nature 2022).

    Deviations from the aim were measured at a few times after programming; each time has a
    polynomial of its standard deviation in the programmed conductance x as a share of the
    reference.  The clock starts at the first of the times, at which programming noise has that
    deviation; later deviations add as variances: ``g = g0 + sqrt(sigma(t)^2 - sigma(t_1)^2) xi``
    with one standard normal xi per device.  Between the times sigma is linear in ln t, after the
    last it stays.

    Attributes:
        times_s: at which it was measured, ascending, since programming.
        coefficients_siemens: one polynomial per time, the constant first.
        reference_siemens: the conductance that counts as 1.
    """

    model: Literal["relaxation"] = "relaxation"
    times_s: Numbers
    coefficients_siemens: Polynomials
    reference_siemens: Positive

    @model_validator(mode="after")
    def _one_polynomial_per_time(self) -> Relaxation:
        times, rows = self.times_s, self.coefficients_siemens
        ascending = all(a < b for a, b in itertools.pairwise(times))
        if len(times) < 2 or times[0] <= 0 or not ascending:
            raise ValueError(problem("times_s", times, "at least two ascending times above 0"))
        if len(rows) != len(times) or not all(rows):
            allowed = f"a list of {len(times)} polynomials, one per time"
            raise ValueError(problem("coefficients_siemens", rows, allowed))
        return self

    def _after(self, g0: Tensor, coefficient: Tensor, time_s: Time) -> Tensor:
        x = g0 / self.reference_siemens
        first = self._sigma(0, x)
        growth = self._interpolated(x, self.times_s[0] + time_s).square_().sub_(first.square_())
        return growth.clamp_(min=0.0).sqrt_().mul_(coefficient).add_(g0)

    def _sigma(self, index: int, x: Tensor) -> Tensor:
        return polynomial(x, self.coefficients_siemens[index]).clamp_(min=0.0)

    def _interpolated(self, x: Tensor, time_s: Time) -> Tensor:
        if isinstance(time_s, Tensor):
            sigma = self._sigma(0, x)
            for place, (before, after) in enumerate(itertools.pairwise(self.times_s)):
                # 0 before this interval and 1 after it.
                way = (time_s / before).log_().div_(math.log(after / before)).clamp_(0.0, 1.0)
                step = self._sigma(place + 1, x) - self._sigma(place, x)
                sigma = sigma + step.mul_(way.to(x.dtype))
            return sigma
        later = next((i for i, t in enumerate(self.times_s) if t > time_s), None)
        if later is None:
            return self._sigma(len(self.times_s) - 1, x)
        before, after = self.times_s[later - 1], self.times_s[later]
        share = math.log(time_s / before) / math.log(after / before)
        return torch.lerp(self._sigma(later - 1, x), self._sigma(later, x), share)


Drift = Annotated[
    PowerLaw | Logarithmic | Retention | Relaxation,
    Field(discriminator="model"),
]
