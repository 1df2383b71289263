"""What torch.compile gains: for one whole iteration, and for each layer's additions and clips.

Full width, asynchronous order for the whole iteration (its reads, additions and clips compiled
together) and coloured, over-relaxed for ``fusion="compiled"``; CPU time in turns, as ratios to the
same operations launched one by one (above 1: the compiled form is faster).

    python benchmarks/compiled.py [--batch 8] [--rounds 5] [--network vgg5]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from settling_iteration import NETWORKS
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.settling import Engine, settle
from neurosim_ep.settling.engine import Settling


def compiled_iteration(network: HopfieldNetwork, images: Tensor) -> Callable[[], object]:
    """One iteration as a function of the states, which is what can be compiled."""
    settling = Settling(network, network.rest(images), "asynchronous")

    def step(states: list[Tensor]) -> list[Tensor]:
        settling.states[:] = states
        # What is remembered between iterations would make each of them another program.
        settling._versions[:] = [0] * len(states)
        settling._reads._pooled.clear()
        settling.iterations = 0
        settling.iterate()
        return list(settling.states)

    compiled = torch.compile(step, dynamic=False)
    held = network.rest(images)

    def run() -> None:
        # Every edge is another program: more of them than are kept by default.
        with torch._dynamo.config.patch(recompile_limit=64):
            held[:] = compiled(held)

    return run


def compare(
    what: str, plain: Callable[[], object], other: Callable[[], object], rounds: int
) -> None:
    """Warm both up, time them in turns."""
    start, ratios = time.perf_counter(), []
    for _ in range(3):
        other()
    seconds = time.perf_counter() - start
    plain()
    for _ in range(rounds):
        times = []
        for run in (plain, other):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        ratios.append(times[0] / times[1])
    print(
        f"{what}: ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
        f"first three calls {seconds:.0f} s",
        flush=True,
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each, in turns")
    parser.add_argument("--network", choices=sorted(NETWORKS), help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.rand(options.batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    print(f"batch {options.batch}, 1 thread, CPU time")
    for name in [options.network] if options.network else NETWORKS:
        network = NETWORKS[name]()
        launched = Settling(network, network.rest(images), "asynchronous")
        compare(
            f"{name}, whole iteration",
            launched.iterate,
            compiled_iteration(network, images),
            options.rounds,
        )
        engines = [Engine(acceleration="overrelaxed", fusion=f) for f in ("none", "compiled")]
        runs = [partial(settle, network, images, iterations=8, engine=e) for e in engines]
        compare(f"{name}, additions and clips, over-relaxed", *runs, options.rounds)


if __name__ == "__main__":
    main()
