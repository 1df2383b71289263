"""Area of the arrays and their converters."""

from dataclasses import dataclass
from typing import Any

from neurosim_ep.crossbar.cost.reads import copies, cost_table
from neurosim_ep.crossbar.mapping import OFFSET
from neurosim_ep.crossbar.network import CrossbarNetwork
from neurosim_ep.crossbar.storage import CrossbarStorage
from neurosim_ep.models import Edge


@dataclass(frozen=True)
class EdgeArea:
    """What one edge takes up, in square metres.

    Attributes:
        where: the edge.
        arrays: physical crossbars.
        crossings, dacs, adcs: how many there are.
        device_square_metre, dac_square_metre, adc_square_metre: of all of them.
    """

    where: str
    arrays: int
    crossings: int
    dacs: int
    adcs: int
    device_square_metre: float
    dac_square_metre: float
    adc_square_metre: float

    @property
    def square_metre(self) -> float:
        """All together."""
        return self.device_square_metre + self.dac_square_metre + self.adc_square_metre


def network_area(network: CrossbarNetwork, *, matrices: int = 1) -> list[EdgeArea]:
    """Area of every edge that has arrays.

    Whole arrays count, used or not, each with converters for both directions; a bias row takes
    arrays of its own only where its edge's have no row to spare.  Converters that the card leaves
    ideal take no area.

    Args:
        network: on arrays.
        matrices: sets of arrays per weight matrix; 2 for a fast and a slow one.

    Raises:
        ValueError: if the array card has no table of costs.
    """
    return [
        _of_edge(network, edge, edge.storage, matrices)
        for edge in network.edge_list()
        if isinstance(edge.storage, CrossbarStorage)
    ]


def _of_edge(
    network: CrossbarNetwork, edge: Edge, storage: CrossbarStorage, matrices: int
) -> EdgeArea:
    card, cost = network.array_card, cost_table(network.array_card)
    layout, tiling = card.layout, storage.matrix.tiling
    sets = matrices * copies(cost, edge.geometry)
    tiles, arrays = sets * tiling.row_tiles * tiling.column_tiles, sets * storage.matrix.arrays
    if (row := storage.bias_row) is not None and row.own_arrays:
        tiles, arrays = tiles + sets * tiling.column_tiles, arrays + sets * row.own_arrays
    columns = layout.columns + (layout.mapping == OFFSET)
    crossings = arrays * layout.rows * columns
    # Per tile: the driven and the sensed lines of a forward and of a transposed read.
    lines = {"forward": (layout.rows, layout.columns), "transposed": (columns, layout.rows)}
    dacs = adcs = 0
    dac_area = adc_area = 0.0
    for direction, (driven, sensed) in lines.items():
        table = card.converters(direction, False)
        if table is not None and table.dac_bits is not None:
            dacs += tiles * driven
            dac_area += tiles * driven * cost.dac_area_square_metre(table.dac_bits)
        if table is not None and table.adc_bits is not None:
            count = tiles * -(-sensed // cost.lines_per_adc)
            adcs += count
            adc_area += count * cost.adc_area_square_metre(table.adc_bits)
    return EdgeArea(
        f"{edge.pre} -> {edge.post}",
        arrays,
        crossings,
        dacs,
        adcs,
        crossings * cost.device_area_square_metre,
        dac_area,
        adc_area,
    )


def area_lines(areas: list[EdgeArea]) -> list[str]:
    """A table to print, in square micrometres."""
    names = " ".join(f"{name:>12}" for name in ("devices", "DACs", "ADCs", "all"))
    found = [f"{'edge':<8} {'arrays':>6} {names} um^2"]
    for area in areas:
        parts = (
            area.device_square_metre,
            area.dac_square_metre,
            area.adc_square_metre,
            area.square_metre,
        )
        numbers = " ".join(f"{1e12 * part:>12.1f}" for part in parts)
        found.append(f"{area.where:<8} {area.arrays:>6} {numbers}")
    found.append(f"all: {1e6 * sum(area.square_metre for area in areas):.4g} mm^2")
    return found


def area_summary(areas: list[EdgeArea]) -> dict[str, Any]:
    """Plain numbers for a record."""
    return {
        "square_metre": sum(area.square_metre for area in areas),
        "device_square_metre": sum(area.device_square_metre for area in areas),
        "dac_square_metre": sum(area.dac_square_metre for area in areas),
        "adc_square_metre": sum(area.adc_square_metre for area in areas),
        "arrays": sum(area.arrays for area in areas),
        "dacs": sum(area.dacs for area in areas),
        "adcs": sum(area.adcs for area in areas),
    }
