"""Delta reads give what full reads give, and drive only what has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import Cost, CrossEntropy, HopfieldNetwork, NoiseSum, SquaredError, Storage
from neurosim_ep.settling import ORDERS, settle, settle_nudged

Narrow = Callable[..., HopfieldNetwork]
Networks = Callable[..., st.SearchStrategy[HopfieldNetwork]]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
EXACT = 1e-12


def both(
    network: HopfieldNetwork,
    free: Sequence[Tensor],
    betas: Sequence[complex],
    cost: Cost,
    **options: Any,
) -> tuple[list[Tensor], list[Tensor]]:
    """States after full and after delta reads."""
    labels = torch.arange(free[0].shape[0]) % network.num_outputs
    targets = cost.targets(labels, network.num_outputs, torch.float64)
    full, delta = (
        settle_nudged(network, free, targets, betas, cost, reads=reads, **options).tensors
        for reads in ("full", "delta")
    )
    return full, delta


def close(full: list[Tensor], delta: list[Tensor], relative: float = EXACT) -> None:
    """Every layer equal to rounding of its largest state."""
    for expected, result in zip(full, delta, strict=True):
        scale = 1.0 + float(expected.abs().max())
        torch.testing.assert_close(result, expected, rtol=0, atol=relative * scale)


@pytest.mark.parametrize("cost", [SquaredError(), CrossEntropy()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["mlp", "vgg5", "hopfield_resnet13"])
def test_from_the_free_states(
    narrow: Narrow, random_states: RandomStates, name: str, order: str, cost: Cost
) -> None:
    network = narrow(name)
    free = settle(network, random_states(network, 3, 0)[0], iterations=30, order=order)
    full, delta = both(network, free, [0.3, -0.3, 0.0], cost, iterations=20, order=order)
    close(full, delta)
    assert (full[-1][:3] - free.output).norm() > 1e-3


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["mlp", "vgg5", "hopfield_resnet13"])
def test_complex_phases(narrow: Narrow, random_states: RandomStates, name: str, order: str) -> None:
    network = narrow(name, activation="sigmoid")
    free = settle(network, random_states(network, 3, 1)[0], iterations=30, order=order)
    betas = [0.3 + 0.2j, -0.1j, complex(-0.3)]
    full, delta = both(network, free, betas, SquaredError(), iterations=20, order=order)
    close(full, delta)
    assert full[1].imag.norm() > 1e-6


@given(data=st.data(), seed=st.integers(0, 2**31), order=st.sampled_from(ORDERS))
@settings(deadline=None, max_examples=60)
def test_any_network_with_other_free_states(
    networks: Networks, random_states: RandomStates, data: st.DataObject, seed: int, order: str
) -> None:
    """The reference need not be an equilibrium.

    Sigmoids only: at the bounds of ReLU-alpha two currents of a pooling window may be equal, and
    rounding decides which one wins.
    """
    network = data.draw(networks(holomorphic=True, gains=(0.3, 1.0)))
    betas: list[complex] = data.draw(st.sampled_from([[0.5, -0.5], [0.5j, 0.3 - 0.3j]]))
    full, delta = both(
        network, random_states(network, 2, seed), betas, SquaredError(), iterations=2, order=order
    )
    close(full, delta, 1e-10)


class Listening(Storage):
    """Keeps the largest absolute value that drives each read."""

    def __init__(self, exact: Storage) -> None:
        super().__init__(exact.geometry)
        self.exact = exact
        self.driven: list[float] = []

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        self.driven.append(float(pre.abs().max()))
        return self.exact.forward_read(pre)

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        self.driven.append(float(currents.abs().max()))
        return self.exact.transposed_read(currents)


@pytest.mark.parametrize("name", ["mlp", "vgg5", "hopfield_resnet13"])
def test_only_the_change_is_driven(narrow: Narrow, random_states: RandomStates, name: str) -> None:
    network, beta = narrow(name), 1e-4
    free = settle(network, random_states(network, 2, 2)[0], iterations=300, tolerance=1e-13)
    assert free.settled.all()
    listeners = []
    for edge in network.edge_list():
        edge.storage = Listening(edge.storage)
        listeners.append(edge.storage)
    both(network, free, [beta, -beta], SquaredError(), iterations=9)
    for edge, listener in zip(network.edge_list(), listeners, strict=True):
        if edge.pre == 0:
            continue
        # Half of the reads are full reads; two more read the free states in both directions.
        count = len(listener.driven) // 2 - 1
        whole, free_reads = listener.driven[:count], listener.driven[count : count + 2]
        change = listener.driven[count + 2 :]
        assert count == len(change)
        assert min(*whole, *free_reads) > 1e-2
        assert max(change) < 30 * beta
        assert max(change) > 0.0
