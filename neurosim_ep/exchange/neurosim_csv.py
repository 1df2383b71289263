"""Weights as the files that DNN+NeuroSim reads: one CSV per layer and a table of layers.

NeuroSim (Peng et al., IEDM 2019; its V1.x inference and V2.x training frameworks) reads, per layer,
a CSV without a header of the unrolled weights: one line per row of the matrix, (input channel *
kernel + kernel row) * kernel + kernel column, one number per output channel, all within
[``algoWeightMin``, ``algoWeightMax``], which are -1 and 1 unless ``Param.cpp`` says otherwise.  Its
``NetWork.csv`` has one line per layer: input height, width and channels, kernel height and width,
output channels, whether pooling follows, stride; dense layers are 1 x 1 convolutions there.
"""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep._folders import folder_written_beside
from neurosim_ep.crossbar import CrossbarStorage
from neurosim_ep.exchange._csv_numbers import write_numbers
from neurosim_ep.models import Convolution, Edge, HopfieldNetwork, WeightStorage

SCALES = "scales.csv"


@torch.no_grad()
def save(network: HopfieldNetwork, folder: Path | str) -> None:
    """Write a network's weights for NeuroSim into a new folder.

    ``weight_edge_0.csv``, ... hold the weights of an edge divided by its largest one, so that they
    fill NeuroSim's range; ``scales.csv`` has that number and the shape, ``NetWork.csv`` the layers.
    Numbers have as many digits as they need.  Biases, and the feedback of a Hopfield network, are
    nothing that NeuroSim knows: it sees each edge as one feed-forward layer.

    Args:
        network: exact or on arrays; of a chip, the weights that a forward read sees at present.
        folder: that does not exist yet.

    Raises:
        ValueError: in one line, if the folder exists or cannot be made, or a weight is not finite;
            nothing is left then.
    """
    edges = [(n, e) for n, e in enumerate(network.edge_list()) if _has_weights(e)]
    matrices = []
    for number, edge in edges:
        storage = edge.storage
        assert isinstance(storage, WeightStorage)
        weight: Tensor = storage.weight
        if isinstance(storage, CrossbarStorage):
            weight = storage.effective_weight()
        if not bool(weight.isfinite().all()):
            raise ValueError(f"edge {number}: NaN or infinity is not allowed; must be finite")
        matrices.append(edge.geometry.matrix(weight.detach()).double().cpu())
    with folder_written_beside(Path(folder)) as beside:
        scales: list[list[object]] = []
        for (number, _), matrix in zip(edges, matrices, strict=True):
            largest = float(matrix.abs().max()) or 1.0
            name = f"weight_edge_{number}.csv"
            write_numbers(beside / name, matrix / largest)
            scales.append([name, number, *matrix.shape, repr(largest)])
        _write_table(beside / "NetWork.csv", [_layer(edge) for _, edge in edges])
        names: list[object] = ["file", "edge", "rows", "columns", "largest_weight"]
        _write_table(beside / SCALES, [names, *scales])


def _has_weights(edge: Edge) -> bool:
    return isinstance(edge.storage, WeightStorage)


def _layer(edge: Edge) -> list[object]:
    """One line of ``NetWork.csv``."""
    geometry = edge.geometry
    if isinstance(geometry, Convolution):
        channels, height, width = geometry.pre_shape
        sizes = [height, width, channels, geometry.kernel, geometry.kernel]
        return [*sizes, geometry.linear_shape[0], int(geometry.pooled), geometry.stride]
    assert geometry.weight_shape is not None
    outputs = 1
    for size in geometry.post_shape:
        outputs *= size
    return [1, 1, geometry.fan_in, 1, 1, outputs, 0, 1]


def _write_table(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
