"""Learning from one batch: warm starts, reports, backpropagation against autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neurosim_ep.learning import (
    Backpropagation,
    CenteredEP,
    EquilibriumPropagation,
    Estimator,
    HolomorphicEP,
    NegativeEP,
    Phases,
    PositiveEP,
    equilibrium_gradient,
)
from neurosim_ep.models import CrossEntropy, FeedForward, SquaredError
from neurosim_ep.settling import settle

PHASES = Phases(4, 3)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def ep(problem, estimator: Estimator | None = None, **options) -> EquilibriumPropagation:
    estimator = estimator or CenteredEP(0.1)
    return EquilibriumPropagation(problem.network, estimator, problem.cost, PHASES, **options)


def other_images(problem) -> Tensor:
    return problem.images.flip(0) * 0.7


@pytest.mark.parametrize("name", ["mlp", "graph"])
def test_a_step_is_one_ep_gradient(problem, name: str) -> None:
    given = problem(name)
    report = ep(given).step(given.images, given.labels, generator())
    found = given.gradients()
    wanted = equilibrium_gradient(
        given.network, given.images, given.labels, CenteredEP(0.1), cost=given.cost, phases=PHASES
    )
    for a, b in zip(found, given.gradients(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(report.cost, wanted.cost)
    assert torch.equal(report.wrong, wanted.wrong)
    assert torch.equal(report.residual, wanted.free.residual)
    assert torch.equal(report.settled, wanted.free.settled)
    assert torch.equal(report.departure, wanted.departure)


def test_without_a_warm_start_every_batch_starts_at_rest(problem) -> None:
    given = problem("mlp")
    method = ep(given)
    first = method.step(given.images, given.labels, generator())
    again = method.step(given.images, given.labels, generator())
    assert method.carried() is None
    assert torch.equal(first.residual, again.residual)


@pytest.mark.parametrize(
    ("activation", "estimator", "phase"),
    [
        ("relu_alpha", CenteredEP(0.1), 0.1),
        ("relu_alpha", PositiveEP(0.1), 0.1),
        ("relu_alpha", NegativeEP(0.1), 0.0),
        ("sigmoid", HolomorphicEP(0.1, 4), 0.1),
    ],
    ids=repr,
)
def test_a_warm_start_carries_the_phase_of_the_largest_beta(
    problem, activation: str, estimator: Estimator, phase: float
) -> None:
    given = problem("mlp", activation)
    method = ep(given, estimator, warm_start=True)
    method.step(given.images, given.labels, generator())
    carried = method.carried()
    assert carried is not None
    contrast = equilibrium_gradient(
        given.network, given.images, given.labels, estimator, cost=given.cost, phases=PHASES
    )
    betas = [complex(term.beta) for term in contrast.terms]
    for state, nudged in zip(carried, contrast.nudged, strict=True):
        assert not state.is_complex()
        wanted = nudged.chunk(len(betas))[betas.index(phase)]
        torch.testing.assert_close(state, torch.real(wanted), rtol=0.0, atol=1e-15)
    images = other_images(given)
    report = method.step(images, given.labels, generator())
    warm = equilibrium_gradient(
        given.network,
        images,
        given.labels,
        estimator,
        cost=given.cost,
        phases=PHASES,
        initial=[state.clone() for state in carried],
    )
    assert torch.equal(report.residual, warm.free.residual)
    cold = settle(given.network, images, iterations=4)
    assert not torch.equal(report.residual, cold.residual)


def test_a_warm_start_is_dropped_when_the_batch_size_changes(problem) -> None:
    given = problem("mlp")
    method = ep(given, warm_start=True)
    method.step(given.images, given.labels, generator())
    images = other_images(given)[:2]
    report = method.step(images, given.labels[:2], generator())
    cold = settle(given.network, images, iterations=4)
    assert torch.equal(report.residual, cold.residual)
    carried = method.carried()
    assert carried is not None
    assert [len(state) for state in carried] == [2] * len(carried)


def test_evaluation_starts_at_rest_and_leaves_gradients_and_the_carried_states(problem) -> None:
    given = problem("mlp")
    method = ep(given, warm_start=True)
    method.step(given.images, given.labels, generator())
    gradients, carried = given.gradients(), [state.clone() for state in method.carried()]
    report = method.evaluate(given.images, given.labels)
    cold = settle(given.network, given.images, iterations=4)
    one_hot = torch.eye(3, dtype=torch.float64)[given.labels]
    torch.testing.assert_close(report.cost, 0.5 * ((cold.output - one_hot) ** 2).sum(1))
    assert torch.equal(report.wrong, cold.output.argmax(1) != given.labels)
    assert torch.equal(report.residual, cold.residual)
    assert report.departure is None
    for old, new in zip(carried, method.carried(), strict=True):
        assert torch.equal(old, new)
    for old, new in zip(gradients, given.gradients(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("cost", [SquaredError(), CrossEntropy()], ids=["squared", "entropy"])
@pytest.mark.parametrize("name", ["mlp", "vgg5", "hopfield_resnet13"])
def test_backpropagation_equals_autograd(problem, name: str, cost, batch_norm: bool) -> None:
    given = problem(name)
    model, copy = (FeedForward(given.network, batch_norm=batch_norm) for _ in range(2))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # Replaced, not added to.
    model.eval()
    report = Backpropagation(model, cost).step(given.images, given.labels, generator())
    output = copy.train()(given.images)
    if isinstance(cost, CrossEntropy):
        value = F.cross_entropy(output, given.labels, reduction="none")
    else:
        value = 0.5 * ((output - torch.eye(3, dtype=torch.float64)[given.labels]) ** 2).sum(1)
    wanted = torch.autograd.grad(value.mean(), list(copy.parameters()))
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(report.cost, value.detach())
    assert not report.cost.requires_grad
    assert torch.equal(report.wrong, output.argmax(1) != given.labels)
    assert (report.residual, report.settled, report.departure) == (None, None, None)


def test_backpropagation_evaluates_with_running_statistics_and_carries_nothing(problem) -> None:
    given = problem("vgg5")
    model = FeedForward(given.network, batch_norm=True)
    method = Backpropagation(model, SquaredError())
    method.step(given.images, given.labels, generator())
    statistics = [buffer.clone() for buffer in model.buffers()]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    whole = method.evaluate(given.images, given.labels)
    single = method.evaluate(given.images[:1], given.labels[:1])
    torch.testing.assert_close(whole.cost[:1], single.cost)
    assert not whole.cost.requires_grad
    for old, new in zip(statistics, model.buffers(), strict=True):
        assert torch.equal(old, new)
    for old, parameter in zip(gradients, model.parameters(), strict=True):
        assert torch.equal(old, parameter.grad)
    assert method.carried() is None
    method.carry(None)
