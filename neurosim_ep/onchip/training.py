"""Training a chip in memory, as `neurosim_ep.learning.train` does an exact network."""

from collections.abc import Callable

import torch

from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.data import Augmentation, Dataset
from neurosim_ep.learning import (
    CenteredEP,
    EpochRecord,
    Estimator,
    Phases,
    Training,
    memory_batches,
    run_epochs,
)
from neurosim_ep.models import Cost, SquaredError
from neurosim_ep.onchip.learning import OnChipLearning, OnChipUpdates, on_chip_groups
from neurosim_ep.onchip.pulsed import Pulsed
from neurosim_ep.onchip.rule import Rule


def train(
    chip: CrossbarNetwork,
    data: Dataset,
    *,
    rule: Rule | None = None,
    estimator: Estimator | None = None,
    cost: Cost | None = None,
    phases: Phases | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    augmentation: Augmentation | None = None,
    calibration_interval: int = 10,
    seed: int = 0,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> list[EpochRecord]:
    """Train a chip by moving its devices; a recipe's table [on_chip] does the same in a run folder.

    Args:
        chip: whose layout suits the rule (`Layout.pair_baseline`, `Layout.scale_headroom`).
        data: trained on ``data.train``, tested on ``data.test`` after every epoch.
        rule: how contrasts move the devices; pulsed differences by default.
        estimator: of EP; centered at beta 0.3 by default.
        cost: squared error by default.
        phases: how EP settles; the paper's 120 + 50 iterations by default.
        epochs, batch_size: of the training.
        learning_rate: annealed to zero by a cosine.
        momentum: for rules with a digital gradient.
        augmentation: of the training images.
        calibration_interval: of the converters' ranges, in batches.
        seed: of the order of images, the augmentation and the pulses.
        on_epoch: called after every epoch.

    Returns:
        One record per epoch.

    Raises:
        ValueError: if an argument is out of range, the rule cannot move these devices, or the
            training diverges.
    """
    rule = rule or Pulsed()
    if momentum and not rule.digital_gradient:
        raise ValueError(
            f"momentum: {momentum} is not allowed with {type(rule).__name__}; must be 0, as no "
            "gradient is held between updates"
        )
    method = OnChipLearning(
        chip,
        rule,
        estimator or CenteredEP(0.3),
        cost or SquaredError(),
        phases or Phases(),
        calibration_interval=calibration_interval,
    )
    rates = [learning_rate] * len(chip.weights), [learning_rate] * len(chip.biases)
    optimiser = torch.optim.SGD(
        on_chip_groups(chip, *rates), lr=learning_rate, momentum=momentum, nesterov=momentum > 0.0
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)
    batches, test = memory_batches(
        chip,
        data,
        chip.layers[0].shape[-1],
        batch_size=batch_size,
        augmentation=augmentation,
        seed=seed,
    )
    updates = OnChipUpdates(method, optimiser, seed=seed)
    training = Training(method, updates, batches, scheduler=scheduler, seed=seed)
    return run_epochs(training, test, epochs, on_epoch)
