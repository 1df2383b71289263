"""How the network learns: EP estimators, gradients, optimisers, the training loop."""

from neurosim_ep.learning.checkpoint import load_checkpoint, save_checkpoint, write_text
from neurosim_ep.learning.estimators import (
    CenteredEP,
    Estimator,
    HolomorphicEP,
    NegativeEP,
    PositiveEP,
    RandomSignEP,
    Term,
)
from neurosim_ep.learning.gradients import (
    Contrast,
    Phases,
    accumulate_bias_contrast,
    accumulate_contrast,
    departure,
    equilibrium_gradient,
    truncated_backpropagation,
    weighted_equilibria,
)
from neurosim_ep.learning.in_memory import memory_batches, run_epochs, train
from neurosim_ep.learning.methods import Backpropagation, EquilibriumPropagation, Method, Report
from neurosim_ep.learning.optimisers import parameter_groups
from neurosim_ep.learning.parallel import (
    ALONE,
    Processes,
    SharedError,
    joined_processes,
    process_count,
)
from neurosim_ep.learning.products import Form, Product, bias_factors, edge_products
from neurosim_ep.learning.totals import Summary, Totals
from neurosim_ep.learning.training import EpochRecord, Training, Updates, evaluate

__all__ = [
    "ALONE",
    "Backpropagation",
    "CenteredEP",
    "Contrast",
    "EpochRecord",
    "EquilibriumPropagation",
    "Estimator",
    "Form",
    "HolomorphicEP",
    "Method",
    "NegativeEP",
    "Phases",
    "PositiveEP",
    "Processes",
    "Product",
    "RandomSignEP",
    "Report",
    "SharedError",
    "Summary",
    "Term",
    "Totals",
    "Training",
    "Updates",
    "accumulate_bias_contrast",
    "accumulate_contrast",
    "bias_factors",
    "departure",
    "edge_products",
    "equilibrium_gradient",
    "evaluate",
    "joined_processes",
    "load_checkpoint",
    "memory_batches",
    "parameter_groups",
    "process_count",
    "run_epochs",
    "save_checkpoint",
    "train",
    "truncated_backpropagation",
    "weighted_equilibria",
    "write_text",
]
