"""A chip from a file: sizes are compared first, then the chip is made, then it takes its state."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from neurosim_ep._hdf5.reader import Hdf5Reader
from neurosim_ep._toml_text import parse_toml
from neurosim_ep.cards import Card, card_from_mapping
from neurosim_ep.config import Recipe, recipe_from_mapping
from neurosim_ep.crossbar import (
    ArrayCard,
    CrossbarNetwork,
    CrossbarStorage,
    map_to_crossbar,
    shipped_array_cards,
)
from neurosim_ep.crossbar.tiles import Tiling, cut
from neurosim_ep.devices import DeviceCard, shipped_device_cards
from neurosim_ep.exchange.hdf5 import schema
from neurosim_ep.exchange.hdf5.graph import Graph, read_graph
from neurosim_ep.exchange.hdf5.matrices import (
    check_matrix,
    check_present,
    is_measured,
    read_matrix,
)
from neurosim_ep.models import Convolution, Geometry, ReLUAlpha
from neurosim_ep.seeds import MAX_SEED

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_LONGEST_GENERATOR = 1 << 16

C = TypeVar("C", bound=Card)


def load(path: Path | str) -> CrossbarNetwork:
    """Load a chip, or conductances that were measured elsewhere.

    Where a matrix of the file has conductances only, its devices stand at them at time 0, and have
    whatever else the device card says, drawn from the file's seed (docs/hdf5-format.md).

    Args:
        path: of a file of `save`, or of one that was written by its description.

    Returns:
        The chip, on the CPU.

    Raises:
        ValueError: in one line, if the file is missing, damaged, something else, of a later
            version, or holds what is not allowed; little memory was asked for by then.
    """
    with _opened(path) as file:
        device = _card(file, DeviceCard, "device", shipped_device_cards)
        array = _card(file, ArrayCard, "array", shipped_array_cards)
        graph, mapping = read_graph(file), array.layout.mapping
        rows = bool(file.whole("/", "bias_rows", 0, 1)) if _has(file, "bias_rows") else False
        _check_sizes(file, graph, array)
        chip = _made(file, graph, device, array, bias_rows=rows)
        places = {f"matrices/edge_{n}": s.matrix for n, s in _storages(chip).items()}
        for layer, row in chip.bias_rows.items():
            place = f"matrices/bias_{layer}"
            check_matrix(file, place, row.matrix.tiling, mapping)
            places[place] = row.matrix
        state = _state(file, chip)
        measured = {place for place in places if is_measured(file, place, mapping)}
        try:
            chip.load_state_dict(state)
            _settle_measured(chip, measured)
        except (RuntimeError, ValueError, OverflowError) as error:
            raise file.problem(f"does not fit its own cards and graph ({_line(error)})") from None
        for place, matrix in places.items():
            check_present(file, place, matrix)
        counts = {
            name: file.whole("/", name, 0, schema.MAX_COUNT) if _has(file, name) else 0
            for name in ("clipped", "failed", "attempts")
        }
        chip.report = dataclasses.replace(chip.report, **counts)
        return chip


def load_recipe(path: Path | str) -> Recipe | None:
    """The recipe that a chip file holds; None where it holds none.

    Raises:
        ValueError: in one line, if the file is missing, damaged or something else.
    """
    with _opened(path) as file:
        if not file.has("recipe"):
            return None
        text = file.long_text("recipe")
        try:
            return recipe_from_mapping(parse_toml(text, "recipe"))
        except ValueError as error:
            raise file.problem(f"recipe: {_line(error)}") from None


def _opened(path: Path | str) -> Hdf5Reader:
    return Hdf5Reader(Path(path), schema.FORMAT, schema.FORMAT_VERSION, foreign=True)


def _has(file: Hdf5Reader, name: str) -> bool:
    return file.has_attribute("/", name)


def _line(error: Exception) -> str:
    """The first line of a message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _card(file: Hdf5Reader, kind: type[C], what: str, shipped: Callable[[], dict[str, C]]) -> C:
    """The card whose text a file holds, or else a shipped one by name, never a path."""
    name = f"cards/{what}"
    if not file.has(name):
        cards = shipped()
        return cards[file.text("/", f"{what}_card", tuple(cards))]
    text = file.long_text(name)
    try:
        return card_from_mapping(kind, parse_toml(text, name))
    except ValueError as error:
        raise file.problem(f"{name}: {_line(error)}") from None


# --- Making the chip ---------------------------------------------------------------------------


def _check_sizes(file: Hdf5Reader, graph: Graph, array: ArrayCard) -> None:
    """Whether the file holds a matrix for every edge, and biases; nothing is made before."""
    mapping, devices = array.layout.mapping, 0
    # One group under many names would be many devices that take no space in the file.
    most = min(schema.MAX_DEVICES, schema.MOST_DEVICES_PER_BYTE * file.path.stat().st_size)
    for number, (_, _, geometry) in enumerate(graph.edges):
        if geometry.weight_shape is None:
            continue
        try:
            tiling = _tiling(geometry, array)
        except ValueError as error:
            raise file.problem(f"graph/edge_{number}: {_line(error)}") from None
        devices += schema.device_count(tiling, mapping)
        if devices > most:
            raise file.refused("devices", devices, f"at most {most} in a file of its size")
        check_matrix(file, f"matrices/edge_{number}", tiling, mapping)
    for number, layer in enumerate(graph.layers[1:], 1):
        file.dataset(f"biases/layer_{number}", (layer.shape[0],), "float")


def _tiling(geometry: Geometry, array: ArrayCard) -> Tiling:
    """How an edge's matrix is cut into arrays."""
    assert geometry.weight_shape is not None
    columns = math.prod(geometry.weight_shape) // geometry.fan_in
    per_channel = geometry.kernel**2 if isinstance(geometry, Convolution) else 1
    layout = array.layout
    return cut(geometry.fan_in, columns, layout.rows, layout.columns, per_channel)


def _made(
    file: Hdf5Reader, graph: Graph, device: DeviceCard, array: ArrayCard, *, bias_rows: bool
) -> CrossbarNetwork:
    """The chip of these cards and this seed, before it takes its state."""
    seed = file.whole("/", "chip_seed", 0, MAX_SEED) if _has(file, "chip_seed") else 0
    names = ("dtype", "drawn_dtype")
    dtype, drawn = (
        file.text("/", n, tuple(_DTYPES)) if _has(file, n) else "float32" for n in names
    )
    try:
        network = graph.network().to(_DTYPES[drawn])
        chip = map_to_crossbar(network, device, array, seed=seed, bias_rows=bias_rows)
        return chip.to(_DTYPES[dtype])
    except (ValueError, RuntimeError) as error:
        raise file.problem(_line(error)) from None


def _storages(chip: CrossbarNetwork) -> dict[int, CrossbarStorage]:
    """Storages of the edges on arrays, by the edge's number."""
    found = ((number, edge.storage) for number, edge in enumerate(chip.edge_list()))
    return {number: s for number, s in found if isinstance(s, CrossbarStorage)}


# --- Its state ---------------------------------------------------------------------------------


def _state(file: Hdf5Reader, chip: CrossbarNetwork) -> dict[str, Any]:
    """The chip's state, as `CrossbarNetwork.load_state_dict` takes it."""
    mapping, state = chip.array_card.layout.mapping, {}
    for layer in chip.free_layers:
        bias, activation = chip.biases[layer - 1], chip.layers[layer].activation
        name = f"biases/layer_{layer}"
        state[f"biases.{layer - 1}"] = file.array(name, tuple(bias.shape), "float", bias.dtype)
        if isinstance(activation, ReLUAlpha):
            state[f"activations.{layer - 1}._extra_state"] = activation.get_extra_state()
    for number, storage in _storages(chip).items():
        place, prefix = f"matrices/edge_{number}", f"edges.{number}.storage."
        matrix = read_matrix(file, place, storage.matrix)
        found: dict[str, Any] = {f"matrix.{key}": value for key, value in matrix.items()}
        found["weight"], found["_extra_state"] = storage.weight, storage.get_extra_state()
        if not is_measured(file, place, mapping):
            found["weight"] = _weight(file, place, storage.weight)
            found["_extra_state"] = _generator_state(file, place)
        for name, port in storage.ports.items():
            ranges = _ranges(file, f"{place}/converters/{name}", dict(port.state_dict()))
            found |= {f"ports.{name}.{key}": value for key, value in ranges.items()}
        state |= {prefix + key: value for key, value in found.items()}
    for layer, row in chip.bias_rows.items():
        place, prefix = f"matrices/bias_{layer}", f"_rows.{layer}."
        matrix = read_matrix(file, place, row.matrix)
        state |= {f"{prefix}matrix.{key}": value for key, value in matrix.items()}
        measured = is_measured(file, place, mapping)
        state[f"{prefix}weight"] = row.weight if measured else _weight(file, place, row.weight)
    return state


def _weight(file: Hdf5Reader, place: str, like: torch.Tensor) -> torch.Tensor:
    return file.array(f"{place}/digital_weight", tuple(like.shape), "float", like.dtype)


def _generator_state(file: Hdf5Reader, place: str) -> torch.Tensor:
    """State of the read noise's generator; one of another kind of device is left aside by torch."""
    name = f"{place}/read_generator_state"
    length = file.length(name)
    if length > _LONGEST_GENERATOR:
        raise file.problem(f"{name} has {length} bytes; must have at most {_LONGEST_GENERATOR}")
    return file.array(name, (length,), "whole", torch.uint8)


def _ranges(file: Hdf5Reader, place: str, ranges: dict[str, Any]) -> dict[str, Any]:
    """Full scales of one kind of read; those that were not calibrated stay as they are, NaN."""
    if not file.has(place):
        return ranges
    key = "dac_full_scale"
    if file.has_attribute(place, key):
        ranges[key] = torch.tensor(file.number(place, key), dtype=torch.float64)
    key = "adc_full_scale_ampere"
    if file.has(f"{place}/{key}"):
        shape, dtype = tuple(ranges[key].shape), ranges[key].dtype
        ranges[key] = file.array(f"{place}/{key}", shape, "float", dtype)
        if bool((ranges[key] < 0.0).any()):
            raise file.problem(f"{place}/{key} holds values below 0")
    return ranges


def _settle_measured(chip: CrossbarNetwork, measured: set[str]) -> None:
    """Wires of measured devices are solved, and digital weights are what a forward read sees."""
    with torch.no_grad():
        for number, storage in _storages(chip).items():
            if f"matrices/edge_{number}" in measured:
                storage.advance_time(0.0)
                storage.weight.copy_(storage.effective_weight())
        for layer, row in chip.bias_rows.items():
            if f"matrices/bias_{layer}" in measured:
                row.matrix.advance_time(0.0)
                row.weight.copy_(row.matrix.forward_matrix)
                chip.biases[layer - 1].copy_(row.value)
