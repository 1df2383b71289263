"""Runs the paper's public code from a checkout given by its path; nothing of it is kept here.

On GitHub it is Scaling-Equilibrium-Propagation-to-Deeper-Neural-Network-Architectures by
BrainSeek-Lab.  It imports wandb when loaded, for which a stub stands in.
"""

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurosim_ep.models import HopfieldNetwork

_CLASSES = {"vgg5": "ConvHopfieldEnergy32", "hopfield_resnet13": "ConvHopfieldResEnergy32"}


class PaperCode:
    """One of its networks, with the weights of one of ours.

    Args:
        checkout: folder of the repository.
        name: ``vgg5`` or ``hopfield_resnet13``.
        network: full-width network whose parameters are copied.
        device: where it runs.
    """

    def __init__(self, checkout: Path, name: str, network: HopfieldNetwork, device: str) -> None:
        folder = checkout / "EquiProp"
        if not folder.is_dir():
            raise SystemExit(f"--paper-code: {checkout} is not allowed; must hold EquiProp")
        wandb: Any = types.ModuleType("wandb")
        wandb.run, wandb.config = None, {}
        sys.modules.setdefault("wandb", wandb)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        energy = getattr(importlib.import_module("model.hopfield.network"), _CLASSES[name])
        # One gain per weight; the weights themselves are replaced below.
        gains = [1.0] * len(network.weights)
        self._function = energy(3, network.num_outputs, activation="relu6", weight_gains=gains)
        self._function.set_device(device)
        for own, theirs in zip(network.parameters(), self._function.params(), strict=True):
            theirs.state.copy_(own.detach())
        wrapper = importlib.import_module("model.function.network").Network
        self._network = wrapper(self._function)
        self._minimizer: Callable[..., Any]
        self._minimizer = importlib.import_module("model.hopfield.minimizer").FixedPointMinimizer

    def settle(self, images: Tensor, iterations: int) -> list[Tensor]:
        """Free phase from rest, asynchronous order."""
        self._network.set_input(images, reset=True)
        minimizer = self._minimizer(self._function, self._network.free_layers(), iterations)
        minimizer.compute_equilibrium()
        return [layer.state for layer in self._function.layers()]

    def training_step(self, images: Tensor, labels: Tensor, free: int, nudged: int) -> None:
        """Free phase from rest and centered EP at beta 0.1: gradients, without the update."""
        self.settle(images, free)
        costs = importlib.import_module("model.function.cost")
        augmented = importlib.import_module("training.sgd").AugmentedFunction
        cost = costs.SquaredError(self._function.layers()[-1])
        cost.set_target(labels)
        function = augmented(self._function, cost)
        minimizer = self._minimizer(function, self._network.free_layers(), nudged)
        estimator = importlib.import_module("training.sgd").EquilibriumProp(
            self._function.params(), self._function.layers(), function, cost, minimizer
        )
        estimator.variant, estimator.nudging = "centered", 0.1
        # It takes some of its gradients by autograd.
        with torch.enable_grad():
            estimator.compute_gradient()
        if images.is_cuda:
            torch.cuda.synchronize()
