"""Currents that are exactly equal: a delta read must not let rounding choose the winner."""

from __future__ import annotations

import torch

from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    HopfieldNetwork,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    SquaredError,
)
from neurosim_ep.settling import READS, settle, settle_nudged


def test_states_at_their_bound_make_ties_that_delta_reads_settle_alike() -> None:
    # Found by search: in iteration 21 one window holds two exactly equal largest currents.
    draw = torch.Generator().manual_seed(585)
    layers = [
        Layer((1, 8, 8)),
        Layer((2, 8, 8), ReLUAlpha(1.0)),
        Layer((2, 4, 4), ReLUAlpha(1.0)),
        Layer((2,)),
    ]
    edges = [
        Edge(0, 1, Convolution((1, 8, 8), 2, 3, 1, 1)),
        Edge(1, 2, PooledConvolution((2, 8, 8), 2, 3, 1, 1)),
        Edge(2, 3, Dense((2, 4, 4), (2,))),
    ]
    network = HopfieldNetwork(layers, edges).double()
    with torch.no_grad():
        for bias in network.biases:
            bias.copy_(torch.randn(bias.shape, generator=draw, dtype=torch.float64))
        for weight in network.weights:
            weight.copy_(0.6 * torch.randn(weight.shape, generator=draw, dtype=torch.float64))
    images = torch.randn(2, 1, 8, 8, generator=draw).double()
    free = settle(network, images, iterations=60)
    full, delta = (
        settle_nudged(
            network,
            free,
            torch.eye(2, dtype=torch.float64),
            [0.7, -0.7],
            SquaredError(),
            iterations=40,
            reads=reads,
        )
        for reads in READS
    )
    for one, other in zip(full, delta, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)


def test_within_the_margin_the_first_wins_and_its_own_current_is_pooled() -> None:
    edge = PooledConvolution((1, 4, 4), 1, 3, 1, 1)
    currents = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    currents[0, 0, 0, 0], currents[0, 0, 1, 1] = 1.0, 1.0 + 1e-9
    _, exact = edge.pool(currents)
    pooled, first = edge.pool(currents, tie_margin=1e-8)
    assert (int(exact[0, 0, 0, 0]), int(first[0, 0, 0, 0])) == (5, 0)
    assert float(pooled[0, 0, 0, 0]) == 1.0
    currents[0, 0, 1, 1] = 1.1
    assert int(edge.pool(currents, tie_margin=1e-8)[1][0, 0, 0, 0]) == 5
