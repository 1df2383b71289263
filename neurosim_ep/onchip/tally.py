"""What updates asked of the lines of arrays, summed over a training for the cost model."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from neurosim_ep.models import Geometry


@dataclass(frozen=True)
class LineUse:
    """Pulses on the lines of one array, as 0-dimensional float64 tensors.

    Attributes:
        slots: pulse times one after another.
        row_pulses, column_pulses: pulses sent to rows and to columns, over all lines.
        row_reads: rows read one at a time.
    """

    slots: Tensor
    row_pulses: Tensor
    column_pulses: Tensor
    row_reads: Tensor

    @classmethod
    def none(cls, device: torch.device) -> "LineUse":
        """Nothing yet."""
        return cls(*torch.zeros(4, dtype=torch.float64, device=device))

    def __add__(self, other: "LineUse") -> "LineUse":
        mine, theirs = vars(self), vars(other)
        names = [field.name for field in fields(self)]
        return LineUse(**{name: mine[name] + theirs[name] for name in names})

    def numbers(self) -> list[float]:
        """The sums as plain numbers, in the order of the attributes."""
        return [float(value) for value in vars(self).values()]

    @classmethod
    def of_numbers(cls, values: list[float], device: torch.device) -> "LineUse":
        """Inverse of `numbers`."""
        return cls(*torch.tensor(values, dtype=torch.float64, device=device))


def train_use(geometry: Geometry, x: Tensor, d: Tensor, slots: Tensor) -> LineUse:
    """What trains take, on average.

    Args:
        geometry: of the edge; every output position has a train of its own.
        x, d: signed probabilities of a pulse per slot (N, *pre_shape), (N, *linear_shape).
        slots: of each image's trains (N,).
    """
    rows, columns = geometry.fan_in, _columns(geometry)
    positions = d[0].numel() // columns
    # How many positions drive a pre unit: 1 in a dense edge.
    reach = geometry.fold(x.new_ones(1, positions, rows)) if positions > 1 else x.new_ones(())
    length = slots.double()
    of_rows = (x.abs() * reach).flatten(1).sum(1).double()
    of_columns = d.abs().flatten(1).sum(1).double()
    return LineUse(
        slots=length.sum() * positions,
        row_pulses=(length * of_rows).sum(),
        column_pulses=(length * of_columns).sum(),
        row_reads=length.new_zeros(()),
    )


def serial_use(up: Tensor, down: Tensor) -> LineUse:
    """What counts take that are given row by row, all columns of a row at once.

    Args:
        up, down: increments and decrements (rows, columns).
    """
    counts = (up + down).double()
    slots, none = counts.amax(1).sum(), counts.new_zeros(())
    # One row carries pulses as long as its neediest column; other rows see their columns' pulses.
    return LineUse(slots=slots, row_pulses=slots, column_pulses=counts.sum(), row_reads=none)


def read_use(rows: int, device: torch.device) -> LineUse:
    """What reading rows one at a time takes."""
    none = LineUse.none(device)
    return LineUse(none.slots, none.row_pulses, none.column_pulses, none.row_reads + rows)


def _columns(geometry: Geometry) -> int:
    assert geometry.weight_shape is not None
    return math.prod(geometry.weight_shape) // geometry.fan_in
