"""Other programs' files and engines; what is not installed is imported when it is asked for."""

from neurosim_ep.exchange import csv_tiles, hdf5, neurosim_csv, numpy_arrays, spice
from neurosim_ep.exchange.aihwkit_learning import learning_step
from neurosim_ep.exchange.aihwkit_storage import AihwkitNetwork, AihwkitStorage, map_to_aihwkit
from neurosim_ep.exchange.aihwkit_tile import Tile, TrainReport, aihwkit_problem, nominal_window
from neurosim_ep.exchange.aihwkit_weights import (
    aihwkit_layers,
    put_aihwkit_weights,
    take_aihwkit_weights,
)
from neurosim_ep.exchange.chip_arrays import (
    ChipArrays,
    MatrixArrays,
    chip_arrays,
    set_chip_arrays,
)

__all__ = [
    "AihwkitNetwork",
    "AihwkitStorage",
    "ChipArrays",
    "MatrixArrays",
    "Tile",
    "TrainReport",
    "aihwkit_layers",
    "aihwkit_problem",
    "chip_arrays",
    "csv_tiles",
    "hdf5",
    "learning_step",
    "map_to_aihwkit",
    "neurosim_csv",
    "nominal_window",
    "numpy_arrays",
    "put_aihwkit_weights",
    "set_chip_arrays",
    "spice",
    "take_aihwkit_weights",
]
