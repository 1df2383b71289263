"""`train` in memory: learning the digits well above chance, and what it records."""

import math

import pytest
import torch
from torch import Tensor

from neurosim_ep.data import Augmentation
from neurosim_ep.learning import (
    EpochRecord,
    Estimator,
    HolomorphicEP,
    NegativeEP,
    Phases,
    RandomSignEP,
    train,
)
from neurosim_ep.models import CrossEntropy, FeedForward, HopfieldNetwork, mlp

PHASES = Phases(12, 6)


def network(**options) -> HopfieldNetwork:
    return mlp((1, 8, 8), 10, (64,), **options)


def last(records: list[EpochRecord]) -> float:
    assert records[-1].test is not None
    return records[-1].test.accuracy_percent


def values(model: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "estimator", [None, NegativeEP(0.2), RandomSignEP(0.2)], ids=["default", "negative", "random"]
)
def test_ep_learns(digits, estimator: Estimator | None) -> None:
    records = train(
        network(),
        digits,
        estimator=estimator,
        phases=PHASES,
        epochs=6,
        batch_size=20,
        learning_rate=0.1,
    )
    assert last(records) > 90.0
    assert records[-1].train.cost < 0.3 * records[0].train.cost
    assert records[-1].train.unsettled_fraction == 0.0


def test_holomorphic_ep_learns(digits) -> None:
    records = train(
        network(activation="sigmoid"),
        digits,
        estimator=HolomorphicEP(0.5, 4),
        phases=PHASES,
        epochs=6,
        batch_size=20,
        learning_rate=0.1,
    )
    assert last(records) > 90.0
    assert records[-1].train.departure_mean is not None
    assert records[-1].train.departure_mean < 0.5


@pytest.mark.parametrize("cost", [None, CrossEntropy()], ids=["squared error", "cross entropy"])
def test_backpropagation_learns(digits, cost: CrossEntropy | None) -> None:
    records = train(
        FeedForward(network()), digits, cost=cost, epochs=6, batch_size=20, learning_rate=0.1
    )
    assert last(records) > 90.0
    assert records[-1].train.residual_mean is None


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_any_optimiser_of_torch_learns(digits, kind: str) -> None:
    model = network()
    if kind == "adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    else:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    records = train(
        model, digits, phases=PHASES, epochs=6, batch_size=20, optimiser=optimiser, clip_norm=None
    )
    assert last(records) > 88.0
    assert len({record.learning_rate for record in records}) == 1


def test_the_labels_are_what_is_learnt(digits) -> None:
    """With a learning rate of 0 the accuracy stays that of chance."""
    model = network()
    before = values(model)
    records = train(model, digits, phases=PHASES, epochs=2, batch_size=100, learning_rate=0.0)
    assert last(records) < 40.0
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_what_is_recorded(digits) -> None:
    seen: list[EpochRecord] = []
    records = train(
        network(),
        digits,
        phases=PHASES,
        epochs=4,
        batch_size=100,
        learning_rate=0.2,
        on_epoch=seen.append,
    )
    assert seen == records
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    for done, record in enumerate(records):
        cosine = 0.1 * (1.0 + math.cos(math.pi * done / 4))
        assert record.learning_rate == pytest.approx(cosine, rel=1e-9)
        assert record.seconds > 0.0
        assert record.train.images == 500
        assert record.test is not None
        assert record.test.images == 360
        assert record.validation is None
        assert record.train.residual_max >= record.train.residual_mean > 0.0


def test_the_seed_decides_everything_and_the_dtype_is_the_models(digits) -> None:
    def run(seed: int) -> list[Tensor]:
        model = network().double()
        train(
            model,
            digits,
            phases=Phases(6, 3),
            epochs=1,
            batch_size=100,
            seed=seed,
            augmentation=Augmentation(crop_padding_pixels=1),
        )
        return values(model)

    first, again, other = run(1), run(1), run(2)
    assert all(tensor.dtype == torch.float64 for tensor in first)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
