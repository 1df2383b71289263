"""The devices that learning moves, in a row: their pulses, states, bounds and symmetry points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarMatrix
from neurosim_ep.devices import DeviceCard


@dataclass(frozen=True)
class SymmetryOffset:
    """Where working devices stand relative to their symmetry points, in units of the state.

    Attributes:
        distance: mean of |w - w_sp|.
        offset: mean of w - w_sp.
    """

    distance: float
    offset: float


@dataclass(frozen=True, eq=False)
class TrainedDevices:
    """Trained devices in a row: what there is to know of each, all (devices,).

    Attributes:
        card: of all.
        pulses: int64; None without pulse response.
        state, lower, upper: w and its bounds.
        working: mask of those that are not stuck.
        symmetry_point: w_sp; None where there is none.
    """

    card: DeviceCard
    pulses: Tensor | None
    state: Tensor
    lower: Tensor
    upper: Tensor
    working: Tensor
    symmetry_point: Tensor | None

    @classmethod
    def of(cls, matrix: CrossbarMatrix) -> "TrainedDevices":
        """Those of a matrix; the devices of reference columns are not trained."""
        devices, columns = matrix.devices, matrix.tiling.columns
        response = devices.card.pulse_response

        def trained(values: Tensor) -> Tensor:
            # The reference devices come last.
            return values.expand(devices.shape)[..., :columns].flatten()

        lower, upper = devices.state_bounds
        stuck, count, point = devices.stuck, devices.pulse_count, None
        if response is not None and not response.one_sided:
            point = trained(response.symmetry_point(devices.pulse_devices))
        return cls(
            card=devices.card,
            pulses=None if count is None else trained(count),
            state=trained(devices.state),
            lower=trained(lower),
            upper=trained(upper),
            working=trained(torch.ones_like(devices.state) > 0 if stuck is None else ~stuck),
            symmetry_point=point,
        )

    @classmethod
    def together(cls, parts: Sequence["TrainedDevices"]) -> "TrainedDevices":
        """All of several matrices of one card."""

        def joined(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else torch.cat(values)

        names = ("pulses", "state", "lower", "upper", "working", "symmetry_point")
        return cls(parts[0].card, *map(joined, names))

    def symmetry_offset(self) -> SymmetryOffset | None:
        """Where the working ones stand relative to their symmetry points, if they have any."""
        if self.symmetry_point is None:
            return None
        difference = (self.state - self.symmetry_point)[self.working]
        return SymmetryOffset(mean_of(difference.abs()), mean_of(difference))


def mean_of(values: Tensor) -> float:
    """Mean of numbers or flags; 0 of none."""
    return float(values.mean(dtype=torch.float64)) if values.numel() else 0.0
