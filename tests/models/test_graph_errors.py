"""Graphs that are refused, with the edge, the layer and what would fit."""

from __future__ import annotations

import re

import pytest

from neurosim_ep.models import Convolution, Dense, Edge, HopfieldNetwork, Layer, PooledConvolution

THREE = [Layer((3,)), Layer((4,)), Layer((2,))]


def dense(pre: int, post: int) -> Edge:
    """A dense edge that fits layers of `THREE`."""
    shapes = {0: (3,), 1: (4,), 2: (2,)}
    return Edge(pre, post, Dense(shapes.get(pre, (1,)), shapes.get(post, (1,))))


REFUSED = [
    ([], [], "layers: 0 is not allowed; must be at least 2"),
    (THREE[:1], [], "layers: 1 is not allowed; must be at least 2"),
    (THREE, [dense(0, 1), dense(1, 3)], "edges[1]: layer 3 is not allowed; must be 0 to 2"),
    (THREE, [dense(-1, 1)], "edges[0]: layer -1 is not allowed; must be 0 to 2"),
    (THREE, [dense(0, 1), dense(1, 1)], "edges[1]: 1 -> 1 joins a layer to itself"),
    (
        THREE,
        [dense(0, 1), Edge(1, 2, Dense((4,), (3,)))],
        "edges[1]: shapes (4,) -> (3,) are not allowed; layers 1 -> 2 have (4,) -> (2,)",
    ),
    (
        [Layer((1, 4, 4)), Layer((2, 4, 4))],
        [Edge(0, 1, PooledConvolution((1, 4, 4), 2, kernel=3, padding=1))],
        "edges[0]: shapes (1, 4, 4) -> (2, 2, 2) are not allowed; layers 0 -> 1 have (1, 4, 4) -> "
        "(2, 4, 4)",
    ),
    (
        [Layer((1, 4, 4)), Layer((2, 4, 4))],
        [Edge(1, 0, Convolution((1, 4, 4), 2, kernel=1))],
        "edges[0]: shapes (1, 4, 4) -> (2, 4, 4) are not allowed; layers 1 -> 0 have (2, 4, 4) -> "
        "(1, 4, 4)",
    ),
    (THREE, [dense(0, 1)], "edges: layer 2 is not connected to the input"),
    (THREE, [dense(1, 2)], "edges: layer 1 is not connected to the input"),
    (THREE, [], "edges: layer 1 is not connected to the input"),
]


@pytest.mark.parametrize(
    ("layers", "edges", "message"), REFUSED, ids=[message for *_, message in REFUSED]
)
def test_refused(layers: list[Layer], edges: list[Edge], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        HopfieldNetwork(layers, edges)


def test_an_edge_backwards_connects_too() -> None:
    network = HopfieldNetwork(THREE, [dense(2, 0), dense(1, 2)])
    assert network.neighbours(0) == {2}


def test_the_smallest_network() -> None:
    network = HopfieldNetwork([Layer((3,)), Layer((2,))], [Edge(0, 1, Dense((3,), (2,)))])
    assert len(list(network.parameters())) == 2
