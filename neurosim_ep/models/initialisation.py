"""The paper's initialisation: uniform weights and biases, scaled by gain and fan-in."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurosim_ep.models.network import HopfieldNetwork

BIAS_GAIN = 0.5


@torch.no_grad()
def initialise(
    network: HopfieldNetwork, gains: Sequence[float], generator: torch.Generator | None = None
) -> None:
    """Draw all weights in +-gain / sqrt(fan-in), all biases in +-0.5 / sqrt(fan-in).

    A layer's bias takes the fan-in of the largest edge into it (its main convolution).  The draw
    is made on the CPU, so that one seed gives one network on every device.

    Args:
        network: the network to initialise in place.
        gains: one per weight tensor, in edge order.
        generator: source of randomness on the CPU; None draws from a generator seeded with 0.

    Raises:
        ValueError: if the number of gains is not the number of weights, or a gain is not above 0.
    """
    weighted = [edge for edge in network.edge_list() if edge.geometry.weight_shape is not None]
    if len(gains) != len(weighted):
        raise ValueError(
            f"gains: {len(gains)} values are not allowed; must be {len(weighted)}, one per weight"
        )
    for gain in gains:
        if not (math.isfinite(gain) and gain > 0.0):
            raise ValueError(
                f"gains: {gain} is not allowed; every gain must be a finite number above 0"
            )
    generator = generator or torch.Generator().manual_seed(0)
    for layer in network.free_layers:
        fan_in = max((e.geometry.fan_in for e in weighted if e.post == layer), default=1)
        _fill_uniform(network.biases[layer - 1], BIAS_GAIN / math.sqrt(fan_in), generator)
    for gain, edge, weight in zip(gains, weighted, network.weights, strict=True):
        _fill_uniform(weight, gain / math.sqrt(edge.geometry.fan_in), generator)


def _fill_uniform(parameter: nn.Parameter | Tensor, bound: float, gen: torch.Generator) -> None:
    if parameter.is_meta:
        return
    drawn = torch.rand(parameter.shape, generator=gen, dtype=torch.float64, device="cpu")
    parameter.copy_((2.0 * drawn - 1.0) * bound)
