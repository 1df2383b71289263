"""What HDF5 files say of a chip: its cards and seed, its network, and what stands on its arrays."""

import h5py
import numpy as np
from torch import Tensor

from neurosim_ep._hdf5.writing import label_axes
from neurosim_ep.cards import dump_card
from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.models import Convolution, Geometry

_CONVOLUTION_ROW = "(input channel * kernel + row of the kernel) * kernel + column of the kernel"


def numpy_of(tensor: Tensor) -> np.ndarray:
    """The values of a tensor, wherever it is."""
    values: np.ndarray = tensor.detach().cpu().numpy()
    return values


def write_chip(file: h5py.File, chip: CrossbarNetwork) -> None:
    """The chip as a whole: cards by name and as TOML text that loads back, seed, layout, graph."""
    layout = chip.array_card.layout
    file.attrs["device_card"] = chip.device_card.name
    file.attrs["array_card"] = chip.array_card.name
    file.attrs["mapping"] = layout.mapping
    file.attrs["pair_baseline"] = layout.pair_baseline
    file.attrs["scale"] = layout.scale
    file.attrs["chip_seed"] = chip.seed
    file["cards/device"] = dump_card(chip.device_card)
    file["cards/array"] = dump_card(chip.array_card)
    layers = [f"layer {n}: {x.shape}, {x.activation}" for n, x in enumerate(chip.layers)]
    edges = [
        f"edge {number}: layer {edge.pre} to layer {edge.post}, {edge.geometry}"
        for number, edge in enumerate(chip.edge_list())
    ]
    file["network"] = "\n".join(layers + edges)


def write_matrix(group: h5py.Group, matrix: CrossbarMatrix, geometry: Geometry) -> None:
    """A matrix on arrays: its size, and what a row, a column and a siemens stand for."""
    attributes = group.attrs
    assert geometry.weight_shape is not None
    attributes["rows"], attributes["columns"] = matrix.tiling.rows, matrix.tiling.columns
    attributes["geometry"] = repr(geometry)
    attributes["weight_shape"] = geometry.weight_shape
    if isinstance(geometry, Convolution):
        attributes["meaning_of_a_row"] = _CONVOLUTION_ROW
        attributes["meaning_of_a_column"] = "output channel"
    else:
        attributes["meaning_of_a_row"] = "unit of the pre side, its state flattened"
        attributes["meaning_of_a_column"] = "unit of the post side, its state flattened"
    attributes["device_seed"] = matrix.devices.seed
    group["weight_per_siemens"] = numpy_of(matrix.units)
    label_axes(group["weight_per_siemens"], "column")
