"""HDF5 files: written beside their place and renamed, saying what they are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim_ep._hdf5.seal import seal

VERSION_1_10 = ("v110", "v110")
"""Library versions of a file that stays whole while it grows (HDF5's single-writer mode)."""


@contextmanager
def written_beside(path: Path, *, sealed: bool = False, **how: Any) -> Iterator[h5py.File]:
    """A new file that takes its place when all is written; after an error nothing has changed.

    Args:
        path: of the file.
        sealed: end it with a digest (`neurosim_ep._hdf5.seal`).
        how: more arguments of ``h5py.File``.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with h5py.File(beside, "w", **how) as file:
            yield file
        if sealed:
            seal(beside)
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
