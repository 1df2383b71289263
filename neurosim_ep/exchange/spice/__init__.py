"""Arrays and small networks as SPICE netlists, and ngspice to run them (docs/spice.md)."""

from neurosim_ep.exchange.spice.array_netlist import array_netlist
from neurosim_ep.exchange.spice.circuit import Circuit
from neurosim_ep.exchange.spice.circuit_states import circuit_states
from neurosim_ep.exchange.spice.network_netlist import network_netlist
from neurosim_ep.exchange.spice.ngspice import ngspice_problem, run_ngspice, sensed_currents
from neurosim_ep.exchange.spice.tiles import TileArray, matrices, save, tile_arrays, tile_voltages

__all__ = [
    "Circuit",
    "TileArray",
    "array_netlist",
    "circuit_states",
    "matrices",
    "network_netlist",
    "ngspice_problem",
    "run_ngspice",
    "save",
    "sensed_currents",
    "tile_arrays",
    "tile_voltages",
]
