"""A tensor of devices of one card: fabricated once, programmed many times, ageing."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neurosim_ep._toml_text import problem
from neurosim_ep.devices.card import DeviceCard
from neurosim_ep.devices.read_noise import ReadConditions, ReadVariance, read_variance
from neurosim_ep.seeds import MAX_SEED, derive_seed


@dataclass(frozen=True)
class Programmed:
    """What programming a tensor of devices came to.

    Attributes:
        clipped: targets outside the nominal window by more than rounding.
        failed: devices, stuck ones among them, that write-verify gave up on; 0 without it.
        attempts: programming pulses over all devices; one per device without write-verify.
    """

    clipped: int
    failed: int
    attempts: int


class Devices(nn.Module):
    """Devices of one card.

    Every phenomenon draws from a generator of its own, seeded by the seed and the phenomenon's
    name, so that a card without one of them gives the same draws of all others.  Devices that were
    never programmed rest at their lower bound, without drift.

    Args:
        card: the kind of device.
        shape: of the tensor of devices.
        seed: 0 to 2^63 - 1; with the card, the shape and the dtype it fixes all that follows.
        dtype: float32 or float64.
        device: where the tensors live; random numbers are drawn on the CPU.

    Attributes:
        programmed: conductance right after programming in siemens, of the shape.
        lower: the devices' lower bounds in siemens; None where all have the nominal one.
        upper: their upper bounds, likewise.
        stuck: mask of the stuck devices; None where none can be.
        fluctuating: mask of the devices with telegraph noise; None where all or none have it.
        drift_coefficient: what the card's drift drew per device; None without drift.
        seed: as given; a state dict brings its own.
        program_count: how often the devices were programmed.
        elapsed_s: time since they were.

    Raises:
        ValueError: for a seed, shape or dtype that is not allowed.
    """

    programmed: Tensor
    lower: Tensor | None
    upper: Tensor | None
    stuck: Tensor | None
    fluctuating: Tensor | None
    drift_coefficient: Tensor | None
    _drifted: Tensor | None

    def __init__(
        self,
        card: DeviceCard,
        shape: Sequence[int],
        *,
        seed: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if type(seed) is not int or not 0 <= seed <= MAX_SEED:
            raise ValueError(problem("seed", seed, f"a whole number from 0 to {MAX_SEED}"))
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(problem("dtype", str(dtype), "torch.float32 or torch.float64"))
        if any(size < 0 for size in shape):
            raise ValueError(problem("shape", list(shape), "sizes of at least 0"))
        self.card = card
        self.shape = torch.Size(shape)
        self.seed = seed
        self.program_count = 0
        self.elapsed_s = 0.0
        self._fabricate(dtype)
        self.to(device)

    # --- Fabrication ---------------------------------------------------------------------------

    def _fabricate(self, dtype: torch.dtype) -> None:
        card, shape = self.card, tuple(self.shape)
        lower = upper = stuck = fluctuating = None
        if card.spread:
            generator = self._generator("spread")
            lower, upper = card.spread.draw(card.window, shape, generator, dtype)
        at_rest: Tensor | float = card.window.g_min_siemens if lower is None else lower
        programmed = torch.empty(shape, dtype=dtype)
        programmed.copy_(torch.as_tensor(at_rest, dtype=dtype))
        if card.faults and card.faults.total_fraction > 0.0:
            top = card.window.g_max_siemens if upper is None else upper
            generator = self._generator("faults")
            stuck, places = card.faults.draw(at_rest, top, shape, generator, dtype)
            programmed = torch.where(stuck, places, programmed)
        if card.telegraph:
            fluctuating = card.telegraph.draw(shape, self._generator("telegraph"), dtype)
        self.register_buffer("programmed", programmed)
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)
        self.register_buffer("stuck", stuck)
        self.register_buffer("fluctuating", fluctuating)
        coefficient = torch.zeros_like(programmed) if card.drift else None
        self.register_buffer("drift_coefficient", coefficient)
        self.register_buffer("_drifted", None, persistent=False)

    def _generator(self, phenomenon: str, *parts: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, phenomenon, *parts))

    # --- Programming ---------------------------------------------------------------------------

    def program(self, target_siemens: Tensor) -> Programmed:
        """Program all devices; time restarts at 0, stuck devices keep their conductance.

        Targets are clipped to the nominal window and rounded to its levels; what the devices then
        land at stays between their own bounds.

        Args:
            target_siemens: conductances in siemens, of the devices' shape, any floating dtype.

        Raises:
            ValueError: for a target of another shape, of whole numbers, or with values that are not
                finite; nothing is programmed then.
        """
        target, clipped = self._admitted(target_siemens)
        generator = self._generator("programming", self.program_count)
        conductance, failed, attempts = self._written(target, generator)
        self.programmed = conductance
        if self.card.drift:
            generator = self._generator("drift", self.program_count)
            self.drift_coefficient = self.card.drift.draw(conductance, generator)
        self.program_count += 1
        self.elapsed_s = 0.0
        self._refresh()
        return Programmed(clipped, failed, attempts)

    def _admitted(self, target: Tensor) -> tuple[Tensor, int]:
        """Targets within the window, on its levels, and how many were outside."""
        if target.shape != self.shape:
            allowed = f"{list(self.shape)}, the shape of the devices"
            raise ValueError(problem("target_siemens: shape", list(target.shape), allowed))
        if not target.is_floating_point():
            raise ValueError(problem("target_siemens: dtype", str(target.dtype), "floating-point"))
        coarser = max(torch.finfo(d.dtype).eps for d in (target, self.programmed))
        target = target.detach().to(self.programmed)
        if not bool(torch.isfinite(target).all()):
            first = float(target[~torch.isfinite(target)][0])
            raise ValueError(problem("target_siemens", first, "finite"))
        window = self.card.window
        slack = 8.0 * coarser * window.g_max_siemens
        low, high = window.g_min_siemens - slack, window.g_max_siemens + slack
        clipped = int(((target < low) | (target > high)).sum())
        return window.round(target.clamp(window.g_min_siemens, window.g_max_siemens)), clipped

    def _written(self, target: Tensor, generator: torch.Generator) -> tuple[Tensor, int, int]:
        """Conductances after programming, how many devices failed, how many pulses were spent."""
        lower, upper = self._bounds()
        programming, verify = self.card.programming, self.card.write_verify
        if verify:
            sigma = programming.sigma(target) if programming else torch.zeros_like(target)
            if self.stuck is not None:
                lower = torch.where(self.stuck, self.programmed, lower)
                upper = torch.where(self.stuck, self.programmed, upper)
            written = verify.write(target, sigma, lower, upper, generator)
            failed, attempts = int(written.failed.sum()), int(written.attempts.sum())
            return written.conductance, failed, attempts
        if programming:
            normal = torch.randn(target.shape, generator=generator, dtype=target.dtype)
            target = target + programming.sigma(target) * normal.to(target.device)
        target = torch.minimum(torch.maximum(target, lower), upper)
        if self.stuck is not None:
            target = torch.where(self.stuck, self.programmed, target)
        return target, 0, target.numel()

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Bounds that programming stays between, of the shape or one for all."""
        window, like = self.card.window, self.programmed
        lower = like.new_tensor(window.g_min_siemens) if self.lower is None else self.lower
        upper = like.new_tensor(window.g_max_siemens) if self.upper is None else self.upper
        return lower, upper

    # --- Time ----------------------------------------------------------------------------------

    def advance_time(self, seconds: float) -> None:
        """Let time pass since programming.

        Raises:
            ValueError: for a negative time or one that is not finite; nothing changes then.
        """
        if not (math.isfinite(seconds) and seconds >= 0.0):
            raise ValueError(problem("seconds", seconds, "a finite number of at least 0"))
        if not math.isfinite(self.elapsed_s + seconds):
            raise ValueError(problem("seconds", seconds, "such that the elapsed time stays finite"))
        self.elapsed_s += float(seconds)
        self._refresh()

    def _refresh(self) -> None:
        """Compute the present conductance."""
        drift, coefficient = self.card.drift, self.drift_coefficient
        self._drifted = None
        if drift is None or coefficient is None or self.program_count == 0:
            return
        if self.elapsed_s > 0.0:
            kelvin = self.card.operation.temperature_kelvin
            drifted = drift.at(self.programmed, coefficient, self.elapsed_s, kelvin)
            if self.stuck is not None:
                drifted = torch.where(self.stuck, self.programmed, drifted)
            self._drifted = drifted

    # --- Reading -------------------------------------------------------------------------------

    @property
    def conductance(self) -> Tensor:
        """Present mean conductance in siemens, of the shape; not to be written to."""
        return self.programmed if self._drifted is None else self._drifted

    def read_variance(self) -> ReadVariance:
        """Variance of each device's current at present, from all read noise of the card."""
        conditions = ReadConditions(
            programmed=self.programmed,
            elapsed_s=self.elapsed_s,
            temperature_kelvin=self.card.operation.temperature_kelvin,
            range_siemens=self.card.window.range_siemens,
            fluctuating=self.fluctuating,
        )
        return read_variance(self.card.read_noise, self.conductance, conditions)

    # --- Saving --------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """What is not a tensor of devices; as whole numbers, which no change of dtype touches."""
        (time_bits,) = struct.unpack("<q", struct.pack("<d", self.elapsed_s))
        return torch.tensor([self.seed, self.program_count, time_bits])

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what `get_extra_state` gave."""
        self.seed, self.program_count, time_bits = state.tolist()
        (self.elapsed_s,) = struct.unpack("<d", struct.pack("<q", time_bits))
        self._refresh()

    def extra_repr(self) -> str:
        """Card, shape and age, for printing."""
        return f"{self.card.name}, {tuple(self.shape)}, elapsed_s={self.elapsed_s:g}"
