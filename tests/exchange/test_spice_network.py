"""Whole networks as circuits: what ngspice settles to, against the program's settled states."""

import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.crossbar.card import Wires
from neurosim_ep.data import Dataset, load
from neurosim_ep.devices import load_device_card
from neurosim_ep.exchange.spice import Circuit, circuit_states, network_netlist
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient, train
from neurosim_ep.models import (
    Dense,
    Edge,
    HopfieldNetwork,
    Layer,
    Linear,
    ReLU,
    ReLUAlpha,
    SquaredError,
    mlp,
    vgg5,
)
from neurosim_ep.settling import settle, settle_nudged

needs_ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice (Debian's package ngspice) is not installed"
)

TARGET = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
NEWTON = Circuit(analysis="operating_point")


def small(activation: str = "relu_alpha") -> HopfieldNetwork:
    """4-6-3 with biases large enough to silence and to saturate."""
    generator = torch.Generator().manual_seed(3)
    options = {"alpha": 1.0, "gains": [1.5, 0.8], "generator": generator}
    network = mlp((4,), 3, (6,), activation=activation, **options).double()
    with torch.no_grad():
        for bias in network.biases:
            bias.copy_(0.4 * torch.randn(bias.shape, generator=generator, dtype=torch.float64))
    return network


def images(count: int, units: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    return 2.0 * torch.rand((count, units), generator=generator, dtype=torch.float64)


def chip_of(network: HopfieldNetwork, **layout: object) -> CrossbarNetwork:
    """Spread devices on several tiles, behind wires with unequal terminations."""
    wires = Wires.model_validate(
        {
            "source": "assumed",
            "word_line_ohm": 8.0,
            "bit_line_ohm": 5.0,
            "driver_ohm": 150.0,
            "sense_ohm": 60.0,
        }
    )
    card = load_array_card("ideal")
    tables = card.layout.model_copy(update={"rows": 3, "columns": 2} | layout)
    quiet = load_device_card("reram-array-om").model_copy(update={"read_noise": ()})
    card = card.model_copy(update={"layout": tables, "wires": wires})
    return map_to_crossbar(network, quiet, card, seed=5)


def settled(
    network: HopfieldNetwork, image: Tensor, target: Tensor, beta: float
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Free states, and the states at beta, both to rounding."""
    free = settle(network, image.unsqueeze(0), iterations=5000, tolerance=1e-14)
    if beta == 0.0:
        return free, free
    nudged = settle_nudged(
        network, free, target.view(1, -1), [beta], SquaredError(), iterations=5000, tolerance=1e-14
    )
    return free, nudged


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest of all layers, each relative to its largest state."""
    layers = list(zip(found, expected, strict=True))[1:]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in layers)


@needs_ngspice
@pytest.mark.parametrize("beta", [0.0, 0.3, -0.3])
def test_free_and_nudged_states(beta: float) -> None:
    network = small()
    silent = saturated = between = 0
    for image in images(4):
        free, expected = settled(network, image, TARGET, beta)
        start = free if beta else None
        for circuit in (Circuit(), NEWTON):
            found = circuit_states(
                network, image, beta=beta, target=TARGET, initial=start, circuit=circuit
            )
            assert difference(found, expected) < 1e-6
            assert found.settled.all()
        hidden = expected[1]
        silent += int((hidden == 0.0).sum())
        saturated += int((hidden == 1.0).sum())
        between += int(((hidden > 0.0) & (hidden < 1.0)).sum())
        if beta:
            assert difference(expected, free) > 1e-3
    assert min(silent, saturated, between) > 0


@needs_ngspice
@pytest.mark.parametrize("mapping", ["differential_pair", "offset_column"])
@pytest.mark.parametrize("scale", ["layer", "column"])
def test_a_chip_with_wires(mapping: str, scale: str) -> None:
    """Explicit wire segments in the circuit, transfer matrices in the program; several tiles."""
    network = small()
    chip = chip_of(network, mapping=mapping, scale=scale)
    chip.advance_time(100.0)
    image = images(1)[0]
    for beta in (0.0, 0.3, -0.3):
        free, expected = settled(chip, image, TARGET, beta)
        found = circuit_states(chip, image, beta=beta, target=TARGET, initial=free)
        assert difference(found, expected) < 1e-6
    exact = settled(network, image, TARGET, -0.3)[1]
    assert difference(found, exact) > 1e-3  # the hardware is felt


@needs_ngspice
def test_the_gradient_of_centered_ep() -> None:
    network, image, beta = small(), images(1)[0], 0.1
    free = circuit_states(network, image)
    nudged = [
        circuit_states(network, image, beta=b, target=TARGET, initial=free) for b in (beta, -beta)
    ]
    equilibrium_gradient(
        network,
        image.unsqueeze(0),
        torch.tensor([1]),
        CenteredEP(beta),
        phases=Phases(2000, 2000),
    )
    for edge, weight in enumerate(network.weights):
        # dE/dW = -pre x post
        up, down = (torch.outer(s[edge][0], s[edge + 1][0]) for s in nudged)
        assert weight.grad is not None
        assert difference([up, (down - up) / (2 * beta)], [up, weight.grad]) < 1e-6
    for layer, bias in enumerate(network.biases, start=1):
        up, down = (s[layer][0] for s in nudged)
        assert bias.grad is not None
        assert difference([up, (down - up) / (2 * beta)], [up, bias.grad]) < 1e-6


@needs_ngspice
def test_a_trained_network_of_digits() -> None:
    data = load("digits")
    few = Dataset(
        data.name, data.variant, data.train.first(300), data.test.first(20), data.class_names
    )
    network = mlp((1, 8, 8), 10, (16,), alpha=1.0)
    train(network, few, phases=Phases(15, 8), epochs=3, batch_size=20, learning_rate=0.1)
    network.double()
    image = data.test.images[0].double() / 255.0
    target = torch.eye(10, dtype=torch.float64)[data.test.labels[0]]
    for beta in (0.0, 0.1, -0.1):
        free, expected = settled(network, image, target, beta)
        found = circuit_states(network, image, beta=beta, target=target, initial=free)
        assert difference(found, expected) < 1e-6
    hidden = free[1]
    assert 0 < int((hidden > 0.0).sum()) < 16


@needs_ngspice
@pytest.mark.parametrize("kind", ["relu", "sigmoid"])
def test_other_activations(kind: str) -> None:
    network, image = small(kind), images(1)[0]
    _, expected = settled(network, image, TARGET, 0.0)
    assert difference(circuit_states(network, image), expected) < 1e-6


@needs_ngspice
def test_any_graph_of_dense_edges() -> None:
    """A skip edge from the input, two hidden layers, and a layer in the middle of an odd cycle."""
    layers = [Layer((4,)), Layer((5,), ReLUAlpha(1.0)), Layer((4,), ReLU()), Layer((3,), Linear())]
    pairs = [(0, 1), (1, 2), (2, 3), (0, 3), (3, 1)]
    sizes = [layer.shape for layer in layers]
    network = HopfieldNetwork(layers, [Edge(a, b, Dense(sizes[a], sizes[b])) for a, b in pairs])
    generator = torch.Generator().manual_seed(0)
    network.double()
    with torch.no_grad():
        for weight in network.weights:
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    image = images(1)[0]
    _, expected = settled(network, image, TARGET, 0.2)
    found = circuit_states(network, image, beta=0.2, target=TARGET)
    assert difference(found, expected) < 1e-6


@needs_ngspice
def test_a_membrane_charges_through_its_resistor() -> None:
    """One unit after one and after three time constants: 1 - exp(-t / RC) of its end."""
    network = mlp((2,), 1, (1,)).double()
    with torch.no_grad():
        for weight in network.weights:
            weight.zero_()
        network.biases[1].fill_(0.7)
    for constants in (1.0, 3.0):
        circuit = Circuit(neuron_ohm=2e4, neuron_farad=3e-12, time_constants=constants)
        states = circuit_states(network, images(1, 2)[0], circuit=circuit)
        assert not states.settled.any()
        assert states.iterations > 10
        output = states.output.item()
        assert output == pytest.approx(0.7 * (1.0 - math.exp(-constants)), rel=1e-3)


@needs_ngspice
def test_the_slowest_mode_of_the_circuit_and_of_the_program() -> None:
    """With one hidden unit between its bounds: sigma^2 per iteration, exp(sigma - 1) per RC."""
    network, image = mlp((4,), 3, (1,), alpha=1.0, gains=[0.5, 1.5]).double(), images(1)[0]
    into, out = (weight.detach() for weight in network.weights)
    sigma = torch.linalg.vector_norm(out).item()
    with torch.no_grad():
        network.biases[0].copy_(0.5 * (1.0 - sigma**2) - image @ into)
        network.biases[1].zero_()
    end = settle(network, image.unsqueeze(0), iterations=5000, tolerance=1e-15)
    assert end[1].item() == pytest.approx(0.5, rel=1e-12)
    assert 0.5 < sigma < 1.0

    def far(states: Sequence[Tensor]) -> float:
        return (states[1] - end[1]).abs().item()

    iterated = [far(settle(network, image.unsqueeze(0), iterations=n)) for n in (5, 8)]
    assert iterated[1] / iterated[0] == pytest.approx(sigma**6, rel=1e-6)
    settling = [
        far(circuit_states(network, image, circuit=Circuit(time_constants=t))) for t in (8.0, 12.0)
    ]
    assert settling[1] / settling[0] == pytest.approx(math.exp(4.0 * (sigma - 1.0)), rel=0.02)


def test_the_netlist_can_be_read() -> None:
    chip = chip_of(small())
    text = network_netlist(chip, images(1)[0], beta=0.5, target=TARGET)
    lines = text.splitlines()
    assert lines[0] == "* neurosim_ep network 4-6-3, nudged phase, beta 0.5"
    assert lines[1].startswith("* A state of 1 is 0.2 V.")  # alpha 1, the card's read voltage
    assert sum(line.startswith("Cu1_") for line in lines) == 6
    assert sum(line.startswith("Bs1_") for line in lines) == 6
    assert sum(line.startswith("Gn2_") for line in lines) == 3
    # The input is not settled: its edge has no transposed copies.
    assert any("e0_plus_r1_c1_f_d0_0 " in line for line in lines)
    assert not any("e0_plus_r0_c0_t_" in line for line in lines)
    assert any("e1_minus_r1_c0_t_d0_0 " in line for line in lines)
    devices = [line for line in lines if re.match(r"Re\d_\w+_[ft]_d\d+_\d+ ", line)]
    assert len(devices) == 2 * (4 * 6 + 2 * 6 * 3)


@needs_ngspice
def test_the_examples_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "spice.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "spice.md", "exec"), names)
    assert names["currents"].shape == (1, 3)
    assert len(names["paths"]) == 8
    assert names["paths"][0].is_file()
    assert difference(names["nudged"], names["free"]) > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": vgg5(1, 4, (3, 2, 3, 2))}, "edges[0]: "),
        ({"image": torch.ones(5)}, "image: shape (5,) is not allowed; must be (4,) and finite"),
        ({"image": torch.full((4,), torch.nan)}, "image: shape (4,) is not allowed; must be (4,)"),
        ({"beta": math.inf}, "beta: "),
        ({"beta": 0.1}, "target: absent is not allowed; must be (3,) and finite where beta"),
        ({"beta": 0.1, "target": torch.ones(2)}, "target: shape (2,) is not allowed; must be (3,)"),
        ({"initial": [torch.zeros(1, 4)]}, "initial: shapes [(1, 4)] are not allowed; must be "),
    ],
    ids=["convolution", "shape", "NaN", "beta", "no target", "target", "initial"],
)
def test_what_is_not_allowed(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}[^\n]*$"):
        network_netlist(**({"network": small(), "image": images(1)[0]} | arguments))


@pytest.mark.parametrize(
    ("field", "value"),
    [("neuron_ohm", 0.0), ("neuron_farad", math.nan), ("time_constants", -1.0), ("analysis", "ac")],
)
def test_circuits_that_are_not_allowed(field: str, value: float | str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: [^\n]* is not allowed; must be [^\n]+$"):
        Circuit(**{field: value})
