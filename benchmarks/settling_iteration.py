"""Time of one settling iteration against a plain loop, as ratios in one run.

The plain loop does what public EP codes do: every edge by one convolution call in each direction,
in every iteration, the input's edges included, pooled convolutions twice, contiguous channels.
How far the states
are apart is printed.

    python benchmarks/settling_iteration.py [--batch 8] [--iterations 20] [--rounds 3] [--threads 1]
        [--paper-code PATH]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from paper_code import PaperCode
from torch import Tensor

from neurosim_ep.models import Edge, HopfieldNetwork, hopfield_resnet13, vgg5
from neurosim_ep.settling import settle, update_groups

NETWORKS = {"vgg5": vgg5, "hopfield_resnet13": hopfield_resnet13}


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
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="timings of each, in turns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--paper-code", type=Path, help="checkout of the paper's public code")
    parser.add_argument("--network", choices=sorted(NETWORKS), help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = torch.rand(options.batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    per_image, count = 1e3 / (options.iterations * options.batch), options.iterations
    rate = matrix_products_per_s()
    print(f"batch {options.batch}, {count} iterations, {options.threads} threads, CPU time")
    print(f"matrix products: {2e-9 * rate:.0f} GFLOP/s")
    for name in [options.network] if options.network else NETWORKS:
        network = NETWORKS[name]()
        runs: dict[str, Callable[[], Sequence[Tensor]]] = {
            "neurosim_ep": partial(settle, network, images, iterations=count, order="asynchronous"),
            "plain loop": partial(plain_loop, network, images, count),
        }
        if options.paper_code is not None:
            paper = PaperCode(options.paper_code, name, network, "cpu")
            runs["paper's code"] = partial(paper.settle, images, count)
        times: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(options.rounds + 1):
            states = {}
            for kind, run in runs.items():
                start = time.process_time()
                states[kind] = run()
                times[kind].append((time.process_time() - start) * per_image)
        own = times.pop("neurosim_ep")[1:]
        products = multiply_adds(network) / (statistics.median(own) * 1e-3)
        print(
            f"{name}: {statistics.median(own):.1f} ms per image and iteration; as many plain "
            f"products take {products / rate:.2f} of the matrix-product rate"
        )
        for kind, other in times.items():
            # The first of each warms up.
            ratios = [theirs / mine for theirs, mine in zip(other[1:], own, strict=True)]
            pairs = list(zip(states["neurosim_ep"], states[kind], strict=True))[1:]
            apart = max(float((a - b).norm() / b.norm().clamp_min(1e-9)) for a, b in pairs)
            print(
                f"  {kind}: {statistics.median(other[1:]):.1f} ms; ratio "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
                f"states {apart:.0e} apart"
            )


def multiply_adds(network: HopfieldNetwork) -> int:
    """Of one image and iteration, every settling edge read once in each direction."""
    total = 0
    for edge in network.edge_list():
        shape = edge.geometry.weight_shape
        if shape is not None and 0 not in (edge.pre, edge.post):
            places = math.prod(edge.geometry.linear_shape[1:]) if len(shape) == 4 else 1
            places = 1 if len(edge.geometry.linear_shape) == 1 else places
            total += 2 * math.prod(shape) * places
    return total


def matrix_products_per_s(size: int = 2048) -> float:
    """Multiply-adds per second of CPU time, float32."""
    matrix, best = torch.rand(size, size), math.inf
    for _ in range(3):
        start = time.process_time()
        matrix @ matrix
        best = min(best, time.process_time() - start)
    return size**3 / best


if __name__ == "__main__":
    main()
