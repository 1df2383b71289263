"""What all pulse responses share: fabrication, single pulses, many pulses at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import CardTable, NonNegative
from neurosim_ep.devices.pulse_devices import PulseDevices
from neurosim_ep.devices.pulse_trains import (Steps, composition, order_variance, stopped, train)

CycleNoise = Literal["multiplicative", "additive"]
WINDOW_POINTS = 2000
"""States over which the mean step in the window is taken."""
BISECTIONS = 60


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

    PARTS: ClassVar[int] = 1
    """In how many parts a train is linearised; 1 where the step is affine in the state."""

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

        def spread(sigma: float) -> Tensor:
            normal = torch.randn(shape, generator=generator, dtype=dtype)
            return sigma * normal if sigma else torch.zeros((), dtype=dtype)

        gain = spread(self.step_spread_relative)
        imbalance = spread(self.up_down_spread)
        return self._made(gain, imbalance, self._gammas(spread), w_min, w_max)

    def draw_bounds(
        self, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Draw the bounds of the state, lower and upper, each of the shape or one for all."""

        def spread(sigma: float) -> Tensor:
            normal = torch.randn(shape, generator=generator, dtype=dtype)
            return sigma * normal if sigma else torch.zeros((), dtype=dtype)

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
        return torch.where(up | down, _between(w + step, devices), w)

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

        Where no device gets more than one pulse this is `pulse`.  Otherwise one normal number per
        device and part of the train has the mean and variance of the loop over single pulses; see
        `neurosim_ep.devices.pulse_trains` for how.

        Args:
            w: states between the devices' bounds.
            up: numbers of up pulses, whole and >= 0, of the shape and dtype of ``w``.
            down: numbers of down pulses.
            devices: of `fabricate`, of that shape.
            generator: on any device.

        Returns:
            A new tensor of the shape.
        """
        total, fewer = up + down, torch.minimum(up, down)
        if not total.numel():
            return w.clone()
        most, most_mixed = torch.stack([total.max(), fewer.max()]).tolist()
        if most <= 1.0:
            return self.pulse(w, up - down, devices, generator)
        mixed = most_mixed > 0.0
        parts = 4 if mixed else self.PARTS
        noisy = mixed or self.cycle_spread_relative > 0.0
        state, done = w, torch.zeros_like(total)
        for part in range(parts):
            count = torch.floor(total * ((part + 1) / parts) + 0.5) - done
            done = done + count
            ups = torch.minimum(count, up)
            if mixed:
                ups = composition(up, down, count, uniform_like(w, generator))
            downs = count - ups
            up, down = up - ups, down - downs
            low, high = devices.w_min - state, devices.w_max - state
            steps = self._around(state, devices)
            moments = train(steps, ups, downs, low, high, mixed=mixed)
            if self.PARTS > 1:
                steps = self._across(steps, state, moments.shift, devices)
                moments = train(steps, ups, downs, low, high, mixed=mixed)
            shift = moments.shift
            if noisy:
                variance = moments.variance
                order = order_variance(steps, moments, ups, downs) if mixed else 0.0
                shift = shift + (variance + order).sqrt() * normal_like(w, generator)
                place = uniform_like(w, generator)
                shift = stopped(shift, place, steps, variance, ups, downs, low, high)
            state = torch.where(count > 0, _between(state + shift, devices), state)
        return state

    def _across(self, steps: Steps, w: Tensor, shift: Tensor, devices: PulseDevices) -> Steps:
        """The same steps, with the mean slopes between the states and where a train leads."""
        end = _between(w + shift, devices)
        way = end - w
        far = way.abs() > 1e-3 * self.step_relative
        way = torch.where(far, way, 1.0)
        up = torch.where(far, (self._up(end, devices) - steps.up) / way, steps.slope_up)
        down = torch.where(far, (-self._down(end, devices) - steps.down) / way, steps.slope_down)
        cycle = self.cycle_spread_relative
        return replace(steps, slope_up=up, slope_down=down, noise_slope_up=cycle*up, noise_slope_down=cycle*down)

    def visible(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """What is seen of the states after a pulse: write noise is added, and no bound stops it.

        Args:
            w: hidden states, which the next pulse starts from.
            generator: on any device.
        """
        if not self.write_noise_relative:
            return w
        return w + self.write_noise_relative * self.step_relative * normal_like(w, generator)

    def _around(self, w: Tensor, devices: PulseDevices) -> Steps:
        """The steps around the states, linearised."""
        up, down = self._up(w, devices), -self._down(w, devices)
        slopes = self._up_slope(w, devices), -self._down_slope(w, devices)
        cycle, one = self.cycle_spread_relative, torch.ones_like(w, dtype=torch.bool)
        follows = cycle if self._noise_follows else 0.0
        return Steps(
            up,
            down,
            *slopes,
            cycle * self._noise_scale(up, one, devices),
            cycle * self._noise_scale(down, ~one, devices),
            follows * slopes[0],
            follows * slopes[1],
        )

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


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of a tensor's shape, dtype and device from a generator on any."""
    drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def uniform_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform numbers in (0, 1), likewise."""
    drawn = torch.rand(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.clamp(min=torch.finfo(like.dtype).eps / 4.0).to(like.device)


def _between(w: Tensor, devices: PulseDevices) -> Tensor:
    return torch.minimum(torch.maximum(w, devices.w_min), devices.w_max)
