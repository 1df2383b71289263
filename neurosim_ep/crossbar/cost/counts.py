"""How often every edge is read while one image settles."""

import math
from dataclasses import dataclass

from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.settling import READS, update_groups


@dataclass(frozen=True)
class EdgeReads:
    """How often one edge is read while one image settles.

    Attributes:
        forward, transposed: full reads.
        forward_delta, transposed_delta: delta reads.
    """

    forward: float = 0.0
    transposed: float = 0.0
    forward_delta: float = 0.0
    transposed_delta: float = 0.0

    def __add__(self, other: "EdgeReads") -> "EdgeReads":
        return EdgeReads(
            self.forward + other.forward,
            self.transposed + other.transposed,
            self.forward_delta + other.forward_delta,
            self.transposed_delta + other.transposed_delta,
        )


def settling_reads(
    network: HopfieldNetwork,
    *,
    free_iterations: float,
    nudged_iterations: float = 0.0,
    phases: int = 0,
    order: str = "coloured",
    reads: str = "full",
) -> list[EdgeReads]:
    """Reads of every edge per image, as `settle` and `settle_nudged` make them.

    - An edge from the input is read once per free phase and once for all nudged phases together.
    - Others are read once in each direction per iteration and phase.
    - A pooled edge's forward read serves both directions and is kept until its pre layer changes.
      It is made once more where the pre layer goes first, and in nudged phases for the winners that
      the neurons hold at the end; where the pre layer goes first, the first covers the last.
    - Delta reads need the free states' currents: one more full read in each direction.

    Args:
        network: any.
        free_iterations: of the free phase; their mean where a tolerance stops it.
        nudged_iterations: of each nudged phase.
        phases: equilibria of the estimator, one at beta 0 among them if it has one; complex ones
            count twice, for their real and imaginary parts.
        order: see `neurosim_ep.settling.update_groups`.
        reads: of the nudged phases, ``full`` or ``delta``.

    Returns:
        One per edge, those without weights too, in edge order.

    Raises:
        ValueError: if an argument is out of range.
    """
    _check(free_iterations, nudged_iterations, phases, reads)
    place = places(network, order)
    found = []
    for edge in network.edge_list():
        settlings = 1 + (phases > 0)
        if edge.pre == 0:
            found.append(EdgeReads(forward=settlings))
            continue
        if edge.post == 0:
            found.append(EdgeReads(transposed=settlings))
            continue
        pooled = edge.geometry.pooled
        first = pooled and place[edge.pre] < place[edge.post]
        total = EdgeReads(forward=free_iterations + first, transposed=free_iterations)
        forward, transposed = phases * (nudged_iterations + pooled), phases * nudged_iterations
        if reads == "full" or not phases:
            total += EdgeReads(forward, transposed)
        else:
            total += EdgeReads(1.0, 1.0, forward, transposed)
        found.append(total)
    return found


def _check(free: float, nudged: float, phases: int, reads: str) -> None:
    for name, value, least in (
        ("free_iterations", free, 1.0),
        ("phases", phases, 0.0),
        ("nudged_iterations", nudged, 1.0 if phases else 0.0),
    ):
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name}: {value} is not allowed; must be at least {least:g}")
    if reads not in READS:
        raise ValueError(f"reads: {reads!r} is not allowed; must be one of {', '.join(READS)}")


def places(network: HopfieldNetwork, order: str) -> dict[int, int]:
    """Which group of an iteration each layer belongs to."""
    groups = update_groups(network, order)
    return {layer: place for place, group in enumerate(groups) for layer in group}
