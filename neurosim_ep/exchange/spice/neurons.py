"""The neurons of a network's circuit: membranes, biases, nudging, buffers with the activation."""

from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.exchange.spice.circuit import Circuit, units
from neurosim_ep.exchange.spice.numbers import comment, number
from neurosim_ep.models import Activation, Linear, ReLU, ReLUAlpha


def neurons(
    chip: CrossbarNetwork, layer: int, circuit: Circuit, volt: float, initial: Tensor | None
) -> list[str]:
    """Membranes, bias currents and buffers of one layer."""
    count = units(chip, layer)
    shape = chip.layers[layer].shape
    bias = chip.bias_current(layer).double().expand(1, *shape).flatten().tolist()
    start = [0.0] * count if initial is None else (initial.double().flatten() * volt).tolist()
    lines = comment("", f"Layer {layer}: {chip.layers[layer].activation}")
    for k in range(count):
        at = f"{layer}_{k}"
        lines += [
            f"Ru{at} u{at} 0 {number(circuit.neuron_ohm)}",
            f"Cu{at} u{at} 0 {number(circuit.neuron_farad)} ic={number(start[k])}",
            f"Ib{at} 0 u{at} DC {number(bias[k] * volt / circuit.neuron_ohm)}",
            _buffer(chip.layers[layer].activation, at, volt),
        ]
        if circuit.analysis == "operating_point":
            lines.append(f".nodeset v(u{at})={number(start[k])}")
    return lines


def _buffer(activation: Activation, at: str, volt: float) -> str:
    """State from membrane voltage."""
    if isinstance(activation, Linear):
        return f"Es{at} s{at} 0 u{at} 0 1"
    return f"Bs{at} s{at} 0 V={_formula(activation, f'v(u{at})', volt)}"


def _formula(activation: Activation, membrane: str, volt: float) -> str:
    if isinstance(activation, ReLUAlpha):
        return f"min(max({membrane}, 0), {number(activation.alpha * volt)})"
    if isinstance(activation, ReLU):
        return f"max({membrane}, 0)"
    return f"{number(volt)}/(1+exp(2-{membrane}*{number(4.0 / volt)}))"


def nudging(
    chip: CrossbarNetwork, target: Tensor, beta: float, circuit: Circuit, volt: float
) -> list[str]:
    """The current beta (target - s) / R into each output's membrane."""
    siemens, layer = beta / circuit.neuron_ohm, chip.output
    lines = comment("", f"Nudging by the squared error, beta {beta:g}")
    for k, value in enumerate(target.double().tolist()):
        at = f"{layer}_{k}"
        lines.append(f"Gn{at} u{at} 0 s{at} 0 {number(siemens)}")
        lines.append(f"In{at} 0 u{at} DC {number(siemens * value * volt)}")
    return lines
