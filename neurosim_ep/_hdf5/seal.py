"""A digest at a file's end: damage is told before an HDF5 library reads any of it.

The bytes follow the end that HDF5 itself knows of, so every reader takes the file as it is.  A
program that opens the file for writing cuts them off when it closes it: a file that was edited on
purpose has no seal, and is checked by what it holds.
"""

import hashlib
from pathlib import Path

_MARK = b"\nneurosim-ep sha256 "
_LENGTH = len(_MARK) + 64 + 1
_BLOCK = 1 << 20


def seal(path: Path) -> None:
    """Append the digest of a finished file."""
    digest = _digest(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(_MARK + digest.encode("ascii") + b"\n")


def check_seal(path: Path) -> bool:
    """Compare a file with its digest.

    Returns:
        Whether it has one.

    Raises:
        ValueError: in one line, if the contents are not those that were sealed.
        OSError: if there is no such file.
    """
    size = path.stat().st_size - _LENGTH
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        end = file.read()
    if not end.startswith(_MARK):
        return False
    if end[len(_MARK) : -1] != _digest(path, size).encode("ascii"):
        raise ValueError(f"{path}: damaged; its contents are not those that its digest was made of")
    return True


def _digest(path: Path, size: int) -> str:
    """SHA-256 of a file's first bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, size, _BLOCK):
            digest.update(file.read(min(_BLOCK, size - start)))
    return digest.hexdigest()
