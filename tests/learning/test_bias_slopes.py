"""How an estimator's error falls with beta on a smooth network: log error against log beta."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosim_ep.learning import (
    CenteredEP,
    Estimator,
    HolomorphicEP,
    NegativeEP,
    Phases,
    PositiveEP,
    RandomSignEP,
    equilibrium_gradient,
)

BETAS = (0.02, 0.03, 0.045, 0.07, 0.1)


def gradient(problem, free: Sequence[Tensor], estimator: Estimator, seed: int = 0) -> Tensor:
    contrast = equilibrium_gradient(
        problem.network,
        problem.images,
        problem.labels,
        estimator,
        cost=problem.cost,
        phases=Phases(1, 100),
        initial=free,
        generator=torch.Generator().manual_seed(seed),
    )
    assert bool((contrast.nudged.residual < 1e-13).all())
    return torch.cat([tensor.flatten() for tensor in problem.gradients()])


def slope(betas: Sequence[float], errors: Sequence[float]) -> float:
    return float(np.polyfit([math.log(b) for b in betas], [math.log(e) for e in errors], 1)[0])


@pytest.mark.parametrize("name", ["mlp", "graph"])
@pytest.mark.parametrize(
    ("kind", "order"),
    [(PositiveEP, 1), (NegativeEP, 1), (CenteredEP, 2)],
)
def test_one_sided_errors_are_of_first_order_and_centered_of_second(
    problem, reference, name: str, kind: type[Estimator], order: int
) -> None:
    given, exact = problem(name, "sigmoid"), reference(name, "sigmoid")
    wanted = torch.cat([tensor.flatten() for tensor in exact.gradients])
    errors = [float((gradient(given, exact.free, kind(b)) - wanted).norm()) for b in BETAS]
    assert slope(BETAS, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("points", [2, 3, 4, 6])
def test_the_error_of_holomorphic_ep_is_of_the_order_of_its_points(
    problem, reference, points: int
) -> None:
    given, exact = problem("mlp", "sigmoid"), reference("mlp", "sigmoid")
    wanted = torch.cat([tensor.flatten() for tensor in exact.gradients])
    errors = [
        float((gradient(given, exact.free, HolomorphicEP(b, points)) - wanted).norm())
        for b in BETAS
    ]
    assert slope(BETAS, errors) == pytest.approx(points, abs=0.25)


def test_the_error_of_holomorphic_ep_ends_in_rounding(problem, reference) -> None:
    given, exact = problem("mlp", "sigmoid"), reference("mlp", "sigmoid")
    wanted = torch.cat([tensor.flatten() for tensor in exact.gradients])
    found = gradient(given, exact.free, HolomorphicEP(0.01, 8))
    assert float((found - wanted).norm() / wanted.norm()) < 1e-12


def test_the_two_signs_of_random_sign_ep_average_to_second_order(problem, reference) -> None:
    given, exact = problem("mlp", "sigmoid"), reference("mlp", "sigmoid")
    wanted = torch.cat([tensor.flatten() for tensor in exact.gradients])
    means, singles = [], []
    for beta in BETAS:
        signs: dict[float, Tensor] = {}
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            sign = sum(complex(t.beta).real for t in RandomSignEP(beta).terms(generator))
            if sign not in signs:
                signs[sign] = gradient(given, exact.free, RandomSignEP(beta), seed)
        assert len(signs) == 2
        means.append(float((torch.stack(list(signs.values())).mean(0) - wanted).norm()))
        singles.append(float((next(iter(signs.values())) - wanted).norm()))
    assert slope(BETAS, means) == pytest.approx(2, abs=0.2)
    assert slope(BETAS, singles) == pytest.approx(1, abs=0.2)
