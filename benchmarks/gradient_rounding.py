"""What float32, and the faster forms of its convolutions, cost the gradient.

Gradients of centered EP at beta 0.1, coloured 60 + 2 x 20 iterations, in float32 against float64
with the same settings: 1 - cosine of all weights and of the worst layer, with plain convolutions
and with the forms that settling chooses (Winograd tiles, patches), full and delta reads.

    python benchmarks/gradient_rounding.py [--batch 8]
"""

import argparse
from unittest import mock

import torch
from images import cifar10

from neurosim_ep.experiments.fidelity.gradients import gradient_fidelity
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient
from neurosim_ep.models import HopfieldNetwork, hopfield_resnet13, vgg5

CHOICE = "neurosim_ep.models.geometry.convolution.faster_reads"


@torch.no_grad()
def gradients(
    network: HopfieldNetwork, batch: int, reads: str, dtype: torch.dtype, plain: bool
) -> list[torch.Tensor]:
    """One per weight, in float64."""
    images, labels = cifar10(batch)
    network = network.to(dtype)
    phases = Phases(60, 20, nudged_reads=reads)
    if plain:
        with mock.patch(CHOICE, lambda reads, *_, **__: reads):
            equilibrium_gradient(network, images.to(dtype), labels, CenteredEP(0.1), phases=phases)
    else:
        equilibrium_gradient(network, images.to(dtype), labels, CenteredEP(0.1), phases=phases)
    return [w.grad.double() for w in network.weights if w.grad is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, make, widths in (
        ("hopfield_resnet13", hopfield_resnet13, (128, 128, 128, 128)),
        ("vgg5", vgg5, (128, 128, 256, 256)),
    ):
        for reads in ("full", "delta"):
            found = {
                (dtype, plain): gradients(
                    make(3, 10, widths, generator=torch.Generator().manual_seed(0)),
                    options.batch,
                    reads,
                    dtype,
                    plain,
                )
                for dtype, plain in (
                    (torch.float64, True),
                    (torch.float32, True),
                    (torch.float32, False),
                )
            }
            true = found.pop((torch.float64, True))
            for (_, plain), gradient in found.items():
                alike = gradient_fidelity(gradient, true)
                form = "plain convolutions" if plain else "faster forms"
                print(
                    f"{name} {widths}, {reads} reads, {form}: {1 - alike.cosine:.0e} / "
                    f"{1 - min(alike.cosines):.0e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
