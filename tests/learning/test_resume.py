"""A training stopped after any batch and continued elsewhere ends in the same bits."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.data import Augmentation, Batches, Preparation, Split
from neurosim_ep.learning import (
    Backpropagation,
    CenteredEP,
    EquilibriumPropagation,
    Estimator,
    HolomorphicEP,
    Method,
    Phases,
    RandomSignEP,
    Summary,
    Training,
    load_checkpoint,
    parameter_groups,
    save_checkpoint,
)
from neurosim_ep.models import CrossEntropy, FeedForward, HopfieldNetwork, SquaredError, mlp, vgg5

EPOCHS, STOPS = 2, (1, 2, 3, 4, 5, 6)  # Eleven images make three batches an epoch.
KINDS = (
    "ep",
    "ep warm",
    "ep warm delta sigmoid",
    "random sign",
    "holomorphic warm",
    "backpropagation",
)


class Stop(Exception):
    """The kill."""


def images() -> Split:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(256, (11, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(3, (11,), generator=generator))


def make_method(kind: str, seed: int) -> tuple[Method, int]:
    """The method and its image size; another seed gives other weights and other bounds."""
    generator = torch.Generator().manual_seed(seed)
    estimator: Estimator = CenteredEP(0.2)
    warm = "warm" in kind
    phases = Phases(2, 2) if warm else Phases(6, 3)  # So few that the start matters.
    if kind == "backpropagation":
        plain = vgg5(1, 3, (2, 3, 2, 3), image_size=16)
        model = FeedForward(plain, batch_norm=True, generator=generator)
        return Backpropagation(model, CrossEntropy()), 16
    if "sigmoid" in kind or "holomorphic" in kind:
        network = mlp((1, 4, 4), 3, (6, 5), activation="sigmoid", generator=generator)
        if "holomorphic" in kind:
            estimator = HolomorphicEP(0.2, 4)
        else:
            phases = Phases(2, 2, nudged_reads="delta")
    else:
        widths = (2, 3, 2, 3)
        network = vgg5(1, 3, widths, image_size=16, alpha="random", generator=generator)
        if kind == "random sign":
            estimator, phases = RandomSignEP(0.2), Phases(9, 3, tolerance=1e-3)
    size = network.layers[0].shape[-1]
    method = EquilibriumPropagation(network, estimator, SquaredError(), phases, warm_start=warm)
    return method, size


def make(kind: str, optimiser: str, weight_seed: int = 0) -> Training:
    method, size = make_method(kind, weight_seed)
    model = method.model
    assert isinstance(model, HopfieldNetwork | FeedForward)
    groups = parameter_groups(model, 0.05)
    chosen: torch.optim.Optimizer
    if optimiser == "sgd":
        chosen = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    else:
        chosen = torch.optim.Adam(groups, lr=0.01)
    split = images()
    batches = Batches(
        split,
        batch_size=4,
        preparation=Preparation.for_split(split, size),
        augmentation=Augmentation(flip_probability=0.5, crop_padding_pixels=1),
        seed=7,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(chosen, T_max=3, eta_min=1e-4)
    return Training(method, chosen, batches, scheduler=scheduler, clip_norm=0.5, seed=8)


@functools.cache
def uninterrupted(kind: str, optimiser: str) -> tuple[Training, list[Summary]]:
    training = make(kind, optimiser)
    return training, [training.run_epoch() for _ in range(EPOCHS)]


def assert_same(found: Any, wanted: Any, path: str = "") -> None:
    """Bit for bit, through dictionaries and lists."""
    assert type(found) is type(wanted), path
    if isinstance(wanted, Tensor):
        assert found.dtype == wanted.dtype, path
        assert torch.equal(found, wanted), path
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted), path
        for key in wanted:
            assert_same(found[key], wanted[key], f"{path}/{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), path
        for place, (a, b) in enumerate(zip(found, wanted, strict=True)):
            assert_same(a, b, f"{path}/{place}")
    else:
        assert found == wanted, path


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize(
    ("kind", "optimiser"), [*((kind, "sgd") for kind in KINDS), ("ep warm", "adam")]
)
def test_a_continued_training_ends_in_the_same_bits(
    tmp_path: Path, kind: str, optimiser: str, stop: int
) -> None:
    whole, summaries = uninterrupted(kind, optimiser)
    file, done = tmp_path / "checkpoint.pt", 0

    def kill(training: Training) -> None:
        nonlocal done
        done += 1
        if done == stop:
            save_checkpoint(file, training.state_dict())
            raise Stop

    first = make(kind, optimiser)
    if stop > 3:
        first.run_epoch(kill)
    with pytest.raises(Stop):
        first.run_epoch(kill)
    second = make(kind, optimiser, weight_seed=99)
    second.load_state_dict(load_checkpoint(file))
    assert (second.epoch, second.batch) == ((stop - 1) // 3, (stop - 1) % 3 + 1)
    assert_same(second.state_dict(), first.state_dict())
    continued = []
    while second.epoch < EPOCHS:
        continued.append(second.run_epoch())
    assert continued == summaries[(stop - 1) // 3 :]
    assert_same(second.state_dict(), whole.state_dict())


@pytest.mark.parametrize("kind", ["ep warm", "backpropagation"])
def test_between_epochs(tmp_path: Path, kind: str) -> None:
    whole, summaries = uninterrupted(kind, "sgd")
    first = make(kind, "sgd")
    first.run_epoch()
    save_checkpoint(tmp_path / "checkpoint.pt", first.state_dict())
    second = make(kind, "sgd", weight_seed=99)
    second.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert (second.epoch, second.batch) == (1, 0)
    assert second.run_epoch() == summaries[1]
    assert_same(second.state_dict(), whole.state_dict())


@pytest.mark.parametrize("dropped", ["model", "optimiser", "carried", "totals", "scheduler"])
def test_every_part_of_the_saved_state_matters(tmp_path: Path, dropped: str) -> None:
    """What is not restored shows: the test above can fail."""
    whole, summaries = uninterrupted("ep warm", "sgd")

    def kill(training: Training) -> None:
        if (training.epoch, training.batch) == (1, 1):
            save_checkpoint(tmp_path / "checkpoint.pt", training.state_dict())
            raise Stop

    first = make("ep warm", "sgd")
    first.run_epoch(kill)
    with pytest.raises(Stop):
        first.run_epoch(kill)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    second = make("ep warm", "sgd", weight_seed=99)
    state[dropped] = second.state_dict()[dropped]
    second.load_state_dict(state)
    summary = second.run_epoch()
    saved, wanted = second.state_dict(), whole.state_dict()
    if dropped in ("totals", "scheduler"):
        assert (summary, saved["scheduler"]) != (summaries[1], wanted["scheduler"])
    else:
        weights = [
            torch.equal(a, b)
            for a, b in zip(
                second.method.model.parameters(), whole.method.model.parameters(), strict=True
            )
        ]
        assert not all(weights)


@pytest.mark.parametrize("kind", KINDS)
def test_two_equal_trainings_are_equal(kind: str) -> None:
    whole, summaries = uninterrupted(kind, "sgd")
    state = torch.get_rng_state()
    torch.manual_seed(12345)  # Nothing is drawn from the global generator.
    again = make(kind, "sgd")
    assert [again.run_epoch() for _ in range(EPOCHS)] == summaries
    assert_same(again.state_dict(), whole.state_dict())
    torch.set_rng_state(state)


def test_a_checkpoint_holds_the_carried_states_once(tmp_path: Path) -> None:
    """Not the storage of all phases, of which the carried one is a view."""
    training, sizes = make("ep warm", "sgd"), []

    def save(at: Training) -> None:
        states = at.method.carried()
        assert states is not None
        save_checkpoint(tmp_path / "states.pt", {"carried": states})
        save_checkpoint(tmp_path / "copies.pt", {"carried": [s.clone() for s in states]})
        sizes.append([(tmp_path / f"{n}.pt").stat().st_size for n in ("states", "copies")])

    training.run_epoch(save)
    for states, copies in sizes:
        assert states < 1.1 * copies
