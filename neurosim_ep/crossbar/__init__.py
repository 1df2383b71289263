"""How weights sit on arrays of devices and are read: mapping, tiles, converters, wires."""

from neurosim_ep.crossbar import cost, wires
from neurosim_ep.crossbar.array import CrossbarArray
from neurosim_ep.crossbar.bias_row import BiasRow
from neurosim_ep.crossbar.card import ArrayCard, load_array_card, shipped_array_cards
from neurosim_ep.crossbar.cost_table import CostTable
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.network import CrossbarNetwork, MappingReport, map_to_crossbar
from neurosim_ep.crossbar.nonidealities import (
    LEARNING_NONIDEALITIES,
    NONIDEALITIES,
    only,
    present,
    without,
)
from neurosim_ep.crossbar.occupancy import EdgeTiles, edge_tiles, tile_lines
from neurosim_ep.crossbar.row_reads import read_rows
from neurosim_ep.crossbar.storage import CrossbarStorage

__all__ = [
    "LEARNING_NONIDEALITIES",
    "NONIDEALITIES",
    "ArrayCard",
    "BiasRow",
    "CostTable",
    "CrossbarArray",
    "CrossbarMatrix",
    "CrossbarNetwork",
    "CrossbarStorage",
    "EdgeTiles",
    "MappingReport",
    "cost",
    "edge_tiles",
    "load_array_card",
    "map_to_crossbar",
    "only",
    "present",
    "read_rows",
    "shipped_array_cards",
    "tile_lines",
    "wires",
    "without",
]
