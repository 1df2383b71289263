"""Weights as tensors: complex reads, gradients, and the storage of edges without weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import Convolution, Dense, ExactStorage, Geometry, Identity, NoStorage

EXACT = 1e-12


def filled(geometry: Geometry, draw: Any) -> ExactStorage:
    """An exact storage in float64 with random weights."""
    storage = ExactStorage(geometry).double()
    with torch.no_grad():
        storage.weight.copy_(draw(*storage.weight.shape))
    return storage


def holomorphic_gradient(geometry: Geometry, pre: Tensor, post: Tensor) -> Tensor:
    """-Re sum <post, linear(pre)> without conjugation, differentiated by autograd in parts."""
    assert geometry.weight_shape is not None
    weight = torch.zeros(geometry.weight_shape, dtype=torch.float64, requires_grad=True)
    real = geometry.linear(pre.real, weight) * post.real
    imaginary = geometry.linear(pre.imag, weight) * post.imag
    (gradient,) = torch.autograd.grad(-(real - imaginary).sum(), weight)
    return gradient


def test_complex_reads_are_linear(weighted: Geometry, draw: Any) -> None:
    storage = filled(weighted, draw)
    pre = draw.complex(2, *weighted.pre_shape)
    currents = draw.complex(2, *weighted.linear_shape)
    with torch.no_grad():
        forward, transposed = storage.forward_read(pre), storage.transposed_read(currents)
        for part in ("real", "imag"):
            torch.testing.assert_close(
                getattr(forward, part),
                weighted.linear(getattr(pre, part), storage.weight),
                rtol=EXACT,
                atol=EXACT,
            )
            torch.testing.assert_close(
                getattr(transposed, part),
                weighted.transposed(getattr(currents, part), storage.weight),
                rtol=EXACT,
                atol=EXACT,
            )


def test_gradients_add_up(weighted: Geometry, draw: Any) -> None:
    storage = filled(weighted, draw)
    expected = torch.zeros_like(storage.weight)
    for _ in range(2):
        pre, post = draw(2, *weighted.pre_shape), draw(2, *weighted.linear_shape)
        value = -(weighted.linear(pre, storage.weight) * post).sum()
        expected += torch.autograd.grad(value, storage.weight)[0]
        storage.accumulate_gradient(pre, post)
    assert storage.weight.grad is not None
    torch.testing.assert_close(storage.weight.grad, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("kinds", ["both", "pre", "post"])
def test_complex_gradients_are_not_conjugated(weighted: Geometry, kinds: str, draw: Any) -> None:
    storage = filled(weighted, draw)
    pre = draw.complex(2, *weighted.pre_shape)
    post = draw.complex(2, *weighted.linear_shape)
    if kinds != "both":
        pre, post = (pre.real, post) if kinds == "post" else (pre, post.real)
    storage.accumulate_gradient(pre, post)
    expected = holomorphic_gradient(weighted, pre + 0j, post + 0j)
    assert storage.weight.grad is not None
    assert not storage.weight.grad.is_complex()
    torch.testing.assert_close(storage.weight.grad, expected, rtol=EXACT, atol=EXACT)


def test_gradients_do_not_change_what_they_are_given(weighted: Geometry, draw: Any) -> None:
    storage = filled(weighted, draw)
    pre, post = draw(2, *weighted.pre_shape), draw(2, *weighted.linear_shape)
    before = pre.clone(), post.clone(), storage.weight.detach().clone()
    storage.accumulate_gradient(pre, post)
    for tensor, copy in zip((pre, post, storage.weight), before, strict=True):
        assert torch.equal(tensor, copy)


def test_weights_start_at_zero_in_the_geometrys_layout() -> None:
    convolution = ExactStorage(Convolution((4, 6, 6), 3, kernel=3))
    assert not convolution.weight.any()
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not ExactStorage(Dense((3,), (2,))).weight.any()


def test_an_exact_storage_needs_weights() -> None:
    message = "geometry: Identity((3,), (3,), strength=1) is not allowed; must have weights"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ExactStorage(Identity((3,), (3,)))


def test_an_identity_edge_holds_nothing(identity: Identity, draw: Any) -> None:
    storage = NoStorage(identity)
    pre, currents = draw(2, *identity.pre_shape), draw(2, *identity.linear_shape)
    assert torch.equal(storage.forward_read(pre), identity.linear(pre))
    assert torch.equal(storage.transposed_read(currents), identity.transposed(currents))
    storage.accumulate_gradient(pre, currents)
    assert not list(storage.parameters())
    assert repr(identity) in repr(storage)


def test_an_identity_edge_reads_complex_states(identity: Identity, draw: Any) -> None:
    storage = NoStorage(identity)
    pre = draw.complex(2, *identity.pre_shape)
    currents = draw.complex(2, *identity.linear_shape)
    forward, transposed = storage.forward_read(pre), storage.transposed_read(currents)
    assert torch.equal(forward.imag, identity.linear(pre.imag))
    assert torch.equal(transposed.imag, identity.transposed(currents.imag))
