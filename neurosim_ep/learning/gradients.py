"""Gradients of the cost, written into ``.grad``: by EP, and by backpropagation as its check."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurosim_ep.learning.estimators import Estimator, Term
from neurosim_ep.learning.products import (
    batch_coefficients,
    contrast,
    edge_products,
    split_phases,
)
from neurosim_ep.models import Cost, HopfieldNetwork, SquaredError
from neurosim_ep.settling import Engine, States, settle, settle_nudged, unrolled


@dataclass(frozen=True)
class Phases:
    """How the free and the nudged phases settle; the fields are `settle`'s and `settle_nudged`'s.

    Attributes:
        free_iterations: of the free phase, or its maximum where a tolerance is given.
        nudged_iterations: of each nudged phase; always done in full.
        order: update order of both.
        tolerance: residual at which the free phase stops.
        nudged_reads: ``full`` or ``delta``.
        engine: precision, acceleration, capture; see `neurosim_ep.settling.Engine`.
    """

    free_iterations: int = 120
    nudged_iterations: int = 50
    order: str = "coloured"
    tolerance: float | None = None
    nudged_reads: str = "full"
    engine: Engine = field(default_factory=Engine)


@dataclass(frozen=True)
class Contrast:
    """What one batch's EP gradient was made of.

    Attributes:
        free: the free states.
        nudged: the nudged states, the estimator's terms one after another in the batch.
        terms: the weighted equilibria.
        cost: C at the free state, per image (B,).
        wrong: whether the largest output is not the label's, per image (B,).
        departure: how far the nudged phases left the free state's basin, per image (B,); None for
            one-sided estimators.
    """

    free: States
    nudged: States
    terms: list[Term]
    cost: Tensor
    wrong: Tensor
    departure: Tensor | None = field(default=None)


@torch.no_grad()
def equilibrium_gradient(
    network: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    estimator: Estimator,
    *,
    cost: Cost | None = None,
    phases: Phases | None = None,
    initial: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Contrast:
    """Estimate dC/dtheta by EP and leave it in every parameter's ``.grad``.

    The network's gradients are replaced, its weights stay.

    Args:
        network, images, labels, estimator, cost, phases, initial, generator: as for
            `weighted_equilibria`.

    Returns:
        The equilibria that the gradient is made of.

    Raises:
        ValueError: as `weighted_equilibria` does.
    """
    found = weighted_equilibria(
        network,
        images,
        labels,
        estimator,
        cost=cost,
        phases=phases,
        initial=initial,
        generator=generator,
    )
    network.zero_grad()
    accumulate_contrast(network, found.nudged, found.terms)
    return found


@torch.no_grad()
def weighted_equilibria(
    network: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    estimator: Estimator,
    *,
    cost: Cost | None = None,
    phases: Phases | None = None,
    initial: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Contrast:
    """Settle the free phase and the estimator's nudged phases.

    Args:
        network: settles on the images; neither its gradients nor its weights change.
        images: (B, *input shape).
        labels: class indices (B,).
        estimator: which equilibria, with which coefficients.
        cost: squared error by default.
        phases: how to settle; the paper's 120 + 50 iterations by default.
        initial: states from which the free phase starts; zeros by default.
        generator: for `RandomSignEP`.

    Raises:
        ValueError: if an argument is out of range or the states diverge.
    """
    cost, phases = cost or SquaredError(), phases or Phases()
    free = settle(
        network,
        images,
        iterations=phases.free_iterations,
        order=phases.order,
        tolerance=phases.tolerance,
        initial=initial,
        engine=phases.engine,
    )
    targets = cost.targets(labels, network.num_outputs, images.dtype)
    terms = estimator.terms(generator)
    nudged = settle_nudged(
        network,
        free,
        targets,
        [term.beta for term in terms],
        cost,
        iterations=phases.nudged_iterations,
        order=phases.order,
        reads=phases.nudged_reads,
        engine=phases.engine,
    )
    return Contrast(
        free,
        nudged,
        terms,
        cost.value(free.output, targets),
        free.output.argmax(1) != labels,
        departure(free, nudged, terms) if estimator.symmetric else None,
    )


@torch.no_grad()
def accumulate_contrast(
    network: HopfieldNetwork, states: Sequence[Tensor], terms: Sequence[Term]
) -> None:
    """Add ``mean over the batch of sum_k coefficient_k dE/dtheta(s_k)`` to ``.grad``.

    dE/dweight = -post x pre and dE/dbias = -state, summed over positions: local to each edge.  The
    equilibria differ little, and their coefficients are large and sum to zero, so the difference is
    taken between states, before anything is multiplied or summed (`edge_products`).

    Args:
        network: whose parameters receive the gradient.
        states: one tensor per layer, the equilibria of the terms one after another in the batch;
            `settle_nudged`'s bring their winners, for others pooled edges are read once more.
        terms: the coefficients.
    """
    accumulate_bias_contrast(network, states, terms)
    for _, edge, products in edge_products(network, states, terms, "difference"):
        for pre_factor, post_factor in products:
            edge.storage.accumulate_gradient(pre_factor, post_factor)


@torch.no_grad()
def accumulate_bias_contrast(
    network: HopfieldNetwork, states: Sequence[Tensor], terms: Sequence[Term]
) -> None:
    """The part of `accumulate_contrast` that belongs to the biases, which no array holds.

    Args:
        network: whose biases' ``.grad`` is added to.
        states: one tensor per layer, the equilibria of the terms one after another in the batch.
        terms: the weighted equilibria.
    """
    coefficients, batch = batch_coefficients(states[-1], terms)
    for layer in network.free_layers:
        bias = network.biases[layer - 1]
        change = contrast(split_phases(states[layer], batch), coefficients)
        gradient = -change.sum([0, *range(2, change.dim())])
        gradient = gradient.real if gradient.is_complex() else gradient
        bias.grad = gradient if bias.grad is None else bias.grad + gradient


def departure(free: Sequence[Tensor], nudged: Sequence[Tensor], terms: Sequence[Term]) -> Tensor:
    """How far the mean of the nudged states lies from the free state, per image (B,).

    In units of the nudged states' root-mean-square distance from it.  Near 0 while the states
    answer linearly; about 0.7 when one of two phases has left the free state's basin for another
    equilibrium, which makes the gradient worthless.  A free state that had not settled moves on in
    all phases alike, and counts here too: read it together with the residual.

    Args:
        free: free states, one tensor (B, *shape) per layer.
        nudged: nudged states, the phases one after another in the batch.
        terms: of a symmetric estimator.
    """
    share = torch.tensor([term.multiplicity for term in terms], device=free[-1].device)
    share = share.to(free[-1].dtype)
    share = (share / share.sum()).view(-1, 1, 1)
    mean_moved = torch.zeros_like(free[-1][:, 0])
    moved = torch.zeros_like(mean_moved)
    for start, end in zip(free[1:], nudged[1:], strict=True):
        change = split_phases(end, len(start)) - start
        # A point off the real axis stands for itself and its conjugate: their mean is real.
        change = change.flatten(2)
        mean_moved += (share * change.real).sum(0).square().sum(1)
        moved += (share * change.abs().square()).sum((0, 2))
    return (mean_moved / moved.clamp_min(torch.finfo(moved.dtype).tiny)).sqrt()


def truncated_backpropagation(
    network: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    *,
    cost: Cost | None = None,
    free_iterations: int = 120,
    steps: int = 50,
    order: str = "coloured",
) -> Tensor:
    """dC/dtheta by backpropagation through the last ``steps`` of the settled iterations.

    The independent check of every estimator: EP with as many nudged iterations agrees with it at
    small beta (Ernoult et al. 2019).  Fills ``.grad``.

    Args:
        network, images, labels, cost, order: as in `equilibrium_gradient`.
        free_iterations: settled without a record, before the recorded steps.
        steps: recorded iterations.

    Returns:
        C at the end, per image (B,).
    """
    cost = cost or SquaredError()
    start = settle(network, images, iterations=free_iterations, order=order)
    network.zero_grad()
    with torch.enable_grad():
        states = unrolled(network, start, steps, order)
        value = cost.value(states[-1], cost.targets(labels, network.num_outputs, images.dtype))
        value.mean().backward()  # type: ignore[no-untyped-call]
    return value.detach()
