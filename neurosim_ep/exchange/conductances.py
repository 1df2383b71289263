"""A chip's conductances as an HDF5 file: what stands on its arrays, and what it stands for.

A file holds the cards as the TOML texts that load back, the network's graph in words, its biases
(``biases/layer_1``) and one group per weight matrix on arrays (``matrices/edge_0``, and
``matrices/bias_1`` for a row of devices that holds layer 1's biases):

- ``programmed_siemens`` and ``conductance_siemens`` (planes, rows, columns): right after the last
  programming or pulse, and at present;
- ``age_s``, likewise, only where it differs between devices: time since each was programmed or
  pulsed;
- ``weight_per_siemens`` (columns,) and the attribute ``compensation``: a weight is their product
  with the difference that the attribute ``weight`` names;
- ``forward_weight`` and ``transposed_weight`` (rows, columns): what reads see, wires included;
- ``row_boundaries`` and ``column_boundaries``: where tiles begin and the last one ends.

Attributes say what rows and columns stand for, and how the matrix lies on arrays.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import h5py
import torch
from torch import Tensor

from neurosim_ep._chip_hdf5 import numpy_of, write_chip, write_matrix
from neurosim_ep._hdf5 import label_axes, write_format, written_beside
from neurosim_ep._hdf5_reader import Hdf5Reader
from neurosim_ep._toml_text import parse_toml
from neurosim_ep.cards import Card, card_from_mapping
from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, CrossbarStorage
from neurosim_ep.crossbar.mapping import OFFSET, PAIR, device_shape
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.devices import DeviceCard
from neurosim_ep.models import Convolution

FORMAT, FORMAT_VERSION = "neurosim-ep conductances", 1

_DESCRIPTION = "Conductances of a chip's devices, and the weights that they stand for."
_WEIGHT = {
    PAIR: "weight_per_siemens * compensation * (plane 0 - plane 1)",
    OFFSET: "weight_per_siemens * compensation * (column - reference column of its tile); the "
    "reference columns come after all columns, one per column of tiles",
}
_LARGEST = 2**53

C = TypeVar("C", bound=Card)


@dataclass(frozen=True, eq=False)
class MatrixConductances:
    """Devices of one weight matrix.

    Attributes:
        name: ``edge 0``, ...; ``bias 1``, ... for a row that holds a layer's biases.
        programmed_siemens: right after the last programming or pulse (planes, rows, columns), for
            the shapes of both mappings see `neurosim_ep.crossbar.mapping`.
        conductance_siemens: at present, likewise.
        weight_per_siemens: of each column (columns,).
        compensation: factor against drift on all weights.
        tiling: how the matrix is cut into arrays.
        forward_weight, transposed_weight: what reads see (rows, columns).
        attributes: geometry, layers, and what rows and columns stand for.
        age_s: time since each device was programmed or pulsed (planes, rows, columns), float64;
            None where it is the attribute ``elapsed_s`` for all of them.
    """

    name: str
    programmed_siemens: Tensor
    conductance_siemens: Tensor
    weight_per_siemens: Tensor
    compensation: float
    tiling: Tiling
    forward_weight: Tensor
    transposed_weight: Tensor
    attributes: dict[str, str | int | float]
    age_s: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ChipConductances:
    """What a file of `save_conductances` holds.

    Attributes:
        device_card, array_card: of the hardware.
        seed: of the chip.
        elapsed_s: time since any of the devices was programmed or pulsed.
        matrices: edges in edge order, then bias rows.
        biases: of every free layer, as settling adds them, by layer.
        network: layers and edges in words.
        attributes: names, layout and versions.
    """

    device_card: DeviceCard
    array_card: ArrayCard
    seed: int
    elapsed_s: float
    matrices: tuple[MatrixConductances, ...]
    biases: dict[int, Tensor]
    network: str
    attributes: dict[str, str | int | float]


# --- Saving ------------------------------------------------------------------------------------


def save_conductances(chip: CrossbarNetwork, path: Path) -> None:
    """Write a chip's conductances; the file takes its place, and another's, when it is whole.

    Args:
        chip: trained, or mapped.
        path: of the file.
    """
    with written_beside(path) as file:
        write_format(file, FORMAT, FORMAT_VERSION, _DESCRIPTION)
        write_chip(file, chip)
        file.attrs["elapsed_s"] = chip.elapsed_s
        for layer, bias in zip(chip.free_layers, chip.biases, strict=True):
            file[f"biases/layer_{layer}"] = numpy_of(bias)
            label_axes(file[f"biases/layer_{layer}"], "channel or unit")
        for number, edge in enumerate(chip.edge_list()):
            if not isinstance(storage := edge.storage, CrossbarStorage):
                continue
            group = _new_group(file, f"edge {number}")
            write_matrix(group, storage.matrix, storage.geometry)
            _write_geometry(group, storage)
            group.attrs["pre_layer"], group.attrs["post_layer"] = edge.pre, edge.post
            _write_devices(group, storage.matrix)
        for layer, row in chip.bias_rows.items():
            group = _new_group(file, f"bias {layer}")
            write_matrix(group, row.matrix, row.geometry)
            group.attrs["kind"], group.attrs["post_layer"] = "bias row", layer
            _write_devices(group, row.matrix)


def _new_group(file: h5py.File, name: str) -> h5py.Group:
    place = len(file.get("matrices", ()))
    group = file.create_group(f"matrices/{name.replace(' ', '_')}")
    group.attrs["name"], group.attrs["place"] = name, place
    return group


def _write_geometry(group: h5py.Group, storage: CrossbarStorage) -> None:
    geometry, attributes = storage.geometry, group.attrs
    attributes["kind"] = type(geometry).__name__
    attributes["pre_shape"], attributes["post_shape"] = geometry.pre_shape, geometry.post_shape
    if isinstance(geometry, Convolution):
        attributes["in_channels"] = geometry.pre_shape[0]
        attributes["out_channels"] = geometry.linear_shape[0]
        attributes["kernel"], attributes["stride"] = geometry.kernel, geometry.stride
        attributes["padding"] = geometry.padding


def _write_devices(group: h5py.Group, matrix: CrossbarMatrix) -> None:
    devices, tiling, layout = matrix.devices, matrix.tiling, matrix.array.layout
    attributes = group.attrs
    attributes["mapping"], attributes["weight"] = matrix.mapping, _WEIGHT[matrix.mapping]
    attributes["compensation"] = float(matrix.compensation)
    attributes["array_rows"], attributes["array_columns"] = layout.rows, layout.columns
    attributes["tile_rows"], attributes["tile_columns"] = tiling.tile_rows, tiling.tile_columns
    attributes["row_tiles"], attributes["column_tiles"] = tiling.row_tiles, tiling.column_tiles
    attributes["arrays"] = matrix.arrays
    attributes["program_count"] = devices.program_count
    attributes["elapsed_s"] = devices.elapsed_s
    for name, values in (
        ("programmed_siemens", devices.programmed),
        ("conductance_siemens", devices.conductance),
    ):
        group.create_dataset(name, data=numpy_of(values), compression="gzip", shuffle=True)
        group[name].attrs["unit"] = "siemens"
        label_axes(group[name], "plane", "row", "column")
    if isinstance(ages := devices.age_s, Tensor):
        group.create_dataset("age_s", data=numpy_of(ages), compression="gzip", shuffle=True)
        group["age_s"].attrs["unit"] = "second"
        label_axes(group["age_s"], "plane", "row", "column")
    for name, values in (
        ("forward_weight", matrix.forward_matrix),
        ("transposed_weight", matrix.transposed_matrix),
    ):
        group.create_dataset(name, data=numpy_of(values), compression="gzip", shuffle=True)
        label_axes(group[name], "row", "column")
    group["row_boundaries"] = _boundaries(tiling.row_ranges)
    group["column_boundaries"] = _boundaries(tiling.column_ranges)


def _boundaries(ranges: list[slice]) -> list[int]:
    return [0, *(part.stop for part in ranges)]


# --- Loading -----------------------------------------------------------------------------------


def load_conductances(path: Path) -> ChipConductances:
    """Read what `save_conductances` wrote.

    Raises:
        ValueError: one line, if the file is missing, damaged or something else.
    """
    with Hdf5Reader(path, FORMAT, FORMAT_VERSION) as file:
        array = _card(file, ArrayCard, "cards/array")
        groups = [f"matrices/{name}" for name in file.names("matrices")]
        groups.sort(key=lambda group: file.whole(group, "place", 0, _LARGEST))
        return ChipConductances(
            device_card=_card(file, DeviceCard, "cards/device"),
            array_card=array,
            seed=file.whole("/", "chip_seed", 0, 2**63 - 1),
            elapsed_s=file.number("/", "elapsed_s"),
            matrices=tuple(_matrix(file, group, array.layout.mapping) for group in groups),
            biases=_biases(file),
            network=file.long_text("network"),
            attributes=file.attributes("/"),
        )


def _matrix(file: Hdf5Reader, group: str, mapping: str) -> MatrixConductances:
    file.text(group, "mapping", (mapping,))
    sizes = ("rows", "columns", "tile_rows", "tile_columns")
    tiling = Tiling(*(file.whole(group, name, 1, _LARGEST) for name in sizes))
    for side, tiles in (("row", tiling.row_tiles), ("column", tiling.column_tiles)):
        found = file.array(f"{group}/{side}_boundaries", (tiles + 1,), "whole", torch.int64)
        # Only now: damaged sizes could ask for more tiles than there is memory for.
        if found.tolist() != _boundaries(getattr(tiling, f"{side}_ranges")):
            raise file.problem(f"{group}/{side}_boundaries do not fit the tiles' sizes")
    devices, weights = device_shape(tiling, mapping), (tiling.rows, tiling.columns)
    aged = "age_s" in file.names(group)
    return MatrixConductances(
        name=file.text(group, "name"),
        programmed_siemens=_floats(file, f"{group}/programmed_siemens", devices),
        conductance_siemens=_floats(file, f"{group}/conductance_siemens", devices),
        weight_per_siemens=_floats(file, f"{group}/weight_per_siemens", (tiling.columns,)),
        compensation=file.number(group, "compensation"),
        tiling=tiling,
        forward_weight=_floats(file, f"{group}/forward_weight", weights),
        transposed_weight=_floats(file, f"{group}/transposed_weight", weights),
        attributes=file.attributes(group),
        age_s=_floats(file, f"{group}/age_s", devices) if aged else None,
    )


def _floats(file: Hdf5Reader, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """Floats in the precision of the file; a vector of any length without a shape."""
    return file.array(name, shape or (file.length(name),), "float", file.float_dtype(name))


def _biases(file: Hdf5Reader) -> dict[int, Tensor]:
    layers = range(1, len(file.names("biases")) + 1)
    return {layer: _floats(file, f"biases/layer_{layer}") for layer in layers}


def _card(file: Hdf5Reader, kind: type[C], name: str) -> C:
    text = file.long_text(name)
    try:
        return card_from_mapping(kind, parse_toml(text, name))
    except ValueError as error:
        raise file.problem(f"{name}: {str(error).splitlines()[0]}") from None
