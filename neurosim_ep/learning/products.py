"""The contrast of an edge as outer products of its two sides' states: local, and summable.

The gradient of an edge's weight is ``-Re sum_k c_k pre_k x post_k``, the mean over the batch and
the sum over positions.  `Form` says how that sum is written: the forms are equal in exact
arithmetic, and cost a device that is updated product by product very different numbers of pulses.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from neurosim_ep.learning.estimators import Term
from neurosim_ep.models import Edge, HopfieldNetwork
from neurosim_ep.settling import States

Form = Literal["difference", "hebbian"]
"""How a contrast is written as products: see `edge_products`."""
Product = tuple[Tensor, Tensor]
"""Pre factors (N, *pre_shape) and post factors (N, *linear_shape) of a sum of outer products."""


def edge_products(
    network: HopfieldNetwork, states: Sequence[Tensor], terms: Sequence[Term], form: Form
) -> Iterator[tuple[int, Edge, list[Product]]]:
    """Each edge's contrast as products (pre factor, post factor), whose sum is minus the gradient.

    Args:
        network: whose edges are asked for; those without weights come too.
        states: one tensor per layer, the equilibria of the terms one after another in the batch;
            `settle_nudged`'s bring their winners, for others pooled edges are read once more.
        terms: the weighted equilibria.
        form: ``hebbian``: c_k pre_k x post_k, one product per equilibrium; ``difference``: products
            of a mean with a difference, as small as the contrast is.

    Yields:
        The edge's number, the edge, and its products: pre factors (N, *pre_shape), post factors
        (N, *linear_shape), with N the batch or, for more than two terms, a multiple of it.
    """
    coefficients, batch = batch_coefficients(states[-1], terms)
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
        phases = split_phases(pre, batch), split_phases(post, batch)
        if form == "hebbian":
            yield number, edge, _hebbian_form(*phases, coefficients)
        else:
            yield number, edge, _difference_form(*phases, coefficients, edge.pre == 0)


def bias_factors(
    states: Sequence[Tensor], terms: Sequence[Term], layer: int, form: Form
) -> list[Tensor]:
    """A layer's bias contrast as factors (B, *shape): summed, they are minus the gradient.

    Args:
        states, terms, form: as for `edge_products`.
        layer: whose bias.
    """
    coefficients, batch = batch_coefficients(states[-1], terms)
    phases = split_phases(states[layer], batch)
    if form == "difference":
        return [contrast(phases, coefficients)]
    return [phase * c for phase, c in zip(phases, coefficients, strict=True)]


def batch_coefficients(last: Tensor, terms: Sequence[Term]) -> tuple[Tensor, int]:
    """Coefficients of the mean over the batch (K,), and the batch, from K phases (K * B, ...)."""
    batch = last.shape[0] // len(terms)
    coefficients = torch.tensor(
        [term.coefficient / batch for term in terms], dtype=last.dtype, device=last.device
    )
    return coefficients, batch


def split_phases(states: Tensor, batch: int) -> Tensor:
    """(K * B, ...) as (K, B, ...)."""
    return states.view(-1, batch, *states.shape[1:])


def contrast(phases: Tensor, coefficients: Tensor) -> Tensor:
    """``sum_k c_k phase_k`` (B, ...) of phases (K, B, ...), by differences from the first."""
    total = (phases[1] - phases[0]) * coefficients[1]
    for phase, coefficient in zip(phases[2:], coefficients[2:], strict=True):
        total += (phase - phases[0]) * coefficient
    return total


def _hebbian_form(pre: Tensor, post: Tensor, coefficients: Tensor) -> list[Product]:
    """Every equilibrium by itself: Hebbian where its coefficient is positive."""
    return [(a, b * c) for a, b, c in zip(pre, post, coefficients, strict=True)]


def _difference_form(
    pre: Tensor, post: Tensor, coefficients: Tensor, pre_fixed: bool
) -> list[Product]:
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
    products = [(middle, contrast(post, coefficients))]
    if pre_fixed:
        return products
    if len(pre) == 2 and not coefficients.is_complex():
        return [*products, (pre[0] - pre[1], post.mean(0) * coefficients[0])]
    weighted = post * coefficients.view(-1, *(1,) * (post.dim() - 1))
    return [*products, ((pre - middle).flatten(0, 1), weighted.flatten(0, 1))]
