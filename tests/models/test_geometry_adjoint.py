"""Every geometry's reads: adjoint to each other, and the same fused, unrolled and by autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim_ep.models import Convolution, Geometry

BATCH = 3
EXACT = 1e-12


def inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner product over everything."""
    assert left.shape == right.shape
    return (left * right).sum()


def assert_adjoint(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> None:
    """<a, b> = <c, d>, compared with the sizes of the factors."""
    scale = left[0].norm() * left[1].norm() + right[0].norm() * right[1].norm()
    assert (inner(*left) - inner(*right)).abs() <= EXACT * scale


def weight_for(geometry: Geometry, draw: Callable[..., Tensor]) -> Tensor:
    """A random weight; an identity ignores it."""
    return draw(*(geometry.weight_shape or (1,)))


def test_transposed_is_the_adjoint_of_linear(
    geometry: Geometry, draw: Callable[..., Tensor]
) -> None:
    weight = weight_for(geometry, draw)
    pre, currents = draw(BATCH, *geometry.pre_shape), draw(BATCH, *geometry.linear_shape)
    assert_adjoint(
        (geometry.linear(pre, weight), currents), (pre, geometry.transposed(currents, weight))
    )


def test_reads_have_the_declared_shapes(geometry: Geometry, draw: Callable[..., Tensor]) -> None:
    weight = weight_for(geometry, draw)
    linear = geometry.linear(draw(BATCH, *geometry.pre_shape), weight)
    assert linear.shape == (BATCH, *geometry.linear_shape)
    assert geometry.pool(linear)[0].shape == (BATCH, *geometry.post_shape)
    assert geometry.transposed(linear, weight).shape == (BATCH, *geometry.pre_shape)


def test_linear_is_unrolled_states_times_the_matrix(
    weighted: Geometry, draw: Callable[..., Tensor]
) -> None:
    weight, pre = weight_for(weighted, draw), draw(BATCH, *weighted.pre_shape)
    rows, matrix = weighted.unroll(pre), weighted.matrix(weight)
    assert rows.shape[-1] == weighted.fan_in
    assert matrix.shape == (weighted.fan_in, weight.numel() // weighted.fan_in)
    torch.testing.assert_close(
        weighted.from_columns(rows @ matrix), weighted.linear(pre, weight), rtol=EXACT, atol=EXACT
    )


def test_transposed_is_folded_columns_times_the_matrix(
    weighted: Geometry, draw: Callable[..., Tensor]
) -> None:
    weight, currents = weight_for(weighted, draw), draw(BATCH, *weighted.linear_shape)
    rows = weighted.to_columns(currents) @ weighted.matrix(weight).T
    torch.testing.assert_close(
        weighted.fold(rows), weighted.transposed(currents, weight), rtol=EXACT, atol=EXACT
    )


def test_fold_is_the_adjoint_of_unroll(weighted: Geometry, draw: Callable[..., Tensor]) -> None:
    pre = draw(BATCH, *weighted.pre_shape)
    rows = weighted.unroll(pre)
    other = draw(*rows.shape)
    assert_adjoint((rows, other), (pre, weighted.fold(other)))


def test_columns_go_there_and_back(weighted: Geometry, draw: Callable[..., Tensor]) -> None:
    currents = draw(BATCH, *weighted.linear_shape)
    columns = weighted.to_columns(currents)
    assert columns.shape[::2] == (BATCH, weighted.matrix(weight_for(weighted, draw)).shape[1])
    assert torch.equal(weighted.from_columns(columns), currents)


def test_correlation_is_the_weights_gradient(
    weighted: Geometry, draw: Callable[..., Tensor]
) -> None:
    weight = weight_for(weighted, draw).requires_grad_()
    pre, currents = draw(BATCH, *weighted.pre_shape), draw(BATCH, *weighted.linear_shape)
    (expected,) = torch.autograd.grad(inner(currents, weighted.linear(pre, weight)), weight)
    correlation = weighted.correlation(pre, currents)
    assert correlation.shape == weighted.weight_shape
    torch.testing.assert_close(correlation, expected, rtol=EXACT, atol=EXACT)


def test_channels_last_states_give_the_same_reads(
    convolution: Convolution, draw: Callable[..., Tensor]
) -> None:
    weight, pre = weight_for(convolution, draw), draw(BATCH, *convolution.pre_shape)
    currents = draw(BATCH, *convolution.linear_shape)
    last = torch.channels_last
    for plain, strided in (
        (convolution.linear(pre, weight), convolution.linear(pre.to(memory_format=last), weight)),
        (convolution.unroll(pre), convolution.unroll(pre.to(memory_format=last))),
        (
            convolution.transposed(currents, weight),
            convolution.transposed(currents.to(memory_format=last), weight),
        ),
        (
            convolution.to_columns(currents),
            convolution.to_columns(currents.to(memory_format=last)),
        ),
        (
            convolution.correlation(pre, currents),
            convolution.correlation(pre.to(memory_format=last), currents.to(memory_format=last)),
        ),
    ):
        torch.testing.assert_close(plain, strided, rtol=EXACT, atol=EXACT)


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Any convolution that fits, up to 9x9 states."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    padding = draw(st.integers(0, 3))
    kernel = draw(st.integers(1, min(height, width) + 2 * padding))
    return Convolution(
        (draw(st.integers(1, 3)), height, width),
        draw(st.integers(1, 3)),
        kernel,
        draw(st.integers(1, 4)),
        padding,
    )


@given(geometry=convolutions(), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=100)
def test_any_convolution_agrees_with_its_array(geometry: Convolution, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weight = weight_for(geometry, normal)
    pre, currents = normal(2, *geometry.pre_shape), normal(2, *geometry.linear_shape)
    linear, transposed = geometry.linear(pre, weight), geometry.transposed(currents, weight)
    assert linear.shape == currents.shape
    assert transposed.shape == pre.shape
    assert_adjoint((linear, currents), (pre, transposed))
    matrix = geometry.matrix(weight)
    unrolled = geometry.from_columns(geometry.unroll(pre) @ matrix)
    torch.testing.assert_close(unrolled, linear, rtol=EXACT, atol=EXACT)
    folded = geometry.fold(geometry.to_columns(currents) @ matrix.T)
    torch.testing.assert_close(folded, transposed, rtol=EXACT, atol=EXACT)
