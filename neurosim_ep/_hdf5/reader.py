"""HDF5 files read by name, kind and shape, with one line for whatever is wrong.

A file can claim anything: what it says is compared with what is expected, and with what it holds,
before memory is asked for.  Links that lead out of the file are not followed.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from neurosim_ep._hdf5.probe import (
    DAMAGE,
    MAX_NAMES,
    MAX_TEXT_BYTES,
    attribute_value,
    is_text,
    is_written,
    survives,
)
from neurosim_ep._hdf5.seal import check_seal
from neurosim_ep._hdf5.unfinished import as_if_closed
from neurosim_ep._hdf5.writing import numbers_and_texts

MAX_ELEMENTS = 2_000_000_000
"""No array that is read may be larger: a damaged file can claim any size."""

Kind = Literal["float", "whole", "flag"]
"""Of numbers in a file; flags are 0 or 1."""

_KINDS = {"float": "f", "whole": "iu", "flag": "biu"}
_NUMPY: dict[torch.dtype, type[np.generic]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


class Hdf5Reader:
    """An open file of one of this program's formats.

    Args:
        path: of the file.
        name: the format that it must have.
        number: the largest format version that is understood.
        unfinished: the file may be one whose writer was killed.
        foreign: other programs may have written the file, or changed it: one without a digest is
            first read through by another process (`neurosim_ep._hdf5.probe`).

    Attributes:
        file: the open file, for what has been checked.

    Raises:
        ValueError: here and from every method, one line, if what is asked for is missing, damaged
            or not allowed.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        number: int,
        *,
        unfinished: bool = False,
        foreign: bool = False,
    ) -> None:
        self.path = path
        self._stream = None
        with suppress(OSError):  # told when the file is opened
            if not check_seal(path) and foreign and h5py.is_hdf5(path) and not survives(path):
                raise self.problem("damaged; HDF5 does not come to an end with it")
        try:
            self._stream = as_if_closed(path) if unfinished else None
            self.file = h5py.File(self._stream or path, "r")
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        except (OSError, RuntimeError, ValueError, MemoryError):
            if self._stream is not None:
                self._stream.close()
            reason = "a folder" if path.is_dir() else "not an HDF5 file, or a damaged one"
            raise ValueError(f"{path}: {reason}") from None
        try:
            if self.text("/", "format") != name:
                raise self._refused("/", "format", self.text("/", "format"), repr(name))
            self.whole("/", "format_version", 1, number)
        except ValueError:
            self.close()
            raise

    def __enter__(self) -> "Hdf5Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        if self._stream is not None:
            self._stream.close()

    def problem(self, text: str) -> ValueError:
        """An error that names the file."""
        return ValueError(f"{self.path}: {text}")

    # --- Groups --------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether there is a dataset or group of this name."""
        try:
            self._item(name)
        except KeyError:
            return False
        except DAMAGE:
            raise self.problem(f"{name} is damaged") from None
        return True

    def names(self, group: str) -> list[str]:
        """Names within a group, sorted."""
        try:
            item = self._item(group)
            if not isinstance(item, h5py.Group) or len(item) > MAX_NAMES:
                raise KeyError
            return sorted(item)
        except DAMAGE:
            raise self.problem(f"{group} is missing or damaged") from None

    def _item(self, name: str) -> Any:
        """A group or dataset of this file, by hard links only."""
        item = self.file["/"]
        for part in filter(None, name.split("/")):
            if not isinstance(item, h5py.Group):
                raise KeyError(name)
            if item.get(part, getclass=True, getlink=True) is not h5py.HardLink:
                raise KeyError(name)
            item = item[part]
        return item

    # --- Attributes ----------------------------------------------------------------------------

    def attributes(self, group: str) -> dict[str, str | int | float]:
        """All attributes of a group that are texts or numbers."""
        try:
            held = self._item(group).attrs
            return numbers_and_texts({name: attribute_value(held, name) for name in held})
        except DAMAGE:
            raise self.problem(f"{group} is missing, or its attributes are damaged") from None

    def has_attribute(self, group: str, name: str) -> bool:
        """Whether a group or dataset has an attribute of this name."""
        try:
            return name in self._item(group).attrs
        except DAMAGE:
            raise self.problem(f"{group} is missing or damaged") from None

    def text(self, group: str, name: str, allowed: tuple[str, ...] = ()) -> str:
        """A text attribute, one of a few where there are only a few."""
        value = self._attribute(group, name)
        if not isinstance(value, str):
            raise self._refused(group, name, value, "text")
        if allowed and value not in allowed:
            raise self._refused(group, name, value, f"one of {', '.join(allowed)}")
        return value

    def whole(self, group: str, name: str, least: int, most: int) -> int:
        """An attribute that is a whole number within bounds."""
        value = np.asarray(self._attribute(group, name))
        if value.ndim or value.dtype.kind not in "iu" or not least <= int(value) <= most:
            allowed = f"a whole number from {least} to {most}"
            raise self._refused(group, name, value, allowed)
        return int(value)

    def wholes(self, group: str, name: str) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers, at least 1 each."""
        value = np.asarray(self._attribute(group, name))
        if value.ndim != 1 or value.dtype.kind not in "iu" or not (value >= 1).all():
            raise self._refused(group, name, value, "whole numbers of at least 1")
        return tuple(int(number) for number in value)

    def number(self, group: str, name: str) -> float:
        """An attribute that is a finite number of at least 0."""
        value = np.asarray(self._attribute(group, name))
        if value.ndim or value.dtype.kind not in "fiu" or not 0.0 <= float(value) < np.inf:
            raise self._refused(group, name, value, "a finite number of at least 0")
        return float(value)

    def _attribute(self, group: str, name: str) -> object:
        try:
            attributes = self._item(group).attrs
            if name in attributes:
                return attribute_value(attributes, name)
        except DAMAGE:
            raise self.problem(f"{group}: attribute {name} is damaged") from None
        raise self.problem(f"{group}: attribute {name} is missing")

    def refused(self, name: str, value: object, allowed: str) -> ValueError:
        """An error that names the file, what was found and what is allowed."""
        text = repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        return self.problem(f"{name}: {shown} is not allowed; must be {allowed}")

    def _refused(self, group: str, name: str, value: object, allowed: str) -> ValueError:
        where = name if group == "/" else f"{group}.{name}"
        return self.refused(f"attribute {where}", value, allowed)

    # --- Datasets ------------------------------------------------------------------------------

    def long_text(self, name: str) -> str:
        """A dataset that holds one text."""
        try:
            item, shape, numbers = self._found(name)
            if shape or not is_text(item.id.get_type(), numbers):
                raise TypeError
            value = item[()]
            found: str = value.decode("utf-8")
        except DAMAGE:
            raise self.problem(f"{name} is missing, damaged or not text") from None
        if len(found) > MAX_TEXT_BYTES:
            raise self.problem(f"{name} is too long; must have at most {MAX_TEXT_BYTES} characters")
        return found

    def length(self, name: str) -> int:
        """How many entries a dataset has along its first axis."""
        shape: tuple[int, ...] = self._found(name)[1]
        if not shape:
            raise self.problem(f"{name} has shape (); must have at least one axis")
        return shape[0]

    def dataset(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: Kind,
        *,
        longer: bool = False,
    ) -> h5py.Dataset:
        """A dataset of known shape whose values have been written, not read yet.

        Args:
            name: of the dataset.
            shape: that it must have.
            kind: of its numbers.
            longer: the first axis may go on; only what is asked for has to be there.
        """
        item, found, numbers = self._found(name)
        fits = found == shape
        if longer and len(found) == len(shape):
            fits = found[0] >= shape[0] and found[1:] == shape[1:]
        if not fits:
            raise self.problem(f"{name} has shape {found}; must be {shape}")
        if numbers.kind not in _KINDS[kind]:
            raise self.problem(f"{name} has type {numbers}; must be of kind {kind!r}")
        try:
            complete = is_written(item, shape)
        except DAMAGE:
            complete = False
        if not complete:
            raise self.problem(f"{name} is damaged")
        return item

    def array(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: Kind,
        dtype: torch.dtype,
        part: slice | None = None,
    ) -> Tensor:
        """An array of known shape, or a part of its first axis, which may then be longer.

        Args:
            name: of the dataset.
            shape: that it must have.
            kind: of its numbers; floats must be finite.
            dtype: of the tensor.
            part: of the first axis.
        """
        item = self.dataset(name, shape, kind, longer=part is not None)
        rows = range(shape[0]) if part is None else range(shape[0])[part]
        if len(rows) * np.prod(shape[1:], dtype=float) > MAX_ELEMENTS:
            raise self.problem(f"{name} has shape {shape}; must hold at most {MAX_ELEMENTS} values")
        try:
            values = item[rows.start : rows.stop]
            with np.errstate(over="ignore"):
                found = values.astype(_NUMPY[dtype], copy=False)
        except DAMAGE:
            raise self.problem(f"{name} is damaged") from None
        if kind != "float" and not np.array_equal(found, values):
            allowed = "0 or 1" if kind == "flag" else f"a whole number of type {found.dtype}"
            raise self.problem(f"{name} holds values that are not {allowed}")
        if kind == "float" and not np.isfinite(found).all():
            raise self.problem(f"{name} holds values that are not finite")
        return torch.from_numpy(found)

    def float_dtype(self, name: str) -> torch.dtype:
        """Precision of a dataset of floats."""
        numbers = self._found(name)[2]
        return torch.float32 if numbers == np.float32 else torch.float64

    def _found(self, name: str) -> tuple[h5py.Dataset, tuple[int, ...], np.dtype[Any]]:
        try:
            item = self._item(name)
            return item, tuple(item.shape), item.dtype
        except DAMAGE:
            raise self.problem(f"{name} is missing or damaged") from None
