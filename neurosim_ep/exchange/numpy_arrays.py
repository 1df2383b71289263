"""A network or a chip as one ``.npz`` of NumPy arrays (keys: docs/arrays.md)."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.crossbar.mapping import OFFSET, PAIR, device_shape
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.exchange.aihwkit_storage import AihwkitNetwork
from neurosim_ep.exchange.chip_arrays import (
    ChipArrays,
    MatrixArrays,
    chip_arrays,
    same_names,
    set_chip_arrays,
)
from neurosim_ep.models import HopfieldNetwork, WeightStorage

FORMAT, VERSION = "neurosim-ep arrays", 1

_MOST = 2_000_000_000
_MOST_HEADER = 10_000
_MAPPINGS = (PAIR, OFFSET)
_TILING = ("rows", "columns", "tile_rows", "tile_columns")


def save(network: HopfieldNetwork, path: Path | str) -> None:
    """Write a network's weights and biases, and a chip's conductances.

    Args:
        network: exact or on arrays; of a chip, everything as it stands at present.
        path: of the file, which replaces another of that name once it is whole.

    Raises:
        ValueError: in one line, if it cannot be written.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "format": np.array(FORMAT),
        "format_version": np.array(VERSION),
    }
    for name, weight in _weights(network).items():
        arrays[f"{name}.weight"] = _numpy(weight)
    for number, bias in enumerate(network.biases, start=1):
        arrays[f"layer_{number}.bias"] = _numpy(bias)
    if isinstance(network, CrossbarNetwork):
        for name, matrix in chip_arrays(network).matrices.items():
            arrays[f"{name}.conductance_siemens"] = _numpy(matrix.conductance_siemens)
            arrays[f"{name}.weight_per_siemens"] = _numpy(matrix.weight_per_siemens)
            arrays[f"{name}.tiling"] = np.array([getattr(matrix.tiling, of) for of in _TILING])
            arrays[f"{name}.mapping"] = np.array(matrix.mapping)
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        beside.replace(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


@torch.no_grad()
def load(path: Path | str, network: HopfieldNetwork | None = None) -> dict[str, Tensor]:
    """Read a file of `save`, and give its values to a network.

    Args:
        path: of the file.
        network: takes the values over.  Of a chip, the devices stand at the file's conductances
            (`neurosim_ep.exchange.set_chip_arrays`); where the file has none, the chip is
            programmed with its weights.  A network on aihwkit tiles is programmed, an exact one
            gets the weights.  None is changed without it.

    Returns:
        The weights (``edge_0.weight``, ...) in the edges' ``weight_shape``, and the biases
        (``layer_1.bias``, ...), conductances (``edge_0.conductance_siemens``, ...) and weights per
        siemens (``edge_0.weight_per_siemens``, ...).

    Raises:
        ValueError: in one line, if the file is missing, damaged or something else, or its arrays do
            not fit the network; nothing changes then.
    """
    path = Path(path)
    found = _read(path)
    if network is not None:
        # A chip's conductances are more than its weights.
        held = any(name.endswith(".conductance_siemens") for name in found)
        if held and isinstance(network, CrossbarNetwork):
            set_chip_arrays(network, _chip(path, found))
        else:
            _set_weights(network, found)
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _weights(network: HopfieldNetwork) -> dict[str, Tensor]:
    """Weights of every edge that has them, in ``weight_shape``; of arrays what a read sees."""
    found: dict[str, Tensor] = {}
    for number, edge in enumerate(network.edge_list()):
        storage = edge.storage
        if isinstance(storage, WeightStorage):
            of_arrays = getattr(storage, "effective_weight", None)
            found[f"edge_{number}"] = storage.weight if of_arrays is None else of_arrays()
    return found


def _set_weights(network: HopfieldNetwork, found: Mapping[str, Any]) -> None:
    wanted = {f"{name}.weight": weight for name, weight in _weights(network).items()}
    wanted |= {f"layer_{n}.bias": bias for n, bias in enumerate(network.biases, start=1)}
    given = {n: v for n, v in found.items() if n.endswith((".weight", ".bias"))}
    same_names("arrays", given, wanted)
    for name, present in wanted.items():
        if (value := given[name]).shape != present.shape:
            shapes = list(value.shape), str(list(present.shape))
            raise ValueError(problem(f"{name}: shape", *shapes))
    for number, edge in enumerate(network.edge_list()):
        if isinstance(edge.storage, WeightStorage):
            edge.storage.weight.copy_(given[f"edge_{number}.weight"])
    for number, bias in enumerate(network.biases, start=1):
        bias.copy_(given[f"layer_{number}.bias"])
    if isinstance(network, CrossbarNetwork):
        for layer, row in network.bias_rows.items():
            row.weight.copy_(network.biases[layer - 1].view(1, -1))
    if isinstance(network, CrossbarNetwork | AihwkitNetwork):
        network.program(rescale=True)


def _chip(path: Path, found: Mapping[str, Any]) -> ChipArrays:
    matrices, biases = {}, {}
    for name in [n.removesuffix(".mapping") for n in found if n.endswith(".mapping")]:
        parts = ("conductance_siemens", "weight_per_siemens", "tiling")
        for part in parts:
            if f"{name}.{part}" not in found:
                raise ValueError(f"{path}: {name}.{part} is missing")
        sizes = found[f"{name}.tiling"].tolist()
        if len(sizes) != 4 or not all(1 <= size < 2**31 for size in sizes):
            allowed = "4 whole numbers from 1 to 2147483647"
            raise ValueError(f"{path}: {name}.tiling: {sizes} is not allowed; must be {allowed}")
        tiling, mapping = Tiling(*sizes), found[f"{name}.mapping"]
        conductance = found[f"{name}.conductance_siemens"]
        if tuple(conductance.shape) != device_shape(tiling, mapping):
            raise ValueError(
                f"{path}: {name}.conductance_siemens: shape {list(conductance.shape)} is not "
                f"allowed; must be {list(device_shape(tiling, mapping))}"
            )
        units = found[f"{name}.weight_per_siemens"]
        matrices[name] = MatrixArrays(mapping, tiling, conductance, units)
    for name, value in found.items():
        if name.endswith(".bias"):
            biases[int(name.removeprefix("layer_").removesuffix(".bias"))] = value
    return ChipArrays(matrices, biases)


# --- Reading -----------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    """All arrays of a file, checked one by one before their values are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = {name: _member(path, archive, name, info) for name, info in members.items()}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder") from None
    except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "damaged"
        raise ValueError(f"{path}: not an .npz file, or a damaged one ({reason})") from None
    for name, wanted in (("format", FORMAT), ("format_version", VERSION)):
        value = found.pop(name, None)
        if value != wanted:
            raise ValueError(f"{path}: {problem(name, value, str(wanted))}")
    return found


def _member(path: Path, archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Any:
    kind = name.rpartition(".")[2]
    dtypes = {"format": "U", "format_version": "iu", "mapping": "U", "tiling": "iu"}
    floats = ("weight", "bias", "conductance_siemens", "weight_per_siemens")
    if kind not in (*dtypes, *floats) or not _fine_name(name, kind):
        raise ValueError(
            f"{path}: array {name[:80]!r} is not allowed; see docs/arrays.md for names"
        )
    try:
        with archive.open(info) as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError("of an unknown version")
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = header(file, max_header_size=_MOST_HEADER)
            count = int(np.prod(shape, dtype=object))
            if dtype.hasobject or count > _MOST or count * dtype.itemsize > info.file_size:
                raise ValueError("larger than its file")
        if dtype.kind not in dtypes.get(kind, "f"):
            raise ValueError(f"of type {dtype}")
        with archive.open(info) as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a damaged member can raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: {name} is damaged or not allowed ({reason})") from None
    if kind in ("format", "format_version", "mapping"):
        value = values.item() if values.ndim == 0 else None
        if kind == "mapping" and value not in _MAPPINGS:
            allowed = " or ".join(_MAPPINGS)
            raise ValueError(f"{path}: {name} is not allowed; must be {allowed}")
        return value
    if kind == "tiling":
        return torch.from_numpy(values.astype(np.int64)).flatten()
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {name}: NaN or infinity is not allowed; must be finite")
    if kind == "conductance_siemens" and values.size and float(values.min()) < 0.0:
        raise ValueError(
            f"{path}: {name}: {float(values.min())} is not allowed; must be at least 0"
        )
    single = values.dtype == np.float32
    return torch.from_numpy(values.astype(np.float32 if single else np.float64))


def _fine_name(name: str, kind: str) -> bool:
    """Whether an array's name is one of those that are written."""
    if kind in ("format", "format_version"):
        return name == kind
    holder = name.removesuffix(f".{kind}")
    prefixes = ("layer_",) if kind == "bias" else ("edge_", "bias_")
    number = next((holder.removeprefix(p) for p in prefixes if holder.startswith(p)), "")
    return number.isascii() and number.isdecimal() and len(number) < 6


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = values.detach().cpu().contiguous().numpy()
    return array
