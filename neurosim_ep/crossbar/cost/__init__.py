"""Energy, time and area from the constants of an array card; equations in docs/cost-model.md."""

from neurosim_ep.crossbar.cost.area import EdgeArea, area_lines, area_summary, network_area
from neurosim_ep.crossbar.cost.counts import EdgeReads, settling_reads
from neurosim_ep.crossbar.cost.digital import DigitalCost, digital_comparison
from neurosim_ep.crossbar.cost.drive import Drive, measure_drive
from neurosim_ep.crossbar.cost.reads import UNIFORM_MEAN_SQUARE, read_cost
from neurosim_ep.crossbar.cost.report import CostReport, CostRow, Span, UnitCost
from neurosim_ep.crossbar.cost.settling import settling_cost
from neurosim_ep.crossbar.cost.updates import Writes, half_selected, update_cost

__all__ = [
    "UNIFORM_MEAN_SQUARE",
    "CostReport",
    "CostRow",
    "DigitalCost",
    "Drive",
    "EdgeArea",
    "EdgeReads",
    "Span",
    "UnitCost",
    "Writes",
    "area_lines",
    "area_summary",
    "digital_comparison",
    "half_selected",
    "measure_drive",
    "network_area",
    "read_cost",
    "settling_cost",
    "settling_reads",
    "update_cost",
]
