"""Pulsed updates of aihwkit's tiles: what they do on average, and what they say of themselves."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.exchange import (
    AihwkitNetwork,
    AihwkitStorage,
    aihwkit_problem,
    learning_step,
    map_to_aihwkit,
)
from neurosim_ep.learning import (
    CenteredEP,
    Contrast,
    Estimator,
    Form,
    HolomorphicEP,
    Phases,
    accumulate_contrast,
    edge_products,
    weighted_equilibria,
)
from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    Geometry,
    HopfieldNetwork,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    initialise,
    mlp,
)

REASON = aihwkit_problem()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

STEP = 0.002
GEOMETRIES = [
    Dense((2, 3), (4,)),
    Convolution((2, 5, 4), 3, kernel=3, padding=1),
    Convolution((2, 6, 5), 3, kernel=2, stride=2),
]


def constant(step: float = STEP, **device: Any) -> Any:
    """Devices of one constant step, without any spread or noise, and ideal reads."""
    from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig

    none = dict.fromkeys(("dw_min_dtod", "w_max_dtod", "w_min_dtod", "up_down_dtod"), 0.0)
    fields = none | {"dw_min": step, "dw_min_std": 0.0, "w_max": 1.0, "w_min": -1.0} | device
    config = SingleRPUConfig(device=ConstantStepDevice(**fields))
    config.forward.is_perfect = config.backward.is_perfect = True
    return config


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_same_mean(changes: Tensor, expected: Tensor) -> None:
    """Repeated changes (R, ...) have an expected mean, within what their scatter allows."""
    error = changes.std(0) / math.sqrt(len(changes))
    # A weight that no train reached scatters little: its mean may be off by a fraction of a step.
    score = (changes.mean(0) - expected) / (error + 0.02 * STEP)
    assert float(score.abs().max()) < 5.5
    assert float(score.square().mean()) < 1.0 + 8.0 * math.sqrt(2.0 / score.numel())
    assert expected.norm() > 3.0 * error.norm()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_products_add_up_on_average(geometry: Geometry, dtype: torch.dtype) -> None:
    storage = AihwkitStorage(geometry, constant(), seed=0)
    with torch.no_grad():
        storage.weight.copy_(0.1 * drawn(*storage.weight.shape))
    storage.program()
    storage.scale = 0.7
    first = storage.tile.matrix
    products = [
        (
            drawn(3, *geometry.pre_shape, seed=2 * n, dtype=dtype),
            0.02 * drawn(3, *geometry.linear_shape, seed=2 * n + 1, dtype=dtype),
        )
        for n in (1, 2)
    ]
    wanted = torch.zeros_like(geometry.matrix(storage.weight.detach()))
    for pre, post in products:
        rows, columns = geometry.unroll(pre), geometry.to_columns(post)
        wanted += torch.einsum("bpr,bpc->rc", rows, columns).real
    changes = []
    for _ in range(150):
        storage.tile.write(first)
        report = storage.pulse_products(products, 0.3)
        changes.append(geometry.matrix(storage.weight.detach()) - 0.7 * first)
    assert report.saturated_fraction == 0.0
    assert_same_mean(torch.stack(changes), 0.3 * wanted)


def settled(network: HopfieldNetwork, estimator: Estimator) -> Contrast:
    images = drawn(4, *network.layers[0].shape).abs()
    phases = Phases(free_iterations=15, nudged_iterations=8)
    return weighted_equilibria(
        network, images, torch.tensor([0, 2, 1, 1]), estimator, phases=phases
    )


def digital_gradients(
    network: AihwkitNetwork, found: Contrast
) -> tuple[list[Tensor], list[Tensor]]:
    network.zero_grad()
    accumulate_contrast(network, found.nudged, found.terms)
    groups = ([p.grad for p in network.biases], [p.grad for p in network.weights])
    network.zero_grad()
    for group in groups:
        assert all(gradient is not None for gradient in group)
    return groups  # type: ignore[return-value]


def convolutional() -> HopfieldNetwork:
    """A pooled convolution, a strided one and a dense edge."""
    layers = [
        Layer((1, 8, 8)),
        Layer((2, 4, 4), ReLUAlpha(1.0)),
        Layer((2, 2, 2), ReLUAlpha(1.0)),
        Layer((3,)),
    ]
    edges = [
        Edge(0, 1, PooledConvolution((1, 8, 8), 2, kernel=3, padding=1)),
        Edge(1, 2, Convolution((2, 4, 4), 2, kernel=2, stride=2)),
        Edge(2, 3, Dense((2, 2, 2), (3,))),
    ]
    network = HopfieldNetwork(layers, edges)
    initialise(network, [1.0, 1.0, 1.0])
    return network


@pytest.mark.parametrize("form", ["hebbian", "difference"])
@pytest.mark.parametrize(
    ("make", "rate"), [(lambda: mlp((1, 3, 3), 3, (5,)), 0.02), (convolutional, 0.015)]
)
def test_a_learning_step_descends_on_average(
    form: Form, make: Callable[[], HopfieldNetwork], rate: float
) -> None:
    network = make()
    mapped = map_to_aihwkit(network, constant())
    found = settled(mapped, CenteredEP(0.2))
    bias_gradients, weight_gradients = digital_gradients(mapped, found)
    written = [storage.tile.matrix for storage in mapped.storages]
    kept = [weight.detach().clone() for weight in mapped.weights]
    changes: list[list[Tensor]] = [[] for _ in kept]
    repeats = 150
    for _ in range(repeats):
        for storage, matrix in zip(mapped.storages, written, strict=True):
            storage.tile.write(matrix)
        reports = learning_step(
            mapped, found.nudged, found.terms, rate, form=form, bias_learning_rate=0.01
        )
        for place, weight in enumerate(mapped.weights):
            changes[place].append(weight.detach() - kept[place])
    assert all(report.saturated_fraction == 0.0 for report in reports)
    for place, gradient in enumerate(weight_gradients):
        unit = mapped.storages[place].scale
        assert_same_mean(torch.stack(changes[place]) / unit, -rate * gradient / unit)
    for mine, start, gradient in zip(mapped.biases, network.biases, bias_gradients, strict=True):
        torch.testing.assert_close(
            mine.detach(), start.detach() - repeats * 0.01 * gradient, rtol=1e-4, atol=1e-5
        )


def test_hebbian_costs_more_scatter_than_difference() -> None:
    mapped = map_to_aihwkit(mlp((1, 3, 3), 3, (5,)), constant())
    found = settled(mapped, CenteredEP(0.05))
    written = [storage.tile.matrix for storage in mapped.storages]
    spreads = {}
    for form in ("hebbian", "difference"):
        ends = []
        for _ in range(100):
            for storage, matrix in zip(mapped.storages, written, strict=True):
                storage.tile.write(matrix)
            learning_step(mapped, found.nudged, found.terms, 0.005, form=form)
            ends.append(mapped.storages[0].tile.matrix)
        spreads[form] = float(torch.stack(ends).std(0).norm())
    assert spreads["hebbian"] > 1.5 * spreads["difference"]


def test_complex_equilibria_descend_on_average() -> None:
    network = mlp((1, 3, 3), 3, (5,), activation="sigmoid")
    mapped = map_to_aihwkit(network, constant())
    found = settled(mapped, HolomorphicEP(0.3, points=3))
    bias_gradients, weight_gradients = digital_gradients(mapped, found)
    written = [storage.tile.matrix for storage in mapped.storages]
    kept = [weight.detach().clone() for weight in mapped.weights]
    changes: list[list[Tensor]] = [[] for _ in kept]
    biases = [bias.detach().clone() for bias in mapped.biases]
    for _ in range(150):
        for storage, matrix in zip(mapped.storages, written, strict=True):
            storage.tile.write(matrix)
        reports = learning_step(mapped, found.nudged, found.terms, 0.02, bias_learning_rate=0.0)
        for place, weight in enumerate(mapped.weights):
            changes[place].append(weight.detach() - kept[place])
    assert all(report.saturated_fraction == 0.0 for report in reports)
    for place, gradient in enumerate(weight_gradients):
        unit = mapped.storages[place].scale
        assert_same_mean(torch.stack(changes[place]) / unit, -0.02 * gradient / unit)
    assert all(torch.equal(a, b) for a, b in zip(mapped.biases, biases, strict=True))
    learning_step(mapped, found.nudged, found.terms, 0.3)
    for mine, start, gradient in zip(mapped.biases, biases, bias_gradients, strict=True):
        torch.testing.assert_close(mine.detach(), start - 0.3 * gradient)


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (7, 7), (31, 31), (40, 31)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_lone_device_gets_the_pulses_that_it_is_asked_for(
    asked: int, given: int, sign: float
) -> None:
    """Both probabilities are 1: the pulses are certain, up to the longest train."""
    storage = AihwkitStorage(Dense((1,), (1,)), constant(up_down=-0.25), seed=0)
    storage.program()
    report = storage.pulse_products(
        [(torch.full((1, 1), -3.0), torch.full((1, 1), -sign / 3.0))], asked * STEP
    )
    step = 0.75 * STEP if sign > 0 else STEP
    assert float(storage.weight.detach()) == pytest.approx(sign * given * step, rel=1e-4)
    assert report.vectors == 1
    assert report.longest == pytest.approx(asked, rel=1e-4)
    assert report.saturated_fraction == float(asked > 31)


def test_saturated_trains_are_counted_one_by_one() -> None:
    config = constant()
    config.update.desired_bl = 10
    storage = AihwkitStorage(Dense((2,), (3,)), config, seed=0)
    pre = torch.tensor([[1.0, 0.2], [1.0, 0.0], [2.0, 1.0], [0.0, 0.0]])
    post = torch.tensor([[1.0, 0.0, 0.5], [1.2, 0.1, 0.0], [0.1, -0.4, 0.2], [1.0, 1.0, 1.0]])
    report = storage.pulse_products([(pre, post)], 10 * STEP)
    assert report.vectors == 4
    assert report.longest == pytest.approx(12.0, rel=1e-4)
    assert report.saturated_fraction == 0.25


def test_where_no_single_device_is_pulsed_no_trains_are_reported() -> None:
    from aihwkit.simulator.configs import IdealDevice, SingleRPUConfig
    from aihwkit.simulator.presets import MixedPrecisionEcRamPreset, TikiTakaEcRamPreset

    pre, post = drawn(3, 2), drawn(3, 4, seed=1)
    for config in (
        SingleRPUConfig(device=IdealDevice()),
        MixedPrecisionEcRamPreset(),
        TikiTakaEcRamPreset(),
    ):
        storage = AihwkitStorage(Dense((2,), (4,)), config, seed=0)
        storage.program()
        report = storage.pulse_products([(pre, post)], 0.1)
        assert (report.vectors, report.longest, report.saturated_fraction) == (3, None, None)
    ideal = AihwkitStorage(Dense((2,), (4,)), SingleRPUConfig(device=IdealDevice()), seed=0)
    ideal.program()
    ideal.pulse_products([(pre, post)], 0.1)
    torch.testing.assert_close(ideal.weight.detach(), 0.1 * pre.T @ post)


def test_a_leaking_device_leaks_once_per_update() -> None:
    storage = AihwkitStorage(Dense((2,), (3,)), constant(lifetime=10.0), seed=0)
    with torch.no_grad():
        storage.weight.fill_(0.5)
    storage.program()
    nothing = [(torch.zeros(4, 2), torch.zeros(4, 3))]
    for _ in range(3):
        storage.pulse_products(nothing, 0.1)
    torch.testing.assert_close(storage.weight.detach(), torch.full((2, 3), 0.5 * 0.9**3))


def test_unequal_factors_are_balanced_without_update_management() -> None:
    """Rows of 1 against columns of 1e-3 would saturate the rows' probabilities alone."""
    config = constant()
    config.update.update_management = config.update.update_bl_management = False
    storage = AihwkitStorage(Dense((3,), (4,)), config, seed=0)
    storage.program()
    first = storage.tile.matrix
    pre, post = torch.tensor([[1.0, 0.5, 0.2]]), 1e-3 * torch.tensor([[1.0, -0.5, 0.3, 0.9]])
    changes = []
    for _ in range(600):
        storage.tile.write(first)
        storage.pulse_products([(pre, post)], 20.0)
        changes.append(storage.tile.matrix)
    assert_same_mean(torch.stack(changes), 20.0 * pre.T @ post)


def test_one_update_per_step_however_many_products() -> None:
    """aihwkit counts mini-batches: leaks, transfers and refreshes go by them."""
    mapped = map_to_aihwkit(mlp((1, 3, 3), 3, (5,)), constant(lifetime=5.0))
    found = settled(mapped, CenteredEP(0.2))
    before = [weight.detach().clone() for weight in mapped.weights]
    still = copy.copy(found.nudged)
    still.tensors = [torch.zeros_like(state) for state in found.nudged.tensors]
    products = [list(p) for _, _, p in edge_products(mapped, still, found.terms, "difference")]
    assert [len(pairs) for pairs in products] == [1, 2]
    learning_step(mapped, still, found.terms, 0.1)
    for weight, start in zip(mapped.weights, before, strict=True):
        torch.testing.assert_close(weight.detach(), 0.8 * start)


def test_arguments_of_a_learning_step() -> None:
    mapped = map_to_aihwkit(mlp((1, 3, 3), 3, (5,)), constant())
    found = settled(mapped, CenteredEP(0.2))
    kept = [parameter.detach().clone() for parameter in mapped.parameters()]
    with pytest.raises(ValueError, match=r"^form: .* must be difference or hebbian"):
        learning_step(mapped, found.nudged, found.terms, 0.1, form="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^learning_rate: "):
        learning_step(mapped, found.nudged, found.terms, 0.0)
    for rate in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=r"^bias_learning_rate: "):
            learning_step(mapped, found.nudged, found.terms, 0.1, bias_learning_rate=rate)
    assert all(torch.equal(a, b) for a, b in zip(mapped.parameters(), kept, strict=True))


def test_pooled_edges_are_pulsed_where_the_winners_sit() -> None:
    geometry = PooledConvolution((1, 4, 4), 1, kernel=1)
    storage = AihwkitStorage(geometry, constant(), seed=0)
    storage.program()
    pre = torch.zeros(1, 1, 4, 4)
    pre[0, 0, 1, 2] = 1.0
    winners = torch.tensor([[[[0, 6], [8, 10]]]])
    post = geometry.unpool(torch.full((1, 1, 2, 2), 1.0), winners)
    storage.pulse_products([(pre, post)], 5 * STEP)
    assert float(storage.weight.detach()) == pytest.approx(5 * STEP, rel=1e-4)
