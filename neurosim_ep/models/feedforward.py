"""The feed-forward counterpart of a Hopfield network, for backpropagation."""

import copy
import math

import torch
from torch import Tensor, nn

from neurosim_ep.models.geometry import Convolution
from neurosim_ep.models.network import Edge, HopfieldNetwork


class FeedForward(nn.Module):
    """The same graph, weights' shapes and biases, evaluated once from the input to the output.

    Each layer is ``activation(sum over edges into it of op(pre) + bias)``; with batch norm every
    convolution's currents are normalised before pooling and before they are added, as in the
    Resnet13 of arXiv 2509.26003.  Weights are drawn anew (He et al. 2015).

    Args:
        network: gives layers, edges and shapes; it is not changed, and nothing is shared with it.
        batch_norm: normalise the currents of every convolution.
        generator: source of randomness on the CPU; None draws from a generator seeded with 0.

    Raises:
        ValueError: if an edge leads from a later layer to an earlier one.
    """

    def __init__(
        self,
        network: HopfieldNetwork,
        *,
        batch_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        edges = [copy.deepcopy(edge) for edge in network.edge_list()]
        for number, edge in enumerate(edges):
            if edge.pre >= edge.post:
                raise ValueError(
                    f"edges[{number}]: {edge.pre} -> {edge.post} is not allowed feed-forward; must "
                    "lead to a later layer"
                )
        self.biases = nn.ParameterList(torch.zeros_like(bias) for bias in network.biases)
        self.edges = nn.ModuleList(edges)
        self.activations = copy.deepcopy(network.activations)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(edge.geometry.linear_shape[0]).to(self.biases[0])
            if batch_norm and isinstance(edge.geometry, Convolution)
            else nn.Identity()
            for edge in edges
        )
        self._shapes = [layer.shape for layer in network.layers]
        self._initialise(generator or torch.Generator().manual_seed(0))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for edge in self._edge_list():
            for weight in edge.storage.parameters():
                gain = math.sqrt(6.0 if edge.post < len(self._shapes) - 1 else 3.0)
                bound = gain / math.sqrt(edge.geometry.fan_in)
                drawn = torch.rand(
                    weight.shape, generator=generator, dtype=torch.float64, device="cpu"
                )
                weight.copy_((2.0 * drawn - 1.0) * bound)

    @property
    def image_size(self) -> int:
        """Side of an image in pixels."""
        return self._shapes[0][-1]

    def _edge_list(self) -> list[Edge]:
        return [edge for edge in self.edges if isinstance(edge, Edge)]

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (B, num_outputs) for images (B, *input shape)."""
        states = [images]
        edges = self._edge_list()
        for layer in range(1, len(self._shapes)):
            spread = (1,) * (len(self._shapes[layer]) - 1)
            current: Tensor = self.biases[layer - 1].view(1, -1, *spread)
            for edge, norm in zip(edges, self.norms, strict=True):
                if edge.post == layer:
                    read = norm(edge.storage.forward_read(states[edge.pre]))
                    current = current + edge.geometry.pool(read)[0]
            states.append(self.activations[layer - 1](current))
        return states[-1]
