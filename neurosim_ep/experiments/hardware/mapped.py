"""Trained networks on simulated hardware: mapped, calibrated, ready to settle."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep.config import Recipe
from neurosim_ep.crossbar import ArrayCard, CrossbarNetwork, map_to_crossbar
from neurosim_ep.data import Batches, Dataset, Split
from neurosim_ep.devices import DeviceCard
from neurosim_ep.experiments.evaluating import load_run
from neurosim_ep.experiments.images import image_batches, training_splits
from neurosim_ep.learning import EquilibriumPropagation, Estimator, Method, Phases, RandomSignEP
from neurosim_ep.models import Cost, HopfieldNetwork
from neurosim_ep.settling import settle, settle_nudged

CALIBRATION_IMAGES = 128


def prepare_chip(
    network: HopfieldNetwork,
    device: DeviceCard | str,
    array: ArrayCard | str,
    *,
    seed: int,
    images: Tensor,
    labels: Tensor,
    phases: Phases,
    betas: Sequence[complex] = (),
    cost: Cost,
) -> CrossbarNetwork:
    """Put a network on crossbars and set the ranges of their converters.

    Args:
        network: any network; it stays as it is.
        device, array: cards, or names or paths of them.
        seed: of everything that is drawn; one seed is one piece of hardware.
        images: (B, *input shape) to calibrate on: training images, never test images.
        labels: class indices (B,).
        phases: how the network will settle; nudged phases with the reads that they will use.
        betas: nudging of the nudged phases that ranges are needed for; none for free phases only.
        cost: pulls the output in the nudged phases.

    Returns:
        The network on arrays, at time 0.

    Raises:
        ValueError: if a card is not valid, an array is too small, or a settling diverges.
    """
    chip = map_to_crossbar(network, device, array, seed=seed)
    card, directions = chip.array_card, ("forward", "transposed")
    if not any(card.converters(d, delta) for d in directions for delta in (False, True)):
        return chip
    with chip.calibrating():
        free = settle(
            chip,
            images,
            iterations=phases.free_iterations,
            order=phases.order,
            tolerance=phases.tolerance,
        )
        if betas:
            settle_nudged(
                chip,
                free,
                cost.targets(labels, chip.num_outputs, images.dtype),
                betas,
                cost,
                iterations=phases.nudged_iterations,
                order=phases.order,
                reads=phases.nudged_reads,
            )
    return chip


def calibration_betas(estimator: Estimator) -> list[complex]:
    """Nudgings of all phases that an estimator may settle; both signs where it draws one."""
    if isinstance(estimator, RandomSignEP):
        return [estimator.beta, -estimator.beta]
    return [term.beta for term in estimator.terms()]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, with the images that its hardware is calibrated and tested on.

    Attributes:
        recipe: that it was trained by.
        method: the exact network and how it settles.
        data: the recipe's data set.
        images: prepared training images for the calibration (B, *input shape).
        labels: theirs (B,).
        digest: of the weights, to tell trained networks apart.
    """

    recipe: Recipe
    method: EquilibriumPropagation
    data: Dataset
    images: Tensor
    labels: Tensor
    digest: str

    def chip(self, device: DeviceCard, array: ArrayCard, *, seed: int) -> CrossbarNetwork:
        """The network on one piece of hardware, calibrated, see `prepare_chip`.

        Args:
            device, array: cards.
            seed: of the hardware.
        """
        method = self.method
        return prepare_chip(
            method.model,
            device,
            array,
            seed=seed,
            images=self.images,
            labels=self.labels,
            phases=method.phases,
            betas=calibration_betas(method.estimator),
            cost=method.cost,
        )

    def on(self, network: HopfieldNetwork) -> EquilibriumPropagation:
        """The recipe's way of settling, on this network or on a chip of it."""
        method = self.method
        return EquilibriumPropagation(network, method.estimator, method.cost, method.phases)

    def test(self, count: int | None = None) -> Batches:
        """Batches of the test images, or of ``count`` of them spread evenly over all."""
        split = evenly_spaced(self.data.test, count)
        return image_batches(self.recipe, self.data, split, self.images.device)


def load_trained(folder: Path, data: Dataset, *, weights: str = "best") -> Trained:
    """The trained network of a run folder.

    Args:
        folder: of a run by equilibrium propagation with at least one finished epoch.
        data: the recipe's data set.
        weights: ``best`` (by validation) or ``last``.

    Raises:
        ValueError: if the folder holds no such run or weights, or it learned by backpropagation.
    """
    recipe, loaded = load_run(folder, weights=weights)
    method = settling_method(recipe, loaded)
    train, _ = training_splits(recipe, data)
    where = method.model.biases[0].device
    prepared = image_batches(recipe, data, evenly_spaced(train, CALIBRATION_IMAGES), where)
    images, labels = zip(*prepared.epoch(0), strict=True)
    return Trained(
        recipe, method, data, torch.cat(images), torch.cat(labels), weights_digest(method.model)
    )


def settling_method(recipe: Recipe, method: Method) -> EquilibriumPropagation:
    """The method of a recipe by equilibrium propagation.

    Raises:
        ValueError: for backpropagation, whose networks do not settle.
    """
    if not isinstance(method, EquilibriumPropagation):
        raise ValueError(
            f"learning.algorithm: {recipe.learning.algorithm!r} is not allowed on hardware; must "
            "be 'equilibrium_propagation'"
        )
    return method


def evenly_spaced(split: Split, count: int | None) -> Split:
    """``count`` images spread over a split, so that its order does not matter; all if it has fewer.

    Raises:
        ValueError: if the count is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"images: {count} is not allowed; must be at least 1")
    if count is None or count >= len(split):
        return split
    return split.take(torch.arange(count) * len(split) // count)


def weights_digest(network: HopfieldNetwork) -> str:
    """Hash of all parameters, the same wherever they live."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()
