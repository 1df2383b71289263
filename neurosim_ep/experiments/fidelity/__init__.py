"""How near hardware's gradients are to exact ones, over beta and the kind of reads."""

from neurosim_ep.experiments.fidelity.command import fidelity_of
from neurosim_ep.experiments.fidelity.records import recommendation_line, save_report
from neurosim_ep.experiments.fidelity.report import FidelityReport, fidelity_report
from neurosim_ep.experiments.fidelity.settings import Grid, Recommendation, Setting

__all__ = [
    "FidelityReport",
    "Grid",
    "Recommendation",
    "Setting",
    "fidelity_of",
    "fidelity_report",
    "recommendation_line",
    "save_report",
]
