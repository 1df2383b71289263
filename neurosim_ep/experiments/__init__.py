"""What a person runs: train, evaluate, compare, validate."""

from neurosim_ep.config import load_recipe
from neurosim_ep.experiments import fidelity
from neurosim_ep.experiments.build import Experiment, build, build_network
from neurosim_ep.experiments.compare import Row, compare, comparison_table, counterpart
from neurosim_ep.experiments.device_cards import fit_card, fit_table
from neurosim_ep.experiments.evaluating import evaluate, evaluate_run, load_run
from neurosim_ep.experiments.golden.validate import validate
from neurosim_ep.experiments.hardware.analog import Measurement, Measurements, Trial
from neurosim_ep.experiments.hardware.attribution import Attribution, attribute, attribution_rows
from neurosim_ep.experiments.hardware.command import compare_hardware
from neurosim_ep.experiments.hardware.comparison import (
    HardwareComparison,
    Level,
    accuracies,
    compare_on_hardware,
    compare_trained,
    gaps,
)
from neurosim_ep.experiments.hardware.mapped import Trained, load_trained, prepare_chip
from neurosim_ep.experiments.hardware.options import (
    HardwareOptions,
    OnChipOptions,
    hardware_options,
    seed_range,
)
from neurosim_ep.experiments.hardware.records import waterfall_figure, write_records
from neurosim_ep.experiments.hardware.tables import hardware_tables
from neurosim_ep.experiments.on_chip.rules import RuleChoice, default_rule, on_chip_recipe
from neurosim_ep.experiments.run import Result, run
from neurosim_ep.experiments.run_folder import RunFolder
from neurosim_ep.experiments.sweeps.result import SweepResult
from neurosim_ep.experiments.sweeps.sweep import sweep

__all__ = [
    "Attribution",
    "Experiment",
    "HardwareComparison",
    "HardwareOptions",
    "Level",
    "Measurement",
    "Measurements",
    "OnChipOptions",
    "Result",
    "Row",
    "RuleChoice",
    "RunFolder",
    "SweepResult",
    "Trained",
    "Trial",
    "accuracies",
    "attribute",
    "attribution_rows",
    "build",
    "build_network",
    "compare",
    "compare_hardware",
    "compare_on_hardware",
    "compare_trained",
    "comparison_table",
    "counterpart",
    "default_rule",
    "evaluate",
    "evaluate_run",
    "fidelity",
    "fit_card",
    "fit_table",
    "gaps",
    "hardware_options",
    "hardware_tables",
    "load_recipe",
    "load_run",
    "load_trained",
    "on_chip_recipe",
    "prepare_chip",
    "run",
    "seed_range",
    "sweep",
    "validate",
    "waterfall_figure",
    "write_records",
]
