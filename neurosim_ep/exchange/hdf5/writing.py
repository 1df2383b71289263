"""A chip to a file: everything that its reads, its ageing and its learning go on from."""

import math
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from neurosim_ep._chip_hdf5 import numpy_of, write_chip, write_matrix
from neurosim_ep._hdf5.writing import VERSION_1_10, label_axes, write_format, written_beside
from neurosim_ep._toml_text import problem
from neurosim_ep.config import Recipe, dump_recipe
from neurosim_ep.crossbar import CrossbarNetwork, CrossbarStorage
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.devices.ages import seconds
from neurosim_ep.exchange.hdf5 import schema
from neurosim_ep.exchange.hdf5.graph import write_graph
from neurosim_ep.models import Geometry, ReLUAlpha

_DESCRIPTION = (
    "A chip: a network on arrays of devices. docs/hdf5-format.md of neurosim-ep describes all of "
    "it. The matrix of edge 0 stands in matrices/edge_0, the conductances of its devices G+ and G- "
    "in plus/conductance_siemens and minus/conductance_siemens (row, column), or in weight/ and "
    "reference/ with offset columns; its tiles in tiles; what a row and a column stand for, say "
    "the attributes meaning_of_a_row and meaning_of_a_column."
)
_LEAST_CHUNK, _MOST_CHUNK = 1 << 14, 1 << 17

State = dict[str, Any]


def save(chip: CrossbarNetwork, path: Path | str, recipe: Recipe | None = None) -> None:
    """Save a chip; the file takes its place, and another's, when it is whole.

    The loaded chip's reads, noise and settled states, its later ageing, pulses and programming are
    those of the saved one, bit for bit on the CPU.  What an optimiser or an update rule holds
    beside the chip is not saved.

    Args:
        chip: mapped, or trained.
        path: of the file, usually ``.h5``.
        recipe: that the network was trained by, so that the file can be evaluated.

    Raises:
        ValueError: for another kind of network, activations or geometries of your own, precisions
            that differ within the chip, or a network beyond the limits of a file.
    """
    if not isinstance(chip, CrossbarNetwork):
        raise ValueError(
            problem("chip", type(chip).__name__, "a CrossbarNetwork (map_to_crossbar)")
        )
    dtype, drawn = _precisions(chip)
    if chip.report.devices > schema.MAX_DEVICES:
        allowed = f"at most {schema.MAX_DEVICES} in a file"
        raise ValueError(problem("devices", chip.report.devices, allowed))
    with written_beside(Path(path), sealed=True, libver=VERSION_1_10) as file:
        write_format(file, schema.FORMAT, schema.FORMAT_VERSION, _DESCRIPTION)
        write_chip(file, chip)
        write_graph(file.create_group("graph"), chip)
        file.attrs["dtype"], file.attrs["drawn_dtype"] = dtype, drawn
        file.attrs["bias_rows"] = int(bool(chip.bias_rows))
        file.attrs["elapsed_s"] = chip.elapsed_s
        for name in ("clipped", "failed", "attempts"):
            file.attrs[name] = getattr(chip.report, name)
        if recipe is not None:
            file["recipe"] = dump_recipe(recipe)
        state = {name: value for name, value in chip.state_dict().items() if value is not None}
        _write_state(file, chip, state)
        # What is new in a chip needs a place in the file.
        assert not state, sorted(state)


def _precisions(chip: CrossbarNetwork) -> tuple[str, str]:
    """Precision of the chip's tensors, and that in which its devices were drawn."""
    matrices = [s.matrix for s in chip.storages] + [r.matrix for r in chip.bias_rows.values()]
    found = {parameter.dtype for parameter in chip.parameters()}
    drawn = {matrix.devices.drawn_dtype for matrix in matrices} or found
    for name, kinds in (("chip: dtype", found), ("chip: drawn_dtype", drawn)):
        if len(kinds) != 1 or not kinds <= {torch.float32, torch.float64}:
            shown = ", ".join(sorted(map(str, kinds)))
            raise ValueError(problem(name, shown, "torch.float32 or torch.float64 throughout"))
    return str(*found).removeprefix("torch."), str(*drawn).removeprefix("torch.")


def _write_state(file: h5py.File, chip: CrossbarNetwork, state: State) -> None:
    for layer in chip.free_layers:
        _put(file, f"biases/layer_{layer}", state.pop(f"biases.{layer - 1}"), axes=("channel",))
        if isinstance(chip.layers[layer].activation, ReLUAlpha):
            del state[f"activations.{layer - 1}._extra_state"]  # in the graph
    for number, edge in enumerate(chip.edge_list()):
        if not isinstance(storage := edge.storage, CrossbarStorage):
            continue
        group, prefix = file.create_group(f"matrices/edge_{number}"), f"edges.{number}.storage."
        group.attrs["name"] = f"edge {number}"
        group.attrs["pre_layer"], group.attrs["post_layer"] = edge.pre, edge.post
        _write_matrix(group, storage.matrix, storage.geometry, state, f"{prefix}matrix.")
        _put(group, "digital_weight", state.pop(f"{prefix}weight"))
        _put(group, "read_generator_state", state.pop(f"{prefix}_extra_state"))
        group["read_generator_state"].attrs["torch_device"] = storage.weight.device.type
        for name in storage.ports:
            _write_ranges(group, name, state, f"{prefix}ports.{name}.")
    for layer, row in chip.bias_rows.items():
        group, prefix = file.create_group(f"matrices/bias_{layer}"), f"_rows.{layer}."
        group.attrs["name"], group.attrs["post_layer"] = f"bias {layer}", layer
        _write_matrix(group, row.matrix, row.geometry, state, f"{prefix}matrix.")
        _put(group, "digital_weight", state.pop(f"{prefix}weight"))


def _write_ranges(group: h5py.Group, name: str, state: State, prefix: str) -> None:
    """Full scales of one kind of read, where they were calibrated."""
    dac = float(state.pop(f"{prefix}dac_full_scale"))
    adc = state.pop(f"{prefix}adc_full_scale_ampere")
    place = group.create_group(f"converters/{name}")
    if dac == dac:
        place.attrs["dac_full_scale"] = dac
    if bool(adc.isfinite().all()):
        axes = ("row of tiles", "column of tiles")
        _put(place, "adc_full_scale_ampere", adc, unit="ampere", axes=axes)


# --- Matrices ----------------------------------------------------------------------------------


def _write_matrix(
    group: h5py.Group, matrix: CrossbarMatrix, geometry: Geometry, state: State, prefix: str
) -> None:
    write_matrix(group, matrix, geometry)
    devices, tiling, attributes = matrix.devices, matrix.tiling, group.attrs
    del state[f"{prefix}units"], state[f"{prefix}devices._extra_state"]
    attributes["mapping"], attributes["weight"] = matrix.mapping, schema.WEIGHT[matrix.mapping]
    attributes["compensation"] = float(state.pop(f"{prefix}compensation"))
    attributes["programmed_sum_siemens"] = float(state.pop(f"{prefix}_programmed_sum"))
    attributes["program_count"] = devices.program_count
    attributes["update_count"] = devices.update_count
    attributes["elapsed_s"] = devices.elapsed_s
    attributes["arrays"] = matrix.arrays
    axes = ("tile", "first row, row after the last, first column, column after the last")
    _put(group, "tiles", schema.tile_table(tiling), axes=axes)
    tile = (tiling.tile_rows, tiling.tile_columns)
    reads = {"forward_weight": matrix.forward_matrix, "transposed_weight": matrix.transposed_matrix}
    _put(group, "forward_weight", reads["forward_weight"], axes=("row", "column"), tile=tile)
    if reads["transposed_weight"] is reads["forward_weight"]:
        group["transposed_weight"] = group["forward_weight"]
    else:
        _put(group, "transposed_weight", reads["transposed_weight"], tile=tile)
    _by_role(group, matrix, schema.CONDUCTANCE, devices.conductance, "siemens")
    for each in schema.PER_DEVICE:
        values = state.pop(f"{prefix}devices.{each.key}", None)
        if values is None:
            continue
        if each.key == "programmed" and devices.conductance is devices.programmed:
            # Nothing has drifted: two names of the same numbers.
            for role in schema.ROLES[matrix.mapping]:
                group[f"{role}/{each.name}"] = group[f"{role}/{schema.CONDUCTANCE}"]
            continue
        values = seconds(values) if each.key == "_ages" else values
        _by_role(group, matrix, each.name, values, each.unit)
    for key, (name, unit) in schema.OF_MATRIX.items():
        if (values := state.pop(f"{prefix}{key}", None)) is not None:
            _by_role(group, matrix, name, values, unit)


def _by_role(
    group: h5py.Group, matrix: CrossbarMatrix, name: str, values: Tensor, unit: str
) -> None:
    """A quantity of every device, into the groups of the matrix's two roles."""
    tiling = matrix.tiling
    axes = ("row", "column") if values.dim() == 3 else ("direction", "row", "column")
    parts = schema.split(values, matrix.mapping, tiling.columns)
    for role, part in zip(schema.ROLES[matrix.mapping], parts, strict=True):
        tile = (tiling.tile_rows, tiling.tile_columns)
        _put(group, f"{role}/{name}", part, unit=unit, axes=axes, tile=tile)


def _put(
    group: h5py.Group,
    name: str,
    values: Tensor,
    *,
    unit: str = "1",
    axes: tuple[str, ...] = (),
    tile: tuple[int, int] | None = None,
) -> None:
    """A dataset, chunked, compressed and with checksums; flags as whole numbers."""
    values = values.detach().to(torch.uint8) if values.dtype == torch.bool else values
    group.create_dataset(
        name,
        data=numpy_of(values),
        chunks=_chunk(tuple(values.shape), tile),
        compression="gzip",
        shuffle=True,
        fletcher32=True,
    )
    group[name].attrs["unit"] = unit
    label_axes(group[name], *axes)


def _chunk(shape: tuple[int, ...], tile: tuple[int, int] | None) -> tuple[int, ...]:
    """Sizes of a chunk: whole tiles where there are some, unless they are very small or large."""
    sizes = list(shape)
    if tile is not None:
        sizes = [1] * (len(shape) - 2) + [min(pair) for pair in zip(tile, shape[-2:], strict=True)]
        for axis in (-1, -2):
            while math.prod(sizes) < _LEAST_CHUNK and sizes[axis] < shape[axis]:
                sizes[axis] = min(2 * sizes[axis], shape[axis])
    for axis in range(len(sizes)):
        while math.prod(sizes) > _MOST_CHUNK and sizes[axis] > 1:
            sizes[axis] = -(-sizes[axis] // 2)
    return tuple(sizes)
