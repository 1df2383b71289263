"""What precision, delta reads and acceleration leave of the gradient (cosine with the true one).

Hopfield-Resnet13 of widths 32-64-64-64 at initialisation, or the network of a run folder as it was
trained; CIFAR-10 images, centered EP at beta 0.1.
The reference is the linear response: float64, beta 0.002, settled to rounding.  TF32 (10 mantissa
bits) and a float8's 3 bits are emulated by rounding what is multiplied; products are summed in
float32.

    python benchmarks/gradient_precision.py [--run FOLDER] [--batch 8] [--free 60] [--nudged 20]
"""

import argparse
import copy
import csv
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from images import cifar10
from torch import Tensor

from neurosim_ep.experiments.evaluating import load_run
from neurosim_ep.experiments.fidelity.gradients import gradient_fidelity, linear_response
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient
from neurosim_ep.models import ExactStorage, HopfieldNetwork, Scratch, hopfield_resnet13
from neurosim_ep.settling import Engine


def rounded(values: Tensor, bits: int) -> Tensor:
    """To nearest, `bits` mantissa bits after the leading one; exponents are not limited."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 2.0 ** (bits + 1)).round(), exponent - bits - 1)


@contextmanager
def mantissa(bits: int | None) -> Iterator[None]:
    """Round what exact edges multiply while settling."""
    if bits is None:
        yield
        return
    plain = ExactStorage.prepared

    class Rounding:
        resolution = 0.0

        def __init__(self, storage: ExactStorage, batch: int, scratch: Scratch) -> None:
            limited = copy.deepcopy(storage)
            limited.weight.copy_(rounded(storage.weight, bits or 0))
            self._reader = plain(limited, batch, scratch)

        def forward_read(self, pre: Tensor, **kinds: object) -> Tensor:
            return self._reader.forward_read(rounded(pre, bits or 0))

        def transposed_read(self, currents: Tensor, **kinds: object) -> Tensor:
            return self._reader.transposed_read(rounded(currents, bits or 0))

    def prepared(self: ExactStorage, batch: int, scratch: Scratch, dtype: object = None) -> object:
        return Rounding(self, batch, scratch)

    with mock.patch.object(ExactStorage, "prepared", prepared):
        yield


@torch.no_grad()
def cosines(
    network: HopfieldNetwork,
    images: Tensor,
    labels: Tensor,
    phases: Phases,
    reference: list[Tensor],
    bits: int | None = None,
) -> tuple[float, float]:
    """Of all weights together, and of the worst layer."""
    with mantissa(bits):
        equilibrium_gradient(network, images, labels, CenteredEP(0.1), phases=phases)
    gradients = [w.grad.double() for w in network.weights if w.grad is not None]
    found = gradient_fidelity(gradients, reference)
    return found.cosine, min(found.cosines)


def untrained() -> HopfieldNetwork:
    generator = torch.Generator().manual_seed(0)
    return hopfield_resnet13(3, 10, (32, 64, 64, 64), generator=generator)


def trained(folder: Path) -> HopfieldNetwork:
    """The last weights of a run, and what they had learned."""
    recipe, method = load_run(folder, weights="last")
    *_, last = csv.DictReader((folder / "metrics.csv").open())
    print(
        f"{recipe.name} after epoch {last['epoch']}: {last['train_accuracy_percent']} % of the "
        f"training images right, largest residual {last['train_residual_max']}"
    )
    return method.model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--free", type=int, default=60)
    parser.add_argument("--nudged", type=int, default=20)
    parser.add_argument("--run", type=Path, help="run folder of a CIFAR-10 recipe")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = cifar10(options.batch)
    network = untrained() if options.run is None else trained(options.run)
    true = linear_response(network, images, labels)
    show: Callable[..., None] = lambda what, phases, bits=None: print(  # noqa: E731
        "{:58s} {:.4f} / {:.4f}".format(
            what, *cosines(network, images, labels, phases, true, bits)
        ),
        flush=True,
    )
    assert all(math.isfinite(float(g.norm())) for g in true)
    show("the paper's: asynchronous, 120 + 2 x 50", Phases(120, 50, "asynchronous"))
    settings = f"coloured, {options.free} + 2 x {options.nudged}"
    for reads in ("full", "delta"):
        phases = Phases(options.free, options.nudged, nudged_reads=reads)
        show(f"{settings}, {reads} reads, float32", phases)
        show(f"{settings}, {reads} reads, TF32 emulated", phases, 10)
        for precision in ("float16", "bfloat16"):
            limited = Phases(
                options.free, options.nudged, nudged_reads=reads, engine=Engine(precision)
            )
            show(f"{settings}, {reads} reads, {precision}", limited)
        show(f"{settings}, {reads} reads, 3 mantissa bits emulated", phases, 3)
    relaxed = Engine(acceleration="overrelaxed")
    for free, nudged in ((120, 50), (60, 20), (30, 20), (30, 10), (20, 10)):
        show(f"coloured, {free} + 2 x {nudged}, plain", Phases(free, nudged))
        show(f"coloured, {free} + 2 x {nudged}, over-relaxed", Phases(free, nudged, engine=relaxed))


if __name__ == "__main__":
    main()
