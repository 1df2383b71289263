"""Ideal devices on ideal arrays are the exact path: states, energies and gradients."""

import contextlib
import functools
import itertools

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.learning import (
    CenteredEP,
    HolomorphicEP,
    NegativeEP,
    Phases,
    PositiveEP,
    RandomSignEP,
    equilibrium_gradient,
)
from neurosim_ep.models import (
    Convolution,
    Dense,
    Edge,
    HopfieldNetwork,
    Identity,
    Layer,
    PooledConvolution,
    ReLUAlpha,
    Sigmoid,
    hopfield_resnet13,
    mlp,
    vgg5,
)

# Larger than any matrix, and sizes that divide none of them.
SIZES = [(512, 512), (16, 3), (10, 2), (23, 1)]
MAPPINGS = ("differential_pair", "offset_column")
SCALES = ("layer", "column")
PATHS = ("summed", "tile by tile")
READS = ("full", "delta")
ESTIMATORS = {
    "positive": PositiveEP(0.2),
    "negative": NegativeEP(0.2),
    "centered": CenteredEP(0.2),
    "random sign": RandomSignEP(0.2),
    "holomorphic, 3 points": HolomorphicEP(0.2, points=3),
    "holomorphic, 4 points": HolomorphicEP(0.2, points=4),
}


def graph(activation):
    """Every kind of edge: dense, 1x1, strided, pooled, identity, parallel, backwards."""

    def unit():
        return Sigmoid() if activation == "sigmoid" else ReLUAlpha(2.0)

    shapes = [(2, 5, 5), (3, 5, 5), (2, 3, 3), (4,), (3,)]
    layers = [Layer(shapes[0]), *(Layer(shape, unit()) for shape in shapes[1:-1])]
    edges = [
        Edge(0, 1, Convolution(shapes[0], 3, kernel=3, padding=1)),
        Edge(1, 2, Convolution(shapes[1], 2, kernel=3, stride=2, padding=1)),
        Edge(0, 2, Convolution(shapes[0], 2, kernel=1, stride=2)),
        Edge(1, 2, PooledConvolution(shapes[1], 2, kernel=2, padding=1)),
        Edge(1, 2, Identity(shapes[1], shapes[2], strength=0.3)),
        Edge(2, 1, Convolution(shapes[2], 3, kernel=1, padding=1)),
        Edge(2, 3, Dense(shapes[2], shapes[3])),
        Edge(1, 4, Dense(shapes[1], shapes[4])),
        Edge(3, 4, Dense(shapes[3], shapes[4])),
        Edge(3, 4, Identity(shapes[3], shapes[4], strength=0.2)),
    ]
    return HopfieldNetwork([*layers, Layer(shapes[-1])], edges)


NETWORKS = {
    "graph": lambda: graph("relu_alpha"),
    "holomorphic graph": lambda: graph("sigmoid"),
    "mlp": lambda: mlp((2, 3, 2), 3, (7, 6)),
    "vgg5": lambda: vgg5(1, 3, (2, 3, 2, 3), image_size=16),
    "hopfield_resnet13": lambda: hopfield_resnet13(1, 3, (2, 3, 2, 3), image_size=17),
}
# Weights that leave no layer of deep networks at its bounds.
GAINS = {"vgg5": 0.5, "hopfield_resnet13": 0.5}
PHASES = Phases(free_iterations=6, nudged_iterations=5)


@functools.cache
def problem(name):
    """A network whose every layer moves, and images."""
    network = NETWORKS[name]().double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for bias in network.biases[:-1]:
            bias.copy_(0.2 + 0.4 * torch.rand(bias.shape, generator=generator))
        for edge in network.edge_list():
            for weight in edge.parameters():
                drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
                weight.copy_(GAINS.get(name, 1.0) * (2.0 * drawn - 1.0) / edge.geometry.fan_in**0.5)
    images = torch.rand((2, *network.layers[0].shape), generator=generator, dtype=torch.float64)
    return network, images


def gradient(network, images, estimator, reads="full"):
    """States, energies and gradients of one batch."""
    phases = Phases(PHASES.free_iterations, PHASES.nudged_iterations, nudged_reads=reads)
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([2, 0])
    contrast = equilibrium_gradient(
        network, images, labels, estimator, phases=phases, generator=generator
    )
    energy = network.energy(contrast.nudged).detach()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    return [*contrast.free, *contrast.nudged, energy, *gradients]


@functools.cache
def exact(name, estimator):
    network, images = problem(name)
    results = gradient(network, images, ESTIMATORS[estimator])
    assert all(float(result.abs().max()) > 1e-5 for result in results)
    return results


def agree(name, estimator, device, array, path, reads):
    """Everything that one batch gives, to 1e-10 of each tensor's largest element."""
    network, images = problem(name)
    chip = map_to_crossbar(network, device, array)
    by_tile = chip.calibrating() if path == "tile by tile" else contextlib.nullcontext()
    with by_tile:
        results = gradient(chip, images, ESTIMATORS[estimator], reads)
    for found, wanted in zip(results, exact(name, estimator), strict=True):
        assert float((found - wanted).abs().max()) <= 1e-10 * float(wanted.abs().max())


def tables(path):
    # Calibration needs converters; it reads every tile by itself and converts ideally.
    converters = {"dac_bits": 3, "adc_bits": 3}
    return {"forward": converters, "transposed": converters} if path == "tile by tile" else {}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("mapping", "scale"), list(itertools.product(MAPPINGS, SCALES)))
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_kind_of_edge(size, mapping, scale, path, device, array):
    card = array(*size, mapping, scale, **tables(path))
    for reads in READS:
        agree("graph", "centered", device(), card, path, reads)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator(estimator, reads, path, device, array):
    name = "holomorphic graph" if estimator.startswith("holomorphic") else "graph"
    for mapping, scale in zip(MAPPINGS, SCALES, strict=True):
        card = array(16, 3, mapping, scale, **tables(path))
        agree(name, estimator, device(), card, path, reads)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["mlp", "vgg5", "hopfield_resnet13"])
def test_the_networks(name, path, device, array):
    for mapping, scale, reads in zip(MAPPINGS, SCALES, READS, strict=True):
        agree(name, "centered", device(), array(11, 2, mapping, scale, **tables(path)), path, reads)


@pytest.mark.parametrize("window", [(0.0, 2.5e-5), (9e-6, 8.82e-5), (1e-9, 1.0)])
def test_the_window_does_not_matter(window, device, array):
    for mapping in MAPPINGS:
        agree("graph", "centered", device(*window), array(16, 3, mapping), "summed", "full")


def test_the_report_counts(device, array):
    network, _ = problem("graph")
    weights = sum(weight.numel() for weight in network.weights)
    # Rows per channel, channels in, columns of the eight edges; an array holds 16 x 3.
    edges = [
        (9, 2, 3),
        (9, 3, 2),
        (1, 2, 2),
        (4, 3, 2),
        (1, 2, 3),
        (1, 18, 4),
        (1, 75, 3),
        (1, 4, 3),
    ]
    arrays = references = 0
    for per_channel, channels, columns in edges:
        row_tiles, column_tiles = -(-channels // (16 // per_channel)), -(-columns // 3)
        arrays += row_tiles * column_tiles
        references += per_channel * channels * column_tiles
    report = map_to_crossbar(network, device(), array(16, 3)).report
    assert (report.weights, report.devices, report.arrays) == (weights, 2 * weights, 2 * arrays)
    assert report.utilisation_fraction == pytest.approx(weights / (arrays * 48))
    assert (report.clipped, report.failed, report.attempts) == (0, 0, 2 * weights)
    report = map_to_crossbar(network, device(), array(16, 3, "offset_column")).report
    assert (report.devices, report.arrays) == (weights + references, arrays)
    assert report.utilisation_fraction == pytest.approx((weights + references) / (arrays * 64))


def test_a_network_without_weights_needs_no_arrays(device, array):
    edges = [Edge(0, 1, Identity((3,), (3,)))]
    chip = map_to_crossbar(
        HopfieldNetwork([Layer((3,)), Layer((3,))], edges), device(), array(8, 8)
    )
    assert (chip.report.weights, chip.report.arrays, chip.report.utilisation_fraction) == (
        0,
        0,
        0.0,
    )
    chip.advance_time(5.0)
    assert chip.elapsed_s == 0.0


def test_the_model_stays_as_it_is(device, array):
    network, images = problem("graph")
    before = [parameter.clone() for parameter in network.parameters()]
    chip = map_to_crossbar(network, device(), array(16, 3))
    with torch.no_grad():
        for parameter in chip.parameters():
            parameter.add_(1.0)
    gradient(chip, images, ESTIMATORS["centered"])
    for parameter, kept in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, kept)


def test_new_weights_are_seen_once_they_are_programmed(device, array):
    network, images = problem("graph")
    changed = graph("relu_alpha").double()
    changed.load_state_dict(network.state_dict())
    chip = map_to_crossbar(network, device(), array(16, 3))
    with torch.no_grad():
        for mine, theirs in zip(chip.weights, changed.weights, strict=True):
            theirs.mul_(0.5)
            mine.mul_(0.5)
    old = gradient(network, images, ESTIMATORS["centered"])
    for wanted, program in ((old, False), (gradient(changed, images, CenteredEP(0.2)), True)):
        if program:
            chip.program()
        for found, expected in zip(
            gradient(chip, images, ESTIMATORS["centered"]), wanted, strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
