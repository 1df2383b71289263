"""Training a model in memory: what a script calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from neurosim_ep.data import WHOLE, Augmentation, Batches, Dataset, Preparation, Share
from neurosim_ep.learning.estimators import CenteredEP, Estimator
from neurosim_ep.learning.gradients import Phases
from neurosim_ep.learning.methods import Backpropagation, EquilibriumPropagation, Method
from neurosim_ep.learning.optimisers import parameter_groups
from neurosim_ep.learning.parallel import ALONE, Processes
from neurosim_ep.learning.training import EpochRecord, Training, evaluate
from neurosim_ep.models import (
    Cost,
    ExactStorage,
    FeedForward,
    HopfieldNetwork,
    NoStorage,
    SquaredError,
)


def train(
    model: HopfieldNetwork | FeedForward,
    data: Dataset,
    *,
    estimator: Estimator | None = None,
    cost: Cost | None = None,
    phases: Phases | None = None,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 0.03,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = 1.0,
    optimiser: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    processes: Processes = ALONE,
) -> list[EpochRecord]:
    """Train a model in memory; `neurosim_ep.experiments.run` does the same with a run folder.

    Args:
        model: a Hopfield network learns by EP, its feed-forward counterpart by backpropagation; on
            its own device, in its own dtype.
        data: trained on ``data.train``, tested on ``data.test`` after every epoch.
        estimator: of EP; centered at beta 0.1 by default.
        cost: squared error by default.
        phases: how EP settles; the paper's 120 + 50 iterations by default.
        epochs, batch_size: of the training.
        learning_rate, momentum, weight_decay: of SGD with Nesterov momentum, annealed to zero by a
            cosine; used where no optimiser is given.
        clip_norm: see `Training`.
        optimiser, scheduler: any of ``torch.optim``.
        augmentation: of the training images.
        seed: of the order of images and of the augmentation.
        on_epoch: called after every epoch, in every process.
        processes: those that train together, from `joined_processes`; each brings the model, on a
            device of its own, and all take the first one's weights.

    Returns:
        One record per epoch.

    Raises:
        ValueError: if an argument is out of range or the training diverges.
    """
    cost = cost or SquaredError()
    method: Method
    if isinstance(model, HopfieldNetwork):
        _check_exact(model)
        method = EquilibriumPropagation(
            model, estimator or CenteredEP(0.1), cost, phases or Phases()
        )
        image_size = model.layers[0].shape[-1]
    else:
        method, image_size = Backpropagation(model, cost), model.image_size
    if optimiser is None:
        if scheduler is not None:
            raise ValueError("scheduler: is not allowed without the optimiser that it schedules")
        optimiser = torch.optim.SGD(
            parameter_groups(model, learning_rate),
            lr=learning_rate,
            momentum=momentum,
            nesterov=momentum > 0.0,
            weight_decay=weight_decay,
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)
    train_batches, test = memory_batches(
        model,
        data,
        image_size,
        batch_size=batch_size,
        augmentation=augmentation,
        seed=seed,
        share=processes.share,
    )
    training = Training(
        method,
        optimiser,
        train_batches,
        scheduler=scheduler,
        clip_norm=clip_norm,
        seed=seed,
        processes=processes,
    )
    processes.use(next(model.parameters()).device)
    processes.same_model(model)
    return run_epochs(training, test, epochs, on_epoch)


def memory_batches(
    model: nn.Module,
    data: Dataset,
    image_size: int,
    *,
    batch_size: int,
    augmentation: Augmentation | None,
    seed: int,
    share: Share = WHOLE,
) -> tuple[Batches, Batches]:
    """Batches of the training and of the test images, on a model's device and in its dtype.

    Args:
        model: whose device and dtype are taken.
        data: images (N, channels, height, width), uint8, and labels (N,).
        image_size: side that images are padded to, in pixels.
        batch_size: images of a batch, in all processes together.
        augmentation: of the training images; None leaves them as they are.
        seed: of their order and augmentation.
        share: of this process.
    """
    first = next(model.parameters())
    preparation = Preparation.for_dataset(data, image_size)
    where: dict[str, Any] = {"device": first.device, "dtype": first.dtype, "seed": seed}
    where |= {"batch_size": batch_size, "preparation": preparation, "share": share}
    train = Batches(data.train, augmentation=augmentation, **where)
    return train, Batches(data.test, shuffle=False, **where)


def run_epochs(
    training: Training,
    test: Batches,
    epochs: int,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> list[EpochRecord]:
    """Train for some epochs, and test after each; one record per epoch.

    Args:
        training: what is trained.
        test: batches that are only answered.
        epochs: how many.
        on_epoch: is told each record as it comes.

    Raises:
        ValueError: if the training diverges.
    """
    records = []
    for _ in range(epochs):
        start, rate = time.perf_counter(), training.optimiser.param_groups[0]["lr"]
        summary = training.run_epoch()
        tested = evaluate(training.method, test.epoch(0), training.processes)
        seconds = time.perf_counter() - start
        records.append(EpochRecord(training.epoch, summary, None, tested, rate, seconds))
        if on_epoch is not None:
            on_epoch(records[-1])
    return records


def _check_exact(model: HopfieldNetwork) -> None:
    """Weights on hardware would stay as they are while their digital copies learn."""
    for number, edge in enumerate(model.edge_list()):
        if not isinstance(edge.storage, ExactStorage | NoStorage):
            raise ValueError(
                f"model: edge {number} on {type(edge.storage).__name__} is not allowed; must be "
                "exact (chips learn by neurosim_ep.onchip.train)"
            )
