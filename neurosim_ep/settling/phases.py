"""The two kinds of settling that learning needs: the free phase and the nudged phases."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim_ep.models import Cost, HopfieldNetwork
from neurosim_ep.settling.engine import MAX_ITERATIONS, Nudge, Settling
from neurosim_ep.settling.options import Engine, products
from neurosim_ep.settling.running import run_phase
from neurosim_ep.settling.states import States

READS = ("full", "delta")
"""What drives the arrays in a nudged phase: the state, or its change against the free state."""


@torch.no_grad()
def settle(
    network: HopfieldNetwork,
    images: Tensor,
    *,
    iterations: int = 120,
    order: str = "coloured",
    tolerance: float | None = None,
    initial: Sequence[Tensor] | None = None,
    engine: Engine | None = None,
) -> States:
    """Free phase: settle the network on a batch of images.

    Args:
        network: any network; weights stay as they are.
        images: (B, *input shape), in the network's dtype and on its device.
        iterations: how many, or the maximum where a tolerance is given.
        order: ``coloured``, ``asynchronous``, ``synchronous``, ``forward`` or ``backward``.
        tolerance: stop when the residual (the relative change of the states in one iteration) of
            every image is at or below it.
        initial: states to start from, one tensor per layer (the input's is ignored); zeros by
            default.
        engine: precision, acceleration, capture; see `Engine`.

    Returns:
        The settled states; ``.residual`` and ``.settled`` say how far.

    Raises:
        ValueError: if an argument is out of range, the images do not fit, or the states diverge.
    """
    _check_iterations("iterations", iterations)
    _check_tolerance(tolerance)
    states = network.rest(images)
    if initial is not None:
        if len(initial) != len(states):
            raise ValueError(
                f"initial: {len(initial)} states are not allowed; must be {len(states)}, one per "
                "layer"
            )
        for layer in network.free_layers:
            if initial[layer].shape != states[layer].shape:
                raise ValueError(
                    f"initial[{layer}]: shape {tuple(initial[layer].shape)} is not allowed; must "
                    f"be {tuple(states[layer].shape)}"
                )
            states[layer] = initial[layer]
    engine = engine or Engine()
    engine.check_device(images.device)
    with products(engine, images.device):
        return run_phase(network, states, order, engine, iterations, tolerance)


@torch.no_grad()
def settle_nudged(
    network: HopfieldNetwork,
    free: Sequence[Tensor],
    targets: Tensor,
    betas: Sequence[complex],
    cost: Cost,
    *,
    iterations: int = 50,
    order: str = "coloured",
    tolerance: float | None = None,
    reads: str = "full",
    engine: Engine | None = None,
) -> States:
    """Nudged phases: settle from the free states, all values of beta as one batch.

    A phase with beta 0 settles on from the free states like the others, so that what the free
    phase had not yet settled cancels between the phases.

    Args:
        network: any network; weights stay as they are.
        free: the free states, one tensor (B, *shape) per layer.
        targets: (B, num_outputs), see `Cost.targets`.
        betas: nudging of each phase; complex ones need holomorphic activations.
        cost: pulls the output towards the targets.
        iterations, order, tolerance: as in `settle`.
        reads: ``full`` drives the arrays with whole states, ``delta`` with their change against
            the free states (the same to rounding).
        engine: precision, acceleration, capture; see `Engine`.

    Returns:
        States whose batch holds the phases one after another: image b of phase k is at k * B + b;
        with the winners of pooled edges, which the contrast needs.

    Raises:
        ValueError: if an argument is out of range, or the states diverge.
    """
    _check_iterations("iterations", iterations)
    _check_tolerance(tolerance)
    if not betas:
        raise ValueError("betas: an empty list is not allowed; must hold at least one value")
    if reads not in READS:
        raise ValueError(f"reads: {reads!r} is not allowed; must be one of {', '.join(READS)}")
    copies, batch = len(betas), free[0].shape[0]
    if any(isinstance(beta, complex) for beta in betas):
        _check_holomorphic(network)
        free = [state.to(state.dtype.to_complex()) for state in free]
    states = [torch.cat([state] * copies) for state in free]
    beta = torch.tensor(list(betas), dtype=free[-1].dtype, device=free[-1].device)
    nudge = Nudge(cost, targets.repeat(copies, 1), beta.repeat_interleave(batch).unsqueeze(1))
    engine = engine or Engine()
    engine.check_device(states[0].device)
    free_states = list(free) if reads == "delta" else None
    with products(engine, states[0].device):
        return run_phase(
            network, states, order, engine, iterations, tolerance, nudge, free_states, copies
        )


def unrolled(
    network: HopfieldNetwork, states: Sequence[Tensor], iterations: int, order: str = "coloured"
) -> list[Tensor]:
    """Free iterations recorded by autograd, for backpropagation through the settled iterations.

    Args:
        network: its parameters and the given states may require gradients.
        states: where to start, one tensor (B, *shape) per layer.
        iterations, order: as in `settle`.

    Returns:
        The states after the iterations, attached to the graph.
    """
    _check_iterations("iterations", iterations)
    settling = Settling(network, list(states), order)
    for _ in range(iterations):
        settling.iterate()
    return settling.states


def _check_iterations(name: str, iterations: int) -> None:
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise ValueError(
            f"{name}: {iterations} is not allowed; must be at least 1 and at most {MAX_ITERATIONS}"
        )


def _check_tolerance(tolerance: float | None) -> None:
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0.0):
        raise ValueError(f"tolerance: {tolerance} is not allowed; must be a finite number above 0")


def _check_holomorphic(network: HopfieldNetwork) -> None:
    for layer in network.free_layers:
        activation = network.layers[layer].activation
        if not activation.holomorphic:
            raise ValueError(
                f"activation: {activation} of layer {layer} is not allowed with a complex beta; "
                "must be holomorphic (sigmoid)"
            )
