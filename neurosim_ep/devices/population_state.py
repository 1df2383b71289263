"""What a tensor of devices holds: fabrication, states, clocks, reading, saving."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from neurosim_ep._toml_text import problem
from neurosim_ep.devices.ages import ages_after, seconds
from neurosim_ep.devices.card import DeviceCard
from neurosim_ep.devices.pulse_devices import PulseDevices
from neurosim_ep.devices.pulse_response import PulseResponse
from neurosim_ep.devices.read_noise import ReadConditions, ReadVariance, read_variance
from neurosim_ep.seeds import MAX_SEED, derive_seed


class Population(nn.Module):
    """What `neurosim_ep.devices.Devices` holds and answers, but for what writes to them."""

    programmed: Tensor
    lower: Tensor | None
    upper: Tensor | None
    stuck: Tensor | None
    fluctuating: Tensor | None
    drift_coefficient: Tensor | None
    _drifted: Tensor | None
    _ages: Tensor | None
    _pulse_count: Tensor | None
    _hidden: Tensor | None

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
        self.update_count = 0
        self.elapsed_s = 0.0
        self._pulse_devices: PulseDevices | None = None
        self.drawn_dtype = dtype
        self._fabricate(dtype)
        self.to(device)

    # --- Fabrication ---------------------------------------------------------------------------

    def _fabricate(self, dtype: torch.dtype) -> None:
        card, shape = self.card, tuple(self.shape)
        lower = upper = stuck = fluctuating = None
        bounds = card.draw_bounds(shape, self._generator("spread"), dtype)
        if bounds is not None:
            lower, upper = bounds
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
        # Of devices that drift, at the last write; made once their clocks differ.
        self.register_buffer("_ages", None)
        # Made at the first pulse: devices that are only programmed pay nothing for them.
        self.register_buffer("_pulse_count", None)
        self.register_buffer("_hidden", None)

    def _generator(self, phenomenon: str, *parts: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, phenomenon, *parts))

    # --- States --------------------------------------------------------------------------------

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Bounds that programming stays between, of the shape or one for all."""
        window, like = self.card.window, self.programmed
        lower = like.new_tensor(window.g_min_siemens) if self.lower is None else self.lower
        upper = like.new_tensor(window.g_max_siemens) if self.upper is None else self.upper
        return lower, upper

    def _response(self) -> PulseResponse:
        response = self.card.pulse_response
        if response is None:
            allowed = f"a table in the card {self.card.name} for its devices to be pulsed"
            raise ValueError(problem("pulse_response", None, allowed))
        return response

    @property
    def pulse_count(self) -> Tensor | None:
        """Pulses that each device ever got, int64, of the shape; None without a pulse response."""
        if self.card.pulse_response is None:
            return None
        if self._pulse_count is None:
            zero = torch.zeros((), dtype=torch.int64, device=self.programmed.device)
            return zero.expand(self.shape)
        return self._pulse_count

    @property
    def state(self) -> Tensor:
        """States w that pulses start from, between the devices' bounds, of the shape.

        -1 at the nominal lower bound, +1 at the upper one; the hidden state where the card has
        write noise, else that of the present conductance.
        """
        window = self.card.window
        w = window.state(self.conductance) if self._hidden is None else self._hidden
        if self._hidden is not None and self._drifted is not None:
            w = w + (window.state(self._drifted) - window.state(self.programmed))
        return self._inside(w)

    @property
    def state_bounds(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds of the states, of the shape or one for all."""
        lower, upper = (self.card.window.state(bound) for bound in self._bounds())
        return lower, upper

    @property
    def pulse_devices(self) -> PulseDevices:
        """What pulses need to know of every device; drawn when first asked for.

        Raises:
            ValueError: for a card without pulse response.
        """
        if self._pulse_devices is None:
            response, bounds = self._response(), self.state_bounds
            generator = self._generator("pulse devices")
            drawn = response.fabricate(
                tuple(self.shape), generator, self.drawn_dtype, bounds=bounds
            )
            self._pulse_devices = drawn.to(self.programmed.device, self.programmed.dtype)
        return self._pulse_devices

    def _inside(self, w: Tensor) -> Tensor:
        w_min, w_max = self.state_bounds
        return torch.clamp(w, w_min, w_max)

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

    @property
    def age_s(self) -> float | Tensor:
        """Time since each device was programmed or pulsed, float64 of the shape.

        One number where it is the same for all, and for cards without drift, where it is the time
        since any of them was.
        """
        return self.elapsed_s if self._ages is None else seconds(self._ages) + self.elapsed_s

    @property
    def _drifts(self) -> bool:
        """Whether anything was ever written that could drift."""
        return self.program_count > 0 or self.update_count > 0

    def _restart(self, written: Tensor | None) -> None:
        """Set clocks back: those of a mask, or all; before the elapsed time is."""
        if written is None or not self._drifts:
            self._ages = None
        else:
            self._ages = ages_after(self._ages, self.elapsed_s, written)

    def _refresh(self) -> None:
        """Compute the present conductance."""
        drift, coefficient = self.card.drift, self.drift_coefficient
        self._drifted = None
        if drift is None or coefficient is None or not self._drifts:
            return
        if self.elapsed_s > 0.0 or self._ages is not None:
            kelvin = self.card.operation.temperature_kelvin
            drifted = drift.at(self.programmed, coefficient, self.age_s, kelvin)
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
            elapsed_s=self.age_s,
            temperature_kelvin=self.card.operation.temperature_kelvin,
            range_siemens=self.card.window.range_siemens,
            fluctuating=self.fluctuating,
        )
        return read_variance(self.card.read_noise, self.conductance, conditions)

    # --- Saving --------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """What is not a tensor of devices; as whole numbers, which no change of dtype touches."""
        (time_bits,) = struct.unpack("<q", struct.pack("<d", self.elapsed_s))
        return torch.tensor([self.seed, self.program_count, time_bits, self.update_count])

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what `get_extra_state` gave, also before there were pulses."""
        self.seed, self.program_count, time_bits, *rest = state.tolist()
        self.update_count = rest[0] if rest else 0
        (self.elapsed_s,) = struct.unpack("<d", struct.pack("<q", time_bits))
        # Another seed has other devices.
        self._pulse_devices = None
        self._refresh()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # What pulses and partial writes make may be there in one of the two only.
        made = {"_pulse_count": torch.int64, "_ages": torch.int64, "_hidden": self.programmed.dtype}
        for name, dtype in made.items():
            given = f"{prefix}{name}" in state_dict
            setattr(self, name, torch.empty_like(self.programmed, dtype=dtype) if given else None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Self:
        super()._apply(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        if self._pulse_devices is not None:
            where = self.programmed
            self._pulse_devices = self._pulse_devices.to(where.device, where.dtype)
        return self

    def extra_repr(self) -> str:
        """Card, shape and age, for printing."""
        return f"{self.card.name}, {tuple(self.shape)}, elapsed_s={self.elapsed_s:g}"
