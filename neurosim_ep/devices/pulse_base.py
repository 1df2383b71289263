"""What all pulse responses share: fabrication, single pulses, many pulses at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import CardTable, NonNegative
from neurosim_ep.devices.pulse_devices import PulseDevices
from neurosim_ep.devices.pulse_moments import Steps
from neurosim_ep.devices.pulse_trains import normal_like, pulse_train

CycleNoise = Literal["multiplicative", "additive"]
WINDOW_POINTS = 2000
"""States over which the mean step in the window is taken."""
BISECTIONS = 45
NEAR_STEPS = 1e-3
"""Below this way, in steps, a mean slope is the slope."""


class PulseTable(CardTable):
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
        w_max_spread_relative: device-to-device sigma of the upper bound, as a share of it; absent
            where the card has a table of the window's spread, which gives the bounds.
        w_min_spread_relative: of the lower bound.
        one_sided: only up pulses exist; a device is brought back by programming alone.
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
    one_sided: bool = False

    # --- Fabrication ---------------------------------------------------------------------------

    def fabricate(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        *,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> PulseDevices:
        """Draw the devices: bounds, steps, slopes.

        Every quantity has its place in the stream of random numbers even where its spread is zero,
        so that switching one spread off leaves the others' draws as they were.

        Args:
            shape: of the tensor of devices.
            generator: a CPU generator.
            dtype: of the draws and of the devices.
            bounds: lower and upper bounds of the state, of the shape or one for all; drawn where
                None.

        Returns:
            The devices, on the CPU; what has no spread is one number for all.
        """
        w_min, w_max = self.draw_bounds(shape, generator, dtype) if bounds is None else bounds
        spread = _spreads(shape, generator, dtype)
        gain = spread(self.step_spread_relative)
        imbalance = spread(self.up_down_spread)
        return self._made(gain, imbalance, self._gammas(spread), w_min, w_max)

    def draw_bounds(
        self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Draw the bounds of the state, lower and upper, each of the shape or one for all."""
        spread = _spreads(shape, generator, dtype)
        upper = 1.0 + spread(self.w_max_spread_relative)
        lower = -1.0 - spread(self.w_min_spread_relative)
        # A wide spread can turn the bounds round; the state's zero stays between them.
        return -torch.minimum(lower, upper).abs(), torch.maximum(lower, upper).abs()

    def nominal(self, dtype: torch.dtype = torch.float64) -> PulseDevices:
        """The device without any spread, between the nominal bounds."""
        one, none = torch.ones((), dtype=dtype), torch.zeros((), dtype=dtype)
        return self._made(none, none, self._gammas(lambda sigma: none), -one, one)

    def _made(
        self,
        gain: Tensor,
        imbalance: Tensor,
        gammas: tuple[Tensor, Tensor] | None,
        w_min: Tensor,
        w_max: Tensor,
    ) -> PulseDevices:
        gain = gain.exp() if self.step_spread_lognormal else 1.0 + gain
        return PulseDevices(
            (min(self.up_down, 0.0) + gain + imbalance).abs() * self.step_relative,
            (-max(self.up_down, 0.0) + gain - imbalance).abs() * self.step_relative,
            w_min,
            w_max,
            *(gammas or ()),
        )

    # --- Single pulses -------------------------------------------------------------------------

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
        up, down = directions(direction)
        step = torch.where(up, self._up(w, devices), -self._down(w, devices))
        return torch.where(up | down, step + torch.zeros_like(w), 0.0)

    def slope(self, w: Tensor, direction: Tensor, devices: PulseDevices) -> Tensor:
        """Derivative of `mean_step` by the state, of the same arguments."""
        up, down = directions(direction)
        slope = torch.where(up, self._up_slope(w, devices), -self._down_slope(w, devices))
        return torch.where(up | down, slope + torch.zeros_like(w), 0.0)

    def pulse(
        self, w: Tensor, direction: Tensor, devices: PulseDevices, generator: torch.Generator
    ) -> Tensor:
        """States after one pulse on every device, kept between the devices' bounds.

        Args:
            w: states; fix them between the bounds before the first pulse.
            direction: as for `mean_step`; a device without a pulse keeps its state.
            devices: of `fabricate`.
            generator: of the cycle-to-cycle noise, on any device; used only where there is any.

        Returns:
            A new tensor of the broadcast shape.
        """
        up, down = directions(direction)
        step = self.mean_step(w, direction, devices)
        if self.cycle_spread_relative:
            scale = self._noise_scale(step, direction, devices)
            step = step + self.cycle_spread_relative * scale * normal_like(step, generator)
        return torch.where(up | down, devices.clip(w + step), w)

    def moved(
        self, w: Tensor, upward: Tensor, devices: PulseDevices, generator: torch.Generator
    ) -> Tensor:
        """As `pulse`, but on every device: up where the mask ``upward`` says so, else down."""
        step = torch.where(upward, self._up(w, devices), -self._down(w, devices))
        if self.cycle_spread_relative:
            scale, normal = self._noise_scale(step, upward, devices), normal_like(step, generator)
            step = torch.addcmul(step, scale, normal, value=self.cycle_spread_relative)
        return devices.clip(w + step)

    # --- Many pulses at once -------------------------------------------------------------------

    def pulses(
        self,
        w: Tensor,
        up: Tensor,
        down: Tensor,
        devices: PulseDevices,
        generator: torch.Generator,
    ) -> Tensor:
        """States after any numbers of up and down pulses in random order.

        Up to 32 pulses per device are applied one by one, exactly; longer trains by their mean and
        variance, see `neurosim_ep.devices.pulse_trains`.

        Args:
            w: states between the devices' bounds.
            up: numbers of up pulses, whole and >= 0, of the shape and dtype of ``w``.
            down: numbers of down pulses.
            devices: of `fabricate`, of that shape.
            generator: on any device.

        Returns:
            A new tensor of the shape.
        """
        return pulse_train(self, w, up, down, devices, generator)

    def visible(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """What is seen of the states after a pulse: write noise is added, and no bound stops it.

        Args:
            w: hidden states, which the next pulse starts from.
            generator: on any device.
        """
        if not self.write_noise_relative:
            return w
        return w + self.write_noise_relative * self.step_relative * normal_like(w, generator)

    # What `pulse_train` asks for.

    @property
    def affine(self) -> bool:
        """Whether the steps of a device are affine in its state."""
        return False

    @property
    def noisy(self) -> bool:
        """Whether there is cycle-to-cycle noise."""
        return self.cycle_spread_relative > 0.0

    def around(self, w: Tensor, devices: PulseDevices) -> Steps:
        """The steps around the states, linearised."""
        up, down = self._up(w, devices), -self._down(w, devices)
        upward, cycle = torch.ones_like(w, dtype=torch.bool), self.cycle_spread_relative
        noise_up = cycle * self._noise_scale(up, upward, devices)
        noise_down = cycle * self._noise_scale(down, ~upward, devices)
        slopes = self._up_slope(w, devices), -self._down_slope(w, devices)
        follows = cycle if self._noise_follows else 0.0
        noise_slopes = follows * slopes[0], follows * slopes[1]
        return Steps(up, down, *slopes, noise_up, noise_down, *noise_slopes)

    def across(self, steps: Steps, w: Tensor, end: Tensor, devices: PulseDevices) -> Steps:
        """The steps around the states, with their mean slopes on the way to others."""
        way = end - w
        far = way.abs() > NEAR_STEPS * self.step_relative
        way = torch.where(far, way, 1.0)
        up = (self._up(end, devices) - steps.up) / way
        down = (-self._down(end, devices) - steps.down) / way
        up = torch.where(far, up, steps.slope_up)
        down = torch.where(far, down, steps.slope_down)
        noise = self.cycle_spread_relative * up, self.cycle_spread_relative * down
        slopes = ("slope_up", "slope_down", "noise_slope_up", "noise_slope_down")
        return replace(steps, **dict(zip(slopes, (up, down, *noise), strict=True)))

    # --- What a card's response amounts to -----------------------------------------------------

    def window_step(self) -> float:
        """Mean length of a step over the window [-1, 1] of a device without spread.

        In units of the state; the mean of up and down pulses, of up pulses alone where there are no
        others.
        """
        devices = self.nominal()
        middles = (torch.arange(WINDOW_POINTS, dtype=torch.float64) + 0.5) / WINDOW_POINTS
        w = 2.0 * middles - 1.0
        up = float(self.mean_step(w, torch.tensor(True), devices).abs().mean())
        if self.one_sided:
            return up
        return (up + float(self.mean_step(w, torch.tensor(False), devices).abs().mean())) / 2.0

    def symmetry_point(self, devices: PulseDevices) -> Tensor:
        """The state at which mean up and down steps are equal, device by device.

        As many up as down pulses lead a device there.  Where up steps are the longer ones at every
        state it is the upper bound, where down steps are the lower one; where they are equal at
        every state, the middle between the bounds.

        Args:
            devices: of `fabricate`.

        Returns:
            States between the bounds, of the devices' shape, or one for all.

        Raises:
            ValueError: for a response without down pulses.
        """
        if self.one_sided:
            raise ValueError(problem("one_sided", True, "false for a symmetry point"))
        sum_of_all = devices.step_up + devices.step_down
        for gamma in (devices.gamma_up, devices.gamma_down):
            sum_of_all = sum_of_all if gamma is None else sum_of_all + gamma
        low = devices.w_min + torch.zeros_like(sum_of_all)
        high = devices.w_max + torch.zeros_like(sum_of_all)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2.0
            excess = self._up(middle, devices) - self._down(middle, devices)
            low = torch.where(excess >= 0.0, middle, low)
            high = torch.where(excess <= 0.0, middle, high)
        return (low + high) / 2.0

    # --- What each response defines ------------------------------------------------------------

    @property
    def _noise_follows(self) -> bool:
        """Whether the noise depends on the state as the step does."""
        return True

    def _gammas(self, spread: Callable[[float], Tensor]) -> tuple[Tensor, Tensor] | None:
        """Slopes or exponents of the devices; ``spread`` draws a deviation of given sigma."""
        return None

    def _up(self, w: Tensor, devices: PulseDevices) -> Tensor:
        raise NotImplementedError

    def _down(self, w: Tensor, devices: PulseDevices) -> Tensor:
        """Length of the step down, positive where it lowers the state."""
        raise NotImplementedError

    def _up_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        raise NotImplementedError

    def _down_slope(self, w: Tensor, devices: PulseDevices) -> Tensor:
        raise NotImplementedError

    def _noise_scale(self, step: Tensor, direction: Tensor, devices: PulseDevices) -> Tensor:
        return step


def directions(direction: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of up and of down pulses."""
    if direction.dtype == torch.bool:
        return direction, ~direction
    return direction > 0, direction < 0


def _spreads(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
) -> Callable[[float], Tensor]:
    """A function that draws deviations of a given sigma, or none for all where it is zero."""

    def spread(sigma: float) -> Tensor:
        normal = torch.randn(shape, generator=generator, dtype=dtype)
        return sigma * normal if sigma else torch.zeros((), dtype=dtype)

    return spread
