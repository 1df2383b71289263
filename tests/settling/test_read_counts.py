"""How often each edge is read while settling, in each direction, and of how many images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork, SquaredError
from neurosim_ep.settling import ORDERS, settle, settle_nudged, update_groups

Narrow = Callable[..., HopfieldNetwork]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
Counters = Callable[[HopfieldNetwork], list[Any]]
ITERATIONS, BATCH = 7, 3
NAMES = ["mlp", "vgg5", "hopfield_resnet13"]


def expected_forward(network: HopfieldNetwork, number: int, order: str) -> int:
    """Forward reads of one edge in a settling of `ITERATIONS`.

    Both directions of a pooled edge need the forward read of the present pre state.  It serves the
    other direction too; only where the pre layer goes first does its first update need one more.
    """
    edge = network.edge_list()[number]
    if edge.pre == 0:
        return 1
    if not edge.geometry.pooled:
        return ITERATIONS
    groups = update_groups(network, order)
    place = {layer: index for index, group in enumerate(groups) for layer in group}
    return ITERATIONS + (place[edge.pre] < place[edge.post])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NAMES)
def test_free_phase(
    narrow: Narrow, random_states: RandomStates, count_reads: Counters, name: str, order: str
) -> None:
    network = narrow(name)
    counters = count_reads(network)
    settle(network, random_states(network, BATCH, 0)[0], iterations=ITERATIONS, order=order)
    for number, (edge, counter) in enumerate(zip(network.edge_list(), counters, strict=True)):
        forward = expected_forward(network, number, order)
        assert counter.forward_batches == [BATCH] * forward
        backward = 0 if edge.pre == 0 else ITERATIONS
        assert counter.transposed_batches == [BATCH] * backward


def test_coloured_vgg5_in_numbers(
    narrow: Narrow, random_states: RandomStates, count_reads: Counters
) -> None:
    network = narrow("vgg5")
    counters = count_reads(network)
    settle(network, random_states(network, 1, 0)[0], iterations=ITERATIONS)
    assert [len(counter.forward_batches) for counter in counters] == [1, 8, 7, 8, 7]
    assert [len(counter.transposed_batches) for counter in counters] == [0, 7, 7, 7, 7]


def test_a_tolerance_reads_no_more(
    narrow: Narrow, random_states: RandomStates, count_reads: Counters
) -> None:
    network = narrow("hopfield_resnet13")
    counters = count_reads(network)
    images = random_states(network, BATCH, 0)[0]
    states = settle(network, images, iterations=300, tolerance=1e-4)
    assert 1 < states.iterations < 300
    for edge, counter in zip(network.edge_list(), counters, strict=True):
        assert len(counter.forward_batches) == (states.iterations if edge.pre else 1)
        assert len(counter.transposed_batches) == (states.iterations if edge.pre else 0)


@pytest.mark.parametrize("reads", ["full", "delta"])
@pytest.mark.parametrize("order", ["coloured", "backward"])
@pytest.mark.parametrize("name", NAMES)
def test_nudged_phases(
    narrow: Narrow,
    random_states: RandomStates,
    count_reads: Counters,
    name: str,
    order: str,
    reads: str,
) -> None:
    """All phases are read at once; delta reads add one read of the free states per direction.

    The winners are held: only a pooled edge whose pre layer changed last is read once more.
    """
    network = narrow(name)
    counters = count_reads(network)
    free = random_states(network, BATCH, 1)
    targets = torch.ones(BATCH, 4, dtype=torch.float64)
    settle_nudged(
        network,
        free,
        targets,
        [0.1, 0.0, -0.1],
        SquaredError(),
        iterations=ITERATIONS,
        order=order,
        reads=reads,
    )
    extra = [BATCH] if reads == "delta" else []
    groups = update_groups(network, order)
    place = {layer: n for n, group in enumerate(groups) for layer in group} | {0: -1}
    for number, (edge, counter) in enumerate(zip(network.edge_list(), counters, strict=True)):
        forward = expected_forward(network, number, order)
        forward += edge.geometry.pooled and place[edge.pre] > place[edge.post]
        if edge.pre == 0:
            assert counter.forward_batches == [BATCH]
            assert counter.transposed_batches == []
        else:
            assert counter.forward_batches == extra + [3 * BATCH] * forward
            assert counter.transposed_batches == extra + [3 * BATCH] * ITERATIONS
