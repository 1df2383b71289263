"""The states to which a network settles as a circuit, worked out by ngspice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim_ep.exchange.spice.circuit import Circuit, on_arrays, state_names, volt_per_state
from neurosim_ep.exchange.spice.network_netlist import network_netlist
from neurosim_ep.exchange.spice.ngspice import run_ngspice
from neurosim_ep.models import HopfieldNetwork
from neurosim_ep.settling import States
from neurosim_ep.settling.states import relative_change

SETTLED_RESIDUAL = 1e-9
"""A circuit whose states move more in its last steps counts as not settled."""


@torch.no_grad()
def circuit_states(
    network: HopfieldNetwork,
    image: Tensor,
    *,
    beta: float = 0.0,
    target: Tensor | None = None,
    initial: Sequence[Tensor] | None = None,
    circuit: Circuit | None = None,
    timeout_s: float = 120.0,
) -> States:
    """Settle a network on one image as a circuit in ngspice.

    Args:
        network, image, beta, target, initial, circuit: see `network_netlist`.
        timeout_s: after which ngspice is ended.

    Returns:
        States as `neurosim_ep.settling.settle` returns them, the image first, in float64.  Of a
        transient ``.iterations`` is the number of time steps, and ``.residual`` the change in the
        last of them, each a time constant long at most; of an operating point both are 0.

    Raises:
        ValueError: one line, if an argument does not fit or ngspice finds no equilibrium.
    """
    chip = on_arrays(network)
    netlist = network_netlist(
        chip, image, beta=beta, target=target, initial=initial, circuit=circuit
    )
    printed = run_ngspice(netlist, timeout_s=timeout_s)
    ends = []
    for point in (0, -1):
        states = [image.double().cpu().unsqueeze(0)]
        for layer, names in state_names(chip).items():
            values = torch.stack([printed[f"v({name})"][point] for name in names])
            states.append(values.view(1, *chip.layers[layer].shape) / volt_per_state(chip))
        ends.append(states)
    steps = int(printed["last"][0]) if "last" in printed else 0
    return States(ends[1], relative_change(*ends), steps, SETTLED_RESIDUAL)
