"""Checkpoint files: whole or refused, and never run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosim_ep.learning import load_checkpoint, save_checkpoint, write_text

STATE = {
    "weights": {"a": torch.arange(2000.0), "b": torch.tensor(2.5, dtype=torch.float64)},
    "carried": [torch.zeros(2, 3, dtype=torch.complex64), torch.ones(1, dtype=torch.int64)],
    "nothing": None,
    "epoch": 3,
    "rates": [0.1, 1e-300],
    "name": "Größe",
}


class Payload:
    """Creates a file where it is unpickled with its code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


def assert_state(found: dict[str, object]) -> None:
    assert set(found) == set(STATE)
    for key in ("nothing", "epoch", "rates", "name"):
        assert found[key] == STATE[key]
    assert found["weights"].keys() == STATE["weights"].keys()
    pairs = [(found["weights"][key], STATE["weights"][key]) for key in "ab"]
    pairs += list(zip(found["carried"], STATE["carried"], strict=True))
    for a, b in pairs:
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def assert_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="must be a checkpoint of neurosim-ep") as caught:
        load_checkpoint(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved checkpoint."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    return path


def test_round_trip(file: Path) -> None:
    assert_state(load_checkpoint(file))
    assert [path.name for path in file.parent.iterdir()] == ["last.pt"]


def test_a_new_checkpoint_replaces_the_old(file: Path) -> None:
    save_checkpoint(file, {"epoch": 4})
    assert load_checkpoint(file) == {"epoch": 4}
    assert [path.name for path in file.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(file: Path, part: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    assert_refused(file)


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    save_checkpoint(file, {"a": torch.arange(3.0)})
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        assert_refused(file)


def test_a_damaged_byte_is_refused_or_harmless(file: Path) -> None:
    whole = file.read_bytes()
    for place in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        file.write_bytes(bytes(damaged))
        try:
            found = load_checkpoint(file)
        except ValueError as error:
            assert str(error).startswith(f"{file}: ")  # noqa: PT017
        else:
            assert_state(found)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world\n",
        b'{"epoch": 3}',
        b"epoch = 3\n",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        bytes(1000),
        b"PK\x03\x04",
        b"\x80\x04",
        b"\x80\x02.",
        b"cos\nsystem\n",
        b"\xff\xfe\xfd",
        b"\x80\x02X\x04\x00\x00\x00\xff\xff\xff\xff.",
        b"\x80\x02h\x05.",
        b"(lp0\n.",
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "last.pt"
    file.write_bytes(content)
    assert_refused(file)


def test_archives_and_pickles_of_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/other.txt", "text")
    assert_refused(file)
    with file.open("wb") as stream:
        np.savez(stream, a=np.arange(3))
    assert_refused(file)
    file.write_bytes(pickle.dumps({"path": tmp_path}))
    assert_refused(file)


@pytest.mark.parametrize("content", [torch.arange(3.0), [1, 2], 7, "text", None])
def test_what_is_not_a_dictionary_is_refused(tmp_path: Path, content: object) -> None:
    file = tmp_path / "last.pt"
    torch.save(content, file)
    assert_refused(file)


@pytest.mark.parametrize("form", ["torch", "legacy torch", "pickle", "pickle 2"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    file, target = tmp_path / "last.pt", tmp_path / "executed"
    state = {"weights": Payload(target)}
    if form.startswith("pickle"):
        file.write_bytes(pickle.dumps(state, protocol=2 if form == "pickle 2" else 4))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "torch")
    assert_refused(file)
    assert not target.exists()
    torch.load(file, weights_only=False) if "torch" in form else pickle.loads(file.read_bytes())
    assert target.exists()  # The payload does what it should: the test can fail.


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; must be a checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    assert_refused(tmp_path)


def kill(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["replace", "fsync"])
def test_a_kill_before_the_renaming_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, moment, kill)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(file, {"epoch": 4})
    assert_state(load_checkpoint(file))
    # What was left beside it is hidden, has another ending, and is overwritten by the next.
    others = [path for path in file.parent.iterdir() if path != file]
    assert all(path.name.startswith(".") and path.suffix == ".part" for path in others)
    assert list(file.parent.glob("*.pt")) == [file]
    save_checkpoint(file, {"epoch": 5})
    assert load_checkpoint(file) == {"epoch": 5}
    assert [path.name for path in file.parent.iterdir()] == ["last.pt"]


def test_a_kill_while_writing_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(state: object, stream) -> None:
        stream.write(b"PK\x03\x04 half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(file, {"epoch": 4})
    assert_state(load_checkpoint(file))
    assert list(file.parent.glob("*.pt")) == [file]


def test_the_file_is_on_the_disk_before_it_takes_the_place(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda f: (calls.append("fsync"), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    save_checkpoint(file, STATE)
    assert calls[:2] == ["fsync", "replace"]


def test_text_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "summary.json"
    write_text(file, "alt: Größe\n")
    assert file.read_bytes() == "alt: Größe\n".encode()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "alt: Größe\n"
    assert list(tmp_path.glob("*.json")) == [file]
    write_text(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert file.read_text(encoding="utf-8") == "new"
