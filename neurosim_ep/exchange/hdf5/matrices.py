"""A matrix of devices out of a chip file: saved as it stood, or measured elsewhere."""

import struct
from typing import Any

import torch
from torch import Tensor

from neurosim_ep._hdf5.reader import Hdf5Reader, Kind
from neurosim_ep.crossbar.matrix import CrossbarMatrix
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.exchange.hdf5 import schema
from neurosim_ep.exchange.hdf5.schema import CONDUCTANCE, PER_DEVICE, ROLES, PerDevice
from neurosim_ep.seeds import MAX_SEED, derive_seed

State = dict[str, Any]

_MADE_BY_PULSES = ("_ages", "_pulse_count", "_hidden")
"""Quantities that devices have only once some of them were pulsed, or written by themselves."""


def check_matrix(file: Hdf5Reader, place: str, tiling: Tiling, mapping: str) -> None:
    """Compare a matrix's sizes with what the file holds, before anything is made for it.

    Raises:
        ValueError: in one line, if conductances are missing or of another shape, or tiles differ.
    """
    shapes = schema.role_shapes(tiling, mapping)
    for role, shape in zip(ROLES[mapping], shapes, strict=True):
        file.dataset(f"{place}/{role}/{CONDUCTANCE}", shape, "float")
    file.dataset(f"{place}/weight_per_siemens", (tiling.columns,), "float")
    if file.has(f"{place}/tiles"):
        shape = (tiling.row_tiles * tiling.column_tiles, 4)
        found = file.array(f"{place}/tiles", shape, "whole", torch.int64)
        if not torch.equal(found, schema.tile_table(tiling)):
            raise file.problem(f"{place}/tiles do not fit the network and the array card")


def is_measured(file: Hdf5Reader, place: str, mapping: str) -> bool:
    """Whether conductances stand by themselves, without what a simulated device has behind it."""
    return not any(file.has(f"{place}/{role}/{PER_DEVICE[0].name}") for role in ROLES[mapping])


def read_matrix(file: Hdf5Reader, place: str, matrix: CrossbarMatrix) -> State:
    """The state of a matrix, from a file.

    Args:
        file: whose sizes were compared (`check_matrix`).
        place: of the matrix's group.
        matrix: as the cards and the seed make it; of measured devices, what the file leaves out.

    Raises:
        ValueError: in one line, for whatever is missing, damaged or not allowed.
    """
    name, dtype = f"{place}/weight_per_siemens", matrix.units.dtype
    state: State = dict(matrix.state_dict())
    state["units"] = file.array(name, (matrix.tiling.columns,), "float", dtype)
    if not bool((state["units"] > 0.0).all()):
        raise file.problem(f"{name} holds values that are not above 0")
    if matrix.array.layout.scale == "layer" and not bool(
        (state["units"] == state["units"][0]).all()
    ):
        raise file.problem(f'{name} differs between columns; the array card has scale = "layer"')
    if is_measured(file, place, matrix.mapping):
        return state | _measured_devices(file, place, matrix)
    for name, key in (
        ("compensation", "compensation"),
        ("programmed_sum_siemens", "_programmed_sum"),
    ):
        state[key] = torch.tensor(file.number(place, name), dtype=dtype)
    for key, (name, _) in schema.OF_MATRIX.items():
        if key in state:
            state[key] = _by_role(file, place, name, matrix, "float", dtype, (len(state[key]),))
    return state | _saved_devices(file, place, matrix)


def check_present(file: Hdf5Reader, place: str, matrix: CrossbarMatrix) -> None:
    """Compare the conductances that a file shows with those that its devices have by now.

    Raises:
        ValueError: in one line, if they differ, or reads are not finite.
    """
    present, window = matrix.devices.conductance, matrix.devices.card.window
    found = _by_role(file, place, CONDUCTANCE, matrix, "float", present.dtype)
    slack = schema.STATE_TOLERANCE_FRACTION * window.range_siemens
    if not bool(((found - present).abs() <= slack).all()):
        raise file.problem(
            f"{place}: {CONDUCTANCE} is not what its devices have drifted to; leave out "
            f"{PER_DEVICE[0].name} and the other quantities to set conductances"
        )
    for read in (matrix.forward_matrix, matrix.transposed_matrix):
        if not bool(read.isfinite().all()):
            raise file.problem(f"{place}: reads of these devices are not finite")


# --- Devices -----------------------------------------------------------------------------------


def _saved_devices(file: Hdf5Reader, place: str, matrix: CrossbarMatrix) -> State:
    """Everything that a saved chip's devices hold."""
    devices, state = matrix.devices, State()
    card, fabricated = devices.card, devices.state_dict()
    allowed = {each.key: each for each in PER_DEVICE if schema.belongs(each.key, card)}
    wires = [name for key, (name, _) in schema.OF_MATRIX.items() if key in matrix.state_dict()]
    given = _given(file, place, matrix, {each.name for each in allowed.values()}.union(wires))
    for key, each in allowed.items():
        if key in fabricated or (key in _MADE_BY_PULSES and each.name in given):
            state[key] = _quantity(file, place, each, matrix)
    lower = state.get("lower", torch.tensor(card.window.g_min_siemens))
    upper = state.get("upper", torch.tensor(card.window.g_max_siemens))
    slack = schema.tolerance_siemens(card)
    _check_between(file, place, state["programmed"], lower - slack, upper + slack)
    state["_extra_state"] = _extra_state(
        file.whole(place, "device_seed", 0, MAX_SEED),
        file.whole(place, "program_count", 0, schema.MAX_COUNT),
        file.whole(place, "update_count", 0, schema.MAX_COUNT),
        file.number(place, "elapsed_s"),
    )
    return _prefixed(state)


def _measured_devices(file: Hdf5Reader, place: str, matrix: CrossbarMatrix) -> State:
    """Devices that stand at measured conductances, at time 0; all else as the card says."""
    devices, state = matrix.devices, dict(matrix.devices.state_dict())
    card, dtype = devices.card, devices.programmed.dtype
    allowed = [e for e in PER_DEVICE if e.key in schema.MEASURED and schema.belongs(e.key, card)]
    given = _given(file, place, matrix, {each.name for each in allowed})
    g = _by_role(file, place, CONDUCTANCE, matrix, "float", dtype)
    _check_between(file, place, g, *map(torch.tensor, schema.measured_window(card)))
    state["programmed"] = g
    if card.drift:
        # What programming these conductances for the first time would draw.
        seed = derive_seed(devices.seed, "drift", 0)
        state["drift_coefficient"] = card.drift.draw(g, torch.Generator().manual_seed(seed))
    for each in allowed:
        if each.name in given:
            state[each.key] = _quantity(file, place, each, matrix)
    if "lower" in state:
        slack = schema.tolerance_siemens(card)
        for key, further in (("lower", torch.minimum), ("upper", torch.maximum)):
            drawn = next(each for each in PER_DEVICE if each.key == key).name not in given
            state[key] = further(state[key], g) if drawn else state[key]
        _check_between(file, place, g, state["lower"] - slack, state["upper"] + slack)
    state["_extra_state"] = _extra_state(devices.seed, 1, 0, 0.0)
    return _prefixed(state)


def _given(file: Hdf5Reader, place: str, matrix: CrossbarMatrix, allowed: set[str]) -> set[str]:
    """Quantities that a file has; those that the devices have no place for are refused."""
    given: set[str] = set()
    for role in ROLES[matrix.mapping]:
        names = set(file.names(f"{place}/{role}")) - {CONDUCTANCE}
        if unknown := sorted(names - allowed):
            raise file.problem(
                f"{place}/{role}/{unknown[0]} is not allowed here; these devices of the card "
                f"{matrix.devices.card.name!r} have {', '.join(sorted(allowed)) or 'nothing else'}"
            )
        given |= names
    return given


def _quantity(file: Hdf5Reader, place: str, each: PerDevice, matrix: CrossbarMatrix) -> Tensor:
    """One quantity of `PER_DEVICE`, as the state of the devices has it."""
    dtype = {"float": matrix.units.dtype, "whole": torch.int64, "flag": torch.bool}[each.kind]
    dtype = torch.float64 if each.key == "_ages" else dtype
    values = _by_role(file, place, each.name, matrix, each.kind, dtype)
    if each.key not in ("drift_coefficient", "_hidden") and bool((values < 0).any()):
        raise file.problem(f"{place}: {each.name} holds values below 0")
    return values.view(torch.int64) if each.key == "_ages" else values


def _by_role(
    file: Hdf5Reader,
    place: str,
    name: str,
    matrix: CrossbarMatrix,
    kind: Kind,
    dtype: torch.dtype,
    directions: tuple[int, ...] = (),
) -> Tensor:
    """A quantity of every device, of both of the matrix's roles together."""
    shapes = schema.role_shapes(matrix.tiling, matrix.mapping)
    parts = [
        file.array(f"{place}/{role}/{name}", (*directions, *shape), kind, dtype)
        for role, shape in zip(ROLES[matrix.mapping], shapes, strict=True)
    ]
    return schema.join(parts, matrix.mapping)


def _check_between(file: Hdf5Reader, place: str, g: Tensor, low: Tensor, high: Tensor) -> None:
    """Refuse conductances outside of their window."""
    outside = (g < low) | (g > high)
    if bool(outside.any()):
        first = int(outside.flatten().nonzero()[0])
        here = [float(t.expand_as(g).flatten()[first]) for t in (g, low, high)]
        raise file.problem(
            f"{place}: a conductance of {here[0]:g} siemens is not allowed; must be from "
            f"{max(here[1], 0.0):g} to {here[2]:g}, its bounds by the card"
        )


def _extra_state(seed: int, programmed: int, updates: int, elapsed_s: float) -> Tensor:
    """What is not a tensor of devices, as `Devices.get_extra_state` gives it."""
    (time_bits,) = struct.unpack("<q", struct.pack("<d", elapsed_s))
    return torch.tensor([seed, programmed, time_bits, updates])


def _prefixed(state: State) -> State:
    return {f"devices.{key}": value for key, value in state.items()}
