"""How close an analog contrastive gradient is to the true one, layer by layer."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork, CrossbarStorage
from neurosim_ep.learning import (
    CenteredEP,
    Estimator,
    Phases,
    accumulate_contrast,
    departure,
    equilibrium_gradient,
)
from neurosim_ep.models import Cost, Edge, HopfieldNetwork, Layer, SquaredError, WeightStorage
from neurosim_ep.settling import settle, settle_nudged

REFERENCE_BETA = 0.002
REFERENCE_FREE_ITERATIONS = 2000
REFERENCE_NUDGED_ITERATIONS = 300
FREE_TOLERANCE = 1e-10
# The nudged phases differ by 1e-9 of the states in the first layers of a deep network.
NUDGED_TOLERANCE = 1e-14


@dataclass(frozen=True)
class Response:
    """The linear response, and how far it can be trusted.

    Attributes:
        gradients: dC/dweight in float64, one per weight in edge order.
        residual: largest residual of the free phase; above 1e-6 or so it had not settled.
        departure: largest departure of the nudged phases from the free state's basin (see
            `neurosim_ep.learning.departure`).
    """

    gradients: list[Tensor]
    residual: float
    departure: float


@dataclass(frozen=True)
class Fidelity:
    """One gradient against a reference.

    A layer here is an edge with weights.  The cosine is 0 where the measured gradient is zero, and
    cosine and ratio are NaN where the reference is.

    Attributes:
        cosine: over all weights together.
        norm_ratio: measured over reference, over all weights together.
        cosines: one per layer.
        norm_ratios: one per layer.
    """

    cosine: float
    norm_ratio: float
    cosines: tuple[float, ...]
    norm_ratios: tuple[float, ...]

    @property
    def worst_layer(self) -> int:
        """Index of the layer with the smallest cosine."""
        known = [n for n, cosine in enumerate(self.cosines) if not math.isnan(cosine)]
        return min(known, key=self.cosines.__getitem__)

    @property
    def worst(self) -> float:
        """Cosine of the worst layer."""
        return self.cosines[self.worst_layer]


def exact_network(network: HopfieldNetwork, *, as_programmed: bool = False) -> HopfieldNetwork:
    """A copy in float64 with exact reads.

    Args:
        network: exact or on crossbars; stays as it is.
        as_programmed: take the weights that the arrays' forward reads see now, with programming
            errors, drift and wires, instead of the digital ones.
    """
    layers = [Layer(layer.shape, copy.deepcopy(layer.activation)) for layer in network.layers]
    edges = [Edge(edge.pre, edge.post, edge.geometry) for edge in network.edge_list()]
    exact = HopfieldNetwork(layers, edges).to(network.biases[0].device, torch.float64)
    with torch.no_grad():
        for mine, theirs in zip(exact.biases, network.biases, strict=True):
            mine.copy_(theirs)
        for edge, source in zip(edges, network.edge_list(), strict=True):
            held = source.storage
            if not (isinstance(edge.storage, WeightStorage) and isinstance(held, WeightStorage)):
                continue
            weight: Tensor = held.weight
            if as_programmed and isinstance(held, CrossbarStorage):
                weight = held.effective_weight()
            edge.storage.weight.copy_(weight)
    return exact


def linear_response(
    network: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    cost: Cost | None = None,
    *,
    as_programmed: bool = False,
) -> list[Tensor]:
    """True gradient of the settled state's cost: settled, at so small a beta that states respond
    linearly, in float64 with exact reads.

    A settled gradient at the training beta is no reference.  At a beta of 0.1 the nudged phases of
    a deep network respond linearly for some fifty iterations and then, one of them, leave the
    basin of the free state for another equilibrium: the settled gradient of a Hopfield-Resnet13
    has a cosine of 0.3 with the true one, the unsettled one of 0.99.

    Args:
        network: any network, exact or on crossbars; stays as it is.
        images: (B, *input shape).
        labels: class indices (B,).
        cost: squared error by default.
        as_programmed: differentiate the network that the arrays hold now, not the digital one.

    Returns:
        dC/dweight, the mean over the batch, in float64; one per weight in edge order.

    Raises:
        ValueError: if the images do not fit or the states diverge.
    """
    return response(network, images, labels, cost, as_programmed=as_programmed).gradients


@torch.no_grad()
def response(
    network: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    cost: Cost | None = None,
    *,
    as_programmed: bool = False,
) -> Response:
    """`linear_response`, together with what tells whether it can be trusted."""
    exact, cost = exact_network(network, as_programmed=as_programmed), cost or SquaredError()
    free = settle(
        exact, images.double(), iterations=REFERENCE_FREE_ITERATIONS, tolerance=FREE_TOLERANCE
    )
    terms = CenteredEP(REFERENCE_BETA).terms()
    nudged = settle_nudged(
        exact,
        free,
        cost.targets(labels, exact.num_outputs, torch.float64),
        [term.beta for term in terms],
        cost,
        iterations=REFERENCE_NUDGED_ITERATIONS,
        tolerance=NUDGED_TOLERANCE,
    )
    accumulate_contrast(exact, nudged, terms)
    return Response(
        _gradients(exact), float(free.residual.max()), float(departure(free, nudged, terms).max())
    )


def gradient_fidelity(gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> Fidelity:
    """Cosine and ratio of lengths, over all weights and layer by layer.

    Args:
        gradients: one per weight, of any dtype.
        reference: of the same shapes.

    Raises:
        ValueError: if they do not fit together, or the whole reference is zero.
    """
    mine, theirs = [g.shape for g in gradients], [r.shape for r in reference]
    if mine != theirs:
        raise ValueError(
            f"gradients: shapes {[*map(tuple, mine)]} are not allowed; must be the reference's, "
            f"{[*map(tuple, theirs)]}"
        )
    pairs = zip(gradients, reference, strict=True)
    products = [_products(gradient.double(), true.double()) for gradient, true in pairs]
    layers = [_compare(*product) for product in products]
    cosine, ratio = _compare(*(sum(column) for column in zip(*products, strict=True)))
    if math.isnan(cosine):
        raise ValueError("reference: zero is not allowed; must be a gradient with a direction")
    return Fidelity(cosine, ratio, tuple(c for c, _ in layers), tuple(r for _, r in layers))


def calibrate(
    chip: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    estimator: Estimator,
    *,
    cost: Cost | None = None,
    phases: Phases | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Take the converters' ranges from one gradient's free and nudged phases.

    A network without arrays has none, and is left alone.

    Args:
        chip: on crossbars; its ``.grad`` is replaced.
        images, labels: other ones than will be measured.
        estimator, cost, phases, generator: as they will be used, see `equilibrium_gradient`.
    """
    if isinstance(chip, CrossbarNetwork):
        with chip.calibrating():
            equilibrium_gradient(
                chip, images, labels, estimator, cost=cost, phases=phases, generator=generator
            )


def measure(
    network: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    estimator: Estimator,
    *,
    references: Mapping[str, Sequence[Tensor]],
    cost: Cost | None = None,
    phases: Phases | None = None,
    repeats: int = 1,
    generator: torch.Generator | None = None,
) -> dict[str, list[Fidelity]]:
    """Contrastive gradients of a network, against one or more references.

    Two references are meaningful for arrays.  The linear response of the digital weights is what
    training wants; the linear response of the weights as programmed leaves the error of the weights
    out, and shows what reads and converters do to the gradient.

    Args:
        network: exact, or on crossbars with calibrated converters; its ``.grad`` is replaced.
        images: (B, *input shape), in the network's dtype.
        labels: class indices (B,).
        estimator: which equilibria.
        references: gradients by name, see `linear_response`.
        cost: squared error by default.
        phases: how to settle; the paper's by default.
        repeats: how many gradients; they differ where reads are noisy.
        generator: for `RandomSignEP`.

    Returns:
        One fidelity per repeat, under each reference's name.

    Raises:
        ValueError: if an argument is out of range or the states diverge.
    """
    if repeats < 1:
        raise ValueError(f"repeats: {repeats} is not allowed; must be at least 1")
    found: dict[str, list[Fidelity]] = {name: [] for name in references}
    for _ in range(repeats):
        equilibrium_gradient(
            network, images, labels, estimator, cost=cost, phases=phases, generator=generator
        )
        gradients = _gradients(network)
        for name, reference in references.items():
            found[name].append(gradient_fidelity(gradients, reference))
    return found


def _gradients(network: HopfieldNetwork) -> list[Tensor]:
    """What the weights' ``.grad`` holds."""
    gradients = [weight.grad for weight in network.weights]
    return [gradient for gradient in gradients if gradient is not None]


def _products(gradient: Tensor, true: Tensor) -> tuple[float, float, float]:
    """Inner product, and both squared lengths."""
    return (
        float((gradient * true).sum()),
        float(gradient.square().sum()),
        float(true.square().sum()),
    )


def _compare(inner: float, mine: float, theirs: float) -> tuple[float, float]:
    """Cosine and ratio of lengths."""
    if theirs == 0.0:
        return math.nan, math.nan
    if mine == 0.0:
        return 0.0, 0.0
    return inner / math.sqrt(mine) / math.sqrt(theirs), math.sqrt(mine / theirs)
