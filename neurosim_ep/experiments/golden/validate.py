"""Compare this program with golden files: what another code computed in float64.

A golden file holds one case (network, images, parameters) and the states, energies, gradients and
optimiser steps that came out of it.  Everything read from it is checked before it is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neurosim_ep.experiments.golden.reader import GoldenReader
from neurosim_ep.learning import (
    CenteredEP,
    Estimator,
    NegativeEP,
    Phases,
    PositiveEP,
    equilibrium_gradient,
)
from neurosim_ep.models import (
    Cost,
    CrossEntropy,
    HopfieldNetwork,
    SquaredError,
    hopfield_resnet13,
    vgg5,
)
from neurosim_ep.settling import settle, settle_nudged

# The optimiser steps of every golden file: SGD, Nesterov, with the same clipped gradient.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, CLIP_NORM = 0.03, 0.9, 3.5e-4, 1.0

_MODELS = {"hopfield_resnet13": hopfield_resnet13, "vgg5": vgg5}
_ALPHAS = {"relu6": 6.0, "hard-sigmoid": 1.0}
_COSTS: dict[str, type[Cost]] = {"MSE": SquaredError, "CE": CrossEntropy}
_ESTIMATORS: dict[str, type[Estimator]] = {
    "centered": CenteredEP,
    "positive": PositiveEP,
    "negative": NegativeEP,
}
_ORDERS = ("asynchronous", "synchronous", "forward", "backward")


@dataclass(frozen=True)
class Case:
    """The root attributes of a golden file, checked.

    Attributes:
        network: the case's network with the file's parameters, float64.
        images, labels: (B, C, 32, 32) and (B,).
        cost, estimator, order, free_iterations, nudged_iterations: how it settles and learns.
    """

    network: HopfieldNetwork
    images: Tensor
    labels: Tensor
    cost: Cost
    estimator: Estimator
    order: str
    free_iterations: int
    nudged_iterations: int


def validate(path: Path) -> dict[str, float]:
    """Worst relative error of this program against a golden file, by kind of quantity.

    The relative error of an array is the norm of the difference over the norm of the golden array.

    Args:
        path: an HDF5 file in the layout of the golden vectors.

    Returns:
        Errors by kind: states, energy, cost, nudged states, gradient, clipped gradient, optimiser
        steps; infinite where this program's result is not finite.

    Raises:
        ValueError: one line, if the file is missing, damaged, foreign or out of bounds.
    """
    worst: dict[str, float] = {}
    with GoldenReader(path) as file:
        case = _case(file)
        for kind, mine, theirs in _comparisons(case, file):
            worst[kind] = max(worst.get(kind, 0.0), _relative_error(mine, theirs))
    return worst


def _case(file: GoldenReader) -> Case:
    model = file.text("model", _MODELS)
    channels = int(file.number("in_channels", 1, 64, whole=True))
    outputs = int(file.number("num_outputs", 2, 10_000, whole=True))
    widths = file.widths()
    alpha = _ALPHAS[file.text("activation", _ALPHAS)]
    images = file.array("input")
    batch = images.shape[0] if images.dim() == 4 else 0
    if batch < 1 or tuple(images.shape[1:]) != (channels, 32, 32):
        raise ValueError(
            f"{file.path}: input has shape {tuple(images.shape)}; must be (batch, {channels}, 32, "
            "32)"
        )
    labels = file.array("label", (batch,), "i")
    if not bool(((labels >= 0) & (labels < outputs)).all()):
        raise ValueError(f"{file.path}: label is out of range; must be 0 to {outputs - 1}")
    # On the meta device a network costs nothing: the shapes are checked before anything is made.
    with torch.device("meta"):
        shapes = _MODELS[model](channels, outputs, widths, alpha=alpha)
    values = [
        file.array(name, tuple(parameter.shape))
        for name, parameter in zip(_names(shapes), shapes.parameters(), strict=True)
    ]
    network = _MODELS[model](channels, outputs, widths, alpha=alpha).double()
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(value)
    return Case(
        network,
        images,
        labels,
        _COSTS[file.text("cost", _COSTS)](),
        _ESTIMATORS[file.text("variant", _ESTIMATORS)](file.number("beta", 1e-12, 1e3)),
        file.text("order", _ORDERS),
        int(file.number("free_iterations", 1, 10_000, whole=True)),
        int(file.number("nudged_iterations", 1, 10_000, whole=True)),
    )


def _names(network: HopfieldNetwork) -> list[str]:
    """Golden names of the parameters, in the order of ``parameters()``."""
    biases = [f"bias/{number:02d}" for number in range(len(network.biases))]
    return biases + [f"weight/{number:02d}" for number in range(len(network.weights))]


def _comparisons(case: Case, file: GoldenReader) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Kind, this program's array, golden array; lazily, in the order of the computation."""
    network, images = case.network, case.images

    def golden_states(group: str, states: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for layer in network.free_layers:
            mine = states[layer]
            yield mine, file.array(f"{group}/state/{layer:02d}", tuple(mine.shape))

    times = [name for name in file.names("free") if name[0] == "t" and name[1:].isdigit()]
    if not times:
        raise ValueError(f"{file.path}: free holds no states; not a golden file")
    states, done = network.rest(images), 0
    for name in sorted(times, key=lambda name: int(name[1:])):
        if not done < int(name[1:]) <= 10_000:
            raise ValueError(f"{file.path}: free/{name} is not allowed; must be t001 to t10000")
        states = settle(
            network, images, iterations=int(name[1:]) - done, order=case.order, initial=states
        ).tensors
        done = int(name[1:])
        for mine, theirs in golden_states(f"free/{name}", states):
            yield "states", mine, theirs
        energy = network.energy(states)
        yield "energy", energy, file.array(f"free/{name}/energy", tuple(energy.shape))

    free = settle(network, images, iterations=case.free_iterations, order=case.order)
    targets = case.cost.targets(case.labels, network.num_outputs, images.dtype)
    cost = case.cost.value(free.output, targets)
    yield "cost", cost, file.array("free/cost", tuple(cost.shape))
    wrong = free.output.argmax(1) != case.labels
    yield "cost", wrong.double(), file.array("free/error", tuple(wrong.shape), "b").double()

    beta = case.estimator.beta
    nudged = settle_nudged(
        network,
        free,
        targets,
        [beta, -beta],
        case.cost,
        iterations=case.nudged_iterations,
        order=case.order,
    )
    phases = [list(phase) for phase in zip(*(s.chunk(2) for s in nudged), strict=True)]
    for group, phase in zip(("nudged_plus", "nudged_minus"), phases, strict=True):
        for mine, theirs in golden_states(group, phase):
            yield "nudged states", mine, theirs
    yield from _learning_comparisons(case, file)


def _learning_comparisons(case: Case, file: GoldenReader) -> Iterator[tuple[str, Tensor, Tensor]]:
    network = case.network
    named = list(zip(_names(network), network.parameters(), strict=True))
    equilibrium_gradient(
        network,
        case.images,
        case.labels,
        case.estimator,
        cost=case.cost,
        phases=Phases(case.free_iterations, case.nudged_iterations, case.order),
    )
    for name, parameter in named:
        assert parameter.grad is not None
        yield "gradient", parameter.grad, file.array(f"gradient/{name}", tuple(parameter.shape))
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
    for name, parameter in named:
        assert parameter.grad is not None
        golden = file.array(f"gradient_clipped/{name}", tuple(parameter.shape))
        yield "clipped gradient", parameter.grad, golden
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=WEIGHT_DECAY,
    )
    for step in (1, 2):
        optimiser.step()
        for name, parameter in named:
            golden = file.array(f"after_step{step}/{name}", tuple(parameter.shape))
            yield "optimiser steps", parameter.detach(), golden


def _relative_error(mine: Tensor, theirs: Tensor) -> float:
    difference = float((mine.detach() - theirs).norm())
    if difference == 0.0:
        return 0.0
    size = float(theirs.norm())
    error = difference / size if size > 0.0 else float("inf")
    return error if error == error else float("inf")
