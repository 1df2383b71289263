"""A small network as an analog circuit that settles by itself, without iterations.

**Neurons.**  The currents of a unit's edges, its bias and the nudging flow into its membrane node
``u<layer>_<unit>``, a capacitor C beside a resistor R to ground; an ideal buffer drives the arrays
with the state ``s<layer>_<unit>``, the membrane's voltage behind the activation:

    C du/dt = -u / R + currents,    s = activation(u)

At rest u = R x currents, so that the states are those of ``s = activation(-dE/ds)`` to which
`neurosim_ep.settling.settle` iterates.  On the way the Lyapunov function F falls (Hopfield, PNAS
81:3088, 1984: symmetric weights, activations that do not fall).  Nudging by the squared error is
one more current, ``beta (target - s) / R``.

**Weights.**  A static circuit cannot read one array both ways at once: whichever end of a line
holds a virtual ground cannot also drive it.  Each array is therefore there twice, with the same
conductances: one copy driven by the pre states and sensed at its columns, one driven by the post
states and sensed at its rows, as if the two reads of the chip, which take turns, stood still side
by side.  Ideal current mirrors subtract the arrays of a pair, or the reference column, and scale
siemens to weights.  Resistive networks that couple neurons through the devices themselves (Kendall
et al. 2020, arXiv 2006.01981) need one copy, but each neuron then also feels the sum of its own
conductances, and through resistive wires its neighbours: another network than the chip's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.exchange.spice.circuit import (
    Circuit,
    on_arrays,
    state_names,
    units,
    volt_per_state,
)
from neurosim_ep.exchange.spice.edges import edge_arrays
from neurosim_ep.exchange.spice.neurons import neurons, nudging
from neurosim_ep.exchange.spice.numbers import comment, control, number, print_commands
from neurosim_ep.models import Dense, HopfieldNetwork, Linear, ReLU, ReLUAlpha, Sigmoid

# Of a transient they are what a step may be wrong by; an equilibrium is exact whatever the steps.
_OPTIONS = ".options reltol=1e-6 vntol=1e-14 abstol=1e-18 chgtol=1e-18 itl1=1000"

STEPS_COMPARED = 3
"""States are printed so many time steps before the end too: they say whether it has settled."""


@torch.no_grad()
def network_netlist(
    network: HopfieldNetwork,
    image: Tensor,
    *,
    beta: float = 0.0,
    target: Tensor | None = None,
    initial: Sequence[Tensor] | None = None,
    circuit: Circuit | None = None,
) -> str:
    """Netlist of a network of dense edges that settles on one image and prints its states.

    Args:
        network: a chip as it is at present, wires included, without converters and read noise; any
            other network is put on ideal devices first.
        image: of the input layer's shape.
        beta: nudging by the squared error, either sign; 0 is the free phase.
        target: of the output layer (outputs,); needed where beta is not 0.
        initial: states to start from, one tensor (1, *shape) per layer (the input's is ignored),
            such as the free states for a nudged phase; rest by default.
        circuit: how it is built; see `Circuit`.

    Raises:
        ValueError: one line, if an edge is not dense, an activation has no circuit, or an argument
            does not fit.
    """
    circuit = circuit or Circuit()
    _check(network, image, beta, target, initial)
    chip = on_arrays(network)
    volt = volt_per_state(chip)
    lines = _header(chip, circuit, volt, beta)
    drive = image.double().flatten() * volt
    lines += [f"Vs0_{k} s0_{k} 0 DC {number(v)}" for k, v in enumerate(drive.tolist())]
    for layer in chip.free_layers:
        lines += neurons(chip, layer, circuit, volt, None if initial is None else initial[layer])
    if beta != 0.0 and target is not None:
        lines += nudging(chip, target, beta, circuit, volt)
    for edge_number, edge in enumerate(chip.edge_list()):
        lines += edge_arrays(edge_number, edge, circuit)
    lines += [_OPTIONS, *control(_commands(chip, circuit))]
    return "\n".join(lines) + "\n"


def _commands(chip: CrossbarNetwork, circuit: Circuit) -> list[str]:
    nodes = [node for layer in state_names(chip).values() for node in layer]
    if circuit.analysis == "operating_point":
        return ["op", *print_commands(f"v({node})" for node in nodes)]
    # No step is longer than a time constant, whatever ngspice would think good enough.
    step = number(circuit.time_constant_s)
    stop = number(circuit.time_constant_s * circuit.time_constants)
    commands = [f"tran {step} {stop} 0 {step} uic", "let last = length(time) - 1", "print last"]
    commands.append(f"let before = last - {STEPS_COMPARED}")
    for point in ("before", "last"):
        commands += print_commands(f"v({node})[{point}]" for node in nodes)
    return commands


def _header(chip: CrossbarNetwork, circuit: Circuit, volt: float, beta: float) -> list[str]:
    sizes = "-".join(str(units(chip, layer)) for layer in range(len(chip.layers)))
    phase = f"nudged phase, beta {beta:g}" if beta else "free phase"
    return comment(
        f"neurosim_ep network {sizes}, {phase}",
        f"A state of 1 is {volt:g} V.  Volt, ampere, ohm, farad.",
        "",
        "  sL_U   state of unit U in layer L; layer 0 is the image",
        f"  uL_U   membrane, {circuit.neuron_ohm:g} ohm and {circuit.neuron_farad:g} F to ground",
        "  ibL_U  bias;  gnL_U and inL_U nudging",
        "  eN_... arrays of edge N: plane, row tile, column tile, f(orward) or t(ransposed) copy;",
        "         vEDGE..senseK holds line K at 0 V, fEDGE..K brings its current to a membrane",
        "",
        "Printed are the voltages of all states, of a transient a few steps before its end and at",
        "its end.  Run: ngspice -b FILE",
    )


def _check(
    network: HopfieldNetwork,
    image: Tensor,
    beta: float,
    target: Tensor | None,
    initial: Sequence[Tensor] | None,
) -> None:
    for edge_number, edge in enumerate(network.edge_list()):
        if not isinstance(edge.geometry, Dense):
            raise ValueError(
                problem(f"edges[{edge_number}]", repr(edge.geometry), "dense to become a circuit")
            )
    for layer in network.free_layers:
        activation = network.layers[layer].activation
        if not isinstance(activation, Linear | ReLU | ReLUAlpha | Sigmoid):
            allowed = "linear, ReLU, ReLU-alpha or sigmoid to become a circuit"
            raise ValueError(problem(f"layers[{layer}].activation", repr(activation), allowed))
    wanted = network.layers[0].shape
    if tuple(image.shape) != tuple(wanted) or not bool(image.isfinite().all()):
        shape = tuple(image.shape)
        raise ValueError(f"image: shape {shape} is not allowed; must be {wanted} and finite")
    if not -float("inf") < beta < float("inf"):
        raise ValueError(problem("beta", beta, "a finite number"))
    if beta != 0.0:
        outputs = (network.num_outputs,)
        if target is None or tuple(target.shape) != outputs or not bool(target.isfinite().all()):
            shown = "absent" if target is None else f"shape {tuple(target.shape)}"
            raise ValueError(
                f"target: {shown} is not allowed; must be {outputs} and finite where beta is not 0"
            )
    if initial is not None:
        shapes = [tuple(state.shape) for state in initial]
        allowed_shapes = [(1, *layer.shape) for layer in network.layers]
        if shapes[1:] != allowed_shapes[1:] or len(shapes) != len(allowed_shapes):
            raise ValueError(f"initial: shapes {shapes} are not allowed; must be {allowed_shapes}")
