"""The pulses of every update, in an HDF5 file that grows while a chip learns.

A file holds, next to the chip's cards, seed and graph,

- ``update``, ``epoch`` and ``batch``: one number per recorded update, ``learning_rate``: one per
  update and target (an edge or a bias row);
- ``pulses/edge_0/up`` and ``pulses/edge_0/down`` (updates, rows, columns): how many increments and
  decrements the weights of edge 0 got in that update; ``pulses/bias_1``: the bias row of layer 1;
- ``pulses/edge_0/weight_step`` (columns,): mean change of a weight by one increment.

It is written in HDF5's single-writer mode, which keeps it whole at every moment: `load_pulses` also
reads what a killed run has left; other programs open that with ``h5py.File(path, swmr=True)``, as
they do a file that is being written, or after HDF5's ``h5clear -s``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from neurosim_ep._chip_hdf5 import (
    numpy_of,
    write_chip,
    write_matrix,
)
from neurosim_ep._hdf5.reader import Hdf5Reader, Kind
from neurosim_ep._hdf5.writing import (
    VERSION_1_10,
    label_axes,
    numbers_and_texts,
    write_format,
    written_beside,
)
from neurosim_ep._toml_text import problem, show
from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.crossbar.mapping import OFFSET
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.onchip.pulse_file import FORMAT, FORMAT_VERSION, PER_UPDATE, SIDES, group_of
from neurosim_ep.onchip.targets import Target, targets_of

LARGEST_COUNT = 65_535
"""Increments, or decrements, of one weight in one update that a file can hold."""

_DESCRIPTION = (
    "Pulses of every recorded update of on-chip learning. up and down count the increments and "
    "decrements of weights; what one is on the devices, says the attribute increment. All that one "
    "update applies, in however many trains, is added up."
)


class PulseRecorder:
    """Records the pulses of every n-th update.

    Rules call `record` with the pulses that they apply, once or several times per update; after
    each update `end_update` writes them.

    Args:
        path: of the file.
        chip: that learns.
        every: record the first update and every n-th after it.
        updates: None starts a new file; a number goes on with a file, cut to what that many updates
            had recorded: those of the checkpoint that the training goes on from.  At 0 the file may
            be missing.

    Attributes:
        updates: done so far, recorded or not; a checkpoint has to hold it.

    Raises:
        ValueError: if the card has no pulses, a number is not allowed, a new file's path is taken,
            or the file to go on with is missing, damaged, shorter or of another chip.
    """

    def __init__(
        self, path: Path, chip: CrossbarNetwork, *, every: int = 1, updates: int | None = None
    ) -> None:
        if chip.device_card.pulse_response is None:
            allowed = "a card with a table [pulse_response]: there are no pulses to record"
            raise ValueError(problem("device", chip.device_card.name, allowed))
        if type(every) is not int or every < 1:
            raise ValueError(problem("every", every, "a whole number of at least 1"))
        if updates is not None and (type(updates) is not int or updates < 0):
            raise ValueError(problem("updates", updates, "a whole number of at least 0, or None"))
        if updates is None and path.exists():
            raise ValueError(f"{path}: there is a file already; move it or choose another path")
        self.path, self.every, self.updates = path, every, updates or 0
        self._targets = targets_of(chip)
        self._pending: dict[tuple[int, str], np.ndarray] = {}
        with written_beside(path, libver=VERSION_1_10) as file:
            _lay_out(file, chip, self._targets, every)
            if self.updates or (updates is not None and path.exists()):
                _check_same(path, file, self._targets)
                _copy(path, file, self._targets, -(-self.updates // every))
        self._file = h5py.File(path, "r+", libver=VERSION_1_10)
        self._file.swmr_mode = True

    def __enter__(self) -> "PulseRecorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; any HDF5 reader can then open it."""
        self._file.close()

    def record(self, place: int, up: Tensor, down: Tensor) -> None:
        """Take note of pulses of the present update.

        Args:
            place: in `targets_of` of the chip.
            up, down: whole numbers of increments and decrements, in ``weight_shape`` or as a matrix
                (rows, columns).

        Raises:
            ValueError: if there is no such target, or counts have another shape, are not whole
                numbers or become too many for one update.
        """
        if not 0 <= place < len(self._targets):
            allowed = f"from 0 to {len(self._targets) - 1}, a place among the chip's targets"
            raise ValueError(problem("place", place, allowed))
        if self.updates % self.every:
            return
        target, added = self._targets[place], {}
        for side, counts in zip(SIDES, (up, down), strict=True):
            total = _counts(side, counts, target) + self._pending.get((place, side), 0)
            if total.max() > LARGEST_COUNT:
                allowed = f"at most {LARGEST_COUNT} in one update ({target.name})"
                raise ValueError(problem(side, int(total.max()), allowed))
            added[place, side] = total
        self._pending |= added

    def end_update(self, epoch: int, batch: int, learning_rate: float | Sequence[float]) -> None:
        """Write what the present update recorded; what recorded nothing had no pulses.

        Args:
            epoch, batch: of the update, counted from 0.
            learning_rate: of the update; one for all, or one per target.
        """
        number, self.updates = self.updates, self.updates + 1
        if number % self.every:
            return
        for place, target in enumerate(self._targets):
            for side in SIDES:
                counts = self._pending.get((place, side), 0)
                _append(self._file[f"{group_of(target.name)}/{side}"], counts)
        # The update's number comes last: who reads a file that grows goes by it.
        for name, value in zip(PER_UPDATE, (epoch, batch, learning_rate, number), strict=True):
            _append(self._file[name], value)
        self._pending.clear()


def _counts(side: str, counts: Tensor, target: Target) -> np.ndarray:
    """Counts as a matrix (rows, columns) of whole numbers."""
    geometry, tiling = target.geometry, target.storage.matrix.tiling
    shape = (tiling.rows, tiling.columns)
    if tuple(counts.shape) == geometry.weight_shape:
        counts = geometry.matrix(counts)
    if tuple(counts.shape) != shape:
        allowed = f"{list(geometry.weight_shape or ())} or {list(shape)}"
        raise ValueError(problem(f"{side}: shape", list(counts.shape), allowed))
    values = numpy_of(counts)
    wrong = ~((values >= 0) & (values <= LARGEST_COUNT) & (values == np.floor(values)))
    if wrong.any():
        first = values[wrong][0].item()
        raise ValueError(problem(side, first, f"a whole number from 0 to {LARGEST_COUNT}"))
    return values.astype(np.int64)


def _append(dataset: h5py.Dataset, value: Any) -> None:
    length = len(dataset)
    dataset.resize(length + 1, 0)
    dataset[length] = value
    dataset.flush()


def _lay_out(file: h5py.File, chip: CrossbarNetwork, targets: list[Target], every: int) -> None:
    """Everything but the updates."""
    write_format(file, FORMAT, FORMAT_VERSION, _DESCRIPTION)
    write_chip(file, chip)
    file.attrs["every"] = every
    for name, dtype in PER_UPDATE.items():
        inner = (len(targets),) if name == "learning_rate" else ()
        file.create_dataset(
            name, (0, *inner), dtype, maxshape=(None, *inner), chunks=(1024, *inner)
        )
        label_axes(file[name], "recorded update", "place of the target")
    for place, target in enumerate(targets):
        group, matrix = file.create_group(group_of(target.name)), target.storage.matrix
        write_matrix(group, matrix, target.geometry)
        group.attrs["name"], group.attrs["place"] = target.name, place
        group.attrs["increment"] = _increment(matrix)
        group["weight_step"] = numpy_of(matrix.weight_step)
        label_axes(group["weight_step"], "column")
        shape = (matrix.tiling.rows, matrix.tiling.columns)
        for side in SIDES:
            group.create_dataset(
                side, (0, *shape), "u2", maxshape=(None, *shape), chunks=(1, *shape),
                compression="gzip", compression_opts=1, shuffle=True,
            )  # fmt: skip
            label_axes(group[side], "recorded update", "row", "column")


def _increment(matrix: CrossbarMatrix) -> str:
    if matrix.mapping == OFFSET:
        return "one up pulse on the weight's device; a decrement: one down pulse"
    if matrix.one_sided:
        return "one up pulse on G+; a decrement: one up pulse on G-"
    return "one up pulse on G+ and one down pulse on G-; a decrement: the reverse"


def _check_same(path: Path, file: h5py.File, targets: list[Target]) -> None:
    """A file can only be gone on with by the chip, and the limit, that it was begun with."""
    with Hdf5Reader(path, FORMAT, FORMAT_VERSION, unfinished=True) as old:
        for card in ("cards/device", "cards/array"):
            if old.long_text(card) != file[card][()].decode("utf-8"):
                raise old.problem(f"{card}: another card is not allowed; must be the training's")
        for group in ("/", *(group_of(target.name) for target in targets)):
            theirs = old.attributes(group)
            for name, value in numbers_and_texts(file[group].attrs).items():
                if not name.startswith("version_") and theirs.get(name) != value:
                    raise old.problem(
                        f"attribute {name}: {show(theirs.get(name))} is not allowed; must be "
                        f"{show(value)}, that of the training that goes on"
                    )


def _copy(path: Path, file: h5py.File, targets: list[Target], recorded: int) -> None:
    """The first recorded updates of a file; pulses chunk by chunk, packed as they are."""
    with Hdf5Reader(path, FORMAT, FORMAT_VERSION, unfinished=True) as old:
        length = old.length("update")
        if length < recorded:
            raise old.problem(
                f"{length} recorded updates are not allowed; must be at least {recorded}, those of "
                "the checkpoint"
            )
        for name, dtype in PER_UPDATE.items():
            kind: Kind = "float" if dtype == "f8" else "whole"
            wide = torch.float64 if dtype == "f8" else torch.int64
            shape = (recorded, *file[name].shape[1:])
            values = old.array(name, shape, kind, wide, slice(0, recorded))
            file[name].resize(recorded, 0)
            file[name][...] = values.numpy()
        for name in (f"{group_of(target.name)}/{side}" for target in targets for side in SIDES):
            mine = file[name]
            theirs = old.dataset(name, (recorded, *mine.shape[1:]), "whole", longer=True)
            if (theirs.dtype, theirs.chunks) != (mine.dtype, mine.chunks):
                raise old.problem(f"{name} is stored otherwise; must be a file of PulseRecorder")
            mine.resize(recorded, 0)
            for place in range(recorded):
                try:
                    mask, packed = theirs.id.read_direct_chunk((place, 0, 0))
                except (OSError, RuntimeError, ValueError):
                    raise old.problem(f"{name} is damaged") from None
                mine.id.write_direct_chunk((place, 0, 0), packed, mask)
