"""From a recipe to what it names: network, method, optimiser, data."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from neurosim_ep._toml_text import problem
from neurosim_ep.config import LearningRecipe, Recipe
from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.data import (
    Batches,
    Dataset,
    derive_seed,
    spec_for,
)
from neurosim_ep.experiments.images import image_batches, load_images, training_splits
from neurosim_ep.experiments.on_chip.building import (
    Cards,
    load_cards,
    on_chip_method,
    on_chip_updates,
)
from neurosim_ep.learning import (
    ALONE,
    Backpropagation,
    CenteredEP,
    EquilibriumPropagation,
    Estimator,
    HolomorphicEP,
    Method,
    NegativeEP,
    Phases,
    PositiveEP,
    Processes,
    RandomSignEP,
    Training,
    Updates,
    parameter_groups,
)
from neurosim_ep.models import (
    Cost,
    CrossEntropy,
    FeedForward,
    HopfieldNetwork,
    SquaredError,
    hopfield_resnet13,
    mlp,
    vgg5,
)
from neurosim_ep.onchip import OnChipLearning, on_chip_groups
from neurosim_ep.settling import Engine

_COSTS: dict[str, type[Cost]] = {"squared_error": SquaredError, "cross_entropy": CrossEntropy}
_ESTIMATORS: dict[str, type[Estimator]] = {
    "positive": PositiveEP,
    "negative": NegativeEP,
    "centered": CenteredEP,
    "random_sign": RandomSignEP,
}


@dataclass(frozen=True)
class Experiment:
    """Everything a recipe's run needs, in memory and ready to start.

    Attributes:
        recipe: what was built.
        data: the whole data set.
        training: the model in training.
        validation: held-out training images; None where the recipe holds out none.
        test: test images.
    """

    recipe: Recipe
    data: Dataset
    training: Training
    validation: Batches | None
    test: Batches


def build(
    recipe: Recipe,
    data_dir: Path | None = None,
    *,
    cards: Cards | None = None,
    progress: bool = True,
    processes: Processes = ALONE,
    loaded: Dataset | None = None,
) -> Experiment:
    """Load the data and build the model of a recipe.

    Args:
        recipe: a valid recipe.
        data_dir: folder with the data sets; see `neurosim_ep.data.load`.
        cards: of a recipe on a chip; None loads those that it names.
        progress: show a download's progress.
        processes: those that train together; batches hold this process's share.
        loaded: the recipe's data set, where it is in memory already.

    Raises:
        ValueError: if the data or the device is missing.
    """
    device, share = device_of(recipe, processes), processes.share
    cards = None if recipe.on_chip is None else cards or load_cards(recipe.on_chip)
    data = load_images(recipe, data_dir, progress=progress, loaded=loaded)
    method = build_method(recipe, device, cards)
    train, validation = training_splits(recipe, data)
    optimiser = build_optimiser(method.model, recipe.learning)
    updates: Updates = optimiser
    if isinstance(method, OnChipLearning):
        updates = on_chip_updates(recipe, method, optimiser)
    training = Training(
        method,
        updates,
        image_batches(recipe, data, train, device, training=True, share=share),
        scheduler=_scheduler(optimiser, recipe.learning),
        clip_norm=recipe.learning.clip_norm,
        seed=recipe.seed,
        processes=processes,
    )
    held_out = None
    if len(validation):
        held_out = image_batches(recipe, data, validation, device, share=share)
    test = image_batches(recipe, data, data.test, device, share=share)
    return Experiment(recipe, data, training, held_out, test)


def device_of(recipe: Recipe, processes: Processes = ALONE) -> torch.device:
    """The recipe's device; ``auto`` takes a GPU where there is one.

    Of several processes on a machine, each has the GPU of its local rank.

    Raises:
        ValueError: if the device is not there.
    """
    name = recipe.run.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not processes.alone:
        name = f"cuda:{processes.local_rank}"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"run.device: {recipe.run.device!r} is not allowed; this machine has "
            f"{torch.cuda.device_count()} CUDA devices"
        )
    return device


def build_network(recipe: Recipe) -> HopfieldNetwork:
    """The recipe's network for its data set, initialised from the recipe's seed."""
    network, alpha, data = recipe.network, recipe.network.alpha, spec_for(recipe.data.name)
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "network"))
    size = recipe.data.image_size or data.image_size
    if network.model == "mlp":
        return mlp(
            (data.channels, size, size),
            data.classes,
            network.widths,
            activation=network.activation,
            alpha=alpha,
            gains=network.gains,
            generator=generator,
        )
    if network.model == "vgg5":
        return vgg5(
            data.channels,
            data.classes,
            network.widths,
            image_size=size,
            activation=network.activation,
            alpha=alpha,
            gains=network.gains,
            generator=generator,
        )
    return hopfield_resnet13(
        data.channels,
        data.classes,
        network.widths,
        image_size=size,
        skip=None if network.skip == "none" else network.skip,
        activation=network.activation,
        alpha=alpha,
        gains=network.gains,
        generator=generator,
    )


def build_method(recipe: Recipe, device: torch.device, cards: Cards | None = None) -> Method:
    """The recipe's model on a device, with the way it learns.

    Args:
        recipe: a valid recipe.
        device: where the tensors live.
        cards: of a recipe on a chip; None loads those that it names.

    Raises:
        ValueError: if a card is missing, or does not go with the recipe.
    """
    dtype = torch.float64 if recipe.run.dtype == "float64" else torch.float32
    network = build_network(recipe).to(device, dtype)
    cost = _COSTS[recipe.learning.cost]()
    if recipe.learning.algorithm == "backpropagation":
        generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "feedforward"))
        model = FeedForward(network, batch_norm=recipe.network.batch_norm, generator=generator)
        return Backpropagation(model.to(device, dtype), cost)
    exact = settling_on(recipe, network)
    if recipe.on_chip is None:
        return exact
    return on_chip_method(recipe, exact, cards or load_cards(recipe.on_chip))


def settling_on(recipe: Recipe, network: HopfieldNetwork) -> EquilibriumPropagation:
    """A network, or a chip of it, with the recipe's way of settling and its contrasts.

    Raises:
        ValueError: for backpropagation, or if the engine does not go with the network's device.
    """
    if recipe.learning.algorithm != "equilibrium_propagation":
        allowed = "'equilibrium_propagation' for a network that settles"
        raise ValueError(problem("learning.algorithm", recipe.learning.algorithm, allowed))
    settling = recipe.settling
    phases = Phases(
        settling.free_iterations,
        settling.nudged_iterations,
        settling.order,
        settling.tolerance,
        settling.nudged_reads,
        Engine(
            settling.precision,
            settling.acceleration,
            settling.capture,
            settling.check_interval,
            settling.fusion,
        ),
    )
    phases.engine.check_device(network.biases[0].device)
    return EquilibriumPropagation(
        network,
        build_estimator(recipe.learning),
        _COSTS[recipe.learning.cost](),
        phases,
        warm_start=settling.warm_start,
    )


def build_estimator(learning: LearningRecipe) -> Estimator:
    """The recipe's EP estimator."""
    if learning.estimator == "holomorphic":
        return HolomorphicEP(learning.beta, learning.points)
    return _ESTIMATORS[learning.estimator](learning.beta)


def build_optimiser(model: torch.nn.Module, learning: LearningRecipe) -> Optimizer:
    """The recipe's optimiser over a model's parameters."""
    rate, rates = learning.learning_rate, learning.weight_learning_rates
    bias_rates = learning.bias_learning_rates
    if isinstance(model, CrossbarNetwork):
        groups = on_chip_groups(
            model,
            list(rates or [rate] * len(model.weights)),
            list(bias_rates or [rate] * len(model.biases)),
        )
    else:
        assert isinstance(model, HopfieldNetwork | FeedForward)
        groups = parameter_groups(
            model, rate, weight_learning_rates=rates, bias_learning_rates=bias_rates
        )
    if learning.optimiser == "adam":
        return torch.optim.Adam(
            groups, lr=learning.learning_rate, weight_decay=learning.weight_decay
        )
    return torch.optim.SGD(
        groups,
        lr=learning.learning_rate,
        momentum=learning.momentum,
        nesterov=learning.nesterov,
        weight_decay=learning.weight_decay,
    )


def _scheduler(optimiser: Optimizer, learning: LearningRecipe) -> LRScheduler | None:
    if learning.schedule == "constant":
        return None
    return CosineAnnealingLR(optimiser, learning.epochs, eta_min=learning.final_learning_rate)
