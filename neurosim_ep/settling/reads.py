"""How a settling reads its edges: the whole state, or only its change against the free state.

Both kinds answer the same two questions for an edge that connects two settling layers: the currents
into its post layer and into its pre layer.  A pooled edge's forward read serves both (its winners
decide where the transposed read un-pools), and is made again only when the pre layer has changed.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from neurosim_ep.models import Edge, NoiseSum, Reader, Scratch
from neurosim_ep.models.geometry.scratch import CHANGE

Pooled = tuple[int, Tensor, Tensor | None]

# In units of the rounding error: how far apart two currents still count as equal.
TIE_MARGIN = 16.0

# In units of a converter's step: so little that the first of four never beats a whole step.
TIE_SHARE = 0.25


def prepared_readers(
    edges: Sequence[Edge], batch: int, scratch: Scratch, dtype: torch.dtype | None = None
) -> list[Reader]:
    """One reader per edge, for a batch of images; ``dtype`` is what exact edges multiply in.

    Autograd has to see the weights; input edges are read once and gain nothing.
    """
    if torch.is_grad_enabled():
        return [edge.storage for edge in edges]
    return [
        edge.storage if 0 in (edge.pre, edge.post) else edge.storage.prepared(batch, scratch, dtype)
        for edge in edges
    ]


class FullReads:
    """Every read drives the arrays with the whole state.

    Args:
        edges: all edges of the network.
        states: the states that settle, one tensor per layer; read anew at every call.
        versions: how often each layer's state has been replaced; settling counts it up.
        readers: one per edge, see `prepared_readers`.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        states: list[Tensor],
        versions: list[int],
        readers: Sequence[Reader],
    ) -> None:
        self.edges, self.states, self.versions = edges, states, versions
        self.readers = readers
        self._pooled: dict[int, Pooled] = {}

    def forward(self, number: int, noise: NoiseSum | None = None) -> Tensor:
        """Currents of edge ``number`` into its post layer (B, *post_shape), until the next read.

        ``noise`` takes the read's noise, to be added to the sum of a layer's currents; before
        pooling the currents themselves have to be noisy.
        """
        edge = self.edges[number]
        if not edge.geometry.pooled:
            return self._linear(number, noise)
        return self._pool(number)[1]

    def transposed(self, number: int, noise: NoiseSum | None = None) -> Tensor:
        """Currents of edge ``number`` into its pre layer (B, *pre_shape); noise as in `forward`."""
        edge = self.edges[number]
        post = self.states[edge.post]
        winners = self.winners(number) if edge.geometry.pooled else None
        return self._adjoint(number, edge.geometry.unpool(post, winners), noise)

    def winners(self, number: int) -> Tensor:
        """Winners of a pooled edge for the present pre state (B, *post_shape)."""
        winners = self._pool(number)[2]
        assert winners is not None
        return winners

    def _pool(self, number: int) -> Pooled:
        """Pooled currents and winners for the present pre state, read once per state."""
        edge = self.edges[number]
        version = self.versions[edge.pre]
        held = self._pooled.get(number)
        if held is None or held[0] != version:
            held = (version, *edge.geometry.pool(self._linear(number), self._margin(number)))
            self._pooled[number] = held
        return held

    def _margin(self, number: int) -> float:
        """Relative difference within which the first of a pooling window wins."""
        return 0.0

    def _linear(self, number: int, noise: NoiseSum | None = None) -> Tensor:
        return self.readers[number].forward_read(self.states[self.edges[number].pre], noise=noise)

    def _adjoint(self, number: int, currents: Tensor, noise: NoiseSum | None = None) -> Tensor:
        return self.readers[number].transposed_read(currents, noise=noise)


class DeltaReads(FullReads):
    """Reads drive the arrays with the state's change against the free state.

    Reads are linear, so ``free currents + read(state - free state)`` is the full read in exact
    arithmetic; in limited arithmetic, noise and converter range now scale with the small change.
    Free currents are constant: `held` gives them to be added once, and `forward` and `transposed`
    bring the change alone.  A pooled edge holds its free currents before pooling, and un-pools both
    states before their difference is read.

    Args:
        edges, states, versions, readers: as for `FullReads`; the batch may hold several phases,
            each a copy of the free batch.
        free: the free states, one tensor (B, *shape) per layer.
        numbers: the edges that will be read, those between settling layers.
        scratch: of the readers.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        states: list[Tensor],
        versions: list[int],
        readers: Sequence[Reader],
        free: Sequence[Tensor],
        numbers: Sequence[int],
        scratch: Scratch,
    ) -> None:
        super().__init__(edges, states, versions, readers)
        self._free, self._scratch = free, scratch
        free_reads = FullReads(edges, list(free), [0] * len(free), readers)
        # Per edge: the free state's currents before pooling, what it drove backwards, and its
        # currents into the pre layer.
        self._forward: dict[int, Tensor] = {}
        self._driven: dict[int, Tensor] = {}
        self._backward: dict[int, Tensor] = {}
        for number in numbers:
            edge = edges[number]
            linear = free_reads._linear(number).clone()
            winners = edge.geometry.pool(linear)[1] if edge.geometry.pooled else None
            driven = edge.geometry.unpool(free[edge.post], winners)
            self._forward[number], self._driven[number] = linear, driven
            self._backward[number] = free_reads._adjoint(number, driven).clone()

    def held(self, into: Sequence[int], out_of: Sequence[int]) -> Iterator[Tensor]:
        """Free currents (B, *shape) into a layer, once: their tensors are let go.

        Args:
            into, out_of: the edges that end and that begin there.
        """
        for number in into:
            if not self.edges[number].geometry.pooled:
                yield self._forward.pop(number)
        for number in out_of:
            yield self._backward.pop(number)

    def _margin(self, number: int) -> float:
        """States at a bound, and converters, make free currents exactly equal.

        A full read then lets the first one win, and the change must not choose another: neither by
        rounding nor by a change below the converters' resolution.
        """
        rounding = TIE_MARGIN * torch.finfo(self._free[-1].dtype).eps
        return max(rounding, TIE_SHARE * self.readers[number].resolution)

    def _linear(self, number: int, noise: NoiseSum | None = None) -> Tensor:
        edge = self.edges[number]
        change = self._change(self.states[edge.pre], self._free[edge.pre])
        read = self.readers[number].forward_read(change, delta=True, noise=noise)
        if not edge.geometry.pooled:
            return read
        free = self._forward[number]
        return read.view(-1, *free.shape).add_(free).flatten(0, 1)

    def _adjoint(self, number: int, currents: Tensor, noise: NoiseSum | None = None) -> Tensor:
        change = self._change(currents, self._driven[number])
        return self.readers[number].transposed_read(change, delta=True, noise=noise)

    def _change(self, phases: Tensor, free: Tensor) -> Tensor:
        change = self._scratch.like(CHANGE, phases)
        torch.sub(phases.view(-1, *free.shape), free, out=change.view(-1, *free.shape))
        return change
