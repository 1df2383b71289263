"""Nudged phases as one batch, and nudging with beta 0."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import Cost, CrossEntropy, HopfieldNetwork, SquaredError
from neurosim_ep.settling import ORDERS, settle, settle_nudged

Narrow = Callable[..., HopfieldNetwork]
Networks = Callable[..., st.SearchStrategy[HopfieldNetwork]]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
COSTS = [SquaredError(), CrossEntropy()]
NAMES = ["mlp", "vgg5", "hopfield_resnet13"]


@pytest.mark.parametrize("reads", ["full", "delta"])
@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
@pytest.mark.parametrize("name", NAMES)
def test_phases_do_not_see_each_other(
    narrow: Narrow, random_states: RandomStates, name: str, cost: Cost, reads: str
) -> None:
    """Image b of phase k is at k B + b of the batch, as if the phase had settled alone."""
    network = narrow(name)
    free = random_states(network, 3, 0)
    targets = cost.targets(torch.tensor([2, 0, 3]), 4, torch.float64)
    betas = [0.4, -0.3, 0.0]
    together = settle_nudged(network, free, targets, betas, cost, iterations=8, reads=reads)
    assert together.residual.shape == (9,)
    for phase, beta in enumerate(betas):
        alone = settle_nudged(network, free, targets, [beta], cost, iterations=8, reads=reads)
        here = slice(3 * phase, 3 * phase + 3)
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(all_[here], one, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.residual[here], alone.residual, rtol=1e-9, atol=1e-12)
    outputs = together.output.unflatten(0, (3, 3))  # type: ignore[no-untyped-call]
    assert (outputs[0] - outputs[1]).norm() > 1e-3
    assert (outputs[0] - outputs[2]).norm() > 1e-3


@given(
    data=st.data(),
    seed=st.integers(0, 2**31),
    betas=st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=3),
    order=st.sampled_from(ORDERS),
)
@settings(deadline=None, max_examples=40)
def test_phases_of_any_network(
    networks: Networks,
    random_states: RandomStates,
    data: st.DataObject,
    seed: int,
    betas: list[float],
    order: str,
) -> None:
    network, cost = data.draw(networks()), SquaredError()
    free = random_states(network, 2, seed)
    targets = torch.ones_like(free[-1])
    together = settle_nudged(network, free, targets, betas, cost, iterations=2, order=order)
    for phase, beta in enumerate(betas):
        alone = settle_nudged(network, free, targets, [beta], cost, iterations=2, order=order)
        for one, all_ in zip(alone, together, strict=True):
            scale = 1.0 + float(one.abs().max())
            torch.testing.assert_close(
                all_[2 * phase : 2 * phase + 2], one, rtol=0, atol=1e-10 * scale
            )


@pytest.mark.parametrize("name", NAMES)
def test_beta_zero_goes_on_with_the_free_phase(
    narrow: Narrow, random_states: RandomStates, name: str
) -> None:
    network, cost = narrow(name), SquaredError()
    images = random_states(network, 2, 1)[0]
    free = settle(network, images, iterations=3)
    targets = torch.ones(2, 4, dtype=torch.float64)
    nudged = settle_nudged(network, free, targets, [0.0], cost, iterations=5)
    for result, expected in zip(nudged, settle(network, images, iterations=8), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_nudging_moves_the_cost_in_its_direction(
    narrow: Narrow, random_states: RandomStates, cost: Cost
) -> None:
    network = narrow("hopfield_resnet13")
    free = settle(network, random_states(network, 4, 2)[0])
    targets = cost.targets(torch.arange(4), 4, torch.float64)
    nudged = settle_nudged(network, free, targets, [0.3, -0.3], cost)
    lower, higher = cost.value(nudged.output, targets.repeat(2, 1)).chunk(2)
    value = cost.value(free.output, targets)
    assert (lower < value).all()
    assert (higher > value).all()
