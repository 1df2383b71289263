"""Prepared reads of convolutions: the same numbers as torch's convolutions, and the same ties."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neurosim_ep.models import Convolution, ExactStorage, PooledConvolution, Scratch
from neurosim_ep.models.geometry.patches import PatchConvolution
from neurosim_ep.models.geometry.winograd import WinogradConvolution

# channels in and out, side, kernel, stride, padding, images: each takes another form.
CASES = {
    "tiles of 4, several chunks of images": (64, 64, 16, 3, 1, 1, 18),
    "tiles of 4 forth, none back": (64, 64, 10, 3, 1, 0, 24),
    "tiles of 2": (128, 192, 6, 3, 1, 1, 3),
    "tiles of 2 to a larger side": (128, 128, 4, 3, 1, 2, 6),
    "every second place": (5, 7, 9, 1, 2, 0, 3),
    "patches both ways": (256, 256, 4, 3, 2, 1, 3),
    "patches back": (256, 256, 7, 3, 2, 1, 2),
    "plain": (3, 5, 7, 3, 2, 1, 2),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", [Convolution, PooledConvolution])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_prepared_reads_are_torchs_convolutions(kind: type[Convolution], case: str) -> None:
    inputs, outputs, side, kernel, stride, padding, batch = CASES[case]
    geometry = kind((inputs, side, side), outputs, kernel, stride, padding)
    weight = drawn(*geometry.weight_shape) / geometry.fan_in**0.5
    reads = geometry.prepared(weight, batch, Scratch())
    # Fewer images than announced: the last batch of an epoch.
    for images in (batch, max(1, batch - 3)):
        states, currents = drawn(images, *geometry.pre_shape), drawn(images, *geometry.linear_shape)
        leaf = states.clone().requires_grad_()
        with torch.enable_grad():
            forward = F.conv2d(leaf, weight, stride=stride, padding=padding)
            (adjoint,) = torch.autograd.grad(forward, leaf, currents)
        torch.testing.assert_close(reads.linear(states), forward.detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(reads.transposed(currents), adjoint, rtol=0, atol=1e-12)


@torch.no_grad()
def test_each_case_takes_the_form_that_it_names() -> None:
    forms = {}
    for case, (inputs, outputs, side, kernel, stride, padding, batch) in CASES.items():
        geometry = Convolution((inputs, side, side), outputs, kernel, stride, padding)
        reads = geometry.prepared(torch.zeros(geometry.weight_shape), batch, Scratch())
        forms[case] = [
            type(read).__name__
            if isinstance(read, WinogradConvolution)
            else type(getattr(read, "__self__", None)).__name__
            for read in (reads.linear, reads.transposed)
        ]
    winograd, patches, plain = "WinogradConvolution", "PatchConvolution", "NoneType"
    assert forms == {
        "tiles of 4, several chunks of images": [winograd, winograd],
        "tiles of 4 forth, none back": [winograd, plain],
        "tiles of 2": [winograd, winograd],
        "tiles of 2 to a larger side": [winograd, winograd],
        "every second place": [patches, patches],
        "patches both ways": [patches, patches],
        "patches back": [plain, patches],
        "plain": [plain, plain],
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_flat_states_tie_exactly_and_the_first_wins(dtype: torch.dtype) -> None:
    geometry = PooledConvolution((128, 8, 8), 128, 3, 1, 1)
    weight = drawn(*geometry.weight_shape).to(dtype)
    states = drawn(4, 128, 8, 8, seed=1).to(dtype)
    states[:, :, :, 2:] = states[:, :, :1, 2:3]
    reads = geometry.prepared(weight, 4, Scratch())
    assert isinstance(reads.linear, WinogradConvolution)
    _, winners = geometry.pool(reads.linear(states))
    rows, columns = winners // 8, winners % 8
    # Away from the borders, where padding ends the flat part.
    assert bool((rows[:, :, 1:3, 2:3] % 2 == 0).all())
    assert bool((columns[:, :, 1:3, 2:3] % 2 == 0).all())


@torch.no_grad()
def test_complex_states_are_read_by_their_parts() -> None:
    storage = ExactStorage(Convolution((64, 8, 8), 64, 3, 1, 1)).double()
    storage.weight.copy_(drawn(*storage.weight.shape))
    reader = storage.prepared(8, Scratch())
    states = torch.complex(drawn(8, 64, 8, 8), drawn(8, 64, 8, 8, seed=1))
    torch.testing.assert_close(reader.forward_read(states), storage.forward_read(states))
    torch.testing.assert_close(reader.transposed_read(states), storage.transposed_read(states))


def test_autograd_sees_the_weights() -> None:
    geometry = Convolution((64, 8, 8), 64, 3, 1, 1)
    weight = drawn(*geometry.weight_shape).requires_grad_()
    reads = geometry.prepared(weight, 8, Scratch())
    reads.linear(drawn(8, 64, 8, 8)).sum().backward()
    assert weight.grad is not None


@torch.no_grad()
def test_float32_tiles_of_4_round_little_more_than_a_plain_convolution() -> None:
    weight, states = drawn(128, 128, 3, 3) / 34.0, drawn(2, 128, 8, 8, seed=1).relu()
    exact = F.conv2d(states, weight, padding=1)
    fast = WinogradConvolution(weight.float(), 1, (8, 8), 4, Scratch())(states.float())
    assert float((fast - exact).square().mean().sqrt() / exact.square().mean().sqrt()) < 3e-6


@torch.no_grad()
def test_patches_take_any_kernel_stride_and_padding() -> None:
    for kernel, stride, padding in ((2, 2, 0), (3, 3, 2), (3, 1, 1), (5, 2, 2)):
        geometry = Convolution((2, 7, 9), 3, kernel, stride, padding)
        weight = drawn(*geometry.weight_shape)
        patches = PatchConvolution(weight, stride, padding, (7, 9), Scratch())
        states, currents = drawn(2, 2, 7, 9), drawn(2, *geometry.linear_shape)
        torch.testing.assert_close(patches.linear(states), geometry.linear(states, weight))
        torch.testing.assert_close(
            patches.transposed(currents), geometry.transposed(currents, weight)
        )
