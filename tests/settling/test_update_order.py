"""Groups of layers that are updated together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim_ep.models import Dense, Edge, HopfieldNetwork, Layer
from neurosim_ep.settling import ORDERS, update_groups


def graph(layers: int, pairs: list[tuple[int, int]]) -> HopfieldNetwork:
    """A network of single units."""
    edges = [Edge(pre, post, Dense((1,), (1,))) for pre, post in pairs]
    return HopfieldNetwork([Layer((1,))] * layers, edges)


@st.composite
def graphs(draw: st.DrawFn) -> HopfieldNetwork:
    """Any connected graph of up to 10 layers, with edges in both directions."""
    layers = draw(st.integers(2, 10))
    pairs = [(draw(st.integers(0, layer - 1)), layer) for layer in range(1, layers)]
    ends = st.tuples(st.integers(0, layers - 1), st.integers(0, layers - 1))
    pairs += [pair for pair in draw(st.lists(ends, max_size=15)) if pair[0] != pair[1]]
    flips = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    turned = [pair[::-1] if flip else pair for pair, flip in zip(pairs, flips, strict=True)]
    return graph(layers, turned)


@given(network=graphs())
@settings(deadline=None, max_examples=200)
def test_coloured_groups_hold_no_connected_layers(network: HopfieldNetwork) -> None:
    groups = update_groups(network, "coloured")
    for edge in network.edges:
        assert not any(edge.pre in group and edge.post in group for group in groups)


@given(network=graphs(), order=st.sampled_from(ORDERS))
@settings(deadline=None, max_examples=200)
def test_every_free_layer_is_updated_once(network: HopfieldNetwork, order: str) -> None:
    groups = update_groups(network, order)
    updated = sorted(layer for group in groups for layer in group)
    assert updated == list(range(1, len(network.layers)))
    assert all(groups)


def test_colouring_needs_few_groups(narrow: Callable[..., HopfieldNetwork]) -> None:
    chain = [[1, 3, 5], [2, 4]]
    assert update_groups(narrow("vgg5"), "coloured") == chain
    assert update_groups(narrow("mlp"), "coloured") == [[1, 3], [2, 4]]
    for skip in ("conv1x1", "identity"):
        network = narrow("hopfield_resnet13", skip=skip)
        assert update_groups(network, "coloured") == [[1, 3, 5, 7, 9], [2, 6], [4, 8]]
    without = narrow("hopfield_resnet13", skip=None)
    assert update_groups(without, "coloured") == [[1, 3, 5, 7, 9], [2, 4, 6, 8]]


def test_the_input_separates_nothing() -> None:
    star = graph(5, [(0, layer) for layer in range(1, 5)])
    assert update_groups(star, "coloured") == [[1, 2, 3, 4]]


def test_fully_connected_layers_go_one_by_one() -> None:
    pairs = [(pre, post) for post in range(1, 5) for pre in range(post)]
    assert update_groups(graph(5, pairs), "coloured") == [[1], [2], [3], [4]]


def test_other_orders() -> None:
    chain = graph(6, [(layer, layer + 1) for layer in range(5)])
    assert update_groups(chain, "synchronous") == [[1, 2, 3, 4, 5]]
    assert update_groups(chain, "asynchronous") == [[1, 3, 5], [2, 4]]
    assert update_groups(chain, "forward") == [[1], [2], [3], [4], [5]]
    assert update_groups(chain, "backward") == [[5], [4], [3], [2], [1]]
    assert update_groups(graph(2, [(0, 1)]), "asynchronous") == [[1]]


def test_asynchronous_ignores_the_graph(narrow: Callable[..., HopfieldNetwork]) -> None:
    groups = update_groups(narrow("hopfield_resnet13"), "asynchronous")
    assert groups == [[1, 3, 5, 7, 9], [2, 4, 6, 8]]


@pytest.mark.parametrize("order", ["colored", "", "Forward"])
def test_unknown_orders_are_refused(order: str) -> None:
    names = "coloured, asynchronous, synchronous, forward, backward"
    message = f"^order: {order!r} is not allowed; must be one of {names}$"
    with pytest.raises(ValueError, match=message):
        update_groups(graph(2, [(0, 1)]), order)
