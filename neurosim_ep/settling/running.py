"""One phase of settling: launched operation by operation, or replayed from a capture."""

from collections.abc import Sequence

from torch import Tensor

from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.settling.branches import Branches
from neurosim_ep.settling.capture import (
    CapturedPhase,
    Recorder,
    can_capture,
    captured_phase,
    cuda_graph,
)
from neurosim_ep.settling.engine import Nudge, Settling, settled_states
from neurosim_ep.settling.options import Engine
from neurosim_ep.settling.states import States
from neurosim_ep.settling.stopping import Stop


def run_phase(
    network: HopfieldNetwork,
    states: list[Tensor],
    order: str,
    engine: Engine,
    iterations: int,
    tolerance: float | None,
    nudge: Nudge | None = None,
    free: list[Tensor] | None = None,
    copies: int = 1,
) -> States:
    """Settle; the arguments are those of `Settling` and its `run`."""
    # Complex phases are rare and short: not worth a capture of their own.
    if can_capture(network, engine, states[0].device) and not states[-1].is_complex():
        return replayed(network, states, order, engine, iterations, tolerance, nudge, free, copies)
    settling = Settling(network, states, order, nudge, free, copies, engine)
    settled = settling.run(iterations, tolerance)
    if nudge is not None:
        settled.winners = settling.winners()
    return settled


def replayed(
    network: HopfieldNetwork,
    states: list[Tensor],
    order: str,
    engine: Engine,
    iterations: int,
    tolerance: float | None,
    nudge: Nudge | None,
    free: list[Tensor] | None,
    copies: int,
    record: Recorder = cuda_graph,
) -> States:
    """`run_phase` by launches of a captured phase, as long as the interval between two looks."""
    layers = len(states)
    pooled = [n for n, edge in enumerate(network.edge_list()) if edge.geometry.pooled]
    cost = None if nudge is None else nudge.cost
    nudged = [] if nudge is None else [nudge.targets, nudge.beta]

    def phase(inputs: Sequence[Tensor], count: int) -> list[Tensor]:
        pull = None if cost is None else Nudge(cost, *inputs[layers : layers + 2])
        held = None if free is None else list(inputs[layers + len(nudged) :])
        together = Branches(layers, inputs[0].device) if order == "coloured" else None
        start = list(inputs[:layers])
        settling = Settling(network, start, order, pull, held, copies, engine, together)
        residual = settling.iterate_many(count)
        winners = settling.winners() if cost is not None else {}
        return [*settling.states[1:], residual, *(winners[n] for n in sorted(winners))]

    settings = (order, engine, type(cost), free is not None, copies)
    stop = None if tolerance is None else Stop(tolerance)
    interval = iterations if stop is None else engine.interval(states[0].device)
    rest = [*nudged, *(free or [])]
    launches: dict[int, CapturedPhase] = {}
    done, outputs = 0, list[Tensor]()
    while done < iterations:
        count, inputs = min(interval, iterations - done), [*states, *rest]
        if count not in launches:
            launches[count] = captured_phase(network, settings, phase, inputs, count, record)
        outputs = launches[count](inputs)
        done += count
        states = [states[0], *outputs[: layers - 1]]
        if stop is not None and done < iterations and stop(outputs[layers - 1]):
            break
    # The next launch overwrites the outputs.
    states = [states[0], *(state.clone() for state in states[1:])]
    settled = settled_states(states, outputs[layers - 1].clone(), done, tolerance)
    if nudge is not None:
        held = [winners.clone() for winners in outputs[layers:]]
        settled.winners = dict(zip(pooled, held, strict=True))
    return settled
