"""Networks whose weights live on tiles of IBM's Analog Hardware Acceleration Kit (aihwkit)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar.hosted import HostedNetwork
from neurosim_ep.exchange.aihwkit_tile import Tile, TrainReport, nominal_window
from neurosim_ep.models import (
    Edge,
    Geometry,
    HopfieldNetwork,
    NoiseSum,
    WeightStorage,
    as_complex,
    as_real,
)
from neurosim_ep.seeds import derive_seed


class AihwkitStorage(WeightStorage):
    """Weights on one aihwkit tile, read in both directions and updated by its pulses.

    A weight is ``scale`` times the tile's.  Converters, noise and what one pulse does are the
    tile's own.  It has one range for all reads, so delta reads go through the same converters as
    full reads; what they gain comes from aihwkit's noise management, where it is on.  Bound
    management works in forward reads only: aihwkit turns it off in transposed ones.  Reads are
    noisy in themselves and leave nothing to a `NoiseSum`.  aihwkit computes on the CPU and in the
    configuration's precision, whatever the states' device and dtype.

    Args:
        geometry: dense or convolution.
        rpu_config: aihwkit's configuration (`Tile`).
        seed: of the devices.
        window: largest weight of the tile, in its units (`nominal_window`).
        window_fraction: where in it the largest weight sits after ``program(rescale=True)``.
        dtype, where: of ``weight``.

    Attributes:
        weight: the tile's weights times the scale, as the tile has them after every update; to set
            them, write here and call `program`.
        tile: holds them in its own units.
        scale: weight per unit of the tile.
        unrestored: what aihwkit did not take back of the last state that was loaded (`Tile`).
    """

    def __init__(
        self,
        geometry: Geometry,
        rpu_config: Any,
        *,
        seed: int,
        window: float = 1.0,
        window_fraction: float = 0.5,
        dtype: torch.dtype = torch.float32,
        where: torch.device | str = "cpu",
    ) -> None:
        super().__init__(geometry)
        if not 0.0 < window_fraction <= 1.0:
            raise ValueError(problem("window_fraction", window_fraction, "above 0 and at most 1"))
        rows = geometry.fan_in
        self.tile = Tile(rpu_config, rows, self.weight.numel() // rows, seed)
        self.window, self.window_fraction = window, window_fraction
        self.scale = 1.0
        self.unrestored: list[str] = []
        self.weight.data = self.weight.data.to(where, dtype)

    @torch.no_grad()
    def program(self, *, rescale: bool = False) -> None:
        """Write ``weight`` into the tile; it then holds what the tile made of it.

        Args:
            rescale: choose the scale from these weights; else keep it, and aihwkit clips what is
                beyond the devices' bounds.

        Raises:
            ValueError: if a weight is not finite; nothing is written then.
        """
        if not bool(self.weight.isfinite().all()):
            raise ValueError("weight: NaN or infinity is not allowed; must be finite")
        if rescale:
            largest = float(self.weight.abs().max())
            self.scale = largest / (self.window_fraction * self.window) if largest > 0.0 else 1.0
        self.tile.write(self.geometry.matrix(self.weight) / self.scale)
        self._show()

    @property
    def resolution(self) -> float:
        """One code of the forward read's ADCs, relative to their range; 0 without them."""
        return self.tile.resolution

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """The tile's forward read of every patch; complex states as two reads."""
        if pre.is_complex():
            return as_complex(self.forward_read(as_real(pre)))
        rows = self.geometry.unroll(pre)
        columns = self.tile.forward(rows.flatten(0, 1)).mul_(self.scale)
        return self.geometry.from_columns(columns.view(*rows.shape[:2], -1))

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """The tile's backward read of every position, overlapping patches added digitally."""
        if currents.is_complex():
            return as_complex(self.transposed_read(as_real(currents)))
        columns = self.geometry.to_columns(currents)
        rows = self.tile.backward(columns.flatten(0, 1)).mul_(self.scale)
        return self.geometry.fold(rows.view(*columns.shape[:2], -1))

    @torch.no_grad()
    def pulse_products(
        self, products: Sequence[tuple[Tensor, Tensor]], learning_rate: float
    ) -> TrainReport:
        """Pulse ``weight += learning_rate * sum of pre x post``, one mini-batch for aihwkit.

        Every product of one image, one position of a convolution and one factor pair is a pulse
        train of its own; its sign is the product's.

        Args:
            products: pre factors (B, *pre_shape) and post factors (B, *linear_shape), e.g. those of
                `neurosim_ep.learning.edge_products`; of complex ones the real part of the product
                counts.
            learning_rate: above 0, in units of ``weight``.

        Raises:
            ValueError: for a learning rate that is not a finite number above 0, no products, or
                products that are not finite; nothing is pulsed then.
        """
        if not 0.0 < learning_rate < float("inf"):
            raise ValueError(problem("learning_rate", learning_rate, "a finite number above 0"))
        if not products:
            raise ValueError(problem("products", [], "at least one pair of factors"))
        rows, columns = [], []
        for pre, post in products:
            for real_pre, real_post in _real_products(pre, post):
                rows.append(self.geometry.unroll(real_pre).flatten(0, 1))
                columns.append(self.geometry.to_columns(real_post).flatten(0, 1))
        driven, sensed = torch.cat(rows), torch.cat(columns)
        if not bool(driven.isfinite().all()) or not bool(sensed.isfinite().all()):
            raise ValueError("products: NaN or infinity is not allowed; must be finite")
        trains = self.tile.update(driven, sensed, learning_rate / self.scale)
        self._show()
        return trains

    def _show(self) -> None:
        """Let ``weight`` hold what the tile has."""
        self.weight.copy_(self.geometry.from_matrix(self.tile.matrix * self.scale))

    def get_extra_state(self) -> dict[str, Any]:
        """The tile, saved with the weights; aihwkit's generators are not in it."""
        return {"scale": self.scale, "tile": self.tile.state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the tile.

        Raises:
            ValueError: for the state of another kind of device.
        """
        self.unrestored = self.tile.restore(state["tile"])
        self.scale = state["scale"]

    def extra_repr(self) -> str:
        """Geometry, tile and scale, for printing."""
        return f"{self.geometry!r}, {self.tile!r}, scale={self.scale:g}"


class AihwkitNetwork(HostedNetwork):
    """A Hopfield network whose weights live on aihwkit tiles; made by `map_to_aihwkit`.

    Biases, activations, pooling and identity edges stay digital and exact.

    Args:
        network: whose layers, edges, weights and biases are taken over; it stays as it is.
        rpu_config: aihwkit's configuration of every tile.
        seed: of the devices.
        window_fraction: share of the tile's window that each edge's largest weight takes up.
    """

    def __init__(
        self, network: HopfieldNetwork, rpu_config: Any, *, seed: int, window_fraction: float
    ) -> None:
        first, window = network.biases[0], nominal_window(rpu_config)

        def storage(number: int, edge: Edge) -> AihwkitStorage:
            return AihwkitStorage(
                edge.geometry,
                rpu_config,
                seed=derive_seed(seed, "edge", number),
                window=window,
                window_fraction=window_fraction,
                dtype=first.dtype,
                where=first.device,
            )

        super().__init__(network, storage)
        self.program(rescale=True)

    @property
    def storages(self) -> list[AihwkitStorage]:
        """Storages of the edges that have weights, in edge order."""
        found = [edge.storage for edge in self.edge_list()]
        return [storage for storage in found if isinstance(storage, AihwkitStorage)]

    def program(self, *, rescale: bool = False) -> None:
        """Write the weights into all tiles (`AihwkitStorage.program`).

        Raises:
            ValueError: if a weight is not finite; nothing is written then.
        """
        self.check_finite()
        for storage in self.storages:
            storage.program(rescale=rescale)


def map_to_aihwkit(
    model: HopfieldNetwork, rpu_config: Any, *, seed: int = 0, window_fraction: float = 0.5
) -> AihwkitNetwork:
    """Put a network's weights on aihwkit tiles.

    Args:
        model: any network; it stays as it is.
        rpu_config: aihwkit's ``SingleRPUConfig``, ``UnitCellRPUConfig`` or
            ``DigitalRankUpdateRPUConfig``, e.g. one of ``aihwkit.simulator.presets``.  Its
            ``device``, ``forward``, ``backward``, ``update`` and ``runtime`` are used; ``mapping``
            and ``pre_post`` belong to aihwkit's layers and are not.
        seed: of the devices; replaces their ``construction_seed``.
        window_fraction: where in the tile's window each edge's largest weight is put, above 0 and
            at most 1; the rest is room for what learning adds.

    Returns:
        The same network on tiles; it settles like any other, and `learning_step` teaches it.

    Raises:
        ValueError: in one line, where aihwkit is missing or does not work with this torch, for
            another kind of configuration, or if a weight is not finite.
    """
    return AihwkitNetwork(model, rpu_config, seed=seed, window_fraction=window_fraction)


def _real_products(pre: Tensor, post: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Real products whose sum is the real part of ``pre x post``, without conjugation."""
    if not (pre.is_complex() or post.is_complex()):
        return [(pre, post)]
    kind = torch.promote_types(pre.dtype, post.dtype)
    pre, post = pre.to(kind), post.to(kind)
    return [(pre.real, post.real), (pre.imag, -post.imag)]
