"""Time of one settling iteration against a plain loop, as ratios in one run.

The plain loop does what public EP codes do: every edge by one convolution call in each direction,
in every iteration, the input's edges included, pooled convolutions twice, contiguous channels.
Both give the same states (checked here).

    python benchmarks/settling_iteration.py [--batch 8] [--iterations 6] [--rounds 5] [--threads 1]
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

from neurosim_ep.models import Edge, HopfieldNetwork, hopfield_resnet13, vgg5
from neurosim_ep.settling import settle, update_groups


def plain_loop(network: HopfieldNetwork, images: Tensor, iterations: int) -> list[Tensor]:
    """Settle in asynchronous order, recomputing everything."""
    states = [state.contiguous() for state in network.rest(images)]
    weights = {
        n: w.detach().contiguous() for n, w in zip(weighted(network), network.weights, strict=True)
    }
    for _ in range(iterations):
        for group in update_groups(network, "asynchronous"):
            new = [current(network, weights, states, layer) for layer in group]
            for layer, value in zip(group, new, strict=True):
                states[layer] = network.layers[layer].activation(value)
    return states


def weighted(network: HopfieldNetwork) -> list[int]:
    return [n for n, e in enumerate(network.edge_list()) if e.geometry.weight_shape is not None]


def current(
    network: HopfieldNetwork, weights: dict[int, Tensor], states: list[Tensor], layer: int
) -> Tensor:
    total = network.bias_current(layer)
    for number, edge in enumerate(network.edge_list()):
        if edge.post == layer:
            total = total + pooled(edge, weights[number], states)[0]
        elif edge.pre == layer:
            winners = pooled(edge, weights[number], states)[1] if edge.geometry.pooled else None
            driven = edge.geometry.unpool(states[edge.post], winners)
            total = total + edge.geometry.transposed(driven, weights[number])
    return total


def pooled(edge: Edge, weight: Tensor, states: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return edge.geometry.pool(edge.geometry.linear(states[edge.pre], weight))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of timings")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = torch.rand(options.batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    per_image = 1e3 / (options.iterations * options.batch)
    print(f"batch {options.batch}, {options.iterations} iterations, {options.threads} threads")
    for name, network in (("vgg5", vgg5()), ("hopfield_resnet13", hopfield_resnet13())):
        times: dict[str, list[float]] = {"plain": [], "neurosim_ep": []}
        for _ in range(options.rounds + 1):
            start = time.perf_counter()
            plain = plain_loop(network, images, options.iterations)
            middle = time.perf_counter()
            ours = settle(network, images, iterations=options.iterations, order="asynchronous")
            times["plain"].append(middle - start)
            times["neurosim_ep"].append(time.perf_counter() - middle)
        for one, other in zip(plain, ours, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        # The first pair warms up.
        ratios = [a / b for a, b in zip(*(t[1:] for t in times.values()), strict=True)]
        medians = {kind: statistics.median(t[1:]) * per_image for kind, t in times.items()}
        print(
            f"{name}: plain {medians['plain']:.1f} ms, neurosim_ep {medians['neurosim_ep']:.1f} ms "
            f"per image and iteration; ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
