"""Equilibrium propagation on Hopfield networks, exact and on simulated memristor crossbars."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurosim_ep import (
        crossbar,
        data,
        devices,
        exchange,
        experiments,
        learning,
        models,
        onchip,
        plots,
        settling,
    )

__version__ = "0.1.0"

__all__ = [
    "crossbar",
    "data",
    "devices",
    "exchange",
    "experiments",
    "learning",
    "models",
    "onchip",
    "plots",
    "settling",
]


def __getattr__(name: str) -> ModuleType:
    # Importing torch takes seconds: `neurosim-ep --help` should not wait for it.
    if name in __all__:
        return import_module(f"neurosim_ep.{name}")
    raise AttributeError(f"module 'neurosim_ep' has no attribute {name!r}")
