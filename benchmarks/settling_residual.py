"""Time to the same residual: the paper's settling against ours with order, tolerance, relaxation.

The residual that counts is the same for all: the relative change that one more asynchronous
iteration makes.  The paper's code cannot stop by itself, so it is given the fewest iterations that
reach it.

    python benchmarks/settling_residual.py [--residual 1e-4] [--batch 8] [--paper-code PATH]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from images import cifar10
from paper_code import PaperCode
from settling_iteration import NETWORKS, plain_loop
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.settling import Engine, settle


def remaining(network: HopfieldNetwork, images: Tensor, states: Sequence[Tensor]) -> float:
    """Largest residual of one more asynchronous iteration."""
    after = settle(network, images, iterations=1, order="asynchronous", initial=states)
    return float(after.residual.max())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--residual", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=8, help="CIFAR-10 test images")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--paper-code", type=Path, help="checkout of the paper's public code")
    parser.add_argument("--network", choices=sorted(NETWORKS), help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, _ = cifar10(options.batch)
    for name in [options.network] if options.network else NETWORKS:
        network = NETWORKS[name]()
        free = partial(settle, network, images, iterations=400, tolerance=options.residual)
        # The residual of iteration n is what iteration n changed: n - 1 iterations are enough.
        count = free(order="asynchronous").iterations - 1
        runs: dict[str, Callable[[], Sequence[Tensor]]] = {
            f"plain loop, asynchronous, {count} iterations": partial(
                plain_loop, network, images, count
            ),
            "neurosim_ep, asynchronous, tolerance": partial(free, order="asynchronous"),
            "neurosim_ep, coloured, tolerance": free,
            "neurosim_ep, coloured, over-relaxed, tolerance": partial(
                free, engine=Engine(acceleration="overrelaxed")
            ),
        }
        if options.paper_code is not None:
            paper = PaperCode(options.paper_code, name, network, "cpu")
            key = f"paper's code, asynchronous, {count} iterations"
            runs = {key: partial(paper.settle, images, count), **runs}
        best, ends = dict.fromkeys(runs, float("inf")), {}
        for _ in range(options.rounds):
            for kind, run in runs.items():
                start = time.process_time()
                ends[kind] = run()
                best[kind] = min(best[kind], time.process_time() - start)
        print(name)
        baseline = next(iter(best.values()))
        for kind, seconds in best.items():
            done = getattr(ends[kind], "iterations", count)
            print(
                f"  {kind}: {seconds:.2f} s CPU, {done} iterations, residual "
                f"{remaining(network, images, ends[kind]):.1e}, ratio {baseline / seconds:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
