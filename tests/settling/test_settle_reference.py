"""Settling against one that computes every current anew from the whole energy, by autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import Cost, CrossEntropy, HopfieldNetwork, SquaredError
from neurosim_ep.settling import settle, settle_nudged, update_groups

Networks = Callable[..., st.SearchStrategy[HopfieldNetwork]]
RandomStates = Callable[[HopfieldNetwork, int, int], list[Tensor]]
NaiveSettle = Callable[..., list[Tensor]]

CHAIN = {
    "coloured": [[1, 3], [2, 4]],
    "asynchronous": [[1, 3], [2, 4]],
    "synchronous": [[1, 2, 3, 4]],
    "forward": [[1], [2], [3], [4]],
    "backward": [[4], [3], [2], [1]],
}
PYRAMID = {
    "coloured": [[1, 3, 5], [2, 4]],
    "asynchronous": [[1, 3, 5], [2, 4]],
    "synchronous": [[1, 2, 3, 4, 5]],
    "forward": [[1], [2], [3], [4], [5]],
    "backward": [[5], [4], [3], [2], [1]],
}
RESNET = {
    "coloured": [[1, 3, 5, 7, 9], [2, 6], [4, 8]],
    "asynchronous": [[1, 3, 5, 7, 9], [2, 4, 6, 8]],
    "synchronous": [[1, 2, 3, 4, 5, 6, 7, 8, 9]],
    "forward": [[layer] for layer in range(1, 10)],
    "backward": [[layer] for layer in range(9, 0, -1)],
}
CASES = [
    pytest.param(name, order, groups, id=f"{name} {order}")
    for name, orders in (("mlp", CHAIN), ("vgg5", PYRAMID), ("hopfield_resnet13", RESNET))
    for order, groups in orders.items()
]


def close(results: object, expected: list[Tensor], relative: float = 1e-10) -> None:
    """Every layer equal to rounding of its largest state."""
    for result, reference in zip(list(results), expected, strict=True):  # type: ignore[call-overload]
        scale = 1.0 + float(reference.abs().max())
        torch.testing.assert_close(result, reference, rtol=0, atol=relative * scale)


@pytest.mark.parametrize(("name", "order", "groups"), CASES)
def test_free_phase(
    narrow: Callable[..., HopfieldNetwork],
    random_states: RandomStates,
    naive_settle: NaiveSettle,
    name: str,
    order: str,
    groups: list[list[int]],
) -> None:
    network = narrow(name)
    images = random_states(network, 3, 2)[0]
    rest = [images, *(images.new_zeros(3, *layer.shape) for layer in network.layers[1:])]
    for iterations in (1, 2, 9):
        settled = settle(network, images, iterations=iterations, order=order)
        assert settled.iterations == iterations
        close(settled, naive_settle(network, rest, groups, iterations))


@pytest.mark.parametrize("cost", [SquaredError(), CrossEntropy()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize(("name", "order", "groups"), CASES)
def test_nudged_phase(
    narrow: Callable[..., HopfieldNetwork],
    random_states: RandomStates,
    naive_settle: NaiveSettle,
    name: str,
    order: str,
    groups: list[list[int]],
    cost: Cost,
) -> None:
    network = narrow(name)
    free = random_states(network, 2, 3)
    targets = cost.targets(torch.tensor([3, 1]), 4, torch.float64)
    expected = naive_settle(network, free, groups, 6, -0.4, cost, targets)
    close(settle_nudged(network, free, targets, [-0.4], cost, iterations=6, order=order), expected)


@given(
    data=st.data(),
    seed=st.integers(0, 2**31),
    order=st.sampled_from(["coloured", "asynchronous", "synchronous", "forward", "backward"]),
)
@settings(deadline=None, max_examples=60)
def test_any_network(
    networks: Networks,
    random_states: RandomStates,
    naive_settle: NaiveSettle,
    data: st.DataObject,
    seed: int,
    order: str,
) -> None:
    network = data.draw(networks())
    states = random_states(network, 2, seed)
    groups = update_groups(network, order)
    settled = settle(network, states[0], iterations=3, order=order, initial=states)
    close(settled, naive_settle(network, states, groups, 3), 1e-9)


def test_coloured_by_default(narrow: Callable[..., HopfieldNetwork]) -> None:
    network = narrow("hopfield_resnet13")
    images = torch.ones(1, 2, 16, 16, dtype=torch.float64)
    default = settle(network, images, iterations=4)
    for order, same in (("coloured", True), ("asynchronous", False)):
        other = settle(network, images, iterations=4, order=order)
        assert torch.equal(default.output, other.output) == same
    assert settle(network, images).iterations == 120
