"""Shares of batches against the whole batches, image by image; refusals that need no process."""

from __future__ import annotations

import itertools

import pytest
import torch
from typer.testing import CliRunner

from neurosim_ep.cli import app
from neurosim_ep.config import load_recipe
from neurosim_ep.data import Augmentation, Batches, Preparation, Share, Split
from neurosim_ep.experiments.build import device_of
from neurosim_ep.experiments.processes import check_together
from neurosim_ep.learning import (
    Backpropagation,
    EquilibriumPropagation,
    Phases,
    PositiveEP,
    Processes,
    Report,
    Totals,
    Training,
    joined_processes,
)
from neurosim_ep.models import FeedForward, SquaredError, mlp, vgg5

AUGMENTATIONS = {
    "none": None,
    "flip and crop": Augmentation(flip_probability=0.5, crop_padding_pixels=2),
    "randaugment": Augmentation(randaugment_operations=2),
}


def some_batches(count: int, share: Share, augmentation: Augmentation | None = None) -> Batches:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(pixels, torch.arange(count))
    return Batches(
        split,
        batch_size=6,
        preparation=Preparation.for_split(split, 9),
        augmentation=augmentation,
        seed=1,
        share=share,
    )


@pytest.mark.parametrize("count", range(1, 9))
def test_shares_are_consecutive_and_even(count: int) -> None:
    for size in range(40):
        whole = list(range(size))
        parts = [whole[Share(rank, count).rows(size)] for rank in range(count)]
        assert list(itertools.chain(*parts)) == whole
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_share_has_a_rank() -> None:
    for rank in (-1, 2, 3):
        with pytest.raises(ValueError, match=rf"rank: {rank} is not allowed.*below 2"):
            Share(rank, 2)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_of_batches_make_the_batches_bit_for_bit(name: str, count: int) -> None:
    # Nineteen images end with a batch of one: all shares but one hold none of it.
    augmentation = AUGMENTATIONS[name]
    whole = list(some_batches(19, Share(), augmentation).epoch(1, start_batch=1))
    shares = [
        list(some_batches(19, Share(rank, count), augmentation).epoch(1, start_batch=1))
        for rank in range(count)
    ]
    assert [len(batches) for batches in shares] == [len(whole)] * count
    for index, (images, labels) in enumerate(whole):
        parts = [batches[index] for batches in shares]
        assert torch.equal(torch.cat([part for part, _ in parts]), images)
        assert torch.equal(torch.cat([part for _, part in parts]), labels)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [1, 5, 6, 12, 19])
def test_images_in_a_batch_are_counted(count: int, drop_last: bool) -> None:
    batches = some_batches(count, Share())
    batches.drop_last = drop_last
    found = [len(labels) for _, labels in batches.epoch(0)]
    assert [batches.images_in(index) for index in range(len(batches))] == found


def test_totals_of_shares_are_those_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    cost, residual, departure = torch.rand(3, 10, generator=generator, dtype=torch.float64)
    wrong, settled = cost > 0.4, residual < 0.7

    def totals(rows: slice) -> Totals:
        part = Totals()
        part.add(Report(cost[rows], wrong[rows], residual[rows], settled[rows], departure[rows]))
        return part

    whole = totals(slice(0, 10)).summary()
    parts = [totals(slice(0, 3)), Totals(), totals(slice(3, 10))]
    merged = Totals.merged([part.state_dict() for part in parts]).summary()
    assert merged.residual_max == whole.residual_max == float(residual.max())
    assert merged.__dict__ == pytest.approx(whole.__dict__, rel=1e-14)
    with pytest.raises(ValueError, match="images: 0 is not allowed"):
        Totals.merged([Totals().state_dict()] * 2).summary()


def test_a_training_wants_the_batches_of_its_process() -> None:
    network = mlp((1, 9, 9), 19, (4,))
    method = EquilibriumPropagation(network, PositiveEP(0.1), SquaredError(), Phases(2, 2))
    optimiser = torch.optim.SGD(network.parameters())
    with pytest.raises(ValueError, match=r"batches: .*count=1.* is not allowed; .*count=2"):
        Training(method, optimiser, some_batches(19, Share()), processes=Processes(Share(1, 2)))
    share = Share(3, 7)
    with pytest.raises(ValueError, match=r"batch_size: 6 is not allowed with 7 .* at least 7"):
        Training(method, optimiser, some_batches(19, share), processes=Processes(share))


def test_batch_norm_needs_an_image_in_every_process() -> None:
    # Nineteen images in batches of 6 end with one; eighteen do not.
    for count in (18, 19):
        plain = vgg5(1, count, (2, 2, 2, 2), image_size=16)
        method = Backpropagation(FeedForward(plain, batch_norm=True), SquaredError())
        optimiser, share = torch.optim.SGD(method.model.parameters()), Share(0, 2)
        batches = some_batches(count, share)
        if count == 18:
            Training(method, optimiser, batches, processes=Processes(share))
            continue
        with pytest.raises(ValueError, match=r"batch_size: 6 is not .* batch norm .* 1 images"):
            Training(method, optimiser, batches, processes=Processes(share))


@pytest.mark.parametrize(
    ("recipe", "override", "line"),
    [
        ("digits-on-chip", "seed=0", "on_chip.device_card: .* absent with 2 processes"),
        ("digits", "run.device=cuda:0", 'run.device: "cuda:0" is not allowed; must be "auto"'),
        ("digits", "learning.batch_size=1", "learning.batch_size: 1 .* at least 2"),
    ],
)
def test_refusals(recipe: str, override: str, line: str) -> None:
    wanted = load_recipe(recipe, [override])
    check_together(wanted, Processes())
    with pytest.raises(ValueError, match=line):
        check_together(wanted, Processes(Share(0, 2)))


def test_each_process_has_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    recipe = load_recipe("digits", ["run.device=auto"])
    found = [str(device_of(recipe, Processes(Share(r, 4), r % 2))) for r in range(4)]
    assert found == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert str(device_of(recipe)) == "cuda"
    with pytest.raises(ValueError, match=r"run.device: 'auto' is not allowed; .* has 2 CUDA"):
        device_of(recipe, Processes(Share(2, 4), 2))


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE: 'two' is not allowed"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK: '-1' is not allowed"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "rank: 2 is not allowed"),
    ],
)
def test_a_wrong_environment_is_told(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], line: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=line), joined_processes():
        raise AssertionError


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({}, {"WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "1"}):
        for name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with joined_processes() as processes:
            assert processes.alone
            assert processes.first
            assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("command", ["recipes", "evaluate", "compare"])
def test_only_a_training_is_shared(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, [command, "digits"][: 1 if command == "recipes" else 2])
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: command: '{command}' is not allowed with several processes; must be 'train' "
        "(start the others without torchrun)\n"
    )
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert CliRunner().invoke(app, ["recipes"]).exit_code == 0
