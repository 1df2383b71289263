"""What an on-chip rule updates: the weights of edges, and biases that sit on rows of their own."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from neurosim_ep.crossbar import BiasRow, CrossbarMatrix, CrossbarNetwork, CrossbarStorage
from neurosim_ep.learning import Contrast, Form, Product, bias_factors, edge_products
from neurosim_ep.models import Geometry

OnPulses = Callable[[int, Tensor, Tensor], None]
"""Is told what every update pulses: the target's place, increments, decrements."""


@dataclass(frozen=True, eq=False)
class Target:
    """Devices that one rule moves together.

    Attributes:
        name: ``edge 0``, ``bias 1``, ...
        storage: holds the devices.
        geometry: of the products.
    """

    name: str
    storage: CrossbarStorage | BiasRow
    geometry: Geometry

    @property
    def parameter(self) -> nn.Parameter:
        """The digital copy of the weights; a gradient stands in its ``.grad``."""
        return self.storage.weight

    @property
    def step(self) -> Tensor:
        """Mean change of a weight by one increment, broadcasting over ``weight_shape``."""
        step = self.storage.matrix.weight_step
        return self.geometry.from_matrix(step.expand(self.storage.matrix.tiling.rows, -1))

    def demand(self, post: Tensor, rate: float, matrix: CrossbarMatrix | None = None) -> Tensor:
        """A post factor (N, *linear_shape) in pulses per unit of the pre factor.

        Args:
            post: the factor.
            rate: learning rate.
            matrix: whose devices are pulsed; the target's own where None.
        """
        scale = rate / (matrix or self.storage.matrix).weight_step
        # A column is a channel, or one unit where a dense edge leads to a layer of channels.
        shape = self.geometry.linear_shape
        units = len(scale) == math.prod(shape)
        return post * scale.view(1, *(shape if units else (-1, *(1,) * (post.dim() - 2))))

    def pulse(self, up: Tensor, down: Tensor) -> None:
        """Raise and lower the weights, see `CrossbarStorage.pulse`."""
        self.storage.pulse(up, down)


def targets_of(chip: CrossbarNetwork) -> list[Target]:
    """All that learns by pulses: weighted edges in edge order, then the bias rows."""
    found = [
        Target(f"edge {number}", edge.storage, edge.geometry)
        for number, edge in enumerate(chip.edge_list())
        if isinstance(edge.storage, CrossbarStorage)
    ]
    rows = [Target(f"bias {layer}", row, row.geometry) for layer, row in chip.bias_rows.items()]
    return found + rows


def target_products(chip: CrossbarNetwork, contrast: Contrast, form: Form) -> list[list[Product]]:
    """Products of every target of `targets_of`, whose sums are minus the gradients.

    Args:
        chip: on which the equilibria settled.
        contrast: the weighted equilibria.
        form: as for `neurosim_ep.learning.edge_products`.

    Raises:
        ValueError: for complex equilibria, which no pulse can stand for.
    """
    states, terms = contrast.nudged, contrast.terms
    if any(state.is_complex() for state in states):
        raise ValueError(
            "estimator: a holomorphic one is not allowed with pulses; must have real nudgings"
        )
    products = [
        found
        for _, edge, found in edge_products(chip, states, terms, form)
        if isinstance(edge.storage, CrossbarStorage)
    ]
    for layer, row in chip.bias_rows.items():
        factors = bias_factors(states, terms, layer, form)
        products.append([row.product(factor) for factor in factors])
    return products
