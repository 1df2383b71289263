"""Files of killed writers: opened as if they had been closed."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import pytest

from neurosim_ep._hdf5.unfinished import as_if_closed, lookup3
from neurosim_ep._hdf5.writing import VERSION_1_10, written_beside


def test_the_hash_is_bob_jenkins() -> None:
    """His own test vector, and the checksums that HDF5 writes into superblocks."""
    assert lookup3(b"Four score and seven years ago") == 0x17770551


@pytest.mark.parametrize("datasets", [0, 1, 30])
def test_the_hash_is_that_of_hdf5(tmp_path: Path, datasets: int) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver=VERSION_1_10) as file:
        for number in range(datasets):
            file[f"group/{number}"] = list(range(number + 1))
    start = path.read_bytes()[:48]
    assert struct.unpack("<I", start[44:]) == (lookup3(start[:44]),)


def test_a_file_that_was_never_closed_is_read(tmp_path: Path) -> None:
    path, killed = tmp_path / "file.h5", tmp_path / "killed.h5"
    with h5py.File(path, "w", libver=VERSION_1_10) as file:
        growing = file.create_dataset("x", (0, 500), "f8", maxshape=(None, 500), chunks=(1, 500))
        file.swmr_mode = True
        for number in range(20):
            growing.resize(number + 1, 0)
            growing[number] = number
            growing.flush()
        killed.write_bytes(path.read_bytes())
    before = killed.read_bytes()
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(killed, "r")
    stream = as_if_closed(killed)
    assert stream is not None
    with stream, h5py.File(stream, "r") as file:
        assert file["x"][:, 499].tolist() == list(range(20))
    assert killed.read_bytes() == before


def test_files_that_were_closed_are_left_to_hdf5(tmp_path: Path) -> None:
    for version in (VERSION_1_10, "earliest"):
        path = tmp_path / f"{version[0]}.h5"
        h5py.File(path, "w", libver=version).close()
        assert as_if_closed(path) is None
    for number, content in enumerate((b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(80))):
        path = tmp_path / str(number)
        path.write_bytes(content)
        assert as_if_closed(path) is None


def test_a_failed_writing_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    path.write_text("as it was")

    def fail() -> None:
        with written_beside(path) as file:
            file["x"] = 1.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]
