"""Pooling and un-pooling against a loop over windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import Convolution, Dense, Identity, PooledConvolution

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def best_place(currents: Tensor, b: int, c: int, y: int, x: int) -> tuple[int, int]:
    """Row and column of the largest real part in one 2x2 window."""
    window = itertools.product((2 * y, 2 * y + 1), (2 * x, 2 * x + 1))
    return max(window, key=lambda place: float(currents[b, c, place[0], place[1]].real))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_pool_takes_the_largest_real_part(
    pooled: PooledConvolution, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(1)
    currents = torch.randn((2, *pooled.linear_shape), generator=generator, dtype=dtype)
    result, winners = pooled.pool(currents.to(memory_format=layout))
    assert result.dtype == dtype
    assert result.shape == winners.shape == (2, *pooled.post_shape)
    width = pooled.linear_shape[2]
    for b, c, y, x in itertools.product(*map(range, result.shape)):
        row, column = best_place(currents, b, c, y, x)
        assert result[b, c, y, x] == currents[b, c, row, column]
        assert winners[b, c, y, x] == row * width + column


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_unpool_puts_states_at_the_winners(
    pooled: PooledConvolution, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(2)
    currents = torch.randn((2, *pooled.linear_shape), generator=generator, dtype=dtype)
    _, winners = pooled.pool(currents)
    post = torch.randn((2, *pooled.post_shape), generator=generator, dtype=dtype)
    expected = torch.zeros_like(currents)
    for b, c, y, x in itertools.product(*map(range, post.shape)):
        expected[(b, c, *best_place(currents, b, c, y, x))] = post[b, c, y, x]
    assert torch.equal(pooled.unpool(post.to(memory_format=layout), winners), expected)


def test_unpool_is_the_adjoint_of_pool_at_its_winners(
    pooled: PooledConvolution, draw: Callable[..., Tensor]
) -> None:
    currents, post = draw(2, *pooled.linear_shape), draw(2, *pooled.post_shape)
    result, winners = pooled.pool(currents)
    spread = pooled.unpool(post, winners)
    torch.testing.assert_close((result * post).sum(), (currents * spread).sum())


def test_unpool_is_what_autograd_does(
    pooled: PooledConvolution, draw: Callable[..., Tensor]
) -> None:
    currents = draw(2, *pooled.linear_shape).requires_grad_()
    post = draw(2, *pooled.post_shape)
    result, winners = pooled.pool(currents)
    (expected,) = torch.autograd.grad((result * post).sum(), currents)
    assert torch.equal(pooled.unpool(post, winners), expected)


def test_the_imaginary_part_does_not_decide() -> None:
    pooled = PooledConvolution((1, 2, 2), 1, kernel=1)
    currents = torch.tensor([[[[1 + 9j, 2 - 5j], [-3 + 0j, 1.5 + 99j]]]], dtype=torch.complex128)
    result, winners = pooled.pool(currents)
    assert result.item() == 2 - 5j
    assert winners.item() == 1


def test_unpool_needs_winners(pooled: PooledConvolution, draw: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"^winners: None is not allowed; must come from pool\(\)"):
        pooled.unpool(draw(2, *pooled.post_shape), None)


def test_other_geometries_do_not_pool(draw: Callable[..., Tensor]) -> None:
    for geometry in (Convolution((1, 4, 4), 2, 3), Dense((3,), (2,)), Identity((3,), (3,))):
        currents = draw(2, *geometry.linear_shape)
        result, winners = geometry.pool(currents)
        assert result is currents
        assert winners is None
        assert geometry.unpool(currents, None) is currents
        assert not geometry.pooled
        assert geometry.post_shape == geometry.linear_shape
