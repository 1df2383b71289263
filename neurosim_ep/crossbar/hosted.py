"""Networks whose weights are put elsewhere: on arrays of devices, or on another program's tiles."""

import copy
from collections.abc import Callable

import torch

from neurosim_ep.models import Edge, HopfieldNetwork, Layer, WeightStorage


class HostedNetwork(HopfieldNetwork):
    """A copy of a network in which every edge with weights has a storage of another kind.

    Args:
        network: whose layers, edges, weights and biases are taken over; it stays as it is.
        storage: makes the storage of an edge, given its number and the edge; the weights to hold
            are then written into the storage's ``weight``, and nothing is programmed.
    """

    def __init__(
        self, network: HopfieldNetwork, storage: Callable[[int, Edge], WeightStorage]
    ) -> None:
        layers = [Layer(layer.shape, copy.deepcopy(layer.activation)) for layer in network.layers]
        edges = [Edge(edge.pre, edge.post, edge.geometry) for edge in network.edge_list()]
        super().__init__(layers, edges)
        first = network.biases[0]
        self.to(first.device, first.dtype)
        with torch.no_grad():
            for mine, theirs in zip(self.biases, network.biases, strict=True):
                mine.copy_(theirs)
            for number, (edge, source) in enumerate(zip(edges, network.edge_list(), strict=True)):
                if isinstance(source.storage, WeightStorage):
                    held = storage(number, edge)
                    held.weight.copy_(source.storage.weight)
                    edge.storage = held

    def check_finite(self) -> None:
        """Refuse weights that nothing can be programmed to.

        Raises:
            ValueError: if a weight is not finite.
        """
        for number, weight in enumerate(self.weights):
            if not bool(weight.isfinite().all()):
                raise ValueError(
                    f"weights[{number}]: NaN or infinity is not allowed; must be finite"
                )
