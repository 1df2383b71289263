"""What a network's circuit is made of and how it is solved."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar import CrossbarNetwork, map_to_crossbar
from neurosim_ep.models import HopfieldNetwork

Analysis = Literal["transient", "operating_point"]
ANALYSES: tuple[Analysis, ...] = ("transient", "operating_point")


@dataclass(frozen=True)
class Circuit:
    """How the neurons are built and what ngspice works out.

    Attributes:
        neuron_ohm, neuron_farad: of a membrane; their product is the time constant.
        analysis: ``transient`` lets the circuit settle from rest; ``operating_point`` asks for the
            equilibrium at once, by Newton's method: it may find none, or another one than the
            circuit settles to, stable or not.
        time_constants: how long the transient lasts.
    """

    neuron_ohm: float = 1e4
    neuron_farad: float = 1e-12
    analysis: Analysis = "transient"
    time_constants: float = 100.0

    def __post_init__(self) -> None:
        for name in ("neuron_ohm", "neuron_farad", "time_constants"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise ValueError(problem(name, value, "a finite number above 0"))
        if self.analysis not in ANALYSES:
            raise ValueError(problem("analysis", self.analysis, " or ".join(ANALYSES)))

    @property
    def time_constant_s(self) -> float:
        """Of a membrane."""
        return self.neuron_ohm * self.neuron_farad


def on_arrays(network: HopfieldNetwork) -> CrossbarNetwork:
    """A chip as it is; another network in float64 on ideal devices and arrays."""
    if isinstance(network, CrossbarNetwork):
        return network
    return map_to_crossbar(copy.deepcopy(network).double(), "ideal", "ideal")


def volt_per_state(chip: CrossbarNetwork) -> float:
    """Volts that stand for a state of 1: the largest bound takes the card's read voltage."""
    bounds = [layer.activation.upper_bound for layer in chip.layers[1:]]
    return chip.array_card.drive.read_voltage_volt / max(b or 1.0 for b in bounds)


def state_names(chip: HopfieldNetwork) -> dict[int, list[str]]:
    """Nodes of each free layer's states."""
    return {
        layer: [f"s{layer}_{unit}" for unit in range(units(chip, layer))]
        for layer in chip.free_layers
    }


def units(network: HopfieldNetwork, layer: int) -> int:
    """Units of a layer."""
    return torch.Size(network.layers[layer].shape).numel()
