"""Biases on a row of devices: programmed, read, pulsed and ageing like weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosim_ep.crossbar import BiasRow, CrossbarNetwork, load_array_card, map_to_crossbar
from neurosim_ep.crossbar.cost import network_area
from neurosim_ep.devices import load_device_card
from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    ReLUAlpha,
    mlp,
    vgg5,
)
from neurosim_ep.settling import settle

US = 1e-6
MAPPINGS = ["differential_pair", "offset_column"]


def exact(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def constant(**fields: Any) -> dict[str, Any]:
    return {"model": "constant", "step_relative": 0.02} | fields


def network() -> HopfieldNetwork:
    """A small network with random biases, smaller than its largest weights."""
    made = mlp((1, 2, 3), 3, (5,)).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for bias in made.biases:
            bias.copy_(0.3 * torch.randn(bias.shape, generator=generator, dtype=torch.float64))
        for weight in made.weights:
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return made


def graph() -> HopfieldNetwork:
    """Two edges to one layer, one by identity alone, one dense onto channels."""
    shapes = [(1, 4, 4), (2, 4, 4), (2, 2, 2), (2, 2, 2), (3,), (2, 2, 2), (4,)]
    layers = [Layer(shapes[0]), *(Layer(shape, ReLUAlpha(2.0)) for shape in shapes[1:])]
    edges = [
        Edge(0, 1, Convolution(shapes[0], 2, kernel=3, padding=1)),
        Edge(1, 2, Convolution(shapes[1], 2, kernel=2, stride=2)),
        Edge(0, 2, Convolution(shapes[0], 2, kernel=1, stride=2)),
        Edge(2, 3, Identity(shapes[2], shapes[3], strength=0.3)),
        Edge(3, 4, Dense(shapes[3], shapes[4])),
        Edge(4, 5, Dense(shapes[4], shapes[5])),
        Edge(5, 6, Dense(shapes[5], shapes[6])),
    ]
    return HopfieldNetwork(layers, edges).double()


def middle(card: Any) -> Any:
    return card.model_copy(update={"layout": card.layout.model_copy(update={
        "pair_baseline": "middle", "scale_headroom": 2.0
    })})  # fmt: skip


# --- One row -----------------------------------------------------------------------------------


def test_a_row_by_hand(device, array) -> None:
    # 90 uS for a bias of 2: 45 uS per unit; 0.9 uS and thus 0.02 per pulse and device.
    units = exact([1.0, 1.0, 0.5]) / (45 * US)
    card = device(10 * US, 100 * US, pulse_response=constant())
    row = BiasRow(exact([1.0, -0.5, 0.25]), units, card, array(8, 2), seed=0)
    plus, minus = row.matrix.devices.conductance[:, 0] / US
    torch.testing.assert_close(plus, exact([55.0, 10.0, 32.5]))
    torch.testing.assert_close(minus, exact([10.0, 32.5, 10.0]))
    torch.testing.assert_close(row.value, exact([1.0, -0.5, 0.25]))
    row.pulse(exact([[3, 0, 0]]), exact([[0, 2, 1]]))
    # Pushed up by 0.9 uS each; G- of the first and G+ of the second are at the foot already.
    wanted = exact([1.06, -0.54, 0.23])
    torch.testing.assert_close(row.value, wanted)
    torch.testing.assert_close(row.weight.detach(), wanted.view(1, 3))


def test_what_is_beyond_the_arrays_scale_is_clipped_and_counted(device, array) -> None:
    units = exact([1.0, 1.0]) / (45 * US)
    row = BiasRow(exact([2.5, -0.5]), units, device(10 * US, 100 * US), array(8, 8), seed=0)
    torch.testing.assert_close(row.value, exact([2.0, -0.5]))
    assert row.program(units).clipped == 1
    assert row.program(2.0 * units).clipped == 0
    torch.testing.assert_close(row.value, exact([2.5, -0.5]))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5)])
def test_the_product_sums_to_the_biases_gradient(device, array, shape: tuple[int, ...]) -> None:
    row = BiasRow(exact([0.1] * 3), exact([1e4] * 3), device(), array(8, 8), seed=0)
    post = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if len(shape) == 4:
        post = post.contiguous(memory_format=torch.channels_last)
    pre, columns = row.product(post)
    found = row.geometry.correlation(pre, columns)
    assert pre.shape == (post.numel() // 3, 1)
    torch.testing.assert_close(found, post.sum([0, *range(2, len(shape))]).view(1, 3))


def test_a_row_follows_its_dtype(device, array) -> None:
    row = BiasRow(
        torch.tensor([0.1, -0.2]), torch.tensor([3e4, 3e4]), device(), array(8, 8), seed=0
    )
    row.double()
    assert row.value.dtype == torch.float64
    torch.testing.assert_close(row.value, exact([0.1, -0.2]), rtol=1e-5, atol=0.0)


# --- A network's rows --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["layer", "column"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_ideal_rows_settle_as_digital_biases_do(array, mapping: str, scale: str) -> None:
    exactly, generator = network(), torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 2, 3, generator=generator, dtype=torch.float64)
    card = middle(array(8, 3, mapping, scale))
    chip = map_to_crossbar(exactly, "ideal", card, bias_rows=True)
    assert sorted(chip.bias_rows) == [1, 2]
    found, wanted = (settle(n, images, iterations=30) for n in (chip, exactly))
    torch.testing.assert_close(found.output, wanted.output, rtol=1e-10, atol=1e-12)
    without = settle(map_to_crossbar(mlp_without_biases(exactly), "ideal", card), images)
    assert float((without.output - wanted.output).abs().max()) > 1e-2


def mlp_without_biases(like: HopfieldNetwork) -> HopfieldNetwork:
    made = network()
    with torch.no_grad():
        for bias in made.biases:
            bias.zero_()
    assert torch.equal(made.weights[0], like.weights[0])
    return made


def test_each_layer_has_the_row_of_its_first_arrays() -> None:
    chip = map_to_crossbar(graph(), "ideal", "ideal", bias_rows=True)
    # Layer 3 has no arrays; layer 5 has one bias per channel, but a column per unit.
    assert sorted(chip.bias_rows) == [1, 2, 4, 6]
    units = chip.storages[1].matrix.units
    assert torch.equal(chip.bias_rows[2].matrix.units, units)
    convolutions = vgg5(1, 3, (2, 2, 2, 2), image_size=16)
    assert sorted(map_to_crossbar(convolutions, bias_rows=True).bias_rows) == [1, 2, 3, 4, 5]
    assert map_to_crossbar(graph()).bias_rows == {}


def test_a_new_scale_of_the_arrays_is_the_rows_too(array) -> None:
    chip = map_to_crossbar(network(), "ideal", array(8, 8), bias_rows=True)
    row = chip.bias_rows[1]
    with torch.no_grad():
        chip.weights[0].mul_(10.0)
        row.weight.mul_(10.0)
    wanted = row.weight.detach().clone()
    chip.program(rescale=True)
    assert torch.equal(row.matrix.units, chip.storages[0].matrix.units)
    torch.testing.assert_close(chip.biases[0].detach(), wanted[0])
    with torch.no_grad():
        chip.weights[0].mul_(0.1)
    chip.program(rescale=False)
    assert torch.equal(row.matrix.units, chip.storages[0].matrix.units)
    torch.testing.assert_close(chip.biases[0].detach(), wanted[0])


def test_biases_age_with_their_devices() -> None:
    pcm = load_device_card("pcm").model_copy(update={"programming": None})
    chip = map_to_crossbar(network(), pcm, "ideal", bias_rows=True)
    before = [bias.detach().clone() for bias in chip.biases]
    chip.advance_time(86_400.0)
    for layer, old in enumerate(before, start=1):
        row, now = chip.bias_rows[layer], chip.biases[layer - 1].detach()
        assert row.matrix.devices.elapsed_s == 86_400.0
        assert torch.equal(now, row.value)
        # nu of 0.049 to 0.1 and more: (86,420 / 20)^-nu.
        shrunk = now.abs() / old.abs()
        assert float(shrunk.max()) < 0.9
        assert float(shrunk.min()) > 0.1
    digital = map_to_crossbar(network(), pcm, "ideal")
    digital.advance_time(86_400.0)
    assert torch.equal(digital.biases[0], before[0])


def test_a_row_is_another_piece_of_hardware_than_its_edge() -> None:
    card = load_device_card("hfo2-reram")
    chip = map_to_crossbar(network(), card, "ideal", bias_rows=True, seed=5)
    again = map_to_crossbar(network(), card, "ideal", bias_rows=True, seed=5)
    other = map_to_crossbar(network(), card, "ideal", bias_rows=True, seed=6)
    assert torch.equal(chip.bias_rows[1].value, again.bias_rows[1].value)
    assert not torch.equal(chip.bias_rows[1].value, other.bias_rows[1].value)
    seeds = {m.devices.seed for m in matrices(chip)}
    assert len(seeds) == 4
    plain = map_to_crossbar(network(), card, "ideal", seed=5)
    assert torch.equal(plain.storages[0].effective_weight(), chip.storages[0].effective_weight())


def matrices(chip: CrossbarNetwork) -> list[Any]:
    rows = [row.matrix for row in chip.bias_rows.values()]
    return [*(storage.matrix for storage in chip.storages), *rows]


def test_a_state_dict_brings_rows_and_biases() -> None:
    card, array = load_device_card("hfo2-reram"), middle(load_array_card("ideal"))
    one, other = (
        map_to_crossbar(network(), card, array, bias_rows=True, seed=seed) for seed in (0, 1)
    )
    one.bias_rows[1].pulse(torch.ones(1, 5), 2.0 * torch.ones(1, 5))
    one.read_bias_rows()
    other.load_state_dict(one.state_dict())
    for row in (one.bias_rows[1], other.bias_rows[1]):
        row.pulse(torch.ones(1, 5), torch.zeros(1, 5))
    assert torch.equal(one.bias_rows[1].value, other.bias_rows[1].value)
    assert torch.equal(one.biases[0], other.biases[0])
    images = torch.rand(2, 1, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(settle(one, images).output, settle(other, images).output)


# --- Read noise --------------------------------------------------------------------------------

TERMS = [
    {"model": "lumped", "sigma_relative": 0.1},
    {"model": "shot", "bandwidth_hz": 1e12},
    {"model": "thermal", "bandwidth_hz": 1e12},
]
BY_TILE = {"forward": {"adc_noise_ampere": 1e-20, "dac_range": "ideal"}}
EDGES = {
    "dense": Dense((5,), (3,)),
    "convolution": Convolution((2, 3, 3), 3, kernel=3, stride=2, padding=1),
}


def with_row(geometry: Any, card: Any, array: Any, bias: Any) -> Any:
    """Arrays of one edge with a bias row, both of noisy devices."""
    layers = [Layer(geometry.pre_shape), Layer(geometry.post_shape, ReLUAlpha(2.0))]
    made = HopfieldNetwork(layers, [Edge(0, 1, geometry)]).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        made.weights[0].copy_(torch.randn(made.weights[0].shape, generator=generator))
        made.biases[0].copy_(exact(bias))
    return map_to_crossbar(made, card, array, bias_rows=True)


@pytest.mark.parametrize("delta", [False, True], ids=["full", "delta"])
@pytest.mark.parametrize("tables", [{}, BY_TILE], ids=["summed", "by tile"])
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("geometry", EDGES.values(), ids=EDGES)
def test_a_row_is_as_noisy_as_devices_that_draw_one_by_one(
    geometry: Any, mapping: str, tables: Any, delta: bool, device, array, simulate, same_statistics
) -> None:
    card = device(read_noise=TERMS)
    chip = with_row(geometry, card, array(64, 2, mapping, **tables), [0.7, -0.4, 0.2])
    storage, row, draws = chip.storages[0], chip.bias_rows[1], 8000
    # Images have no bound: full scale is a read's largest value, here 1 (nothing rounds it).
    driven = torch.linspace(0.1, 1.0, torch.zeros(geometry.pre_shape).numel(), dtype=torch.float64)
    driven = driven.view(1, *geometry.pre_shape)
    found = storage.forward_read(
        driven.expand(draws, *geometry.pre_shape).contiguous(), delta=delta
    )
    wanted = simulate(storage, TERMS, driven, "forward", draws=draws, full_scale=1.0, seed=3)
    # One device per column (and reference), driven by 1: at every position anew.
    positions = found[0, 0].numel()
    of_row = SimpleNamespace(geometry=row.geometry, matrix=row.matrix, array=storage.array)
    one = torch.full((1, 1), 0.0 if delta else 1.0, dtype=torch.float64)
    noise = simulate(of_row, TERMS, one, "forward", draws=draws * positions, full_scale=1.0, seed=4)
    noise = noise - (0.0 if delta else row.value)
    wanted = wanted + noise.view(draws, positions, 3).transpose(1, 2).reshape(wanted.shape)
    same_statistics(found, wanted)
    assert float(noise.var()) > (0.001 if delta else 0.02) * float(found.var(0).mean())


def test_a_row_is_silent_in_transposed_reads_and_without_noise(device, array) -> None:
    driven = torch.ones(2000, 3, dtype=torch.float64)
    chip = with_row(EDGES["dense"], device(read_noise=TERMS), array(8, 8), [0.7, -0.4, 0.2])
    plain = map_to_crossbar(chip, device(read_noise=TERMS), array(8, 8))
    found = [each.storages[0].transposed_read(driven).var(0) for each in (chip, plain)]
    torch.testing.assert_close(*found, rtol=0.2, atol=0.0)
    quiet = with_row(EDGES["dense"], device(), array(8, 8), [0.7, -0.4, 0.2])
    read = quiet.storages[0].forward_read(torch.zeros(2, 5, dtype=torch.float64))
    assert not read.any()


def test_noise_of_a_row_reaches_the_states(device, array) -> None:
    """Silent inputs: what varies comes from the row alone, drawn for every image and iteration."""
    chip = with_row(EDGES["dense"], device(read_noise=TERMS[:1]), array(8, 8), [0.7, 0.4, 0.2])
    # The first phase's input current is read once.
    output = settle(chip, torch.zeros(6000, 5, dtype=torch.float64), iterations=2).output
    row = chip.bias_rows[1]
    plus, minus = row.matrix.devices.conductance[:, 0]
    wanted = 0.1 * (plus.square() + minus.square()).sqrt() * row.matrix.units
    torch.testing.assert_close(output.std(0), wanted, rtol=0.05, atol=0.0)
    torch.testing.assert_close(output.mean(0), row.value, rtol=0.02, atol=0.0)


# --- What it takes up --------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "own"), [(5, 2), (6, 0), (4, 0), (3, 0)])
def test_the_report_counts_rows(rows: int, own: int, device, array) -> None:
    # Five inputs on arrays of five rows fill them; on four or three, the last has room.
    chip = with_row(EDGES["dense"], device(), array(rows, 3), [0.7, -0.4, 0.2])
    plain = map_to_crossbar(chip, device(), array(rows, 3))
    found, without = chip.report, plain.report
    assert (found.weights, found.biases) == (15, 3)
    assert found.devices == without.devices + 6
    assert found.attempts == without.attempts + 6 == 36
    assert found.arrays == without.arrays + own
    assert found.utilisation_fraction == pytest.approx(36 / (found.arrays * rows * 3))
    with torch.no_grad():
        chip.bias_rows[1].weight.fill_(1e3)
    again = chip.program()
    assert again.clipped == found.clipped + 3
    assert again.attempts == 36
    assert chip.report == again


def test_the_area_counts_rows_that_do_not_fit(costly) -> None:
    for rows, more in ((5, 1), (6, 0)):
        card = costly(rows, 3)
        chip = with_row(EDGES["dense"], "ideal", card, [0.7, -0.4, 0.2])
        plain = map_to_crossbar(chip, "ideal", card)
        (found,), (without,) = network_area(chip), network_area(plain)
        assert found.arrays == without.arrays * (1 + more)
        assert found.crossings == without.crossings * (1 + more)
        assert (found.dacs, found.adcs) == (
            without.dacs * (1 + more),
            without.adcs * (1 + more),
        )
