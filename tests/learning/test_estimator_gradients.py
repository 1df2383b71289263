"""Every estimator against finite differences and against backpropagation through settling."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from neurosim_ep.learning import (
    CenteredEP,
    Contrast,
    Estimator,
    HolomorphicEP,
    NegativeEP,
    Phases,
    PositiveEP,
    RandomSignEP,
    equilibrium_gradient,
)

COSTS = ["squared error", "cross entropy"]
NETWORKS = ["mlp", "graph", "vgg5", "hopfield_resnet13", "identity skips"]
PAIRS = [(name, COSTS[n % 2]) for n, name in enumerate(NETWORKS)]
PAIRS += [("mlp", "cross entropy"), ("graph", "squared error")]
POINTS = [2, 3, 4, 6, 8]


def estimate(problem, free: Sequence[Tensor], estimator: Estimator, seed: int = 0) -> Contrast:
    """The estimator's gradient in ``.grad``, from settled states to settled states."""
    contrast = equilibrium_gradient(
        problem.network,
        problem.images,
        problem.labels,
        estimator,
        cost=problem.cost,
        phases=Phases(1, 80),
        initial=free,
        generator=torch.Generator().manual_seed(seed),
    )
    assert bool((contrast.free.residual < 1e-12).all())
    assert bool((contrast.nudged.residual < 1e-9).all())
    return contrast


def cosine(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    a, b = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (found, wanted))
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize(("name", "cost"), PAIRS)
@pytest.mark.parametrize(
    "estimator",
    [PositiveEP(1e-4), NegativeEP(1e-4), CenteredEP(1e-3), HolomorphicEP(1e-3, points=2)],
    ids=repr,
)
def test_real_estimators_give_the_gradient_of_relu_networks(
    problem, reference, errors, same_pattern, estimator: Estimator, name: str, cost: str
) -> None:
    given, wanted = problem(name, "relu_alpha", cost), reference(name, "relu_alpha", cost)
    contrast = estimate(given, wanted.free, estimator)
    for phase in range(2):
        states = [state.chunk(2)[phase] for state in contrast.nudged]
        assert same_pattern(given.network, wanted.free, states)
    assert max(errors(given.gradients(), wanted.gradients)) < 2e-3
    assert cosine(given.gradients(), wanted.gradients) > 0.9999


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("name", ["mlp", "graph"])
@pytest.mark.parametrize(
    "estimator", [PositiveEP(1e-4), NegativeEP(1e-4), CenteredEP(1e-3)], ids=repr
)
def test_real_estimators_give_the_gradient_of_sigmoid_networks(
    problem, reference, errors, estimator: Estimator, name: str, cost: str
) -> None:
    given, wanted = problem(name, "sigmoid", cost), reference(name, "sigmoid", cost)
    estimate(given, wanted.free, estimator)
    assert max(errors(given.gradients(), wanted.gradients)) < 2e-3
    assert cosine(given.gradients(), wanted.gradients) > 0.9999


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize(("name", "cost"), PAIRS)
def test_holomorphic_ep_gives_the_gradient_of_sigmoid_networks(
    problem, reference, errors, name: str, cost: str, points: int
) -> None:
    given, wanted = problem(name, "sigmoid", cost), reference(name, "sigmoid", cost)
    estimate(given, wanted.free, HolomorphicEP(1e-3, points))
    assert max(errors(given.gradients(), wanted.gradients)) < 1e-4
    assert cosine(given.gradients(), wanted.gradients) > 0.9999


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("activation", ["relu_alpha", "sigmoid"])
def test_against_finite_differences_in_every_parameter_of_an_mlp(
    problem, reference, finite_differences, errors, activation: str, cost: str
) -> None:
    given = problem("mlp", activation, cost)
    free, wanted = (
        reference("mlp", activation, cost).free,
        finite_differences("mlp", activation, cost),
    )
    estimators: list[tuple[Estimator, float]] = [
        (PositiveEP(1e-4), 2e-3),
        (NegativeEP(1e-4), 2e-3),
        (CenteredEP(1e-3), 1e-4),
    ]
    if activation == "sigmoid":
        estimators += [(HolomorphicEP(1e-2, points), 1e-2 ** (points - 1)) for points in (3, 4)]
        estimators += [(HolomorphicEP(1e-2, points), 1e-6) for points in (6, 8)]
    for estimator, bound in estimators:
        estimate(given, free, estimator)
        assert max(errors(given.gradients(), wanted)) < bound, estimator


@pytest.mark.parametrize(
    ("activation", "cost"), [("relu_alpha", "squared error"), ("sigmoid", "cross entropy")]
)
def test_against_finite_differences_in_every_parameter_of_a_graph(
    problem, reference, finite_differences, errors, activation: str, cost: str
) -> None:
    given = problem("graph", activation, cost)
    free = reference("graph", activation, cost).free
    wanted = finite_differences("graph", activation, cost)
    estimators: list[Estimator] = [PositiveEP(1e-4), NegativeEP(1e-4), CenteredEP(1e-3)]
    if activation == "sigmoid":
        estimators += [HolomorphicEP(1e-3, points) for points in POINTS]
    for estimator in estimators:
        estimate(given, free, estimator)
        assert max(errors(given.gradients(), wanted)) < 2e-3, estimator


@pytest.mark.parametrize("name", NETWORKS)
def test_random_sign_ep_averages_to_centered_ep(problem, reference, errors, name: str) -> None:
    given, wanted = problem(name), reference(name)
    found: dict[bool, list[Tensor]] = {}
    for seed in range(20):
        contrast = estimate(given, wanted.free, RandomSignEP(1e-2), seed)
        assert contrast.departure is None
        positive = max(complex(term.beta).real for term in contrast.terms) > 0.0
        found[positive] = given.gradients()
        if len(found) == 2:
            break
    mean = [(a + b) / 2 for a, b in zip(found[True], found[False], strict=True)]
    estimate(given, wanted.free, CenteredEP(1e-2))
    assert max(errors(mean, given.gradients())) < 1e-9
    assert max(errors(found[True], given.gradients())) > 1e-6
