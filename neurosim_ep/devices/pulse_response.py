"""What one pulse does to a device: how its state moves, and how much that varies.

The state w is normalised: -1 at the card's ``g_min_siemens``, +1 at its ``g_max_siemens``.  Up
pulses raise it and down pulses lower it, every device between bounds of its own.  The equations are
those of the IBM Analog Hardware Acceleration Kit (Rasch et al., AICAS 2021, and its pulsed device
models); the constant step is that of Gokmen & Vlasov, Front. Neurosci. 10:333 (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim_ep.cards import NonNegative
from neurosim_ep.devices.pulse_base import CycleNoise, PulseTable, directions
from neurosim_ep.devices.pulse_devices import PulseDevices

__all__ = [
    "ConstantPulse",
    "ExponentialPulse",
    "LinearPulse",
    "PowerPulse",
    "PulseDevices",
    "PulseResponse",
    "SoftBoundsPulse",
]

Spread = Callable[[float], Tensor]
NEAREST = 0.5
"""How many steps from its bound a power has its steepest slope, which has no limit at the bound."""


class _SlopedTable(PulseTable):
    """Adds the choice between noise on the step and noise beside it.

    Attributes:
        cycle_noise: "multiplicative": on the step as it depends on the state; "additive": on the
            step before it does.
    """

    cycle_noise: CycleNoise = "multiplicative"

    def _noise_scale(self, step: Tensor, direction: Tensor, devices: PulseDevices) -> Tensor:
        if self.cycle_noise == "multiplicative":
            return step
        up, _ = directions(direction)
        return torch.where(up, devices.step_up, devices.step_down)

    @property
    def _noise_follows(self) -> bool:
        return self.cycle_noise == "multiplicative"


class ConstantPulse(PulseTable):
    """Steps of one length: ``+step_up (1 + c xi)``, ``-step_down (1 + c xi)``."""

    model: Literal["constant"] = "constant"

    @property
    def affine(self) -> bool:
        """Steps are affine in the state."""
        return True

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_up

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_down

    def _up_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return torch.zeros_like(devices.step_up)

    def _down_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return torch.zeros_like(devices.step_down)


class LinearPulse(_SlopedTable):
    """Steps that shrink linearly: ``step_up (1 - gamma_up w)``, ``step_down (1 + gamma_down w)``.

    The slope refers to the nominal bounds +-1, not to the device's own (the kit's
    ``mean_bound_reference``).

    Attributes:
        gamma_up: how much of an up step is gone at w = +1.
        gamma_down: how much of a down step is gone at w = -1.
        gamma_up_spread: device-to-device sigma of gamma_up, absolute; the magnitude is taken.
        gamma_down_spread: of gamma_down.
    """

    model: Literal["linear"] = "linear"
    gamma_up: NonNegative = 0.0
    gamma_down: NonNegative = 0.0
    gamma_up_spread: NonNegative = 0.0
    gamma_down_spread: NonNegative = 0.0

    @property
    def affine(self) -> bool:
        """Steps are affine in the state."""
        return True

    def _gammas(self, spread: Spread) -> tuple[Tensor, Tensor]:
        up, down = spread(self.gamma_up_spread), spread(self.gamma_down_spread)
        return (self.gamma_up + up).abs(), (self.gamma_down + down).abs()

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return torch.addcmul(
            devices.step_up, devices.step_up, _given(devices.gamma_up) * w, value=-1.0
        )

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return torch.addcmul(devices.step_down, devices.step_down, _given(devices.gamma_down) * w)

    def _up_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return -devices.step_up * _given(devices.gamma_up)

    def _down_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_down * _given(devices.gamma_down)


class SoftBoundsPulse(_SlopedTable):
    """Steps that vanish at the device's own bound: ``step_up (1 - w/w_max)``, ``1 - w/w_min``."""

    model: Literal["soft_bounds"] = "soft_bounds"

    @property
    def affine(self) -> bool:
        """Steps are affine in the state."""
        return True

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_up * (1.0 - w / devices.w_max)

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_down * (1.0 - w / devices.w_min)

    def _up_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return -devices.step_up / devices.w_max

    def _down_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return -devices.step_down / devices.w_min


class ExponentialPulse(PulseTable):
    """Steps that vanish exponentially towards a bound, as fitted to filamentary ReRAM.

    ``step_up max(1 - a_up exp(gamma_up z), 0)`` and ``step_down max(1 - a_down exp(-gamma_down z),
    0)`` with ``z = 2 a w / (w_max - w_min) + b``.

    Attributes:
        a_up: weight of the exponential in up steps.
        a_down: in down steps.
        gamma_up: rate of the exponential in up steps.
        gamma_down: in down steps.
        a: scale of the state inside the exponentials.
        b: its shift.
    """

    model: Literal["exponential"] = "exponential"
    a_up: float
    a_down: float
    gamma_up: float
    gamma_down: float
    a: float = 1.0
    b: float = 0.0

    def _z(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return 2.0 * self.a * w / (devices.w_max - devices.w_min) + self.b

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        factor = 1.0 - self.a_up * torch.exp(self.gamma_up * self._z(w, devices))
        return devices.step_up * factor.clamp(min=0.0)

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        factor = 1.0 - self.a_down * torch.exp(-self.gamma_down * self._z(w, devices))
        return devices.step_down * factor.clamp(min=0.0)

    def _up_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        exponential = self.a_up * torch.exp(self.gamma_up * self._z(w, devices))
        rate = self.gamma_up * 2.0 * self.a / (devices.w_max - devices.w_min)
        return torch.where(exponential < 1.0, -devices.step_up * rate * exponential, 0.0)

    def _down_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        exponential = self.a_down * torch.exp(-self.gamma_down * self._z(w, devices))
        rate = self.gamma_down * 2.0 * self.a / (devices.w_max - devices.w_min)
        return torch.where(exponential < 1.0, devices.step_down * rate * exponential, 0.0)


class PowerPulse(PulseTable):
    """Steps that fall as a power of the distance from the bound they go to.

    ``step_up ((w_max - w)/R)^gamma_up``, ``step_down ((w - w_min)/R)^gamma_down``, R the device's
    own range.

    Attributes:
        gamma_up: exponent of up steps; 0 is a constant step, 1 a linear fall to zero.
        gamma_down: of down steps.
        gamma_up_spread: device-to-device sigma of gamma_up, absolute; the magnitude is taken.
        gamma_down_spread: of gamma_down.
    """

    model: Literal["power"] = "power"
    gamma_up: NonNegative
    gamma_down: NonNegative
    gamma_up_spread: NonNegative = 0.0
    gamma_down_spread: NonNegative = 0.0

    def _gammas(self, spread: Spread) -> tuple[Tensor, Tensor]:
        up, down = spread(self.gamma_up_spread), spread(self.gamma_down_spread)
        return (self.gamma_up + up).abs(), (self.gamma_down + down).abs()

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        left = (devices.w_max - w) / (devices.w_max - devices.w_min)
        return devices.step_up * left.clamp(min=0.0) ** _given(devices.gamma_up)

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        left = (w - devices.w_min) / (devices.w_max - devices.w_min)
        return devices.step_down * left.clamp(min=0.0) ** _given(devices.gamma_down)

    def _up_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        own, gamma = devices.w_max - devices.w_min, _given(devices.gamma_up)
        left = _left((devices.w_max - w) / own, devices.step_up / own)
        return -devices.step_up * gamma / own * left ** (gamma - 1.0)

    def _down_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        own, gamma = devices.w_max - devices.w_min, _given(devices.gamma_down)
        left = _left((w - devices.w_min) / own, devices.step_down / own)
        return devices.step_down * gamma / own * left ** (gamma - 1.0)


PulseResponse = Annotated[
    ConstantPulse | LinearPulse | SoftBoundsPulse | ExponentialPulse | PowerPulse,
    Field(discriminator="model"),
]
"""The table ``[pulse_response]`` of a device card, by its ``model``."""


def _left(left: Tensor, step: Tensor) -> Tensor:
    """Distance from a bound at which the slope of a power is taken."""
    return torch.maximum(left, NEAREST * step).clamp(min=1e-12)


def _given(gamma: Tensor | None) -> Tensor:
    if gamma is None:
        raise ValueError("devices: without slopes is not allowed; must be of the same card")
    return gamma
