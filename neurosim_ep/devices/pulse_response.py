"""What one pulse does to a device: how its state moves, and how much that varies.

The state w is normalised: -1 at the card's ``g_min_siemens``, +1 at its ``g_max_siemens``.  Up
pulses raise it and down pulses lower it, every device between bounds of its own.  The equations are
those of the IBM Analog Hardware Acceleration Kit (Rasch et al., AICAS 2021, and its pulsed device
models); the constant step is that of Gokmen & Vlasov, Front. Neurosci. 10:333 (2016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim_ep.cards import CardTable, NonNegative

CycleNoise = Literal["multiplicative", "additive"]


@dataclass(frozen=True)
class PulseDevices:
    """What fabrication gave every device; all tensors have the devices' shape.

    Attributes:
        step_up: an up pulse's step before it depends on the state, >= 0, in units of the state.
        step_down: a down pulse's, likewise >= 0.
        w_min: lower bound of the state, <= 0.
        w_max: upper bound of the state, >= 0.
        gamma_up: slope ("linear") or exponent ("power") of up pulses, >= 0, else None.
        gamma_down: of down pulses.
    """

    step_up: Tensor
    step_down: Tensor
    w_min: Tensor
    w_max: Tensor
    gamma_up: Tensor | None = None
    gamma_down: Tensor | None = None

    def to(self, device: torch.device | str) -> PulseDevices:
        """The same devices with their tensors on another device."""
        return replace(
            self, **{k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        )


class _PulseTable(CardTable):
    """What all pulse responses share.

    Attributes:
        step_relative: mean step of a pulse, of a state whose window is 2 wide: 2 / step_relative
            is the number of states.
        step_spread_relative: device-to-device sigma of the step, as a share of the mean step.
        step_spread_lognormal: the share is exp(sigma xi) instead of 1 + sigma xi.
        up_down: asymmetry: above 0 shortens down steps, below 0 up steps, by this share.
        up_down_spread: device-to-device sigma of the asymmetry: up + xi, down - xi.
        cycle_spread_relative: cycle-to-cycle sigma of a step, as a share of that step.
        write_noise_relative: sigma of what is seen of the state, in steps (`visible`).
        w_max_spread_relative: device-to-device sigma of the upper bound, as a share of it.
        w_min_spread_relative: of the lower bound.
    """

    step_relative: Annotated[float, Field(gt=0, le=2)]
    step_spread_relative: NonNegative = 0.0
    step_spread_lognormal: bool = False
    up_down: Annotated[float, Field(gt=-1, lt=1)] = 0.0
    up_down_spread: NonNegative = 0.0
    cycle_spread_relative: NonNegative = 0.0
    write_noise_relative: NonNegative = 0.0
    w_max_spread_relative: NonNegative = 0.0
    w_min_spread_relative: NonNegative = 0.0

    def fabricate(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> PulseDevices:
        """Draw the devices: bounds, steps, slopes.

        Every quantity has its place in the stream of random numbers even where its spread is zero,
        so that switching one spread off leaves the others' draws as they were.

        Args:
            shape: of the tensor of devices.
            generator: a CPU generator.
            dtype: of the draws and of the devices.

        Returns:
            The devices, on the CPU.
        """

        def normal() -> Tensor:
            return torch.randn(shape, generator=generator, dtype=dtype)

        upper = 1.0 + self.w_max_spread_relative * normal()
        lower = -1.0 - self.w_min_spread_relative * normal()
        spread = self.step_spread_relative * normal()
        gain = spread.exp() if self.step_spread_lognormal else 1.0 + spread
        imbalance = self.up_down_spread * normal()
        gamma_up, gamma_down = self._gammas(normal(), normal())
        return PulseDevices(
            step_up=(min(self.up_down, 0.0) + gain + imbalance).abs() * self.step_relative,
            step_down=(-max(self.up_down, 0.0) + gain - imbalance).abs() * self.step_relative,
            # A wide spread can turn the bounds round; the state's zero stays between them.
            w_min=-torch.minimum(lower, upper).abs(),
            w_max=torch.maximum(lower, upper).abs(),
            gamma_up=gamma_up,
            gamma_down=gamma_down,
        )

    def mean_step(self, w: Tensor, direction: Tensor, devices: PulseDevices) -> Tensor:
        """Signed step of a pulse without cycle-to-cycle noise and before the bounds stop it.

        Args:
            w: states, in the devices' shape or one that broadcasts with it.
            direction: True, or a number above 0, is an up pulse; below 0 a down pulse; False is a
                down pulse, the number 0 none.
            devices: of `fabricate`.

        Returns:
            Steps in units of the state, in the shape that all three broadcast to.
        """
        up, down = _directions(direction)
        step = torch.where(up, self._up(w, devices), -self._down(w, devices))
        return torch.where(up | down, step + torch.zeros_like(w), 0.0)

    def pulse(
        self, w: Tensor, direction: Tensor, devices: PulseDevices, generator: torch.Generator
    ) -> Tensor:
        """States after one pulse on every device, kept between the devices' bounds.

        Args:
            w: states; fix them between the bounds before the first pulse.
            direction: as for `mean_step`; a device without a pulse keeps its state.
            devices: of `fabricate`.
            generator: a CPU generator of the cycle-to-cycle noise, used only where there is any.

        Returns:
            A new tensor of the broadcast shape.
        """
        up, down = _directions(direction)
        step = self.mean_step(w, direction, devices)
        if self.cycle_spread_relative:
            xi = torch.randn(step.shape, generator=generator, dtype=step.dtype).to(step.device)
            scale = self._noise_scale(step, direction, devices)
            step = step + self.cycle_spread_relative * scale * xi
        moved = torch.minimum(torch.maximum(w + step, devices.w_min), devices.w_max)
        return torch.where(up | down, moved, w)

    def visible(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """What is seen of the states after a pulse: write noise is added, and no bound stops it.

        Args:
            w: hidden states, which the next pulse starts from.
            generator: a CPU generator.
        """
        if not self.write_noise_relative:
            return w
        sigma = self.write_noise_relative * self.step_relative
        return w + sigma * torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w.device)

    def _gammas(self, up: Tensor, down: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Slopes or exponents of the devices from two standard normal draws."""
        return None, None

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        raise NotImplementedError

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        """Length of the step down, positive where it lowers the state."""
        raise NotImplementedError

    def _noise_scale(self, step: Tensor, direction: Tensor, devices: PulseDevices) -> Tensor:
        return step


class _SlopedTable(_PulseTable):
    """Adds the choice between noise on the step and noise beside it.

    Attributes:
        cycle_noise: "multiplicative": on the step as it depends on the state; "additive": on the
            step before it does.
    """

    cycle_noise: CycleNoise = "multiplicative"

    def _noise_scale(self, step: Tensor, direction: Tensor, devices: PulseDevices) -> Tensor:
        if self.cycle_noise == "multiplicative":
            return step
        up, _ = _directions(direction)
        return torch.where(up, devices.step_up, devices.step_down)


class ConstantPulse(_PulseTable):
    """Steps of one length: ``+step_up (1 + c xi)``, ``-step_down (1 + c xi)``."""

    model: Literal["constant"] = "constant"

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_up

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_down


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

    def _gammas(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        return (
            (self.gamma_up + self.gamma_up_spread * up).abs(),
            (self.gamma_down + self.gamma_down_spread * down).abs(),
        )

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_up * (1.0 - _given(devices.gamma_up) * w)

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_down * (1.0 + _given(devices.gamma_down) * w)


class SoftBoundsPulse(_SlopedTable):
    """Steps that vanish at the device's own bound: ``step_up (1 - w/w_max)``, ``1 - w/w_min``."""

    model: Literal["soft_bounds"] = "soft_bounds"

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_up * (1.0 - w / devices.w_max)

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        return devices.step_down * (1.0 - w / devices.w_min)


class ExponentialPulse(_PulseTable):
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


class PowerPulse(_PulseTable):
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

    def _gammas(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        return (
            (self.gamma_up + self.gamma_up_spread * up).abs(),
            (self.gamma_down + self.gamma_down_spread * down).abs(),
        )

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        left = (devices.w_max - w) / (devices.w_max - devices.w_min)
        return devices.step_up * left.clamp(min=0.0) ** _given(devices.gamma_up)

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        left = (w - devices.w_min) / (devices.w_max - devices.w_min)
        return devices.step_down * left.clamp(min=0.0) ** _given(devices.gamma_down)


PulseResponse = Annotated[
    ConstantPulse | LinearPulse | SoftBoundsPulse | ExponentialPulse | PowerPulse,
    Field(discriminator="model"),
]


def _directions(direction: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of up and of down pulses."""
    if direction.dtype == torch.bool:
        return direction, ~direction
    return direction > 0, direction < 0


def _given(gamma: Tensor | None) -> Tensor:
    if gamma is None:
        raise ValueError("devices: without slopes is not allowed; must be of the same card")
    return gamma
