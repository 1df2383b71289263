"""Cost of one read of one edge, for one image."""

import math
from dataclasses import dataclass

import torch

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar.card import ArrayCard
from neurosim_ep.crossbar.cost.report import UnitCost
from neurosim_ep.crossbar.cost_table import CostTable
from neurosim_ep.crossbar.mapping import OFFSET
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.storage import CrossbarStorage
from neurosim_ep.models import Convolution, Geometry

UNIFORM_MEAN_SQUARE = 1.0 / 3.0
"""Of numbers spread evenly from 0 to full scale, or from minus to plus full scale."""

# Comparisons that find the largest of a 2x2 window.
_POOL_COMPARISONS = 3


def cost_table(card: ArrayCard) -> CostTable:
    """The card's constants.

    Raises:
        ValueError: if the card has none.
    """
    if card.cost is None:
        raise ValueError(problem("cost", None, f"a table of the array card {card.name!r}"))
    return card.cost


def positions(geometry: Geometry) -> int:
    """Array reads that one image takes: the output positions of a convolution."""
    return math.prod(geometry.linear_shape[1:]) if isinstance(geometry, Convolution) else 1


@dataclass(frozen=True)
class Side:
    """The converters of one direction of a matrix's tiles.

    Attributes:
        driven, sensed: DAC and ADC conversions of one array read, over all tiles.
        sensed_of_tile: lines of the largest tile that are sensed.
        dac_bits, adc_bits: None where ideal.
    """

    driven: int
    sensed: int
    sensed_of_tile: int
    dac_bits: int | None
    adc_bits: int | None

    def read_time_s(self, cost: CostTable) -> float:
        """Of one array read: the lines of a tile that share an ADC are converted in turn."""
        turns = min(cost.lines_per_adc, self.sensed_of_tile)
        return cost.read_time_s + turns * cost.adc_time_s(self.adc_bits)


def side(matrix: CrossbarMatrix, direction: str, delta: bool) -> Side:
    """The converters that a ``forward`` or ``transposed`` read meets.

    Every tile has converters of its own.  The two arrays of a differential pair share them: their
    currents are subtracted before the ADC.  A reference column is driven in transposed reads.
    """
    tiling, card = matrix.tiling, matrix.array.converters(direction, delta)
    bits = (None, None) if card is None else (card.dac_bits, card.adc_bits)
    by_rows, by_columns = tiling.rows * tiling.column_tiles, tiling.columns * tiling.row_tiles
    if direction == "forward":
        return Side(by_rows, by_columns, tiling.tile_columns, *bits)
    references = tiling.row_tiles * tiling.column_tiles if matrix.mapping == OFFSET else 0
    return Side(by_columns + references, by_rows, tiling.tile_rows, *bits)


def conductance_sum_siemens(matrix: CrossbarMatrix) -> float:
    """Present mean conductances of all devices together."""
    return float(matrix.devices.conductance.sum(dtype=torch.float64))


def read_cost(
    storage: CrossbarStorage,
    direction: str,
    *,
    delta: bool = False,
    mean_square: float = UNIFORM_MEAN_SQUARE,
) -> UnitCost:
    """Energy and time of one read of an edge, for one image.

    A convolution takes one array read per output position, ``parallel_copies`` of them at once.

    Args:
        storage: the edge's arrays.
        direction: ``forward`` or ``transposed``.
        delta: whether the change against the free state is driven; the free state is subtracted
            before the DACs and its current added after the ADCs.
        mean_square: of the driven voltages, relative to the read voltage.

    Raises:
        ValueError: if the array card has no table of costs.
    """
    card, matrix, geometry = storage.array, storage.matrix, storage.geometry
    cost, tiling = cost_table(card), matrix.tiling
    ends, reads = side(matrix, direction, delta), positions(geometry)
    dacs, adcs = reads * ends.driven, reads * ends.sensed
    volt = card.drive.read_voltage_volt
    array = volt**2 * mean_square * conductance_sum_siemens(matrix) * cost.read_time_s
    # Every digitised current is added to its unit's sum; every driven value comes from memory.
    operations, accesses = float(adcs), float(dacs)
    if geometry.pooled and direction == "forward":
        operations += _POOL_COMPARISONS * math.prod(geometry.post_shape)
    if delta:
        both = math.prod(geometry.pre_shape) + math.prod(geometry.linear_shape)
        operations, accesses = operations + both, accesses + both
    turns = -(-reads // copies(cost, geometry))
    return UnitCost(
        array_energy_joule=reads * array,
        dac_energy_joule=dacs * cost.dac_energy_joule(ends.dac_bits),
        adc_energy_joule=adcs * cost.adc_energy_joule(ends.adc_bits),
        digital_energy_joule=operations * cost.add_energy_joule,
        memory_energy_joule=accesses * cost.state_bytes * cost.sram_energy_per_byte_joule,
        array_reads=reads,
        dac_conversions=dacs,
        adc_conversions=adcs,
        digital_operations=operations,
        memory_bytes=accesses * cost.state_bytes,
        macs=reads * tiling.rows * tiling.columns,
        weights=tiling.rows * tiling.columns,
        busy_time_s=turns * ends.read_time_s(cost),
    )


def copies(cost: CostTable, geometry: Geometry) -> int:
    """How many copies of an edge's arrays there are: never more than positions."""
    return min(cost.parallel_copies, positions(geometry))


def unpriced(card: ArrayCard, reads: str = "full") -> tuple[str, ...]:
    """Converters of a card that are ideal, so that no constant says what they cost."""
    found = []
    for name in ("forward", "transposed"):
        for delta in (False, True) if reads == "delta" else (False,):
            table = card.converters(name, delta)
            field = f"{name}_delta" if delta and getattr(card, f"{name}_delta") else name
            found += [
                f"{field}.{bits}"
                for bits in ("dac_bits", "adc_bits")
                if table is None or getattr(table, bits) is None
            ]
    return tuple(dict.fromkeys(found))
