"""Linear response, fidelity and the knobs that change it, against independent calculations."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from neurosim_ep.config import load_recipe
from neurosim_ep.crossbar import (
    ArrayCard,
    load_array_card,
    map_to_crossbar,
    without,
)
from neurosim_ep.devices import DeviceCard, load_device_card, shipped_device_cards
from neurosim_ep.devices.read_noise import Lumped, ReadConditions, ReadNoise, read_variance
from neurosim_ep.experiments.build import build_method
from neurosim_ep.experiments.fidelity.command import fidelity_images
from neurosim_ep.experiments.fidelity.gradients import (
    Fidelity,
    calibrate,
    gradient_fidelity,
    linear_response,
    measure,
    response,
)
from neurosim_ep.experiments.fidelity.hardware import (
    with_cards,
    with_converters,
    with_read_noise,
)
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient, truncated_backpropagation
from neurosim_ep.models import (
    Cost,
    CrossEntropy,
    HopfieldNetwork,
    SquaredError,
    hopfield_resnet13,
    mlp,
    vgg5,
)
from neurosim_ep.settling import settle

Images = tuple[Tensor, Tensor]
PHASES = Phases(40, 20)
BETA = CenteredEP(0.1)


@dataclass(frozen=True)
class Deep:
    """A network, images to measure, others to calibrate on, and the linear response."""

    network: HopfieldNetwork
    measured: Images
    calibration: Images
    response: list[Tensor]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are small: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def deep() -> Deep:
    """Digits through 64-96-96-96-10 as initialised."""
    recipe = load_recipe("digits", ["widths=[96,96,96]"])
    measured, calibration = fidelity_images(recipe, 16, 0)
    network = build_method(recipe, torch.device("cpu")).model
    assert isinstance(network, HopfieldNetwork)
    return Deep(network, measured, calibration, linear_response(network, *measured))


def small_problem(network: HopfieldNetwork, scale: float) -> tuple[HopfieldNetwork, Images]:
    """Biases and weights that keep every layer away from silence, three random images."""
    network = network.double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for bias in network.biases[:-1]:
            drawn = torch.rand(bias.shape, generator=generator, dtype=torch.float64)
            bias.copy_(0.3 + 0.4 * drawn)
        for edge in network.edge_list():
            for weight in edge.parameters():
                drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
                weight.copy_(scale * (2.0 * drawn - 1.0) / edge.geometry.fan_in**0.5)
    shape = (3, *network.layers[0].shape)
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    return network, (images, torch.tensor([2, 0, 1]))


def on_array(
    deep: Deep,
    device: DeviceCard,
    array: ArrayCard,
    reads: str,
    repeats: int = 1,
) -> list[Fidelity]:
    """Fidelities to the intended weights' response."""
    chip = map_to_crossbar(deep.network, device, array)
    phases = replace(PHASES, nudged_reads=reads)
    calibrate(chip, *deep.calibration, BETA, phases=phases)
    references = {"intended": deep.response}
    return measure(
        chip, *deep.measured, BETA, references=references, phases=phases, repeats=repeats
    )["intended"]


# --- the reference -----------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [SquaredError(), CrossEntropy()], ids=["squared", "entropy"])
def test_linear_response_is_the_slope_of_the_settled_cost(cost: Cost) -> None:
    network, (images, labels) = small_problem(mlp((1, 2, 2), 3, (4, 3)), 1.2)
    targets = torch.eye(3, dtype=torch.float64)[labels]

    free = settle(network, images, iterations=2000, tolerance=1e-14)

    def settled_cost() -> float:
        states = settle(network, images, iterations=2000, tolerance=1e-13, initial=free)
        return float(cost.value(states.output, targets).mean())

    found = linear_response(network, images, labels, cost)
    for gradient, weight in zip(found, network.weights, strict=True):
        slopes = torch.zeros_like(gradient)
        for place in range(weight.numel()):
            entry = weight.data.view(-1)[place]
            kept = float(entry)
            entry.fill_(kept + 1e-5)
            above = settled_cost()
            entry.fill_(kept - 1e-5)
            slopes.view(-1)[place] = (above - settled_cost()) / 2e-5
            entry.fill_(kept)
        assert float(slopes.norm()) > 0.0
        assert float((gradient - slopes).norm() / slopes.norm()) < 1e-4


@pytest.mark.parametrize(
    ("network", "scale"),
    [
        (vgg5(1, 3, (2, 3, 2, 3), image_size=16), 1.2),
        (hopfield_resnet13(1, 3, (2, 3, 2, 3), image_size=16), 0.6),
    ],
    ids=["vgg5", "hopfield_resnet13"],
)
def test_linear_response_of_convolutional_networks_is_backpropagation_through_settling(
    network: HopfieldNetwork, scale: float
) -> None:
    network, (images, labels) = small_problem(network, scale)
    before = [weight.clone() for weight in network.weights]
    found = response(network, images, labels)
    assert all(weight.grad is None for weight in network.weights)
    assert all(map(torch.equal, before, network.weights))
    truncated_backpropagation(network, images, labels, free_iterations=400, steps=150)
    for gradient, weight in zip(found.gradients, network.weights, strict=True):
        assert weight.grad is not None
        assert float((gradient - weight.grad).norm() / weight.grad.norm()) < 1e-4
    assert found.residual <= 1e-10
    assert found.departure < 0.01


def test_exact_network_agrees_with_its_own_response_and_so_does_the_ideal_card(
    deep: Deep,
) -> None:
    network, (images, labels) = copy.deepcopy(deep.network).double(), deep.measured
    images, phases = images.double(), Phases(200, 100)
    references = {"own": linear_response(network, images, labels)}
    for model in (network, map_to_crossbar(network, "ideal", "ideal")):
        (found,) = measure(
            model, images, labels, CenteredEP(0.01), references=references, phases=phases
        )["own"]
        assert min(found.cosines) > 1.0 - 1e-4
        assert found.norm_ratio == pytest.approx(1.0, abs=1e-3)
    (found,) = measure(
        deep.network, *deep.measured, CenteredEP(0.02), references=references, phases=PHASES
    )["own"]
    assert min(found.cosines) > 0.999


def test_the_two_references_differ_by_the_error_of_the_weights(
    deep: Deep,
) -> None:
    network, measured = deep.network, deep.measured
    pcm, array = without(load_device_card("pcm"), load_array_card("ideal"), ["read_noise"])
    chip = map_to_crossbar(network, pcm, array, seed=3)
    # By hand: the same network with what the arrays hold as its weights.
    other = build_method(load_recipe("digits", ["widths=[96,96,96]"]), torch.device("cpu")).model
    assert isinstance(other, HopfieldNetwork)
    with torch.no_grad():
        for weight, storage in zip(other.weights, chip.storages, strict=True):
            weight.copy_(storage.effective_weight())
    programmed = linear_response(chip, *measured, as_programmed=True)
    for mine, wanted in zip(programmed, linear_response(other, *measured), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-9)
    intended = linear_response(chip, *measured)
    for mine, wanted in zip(intended, deep.response, strict=True):
        assert torch.equal(mine, wanted)
    references = {"intended": intended, "programmed": programmed}
    found = measure(chip, *measured, CenteredEP(0.02), references=references, phases=PHASES)
    assert found["programmed"][0].worst > 0.999
    assert found["intended"][0].worst < 0.99


# --- the comparison ----------------------------------------------------------------------------


def test_cosines_and_ratios_of_hand_made_gradients() -> None:
    reference = [torch.tensor([3.0, 4.0]), torch.tensor([[2.0]]), torch.tensor([1.0])]
    gradients = [torch.tensor([4.0, 3.0]), torch.tensor([[-1.0]]), torch.tensor([0.0])]
    found = gradient_fidelity(gradients, reference)
    assert found.cosines == pytest.approx((24.0 / 25.0, -1.0, 0.0))
    assert found.norm_ratios == pytest.approx((1.0, 0.5, 0.0))
    assert found.cosine == pytest.approx(22.0 / math.sqrt(26.0 * 30.0))
    assert found.norm_ratio == pytest.approx(math.sqrt(26.0 / 30.0))
    assert (found.worst_layer, found.worst) == (1, pytest.approx(-1.0))


def test_a_layer_without_a_true_gradient_is_not_the_worst() -> None:
    found = gradient_fidelity(
        [torch.tensor([1.0]), torch.tensor([2.0])], [torch.tensor([0.0]), torch.tensor([1.0])]
    )
    assert math.isnan(found.cosines[0])
    assert (found.worst_layer, found.worst) == (1, 1.0)


def test_gradients_have_to_fit_a_reference_with_a_direction() -> None:
    with pytest.raises(ValueError, match=r"gradients: shapes \[\(2,\)\] .*\[\(3,\)\]"):
        gradient_fidelity([torch.ones(2)], [torch.ones(3)])
    with pytest.raises(ValueError, match="reference: zero is not allowed"):
        gradient_fidelity([torch.ones(2)], [torch.zeros(2)])
    network, (images, labels) = small_problem(mlp((1, 2, 2), 3, (4,)), 1.0)
    with pytest.raises(ValueError, match="repeats: 0 is not allowed; must be at least 1"):
        measure(network, images, labels, BETA, references={}, repeats=0)


# --- what the hardware does to the gradient ----------------------------------------------------


@pytest.mark.parametrize("reads", ["full", "delta"])
def test_the_cosine_falls_with_fewer_adc_bits(deep: Deep, reads: str) -> None:
    device, array = without(load_device_card("ideal"), load_array_card("default"), ["wires", "dac"])
    found = [
        on_array(deep, device, with_converters(array, adc_bits=bits), reads)[0].worst
        for bits in (3, 4, 6, 8, 12)
    ]
    assert found == sorted(found)
    assert found[-1] > 0.99
    assert found[-1] - found[0] > 0.05


@pytest.mark.parametrize("reads", ["full", "delta"])
def test_the_cosine_falls_with_more_read_noise(deep: Deep, reads: str) -> None:
    noise = Lumped(source="a test", sigma_of_range_relative=0.01)
    device = load_device_card("ideal").model_copy(update={"read_noise": (noise,)})
    found = []
    for scale in (0.0, 0.5, 2.0, 8.0):
        draws = on_array(deep, with_read_noise(device, scale), load_array_card("ideal"), reads, 3)
        found.append(sum(fidelity.worst for fidelity in draws) / len(draws))
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.99
    assert found[-1] < 0.8


def test_delta_reads_beat_full_reads_by_six_bit_converters_in_a_deep_network(
    deep: Deep,
) -> None:
    array = with_converters(load_array_card("default"), adc_bits=6).model_copy(
        update={"wires": None}
    )
    (full,), (delta,) = (
        on_array(deep, load_device_card("ideal"), array, reads) for reads in ("full", "delta")
    )
    assert full.worst < 0.7
    assert delta.worst > 0.95


# --- the same hardware with other cards --------------------------------------------------------


def test_every_kind_of_read_noise_scales_by_its_standard_deviation() -> None:
    g = torch.linspace(1e-6, 2e-5, 7, dtype=torch.float64)
    at = ReadConditions(g, 10.0, 300.0, 2e-5)
    kinds = {kind.model_fields["model"].default: kind for kind in get_args(get_args(ReadNoise)[0])}
    numbers = {
        "bandwidth_hz": 1e6,
        "coefficient": 0.01,
        "exponent": 0.5,
        "maximum": 0.02,
        "reference_siemens": 2e-5,
        "read_time_s": 1e-6,
        "coefficient_siemens": 1e-7,
        "amplitude_relative": 0.02,
        "sigma_relative": 0.03,
        "sigma_of_range_relative": 0.01,
    }
    for name, kind in kinds.items():
        given: dict[str, Any] = {k: v for k, v in numbers.items() if k in kind.model_fields}
        if name == "logarithmic":
            given["reference_siemens"] = 1e-7
        card = load_device_card("ideal").model_copy(
            update={"read_noise": (kind(source="a test", **given),)}
        )
        one = read_variance(card.read_noise, g, at)
        three = read_variance(with_read_noise(card, 3.0).read_noise, g, at)
        pairs = [(getattr(one, field), getattr(three, field)) for field in vars(one)]
        (pair,) = [(a, b) for a, b in pairs if a is not None]
        assert bool((pair[0] > 0.0).any()), name
        torch.testing.assert_close(pair[1], 9.0 * pair[0], rtol=1e-9, atol=0.0)
    assert with_read_noise(load_device_card("pcm"), 0.0).read_noise == ()


def test_other_cards_on_the_same_chip_are_a_chip_made_with_these_cards() -> None:
    network, (images, labels) = small_problem(mlp((1, 4, 4), 3, (24,)), 1.0)
    device, array = load_device_card("pcm"), load_array_card("default")
    other_device, other_array = with_read_noise(device, 2.0), with_converters(array, adc_bits=5)
    chip = map_to_crossbar(network, device, array)
    turned = with_cards(chip, other_device, other_array)
    assert chip.device_card is chip.storages[0].matrix.devices.card is device
    assert chip.storages[0].ports["forward_full"].converters == array.forward
    made = map_to_crossbar(network, other_device, other_array)
    states = []
    for chip in (turned, made):
        calibrate(chip, images, labels, BETA, phases=PHASES)
        equilibrium_gradient(chip, images, labels, BETA, phases=PHASES)
        states.append([weight.grad for weight in chip.weights])
    for mine, wanted in zip(*states, strict=True):
        assert mine is not None
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-12)
    untouched = map_to_crossbar(network, device, array)
    calibrate(untouched, images, labels, BETA, phases=PHASES)
    equilibrium_gradient(untouched, images, labels, BETA, phases=PHASES)
    first = untouched.weights[0].grad
    assert first is not None
    assert not torch.allclose(first, states[0][0], rtol=1e-3)


def test_converters_of_an_array_without_any_have_a_second_range_for_delta_reads() -> None:
    array = with_converters(load_array_card("ideal"), dac_bits=5)
    assert array.forward is not None
    assert array.forward_delta is not None
    assert (array.forward.dac_bits, array.forward.adc_bits) == (5, None)
    assert array.forward_delta.dac_range == "calibrated"
    assert array.transposed_delta == array.forward_delta
    # A card with full-read converters alone keeps its one range.
    alone = load_array_card("default").model_copy(
        update={"forward_delta": None, "transposed_delta": None}
    )
    assert with_converters(alone, adc_bits=4).forward_delta is None


def test_every_shipped_card_can_be_made_noisier() -> None:
    for card in shipped_device_cards().values():
        assert len(with_read_noise(card, 2.0).read_noise) == len(card.read_noise)
