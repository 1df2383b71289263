"""What one of several processes does for test_parallel_training.py, which starts them by path.

It imports nothing of the tests, and is imported by them for the same trainings in one process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurosim_ep.data import Augmentation, Batches, Preparation, Split
from neurosim_ep.learning import (
    ALONE,
    Backpropagation,
    CenteredEP,
    EquilibriumPropagation,
    Estimator,
    HolomorphicEP,
    Method,
    Phases,
    Processes,
    RandomSignEP,
    Report,
    SharedError,
    Summary,
    Training,
    evaluate,
    joined_processes,
    parameter_groups,
    save_checkpoint,
)
from neurosim_ep.models import CrossEntropy, FeedForward, HopfieldNetwork, SquaredError, mlp, vgg5

OnBatch = Callable[[Training], None]

EPOCHS, STOP_AFTER = 2, 4
WEIGHTS = {"gradients": (0.25, 0.75), "gradients of one": (0.0, 1.0)}
_CENTERED = CenteredEP(0.2)


@dataclass(frozen=True)
class Kind:
    """One training. Eleven images in batches of 4 end with 3, nine with 1: a share of none."""

    count: int = 11
    dtype: torch.dtype = torch.float64
    estimator: Estimator = _CENTERED
    warm_start: bool = False
    convolutional: bool = False
    algorithm: str = "ep"
    batch_norm: bool = False
    optimiser: str = "sgd"


KINDS = {
    "warm": Kind(warm_start=True),
    "warm float32": Kind(warm_start=True, dtype=torch.float32),
    "warm with an empty share": Kind(count=9, warm_start=True),
    "random sign, convolutions": Kind(estimator=RandomSignEP(0.2), convolutional=True),
    "holomorphic, adam": Kind(estimator=HolomorphicEP(0.2, 4), optimiser="adam"),
    "backpropagation": Kind(algorithm="bp", convolutional=True),
    "batch norm": Kind(algorithm="bp", convolutional=True, batch_norm=True),
}


def images(count: int) -> Split:
    """Noise with labels of three classes."""
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(3, (count,), generator=generator))


def make(kind: Kind, processes: Processes = ALONE) -> Training:
    """A training whose clipping, momentum, decay, augmentation and warm start all matter."""
    generator = torch.Generator().manual_seed(0)
    if kind.convolutional:
        network = vgg5(1, 3, (2, 3, 2, 3), image_size=16, generator=generator)
    else:
        holomorphic = isinstance(kind.estimator, HolomorphicEP)
        activation = "sigmoid" if holomorphic else "relu_alpha"
        network = mlp((1, 4, 4), 3, (6, 5), activation=activation, generator=generator)
    model: HopfieldNetwork | FeedForward = network.to(kind.dtype)
    method: Method
    if kind.algorithm == "bp":
        model = FeedForward(network, batch_norm=kind.batch_norm, generator=generator).to(kind.dtype)
        method = Backpropagation(model, CrossEntropy())
    else:
        # So few iterations that the start matters.
        phases = Phases(1, 2) if kind.warm_start else Phases(8, 4)
        method = EquilibriumPropagation(
            network, kind.estimator, SquaredError(), phases, warm_start=kind.warm_start
        )
    groups = parameter_groups(model, 0.05)
    optimiser: torch.optim.Optimizer = torch.optim.Adam(groups, lr=0.01)
    if kind.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, lr=0.2, momentum=0.9, nesterov=True, weight_decay=1e-3)
    split = images(kind.count)
    batches = Batches(
        split,
        batch_size=4,
        preparation=Preparation.for_split(split, 16 if kind.convolutional else 4),
        augmentation=Augmentation(flip_probability=0.5, crop_padding_pixels=1),
        seed=7,
        dtype=kind.dtype,
        share=processes.share,
    )
    return Training(
        method,
        optimiser,
        batches,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=3),
        clip_norm=0.1,
        seed=8,
        processes=processes,
    )


def finish(training: Training, on_batch: OnBatch | None = None) -> dict[str, Any]:
    """Train to the end; what came out."""
    summaries: list[Summary] = []
    while training.epoch < EPOCHS:
        summaries.append(training.run_epoch(on_batch))
    batches = training.batches
    plain = Batches(
        images(batches.images_per_epoch),
        batch_size=4,
        preparation=batches.preparation,
        shuffle=False,
        dtype=batches.dtype,
        share=batches.share,
    )
    tested = evaluate(training.method, plain.epoch(0), training.processes)
    return {
        "model": training.method.model.state_dict(),
        "summaries": [summary.__dict__ for summary in [*summaries, tested]],
    }


class Stop(Exception):
    """The kill."""


def stopped(training: Training, path: Path) -> None:
    """Train until the kill; the first process leaves a checkpoint."""
    done = 0

    def on_batch(training: Training) -> None:
        nonlocal done
        done += 1
        if done == STOP_AFTER:
            state = training.state_dict()
            if training.processes.first:
                save_checkpoint(path, state)
            raise Stop

    try:
        finish(training, on_batch)
    except Stop:
        return
    raise AssertionError("the training was not stopped")


class Diverging:
    """A method whose third step goes wrong in one process alone."""

    def __init__(self, method: Method, rank: int) -> None:
        self._method, self._rank, self._steps = method, rank, 0
        self.model, self.carry, self.carried = method.model, method.carry, method.carried
        self.evaluate = method.evaluate

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Report:
        """As the method's, until the third."""
        self._steps += 1
        if self._steps == 3 and self._rank == 1:
            raise ValueError("settling: this process diverges")
        return self._method.step(images, labels, generator)


def gradients(rank: int) -> list[torch.nn.Parameter]:
    """Parameters of several layouts whose gradients differ between the processes."""
    generator = torch.Generator().manual_seed(rank)
    shapes = [(3,), (4, 2, 3, 3), (2, 5), (6,)]
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    parameters[1].data = parameters[1].data.contiguous(memory_format=torch.channels_last)
    for parameter in parameters:
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.empty_like(parameter).copy_(drawn)
    parameters[2].grad = None if rank == 0 else parameters[2].grad
    parameters[3].requires_grad_(False)
    return parameters


def main(out: Path) -> None:
    """All trainings, in the processes of the environment."""
    torch.set_num_threads(1)
    with joined_processes() as processes:
        rank = processes.share.rank
        found: dict[str, Any] = {}
        for name, kind in KINDS.items():
            found[name] = finish(make(kind, processes))
        warm = KINDS["warm"]
        stopped(make(warm, processes), out / "two.pt")
        processes.wait()
        for start in ("one", "two"):
            training = make(warm, processes)
            training.load_state_dict(torch.load(out / f"{start}.pt", weights_only=True))
            found[f"resumed from {start}"] = finish(training)
        training = make(warm, processes)
        training.method = Diverging(training.method, rank)
        try:
            finish(training)
        except SharedError as error:
            found["error"] = str(error)
        for name, weights in WEIGHTS.items():
            parameters = gradients(rank)
            processes.sum_gradients(parameters, weights[rank])
            found[name] = [parameter.grad for parameter in parameters]
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, float(rank + 1))
        processes.same_model(model)
        found["same model"] = model.state_dict()
        found["decided"] = [processes.decided(rank == 0), processes.decided(rank == 1)]
        save_checkpoint(out / f"rank-{rank}.pt", found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
