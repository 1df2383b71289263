"""A weight matrix on arrays: programmed, ageing, with its wires solved."""

from typing import Any

import torch
from torch import Tensor, nn

from neurosim_ep.crossbar.card import ArrayCard
from neurosim_ep.crossbar.compensation import measured_sum
from neurosim_ep.crossbar.lines import transfer_conductances
from neurosim_ep.crossbar.mapping import (
    PAIR,
    checked_units,
    device_pulses,
    device_shape,
    signed,
    target_conductances,
    weight_units,
)
from neurosim_ep.crossbar.noise import map_variance
from neurosim_ep.crossbar.renewal import pairs_to_renew
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.devices import DeviceCard, Devices, Programmed, ReadVariance
from neurosim_ep.seeds import derive_seed


class CrossbarMatrix(nn.Module):
    """Devices that stand for a weight matrix (rows, columns), and what reads see of them.

    Args:
        tiling: how the matrix is cut into arrays.
        device: card of the devices.
        array: card of the arrays.
        seed: of everything that is drawn for these devices.
        dtype, where: of the tensors.

    Attributes:
        devices: conductances in siemens, see `neurosim_ep.crossbar.mapping` for their shape.
        units: weight per siemens (columns,).
        forward_matrix: weights as the forward read sees them (rows, columns).
        transposed_matrix: the same for the transposed read; the same tensor where drivers and
            sense amplifiers have equal resistance.
        noise: variances of the devices that carry weights, summed over a differential pair.
        reference_noise: variances of the offset columns (rows, column tiles); silent for pairs.
    """

    units: Tensor
    forward_matrix: Tensor
    transposed_matrix: Tensor
    noise: ReadVariance
    reference_noise: ReadVariance
    compensation: Tensor
    _programmed_sum: Tensor
    _share: Tensor | None
    _rest: Tensor | None

    def __init__(
        self,
        tiling: Tiling,
        device: DeviceCard,
        array: ArrayCard,
        *,
        seed: int,
        dtype: torch.dtype = torch.float32,
        where: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.tiling, self.array = tiling, array
        self.mapping = array.layout.mapping
        self.devices = Devices(
            device,
            device_shape(tiling, self.mapping),
            seed=derive_seed(seed, "devices"),
            dtype=dtype,
            device=where,
        )
        one = torch.ones((), dtype=dtype, device=where)
        self.register_buffer("units", one.repeat(tiling.columns))
        self.register_buffer("compensation", one.clone())
        self.register_buffer("_programmed_sum", one.clone())
        self._step_siemens: float | None = None
        # What the wires leave: share * conductance + rest, per direction where they differ.
        self._solved, share, wires = False, None, array.wires
        if wires is not None:
            directions = 1 if wires.driver_ohm == wires.sense_ohm else 2
            share = one.new_ones((directions, *self.devices.shape))
        rest = None if share is None else torch.zeros_like(share)
        # Solved at every programming, it follows from the conductances and need not be saved.
        saved = wires is not None and wires.refresh_interval_programmings > 1
        self.register_buffer("_share", share, persistent=saved)
        self.register_buffer("_rest", rest, persistent=saved)
        self.noise = self.reference_noise = ReadVariance()
        self.register_load_state_dict_post_hook(_refresh_loaded)  # type: ignore[no-untyped-call]

    @property
    def arrays(self) -> int:
        """How many physical arrays there are."""
        planes = 2 if self.mapping == PAIR else 1
        return planes * self.tiling.row_tiles * self.tiling.column_tiles

    @property
    def largest_unit(self) -> Tensor:
        """Weight per siemens of the column with the largest weights."""
        return self.units.max()

    @torch.no_grad()
    def program(self, matrix: Tensor, *, rescale: bool, units: Tensor | None = None) -> Programmed:
        """Write weights (rows, columns); time starts again at 0.

        Args:
            matrix: finite weights.
            rescale: choose the scale from these weights, as the first programming does anyway; else
                keep it, and clip what is beyond.
            units: the scale itself, weight per siemens (columns,).

        Raises:
            ValueError: if the weights have another shape or are not finite.
        """
        shape = (self.tiling.rows, self.tiling.columns)
        if tuple(matrix.shape) != shape:
            raise ValueError(
                f"weights: shape {tuple(matrix.shape)} is not allowed; must be {shape}"
            )
        if not bool(matrix.isfinite().all()):
            raise ValueError("weights: NaN or infinity is not allowed; must be finite")
        layout, window = self.array.layout, self.devices.card.window
        if units is not None:
            self.units.copy_(units)
        elif rescale or self.devices.program_count == 0:
            self.units.copy_(weight_units(matrix, window, layout))
        target = target_conductances(matrix, self.units, window, layout, self.tiling)
        report = self.devices.program(target)
        wires, count = self.array.wires, self.devices.program_count - 1
        if wires is not None and count % wires.refresh_interval_programmings == 0:
            self._solved = False
        self.compensation.fill_(1.0)
        self.refresh()
        return report

    @torch.no_grad()
    def stand_at(self, conductance_siemens: Tensor, units: Tensor) -> None:
        """Take over conductances that were measured; time starts again at 0.

        Args:
            conductance_siemens: of all devices, in the shape that
                `neurosim_ep.crossbar.mapping` gives them.
            units: weight per siemens (columns,), finite and above 0.

        Raises:
            ValueError: for units that are not allowed, or as `Devices.measured` does; nothing
                changes then.
        """
        units = checked_units(units, self.tiling.columns)
        self.devices.stand_at(conductance_siemens)
        self.units.copy_(units)
        self._solved = False
        self.compensation.fill_(1.0)
        self.refresh()

    @property
    def one_sided(self) -> bool:
        """Whether the devices can only be pulsed up, so that a pair's other device counts down."""
        response = self.devices.card.pulse_response
        return response is not None and response.one_sided

    @property
    def largest_weight(self) -> Tensor:
        """What the end of the window stands for, either sign (columns,)."""
        share = 1.0 if self.mapping == PAIR else 0.5
        return self.units * self.compensation * (share * self.devices.card.window.range_siemens)

    @property
    def weight_step(self) -> Tensor:
        """Mean change of a weight by one increment of `pulse` (columns,).

        The mean over the window of devices without spread (`window_step`, of a state whose window
        is 2 wide); both devices of a pair move, unless they can only be pulsed up.

        Raises:
            ValueError: if the device card has no pulse response.
        """
        card = self.devices.card
        if card.pulse_response is None:
            raise ValueError(
                f"device: {card.name!r} is not allowed to learn by pulses; must have a table "
                "[pulse_response]"
            )
        if self._step_siemens is None:
            both = self.mapping == PAIR and not self.one_sided
            states = card.pulse_response.window_step() * (1.0 if both else 0.5)
            self._step_siemens = states * card.window.range_siemens
        return self.units * self.compensation * self._step_siemens

    @torch.no_grad()
    def pulse(self, up: Tensor, down: Tensor) -> None:
        """Raise and lower weights by pulses on their devices.

        `device_pulses` says which devices; a device's pulses come in random order.

        Args:
            up, down: whole numbers of increments and decrements (rows, columns).

        Raises:
            ValueError: if the card has no pulse response, or counts are not allowed.
        """
        ups, downs = device_pulses(up, down, self.mapping, self.tiling, self.one_sided)
        updates, wires = self.devices.update_count, self.array.wires
        self.devices.pulse(ups, downs)
        if wires is not None and updates % wires.refresh_interval_programmings == 0:
            self._solved = False
        self.refresh()

    @torch.no_grad()
    def renew(self, fraction: float) -> int:
        """Write pairs anew from the bottom of the window in which a device has been pulsed far up.

        Both devices of such a pair are read once, with their read noise, and programmed to the
        difference: what devices need that can only be pulsed up (Nandakumar et al., Front.
        Neurosci. 14:406, 2020).

        Args:
            fraction: of the window, above which a device counts as far up.

        Returns:
            How many pairs were written.
        """
        volt = self.array.drive.read_voltage_volt
        if (found := pairs_to_renew(self.devices, fraction, volt)) is None:
            return 0
        target, far = found
        self.devices.program(target, where=far.expand_as(target))
        wires = self.array.wires
        if wires is not None and wires.refresh_interval_programmings == 1:
            self._solved = False
        self.refresh()
        return int(far.sum())

    @torch.no_grad()
    def advance_time(self, seconds: float, *, solve_wires: bool = True) -> None:
        """Let the devices age, and compensate the mean drift if asked to.

        Args:
            seconds: that pass.
            solve_wires: solve the wires again; else it is left to the card's refresh interval, and
                devices keep the shares of their conductance that they had.

        Raises:
            ValueError: for a negative or infinite time.
        """
        self.devices.advance_time(seconds)
        wires = self.array.wires
        if solve_wires or (wires is not None and wires.refresh_interval_programmings == 1):
            self._solved = False
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Work out again what reads see, from the devices' present conductances."""
        conductance = self.devices.conductance
        forward, backward = self._through_wires(conductance)
        if self.array.compensation is not None and self.array.compensation.global_drift:
            self._compensate(forward)
        self.forward_matrix = self._weights(forward)
        self.transposed_matrix = (
            self.forward_matrix if backward is forward else self._weights(backward)
        )
        self._refresh_noise()

    def _weights(self, conductance: Tensor) -> Tensor:
        return signed(conductance, self.mapping, self.tiling) * (self.units * self.compensation)

    def _through_wires(self, conductance: Tensor) -> tuple[Tensor, Tensor]:
        wires = self.array.wires
        if wires is None or self._share is None or self._rest is None:
            return conductance, conductance
        if not self._solved:
            transfer = transfer_conductances(conductance, self.tiling, self.mapping, wires)
            for place in range(self._share.shape[0]):
                self._share[place] = _share(transfer[place], conductance)
                self._rest[place] = transfer[place] - self._share[place] * conductance
            self._solved = True
        seen = torch.addcmul(self._rest, self._share, conductance)
        forward = seen[0]
        return forward, forward if len(seen) == 1 else seen[1]

    def _compensate(self, forward: Tensor) -> None:
        """Scale so that the sum of all column currents is what it was when programmed."""
        card, present = self.array.compensation, forward.sum()
        assert card is not None
        if self.devices.elapsed_s == 0.0:
            # Programmed, the factor is 1.  Pulsed, what had drifted stays as it is compensated.
            self._programmed_sum.copy_(present * self.compensation)
            return
        volt = self.array.drive.read_voltage_volt
        measured = measured_sum(self.devices, present, volt, card.reads)
        self.compensation.copy_(self._programmed_sum / measured)

    def _refresh_noise(self) -> None:
        variance = self.devices.read_variance()
        columns, pair = self.tiling.columns, self.mapping == PAIR
        factor = self.compensation.square()
        if self._share is not None:
            # About the share of its current; currents that the noise adds elsewhere are left out.
            factor = factor * self._share[0].square()
        variance = map_variance(variance, lambda matrix: matrix * factor)
        if pair:
            self.noise = map_variance(variance, lambda matrix: matrix.sum(0))
            return
        self.noise = map_variance(variance, lambda matrix: matrix[0, :, :columns])
        self.reference_noise = map_variance(variance, lambda matrix: matrix[0, :, columns:])


def _share(transfer: Tensor, conductance: Tensor) -> Tensor:
    """What the wires leave of each device's conductance, 0 to 1; more came by other devices."""
    share = (transfer / conductance).clamp_max_(1.0)
    return torch.where(conductance > 0.0, share, torch.ones_like(conductance))


def _refresh_loaded(matrix: CrossbarMatrix, _: Any) -> None:
    """After loading a state: what reads see follows from the new conductances."""
    wires = matrix.array.wires
    saved = wires is not None and wires.refresh_interval_programmings > 1
    matrix._solved = saved and matrix.devices.program_count > 0
    matrix.refresh()
