"""HDF5 files: written beside their place and renamed; read with one line for whatever is wrong."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from neurosim_ep._hdf5_unfinished import as_if_closed

VERSION_1_10 = ("v110", "v110")
"""Library versions of a file that stays whole while it grows (HDF5's single-writer mode)."""

MAX_ELEMENTS = 2_000_000_000
"""No array that is read may be larger: a damaged file can claim any size."""

Kind = Literal["float", "whole"]
"""Of numbers in a file."""

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError)
_KINDS = {"float": "f", "whole": "iu"}
_NUMPY: dict[torch.dtype, type[np.number[Any]]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int32: np.int32,
    torch.int64: np.int64,
}


@contextmanager
def written_beside(path: Path, **how: Any) -> Iterator[h5py.File]:
    """A new file that takes its place when all is written; after an error nothing has changed.

    Args:
        path: of the file.
        how: more arguments of ``h5py.File``.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with h5py.File(beside, "w", **how) as file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_format(file: h5py.File, name: str, number: int, description: str) -> None:
    """Say what a file is, and which versions wrote it."""
    file.attrs["format"] = name
    file.attrs["format_version"] = number
    file.attrs["description"] = description
    for library in ("neurosim-ep", "torch", "numpy", "h5py"):
        file.attrs[f"version_{library.replace('-', '_')}"] = version(library)


def label_axes(dataset: h5py.Dataset, *axes: str) -> None:
    """Name the axes of a dataset; names beyond its last axis are left out."""
    for number, axis in zip(range(dataset.ndim), axes, strict=False):
        dataset.dims[number].label = axis


def numbers_and_texts(attributes: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Attributes that are one number or text, as Python's own."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in attributes.items()
        if isinstance(value, str | int | float | np.integer | np.floating)
    }


class Hdf5Reader:
    """An open file of one of this program's formats.

    Args:
        path: of the file.
        name: the format that it must have.
        number: the largest format version that is understood.
        unfinished: the file may be one whose writer was killed.

    Attributes:
        file: the open file, for what has been checked.

    Raises:
        ValueError: here and from every method, one line, if what is asked for is missing, damaged
            or not allowed.
    """

    def __init__(self, path: Path, name: str, number: int, *, unfinished: bool = False) -> None:
        self.path = path
        self._stream = None
        try:
            self._stream = as_if_closed(path) if unfinished else None
            self.file = h5py.File(self._stream or path, "r")
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        except (OSError, RuntimeError, ValueError):
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

    def names(self, group: str) -> list[str]:
        """Names within a group, sorted."""
        try:
            return sorted(self.file[group])
        except _DAMAGE:
            raise self.problem(f"{group} is missing or damaged") from None

    def attributes(self, group: str) -> dict[str, str | int | float]:
        """All attributes of a group that are texts or numbers."""
        try:
            return numbers_and_texts(self.file[group].attrs)
        except _DAMAGE:
            raise self.problem(f"{group} is missing, or its attributes are damaged") from None

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

    def long_text(self, name: str) -> str:
        """A dataset that holds one text."""
        try:
            value = self.file[name][()]
            found: str = value.decode("utf-8")
        except _DAMAGE:
            raise self.problem(f"{name} is missing, damaged or not text") from None
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
            complete = _allocated(item, shape)
        except _DAMAGE:
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
        except (*_DAMAGE, MemoryError):
            raise self.problem(f"{name} is damaged") from None
        if kind == "float" and not np.isfinite(values).all():
            raise self.problem(f"{name} holds values that are not finite")
        return torch.from_numpy(values.astype(_NUMPY[dtype], copy=False))

    def float_dtype(self, name: str) -> torch.dtype:
        """Precision of a dataset of floats."""
        numbers = self._found(name)[2]
        return torch.float32 if numbers == np.float32 else torch.float64

    def _found(self, name: str) -> tuple[h5py.Dataset, tuple[int, ...], np.dtype[Any]]:
        try:
            item = self.file[name]
            return item, tuple(item.shape), item.dtype
        except _DAMAGE:
            raise self.problem(f"{name} is missing or damaged") from None

    def _attribute(self, group: str, name: str) -> object:
        try:
            attributes = self.file[group].attrs
            if name in attributes:
                found: object = attributes[name]
                return found
        except _DAMAGE:
            raise self.problem(f"{group}: attribute {name} is damaged") from None
        raise self.problem(f"{group}: attribute {name} is missing")

    def _refused(self, group: str, name: str, value: object, allowed: str) -> ValueError:
        text = repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        where = name if group == "/" else f"{group}.{name}"
        return self.problem(f"attribute {where}: {shown} is not allowed; must be {allowed}")


def _allocated(item: h5py.Dataset, shape: tuple[int, ...]) -> bool:
    """Whether this much was written: a claim of many terabytes takes no space in a file."""
    if item.chunks is None:
        size = item.dtype.itemsize * int(np.prod(shape, dtype=object))
        return bool(item.id.get_storage_size() >= size)
    sides = zip(shape, item.chunks, strict=True)
    chunks = int(np.prod([-(-size // chunk) for size, chunk in sides], dtype=object))
    return bool(item.id.get_num_chunks() >= chunks)
