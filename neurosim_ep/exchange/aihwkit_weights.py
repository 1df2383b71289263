"""Weights to and from aihwkit's own layers and tiles, edge by edge.

A layer (``AnalogLinear``, ``AnalogConv2d`` and their mapped forms) holds a matrix (out, in) of a
tile's weights times a digital output scale (aihwkit's ``mapping_scales`` and learned
``out_scaling``); what is written and read here is always their product, in this program's units.
A convolution's row of it is (in_channels, kernel, kernel) flattened, a dense edge's the pre state
flattened, as in `neurosim_ep.models.Geometry.matrix`, transposed.

`neurosim_ep.exchange.map_to_aihwkit` settles and learns on aihwkit's tiles; here weights only move
between this program and a model that someone has, or wants, in aihwkit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurosim_ep.crossbar import CrossbarNetwork, CrossbarStorage
from neurosim_ep.exchange.aihwkit_storage import AihwkitNetwork
from neurosim_ep.exchange.aihwkit_tile import aihwkit_problem
from neurosim_ep.models import Convolution, Edge, Geometry, HopfieldNetwork, WeightStorage
from neurosim_ep.seeds import derive_seed

Scale = Literal["layer", "window"]
"""What decides a tile's output scale: the layer's configuration, or the window of a chip."""


def aihwkit_layers(
    network: HopfieldNetwork, rpu_config: Any, *, scale: Scale = "layer", seed: int = 0
) -> nn.ModuleList:
    """One aihwkit layer per edge with weights, holding them.

    Dense edges become ``AnalogLinear`` of flattened states, convolutions ``AnalogConv2d``; pooling,
    activations, identity edges and biases are no part of them.

    Args:
        network: exact or on arrays; of a chip, the weights that its devices stand for at present.
        rpu_config: aihwkit's configuration of every layer; it is copied.
        scale: as for `put_aihwkit_weights`.
        seed: of the devices, where the configuration's have a ``construction_seed``.

    Returns:
        The layers in edge order, on the CPU; as many tiles each as the configuration's largest
        input and output sizes ask for.

    Raises:
        ValueError: in one line, where aihwkit is missing or does not work with this torch, and as
            `put_aihwkit_weights` does.
    """
    nn_module = _aihwkit("aihwkit.nn")
    layers = nn.ModuleList()
    # aihwkit draws weights that are replaced here; the global generator is not this program's.
    with torch.random.fork_rng(devices=[]):
        for number, edge in _weighted_edges(network):
            config, geometry = copy.deepcopy(rpu_config), edge.geometry
            if hasattr(getattr(config, "device", None), "construction_seed"):
                config.device.construction_seed = (
                    1 + derive_seed(seed, "aihwkit layer", number) % 2**31
                )
            columns, rows = _shape(geometry)
            if isinstance(geometry, Convolution):
                layer = nn_module.AnalogConv2d(
                    geometry.pre_shape[0],
                    columns,
                    geometry.kernel,
                    stride=geometry.stride,
                    padding=geometry.padding,
                    bias=False,
                    rpu_config=config,
                )
            else:
                layer = nn_module.AnalogLinear(rows, columns, bias=False, rpu_config=config)
            layers.append(layer)
    put_aihwkit_weights(network, layers, scale=scale)
    return layers


@torch.no_grad()
def put_aihwkit_weights(
    network: HopfieldNetwork, target: nn.Module | Sequence[Any], *, scale: Scale = "layer"
) -> tuple[float, ...]:
    """Write a network's weights into an aihwkit model.

    Args:
        network: exact or on arrays; of a chip, the weights that its devices stand for at present.
        target: a module, whose analog layers stand for the edges with weights in the order in which
            it registers them, or a list of layers or tiles in edge order.  Biases of the target
            are left as they are.
        scale: ``layer`` lets aihwkit choose the output scales, as the configuration's
            ``weight_scaling_omega`` says; ``window`` is for chips: what the end of the devices'
            window stands for becomes a tile's weight of 1 and the output scale, column by column
            where the array card has it so: a tile's weight is then (G+ - G-) over the window.

    Returns:
        For every edge the largest difference between a weight and what the layer gives back,
        relative to the edge's largest weight: aihwkit clips at its devices' bounds.

    Raises:
        ValueError: in one line, for another number of layers, a layer of another shape, stride or
            padding, a weight that is not finite, or ``window`` without a chip; nothing is written
            then.
    """
    if scale not in ("layer", "window"):
        raise _refused("scale", scale, "layer or window")
    if scale == "window" and not isinstance(network, CrossbarNetwork):
        raise _refused("scale", scale, "layer, where the network is not on arrays")
    edges, layers = _weighted_edges(network), _layers(target)
    matrices = [_present(edge) for _, edge in edges]
    _check(edges, layers)
    for (number, _), matrix in zip(edges, matrices, strict=True):
        _finite(f"edge {number}", matrix)
    errors = []
    for (_, edge), layer, matrix in zip(edges, layers, matrices, strict=True):
        largest = float(matrix.abs().max())
        if scale == "window":
            assert isinstance(edge.storage, CrossbarStorage)
            _put_in_window(layer, matrix, edge.storage.matrix.largest_weight)
        else:
            _put(layer, matrix)
        back = _matrix_of(layer).to(matrix)
        errors.append(float((back - matrix).abs().max()) / largest if largest > 0.0 else 0.0)
    return tuple(errors)


@torch.no_grad()
def take_aihwkit_weights(network: HopfieldNetwork, source: nn.Module | Sequence[Any]) -> None:
    """Take an aihwkit model's weights into a network.

    Output scales are multiplied in.  Biases that the layers have are added up per layer of the
    network that they lead to; where no layer has one, the network's stay.  A network on arrays (or
    on aihwkit tiles) is programmed with the new weights, its scales chosen anew.

    Args:
        network: exact or on arrays; its weights change.
        source: a module, whose analog layers stand for the edges with weights in the order in which
            it registers them, or a list of layers or tiles in edge order.

    Raises:
        ValueError: in one line, for another number of layers, a layer of another shape, stride or
            padding, a bias that has no place, or values that are not finite; nothing changes then.
    """
    edges, layers = _weighted_edges(network), _layers(source)
    _check(edges, layers)
    biases: dict[int, Tensor] = {}
    matrices = []
    for place, ((_, edge), layer) in enumerate(zip(edges, layers, strict=True)):
        matrices.append(_finite(f"layers[{place}]", _matrix_of(layer)))
        if (bias := _bias_of(layer)) is None:
            continue
        own = network.biases[edge.post - 1]
        if bias.shape != own.shape:
            allowed = f"{list(own.shape)}, the biases of layer {edge.post}"
            raise _refused(f"layers[{place}]: bias", list(bias.shape), allowed)
        _finite(f"layers[{place}]: bias", bias)
        biases[edge.post] = biases.get(edge.post, 0.0) + bias.to(own)
    for (_, edge), matrix in zip(edges, matrices, strict=True):
        assert isinstance(edge.storage, WeightStorage)
        weight = edge.storage.weight
        weight.copy_(edge.geometry.from_matrix(matrix.T.to(weight)))
    for post, bias in biases.items():
        network.biases[post - 1].copy_(bias)
        if isinstance(network, CrossbarNetwork) and post in network.bias_rows:
            network.bias_rows[post].weight.copy_(bias.view(1, -1))
    if isinstance(network, CrossbarNetwork | AihwkitNetwork):
        network.program(rescale=True)


# --- Edges -------------------------------------------------------------------------------------


def _weighted_edges(network: HopfieldNetwork) -> list[tuple[int, Edge]]:
    edges = enumerate(network.edge_list())
    return [(number, edge) for number, edge in edges if isinstance(edge.storage, WeightStorage)]


def _shape(geometry: Geometry) -> tuple[int, int]:
    """(out, in) of a geometry's matrix."""
    assert geometry.weight_shape is not None
    numbers = 1
    for size in geometry.weight_shape:
        numbers *= size
    return numbers // geometry.fan_in, geometry.fan_in


def _present(edge: Edge) -> Tensor:
    """The edge's weights (out, in): of arrays, what their forward read sees."""
    storage = edge.storage
    assert isinstance(storage, WeightStorage)
    weight: Tensor = storage.weight
    if isinstance(storage, CrossbarStorage):
        weight = storage.effective_weight()
    return edge.geometry.matrix(weight.detach()).T


# --- Layers ------------------------------------------------------------------------------------


def _aihwkit(name: str) -> Any:
    if (reason := aihwkit_problem()) is not None:
        raise ValueError(reason)
    return import_module(name)


def _layers(model: nn.Module | Sequence[Any]) -> list[Any]:
    """Analog layers of a model, or what was listed."""
    base = _aihwkit("aihwkit.nn.modules.base").AnalogLayerBase
    given = [model] if isinstance(model, base) and not model.IS_CONTAINER else model
    if isinstance(given, nn.Module):
        return [m for m in given.modules() if isinstance(m, base) and not m.IS_CONTAINER]
    for place, layer in enumerate(given):
        if not (hasattr(layer, "get_weights") and hasattr(layer, "set_weights")):
            kind = type(layer).__name__
            raise _refused(f"layers[{place}]", kind, "a layer or tile of aihwkit")
    return list(given)


def _check(edges: Sequence[tuple[int, Edge]], layers: Sequence[Any]) -> None:
    """Whether every edge has its layer."""
    if len(layers) != len(edges):
        allowed = f"{len(edges)} analog layers, one for each edge with weights"
        raise _refused("model", f"{len(layers)} analog layers", allowed)
    for place, ((number, edge), layer) in enumerate(zip(edges, layers, strict=True)):
        geometry, found = edge.geometry, tuple(_matrix_of(layer).shape)
        wanted = _shape(geometry)
        if found != wanted:
            allowed = f"{list(wanted)}, the (out, in) of edge {number}, {geometry!r}"
            raise _refused(f"layers[{place}]: weight", list(found), allowed)
        steps = _steps_of_layer(layer)
        if steps is not None and steps != _steps_of_geometry(geometry):
            allowed = f"{_steps_of_geometry(geometry)}, as of edge {number}"
            raise _refused(f"layers[{place}]", steps, allowed)


def _steps_of_layer(layer: Any) -> str | None:
    """How a layer unrolls its input, in words; None for a bare tile, which does not."""
    if not isinstance(layer, nn.Module) or not hasattr(layer, "in_features"):
        return None
    if not hasattr(layer, "kernel_size"):
        return "a dense layer"
    names = ("kernel_size", "stride", "padding", "dilation")
    return ", ".join(f"{name} {tuple(getattr(layer, name))}" for name in names)


def _steps_of_geometry(geometry: Geometry) -> str:
    if not isinstance(geometry, Convolution):
        return "a dense layer"
    sizes = (geometry.kernel, geometry.stride, geometry.padding, 1)
    names = ("kernel_size", "stride", "padding", "dilation")
    return ", ".join(f"{name} {(n, n)}" for name, n in zip(names, sizes, strict=True))


def _matrix_of(layer: Any) -> Tensor:
    """Weights (out, in), output scales multiplied in."""
    weight: Tensor = layer.get_weights()[0]
    return weight.detach().flatten(1)


def _bias_of(layer: Any) -> Tensor | None:
    bias: Tensor | None = layer.get_weights()[1]
    return None if bias is None else bias.detach().clone()


def _refused(field: str, value: object, allowed: str) -> ValueError:
    return ValueError(f"{field}: {value} is not allowed; must be {allowed}")


def _finite(name: str, values: Tensor) -> Tensor:
    if not bool(values.isfinite().all()):
        raise _refused(name, "NaN or infinity", "finite")
    return values


def _put(layer: Any, matrix: Tensor) -> None:
    """Write weights (out, in); aihwkit chooses the output scales."""
    bias = _bias_of(layer)
    for tile, _, _ in _tiles(layer):
        # Without a scaling of its own aihwkit would leave old scales, and learned ones, in place.
        if tile.get_scales() is not None:
            tile.set_scales(torch.ones(1))
    layer.set_weights(matrix, bias)


def _put_in_window(layer: Any, matrix: Tensor, end_of_window: Tensor) -> None:
    """Write weights (out, in) so that 1 on the tile is the end of a window (out,)."""
    normalised = matrix / end_of_window.view(-1, 1)
    for tile, outs, ins in _tiles(layer):
        ends, bias = end_of_window[outs], None
        if tile.analog_bias and (held := _bias_of(tile)) is not None:
            # It is read in the old scale, and has to stay what it is.
            bias = held.to(ends) / ends
        tile.set_weights(normalised[outs, ins], bias, apply_weight_scaling=False)
        same = bool((ends == ends[0]).all())
        tile.set_scales((ends[:1] if same else ends).to(tile.get_dtype()))


def _tiles(layer: Any) -> Iterator[tuple[Any, slice, slice]]:
    """Every tile of a layer, with its outputs and inputs in the layer's matrix."""
    module = getattr(layer, "analog_module", layer)
    start_in = 0
    for line in getattr(module, "array", [[module]]):
        start_out = 0
        for tile in line:
            outs, ins = _matrix_of(tile).shape
            yield tile, slice(start_out, start_out + outs), slice(start_in, start_in + ins)
            start_out += outs
        start_in += ins
