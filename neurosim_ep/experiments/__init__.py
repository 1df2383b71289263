"""What a person runs: train, evaluate, compare, validate."""

from neurosim_ep.experiments.build import Experiment, build, build_network
from neurosim_ep.experiments.compare import Row, compare, comparison_table, counterpart
from neurosim_ep.experiments.evaluating import evaluate, evaluate_run, load_run
from neurosim_ep.experiments.golden import validate
from neurosim_ep.experiments.run import Result, run
from neurosim_ep.experiments.run_folder import RunFolder

__all__ = [
    "Experiment",
    "Result",
    "Row",
    "RunFolder",
    "build",
    "build_network",
    "compare",
    "comparison_table",
    "counterpart",
    "evaluate",
    "evaluate_run",
    "load_run",
    "run",
    "validate",
]
