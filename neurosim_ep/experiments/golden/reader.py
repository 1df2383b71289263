"""Read a golden file; whatever is wrong with it becomes one line naming the file and the item."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from neurosim_ep._hdf5.probe import survives

MAX_ELEMENTS = 50_000_000
"""No array of a golden file may be larger; the full-width networks' largest has 2.4 million."""

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


class GoldenReader:
    """An open golden file, read by name and shape.

    Args:
        path: of the HDF5 file.

    Raises:
        ValueError: here and from every method, one line, if what is asked for is missing, damaged
            or out of bounds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # On some damaged files the library runs without end: another process tries it first.
            if h5py.is_hdf5(path) and not survives(path):
                raise OSError
            self._file = h5py.File(path, "r")
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        except (OSError, RuntimeError) as error:
            reason = "a folder" if path.is_dir() else "not an HDF5 file, or a damaged one"
            raise ValueError(f"{path}: {reason}") from error
        self.attributes = self._read_attributes()

    def __enter__(self) -> "GoldenReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read_attributes(self) -> Mapping[str, object]:
        try:
            return dict(self._file.attrs)
        except _DAMAGE as error:
            raise ValueError(f"{self.path}: damaged attributes") from error

    def names(self, group: str) -> list[str]:
        """Names within a group."""
        try:
            return sorted(self._file[group])
        except _DAMAGE as error:
            raise ValueError(f"{self.path}: {group} is missing or damaged") from error

    def array(self, name: str, shape: tuple[int, ...] | None = None, kind: str = "f") -> Tensor:
        """An array as float64, int64 or bool, of a given shape where one is given."""
        try:
            item = self._file[name]
            found, found_kind = tuple(item.shape), item.dtype.kind
        except _DAMAGE as error:
            raise ValueError(f"{self.path}: {name} is missing or damaged") from error
        if found_kind not in {"f": "f", "i": "iu", "b": "biu"}[kind]:
            raise ValueError(f"{self.path}: {name} has type {item.dtype}; must be of kind {kind!r}")
        if shape is not None and found != shape:
            raise ValueError(f"{self.path}: {name} has shape {found}; must be {shape}")
        if np.prod(found, dtype=float) > MAX_ELEMENTS:
            raise ValueError(
                f"{self.path}: {name} has shape {found}; must hold at most {MAX_ELEMENTS} values"
            )
        try:
            values = item[...]
        except _DAMAGE as error:
            raise ValueError(f"{self.path}: {name} is damaged") from error
        if kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{self.path}: {name} holds values that are not finite")
        wanted = {"f": np.float64, "i": np.int64, "b": np.bool_}[kind]
        return torch.from_numpy(np.asarray(values, dtype=wanted))

    def text(self, name: str, allowed: Mapping[str, object] | tuple[str, ...]) -> str:
        """A text attribute that must be one of a few."""
        value = self._attribute(name)
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(
                f"{self.path}: attribute {name}: {_shown(value)} is not allowed; must be one of "
                f"{', '.join(allowed)}"
            )
        return value

    def number(self, name: str, least: float, most: float, *, whole: bool = False) -> float:
        """A number attribute within bounds."""
        value = np.asarray(self._attribute(name))
        numeric = value.ndim == 0 and value.dtype.kind in ("iu" if whole else "fiu")
        if not numeric or not least <= float(value) <= most:
            raise ValueError(
                f"{self.path}: attribute {name}: {_shown(value)} is not allowed; must be a "
                f"{'whole ' if whole else ''}number from {least:g} to {most:g}"
            )
        return float(value)

    def widths(self) -> tuple[int, ...]:
        """The four widths."""
        value = np.asarray(self._attribute("widths"))
        if (
            value.dtype.kind not in "iu"
            or value.shape != (4,)
            or not ((value >= 1) & (value <= 4096)).all()
        ):
            raise ValueError(
                f"{self.path}: attribute widths: {_shown(value)} is not allowed; must be "
                "4 whole numbers from 1 to 4096"
            )
        return tuple(int(width) for width in value)

    def _attribute(self, name: str) -> object:
        if name not in self.attributes:
            raise ValueError(f"{self.path}: attribute {name} is missing; not a golden file")
        return self.attributes[name]


def _shown(value: object) -> str:
    """A value from a foreign file, short and on one line."""
    text = repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
