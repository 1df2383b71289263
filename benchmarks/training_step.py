"""Time, projected epoch and memory of training steps, and how they grow.

Centered EP without the optimiser's step.  The baseline is the plain loop's settling of as many
iterations (one free phase and two nudged ones of the same cost) and, by its path, the paper's code.

    python benchmarks/training_step.py [--batch 8] [--free 20] [--nudged 8] [--paper-code PATH]
        [--growth] [--memory]
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from paper_code import PaperCode
from settling_iteration import NETWORKS, plain_loop

from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient
from neurosim_ep.models import HopfieldNetwork, hopfield_resnet13, mlp

EPOCH_IMAGES = 50_000


def best_s(run: Callable[[], object], rounds: int = 2) -> float:
    """Least CPU time of a few runs, in seconds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def step(network: HopfieldNetwork, batch: int, free: int, nudged: int) -> Callable[[], object]:
    """One gradient on random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, *network.layers[0].shape, generator=generator) - 0.5
    labels = torch.arange(batch) % network.num_outputs
    phases = Phases(free, nudged, "asynchronous")
    return partial(equilibrium_gradient, network, images, labels, CenteredEP(0.1), phases=phases)


@torch.no_grad()
def compare(name: str, batch: int, free: int, nudged: int, paper_code: Path | None) -> None:
    """A training step against the baselines."""
    network = NETWORKS[name]()
    images = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    labels = torch.arange(batch) % 10
    own = best_s(step(network, batch, free, nudged))
    others = {"plain loop (settling only)": partial(plain_loop, network, images, free + 2 * nudged)}
    if paper_code is not None:
        paper = PaperCode(paper_code, name, network, "cpu")
        others["paper's code"] = partial(paper.training_step, images, labels, free, nudged)
    hours = own / batch * EPOCH_IMAGES / 3600
    print(f"{name}, batch {batch}, {free} + 2 x {nudged}: {batch / own:.2f} images/s", end="")
    print(f", an epoch of {EPOCH_IMAGES} images in {hours:.1f} h of one core")
    for kind, run in others.items():
        print(f"  {kind}: ratio {best_s(run) / own:.2f}", flush=True)


def growth() -> None:
    """Seconds of one step as one thing grows and the others stay."""
    widths = (32, 64, 128, 128)

    def hopfield(scale: int) -> HopfieldNetwork:
        return hopfield_resnet13(3, 10, tuple(scale * w for w in widths))

    series: dict[str, list[tuple[str, Callable[[], object]]]] = {
        "iterations": [(f"{t} + 2 x {t}", step(hopfield(1), 8, t, t)) for t in (5, 10, 20)],
        "batch": [(str(b), step(hopfield(1), b, 10, 5)) for b in (4, 8, 16, 32)],
        "width": [(f"x {s}", step(hopfield(s), 8, 10, 5)) for s in (1, 2, 4)],
        "depth (hidden layers of 512 units)": [
            (str(d), step(mlp((1, 28, 28), 10, (512,) * d), 64, 20, 10)) for d in (1, 2, 4, 8)
        ],
    }
    for what, runs in series.items():
        print(what, ", ".join(f"{size}: {best_s(run):.2f} s" for size, run in runs), flush=True)


def memory(batch: int) -> None:
    """Largest resident set of a step at full width; run it alone."""
    step(hopfield_resnet13(), batch, 2, 2)()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"hopfield_resnet13, batch {batch}: {peak_mib:.0f} MiB resident at most, PyTorch included"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--free", type=int, default=20)
    parser.add_argument("--nudged", type=int, default=8)
    parser.add_argument("--paper-code", type=Path, help="checkout of the paper's public code")
    parser.add_argument("--growth", action="store_true", help="only how time grows")
    parser.add_argument("--memory", action="store_true", help="only memory, at batch 128")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        memory(128)
    elif options.growth:
        growth()
    else:
        for name in NETWORKS:
            compare(name, options.batch, options.free, options.nudged, options.paper_code)


if __name__ == "__main__":
    main()
