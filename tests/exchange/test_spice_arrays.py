"""Netlists of arrays: solved here by nodal analysis in dense form, by hand, and by ngspice."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar.wires import transfer_matrix, transposed_transfer_matrix
from neurosim_ep.exchange.spice import array_netlist, run_ngspice, sensed_currents

needs_ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice (Debian's package ngspice) is not installed"
)

# word line, bit line, driver, sense; every one zero and not
RESISTANCES = [
    (0.0, 0.0, 0.0, 0.0),
    (2.0, 0.0, 0.0, 0.0),
    (0.0, 3.0, 0.0, 0.0),
    (0.0, 0.0, 40.0, 0.0),
    (0.0, 0.0, 0.0, 50.0),
    (0.0, 0.0, 40.0, 50.0),
    (2.0, 0.0, 0.0, 50.0),
    (0.0, 3.0, 40.0, 0.0),
    (2.0, 3.0, 0.0, 0.0),
    (1e-3, 100.0, 5.0, 900.0),
    (2.0, 3.0, 40.0, 40.0),
]
DIRECTIONS = ("forward", "transposed")


def devices(rows: int, columns: int, zeros: float = 0.15, seed: int = 0) -> Tensor:
    """Conductances over the window 1e-7 to 1e-4 S, some devices stuck without any."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, columns)
    values = 10 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 3 - 7)
    return values * (torch.rand(shape, generator=generator) >= zeros)


def expected(conductance: Tensor, ohms: tuple[float, ...], direction: str) -> Tensor:
    """Transfer conductances (driven lines, sensed lines)."""
    if direction == "forward":
        return transfer_matrix(conductance, *ohms)
    return transposed_transfer_matrix(conductance, *ohms).T


def nodal(netlist: str) -> Tensor:
    """Currents into the sensing sources of a netlist of resistors and sources, all in one matrix.

    Modified nodal analysis: unknowns are the nodes' voltages and the sources' currents.
    """
    resistors, sources, nodes = [], [], {"0": -1}
    for line in netlist.split(".control")[0].splitlines():
        if line.startswith("*"):
            continue
        name, one, other, *rest = line.split()
        ends = [nodes.setdefault(node, len(nodes) - 1) for node in (one, other)]
        if name.startswith("R"):
            resistors.append((*ends, float(rest[0])))
        else:
            assert (name[0], rest[0]) == ("v", "DC")
            sources.append((name, *ends, float(rest[1])))
    count = len(nodes) - 1
    size = count + len(sources)
    # One row and column more stand for ground and are left out when solving.
    matrix, known = np.zeros((size + 1, size + 1)), np.zeros(size + 1)
    for one, other, ohm in resistors:
        for here, there in ((one, other), (other, one)):
            matrix[here, here] += 1 / ohm
            matrix[here, there] -= 1 / ohm
    for number, (_, one, other, volt) in enumerate(sources, start=count):
        matrix[one, number] += 1
        matrix[other, number] -= 1
        matrix[number, one] += 1
        matrix[number, other] -= 1
        known[number] = volt
    solution = np.linalg.solve(matrix[:-1, :-1], known[:-1])
    currents = {name: solution[count + k] for k, (name, *_) in enumerate(sources)}
    sensed = [currents[f"vsense{k}"] for k in range(sum("sense" in name for name in currents))]
    return torch.tensor(sensed, dtype=torch.float64)


# --- Without ngspice -----------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_device_by_hand(direction: str) -> None:
    netlist = array_netlist(
        torch.tensor([[1e-4]], dtype=torch.float64), 3.0, 5.0, 70.0, 900.0,
        direction=direction, voltages_volt=torch.tensor([0.2]),
    )  # fmt: skip
    current = nodal(netlist).item()
    assert current == pytest.approx(0.2 / (1e4 + 3 + 5 + 70 + 900), rel=1e-12)


def test_two_by_two_without_segments_by_hand() -> None:
    """Each column is at the voltage that its sense resistance leaves it."""
    g = torch.tensor([[1e-5, 2e-5], [4e-5, 0.0]], dtype=torch.float64)
    v = torch.tensor([0.2, -0.1], dtype=torch.float64)
    netlist = array_netlist(g, sense_ohm=1000.0, voltages_volt=v)
    columns = v @ g / (1 + 1000.0 * g.sum(0))
    torch.testing.assert_close(nodal(netlist), columns, rtol=1e-13, atol=0.0)


def test_two_columns_by_hand() -> None:
    """Both devices share driver and first segment; the second has one segment more."""
    word, bit, driver, sense = 300.0, 50.0, 2e3, 700.0
    shared = word + driver
    first, second = 1e4 + bit + sense, word + 2e4 + bit + sense
    determinant = (shared + first) * (shared + second) - shared**2
    by_hand = torch.tensor([second, first], dtype=torch.float64) / determinant
    g = torch.tensor([[1e-4, 5e-5]], dtype=torch.float64)
    found = nodal(array_netlist(g, word, bit, driver, sense))
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ohms", RESISTANCES, ids=str)
def test_the_netlist_is_the_circuit(ohms: tuple[float, ...], direction: str) -> None:
    for shape in ((1, 1), (1, 4), (4, 1), (5, 3)):
        g = devices(*shape, zeros=0.2 if min(shape) > 1 else 0.0)
        transfer = expected(g, ohms, direction)
        v = torch.linspace(-0.3, 0.5, len(transfer), dtype=torch.float64)
        found = nodal(array_netlist(g, *ohms, direction=direction, voltages_volt=v))
        scale = transfer.max().item()
        torch.testing.assert_close(found, v @ transfer, rtol=1e-9, atol=1e-12 * scale)


def test_names_that_an_engineer_recognises() -> None:
    g = torch.tensor([[1e-5, 2e-5], [0.0, 3e-6]], dtype=torch.float64)
    lines = array_netlist(g, 1.5, 2.5, 50.0, 100.0, title="an\narray").splitlines()
    assert lines[0] == "* an array"
    assert "Rleft1 left1 w1_end 50" in lines
    assert "Rw1_0 w1_end w1_0 1.5" in lines
    assert "Rw1_1 w1_0 w1_1 1.5" in lines
    assert "Rb1_1 b1_end b1_1 2.5" in lines
    assert "Rb0_1 b1_1 b0_1 2.5" in lines
    assert "Rbottom1 bottom1 b1_end 100" in lines
    device = next(line for line in lines if line.startswith("Rd0_1 w0_1 b0_1 "))
    assert float(device.split()[-1]) == 1 / 2e-5
    assert not any(line.startswith("Rd1_0") for line in lines)
    assert "; 1 of 0 S left out" in lines[6]
    ideal = array_netlist(g).splitlines()
    assert any(line.startswith("Rd1_1 left1 bottom1 ") for line in ideal)
    assert not any(re.match(r"R(w|b|left|bottom)\d", line) for line in ideal)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"driver_ohm": -1.0}, "driver_ohm: -1.0 is not allowed; must be finite and at least 0"),
        ({"direction": "up"}, 'direction: "up" is not allowed; must be forward or transposed'),
        (
            {"voltages_volt": torch.ones(2)},
            "voltages_volt: shape (2,) is not allowed; must be (3,) or (reads, 3)",
        ),
        (
            {"voltages_volt": torch.tensor([1.0, torch.nan, 0.0])},
            "voltages_volt: NaN or infinity is not allowed; must be finite",
        ),
        (
            {"conductance": torch.ones(3)},
            "conductance: shape (3,) is not allowed; must be (..., rows, cols)",
        ),
        (
            {"conductance": torch.ones(1, 3, 2)},
            "conductance: shape (1, 3, 2) is not allowed; must be (rows, columns)",
        ),
        (
            {"conductance": torch.tensor([[-1e-6]])},
            "must be finite and at least 0",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_allowed(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        array_netlist(**({"conductance": devices(3, 2)} | arguments))


def test_a_machine_without_ngspice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"^ngspice: not found; .*Debian's package ngspice\)$"):
        run_ngspice(array_netlist(devices(2, 2)))


# --- In ngspice ----------------------------------------------------------------------------------


@needs_ngspice
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (8, 5)], ids=str)
def test_whole_transfer_matrices(shape: tuple[int, int], direction: str) -> None:
    """One read per driven line, every resistance zero and not, stuck devices among them."""
    g = devices(*shape, zeros=0.2 if min(shape) > 1 else 0.0)
    for ohms in RESISTANCES:
        transfer = expected(g, ohms, direction)
        one_hot = torch.eye(len(transfer))
        netlist = array_netlist(g, *ohms, direction=direction, voltages_volt=one_hot)
        currents = sensed_currents(run_ngspice(netlist))
        torch.testing.assert_close(currents, transfer, rtol=1e-6, atol=0.0)


@needs_ngspice
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_larger_array(direction: str) -> None:
    """Every element, though wires hold some below a thousandth of the largest."""
    g, ohms = devices(32, 32), (1.0, 2.0, 50.0, 200.0)
    netlist = array_netlist(g, *ohms, direction=direction, voltages_volt=torch.eye(32))
    currents = sensed_currents(run_ngspice(netlist))
    torch.testing.assert_close(currents, expected(g, ohms, direction), rtol=1e-6, atol=0.0)


@needs_ngspice
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_random_inputs_of_a_large_array(direction: str) -> None:
    g, ohms = devices(64, 48), (1.0, 2.0, 50.0, 200.0)
    transfer = expected(g, ohms, direction)
    generator = torch.Generator().manual_seed(1)
    volts = torch.rand((3, len(transfer)), generator=generator, dtype=torch.float64) * 0.4 - 0.2
    netlist = array_netlist(g, *ohms, direction=direction, voltages_volt=volts)
    currents = sensed_currents(run_ngspice(netlist))
    assert currents.shape == (3, transfer.shape[1])
    difference = (currents - volts @ transfer).abs().max() / (volts @ transfer).abs().max()
    assert difference < 1e-6


@needs_ngspice
def test_reciprocity_in_ngspice() -> None:
    """With equal terminations, both directions are one matrix; with others they are not."""

    def both(driver_ohm: float, sense_ohm: float) -> tuple[Tensor, Tensor]:
        netlists = (
            array_netlist(
                g,
                5.0,
                3.0,
                driver_ohm,
                sense_ohm,
                direction=direction,
                voltages_volt=torch.eye(lines),
            )
            for direction, lines in (("forward", 12), ("transposed", 9))
        )
        forward, transposed = (sensed_currents(run_ngspice(netlist)) for netlist in netlists)
        return forward, transposed.T

    g = devices(12, 9)
    forward, transposed = both(100.0, 100.0)
    torch.testing.assert_close(transposed, forward, rtol=1e-9, atol=0.0)
    assert (forward - g).abs().max() > 0.01 * g.max()  # the wires are felt
    forward, transposed = both(100.0, 400.0)
    assert (transposed - forward).abs().max() > 0.01 * forward.max()


@needs_ngspice
def test_small_devices_beside_large_ones_are_exact() -> None:
    """No conductance is added to any node: 1e-7 S stay 1e-7 S."""
    g = torch.tensor([[1e-7, 1e-4], [1e-4, 1e-7]], dtype=torch.float64)
    netlist = array_netlist(g, voltages_volt=torch.eye(2))
    torch.testing.assert_close(sensed_currents(run_ngspice(netlist)), g, rtol=1e-12, atol=0.0)


@needs_ngspice
def test_by_hand_at_the_command_line(tmp_path: Path) -> None:
    """What an engineer does: ngspice -b FILE, and read."""
    path = tmp_path / "array.cir"
    g = torch.tensor([[1e-5], [3e-5]], dtype=torch.float64)
    path.write_text(array_netlist(g, title="an error of the title is none"))
    assert sensed_currents(run_ngspice(path.read_text())).item() == pytest.approx(4e-5, rel=1e-12)
    done = subprocess.run(
        ["ngspice", "-b", str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("i(vsense0) = "))
    assert float(line.split()[-1]) == pytest.approx(4e-5, rel=1e-12)


@needs_ngspice
def test_errors_of_ngspice_are_one_line() -> None:
    netlist = array_netlist(devices(2, 2, zeros=0.0))
    with pytest.raises(ValueError, match=r"^ngspice: [^\n]+$"):
        run_ngspice(netlist.replace("print i(vsense0)", "print i(vnone)"))
    with pytest.raises(ValueError, match=r"^ngspice: [^\n]+$"):
        run_ngspice(netlist.replace("Rd0_0 left0", "Qd0_0 left0"))
    with pytest.raises(ValueError, match=r"^ngspice: no result after 0.5 s; was ended$"):
        run_ngspice(
            ".title endless\nR1 1 0 1\n.control\nwhile 1\nend\n.endc\n.end\n", timeout_s=0.5
        )
    with pytest.raises(ValueError, match=r"^netlist: no i\(vsense0\) is not allowed"):
        sensed_currents({})
