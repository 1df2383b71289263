"""Gradients of the cost, written into ``.grad``: by EP, and by backpropagation as its check."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurosim_ep.learning.estimators import Estimator, Term
from neurosim_ep.models import Cost, HopfieldNetwork, SquaredError
from neurosim_ep.settling import States, settle, settle_nudged, unrolled


@dataclass(frozen=True)
class Phases:
    """How the free and the nudged phases settle; the fields are `settle`'s and `settle_nudged`'s.

    Attributes:
        free_iterations: of the free phase, or its maximum where a tolerance is given.
        nudged_iterations: of each nudged phase; always done in full.
        order: update order of both.
        tolerance: residual at which the free phase stops.
        nudged_reads: ``full`` or ``delta``.
    """

    free_iterations: int = 120
    nudged_iterations: int = 50
    order: str = "coloured"
    tolerance: float | None = None
    nudged_reads: str = "full"


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

    Args:
        network: settles on the images; its gradients are replaced, its weights stay.
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
    )
    network.zero_grad()
    accumulate_contrast(network, nudged, terms)
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
    taken between states, before anything is multiplied or summed (see `_difference_form`).

    Args:
        network: whose parameters receive the gradient.
        states: one tensor per layer, the equilibria of the terms one after another in the batch;
            `settle_nudged`'s bring their winners, for others pooled edges are read once more.
        terms: the coefficients.
    """
    last = states[-1]
    batch = last.shape[0] // len(terms)
    coefficients = torch.tensor(
        [term.coefficient / batch for term in terms], dtype=last.dtype, device=last.device
    )
    for layer in network.free_layers:
        bias = network.biases[layer - 1]
        change = _contrast(_phases(states[layer], batch), coefficients)
        gradient = -change.sum([0, *range(2, change.dim())])
        gradient = gradient.real if gradient.is_complex() else gradient
        bias.grad = gradient if bias.grad is None else bias.grad + gradient
    held = states.winners if isinstance(states, States) else {}
    for number, edge in enumerate(network.edge_list()):
        pre, post = states[edge.pre], states[edge.post]
        if edge.geometry.pooled:
            # Held since settling: read anew on noisy arrays, near-ties would fall differently in
            # every phase and put whole states into the contrast.
            winners = held.get(number)
            if winners is None:
                _, winners = edge.geometry.pool(edge.storage.forward_read(pre))
            post = edge.geometry.unpool(post, winners)
        phases = _phases(pre, batch), _phases(post, batch)
        for pre_factor, post_factor in _difference_form(*phases, coefficients, edge.pre == 0):
            edge.storage.accumulate_gradient(pre_factor, post_factor)


def _difference_form(
    pre: Tensor, post: Tensor, coefficients: Tensor, pre_fixed: bool
) -> list[tuple[Tensor, Tensor]]:
    """``Re sum_k c_k pre_k x post_k`` as products of a mean with a difference; Re sum_k c_k = 0.

    Two equilibria: c [mean(pre) x (post_1 - post_2) + (pre_1 - pre_2) x mean(post)].  More: the
    same around the real part of the mean pre state.  In floating point the plain form loses as many
    digits as the contrast is smaller than the states, seven in the first layers of a
    Hopfield-Resnet13.

    Args:
        pre, post: phases (K, B, ...).
        coefficients: (K,).
        pre_fixed: all phases have the same pre state (the input).
    """
    # Of complex coefficients only the real parts sum to zero: what is taken off must be real.
    middle = pre[0] if pre_fixed else pre.mean(0).real
    products = [(middle, _contrast(post, coefficients))]
    if pre_fixed:
        return products
    if len(pre) == 2 and not coefficients.is_complex():
        return [*products, (pre[0] - pre[1], post.mean(0) * coefficients[0])]
    weighted = post * coefficients.view(-1, *(1,) * (post.dim() - 1))
    return [*products, ((pre - middle).flatten(0, 1), weighted.flatten(0, 1))]


def _contrast(phases: Tensor, coefficients: Tensor) -> Tensor:
    """``sum_k c_k phase_k`` (B, ...) of phases (K, B, ...), by differences from the first."""
    total = (phases[1] - phases[0]) * coefficients[1]
    for phase, coefficient in zip(phases[2:], coefficients[2:], strict=True):
        total += (phase - phases[0]) * coefficient
    return total


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
        change = _phases(end, len(start)) - start
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


def _phases(states: Tensor, batch: int) -> Tensor:
    """(K * B, ...) as (K, B, ...)."""
    return states.view(-1, batch, *states.shape[1:])
