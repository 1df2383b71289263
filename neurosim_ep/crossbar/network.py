"""Networks on crossbars: the same layers, edges and biases, with arrays in place of tensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from neurosim_ep.crossbar.bias_row import BiasRow
from neurosim_ep.crossbar.card import ArrayCard, load_array_card
from neurosim_ep.crossbar.hosted import HostedNetwork
from neurosim_ep.crossbar.mapping import OFFSET
from neurosim_ep.crossbar.ports import calibrating
from neurosim_ep.crossbar.storage import CrossbarStorage
from neurosim_ep.devices import DeviceCard, Programmed, load_device_card
from neurosim_ep.models import Edge, HopfieldNetwork
from neurosim_ep.seeds import derive_seed


@dataclass(frozen=True)
class MappingReport:
    """What a network takes up, and how its programming went.

    Attributes:
        weights: that sit on arrays.
        devices: of all arrays that hold weights, references or biases.
        arrays: physical crossbars.
        utilisation_fraction: share of the arrays' crossings that hold a device in use.
        clipped: targets outside the devices' window.
        failed: devices that write-verify gave up on.
        attempts: programming pulses.
        biases: that sit on rows of devices.
    """

    weights: int
    devices: int
    arrays: int
    utilisation_fraction: float
    clipped: int
    failed: int
    attempts: int
    biases: int = 0


class CrossbarNetwork(HostedNetwork):
    """A Hopfield network whose weights sit on crossbars; made by `map_to_crossbar`.

    Biases, activations, pooling and identity edges stay digital and exact.

    Args:
        network: whose layers, edges, weights and biases are taken over; it stays as it is.
        device: card of the devices.
        array: card of the arrays.
        seed: of everything that is drawn; one seed is one piece of hardware.
        bias_rows: put the biases of layers that an edge's columns lead to on devices as well.

    Attributes:
        device_card, array_card: of the hardware.
        report: of the last programming of the weights.
    """

    def __init__(
        self,
        network: HopfieldNetwork,
        device: DeviceCard,
        array: ArrayCard,
        *,
        seed: int,
        bias_rows: bool = False,
    ) -> None:
        first = network.biases[0]
        bounds = [None] + [layer.activation.upper_bound for layer in network.layers[1:]]

        def storage(number: int, edge: Edge) -> CrossbarStorage:
            return CrossbarStorage(
                edge.geometry,
                device,
                array,
                seed=derive_seed(seed, "edge", number),
                bounds=(bounds[edge.pre], bounds[edge.post]),
                dtype=first.dtype,
                where=first.device,
            )

        super().__init__(network, storage)
        self.device_card, self.array_card, self.seed = device, array, seed
        programmed = self._program(rescale=True)
        self._rows = nn.ModuleDict()
        if bias_rows:
            self._add_bias_rows()
        self.report = self._reported(programmed)

    def _add_bias_rows(self) -> None:
        for layer, (number, storage) in self._row_arrays().items():
            row = BiasRow(
                self.biases[layer - 1],
                storage.matrix.units,
                self.device_card,
                self.array_card,
                seed=derive_seed(self.seed, "bias row", number),
                beside=storage.matrix.tiling,
            )
            self._rows[str(layer)] = row
            storage.attach_bias_row(row)
        self.read_bias_rows()

    def _row_arrays(self) -> dict[int, tuple[int, CrossbarStorage]]:
        """By layer, the first edge on arrays with a column per bias, which take its bias row."""
        found: dict[int, tuple[int, CrossbarStorage]] = {}
        for number, edge in enumerate(self.edge_list()):
            storage, channels = edge.storage, len(self.biases[edge.post - 1])
            if isinstance(storage, CrossbarStorage) and storage.matrix.tiling.columns == channels:
                found.setdefault(edge.post, (number, storage))
        return found

    @property
    def bias_rows(self) -> dict[int, BiasRow]:
        """Rows of devices that hold biases, by layer; empty where the biases are digital."""
        return {int(name): row for name, row in self._rows.items() if isinstance(row, BiasRow)}

    @torch.no_grad()
    def read_bias_rows(self) -> None:
        """Set the biases that settling adds to what their devices hold at present."""
        for layer, row in self.bias_rows.items():
            self.biases[layer - 1].copy_(row.value)

    @property
    def storages(self) -> list[CrossbarStorage]:
        """Storages of the edges that have weights, in edge order."""
        found = [edge.storage for edge in self.edge_list()]
        return [storage for storage in found if isinstance(storage, CrossbarStorage)]

    @property
    def elapsed_s(self) -> float:
        """Time since the arrays were programmed."""
        return max((s.matrix.devices.elapsed_s for s in self.storages), default=0.0)

    def program(self, *, rescale: bool = False) -> MappingReport:
        """Write the digital weights and bias rows into all arrays; time starts again at 0.

        Args:
            rescale: choose the scales from these weights; else keep them and clip what is beyond.

        Raises:
            ValueError: if a weight is not finite; nothing is programmed then.
        """
        programmed = self._program(rescale=rescale)
        arrays = self._row_arrays()
        for layer, row in self.bias_rows.items():
            row.program(arrays[layer][1].matrix.units)
        self.read_bias_rows()
        self.report = self._reported(programmed)
        return self.report

    def _program(self, *, rescale: bool) -> list[Programmed]:
        self.check_finite()
        return [storage.program(rescale=rescale) for storage in self.storages]

    def _reported(self, programmed: Sequence[Programmed]) -> MappingReport:
        layout, rows = self.array_card.layout, list(self.bias_rows.values())
        programmed = [*programmed, *(row.programmed for row in rows)]
        matrices = [storage.matrix for storage in self.storages] + [row.matrix for row in rows]
        devices = sum(matrix.devices.programmed.numel() for matrix in matrices)
        arrays = sum(storage.matrix.arrays for storage in self.storages)
        arrays += sum(row.own_arrays for row in rows)
        columns = layout.columns + (layout.mapping == OFFSET)
        return MappingReport(
            sum(weight.numel() for weight in self.weights),
            devices,
            arrays,
            devices / max(arrays * layout.rows * columns, 1),
            sum(each.clipped for each in programmed),
            sum(each.failed for each in programmed),
            sum(each.attempts for each in programmed),
            sum(row.weight.numel() for row in rows),
        )

    def advance_time(self, seconds: float, *, solve_wires: bool = True) -> None:
        """Let all devices age.

        Args:
            seconds: that pass.
            solve_wires: solve wires again; a training leaves it to the card's refresh interval.

        Raises:
            ValueError: for a negative or infinite time.
        """
        for storage in self.storages:
            storage.advance_time(seconds, solve_wires=solve_wires)
        for row in self.bias_rows.values():
            row.matrix.advance_time(seconds)
        self.read_bias_rows()

    @contextmanager
    def calibrating(self) -> Iterator[None]:
        """Converters read ideally inside, and take their ranges from what they saw at its end.

        Settle on data inside, free and nudged, with full and delta reads as they will be used.
        After an error inside, the ranges are what they were.  They do not follow weights that are
        programmed later: a training has to calibrate again as its weights grow, or reads saturate.
        """
        with calibrating(port for storage in self.storages for port in storage.ports.values()):
            yield


def map_to_crossbar(
    model: HopfieldNetwork,
    device: DeviceCard | str = "ideal",
    array: ArrayCard | str = "ideal",
    *,
    seed: int = 0,
    bias_rows: bool = False,
) -> CrossbarNetwork:
    """Put a network's weights on crossbars.

    Args:
        model: any network; it stays as it is.
        device: device card, or the name or path of one.
        array: array card, or the name or path of one.
        seed: of everything that is drawn; one seed is one piece of hardware.
        bias_rows: put biases on devices as well, see `BiasRow`.

    Returns:
        The same network on arrays, in the model's dtype and on its device; it settles and learns
        like any other.  Where the array card calibrates its converters, that has to be done before
        the first read (`CrossbarNetwork.calibrating`).

    Raises:
        ValueError: if a card is not valid, an array is too small, or a weight is not finite.
    """
    device = load_device_card(device) if isinstance(device, str) else device
    array = load_array_card(array) if isinstance(array, str) else array
    return CrossbarNetwork(model, device, array, seed=seed, bias_rows=bias_rows)
