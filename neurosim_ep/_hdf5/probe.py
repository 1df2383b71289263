"""A file that anybody may have written is read once by a process of its own.

HDF5's C library can run without end, or crash, on damaged files (seen with 2.0.0: a damaged global
heap, in which h5py puts texts).  A file with this program's digest is known to be whole; every
other one is first read through by this script, which may fail without harm.  It imports nothing of
the package, so that it starts in a fraction of a second.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MAX_TEXT_BYTES = 1 << 20
MAX_ATTRIBUTE_VALUES = 4096
MAX_CHUNK_BYTES = 1 << 26
MAX_NAMES = 100_000

DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What h5py raises for damaged files."""

# What a byte of gzip's can become at most.
_MOST_INFLATED = 1032
_SECONDS, _SECONDS_PER_BYTE = 5.0, 5e-7
_AT_ONCE_BYTES = 1 << 24


def survives(path: Path) -> bool:
    """Whether HDF5 can read all that is in a file without running for ever or crashing."""
    limit = _SECONDS + _SECONDS_PER_BYTE * path.stat().st_size
    # Without -P, the package's own modules would stand before others of their name.
    command = [sys.executable, "-P", __file__, str(path.absolute()), str(limit)]
    try:
        # The wait is longer than the limit on the processor's time: other programs may be busy.
        ended = subprocess.run(command, capture_output=True, timeout=10.0 * limit, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode >= 0


# --- What may be read at all -------------------------------------------------------------------


def is_text(kind: h5py.h5t.TypeID, numbers: np.dtype[Any]) -> bool:
    """Whether values are texts; other objects of any length are not read."""
    return isinstance(kind, h5py.h5t.TypeStringID) and numbers.itemsize <= MAX_TEXT_BYTES


def attribute_value(attributes: h5py.AttributeManager, name: str) -> object:
    """An attribute's value, if it is of a kind and size that this program writes.

    Raises:
        ValueError, TypeError: if not; others of `DAMAGE` if it is damaged.
    """
    held = attributes.get_id(name)
    if np.prod(held.shape, dtype=float) > MAX_ATTRIBUTE_VALUES:
        raise ValueError(name)
    if held.dtype.kind not in "biuf" and not is_text(held.get_type(), held.dtype):
        raise TypeError(name)
    found: object = attributes[name]
    return found


def is_written(item: h5py.Dataset, shape: tuple[int, ...]) -> bool:
    """Whether this much of a dataset was: a claim of many terabytes takes no space in a file."""
    size = item.dtype.itemsize * int(np.prod(shape, dtype=object))
    if item.external or item.is_virtual:
        return False
    if size == 0:
        return True
    stored = item.id.get_storage_size()
    if item.chunks is None:
        return bool(stored >= size)
    if item.dtype.itemsize * int(np.prod(item.chunks, dtype=object)) > MAX_CHUNK_BYTES:
        return False
    sides = zip(shape, item.chunks, strict=True)
    chunks = int(np.prod([-(-size // chunk) for size, chunk in sides], dtype=object))
    return bool(item.id.get_num_chunks() >= chunks and stored * _MOST_INFLATED >= size)


# --- Reading through ---------------------------------------------------------------------------


def read_through(path: Path) -> None:
    """Read all attributes and datasets that this program might read; damage is left to others."""
    with contextlib.suppress(*DAMAGE), h5py.File(path, "r") as file:
        for item in _items(file["/"]):
            for name in list(item.attrs):
                with contextlib.suppress(*DAMAGE):
                    attribute_value(item.attrs, name)
            if isinstance(item, h5py.Dataset):
                with contextlib.suppress(*DAMAGE):
                    _read(item)


def _items(root: h5py.Group) -> Iterator[Any]:
    """Every object once, by hard links only."""
    waiting: list[Any] = [root]
    seen: set[int] = set()
    while waiting and len(seen) < MAX_NAMES:
        item = waiting.pop()
        with contextlib.suppress(*DAMAGE):
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                continue
            seen.add(place)
            yield item
        if not isinstance(item, h5py.Group):
            continue
        with contextlib.suppress(*DAMAGE):
            for name in list(item) if len(item) <= MAX_NAMES else ():
                with contextlib.suppress(*DAMAGE):
                    if item.get(name, getclass=True, getlink=True) is h5py.HardLink:
                        waiting.append(item[name])


def _read(item: h5py.Dataset) -> None:
    if item.shape == () and is_text(item.id.get_type(), item.dtype):
        item[()]
    if item.dtype.kind not in "biuf" or not is_written(item, item.shape):
        return
    if not item.shape:
        item[()]
        return
    row = item.dtype.itemsize * int(np.prod(item.shape[1:], dtype=object))
    step = max(1, _AT_ONCE_BYTES // max(row, 1), item.chunks[0] if item.chunks else 1)
    for start in range(0, item.shape[0], step):
        item[start : start + step]


def _limit_time(seconds: float) -> None:
    """End this process after so much of the processor's time, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        whole = max(1, int(seconds))
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit_time(float(sys.argv[2]))
    read_through(Path(sys.argv[1]))
