"""Other programs' files and engines; what is not installed is imported when it is asked for."""

from neurosim_ep.exchange import hdf5
from neurosim_ep.exchange.aihwkit_learning import learning_step
from neurosim_ep.exchange.aihwkit_storage import AihwkitNetwork, AihwkitStorage, map_to_aihwkit
from neurosim_ep.exchange.aihwkit_tile import Tile, TrainReport, aihwkit_problem, nominal_window

__all__ = [
    "AihwkitNetwork",
    "AihwkitStorage",
    "Tile",
    "TrainReport",
    "aihwkit_problem",
    "hdf5",
    "learning_step",
    "map_to_aihwkit",
    "nominal_window",
]
