"""Convolutions in float32 and channels-last, as trainings run them, against unrolled products.

The other geometry tests run in float64, which takes other kernels: a 1x1 kernel with stride 2 gave
wrong weight gradients and damaged memory in float32 only.
"""

from __future__ import annotations

import pytest
import torch

from neurosim_ep.models import Convolution


@pytest.mark.parametrize("batch", [1, 8, 128])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1)]
)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (4, 16), (16, 32), (16, 7)])
def test_reads_and_correlation(
    batch: int, kernel: int, stride: int, padding: int, channels: int, size: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    edge = Convolution((channels, size, size), 12, kernel, stride, padding)
    assert edge.weight_shape is not None

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw).contiguous(memory_format=torch.channels_last)

    weight = drawn(*edge.weight_shape)
    for _ in range(3):
        pre, post = drawn(batch, *edge.pre_shape), drawn(batch, *edge.linear_shape)
        rows, columns = edge.unroll(pre.double()), edge.to_columns(post.double())
        matrix = edge.matrix(weight.double())
        for found, wanted in (
            (edge.linear(pre, weight), edge.from_columns(rows @ matrix)),
            (edge.transposed(post, weight), edge.fold(columns @ matrix.T)),
            (
                edge.correlation(pre, post).flatten(1).T,
                torch.einsum("bpr,bpc->rc", rows, columns),
            ),
        ):
            scale = float(wanted.abs().max())
            torch.testing.assert_close(found.double(), wanted, rtol=0.0, atol=1e-4 * scale)
