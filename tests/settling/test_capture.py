"""Captured phases: buffers of their own, weights in place; on a GPU as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork, SquaredError
from neurosim_ep.settling import Engine, States, settle, settle_nudged
from neurosim_ep.settling.capture import can_capture
from neurosim_ep.settling.engine import Nudge
from neurosim_ep.settling.running import replayed

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

Run = Callable[[], list[Tensor]]


class Again:
    """Stands for a CUDA graph: runs the function anew, into the outputs of the first time."""

    def __init__(self) -> None:
        self.records = self.launches = 0

    def __call__(self, run: Run, warm_up: Callable[[], object]) -> tuple[Any, list[Tensor]]:
        self.records += 1
        warm_up()
        outputs = [tensor.clone() for tensor in run()]

        def replay() -> None:
            self.launches += 1
            for own, new in zip(outputs, run(), strict=True):
                own.copy_(new)

        return replay, outputs


@pytest.fixture(params=["vgg5", "hopfield_resnet13", "mlp"])
def network(
    request: pytest.FixtureRequest, narrow: Callable[..., HopfieldNetwork]
) -> Iterator[HopfieldNetwork]:
    with torch.no_grad():
        yield narrow(request.param)


def images_for(network: HopfieldNetwork, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, *network.layers[0].shape, generator=generator).double()


def free_phase(
    network: HopfieldNetwork, images: Tensor, record: Again, tolerance: float | None = None
) -> States:
    return replayed(
        network, network.rest(images), "coloured", Engine(check_interval=4), 10, tolerance,
        None, None, 1, record,
    )  # fmt: skip


def same(one: States, other: States) -> None:
    assert one.iterations == other.iterations
    for a, b in zip([*one, one.residual], [*other, other.residual], strict=True):
        assert torch.equal(a, b)
    assert one.winners.keys() == other.winners.keys()
    for number, winners in one.winners.items():
        assert torch.equal(winners, other.winners[number])


def test_replays_give_the_launched_states_for_new_images_and_weights(
    network: HopfieldNetwork,
) -> None:
    record, first, second = Again(), images_for(network), images_for(network, 1)
    before = free_phase(network, first, record)
    same(before, settle(network, first, iterations=10))
    kept = [state.clone() for state in before]
    same(free_phase(network, second, record), settle(network, second, iterations=10))
    for weight in network.weights:
        weight.mul_(0.5)
    same(free_phase(network, second, record), settle(network, second, iterations=10))
    assert (record.records, record.launches) == (1, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, kept, strict=True))


def test_nudged_phases_replay_with_their_winners(network: HopfieldNetwork) -> None:
    free = settle(network, images_for(network), iterations=5)
    targets, betas, cost = torch.eye(4, dtype=torch.float64)[:3], [0.3, -0.3], SquaredError()
    for reads in ("full", "delta"):
        expected = settle_nudged(network, free, targets, betas, cost, iterations=4, reads=reads)
        beta = torch.tensor(betas, dtype=torch.float64).repeat_interleave(3).unsqueeze(1)
        found = replayed(
            network, [torch.cat([state] * 2) for state in free], "coloured", Engine(), 4, None,
            Nudge(cost, targets.repeat(2, 1), beta), list(free) if reads == "delta" else None, 2,
            Again(),
        )  # fmt: skip
        same(found, expected)


def test_a_tolerance_is_looked_at_after_every_launch(network: HopfieldNetwork) -> None:
    images, record = images_for(network), Again()
    expected = settle(
        network, images, iterations=10, tolerance=1e-2, engine=Engine(check_interval=4)
    )
    found = free_phase(network, images, record, 1e-2)
    torch.testing.assert_close(list(found), list(expected), rtol=0.0, atol=1e-12)
    assert found.iterations == expected.iterations
    assert found.iterations % 4 == 0 or found.iterations == 10


def test_replaced_parameters_other_batches_and_alpha_are_captured_anew(
    narrow: Callable[..., HopfieldNetwork],
) -> None:
    network, record = narrow("hopfield_resnet13"), Again()
    images = images_for(network)
    with torch.no_grad():
        free_phase(network, images, record)
        free_phase(network, images[:2], record)
        assert record.records == 2
        edge = network.edge_list()[1]
        edge.storage.weight = torch.nn.Parameter(edge.storage.weight * 2.0)  # type: ignore[union-attr]
        same(free_phase(network, images, record), settle(network, images, iterations=10))
        network.layers[1].activation.alpha = 0.1  # type: ignore[attr-defined]
        same(free_phase(network, images, record), settle(network, images, iterations=10))
    assert record.records == 4


def test_only_exact_edges_on_a_gpu_are_captured(
    narrow: Callable[..., HopfieldNetwork], count_reads: Callable[[HopfieldNetwork], Any]
) -> None:
    network, gpu = narrow("vgg5"), torch.device("cuda")
    assert can_capture(network, Engine(capture="auto"), gpu)
    assert not can_capture(network, Engine(capture="auto"), torch.device("cpu"))
    assert not can_capture(network, Engine(capture="none"), gpu)
    count_reads(network)
    assert not can_capture(network, Engine(capture="auto"), gpu)


@needs_cuda
@pytest.mark.parametrize("tolerance", [None, 1e-3])
@pytest.mark.parametrize("reads", ["full", "delta"])
def test_cuda_graphs_give_the_launched_states(
    network: HopfieldNetwork, tolerance: float | None, reads: str
) -> None:
    network, images = network.cuda(), images_for(network).cuda()
    targets = torch.eye(4, dtype=torch.float64, device="cuda")[:3]
    for _ in range(2):
        results = []
        for capture in ("auto", "none"):
            engine = Engine(capture=capture, check_interval=5)
            free = settle(network, images, iterations=10, tolerance=tolerance, engine=engine)
            nudged = settle_nudged(
                network, free, targets, [0.3, -0.3], SquaredError(), iterations=4, reads=reads,
                engine=engine,
            )  # fmt: skip
            results.append([*free, *nudged])
        torch.testing.assert_close(results[0], results[1], rtol=0.0, atol=1e-10)
        for weight in network.weights:
            weight.mul_(0.5)
