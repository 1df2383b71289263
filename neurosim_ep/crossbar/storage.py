"""The storage of an edge whose weights sit on arrays."""

from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from neurosim_ep.crossbar.bias_row import BiasRow
from neurosim_ep.crossbar.card import ArrayCard
from neurosim_ep.crossbar.converters import largest_code
from neurosim_ep.crossbar.digital import code_step, digitise, largest_by_tile
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.noise import NormalSource, add_noise
from neurosim_ep.crossbar.ports import Port, edge_ports
from neurosim_ep.crossbar.prepared import Prepared
from neurosim_ep.crossbar.reading import tile_reads
from neurosim_ep.crossbar.tiles import edge_tiling
from neurosim_ep.devices import DeviceCard, Programmed
from neurosim_ep.models import (
    Geometry,
    NoiseSum,
    WeightStorage,
    as_complex,
    as_real,
)
from neurosim_ep.seeds import derive_seed


class CrossbarStorage(WeightStorage):
    """Weights on arrays that are read in both directions.

    A read goes: DAC, arrays (wires, faults, drift, read noise), ADC per tile, digital sum over
    tiles and, in the transposed read of a convolution, digital fold of overlapping patches.  Where
    nothing needs a single tile's current, the arrays' effective weights are read at once.

    Args:
        geometry: dense or convolution.
        device: card of the devices.
        array: card of the arrays.
        seed: of everything that is drawn.
        bounds: largest state of the pre and of the post layer; None where there is none.
        dtype, where: of the tensors.

    Attributes:
        weight: the digital weights that `program` writes; what an optimiser updates.
        matrix: the arrays.
    """

    def __init__(
        self,
        geometry: Geometry,
        device: DeviceCard,
        array: ArrayCard,
        *,
        seed: int,
        bounds: tuple[float | None, float | None] = (None, None),
        dtype: torch.dtype = torch.float32,
        where: torch.device | str = "cpu",
    ) -> None:
        super().__init__(geometry)
        assert geometry.weight_shape is not None
        tiling = edge_tiling(geometry, array.layout)
        weight = torch.empty(
            geometry.weight_shape, dtype=dtype, device=where, memory_format=geometry.memory_format
        )
        self.weight = nn.Parameter(weight.zero_())
        self.array = array
        self.matrix = CrossbarMatrix(tiling, device, array, seed=seed, dtype=dtype, where=where)
        self.reads = tile_reads(geometry, tiling)
        self.source = NormalSource(derive_seed(seed, "read"))
        tiles = (tiling.row_tiles, tiling.column_tiles)
        # Reads ask for them too often for names to be put together.
        self._port_of = edge_ports(array, bounds, tiles)
        names = {of: f"{of[0]}_{'delta' if of[1] else 'full'}" for of in self._port_of}
        self.ports = nn.ModuleDict({names[of]: port for of, port in self._port_of.items()})
        self.ports.to(where, dtype)
        # In a list: the network registers it.
        self._bias_row: list[BiasRow] = []
        self._by_column = array.layout.scale == "column"
        self._prepared = Prepared(self.matrix, self.reads, array.drive.read_voltage_volt)

    # --- Programming and time ------------------------------------------------------------------

    @torch.no_grad()
    def program(self, *, rescale: bool = False) -> Programmed:
        """Write the digital weights into the devices.

        Args:
            rescale: choose the scale from these weights; else keep it and clip what is beyond.

        Raises:
            ValueError: if the weights are not finite.
        """
        report = self.matrix.program(self.geometry.matrix(self.weight.detach()), rescale=rescale)
        self._prepared.clear()
        return report

    @torch.no_grad()
    def pulse(self, up: Tensor, down: Tensor) -> None:
        """Raise and lower weights by pulses; `weight` then holds what a forward read sees.

        Args:
            up, down: whole numbers of increments and decrements, in ``weight_shape``.

        Raises:
            ValueError: if the card has no pulse response, or counts are not allowed.
        """
        self.matrix.pulse(self.geometry.matrix(up), self.geometry.matrix(down))
        self._devices_changed()

    def renew(self, fraction: float) -> int:
        """Write pairs anew of which a device is far up, see `CrossbarMatrix.renew`."""
        count = self.matrix.renew(fraction)
        if count:
            self._devices_changed()
        return count

    def stand_at(self, conductance_siemens: Tensor, units: Tensor) -> None:
        """Take over measured conductances; `weight` then holds what a forward read sees.

        Args:
            conductance_siemens, units: as for `CrossbarMatrix.stand_at`.

        Raises:
            ValueError: as it does; nothing changes then.
        """
        self.matrix.stand_at(conductance_siemens, units)
        self._devices_changed()

    @torch.no_grad()
    def _devices_changed(self) -> None:
        self.weight.copy_(self.effective_weight())
        self._prepared.clear()

    def advance_time(self, seconds: float, *, solve_wires: bool = True) -> None:
        """Let the devices age, see `CrossbarMatrix.advance_time`.

        Raises:
            ValueError: for a negative or infinite time.
        """
        self.matrix.advance_time(seconds, solve_wires=solve_wires)
        self._prepared.clear()

    @property
    def bias_row(self) -> BiasRow | None:
        """Row of these arrays that holds the post layer's biases, if there is one."""
        return self._bias_row[0] if self._bias_row else None

    def attach_bias_row(self, row: BiasRow) -> None:
        """Read a row of biases, whose noise comes with every forward read from now on."""
        self._bias_row = [row]

    def effective_weight(self, direction: str = "forward") -> Tensor:
        """The weights that a ``forward`` or ``transposed`` read sees, in ``weight_shape``."""
        return self.geometry.from_matrix(self._prepared.effective(direction))

    @property
    def resolution(self) -> float:
        """One code of the forward read's ADCs, relative to full scale; 0 without them."""
        bits = self._port_of["forward", False].adc_bits
        return 0.0 if bits is None else 1.0 / largest_code(bits, signed=True)

    # --- Reads ---------------------------------------------------------------------------------

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """Rows driven, columns sensed."""
        if pre.is_complex():
            return as_complex(self._read_forward(as_real(pre), delta, None, signed=True))
        return self._read_forward(pre, delta, noise)

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """Columns driven, rows sensed."""
        if currents.is_complex():
            return as_complex(self._read_transposed(as_real(currents), delta, None, signed=True))
        return self._read_transposed(currents, delta, noise)

    def _read_forward(
        self, pre: Tensor, delta: bool, noise: NoiseSum | None, signed: bool = False
    ) -> Tensor:
        port, driven = self._port_of["forward", delta], self.reads.inside(pre)
        scale = self._full_scale(port, driven)
        driven = port.drive(driven, scale, signed=signed)
        if port.by_tile:
            columns = self._forward_by_tile(driven, scale, port)
        else:
            columns = self.reads.forward(driven, self._prepared.summed("forward"))
            if (arrays := self._prepared.noise()) is not None:
                variance = arrays.of_columns(columns, driven, scale, self.source)
                self._add(columns, variance, self.reads.outside_columns, noise)
        currents = self.reads.outside_columns(columns)
        if (row := self.bias_row) is not None:
            # Of the two reads of a complex state, the real one drives the biases.
            parts = currents.chunk(2) if signed else (currents,)
            for part, state in zip(parts, (0.0 if delta else 1.0, 0.0), strict=False):
                row.add_read_noise(part, state, scale, self.source, noise)
        return currents

    def _read_transposed(
        self, currents: Tensor, delta: bool, noise: NoiseSum | None, signed: bool = False
    ) -> Tensor:
        port, driven = self._port_of["transposed", delta], self.reads.inside(currents)
        # Columns of their own scale are driven in proportion to it.
        relative = self._prepared.relative_units(driven) if self._by_column else None
        voltages = driven if relative is None else driven * relative
        scale = self._full_scale(port, voltages)
        voltages = port.drive(voltages, scale, signed=signed)
        driven = voltages if relative is None else voltages / relative
        if port.by_tile:
            return self.reads.outside_rows(self._transposed_by_tile(driven, scale, port))
        rows = self.reads.transposed(driven, self._prepared.summed("transposed"))
        if (arrays := self._prepared.noise()) is not None:
            variance = arrays.of_rows(rows, driven, scale)
            self._add(rows, variance, self.reads.outside_rows, noise)
        return self.reads.outside_rows(rows)

    def _add(
        self,
        currents: Tensor,
        variance: Tensor | None,
        outside: Callable[[Tensor], Tensor],
        noise: NoiseSum | None,
    ) -> None:
        """Add the noise to currents in the inner form, or leave it to a sum of reads."""
        if variance is None:
            return
        if noise is None:
            add_noise(currents, variance, self.source)
        else:
            # Of a convolution, one plane of variances may serve all channels.
            if variance.dim() == 2:
                same = variance.shape == currents.shape
                variance = outside(variance if same else variance.expand_as(currents))
            noise.add(variance, self.source.like)

    def _forward_by_tile(self, driven: Tensor, scale: float | Tensor, port: Port) -> Tensor:
        tiles = self.matrix.tiling.column_tiles
        partial = self.reads.forward_tiles(driven, self._prepared.blocks("forward"))
        noise = self._prepared.noise()
        if noise is not None:
            noise.add_to_column_tiles(partial, driven, scale, self.source)
        number = self._prepared.number("forward", scale)
        tile = self._prepared.index("columns", self.reads.column_tile_of_columns)
        if port.calibrating:
            port.record(largest_by_tile(partial.abs() / number, tile, tiles), scale)
        step, bits = None, port.adc_bits
        if bits is not None and port.adc_range == "ideal":
            largest = partial.abs().amax(0, keepdim=True) / number
            step = code_step(largest_by_tile(largest, tile, tiles)[0][:, tile], number, bits)
        elif bits is not None:
            step = self._prepared.step(port, scale, lambda: port.adc_full_scale()[:, tile], number)
        return self.reads.gather(digitise(partial, port, step, number, self.source), driven)

    def _transposed_by_tile(self, driven: Tensor, scale: float | Tensor, port: Port) -> Tensor:
        tiles = self.matrix.tiling.row_tiles
        samples, blocks = self.reads.samples(driven), self._prepared.blocks("transposed")
        noise = self._prepared.noise()
        number = self._prepared.number("transposed", scale)
        tile = self._prepared.index("rows", self.reads.row_tile_of_piece_rows)
        step, bits = None, port.adc_bits
        if bits is not None and port.adc_range == "ideal":
            peaks = [self.reads.transposed_tiles(samples, b).abs().amax(0) for b in blocks]
            largest = torch.stack(peaks).amax(0, keepdim=True) / number
            step = code_step(largest_by_tile(largest, tile, tiles)[0][:, tile], number, bits)
        elif bits is not None:
            step = self._prepared.step(
                port, scale, lambda: port.adc_full_scale().T[:, tile], number
            )

        def pieces() -> Iterator[Tensor]:
            for piece, block in enumerate(blocks):
                partial = self.reads.transposed_tiles(samples, block)
                if noise is not None:
                    noise.add_to_row_tiles(partial, samples, piece, scale, self.source)
                if port.calibrating:
                    seen = largest_by_tile(partial.abs() / number, tile, tiles)
                    port.record(seen.transpose(1, 2), scale)
                yield digitise(partial, port, step, number, self.source)

        return self.reads.fold(pieces(), driven)

    def _full_scale(self, port: Port, driven: Tensor) -> float | Tensor:
        """Full scale of what is driven; 1 where nothing depends on it."""
        if port.converters is None and (
            (noise := self._prepared.noise()) is None or not noise.scaled
        ):
            return 1.0
        return port.full_scale(driven)

    # --- Moving and saving ---------------------------------------------------------------------

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        # What reads see follows from the conductances, which may have moved or changed precision.
        self.matrix.refresh()
        self._prepared.clear()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._prepared.clear()

    def get_extra_state(self) -> Tensor:
        """State of the read noise's generator, saved with the weights."""
        return self.source.state(self.weight.device)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the read noise's generator."""
        self.source.set_state(state, self.weight.device)
