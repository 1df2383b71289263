"""Equilibrium propagation in aihwkit's tiles: the contrast as pulses, the biases digitally."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.exchange.aihwkit_storage import AihwkitNetwork, AihwkitStorage
from neurosim_ep.exchange.aihwkit_tile import TrainReport
from neurosim_ep.learning import Form, Term, edge_products
from neurosim_ep.learning.products import batch_coefficients, contrast, split_phases


@torch.no_grad()
def learning_step(
    network: AihwkitNetwork,
    states: Sequence[Tensor],
    terms: Sequence[Term],
    learning_rate: float,
    *,
    form: Form = "difference",
    bias_learning_rate: float | None = None,
) -> list[TrainReport]:
    """One step of descent on the contrast of weighted equilibria.

    Each edge's tile is pulsed product by product (`AihwkitStorage.pulse_products`); biases move by
    ``-bias_learning_rate`` times their gradient.

    Args:
        network: of `map_to_aihwkit`; its weights and biases change.
        states: the equilibria, as `neurosim_ep.settling.settle_nudged` gives them.
        terms: their coefficients.
        learning_rate: of the weights, above 0.
        form: ``difference`` or ``hebbian`` (`neurosim_ep.learning.edge_products`).
        bias_learning_rate: of the biases, at least 0; the weights' by default.

    Returns:
        What pulse trains each edge with weights got, in edge order.

    Raises:
        ValueError: for a form or learning rate that is not allowed, or states that are not finite;
            nothing changes in the edges that come after, nor in the biases.
    """
    if form not in ("difference", "hebbian"):
        raise ValueError(problem("form", form, "difference or hebbian"))
    bias_rate = learning_rate if bias_learning_rate is None else bias_learning_rate
    if not 0.0 <= bias_rate < float("inf"):
        raise ValueError(problem("bias_learning_rate", bias_rate, "a finite number of at least 0"))
    trains = []
    for _, edge, products in edge_products(network, states, terms, form):
        if isinstance(edge.storage, AihwkitStorage):
            trains.append(edge.storage.pulse_products(products, learning_rate))
    coefficients, batch = batch_coefficients(states[-1], terms)
    for layer in network.free_layers:
        change = contrast(split_phases(states[layer], batch), coefficients)
        change = change.sum([0, *range(2, change.dim())])
        step = change.real if change.is_complex() else change
        network.biases[layer - 1].add_(step, alpha=bias_rate)
    return trains
