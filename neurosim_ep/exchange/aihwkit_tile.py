"""One array of IBM's Analog Hardware Acceleration Kit (aihwkit): made, read, pulsed, saved.

Everything that touches aihwkit is here; it is imported when the first tile is asked for.  The tile
is the kit's C++ array itself, without the digital periphery of its PyTorch layers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.seeds import derive_seed

# Others (inference, floating point) have no pulses, and leave noise, drift or clipping to PyTorch
# modules that are not used here.
CONFIGURATIONS = ("SingleRPUConfig", "UnitCellRPUConfig", "DigitalRankUpdateRPUConfig")

INSTALL = "installed for this torch, see docs/aihwkit.md"

PROBE_SIDE = 64
BEYOND_ANY_WINDOW = 1e3
LEAST_SHARE = 0.01
"""Of the window in the other direction: a few devices' bounds are turned round by their spread."""


@dataclass(frozen=True)
class TrainReport:
    """The pulse trains of one update.

    Attributes:
        vectors: outer products, each a train of its own.
        longest: pulses that the largest of them asked of its strongest device; None where aihwkit
            does not pulse single devices (compounds, mixed precision, no pulses at all).
        saturated_fraction: share of them that asked for more than the configured train length
            (``update.desired_bl``) holds: what they did falls short; None likewise.
    """

    vectors: int
    longest: float | None = None
    saturated_fraction: float | None = None


def aihwkit_problem() -> str | None:
    """What keeps aihwkit from working here, in one line; None where it works."""
    try:
        _configurations()
    except ValueError as error:
        return str(error)
    return None


class Tile:
    """A tile: a matrix (rows, columns) in aihwkit's units.

    Args:
        rpu_config: one of `CONFIGURATIONS`; only its device, its converters (``forward`` and
            ``backward``), ``update`` and ``runtime`` are used, and it is copied.
        rows, columns: of the matrix.
        seed: of the devices; aihwkit draws all other noise from generators of its own.

    Raises:
        ValueError: where aihwkit is missing or fails, or for another kind of configuration.
    """

    def __init__(self, rpu_config: Any, rows: int, columns: int, seed: int) -> None:
        self.configuration = _checked(rpu_config)
        self.rows, self.columns, self.seed = rows, columns, seed
        self._array, self._weights = _array(self.configuration, rows, columns, seed)

    @property
    def matrix(self) -> Tensor:
        """What reads see, (rows, columns), a copy."""
        return self._weights.T.clone()

    @property
    def hidden(self) -> dict[str, Tensor]:
        """Each device's parameters and hidden states by aihwkit's names, (rows, columns)."""
        tensors = self._array.get_hidden_parameters()
        names = self._array.get_hidden_parameter_names()
        return {name: tensors[index].T.clone() for index, name in enumerate(names)}

    @property
    def pulse_step(self) -> float | None:
        """The step that aihwkit counts pulses by, in its units; None where it counts none.

        ``dw_min``, or for devices whose mean step differs from that a mean over their window.
        """
        pulsed = not self.configuration.update.pulse_type.name.startswith("NONE")
        step = self._array.dump_extra().get("rpu.rpu_device.weight_granularity")
        single = _kind(self.configuration) == "SingleRPUConfig"
        return float(step[0]) if single and pulsed and step is not None else None

    @property
    def resolution(self) -> float:
        """One code of the forward read's ADCs, relative to their range; 0 where none rounds."""
        converters = self.configuration.forward
        if converters.is_perfect or converters.out_res <= 0.0:
            return 0.0
        steps = converters.out_res if converters.out_res > 1.0 else 1.0 / converters.out_res
        return float(2.0 / steps)

    def write(self, matrix: Tensor) -> None:
        """Set the weights; aihwkit clips them to each device's bounds and adds write noise."""
        self._array.set_weights(self._own(matrix.T))

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, rows) to (N, columns)."""
        read: Tensor = self._array.forward(self._own(vectors), False, False, False, False, False)
        return read.to(vectors)

    def backward(self, vectors: Tensor) -> Tensor:
        """(N, columns) to (N, rows)."""
        read: Tensor = self._array.backward(self._own(vectors), False, False, False, False)
        return read.to(vectors)

    def update(self, rows: Tensor, columns: Tensor, rate: float) -> TrainReport:
        """One mini-batch: ``matrix += rate * sum_n rows_n x columns_n``, as far as devices do it.

        Args:
            rows: (N, rows).
            columns: (N, columns).
            rate: above 0.
        """
        rows, columns = self._own(rows), self._own(columns)
        # Only their product is meant: equal maxima keep both sides' pulse probabilities alike even
        # where the configuration does not (update_management).
        largest_row, largest_column = float(rows.abs().max()), float(columns.abs().max())
        if largest_row > 0.0 and largest_column > 0.0:
            balance = (largest_column / largest_row) ** 0.5
            rows, columns = rows * balance, columns / balance
        self._array.set_learning_rate(rate)
        # aihwkit descends: W -= rate * d x.
        self._array.update(rows, -columns, False, False, False, False)
        device = self.configuration.device
        if device.requires_diffusion():
            self._array.diffuse_weights()
        if device.requires_decay():
            self._array.decay_weights()
        return self._trains(rows, columns, rate)

    def _trains(self, rows: Tensor, columns: Tensor, rate: float) -> TrainReport:
        step = self.pulse_step
        if step is None:
            return TrainReport(len(rows))
        asked = rows.abs().amax(1) * columns.abs().amax(1) * (rate / step)
        # Rounding makes a product that asks for just the longest train ask for a little more.
        saturated = asked > self.configuration.update.desired_bl * (1.0 + 1e-5)
        return TrainReport(len(rows), float(asked.max()), float(saturated.float().mean()))

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and strings from which `restore` sets up a tile of the same kind."""
        return {
            "weights": self._weights.clone(),
            "hidden": self._array.get_hidden_parameters().clone(),
            "names": list(self._array.get_hidden_parameter_names()),
            "extra": {name: list(values) for name, values in self._array.dump_extra().items()},
        }

    def restore(self, state: dict[str, Any]) -> list[str]:
        """Take over a state: weights bit for bit, and what else aihwkit lets one set.

        Returns:
            Names of the hidden parameters that aihwkit did not take back: of compounds with write
            noise the states below the noise, of mixed precision the digital sum.

        Raises:
            ValueError: for the state of another kind of device, or of another size.
        """
        names = list(self._array.get_hidden_parameter_names())
        weights, hidden = state["weights"].to("cpu"), state["hidden"].to("cpu")
        if state["names"] != names or weights.shape != self._weights.shape:
            found = f"{len(state['names'])} tensors of shape {list(weights.shape)}"
            raise ValueError(problem("state", found, f"of {self!r}"))
        self._array.set_weights(weights)
        if names:
            self._array.set_hidden_parameters(hidden)
        if "persistent_weights" in names:
            # Written here, what is below the write noise stays when the noisy weights follow.
            self._array.set_weights(hidden[names.index("persistent_weights")].contiguous())
        self._array.load_extra(state["extra"], False)
        self._weights.copy_(weights)
        now = self._array.get_hidden_parameters()
        return [n for index, n in enumerate(names) if not torch.equal(now[index], hidden[index])]

    def _own(self, tensor: Tensor) -> Tensor:
        """As aihwkit takes it: on the CPU, in the tile's precision, contiguous."""
        return tensor.detach().to("cpu", self._weights.dtype).contiguous()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tile:
        # The C++ array knows no copy.
        twin = Tile(self.configuration, self.rows, self.columns, self.seed)
        twin.restore(self.state())
        memo[id(self)] = twin
        return twin

    def __repr__(self) -> str:
        device = type(self.configuration.device).__name__
        return f"Tile({device}, rows={self.rows}, columns={self.columns}, seed={self.seed})"


def nominal_window(rpu_config: Any) -> float:
    """How far weights go in both directions, in the tile's units, averaged over the devices.

    Measured on a tile that is thrown away, because compounds do not state it; 1 where nothing
    bounds the weights.

    Raises:
        ValueError: as for `Tile`, or if the devices leave weights no room in one direction.
    """
    tile = Tile(rpu_config, PROBE_SIDE, PROBE_SIDE, seed=0)
    reached = []
    for sign in (1.0, -1.0):
        tile.write(torch.full((PROBE_SIDE, PROBE_SIDE), sign * BEYOND_ANY_WINDOW))
        reached.append(sign * float(tile.matrix.mean()))
    window = min(reached)
    if window >= 0.5 * BEYOND_ANY_WINDOW:
        return 1.0
    if not window > LEAST_SHARE * max(reached):
        room = f"a window of {reached[0]:.3g} up and {reached[1]:.3g} down"
        raise ValueError(problem("rpu_config.device", room, "one with room in both directions"))
    return window


def _array(rpu_config: Any, rows: int, columns: int, seed: int) -> tuple[Any, Tensor]:
    """aihwkit's C++ array, and the tensor that holds its weights (columns, rows)."""
    precision = rpu_config.runtime.data_type
    device = rpu_config.device.as_bindings(precision)
    # 32 bits, and 0 would ask for the clock.
    device.construction_seed = 1 + derive_seed(seed, "aihwkit") % (2**32 - 1)
    array = rpu_config.as_bindings().create_array(rows, columns, device)
    weights = torch.zeros(columns, rows, dtype=precision.as_torch())
    array.set_shared_weights(weights)
    return array, weights


def _kind(rpu_config: Any) -> str | None:
    configurations = _configurations()
    kinds = (name for name in CONFIGURATIONS if isinstance(rpu_config, configurations[name]))
    return next(kinds, None)


def _checked(rpu_config: Any) -> Any:
    """A copy of a configuration that fits."""
    if _kind(rpu_config) is None:
        allowed = f"{', '.join(CONFIGURATIONS[:-1])} or {CONFIGURATIONS[-1]} of aihwkit"
        raise ValueError(problem("rpu_config", type(rpu_config).__name__, allowed))
    return copy.deepcopy(rpu_config)


@cache
def _configurations() -> dict[str, type]:
    """aihwkit's classes by name, once a tile has been written and read.

    Raises:
        ValueError: in one line, where aihwkit is missing or its tensor calls fail.
    """
    try:
        module = import_module("aihwkit.simulator.configs")
    except Exception as error:  # a binary for another torch can raise almost anything
        state = "missing" if isinstance(error, ModuleNotFoundError) else "broken"
        raise ValueError(problem("aihwkit", f"{state} ({_first_line(error)})", INSTALL)) from None
    try:
        _smoke_test(module)
    except Exception as error:  # likewise
        version = getattr(import_module("aihwkit"), "__version__", "of unknown version")
        value = f"{version} with torch {torch.__version__} ({_first_line(error)})"
        raise ValueError(problem("aihwkit", value, INSTALL)) from None
    return {name: getattr(module, name) for name in CONFIGURATIONS}


def _smoke_test(configs: ModuleType) -> None:
    """Write and read one weight: wheels for another torch import, and fail at the first tensor."""
    ideal = configs.SingleRPUConfig()
    ideal.forward.is_perfect = True
    array, _ = _array(ideal, 1, 1, 0)
    array.set_weights(torch.full((1, 1), 0.25))
    read = array.forward(torch.full((1, 1), 2.0), False, False, False, False, False)
    if abs(float(read) - 0.5) > 1e-6:
        raise RuntimeError(f"0.25 x 2 read as {float(read):g}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
