"""How many iterations over-relaxed settling takes, by factor and residual.

Counts iterations until one plain coloured iteration more changes the states by less than the
residual, looked at every 5 iterations; 8 CIFAR-10 images, widths 32-64-64-64, at initialisation, of
Hopfield-Resnet13 also with all weights 1.3 times as large.

    python benchmarks/overrelaxation.py [--factors 1 1.2 1.4 1.6 1.8] [--most 120]
"""

import argparse
from unittest import mock

import torch
from images import cifar10
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork, hopfield_resnet13, vgg5
from neurosim_ep.settling import Engine, settle

RESIDUALS = (1e-2, 1e-3, 1e-4, 1e-5)
LOOK = 5


@torch.no_grad()
def iterations(network: HopfieldNetwork, images: Tensor, factor: float, most: int) -> list[str]:
    """For each residual, how many were enough."""
    states, reached = network.rest(images), list[str]()
    with mock.patch("neurosim_ep.settling.engine.RELAXATION", factor):
        for done in range(LOOK, most + 1, LOOK):
            engine = Engine(acceleration="overrelaxed")
            states = settle(network, images, iterations=LOOK, initial=states, engine=engine).tensors
            residual = settle(network, images, iterations=1, initial=states).residual.max()
            while len(reached) < len(RESIDUALS) and residual <= RESIDUALS[len(reached)]:
                reached.append(str(done))
    return reached + [f"> {most}"] * (len(RESIDUALS) - len(reached))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 1.2, 1.4, 1.6, 1.8])
    parser.add_argument("--most", type=int, default=120, help="iterations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, _ = cifar10(8)
    widths = (32, 64, 64, 64)
    for name, gain in (("hopfield_resnet13", 1.0), ("vgg5", 1.0), ("hopfield_resnet13", 1.3)):
        make = {"hopfield_resnet13": hopfield_resnet13, "vgg5": vgg5}[name]
        network = make(3, 10, widths, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for weight in network.weights:
                weight.mul_(gain)
        print(f"{name}, weights x {gain:g}: iterations to", *(f"{r:g}" for r in RESIDUALS))
        for factor in options.factors:
            found = iterations(network, images, factor, options.most)
            print(f"  factor {factor:g}:", ", ".join(found), flush=True)


if __name__ == "__main__":
    main()
