"""Files of recorded pulses: what they hold, and how they are read."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep._hdf5.reader import Hdf5Reader

FORMAT, FORMAT_VERSION = "neurosim-ep pulses", 1
SIDES = ("up", "down")
PER_UPDATE = {"epoch": "i8", "batch": "i8", "learning_rate": "f8", "update": "i8"}
"""Datasets with numbers of every recorded update, and their types; the last is written last."""

_LARGEST = 2**53


def group_of(target: str) -> str:
    """Group of a target's pulses."""
    return f"pulses/{target.replace(' ', '_')}"


@dataclass(frozen=True, eq=False)
class TargetPulses:
    """Recorded pulses of one edge or bias row.

    Attributes:
        name: ``edge 0``, ``bias 1``, ... as `targets_of` names it.
        up, down: increments and decrements of weights (recorded updates, rows, columns), int32.
        weight_step: mean change of a weight by one increment (columns,), float64.
        attributes: what rows, columns and increments stand for.
    """

    name: str
    up: Tensor
    down: Tensor
    weight_step: Tensor
    attributes: dict[str, str | int | float]


@dataclass(frozen=True, eq=False)
class RecordedPulses:
    """What a file of `PulseRecorder` holds, or a part of it.

    Attributes:
        update: number of each recorded update, counted from 0 (recorded updates,), int64.
        epoch, batch: of each, likewise.
        learning_rate: of each update and target (recorded updates, targets), float64.
        targets: edges and bias rows, in the order of `targets_of`.
        attributes: cards, mapping, seed, versions, and of how many updates one was recorded.
    """

    update: Tensor
    epoch: Tensor
    batch: Tensor
    learning_rate: Tensor
    targets: tuple[TargetPulses, ...]
    attributes: dict[str, str | int | float]


def load_pulses(path: Path, *, start: int = 0, stop: int | None = None) -> RecordedPulses:
    """Read recorded pulses, also of a run that was killed.

    Args:
        path: of the file.
        start, stop: the recorded updates to read, as in a slice; all by default.

    Raises:
        ValueError: one line, if the file is missing, damaged or something else.
    """
    with Hdf5Reader(path, FORMAT, FORMAT_VERSION, unfinished=True) as file:
        # All else has been written when an update's number is.
        length, part = file.length("update"), slice(start, stop)
        every = file.whole("/", "every", 1, _LARGEST)
        update = file.array("update", (length,), "whole", torch.int64, part)
        wanted = every * torch.arange(length)[part]
        if not torch.equal(update, wanted):
            raise file.problem(f"update is damaged; must be every {every} from 0")
        epoch, batch = (
            file.array(name, (length,), "whole", torch.int64, part) for name in ("epoch", "batch")
        )
        groups = [f"pulses/{name}" for name in file.names("pulses")]
        groups.sort(key=lambda group: file.whole(group, "place", 0, _LARGEST))
        targets = tuple(_target(file, group, length, part) for group in groups)
        shape = (length, len(targets))
        rate = file.array("learning_rate", shape, "float", torch.float64, part)
        return RecordedPulses(update, epoch, batch, rate, targets, file.attributes("/"))


def _target(file: Hdf5Reader, group: str, length: int, part: slice) -> TargetPulses:
    rows, columns = (file.whole(group, side, 1, _LARGEST) for side in ("rows", "columns"))
    up, down = (
        file.array(f"{group}/{side}", (length, rows, columns), "whole", torch.int32, part)
        for side in SIDES
    )
    step = file.array(f"{group}/weight_step", (columns,), "float", torch.float64)
    return TargetPulses(file.text(group, "name"), up, down, step, file.attributes(group))
