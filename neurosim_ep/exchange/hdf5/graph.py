"""A network's graph in a chip file: layers, activations and edges as attributes of small groups."""

import math
from dataclasses import dataclass
from typing import Any

import h5py

from neurosim_ep._hdf5.reader import Hdf5Reader
from neurosim_ep._toml_text import problem
from neurosim_ep.exchange.hdf5 import schema
from neurosim_ep.models import (
    Activation,
    Convolution,
    Dense,
    Edge,
    Geometry,
    HopfieldNetwork,
    Identity,
    Layer,
    Linear,
    PooledConvolution,
    ReLU,
    ReLUAlpha,
    Sigmoid,
)

_ACTIVATIONS: dict[str, type[Activation]] = {
    "linear": Linear,
    "relu": ReLU,
    "relu_alpha": ReLUAlpha,
    "sigmoid": Sigmoid,
}
_GEOMETRIES: dict[str, type[Geometry]] = {
    "dense": Dense,
    "convolution": Convolution,
    "pooled_convolution": PooledConvolution,
    "identity": Identity,
}
_WINDOW = {"kernel": 1, "stride": 1, "padding": 0}
"""Whole numbers of a convolution, and the least of each."""


@dataclass(frozen=True)
class Graph:
    """A network without weights: nothing is allocated for it.

    Attributes:
        layers: the input first.
        edges: pre layer, post layer and geometry of each.
    """

    layers: tuple[Layer, ...]
    edges: tuple[tuple[int, int, Geometry], ...]

    def network(self) -> HopfieldNetwork:
        """The network, its weights and biases all 0.

        Raises:
            ValueError: if edges do not fit the layers, or a layer is not connected to the input.
        """
        return HopfieldNetwork(self.layers, [Edge(*edge) for edge in self.edges])


# --- Writing -----------------------------------------------------------------------------------


def write_graph(group: h5py.Group, network: HopfieldNetwork) -> None:
    """Write layers and edges, each into a group of its own.

    Raises:
        ValueError: for an activation or a geometry of another kind, or a network beyond the limits.
    """
    edges = network.edge_list()
    group.attrs["layers"], group.attrs["edges"] = len(network.layers), len(edges)
    if (message := _too_large(network.layers, len(edges))) is not None:
        raise ValueError(message)
    for number, layer in enumerate(network.layers):
        place = group.create_group(f"layer_{number}")
        place.attrs["shape"] = layer.shape
        kind = _name_of(layer.activation, _ACTIVATIONS, f"layers[{number}].activation")
        place.attrs["activation"] = kind
        if isinstance(layer.activation, ReLUAlpha):
            if not layer.activation.alpha <= schema.MAX_ALPHA:
                allowed = f"at most {schema.MAX_ALPHA:g} in a file"
                raise ValueError(problem("alpha", layer.activation.alpha, allowed))
            place.attrs["alpha"] = layer.activation.alpha
    for number, edge in enumerate(edges):
        place, geometry = group.create_group(f"edge_{number}"), edge.geometry
        place.attrs["pre_layer"], place.attrs["post_layer"] = edge.pre, edge.post
        place.attrs["geometry"] = _name_of(geometry, _GEOMETRIES, f"edges[{number}].geometry")
        if isinstance(geometry, Convolution):
            place.attrs["out_channels"] = geometry.linear_shape[0]
            for name in _WINDOW:
                place.attrs[name] = getattr(geometry, name)
        if isinstance(geometry, Identity):
            place.attrs["strength"] = geometry.strength


def _name_of(value: object, kinds: dict[str, type], field: str) -> str:
    for name, kind in kinds.items():
        if type(value) is kind:
            return name
    allowed = f"one of {', '.join(kind.__name__ for kind in kinds.values())} to be saved"
    raise ValueError(problem(field, type(value).__name__, allowed))


def _too_large(layers: tuple[Layer, ...], edges: int) -> str | None:
    """What is beyond the limits of a file, in one line."""
    units = sum(math.prod(layer.shape) for layer in layers)
    for name, count, most in (
        ("layers", len(layers), schema.MAX_LAYERS),
        ("edges", edges, schema.MAX_EDGES),
        ("units of all layers", units, schema.MAX_UNITS),
    ):
        if count > most:
            return problem(name, count, f"at most {most} in a file")
    return None


# --- Reading -----------------------------------------------------------------------------------


def read_graph(file: Hdf5Reader) -> Graph:
    """Read what `write_graph` wrote.

    Raises:
        ValueError: in one line, for whatever is missing, damaged or not allowed.
    """
    count = file.whole("graph", "layers", 2, schema.MAX_LAYERS)
    layers = tuple(_layer(file, f"graph/layer_{number}") for number in range(count))
    count = file.whole("graph", "edges", 1, schema.MAX_EDGES)
    if (message := _too_large(layers, count)) is not None:
        raise file.problem(message)
    edges = tuple(_edge(file, f"graph/edge_{number}", layers) for number in range(count))
    return Graph(layers, edges)


def _layer(file: Hdf5Reader, place: str) -> Layer:
    shape = file.wholes(place, "shape")
    if len(shape) not in (1, 3) or math.prod(shape) > schema.MAX_UNITS:
        allowed = f"(units,) or (channels, height, width), at most {schema.MAX_UNITS} units"
        raise file.refused(f"attribute {place}.shape", shape, allowed)
    kind = file.text(place, "activation", tuple(_ACTIVATIONS))
    if kind != "relu_alpha":
        return Layer(shape, _ACTIVATIONS[kind]())
    alpha = file.number(place, "alpha")
    if not 0.0 < alpha <= schema.MAX_ALPHA:
        allowed = f"above 0 and at most {schema.MAX_ALPHA:g}"
        raise file.refused(f"attribute {place}.alpha", alpha, allowed)
    return Layer(shape, ReLUAlpha(alpha))


def _edge(file: Hdf5Reader, place: str, layers: tuple[Layer, ...]) -> tuple[int, int, Geometry]:
    last = len(layers) - 1
    pre = file.whole(place, "pre_layer", 0, last)
    post = file.whole(place, "post_layer", 0, last)
    kind = file.text(place, "geometry", tuple(_GEOMETRIES))
    arguments = _arguments(file, place, kind, layers[pre], layers[post])
    try:
        geometry = _GEOMETRIES[kind](*arguments)
    except ValueError as error:
        raise file.problem(f"{place}: {error}") from None
    found = (geometry.pre_shape, geometry.post_shape)
    if found != (layers[pre].shape, layers[post].shape):
        raise file.problem(f"{place}: {geometry!r} does not join layers {pre} and {post}")
    return pre, post, geometry


def _arguments(file: Hdf5Reader, place: str, kind: str, pre: Layer, post: Layer) -> list[Any]:
    """What a geometry is made of."""
    if kind == "dense":
        return [pre.shape, post.shape]
    if kind == "identity":
        return [pre.shape, post.shape, file.number(place, "strength")]
    channels = file.whole(place, "out_channels", 1, schema.MAX_UNITS)
    numbers = [file.whole(place, n, least, schema.MAX_WINDOW) for n, least in _WINDOW.items()]
    return [pre.shape, channels, *numbers]
