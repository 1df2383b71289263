"""Hopfield networks of layers on any graph: E = -sum <post, op(pre)> - sum <bias, state>."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neurosim_ep.models.activations import Activation, Linear
from neurosim_ep.models.geometry import Geometry, Shape
from neurosim_ep.models.storage import ExactStorage, NoStorage, Storage, WeightStorage


@dataclass(frozen=True)
class Layer:
    """A group of units with one state.

    Attributes:
        shape: shape of the state without the batch: (units,) or (channels, height, width).
        activation: from current to state.
    """

    shape: Shape
    activation: Activation = field(default_factory=Linear)


class Edge(nn.Module):
    """A connection between two layers: a geometry times a storage.

    Attributes:
        pre: index of the layer whose state the forward read drives.
        post: index of the layer that receives the forward read's currents.
        storage: holds the weights; replaced when the edge is mapped to arrays.
    """

    pre: int
    post: int
    storage: Storage

    def __init__(self, pre: int, post: int, geometry: Geometry) -> None:
        super().__init__()
        self.pre, self.post = pre, post
        self.storage = (
            NoStorage(geometry) if geometry.weight_shape is None else ExactStorage(geometry)
        )

    @property
    def geometry(self) -> Geometry:
        """How the edge connects its layers."""
        return self.storage.geometry

    def other(self, layer: int) -> int:
        """The layer at the other end."""
        return self.post if layer == self.pre else self.pre

    def extra_repr(self) -> str:
        """The layers, for printing."""
        return f"{self.pre} -> {self.post}"


class HopfieldNetwork(nn.Module):
    """Layers, edges and biases of an energy-based network.

    Layer 0 is the input and stays as it is driven; the last layer is the output; all others are
    hidden.  The graph may be any: chains, skip edges, parallel edges, cycles.

    ``parameters()`` gives the biases (one per free layer, one value per channel or unit) and then
    the weights in edge order, as the paper's code does.

    Args:
        layers: at least an input and an output layer.
        edges: their geometries must fit the layers' shapes.

    Raises:
        ValueError: if an edge names a missing layer, joins a layer to itself, or does not fit, or
            if a layer cannot be reached from the input.
    """

    layers: tuple[Layer, ...]
    biases: nn.ParameterList
    edges: nn.ModuleList

    def __init__(self, layers: Sequence[Layer], edges: Sequence[Edge]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        _check_graph(self.layers, edges)
        self.biases = nn.ParameterList(torch.zeros(layer.shape[0]) for layer in self.layers[1:])
        self.edges = nn.ModuleList(edges)
        self.activations = nn.ModuleList(layer.activation for layer in self.layers[1:])

    @property
    def output(self) -> int:
        """Index of the output layer."""
        return len(self.layers) - 1

    @property
    def free_layers(self) -> range:
        """Indices of the layers that settle: all but the input."""
        return range(1, len(self.layers))

    @property
    def num_outputs(self) -> int:
        """Units of the output layer."""
        return self.layers[-1].shape[0]

    @property
    def weights(self) -> list[nn.Parameter]:
        """Weight tensors of the edges that have weights, in edge order."""
        return [e.storage.weight for e in self.edges if isinstance(e.storage, WeightStorage)]

    def edge_list(self) -> list[Edge]:
        """The edges with their type, which a ModuleList forgets."""
        return [edge for edge in self.edges if isinstance(edge, Edge)]

    def neighbours(self, layer: int) -> set[int]:
        """Layers that share an edge with this one."""
        return {edge.other(layer) for edge in self.edge_list() if layer in (edge.pre, edge.post)}

    def bias_current(self, layer: int) -> Tensor:
        """Bias of a free layer, shaped to broadcast over its state (1, C, 1, 1) or (1, units)."""
        bias: Tensor = self.biases[layer - 1]
        return bias.view(1, -1, *(1,) * (len(self.layers[layer].shape) - 1))

    def rest(self, images: Tensor) -> list[Tensor]:
        """States from which settling starts: the images (B, C, H, W) and zeros.

        Raises:
            ValueError: if the images do not have the input layer's shape.
        """
        expected = self.layers[0].shape
        if tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images: shape {tuple(images.shape)} is not allowed; must be (batch, "
                f"{', '.join(map(str, expected))})"
            )
        states = [images]
        for layer in self.layers[1:]:
            spatial = torch.channels_last if len(layer.shape) == 3 else torch.contiguous_format
            shape = (images.shape[0], *layer.shape)
            state = torch.empty(
                shape, dtype=images.dtype, device=images.device, memory_format=spatial
            )
            states.append(state.zero_())
        return states

    def energy(self, states: Sequence[Tensor]) -> Tensor:
        """Energy of every image (arXiv 2509.26003, equation 7, with E = -Phi).

        Args:
            states: one tensor (B, *shape) per layer, the input first.

        Returns:
            Energies (B,), complex for complex states.
        """
        total = -sum(
            (states[layer] * self.bias_current(layer)).flatten(1).sum(1)
            for layer in self.free_layers
        )
        for edge in self.edge_list():
            currents, _ = edge.geometry.pool(edge.storage.forward_read(states[edge.pre]))
            total = total - (states[edge.post] * currents).flatten(1).sum(1)
        assert isinstance(total, Tensor)
        return total


def _check_graph(layers: tuple[Layer, ...], edges: Sequence[Edge]) -> None:
    if len(layers) < 2:
        raise ValueError(f"layers: {len(layers)} is not allowed; must be at least 2")
    for number, edge in enumerate(edges):
        for end in (edge.pre, edge.post):
            if not 0 <= end < len(layers):
                raise ValueError(
                    f"edges[{number}]: layer {end} is not allowed; must be 0 to {len(layers) - 1}"
                )
        if edge.pre == edge.post:
            raise ValueError(f"edges[{number}]: {edge.pre} -> {edge.post} joins a layer to itself")
        fit = (edge.geometry.pre_shape, edge.geometry.post_shape)
        shapes = (layers[edge.pre].shape, layers[edge.post].shape)
        if fit != shapes:
            raise ValueError(
                f"edges[{number}]: shapes {fit[0]} -> {fit[1]} are not allowed; layers "
                f"{edge.pre} -> {edge.post} have {shapes[0]} -> {shapes[1]}"
            )
    reached, frontier = {0}, [0]
    while frontier:
        here = frontier.pop()
        for edge in edges:
            if here in (edge.pre, edge.post) and edge.other(here) not in reached:
                reached.add(edge.other(here))
                frontier.append(edge.other(here))
    if missing := set(range(len(layers))) - reached:
        raise ValueError(f"edges: layer {min(missing)} is not connected to the input")
