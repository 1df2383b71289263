"""Other programs' files and engines; what is not installed is imported when it is asked for."""

from neurosim_ep.exchange.aihwkit_learning import learning_step
from neurosim_ep.exchange.aihwkit_storage import AihwkitNetwork, AihwkitStorage, map_to_aihwkit
from neurosim_ep.exchange.aihwkit_tile import Tile, TrainReport, aihwkit_problem, nominal_window
from neurosim_ep.exchange.aihwkit_weights import (
    aihwkit_layers,
    put_aihwkit_weights,
    take_aihwkit_weights,
)
from neurosim_ep.exchange.conductances import (
    ChipConductances,
    MatrixConductances,
    load_conductances,
    save_conductances,
)

__all__ = [
    "AihwkitNetwork",
    "AihwkitStorage",
    "ChipConductances",
    "MatrixConductances",
    "Tile",
    "TrainReport",
    "aihwkit_layers",
    "aihwkit_problem",
    "learning_step",
    "load_conductances",
    "map_to_aihwkit",
    "nominal_window",
    "put_aihwkit_weights",
    "save_conductances",
    "take_aihwkit_weights",
]
