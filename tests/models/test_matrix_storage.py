"""Any storage that reads a geometry's matrix can stand in for a weight tensor.

This is the interface that simulated arrays use: `unroll`, `matrix`, `to_columns`, `from_columns`
and `fold`, with nothing asked of the weight tensor once the matrix is taken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import (
    ExactStorage,
    HopfieldNetwork,
    NoiseSum,
    SquaredError,
    Storage,
    hopfield_resnet13,
    mlp,
    vgg5,
)
from neurosim_ep.settling import settle, settle_nudged

CLOSE = 1e-9
NETWORKS: dict[str, Callable[[], HopfieldNetwork]] = {
    "mlp": lambda: mlp((2, 5, 4), 3, (7, 6)),
    "vgg5": lambda: vgg5(2, 3, (3, 4, 3, 5), image_size=16, gains=[1.0] * 5),
    "hopfield_resnet13": lambda: hopfield_resnet13(2, 3, (3, 4, 3, 5), image_size=17),
    "hopfield_resnet13 identity": lambda: hopfield_resnet13(
        2, 3, (3, 4, 3, 5), image_size=16, skip="identity"
    ),
}


class MatrixStorage(Storage):
    """A matrix of conductances without a weight tensor."""

    def __init__(self, exact: ExactStorage) -> None:
        super().__init__(exact.geometry)
        self.conductances = exact.geometry.matrix(exact.weight.detach()).clone()
        self.gradient = torch.zeros_like(self.conductances)

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """Rows driven, columns sensed."""
        return self.geometry.from_columns(self.geometry.unroll(pre) @ self.conductances)

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """Columns driven, rows sensed."""
        return self.geometry.fold(self.geometry.to_columns(currents) @ self.conductances.T)

    def accumulate_gradient(self, pre: Tensor, post: Tensor) -> None:
        """Outer products at the crossing points."""
        rows, columns = self.geometry.unroll(pre), self.geometry.to_columns(post)
        self.gradient -= torch.einsum("bpr,bpc->rc", rows, columns)


@pytest.fixture(params=NETWORKS, scope="module")
def pair(request: pytest.FixtureRequest) -> tuple[HopfieldNetwork, HopfieldNetwork, Tensor]:
    """An exact network, its copy made of matrices, and images."""
    exact = NETWORKS[request.param]().double()
    arrays = copy.deepcopy(exact)
    for edge in arrays.edge_list():
        if isinstance(edge.storage, ExactStorage):
            edge.storage = MatrixStorage(edge.storage)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn((3, *exact.layers[0].shape), generator=generator, dtype=torch.float64)
    return exact, arrays, images


def test_no_weight_tensor_is_left(
    pair: tuple[HopfieldNetwork, HopfieldNetwork, Tensor],
) -> None:
    exact, arrays, _ = pair
    assert len(list(arrays.parameters())) == len(exact.layers) - 1
    assert arrays.weights == []


def test_settled_states_agree(pair: tuple[HopfieldNetwork, HopfieldNetwork, Tensor]) -> None:
    exact, arrays, images = pair
    expected = settle(exact, images, iterations=40)
    states = settle(arrays, images, iterations=40)
    for layer in exact.free_layers:
        assert expected[layer].norm() > 0.1
        torch.testing.assert_close(states[layer], expected[layer], rtol=CLOSE, atol=CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(
            arrays.energy(states), exact.energy(expected), rtol=CLOSE, atol=CLOSE
        )


@pytest.mark.parametrize("reads", ["full", "delta"])
def test_nudged_states_and_gradients_agree(
    pair: tuple[HopfieldNetwork, HopfieldNetwork, Tensor], reads: str
) -> None:
    exact, arrays, images = pair
    targets = SquaredError().targets(torch.tensor([0, 2, 1]), 3, images.dtype)
    results = []
    for network in (exact, arrays):
        free = settle(network, images, iterations=40)
        results.append(
            settle_nudged(network, free, targets, [0.3, -0.3], SquaredError(), reads=reads)
        )
    for expected, state in zip(results[0], results[1], strict=True):
        torch.testing.assert_close(state, expected, rtol=CLOSE, atol=CLOSE)
    for reference, edge in zip(exact.edge_list(), arrays.edge_list(), strict=True):
        if not isinstance(reference.storage, ExactStorage):
            continue
        assert isinstance(edge.storage, MatrixStorage)
        pre, post = results[0][edge.pre], results[0][edge.post]
        with torch.no_grad():
            _, winners = edge.geometry.pool(reference.storage.forward_read(pre))
        currents = edge.geometry.unpool(post, winners)
        reference.storage.weight.grad = None
        edge.storage.gradient.zero_()
        for storage in (reference.storage, edge.storage):
            storage.accumulate_gradient(pre, currents)
        assert reference.storage.weight.grad is not None
        expected = edge.geometry.matrix(reference.storage.weight.grad)
        assert expected.norm() > 0.0
        torch.testing.assert_close(edge.storage.gradient, expected, rtol=CLOSE, atol=CLOSE)
