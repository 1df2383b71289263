"""How the network reaches equilibrium: iteration order, residual, tolerance, full and delta reads.

With F(s) = sum of the activations' potentials + E(s), setting one layer to activation(-dE/ds) while
all others stay fixed is the exact minimiser of F over that layer.  An order whose simultaneous
groups are sets of mutually unconnected layers (``coloured``) is therefore block coordinate descent:
F falls with every group and settling converges.
"""

from neurosim_ep.settling.engine import MAX_ITERATIONS, RELAXATION
from neurosim_ep.settling.lyapunov import lyapunov
from neurosim_ep.settling.options import ACCELERATIONS, CAPTURES, PRECISIONS, Engine
from neurosim_ep.settling.order import ORDERS, update_groups
from neurosim_ep.settling.phases import READS, settle, settle_nudged, unrolled
from neurosim_ep.settling.states import UNSETTLED_RESIDUAL, States, relative_change

__all__ = [
    "ACCELERATIONS",
    "CAPTURES",
    "MAX_ITERATIONS",
    "ORDERS",
    "PRECISIONS",
    "READS",
    "RELAXATION",
    "UNSETTLED_RESIDUAL",
    "Engine",
    "States",
    "lyapunov",
    "relative_change",
    "settle",
    "settle_nudged",
    "unrolled",
    "update_groups",
]
