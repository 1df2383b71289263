"""The training loop against the same loop written out: clipping, optimisers, schedulers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurosim_ep.data import Batches, Preparation
from neurosim_ep.learning import (
    Backpropagation,
    CenteredEP,
    EquilibriumPropagation,
    Phases,
    RandomSignEP,
    Report,
    Training,
    evaluate,
    parameter_groups,
)
from neurosim_ep.models import CrossEntropy, FeedForward, HopfieldNetwork, SquaredError, mlp


def network() -> HopfieldNetwork:
    return mlp((1, 4, 4), 3, (6,))


def make_batches(split, size: int = 4, **options) -> Batches:
    return Batches(split, batch_size=size, preparation=Preparation.for_split(split, 4), **options)


def ep(model: HopfieldNetwork | None = None, **options) -> EquilibriumPropagation:
    model = model or network()
    return EquilibriumPropagation(model, CenteredEP(0.2), SquaredError(), Phases(8, 4), **options)


def values(model: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def clipped(gradients: list[Tensor], norm: float | None) -> list[Tensor]:
    if norm is None:
        return gradients
    total = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    return [g * min(1.0, norm / total) for g in gradients]


@pytest.mark.parametrize("norm", [None, 1e-3, 0.05, 1e6])
@pytest.mark.parametrize("learns", ["ep", "backpropagation"])
def test_gradients_are_scaled_down_together(few_images, learns: str, norm: float | None) -> None:
    def build() -> EquilibriumPropagation | Backpropagation:
        return ep() if learns == "ep" else Backpropagation(FeedForward(network()), CrossEntropy())

    method, other = build(), build()
    batches = make_batches(few_images, size=11)
    ((images, labels),) = batches.epoch(0)
    other.step(images, labels, torch.Generator())
    gradients = [parameter.grad for parameter in other.model.parameters()]
    wanted = [w - g for w, g in zip(values(other.model), clipped(gradients, norm), strict=True)]
    optimiser = torch.optim.SGD(method.model.parameters(), lr=1.0)
    Training(method, optimiser, batches, clip_norm=norm).run_epoch()
    for found, want in zip(method.model.parameters(), wanted, strict=True):
        torch.testing.assert_close(found.detach(), want, rtol=1e-4, atol=1e-7)
    if norm is not None and norm < 1.0:
        left = sum(float(p.grad.square().sum()) for p in method.model.parameters())
        assert math.sqrt(left) == pytest.approx(norm, rel=1e-3)


OPTIMISERS: dict[str, Callable[[HopfieldNetwork], torch.optim.Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(
        parameter_groups(model, 0.05), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    ),
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    "adamw": lambda model: torch.optim.AdamW(parameter_groups(model, 0.01), lr=0.01),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), lr=0.01),
}
SCHEDULERS = {
    "none": lambda optimiser: None,
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=3, eta_min=1e-4),
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.1),
    "warm-up": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, total_iters=2),
            torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        ],
        milestones=[2],
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_optimisers_and_schedulers_of_torch_work_unchanged(
    few_images, kind: str, schedule: str
) -> None:
    batches, rates = make_batches(few_images, seed=3), []
    method = ep()
    optimiser = OPTIMISERS[kind](method.model)
    training = Training(
        method, optimiser, batches, scheduler=SCHEDULERS[schedule](optimiser), clip_norm=0.5
    )
    for _ in range(3):
        rates.append(optimiser.param_groups[0]["lr"])
        training.run_epoch()

    other = ep()
    by_hand = OPTIMISERS[kind](other.model)
    scheduler = SCHEDULERS[schedule](by_hand)
    wanted_rates = []
    for epoch in range(3):
        wanted_rates.append(by_hand.param_groups[0]["lr"])
        for images, labels in batches.epoch(epoch):
            other.step(images, labels, torch.Generator())
            torch.nn.utils.clip_grad_norm_(list(other.model.parameters()), 0.5)
            by_hand.step()
        if scheduler is not None:
            scheduler.step()
    assert rates == wanted_rates
    assert (len(set(rates)) > 1) == (schedule != "none")
    for found, wanted in zip(values(method.model), values(other.model), strict=True):
        assert torch.equal(found, wanted)
    for start, end in zip(values(network()), values(method.model), strict=True):
        assert not torch.equal(start, end)


def test_counters_and_the_summary_of_an_epoch(few_images) -> None:
    batches, seen, reports = make_batches(few_images), [], []

    class Spy(EquilibriumPropagation):
        def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Report:
            reports.append(super().step(images, labels, generator))
            return reports[-1]

    method = Spy(network(), CenteredEP(0.2), SquaredError(), Phases(8, 4))
    training = Training(method, torch.optim.SGD(method.model.parameters(), lr=0.1), batches)
    assert (training.epoch, training.batch) == (0, 0)
    for epoch in range(2):
        reports.clear()
        summary = training.run_epoch(lambda at: seen.append((at.epoch, at.batch)))
        assert summary.images == 11
        costs = torch.cat([report.cost for report in reports]).double()
        assert summary.cost == pytest.approx(float(costs.mean()), rel=1e-12)
        assert (training.epoch, training.batch) == (epoch + 1, 0)
    assert seen == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]


def test_carried_states_are_dropped_at_the_end_of_an_epoch(few_images) -> None:
    method, carried = ep(warm_start=True), []
    training = Training(
        method,
        torch.optim.SGD(method.model.parameters(), lr=0.0),
        make_batches(few_images, shuffle=False),
    )
    first = training.run_epoch(lambda at: carried.append(at.method.carried()))
    assert [len(states[0]) for states in carried] == [4, 4, 3]
    assert method.carried() is None
    # With a learning rate of 0 and no shuffling, equal epochs are epochs with equal starts.
    assert training.run_epoch() == first
    cold = ep()
    cold_training = Training(
        cold,
        torch.optim.SGD(cold.model.parameters(), lr=0.0),
        make_batches(few_images, shuffle=False),
    )
    assert cold_training.run_epoch() != first


def test_random_signs_follow_the_seed_and_vary_from_batch_to_batch(few_images) -> None:
    def signs(seed: int) -> list[bool]:
        drawn = []

        class Spy(EquilibriumPropagation):
            def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Report:
                terms = self.estimator.terms(generator.clone_state())
                drawn.append(any(complex(term.beta).real > 0.0 for term in terms))
                return super().step(images, labels, generator)

        method = Spy(network(), RandomSignEP(0.2), SquaredError(), Phases(2, 1))
        optimiser = torch.optim.SGD(method.model.parameters(), lr=0.01)
        training = Training(method, optimiser, make_batches(few_images, size=1), seed=seed)
        training.run_epoch()
        training.run_epoch()
        return drawn

    first, again, other = signs(1), signs(1), signs(2)
    assert first == again
    assert first != other
    assert first[:11] != first[11:]
    assert 4 <= sum(first) <= 18


def test_evaluation_is_a_mean_over_all_images_and_learns_nothing(few_images) -> None:
    method = ep()
    before = values(method.model)
    summary = evaluate(method, make_batches(few_images, shuffle=False).epoch(0))
    whole = evaluate(method, make_batches(few_images, size=11, shuffle=False).epoch(0))
    assert summary.images == whole.images == 11
    assert summary.cost == pytest.approx(whole.cost, rel=1e-6)
    assert summary.accuracy_percent == whole.accuracy_percent
    assert summary.departure_mean is None
    for old, new in zip(before, method.model.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None
    with pytest.raises(ValueError, match=r"^images: 0 "):
        evaluate(method, [])


@pytest.mark.parametrize("learns", ["ep", "backpropagation"])
def test_a_diverging_training_ends_with_one_line(few_images, learns: str) -> None:
    if learns == "ep":
        method: EquilibriumPropagation | Backpropagation = ep()
    else:
        method = Backpropagation(FeedForward(network()), SquaredError())
    optimiser = torch.optim.SGD(method.model.parameters(), lr=1e38)
    training = Training(method, optimiser, make_batches(few_images))
    with pytest.raises(ValueError, match="diverges") as caught:
        training.run_epoch()
    assert "\n" not in str(caught.value)
