"""A tensor of devices of one card: fabricated once, programmed and pulsed many times, ageing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.devices.population_state import Population
from neurosim_ep.devices.pulse_devices import PulseDevices
from neurosim_ep.devices.writing import Programmed, admitted, checked_shape, write
from neurosim_ep.seeds import derive_seed


class Devices(Population):
    """Devices of one card.

    Every phenomenon draws from a generator of its own, seeded by the seed and the phenomenon's
    name, so that a card without one of them gives the same draws of all others.  Devices that were
    never programmed rest at their lower bound, without drift.

    Args:
        card: the kind of device.
        shape: of the tensor of devices.
        seed: 0 to 2^63 - 1; with the card, the shape and the dtype it fixes all that follows.
        dtype: float32 or float64.
        device: where the tensors live; random numbers are drawn on the CPU, but for the noise of
            pulses, which is drawn where the tensors live.

    Attributes:
        programmed: conductance right after programming in siemens, of the shape.
        lower: the devices' lower bounds in siemens; None where all have the nominal one.
        upper: their upper bounds, likewise.
        stuck: mask of the stuck devices; None where none can be.
        fluctuating: mask of the devices with telegraph noise; None where all or none have it.
        drift_coefficient: what the card's drift drew per device; None without drift.
        seed: as given; a state dict brings its own.
        drawn_dtype: precision in which what fixes a device is drawn, whatever it is moved to later.
        program_count: how often the devices were programmed.
        update_count: how often they were pulsed.
        elapsed_s: time since any of them was programmed or pulsed.

    Raises:
        ValueError: for a seed, shape or dtype that is not allowed.
    """

    # --- Programming ---------------------------------------------------------------------------

    def program(self, target_siemens: Tensor, where: Tensor | None = None) -> Programmed:
        """Program devices; their time restarts at 0, stuck ones keep their conductance.

        Targets are clipped to the nominal window and rounded to its levels; what the devices then
        land at stays between their own bounds.  Devices that are not programmed drift on as they
        did.

        Args:
            target_siemens: conductances in siemens, of the devices' shape, any floating dtype.
            where: mask of the devices that are programmed, of the shape; all where None.  Targets
                of others are ignored.

        Raises:
            ValueError: for a target of another shape, of whole numbers, or with values that are not
                finite, or a mask of another shape or dtype; nothing is programmed then.
        """
        target, clipped = admitted(target_siemens, where, self.card.window, self.programmed)
        conductance, failures, attempts = write(
            target,
            self._stuck_bounds(),
            self.card.programming,
            self.card.write_verify,
            self._generator("programming", self.program_count),
        )
        chosen = torch.ones_like(target, dtype=torch.bool) if where is None else where
        failed = 0 if failures is None else int((failures & chosen).sum())
        spent = int((chosen if attempts is None else attempts * chosen).sum())
        if where is not None:
            conductance = torch.where(where, conductance, self.programmed)
        if self.card.drift:
            self._restart(where)
            generator = self._generator("drift", self.program_count)
            coefficient = self.card.drift.draw(conductance, generator)
            if where is not None and self.drift_coefficient is not None and self._drifts:
                coefficient = torch.where(where, coefficient, self.drift_coefficient)
            self.drift_coefficient = coefficient
        if self._hidden is not None:
            hidden = self._inside(self.card.window.state(conductance))
            self._hidden = hidden if where is None else torch.where(where, hidden, self._hidden)
        self.programmed = conductance
        self.program_count += 1
        self.elapsed_s = 0.0
        self._refresh()
        return Programmed(clipped, failed, spent)

    def measured(self, conductance_siemens: Tensor) -> Tensor:
        """Conductances that were measured, if these devices can have them; nothing changes.

        Devices of a card without drift stay between the lowest and the highest of their bounds;
        those that drift may have fallen to 0.

        Args:
            conductance_siemens: of the devices' shape, any floating dtype.

        Returns:
            the same in the devices' dtype and where they live.

        Raises:
            ValueError: for another shape, whole numbers, or a value that is not finite or outside
                those bounds by more than rounding.
        """
        checked_shape("conductance_siemens", conductance_siemens, self.shape)
        if not conductance_siemens.is_floating_point():
            given = str(conductance_siemens.dtype)
            raise ValueError(problem("conductance_siemens: dtype", given, "floating-point"))
        found = conductance_siemens.detach().to(self.programmed)
        if not found.numel():
            return found
        lower, upper = self._bounds()
        low, high = 0.0 if self.card.drift else float(lower.min()), float(upper.max())
        slack = 8.0 * max(torch.finfo(d.dtype).eps for d in (conductance_siemens, found)) * high
        # Of NaN nothing is true.
        if not bool((fine := (found >= low - slack) & (found <= high + slack)).all()):
            allowed = f"from {low:g} to {high:g}, as the devices of {self.card.name} can have it"
            raise ValueError(problem("conductance_siemens", float(found[~fine][0]), allowed))
        return found

    def stand_at(self, conductance_siemens: Tensor) -> None:
        """Let the devices stand at conductances that were measured; their time starts at 0.

        Nothing is rounded, written with noise or clipped, and stuck devices, too, stand where they
        were measured.  It counts as one programming: from here on they drift by coefficients that
        are drawn anew.

        Args:
            conductance_siemens: as for `measured`.

        Raises:
            ValueError: as for `measured`; nothing changes then.
        """
        conductance = self.measured(conductance_siemens).clone()
        if self.card.drift:
            self._restart(None)
            generator = self._generator("drift", self.program_count)
            self.drift_coefficient = self.card.drift.draw(conductance, generator)
        if self._hidden is not None:
            self._hidden = self._inside(self.card.window.state(conductance))
        self.programmed = conductance
        self.program_count += 1
        self.elapsed_s = 0.0
        self._refresh()

    def _stuck_bounds(self) -> tuple[Tensor, Tensor]:
        """Bounds of the conductances, between which a stuck device has only its own."""
        lower, upper = self._bounds()
        if self.stuck is None:
            return lower, upper
        stuck, own = self.stuck, self.programmed
        return torch.where(stuck, own, lower), torch.where(stuck, own, upper)

    # --- Pulses --------------------------------------------------------------------------------

    def pulse(self, up: Tensor, down: Tensor) -> None:
        """Apply up and down pulses, those of one device in random order; its time restarts at 0.

        Pulses start from the present conductance: what a device has drifted is permanent, and it
        drifts anew from there, by what it drew when it was programmed.  Devices without a pulse
        drift on as they did.  Stuck devices stay.  Where the card has write noise, devices that got
        a pulse show their state with new noise.

        Args:
            up: how many up pulses each device gets, whole and >= 0, of the devices' shape, any
                real dtype.
            down: how many down pulses.

        Raises:
            ValueError: for a card without pulse response, counts that are not allowed, or down
                pulses on a card that has none; nothing is pulsed then.
        """
        response = self._response()
        up, down = self._counts("up", up), self._counts("down", down)
        if response.one_sided and bool((down > 0).any()):
            allowed = f"0, as {self.card.name} has up pulses only"
            raise ValueError(problem("down", float(down.max()), allowed))
        total = up + down
        self._count(total)
        touched = total > 0
        if self.stuck is not None:
            touched &= ~self.stuck
        places = touched.flatten().nonzero().squeeze(1)
        seed = derive_seed(self.seed, "pulses", self.update_count)
        generator = torch.Generator(device=self.programmed.device).manual_seed(seed)
        state, devices = self.state, self.pulse_devices.select(places)
        start, ups, downs = (_at(tensor, places) for tensor in (state, up, down))
        moved = response.pulses(start, ups, downs, devices, generator)
        conductance = self.programmed.clone(memory_format=torch.contiguous_format)
        if response.write_noise_relative:
            seen = self.card.window.siemens(response.visible(moved, generator))
            hidden = self._hidden
            if hidden is None:
                hidden = self._inside(self.card.window.state(self.programmed))
            self._hidden = hidden.clone(memory_format=torch.contiguous_format)
            self._hidden.view(-1).scatter_(0, places, moved)
        else:
            seen = self._at_bounds(moved, devices, places)
        conductance.view(-1).scatter_(0, places, seen)
        if self.card.drift and not self._drifts:
            generator = self._generator("drift of first pulses")
            self.drift_coefficient = self.card.drift.draw(conductance, generator)
        elif self.card.drift:
            self._restart(touched)
        self.programmed = conductance
        self.update_count += 1
        self.elapsed_s = 0.0
        self._refresh()

    def _counts(self, name: str, count: Tensor) -> Tensor:
        checked_shape(name, count, self.shape)
        if count.is_complex():
            raise ValueError(problem(f"{name}: dtype", str(count.dtype), "real"))
        count = count.detach().to(self.programmed)
        if not count.numel():
            return count
        low, high = torch.stack(count.aminmax()).tolist()
        # Of NaN nothing is true.
        if not (low >= 0.0 and high < math.inf and torch.equal(count, count.floor())):
            fine = (count >= 0) & (count == count.floor()) & (count < torch.inf)
            raise ValueError(problem(name, float(count[~fine][0]), "a whole number of at least 0"))
        return count

    def _count(self, pulses: Tensor) -> None:
        pulses = pulses.to(torch.int64)
        self._pulse_count = pulses if self._pulse_count is None else pulses.add_(self._pulse_count)

    def _at_bounds(self, w: Tensor, devices: PulseDevices, places: Tensor) -> Tensor:
        """Conductances of states, with those at a bound exactly there."""
        lower, upper = (_at(b, places) if b.dim() else b for b in self._bounds())
        g = torch.clamp(self.card.window.siemens(w), lower, upper)
        return torch.where(w >= devices.w_max, upper, torch.where(w <= devices.w_min, lower, g))


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Values at places of the flattened tensor; on a CPU several times as fast as ``[places]``."""
    return values.reshape(-1).index_select(0, places)
