"""Precision, acceleration and the interval between two looks at the residual."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from neurosim_ep.models import HopfieldNetwork, SquaredError
from neurosim_ep.settling import Engine, lyapunov, settle, settle_nudged
from neurosim_ep.settling.engine import Settling
from neurosim_ep.settling.options import products
from neurosim_ep.settling.stopping import Stop


def drawn(network: HopfieldNetwork, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, *network.layers[0].shape, generator=generator).double()


@pytest.mark.parametrize("name", ["vgg5", "hopfield_resnet13"])
@torch.no_grad()
def test_over_relaxation_makes_f_fall_to_an_equilibrium(
    name: str, narrow: Callable[..., HopfieldNetwork]
) -> None:
    network = narrow(name)
    images = drawn(network)
    settling = Settling(
        network, network.rest(images), "coloured", engine=Engine(acceleration="overrelaxed")
    )
    before = lyapunov(network, settling.states)
    for _ in range(30):
        settling.iterate()
        after = lyapunov(network, settling.states)
        assert bool((after <= before + 1e-10).all())
        before = after
    # Of a pooled network's several equilibria it may find another than plain settling does.
    plain = settle(network, images, iterations=1, initial=settling.states)
    assert float(plain.residual.max()) < 1e-5


@torch.no_grad()
def test_over_relaxation_takes_fewer_iterations_where_settling_is_slow(
    narrow: Callable[..., HopfieldNetwork],
) -> None:
    network = narrow("mlp")
    for weight in network.weights:
        weight.mul_(1.5)
    images = drawn(network)
    target = settle(network, images, iterations=500)
    distance = []
    for acceleration in ("none", "overrelaxed"):
        found = settle(network, images, iterations=12, engine=Engine(acceleration=acceleration))
        distance.append(
            sum(float((a - b).square().sum()) for a, b in zip(found, target, strict=True))
        )
    assert distance[1] < 0.5 * distance[0]


def test_choices_that_do_not_go_together_are_refused(
    narrow: Callable[..., HopfieldNetwork],
) -> None:
    network, engine = narrow("mlp"), Engine(acceleration="overrelaxed")
    with pytest.raises(ValueError, match=r"^acceleration: .*none in asynchronous order"):
        settle(network, drawn(network), order="asynchronous", engine=engine)
    with pytest.raises(ValueError, match=r"^acceleration: .*does not clip"):
        settle(narrow("mlp", activation="sigmoid"), drawn(network), engine=engine)
    with pytest.raises(ValueError, match=r"^fusion: .*does not clip"):
        settle(
            narrow("mlp", activation="sigmoid"), drawn(network), engine=Engine(fusion="compiled")
        )
    with pytest.raises(ValueError, match=r"^precision: .*has no TF32"):
        settle(network, drawn(network), engine=Engine(precision="tf32"))
    for field, value in (("precision", "float8"), ("acceleration", "x"), ("capture", "always")):
        with pytest.raises(ValueError, match=rf"^{field}: .*must be one of"):
            Engine(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^check_interval: "):
        Engine(check_interval=0)


@torch.no_grad()
def test_bfloat16_reads_round_what_is_driven_and_delta_reads_bring_the_digits_back(
    narrow: Callable[..., HopfieldNetwork],
) -> None:
    network = narrow("hopfield_resnet13")
    free = settle(network, drawn(network), iterations=80)
    targets, cost = torch.eye(4, dtype=torch.float64)[:3], SquaredError()
    engine = Engine(precision="bfloat16")

    def contrast(reads: str, engine: Engine | None) -> torch.Tensor:
        start = free if engine is None else settle(
            network, drawn(network), iterations=80, engine=engine
        )  # fmt: skip
        nudged = settle_nudged(
            network, start, targets, [0.1, -0.1], cost, iterations=12, reads=reads, engine=engine
        )
        one, other = nudged[4].chunk(2)
        return one - other

    exact = contrast("full", None)
    errors = [float((contrast(r, engine) - exact).norm() / exact.norm()) for r in ("full", "delta")]
    assert 1e-4 < errors[1] < 0.5 * errors[0]


@torch.no_grad()
def test_the_residual_is_looked_at_every_few_iterations(
    narrow: Callable[..., HopfieldNetwork],
) -> None:
    network = narrow("hopfield_resnet13")
    images = drawn(network)
    exact = settle(network, images, iterations=200, tolerance=1e-3)
    for interval in (1, 7, 500):
        found = settle(
            network, images, iterations=200, tolerance=1e-3, engine=Engine(check_interval=interval)
        )
        assert found.iterations == min(200, -(-exact.iterations // interval) * interval)
        assert bool(found.settled.all())


def test_a_late_answer_is_the_last_looks() -> None:
    stop = Stop(0.1, late=True)
    small, large = torch.tensor([0.05, 0.1]), torch.tensor([0.05, 0.2])
    assert [stop(r) for r in (large, small, large, large)] == [False, False, True, False]
    now = Stop(0.1)
    assert [now(r) for r in (large, small, torch.tensor([torch.nan]))] == [False, True, False]


def test_tf32_is_switched_for_a_gpu_and_put_back() -> None:
    gpu, backends = torch.device("cuda"), (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for precision, expected in (("full", False), ("tf32", True)):
        with products(Engine(precision=precision), gpu):
            assert [backend.allow_tf32 for backend in backends] == [expected, expected]
        assert [backend.allow_tf32 for backend in backends] == before
