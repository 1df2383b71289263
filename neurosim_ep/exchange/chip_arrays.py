"""A chip as plain arrays: conductances, what a siemens stands for, biases; and back onto a chip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar import BiasRow, CrossbarNetwork, CrossbarStorage
from neurosim_ep.crossbar.mapping import PAIR, checked_units, signed
from neurosim_ep.crossbar.tiles import Tiling
from neurosim_ep.models import Convolution, Geometry


@dataclass(frozen=True, eq=False)
class MatrixArrays:
    """Devices of one weight matrix, as they stand.

    Attributes:
        mapping: ``differential_pair`` or ``offset_column``.
        tiling: how the matrix is cut into arrays.
        conductance_siemens: (planes, rows, columns), for the shapes of both mappings see
            `neurosim_ep.crossbar.mapping`.
        weight_per_siemens: of each column (columns,), compensation of drift multiplied in.
    """

    mapping: str
    tiling: Tiling
    conductance_siemens: Tensor
    weight_per_siemens: Tensor

    @property
    def weight(self) -> Tensor:
        """What the conductances stand for (rows, columns), wires left out."""
        return signed(self.conductance_siemens, self.mapping, self.tiling) * self.weight_per_siemens


@dataclass(frozen=True, eq=False)
class ChipArrays:
    """All matrices and biases of a chip.

    Attributes:
        matrices: by name: ``edge_0``, ... in edge order (edges without weights are left out), then
            ``bias_1``, ... for rows of devices that hold a layer's biases.
        biases: of every free layer (channels,), by layer, as settling adds them.
    """

    matrices: Mapping[str, MatrixArrays] = field(default_factory=dict)
    biases: Mapping[int, Tensor] = field(default_factory=dict)


def chip_arrays(chip: CrossbarNetwork) -> ChipArrays:
    """Copies of what stands on a chip at present, in its dtype, on the CPU."""
    matrices = {}
    for name, _, holder in matrices_of(chip):
        matrix = holder.matrix
        matrices[name] = MatrixArrays(
            matrix.mapping,
            matrix.tiling,
            _copy(matrix.devices.conductance),
            _copy(matrix.units * matrix.compensation),
        )
    biases = dict(enumerate(map(_copy, chip.biases), start=1))
    return ChipArrays(matrices, biases)


@torch.no_grad()
def set_chip_arrays(chip: CrossbarNetwork, arrays: ChipArrays) -> None:
    """Let a chip's devices stand at conductances that were measured or saved.

    Nothing is rounded or written with noise (`neurosim_ep.devices.Devices.stand_at`): a chip of the
    same cards then reads the same weights.  Time starts at 0 from there.  Digital biases are taken
    over; those on rows of devices follow the devices.  Converter ranges stay what they are.

    Args:
        chip: of the same network, mapping and tiles; its cards' window must hold the conductances.
        arrays: all of its matrices and biases.

    Raises:
        ValueError: in one line that names the matrix, for one too many or missing, another mapping,
            shape or tiling, conductances that the devices cannot have, or values that are not
            finite; nothing changes then.
    """
    holders = {name: holder for name, _, holder in matrices_of(chip)}
    same_names("matrices", arrays.matrices, holders)
    layers: dict[int, Tensor] = dict(enumerate(chip.biases, start=1))
    same_names("biases", arrays.biases, layers)
    for name, holder in holders.items():
        _check(name, holder, arrays.matrices[name])
    for layer, bias in layers.items():
        given = arrays.biases[layer]
        if given.shape != bias.shape:
            shapes = list(given.shape), f"{list(bias.shape)}, one per channel"
            raise ValueError(problem(f"bias of layer {layer}: shape", *shapes))
        if not bool(given.isfinite().all()):
            raise ValueError(f"bias of layer {layer}: NaN or infinity is not allowed")
    for layer, bias in layers.items():
        bias.copy_(arrays.biases[layer])
    for name, holder in holders.items():
        matrix = arrays.matrices[name]
        holder.stand_at(matrix.conductance_siemens, matrix.weight_per_siemens)
    chip.read_bias_rows()


def matrices_of(
    chip: CrossbarNetwork,
) -> Iterator[tuple[str, Geometry, CrossbarStorage | BiasRow]]:
    """Name, geometry and holder of every matrix on arrays, edges first."""
    for number, edge in enumerate(chip.edge_list()):
        if isinstance(edge.storage, CrossbarStorage):
            yield f"edge_{number}", edge.geometry, edge.storage
    for layer, row in chip.bias_rows.items():
        yield f"bias_{layer}", row.geometry, row


def meaning_of_a_row(name: str, geometry: Geometry) -> str:
    """What a row of a matrix of `chip_arrays` is driven by, in words."""
    if name.startswith("bias"):
        return "a constant state of 1"
    if isinstance(geometry, Convolution):
        return "(input channel * kernel + kernel row) * kernel + kernel column"
    return "unit of the pre layer, flattened"


def meaning_of_a_column(name: str, geometry: Geometry) -> str:
    """What a column's current belongs to, in words."""
    convolved = name.startswith("bias") or isinstance(geometry, Convolution)
    return "channel of the post layer" if convolved else "unit of the post layer, flattened"


def same_names(kind: str, given: Iterable[object], wanted: Iterable[object]) -> None:
    """Refuse names that are missing or too many.

    Raises:
        ValueError: in one line.
    """
    given, wanted = list(given), list(wanted)
    if set(given) != set(wanted):
        names = ", ".join(map(str, given)) or "none"
        allowed = ", ".join(map(str, wanted)) or "none"
        raise ValueError(f"{kind}: {names} is not allowed; must be {allowed}")


def _check(name: str, holder: CrossbarStorage | BiasRow, given: MatrixArrays) -> None:
    matrix = holder.matrix
    if given.mapping != matrix.mapping:
        raise ValueError(problem(f"{name}: mapping", given.mapping, matrix.mapping))
    if given.tiling != matrix.tiling:
        raise ValueError(
            f"{name}: {_tiling_words(given.tiling)} is not allowed; must be "
            f"{_tiling_words(matrix.tiling)}"
        )
    try:
        matrix.devices.measured(given.conductance_siemens)
        checked_units(given.weight_per_siemens, matrix.tiling.columns)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _tiling_words(tiling: Tiling) -> str:
    return (
        f"a matrix of {tiling.rows} x {tiling.columns} in tiles of "
        f"{tiling.tile_rows} x {tiling.tile_columns}"
    )


def plane_names(mapping: str) -> tuple[str, ...]:
    """Names of the planes of devices."""
    return ("G+", "G-") if mapping == PAIR else ("G",)


def _copy(values: Tensor) -> Tensor:
    return values.detach().cpu().clone()
