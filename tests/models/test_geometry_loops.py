"""Every geometry's reads against explicit loops over units."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import Convolution, Dense, Identity

EXACT = 1e-12
DENSE = [((3,), (2,)), ((2, 2, 3), (4,)), ((3,), (2, 1, 2))]


def places(*shape: int) -> Iterator[tuple[int, ...]]:
    """All indices of a tensor of that shape."""
    return itertools.product(*map(range, shape))


def taps(convolution: Convolution) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every (weight, pre, current) index that one kernel position joins."""
    channels, height, width = convolution.pre_shape
    kernel, stride, padding = convolution.kernel, convolution.stride, convolution.padding
    for o, y, x in places(*convolution.linear_shape):
        for c, i, j in places(channels, kernel, kernel):
            row, column = y * stride + i - padding, x * stride + j - padding
            if 0 <= row < height and 0 <= column < width:
                yield (o, c, i, j), (c, row, column), (o, y, x)


def test_convolution(convolution: Convolution, draw: Callable[..., Tensor]) -> None:
    assert convolution.weight_shape is not None
    weight, pre = draw(*convolution.weight_shape), draw(1, *convolution.pre_shape)
    currents = draw(1, *convolution.linear_shape)
    linear, transposed = torch.zeros_like(currents[0]), torch.zeros_like(pre[0])
    correlation = torch.zeros_like(weight)
    for w, p, q in taps(convolution):
        linear[q] += weight[w] * pre[0][p]
        transposed[p] += weight[w] * currents[0][q]
        correlation[w] += pre[0][p] * currents[0][q]
    for result, expected in (
        (convolution.linear(pre, weight)[0], linear),
        (convolution.transposed(currents, weight)[0], transposed),
        (convolution.correlation(pre, currents), correlation),
    ):
        torch.testing.assert_close(result, expected, rtol=EXACT, atol=EXACT)


def test_convolution_counts_its_fan_in(convolution: Convolution) -> None:
    most = max(
        sum(q == here for _, _, q in taps(convolution))
        for here in places(*convolution.linear_shape)
    )
    assert convolution.fan_in >= most
    if convolution.padding == 0:
        assert convolution.fan_in == most


def test_correlation_sums_over_the_batch(
    convolution: Convolution, draw: Callable[..., Tensor]
) -> None:
    pre, currents = draw(3, *convolution.pre_shape), draw(3, *convolution.linear_shape)
    single = [convolution.correlation(pre[b : b + 1], currents[b : b + 1]) for b in range(3)]
    torch.testing.assert_close(
        convolution.correlation(pre, currents), sum(single), rtol=EXACT, atol=EXACT
    )


@pytest.mark.parametrize(("pre_shape", "post_shape"), DENSE)
def test_dense(
    pre_shape: tuple[int, ...], post_shape: tuple[int, ...], draw: Callable[..., Tensor]
) -> None:
    dense = Dense(pre_shape, post_shape)
    assert dense.weight_shape == pre_shape + post_shape
    weight, pre = draw(*pre_shape, *post_shape), draw(2, *pre_shape)
    currents = draw(2, *post_shape)
    linear, transposed = torch.zeros_like(currents), torch.zeros_like(pre)
    correlation = torch.zeros_like(weight)
    for (b,), p, q in itertools.product(places(2), places(*pre_shape), places(*post_shape)):
        linear[(b, *q)] += weight[p + q] * pre[(b, *p)]
        transposed[(b, *p)] += weight[p + q] * currents[(b, *q)]
        correlation[p + q] += pre[(b, *p)] * currents[(b, *q)]
    for result, expected in (
        (dense.linear(pre, weight), linear),
        (dense.transposed(currents, weight), transposed),
        (dense.correlation(pre, currents), correlation),
    ):
        torch.testing.assert_close(result, expected, rtol=EXACT, atol=EXACT)


def test_identity(identity: Identity, draw: Callable[..., Tensor]) -> None:
    """Post unit (c, y, x) and pre unit (c, stride y, stride x) are joined, no others."""
    pre, currents = draw(2, *identity.pre_shape), draw(2, *identity.linear_shape)
    linear, transposed = torch.zeros_like(currents), torch.zeros_like(pre)
    # The smallest stride that takes the post layer's number of places.
    stride = next(
        n
        for n in itertools.count(1)
        if tuple(len(range(0, side, n)) for side in identity.pre_shape[1:])
        == identity.post_shape[1:]
    )
    for b, c, *place in places(*currents.shape):
        source = (b, c, *(stride * p for p in place))
        if c < identity.pre_shape[0]:
            linear[(b, c, *place)] = identity.strength * pre[source]
            transposed[source] = identity.strength * currents[(b, c, *place)]
    torch.testing.assert_close(identity.linear(pre), linear, rtol=0, atol=0)
    torch.testing.assert_close(identity.transposed(currents), transposed, rtol=0, atol=0)


def test_an_identity_does_not_change_what_drives_it(
    identity: Identity, draw: Callable[..., Tensor]
) -> None:
    pre, currents = draw(2, *identity.pre_shape), draw(2, *identity.linear_shape)
    before = pre.clone(), currents.clone()
    identity.linear(pre).zero_()
    identity.transposed(currents).zero_()
    assert torch.equal(pre, before[0])
    assert torch.equal(currents, before[1])


def test_an_identity_sits_on_no_array(identity: Identity, draw: Callable[..., Tensor]) -> None:
    for method in (identity.unroll, identity.fold, identity.matrix):
        with pytest.raises(TypeError, match="sits on no array"):
            method(draw(1))
    with pytest.raises(TypeError, match="no weights"):
        identity.correlation(draw(1), draw(1))
