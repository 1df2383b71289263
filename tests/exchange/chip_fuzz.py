"""Mutated chip files, loaded one after another in a process of little memory.

    python tests/exchange/chip_fuzz.py bytes|sealed|schema EXAMPLES FOLDER [SEED]

What is loaded is a chip whose devices are finite, or one line is said.  Anything else ends the
process: another exception, a crash of a library, a minute for one file (SIGALRM), or more memory
than a small chip takes.  The file that did it stays in FOLDER.  Prints the counts as JSON.

Files without a digest are read through by a fork of this process, which costs less than a new one.

- ``bytes``: bytes flipped, cut off, inserted, left out and overwritten, in a file without its
  digest, so that the HDF5 library meets them; `h5py`'s own layout of a minimal file is one of them;
- ``sealed``: the same with the digest at its place;
- ``schema``: groups, datasets and attributes deleted or replaced, numbers of cards changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from neurosim_ep import crossbar, exchange, models, settling
from neurosim_ep._hdf5 import probe, reader
from neurosim_ep._hdf5.seal import _LENGTH

MEMORY_BYTES = 1 << 30
"""On top of what the imported libraries take."""

SECONDS, SECONDS_OF_A_PROBE = 60, 2

STOPPED: Counter[str] = Counter()

# --- The files that are mutated ----------------------------------------------------------------


def chip_files(folder: Path) -> list[Path]:
    """A chip that was pulsed and has aged, and measured conductances in h5py's default layout."""
    network = models.mlp((1, 2, 2), 3, ())
    chip = crossbar.map_to_crossbar(network, "pcm", "default", seed=3)
    images = torch.linspace(-1.0, 1.0, 8).view(2, 1, 2, 2)
    with chip.calibrating():
        settling.settle(chip, images, iterations=3)
    one = torch.ones_like(chip.weights[0])
    chip.storages[0].pulse(one, 0 * one)
    chip.advance_time(60.0)
    saved, measured = folder / "saved.h5", folder / "measured.h5"
    exchange.hdf5.save(chip, saved)
    with h5py.File(measured, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "neurosim-ep chip", 1
        file.attrs["device_card"], file.attrs["array_card"] = "pcm", "ideal"
        graph = file.create_group("graph")
        graph.attrs["layers"], graph.attrs["edges"] = 2, 1
        for name, shape in (("layer_0", (4,)), ("layer_1", (3,))):
            graph.create_group(name).attrs.update(shape=shape, activation="linear")
        edge = {"pre_layer": 0, "post_layer": 1, "geometry": "dense"}
        graph.create_group("edge_0").attrs.update(edge)
        file["biases/layer_1"] = np.zeros(3)
        file["matrices/edge_0/weight_per_siemens"] = np.full(3, 1e4)
        for role in ("plus", "minus"):
            g = np.linspace(2e-6, 2e-5, 12).reshape(4, 3)
            file[f"matrices/edge_0/{role}/conductance_siemens"] = g
    return [saved, measured]


# --- Mutations of bytes ------------------------------------------------------------------------

PLACES = st.floats(0.0, 1.0, exclude_max=True)


def _flip(data: bytearray, at: int, value: int, length: int) -> None:
    data[at] ^= value or 1


def _cut(data: bytearray, at: int, value: int, length: int) -> None:
    del data[at:]


def _insert(data: bytearray, at: int, value: int, length: int) -> None:
    data[at:at] = bytes([value]) * length


def _leave_out(data: bytearray, at: int, value: int, length: int) -> None:
    del data[at : at + length]


def _overwrite(data: bytearray, at: int, value: int, length: int) -> None:
    end = min(at + length, len(data))
    data[at:end] = bytes([value]) * (end - at)


def _copy(data: bytearray, at: int, value: int, length: int) -> None:
    source = (at * (value + 7)) % len(data)
    block = data[source : source + length]
    data[at : at + len(block)] = block


# Flips more often than what damages most of a file.
CHANGES: list[Callable[..., None]] = [_flip, _flip, _flip, _overwrite, _copy, _insert, _leave_out]
CHANGES += [_cut]
ONE = st.tuples(
    st.sampled_from(CHANGES), PLACES, st.booleans(), st.integers(0, 255), st.integers(1, 64)
)
OF_BYTES = st.tuples(st.integers(0, 1), st.lists(ONE, min_size=1, max_size=8))


def mutate_bytes(whole: bytes, changes: list[Any]) -> bytes:
    data = bytearray(whole)
    for change, place, early, value, length in changes:
        if data:
            # The structures that lead to all others stand at the start.
            size = min(len(data), 4096) if early else len(data)
            change(data, int(place * size), value, length)
    return bytes(data)


# --- Mutations of the schema -------------------------------------------------------------------

NUMBERS: list[Any] = [0, 1, 2, 3, -1, 2**31, 2**53, 2**62, -(2**62), 0.5, 1e-300, 1e300, -1.0]
NUMBERS += [float("nan"), float("inf"), 1e-5, 6.0]
TEXTS: list[Any] = [
    "",
    "text",
    "relu_alpha",
    "identity",
    "pcm",
    "/etc/passwd",
    "name = 1",
    "][",
    "é",
]
ODD: list[Any] = [
    np.zeros(0),
    np.zeros((2, 3)),
    np.full(5000, 7),
    np.arange(3),
    np.array([1, 1, 1]),
    np.array([10**6, 10**6, 10**6]),
    np.zeros((4, 3), "f4"),
    np.full((4, 3), 1e-5),
    np.full((4, 3), np.nan),
    np.ones((4, 3), "i8"),
    np.zeros(3, np.dtype([("a", "f8"), ("b", "S4")])),
    np.zeros(2, "S8"),
    np.array(b"\xff\xfe"),
    h5py.Empty("f8"),
]
VALUES = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(ODD))
KINDS = ["delete", "replace", "attribute", "attribute", "no attribute", "claim", "link"]
KINDS += ["card", "card", "card"]
STEP = st.tuples(st.sampled_from(KINDS), PLACES, PLACES, VALUES)
OF_SCHEMA = st.tuples(st.integers(0, 1), st.lists(STEP, min_size=1, max_size=3))


def mutate_schema(path: Path, steps: list[Any]) -> None:
    with h5py.File(path, "r+") as file:
        for kind, first, second, value in steps:
            names: list[str] = [""]
            file.visit(names.append)
            name = names[int(first * len(names))]
            # What an earlier step left may not be changed so.
            with contextlib.suppress(*probe.DAMAGE):
                _step(file, kind, name, second, value)


def _step(file: h5py.File, kind: str, name: str, second: float, value: Any) -> None:
    if kind in ("attribute", "no attribute"):
        attributes = file[name or "/"].attrs
        keys = sorted(attributes)
        key = keys[int(second * len(keys))] if keys else "shape"
        if kind == "attribute":
            attributes[key] = value
        elif key in attributes:
            del attributes[key]
    elif kind == "card":
        place = ("cards/device", "cards/array")[int(1000 * second) % 2]
        text = file[place][()].decode() if place in file else "name = 'x'"
        numbers = list(re.finditer(r"= ([-0-9.e]+)", text))
        if numbers:
            found = numbers[int(second * len(numbers))]
            text = text[: found.start(1)] + str(value) + text[found.end(1) :]
        file.pop(place, None)
        file[place] = text.replace("\0", "")
    elif name:
        del file[name]
        if kind == "replace":
            file[name] = value
        elif kind == "claim":
            file.create_dataset(name, (2**40, 2**20), "f8", chunks=(64, 64))
        elif kind == "link":
            links = [h5py.SoftLink("/"), h5py.ExternalLink("saved.h5", "/"), h5py.SoftLink("/no")]
            file[name] = links[int(second * 3)]


# --- Loading -----------------------------------------------------------------------------------


def attempt(path: Path, counts: Counter[str], wanted: str | None = None) -> None:
    """Load a mutated file: a chip, or one line that names the file."""
    signal.alarm(SECONDS)
    try:
        chip = exchange.hdf5.load(path)
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"{path}: "), message
        assert "\n" not in message
        counts["refused"] += 1
    else:
        for storage in chip.storages:
            assert storage.matrix.devices.conductance.isfinite().all()
            assert storage.effective_weight().isfinite().all()
        equal = wanted is not None and digest(chip) == wanted
        counts["loaded equal" if equal else "loaded"] += 1
    finally:
        signal.alarm(0)


def forked(path: Path) -> bool:
    """`neurosim_ep._hdf5.probe.survives`, in a fork."""
    child = os.fork()
    if child == 0:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_OF_A_PROBE, SECONDS_OF_A_PROBE))
        try:
            probe.read_through(path)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    survived = not os.WIFSIGNALED(status)
    STOPPED["by its fork"] += not survived
    return survived


def digest(chip: crossbar.CrossbarNetwork) -> str:
    return repr({k: v.tolist() for k, v in chip.state_dict().items() if v is not None})


def main(kind: str, examples: int, folder: Path, number: int) -> None:
    counts: Counter[str] = Counter()
    reader.survives = forked
    files = chip_files(folder)
    originals = [file.read_bytes() for file in files]
    wanted = [digest(exchange.hdf5.load(file)) for file in files]
    path = folder / f"mutated-{number}.h5"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(OF_SCHEMA if kind == "schema" else OF_BYTES)
    def run(mutation: Any) -> None:
        which, changes = mutation
        whole = originals[which]
        if kind == "schema":
            path.write_bytes(whole)
            mutate_schema(path, changes)
        else:
            if kind == "bytes" and which == 0:
                whole = whole[:-_LENGTH]
            path.write_bytes(mutate_bytes(whole, changes))
        attempt(path, counts, wanted[which])

    run()
    print(json.dumps({"kind": kind, "seed": number, **counts, "stopped": STOPPED["by its fork"]}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    main(arguments[0], int(arguments[1]), Path(arguments[2]), int((*arguments, 0)[3]))
