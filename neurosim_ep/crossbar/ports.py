"""The converters of one kind of read: what is driven and how sensed currents become numbers."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neurosim_ep.crossbar.card import ArrayCard, Converters
from neurosim_ep.crossbar.converters import Calibration, Step, largest_code, quantise


class Port(nn.Module):
    """DACs and ADCs of one direction, for full or for delta reads.

    Where the card asks for it, full scales are calibrated on data: the driven one in units of the
    state, the sensed ones in ampere, one per tile.

    Args:
        converters: of the array card; None is ideal.
        bound: largest driven value where it is known, the bound of the layer's activation.
        signed: whether negative values are driven.
        tiles: rows and columns of tiles.
        shared: the port of full reads whose ranges these delta reads have to use; None where they
            have their own.

    Attributes:
        calibrating: whether reads are ideal now, and recorded.
        calibrations: counts up whenever a full scale may have changed.
        dac_full_scale: calibrated; NaN before, 0-dimensional.
        adc_full_scale_ampere: calibrated (row tiles, column tiles); NaN before.
    """

    dac_full_scale: Tensor
    adc_full_scale_ampere: Tensor

    def __init__(
        self,
        converters: Converters | None,
        bound: float | None,
        *,
        signed: bool,
        tiles: tuple[int, int],
        shared: "Port | None" = None,
    ) -> None:
        super().__init__()
        self.converters, self.bound = converters, bound
        self.signed = signed or bound is None
        # In a list, the other port is not registered as a part of this one.
        self._shared = [shared] if shared is not None else []
        self.register_buffer("dac_full_scale", torch.tensor(math.nan, dtype=torch.float64))
        self.register_buffer("adc_full_scale_ampere", torch.full(tiles, math.nan))
        self.calibrating = False
        self.drive_seen: Calibration | None = None
        self.current_seen: Calibration | None = None
        self.calibrations = 0
        self._steps: dict[tuple[float, torch.dtype, torch.device], Step] = {}
        self._dac: float | None = None
        self._adc_ready = False

    @property
    def ranges(self) -> "Port":
        """The port that holds the ranges of these reads."""
        return self._shared[0] if self._shared else self

    @property
    def by_tile(self) -> bool:
        """Whether every tile's current has to be known by itself."""
        card = self.converters
        if card is None:
            return False
        needed = card.adc_bits is not None or card.adc_noise_ampere > 0.0
        return needed or self.calibrating

    @property
    def _converts(self) -> bool:
        """Whether anything is rounded or noisy here, so that ranges matter."""
        card = self.converters
        if card is None:
            return False
        return (card.dac_bits, card.adc_bits, card.adc_noise_ampere) != (None, None, 0.0)

    def start_calibrating(self) -> None:
        """Read ideally and record from now on."""
        self.calibrating = True
        if self.converters is not None and not self._shared:
            self.drive_seen, self.current_seen = Calibration(), Calibration()

    def stop_calibrating(self) -> None:
        """Read as before, with the ranges that were."""
        self.calibrating = False
        self.drive_seen = self.current_seen = None

    def record(self, currents: Tensor, scale: float | Tensor) -> None:
        """Record the largest current of each tile while calibrating.

        Args:
            currents: (samples, row tiles, column tiles), in ampere.
            scale: full scale at which they were driven.
        """
        if self.current_seen is not None:
            # The driven full scale may not be known yet: currents at a full scale of 1.
            self.current_seen.add(currents if self._follows_reads else currents * scale)

    def finish_calibrating(self) -> None:
        """Set the full scales to the quantile of what was seen; keep them where nothing was."""
        card, driven, sensed = self.converters, self.drive_seen, self.current_seen
        self.stop_calibrating()
        if card is not None and driven is not None and driven.seen:
            scale = driven.full_scale(card.calibration_quantile)
            if self.bound is not None:
                # A layer that was silent may wake later.
                scale = torch.where(scale > torch.finfo(scale.dtype).tiny, scale, self.bound)
            self.dac_full_scale.copy_(scale)
        self._hold_ranges()
        if card is not None and sensed is not None and sensed.seen:
            currents = sensed.full_scale(card.calibration_quantile)
            silent = currents <= torch.finfo(currents.dtype).tiny
            currents = torch.where(silent, currents.max(), currents)
            if not self._follows_reads:
                currents = currents / self.full_scale(currents)
            self.adc_full_scale_ampere.copy_(currents)
        self._hold_ranges()

    @property
    def _follows_reads(self) -> bool:
        """Whether the driven full scale is each read's own."""
        return self.converters is not None and self.converters.dac_range == "ideal"

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._hold_ranges()

    def _hold_ranges(self) -> None:
        """Keep on the host what every read asks for: settling never waits for the device."""
        self.calibrations += 1
        self._steps.clear()
        scale = float(self.dac_full_scale)
        self._dac = None if math.isnan(scale) else scale
        self._adc_ready = bool(self.adc_full_scale_ampere.isfinite().all())

    def full_scale(self, driven: Tensor) -> float | Tensor:
        """Full scale of the driven values.

        Raises:
            ValueError: if the range has to be calibrated on data and was not.
        """
        kind = "known" if self.converters is None else self.converters.dac_range
        if self.converters is None or (self.calibrating and not self._follows_reads):
            kind = "ideal" if self.bound is None else "known"
        if kind == "fixed":
            assert self.converters is not None
            assert self.converters.dac_range_state is not None
            return self.converters.dac_range_state
        if kind == "known" and self.bound is not None:
            return self.bound
        scale = self.ranges._dac
        if kind != "ideal" and scale is not None:
            return scale
        if kind != "ideal" and self._converts:
            raise ValueError(
                f"dac_range: {kind!r} is not allowed before the converters are calibrated on data"
            )
        if kind != "ideal" and self.bound is not None:
            return self.bound
        return driven.abs().amax().clamp_min(torch.finfo(driven.dtype).tiny)

    def drive(self, values: Tensor, full_scale: float | Tensor, *, signed: bool) -> Tensor:
        """What the DACs make of the values; the values themselves where they are ideal.

        ``signed`` asks for signed codes where states would not need them.
        """
        if self.drive_seen is not None:
            self.drive_seen.add(values.reshape(-1))
        if self.calibrating or self.converters is None or self.converters.dac_bits is None:
            return values
        bits = self.converters.dac_bits
        signed = signed or self.signed
        return quantise(values, self._step(full_scale, signed, values), bits, signed)

    def _step(self, full_scale: float | Tensor, signed: bool, like: Tensor) -> Step:
        """One code of the DACs; held where the full scale is known."""
        card = self.converters
        assert card is not None
        assert card.dac_bits is not None
        size = full_scale / largest_code(card.dac_bits, signed)
        if isinstance(size, Tensor):
            return Step.of(size, like)
        key = size, like.dtype, like.device
        held = self._steps.get(key)
        if held is None:
            held = self._steps[key] = Step.of(size, like)
        return held

    @property
    def adc_bits(self) -> int | None:
        """Resolution of the sensed currents; None where nothing is rounded."""
        return None if self.converters is None or self.calibrating else self.converters.adc_bits

    @property
    def adc_range(self) -> str:
        """Kind of the sensed range; ``ideal`` follows each read's largest current."""
        return "ideal" if self.converters is None else self.converters.adc_range

    def adc_full_scale(self) -> Tensor:
        """Largest current of every tile's ADC (row tiles, column tiles), in ampere.

        Raises:
            ValueError: if the range has to be calibrated on data and was not.
        """
        card = self.converters
        assert card is not None
        if card.adc_range_ampere is not None:
            return torch.full_like(self.adc_full_scale_ampere, card.adc_range_ampere)
        ranges = self.ranges
        if not ranges._adc_ready:
            raise ValueError(
                "adc_range: 'calibrated' is not allowed before the converters are calibrated on "
                "data"
            )
        return ranges.adc_full_scale_ampere


def edge_ports(
    array: ArrayCard, bounds: tuple[float | None, float | None], tiles: tuple[int, int]
) -> dict[tuple[str, bool], Port]:
    """The ports of an edge, by ``forward`` or ``transposed`` and whether they are for delta reads.

    Args:
        array: its converters.
        bounds: largest state of the pre and of the post layer; None where there is none.
        tiles: rows and columns of tiles.
    """
    ports: dict[tuple[str, bool], Port] = {}
    for direction, bound in zip(("forward", "transposed"), bounds, strict=True):
        full = Port(array.converters(direction, False), bound, signed=False, tiles=tiles)
        second = getattr(array, f"{direction}_delta")
        ports[direction, False] = full
        ports[direction, True] = Port(
            array.converters(direction, True),
            bound,
            signed=True,
            tiles=tiles,
            shared=full if second is None else None,
        )
    return ports


@contextmanager
def calibrating(ports: Iterable[nn.Module]) -> Iterator[None]:
    """Ports read ideally inside, and take their ranges from what they saw at its end.

    After an error inside, the ranges are what they were.
    """
    chosen = [port for port in ports if isinstance(port, Port)]
    for port in chosen:
        port.start_calibrating()
    try:
        yield
    except BaseException:
        for port in chosen:
            port.stop_calibrating()
        raise
    for port in chosen:
        port.finish_calibrating()
