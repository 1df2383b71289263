"""The function that settling makes smaller."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim_ep.models import Cost, HopfieldNetwork


@torch.no_grad()
def lyapunov(
    network: HopfieldNetwork,
    states: Sequence[Tensor],
    *,
    beta: float = 0.0,
    cost: Cost | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """F = sum of the activations' potentials + E, and + beta C in a nudged phase, per image (B,).

    For ReLU-alpha and linear layers the potential is ``s^2 / 2`` on the box [0, alpha].  Setting
    one layer to activation(-dE/ds), all others fixed, minimises F over that layer; a pooled edge's
    pre layer minimises an upper bound of F, as long as its post state is not negative.

    Args:
        network: the network that settled.
        states: one real tensor (B, *shape) per layer, the input first.
        beta, cost, targets: of a nudged phase.

    Raises:
        ValueError: if a cost is given without targets.
    """
    total = network.energy(states)
    for layer in network.free_layers:
        potential = network.layers[layer].activation.potential(states[layer])
        total = total + potential.flatten(1).sum(1)
    if cost is not None:
        if targets is None:
            raise ValueError("targets: None is not allowed with a cost; must be (B, num_outputs)")
        total = total + beta * cost.value(states[-1], targets)
    return total
