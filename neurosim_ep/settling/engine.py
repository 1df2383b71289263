"""The settling loop: s <- activation(-dE/ds), group by group, free or nudged.

With all other layers fixed, one such update minimises F = sum potential(s) + E over its layer, so
that an order whose groups are mutually unconnected makes F fall (see `neurosim_ep.settling`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.models import Cost, HopfieldNetwork, NoiseSum, Scratch
from neurosim_ep.settling.branches import Branches
from neurosim_ep.settling.options import Engine
from neurosim_ep.settling.order import update_groups
from neurosim_ep.settling.reads import DeltaReads, FullReads, prepared_readers
from neurosim_ep.settling.states import UNSETTLED_RESIDUAL, States, relative_change
from neurosim_ep.settling.stopping import Stop
from neurosim_ep.settling.update import CLIPPING, Currents, LayerUpdate

MAX_ITERATIONS = 10_000
"""Most iterations of one phase."""

RELAXATION = 1.4
"""How far an over-relaxed layer moves, in units of its update's step: any number below 2 makes F
fall; this one took the fewest iterations on the paper's networks (docs/performance.md)."""

# Orders whose groups are exact steps of descent on F, for any graph.
_DESCENDING = ("coloured", "forward", "backward")


@dataclass(frozen=True)
class Nudge:
    """Pull of the cost on the output layer.

    Attributes:
        cost: its gradient is added to the energy's.
        targets: (B, num_outputs).
        beta: nudging of every image (B, 1), real or complex.
    """

    cost: Cost
    targets: Tensor
    beta: Tensor


class Settling:
    """States on their way to equilibrium.

    Currents from the input, and the biases, do not change while settling: they are summed once.

    Args:
        network: the network; its storages are read, never changed.
        states: where to start, one tensor (B, *shape) per layer; the list is taken over.
        order: see `update_groups`.
        nudge: None in the free phase.
        free: the free states, for delta reads; None reads whole states.  ``states`` may then hold
            several phases, each a copy of the free batch.
        copies: how many phases the batch holds; the input's currents are read for one of them.
        engine: see `Engine`; capture is not done here.
        branches: launch the layers of a group together, which must not be connected then; by
            default one after another.

    Raises:
        ValueError: if the engine's choices do not go with the network or the order.
    """

    def __init__(
        self,
        network: HopfieldNetwork,
        states: list[Tensor],
        order: str,
        nudge: Nudge | None = None,
        free: Sequence[Tensor] | None = None,
        copies: int = 1,
        engine: Engine | None = None,
        branches: Branches | None = None,
    ) -> None:
        self.engine = engine or Engine()
        self._branches = branches or Branches(1, states[0].device)
        _check_engine(self.engine, network, order)
        relaxation = RELAXATION if self.engine.acceleration == "overrelaxed" else 1.0
        fused = self.engine.fusion == "compiled"
        self._updates = [
            LayerUpdate(layer.activation, relaxation, fused) for layer in network.layers
        ]
        self.states = states
        self.iterations = 0
        self._groups = update_groups(network, order)
        self._output = network.output
        self._nudge = nudge
        edges = network.edge_list()
        settling = [n for n, edge in enumerate(edges) if 0 not in (edge.pre, edge.post)]
        self._into = {
            layer: [n for n in settling if edges[n].post == layer] for layer in network.free_layers
        }
        self._out_of = {
            layer: [n for n in settling if edges[n].pre == layer] for layer in network.free_layers
        }
        self._edges, self._copies = edges, copies
        self._constant, self._input_winners = _constant_currents(network, states, copies)
        self._versions = [0] * len(states)
        scratch = Scratch(lasting=fused)
        readers = prepared_readers(edges, len(states[0]), scratch, self.engine.read_dtype)
        if free is None:
            self._reads = FullReads(edges, states, self._versions, readers)
        else:
            self._reads = DeltaReads(
                edges, states, self._versions, readers, free, settling, scratch
            )
            for layer in network.free_layers:
                for held in self._reads.held(self._into[layer], self._out_of[layer]):
                    self._constant[layer] = self._constant[layer] + torch.cat([held] * copies)

    def iterate(self) -> None:
        """Update every free layer once, group by group."""
        for group in self._groups:
            jobs = [partial(self._update, layer) for layer in group]
            updated = (
                [job() for job in jobs] if self._branches is None else self._branches.run(jobs)
            )
            for layer, state in zip(group, updated, strict=True):
                self.states[layer] = state
                self._versions[layer] += 1
        self.iterations += 1

    def winners(self) -> dict[int, Tensor]:
        """Where each pooled edge's post states sit before pooling, by the edge's number.

        What the neurons hold when settling ends: a read whose pre layer has not changed since is
        not made again, and noise decides no near-tie anew.
        """
        held = {n: torch.cat([w] * self._copies) for n, w in self._input_winners.items()}
        for number, edge in enumerate(self._edges):
            if edge.geometry.pooled and number not in held:
                held[number] = self._reads.winners(number)
        return held

    def _update(self, layer: int) -> Tensor:
        """New state of one layer from the present ones (arXiv 2509.26003, equations 3, 10, 11)."""
        noise, old, pull = NoiseSum(), self.states[layer], None
        if self._nudge is not None and layer == self._output:
            pull = self._nudge.beta * self._nudge.cost.gradient(old, self._nudge.targets)
        currents = Currents(self._read(layer, noise), noise, self._constant[layer], pull)
        return self._updates[layer](old, currents)

    def _read(self, layer: int, noise: NoiseSum) -> Iterator[Tensor]:
        """What every edge brings to a layer, one read after another."""
        for number in self._into[layer]:
            yield self._reads.forward(number, noise)
        for number in self._out_of[layer]:
            yield self._reads.transposed(number, noise)

    def run(self, iterations: int, tolerance: float | None = None) -> States:
        """Iterate to the count, or until every image's residual is within the tolerance.

        Raises:
            ValueError: if the states are no longer finite.
        """
        interval = iterations
        stop = None if tolerance is None else Stop(tolerance)
        if stop is not None:
            interval = self.engine.interval(self.states[0].device)
        while self.iterations < iterations:
            residual = self.iterate_many(min(interval, iterations - self.iterations))
            if stop is not None and self.iterations < iterations and stop(residual):
                break
        return settled_states(self.states, residual, self.iterations, tolerance)

    def iterate_many(self, count: int) -> Tensor:
        """Iterate at least once; the residual (B,) of the last iteration."""
        for _ in range(count - 1):
            self.iterate()
        # An update writes over the state before the last: these stay until the next iteration.
        before = list(self.states)
        self.iterate()
        return relative_change(before, self.states)


def settled_states(
    states: list[Tensor], residual: Tensor, iterations: int, tolerance: float | None
) -> States:
    """What a settling returns.

    Raises:
        ValueError: if the states are no longer finite.
    """
    # NaN where states are not finite; infinite where they all became zero at once.
    if bool(residual.isnan().any()):
        raise ValueError(
            f"settling: states are not finite after {iterations} iterations; the network "
            "diverges (smaller gains, a smaller beta or a bounded activation settle)"
        )
    return States(states, residual, iterations, tolerance or UNSETTLED_RESIDUAL)


def _check_engine(engine: Engine, network: HopfieldNetwork, order: str) -> None:
    if engine.acceleration != "none" and order not in _DESCENDING:
        allowed = f"none in {order} order, which does not make F fall"
        raise ValueError(problem("acceleration", engine.acceleration, allowed))
    for field in ("acceleration", "fusion"):
        if (value := getattr(engine, field)) == "none":
            continue
        for layer in network.layers[1:]:
            if not isinstance(layer.activation, CLIPPING):
                allowed = f"none with the activation {layer.activation}, which does not clip"
                raise ValueError(problem(field, value, allowed))


def _constant_currents(
    network: HopfieldNetwork, states: Sequence[Tensor], copies: int
) -> tuple[list[Tensor], dict[int, Tensor]]:
    """Bias plus all currents from the input, per layer; the input's own place stays empty.

    With them, the winners of pooled edges from the input, for one of the copies.
    """
    images = states[0][: states[0].shape[0] // copies]
    constant = [images.new_zeros(())] + [network.bias_current(i) for i in network.free_layers]
    winners: dict[int, Tensor] = {}
    for number, edge in enumerate(network.edge_list()):
        if edge.pre == 0:
            current, won = edge.geometry.pool(edge.storage.forward_read(images))
            if won is not None:
                winners[number] = won
        elif edge.post == 0:
            # A pooled edge into the input has no fixed winners and cannot be summed in advance.
            if edge.geometry.pooled:
                raise ValueError(f"edges: {edge.pre} -> 0 is pooled; must start at the input")
            current = edge.storage.transposed_read(images)
        else:
            continue
        layer = edge.other(0)
        constant[layer] = constant[layer] + torch.cat([current] * copies)
    return constant, winners
