"""Networks wide enough for the prepared reads settle as the plain equations say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork, SquaredError, hopfield_resnet13, vgg5
from neurosim_ep.settling import settle, settle_nudged, update_groups

WIDE: dict[str, Callable[[], HopfieldNetwork]] = {
    "vgg5": lambda: vgg5(3, 10, (128, 128, 128, 256), image_size=16),
    "hopfield_resnet13": lambda: hopfield_resnet13(3, 10, (64, 64, 256, 256), image_size=16),
}


@pytest.mark.parametrize("name", WIDE)
def test_free_and_nudged_phases_follow_the_plain_equations(
    name: str, naive_settle: Callable[..., list[Tensor]]
) -> None:
    network = WIDE[name]().double()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 16, 16, generator=generator).double() - 0.5
    groups = update_groups(network, "asynchronous")
    rest = [state.contiguous() for state in network.rest(images)]
    expected = naive_settle(network, rest, groups, 4)
    free = settle(network, images, iterations=4, order="asynchronous")
    for one, other in zip(free, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-10)
    targets, cost = torch.eye(10, dtype=torch.float64)[:2], SquaredError()
    nudged = settle_nudged(
        network, free, targets, [0.5, -0.5], cost, iterations=2, order="asynchronous"
    )
    for phase, beta in enumerate((0.5, -0.5)):
        expected = naive_settle(network, free, groups, 2, beta, cost, targets)
        for one, other in zip(nudged, expected, strict=True):
            torch.testing.assert_close(one.chunk(2)[phase], other, rtol=0.0, atol=1e-10)
