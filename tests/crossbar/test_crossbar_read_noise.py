"""Read noise by its aggregate against arrays in which every device draws its own current."""

import itertools

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.models import Convolution, Dense, Edge, HopfieldNetwork, Layer
from neurosim_ep.settling import settle

DENSE = Dense((5,), (3,))
CONVOLUTION = Convolution((2, 3, 3), 3, kernel=3, stride=2, padding=1)
# Beyond any real bandwidth, so that every term has a share that a test can see.
TERMS = {
    "thermal": {"model": "thermal", "bandwidth_hz": 1e12},
    "shot": {"model": "shot", "bandwidth_hz": 1e12},
    "flicker": {
        "model": "flicker",
        "coefficient": 0.01,
        "exponent": 0.65,
        "maximum": 0.1,
        "reference_siemens": 1e-4,
        "read_time_s": 250e-9,
    },
    "logarithmic": {
        "model": "logarithmic",
        "coefficient_siemens": 2e-6,
        "reference_siemens": 3e-6,
        "read_time_s": 1e-6,
    },
    "telegraph": {
        "model": "telegraph",
        "amplitude_relative": 0.3,
        "high_probability": 0.3,
        "device_fraction": 0.6,
    },
    "lumped": {"model": "lumped", "sigma_relative": 0.1},
    "lumped of range": {"model": "lumped", "sigma_of_range_relative": 0.05},
}
# Devices that stand for equal weights, and references, are not equal.
DRAWN = {"programming": {"coefficients_siemens": [1.5e-5], "reference_siemens": 1e-4}}
ALL = [term for name, term in TERMS.items() if name != "lumped of range"]
MAPPINGS = ("differential_pair", "offset_column")
SCALES = ("layer", "column")
DIRECTIONS = ("forward", "transposed")
# Noise before an ADC that resolves everything: every tile is then read by itself.
BY_TILE = {"adc_noise_ampere": 1e-20}
PATHS = {"summed": {}, "tile by tile": {"forward": BY_TILE, "transposed": BY_TILE}}


def drive(geometry, direction, seed=3):
    shape = geometry.pre_shape if direction == "forward" else geometry.linear_shape
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand((1, *shape), generator=generator, dtype=torch.float64)
    return (2.0 * values).clamp_min(0.1) - (0.6 if direction == "transposed" else 0.0)


def read(storage, driven, direction, draws):
    method = storage.forward_read if direction == "forward" else storage.transposed_read
    return method(driven.expand(draws, *driven.shape[1:]).contiguous())


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("term", TERMS)
def test_every_term_of_a_dense_edge(
    term, mapping, scale, path, direction, device, array, storage, simulate, same_statistics
):
    card = array(2, 2, mapping, scale, **PATHS[path])
    arrays = storage(DENSE, device(read_noise=[TERMS[term]], **DRAWN), card, seed=2)
    assert (arrays.matrix.tiling.row_tiles, arrays.matrix.tiling.column_tiles) == (3, 2)
    arrays.advance_time(100.0)
    driven = drive(DENSE, direction)
    found = read(arrays, driven, direction, 12_000)
    same_statistics(found, simulate(arrays, [TERMS[term]], driven, direction, draws=12_000))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("mapping", "scale"), list(itertools.product(MAPPINGS, SCALES)))
def test_all_terms_of_a_convolution(
    mapping, scale, path, direction, device, array, storage, simulate, same_statistics
):
    arrays = storage(
        CONVOLUTION, device(read_noise=ALL, **DRAWN), array(9, 2, mapping, scale, **PATHS[path])
    )
    assert (arrays.matrix.tiling.row_tiles, arrays.matrix.tiling.column_tiles) == (2, 2)
    arrays.advance_time(100.0)
    driven = drive(CONVOLUTION, direction)
    found = read(arrays, driven, direction, 3000)
    same_statistics(found, simulate(arrays, ALL, driven, direction, draws=3000))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("path", PATHS)
def test_equal_noise_of_all_devices_of_a_convolution(
    path, direction, device, array, storage, simulate, same_statistics
):
    # Noise without the conductance in it takes a shorter way than all others.
    terms = [TERMS["lumped of range"]]
    arrays = storage(CONVOLUTION, device(read_noise=terms), array(9, 2, **PATHS[path]))
    driven = drive(CONVOLUTION, direction)
    found = read(arrays, driven, direction, 3000)
    same_statistics(found, simulate(arrays, terms, driven, direction, draws=3000))


def test_the_exact_variance_of_a_column(device, array, storage):
    terms = [TERMS["thermal"], TERMS["shot"], TERMS["lumped"]]
    arrays = storage(DENSE, device(read_noise=terms), array(16, 16))
    driven, draws = drive(DENSE, "forward"), 200_000
    g, unit, volt = arrays.matrix.devices.conductance, arrays.matrix.units[0], driven[0] * 0.1
    thermal = 4 * 1.380649e-23 * 300 * 1e12 * g.sum((0, 1))
    shot = 2 * 1.602176634e-19 * 1e12 * (g * volt[:, None]).sum((0, 1))
    lumped = ((0.1 * g * volt[:, None]) ** 2).sum((0, 1))
    expected = (thermal + shot + lumped) * (unit * 10.0) ** 2
    chi_square = draws * read(arrays, driven, "forward", draws).var(0) / expected
    assert float(((chi_square - draws) / (2 * draws) ** 0.5).abs().max()) < 4.0


@pytest.mark.parametrize("by_tile", [False, True])
@pytest.mark.parametrize("geometry", [DENSE, CONVOLUTION], ids=["dense", "convolution"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_noise_is_drawn_anew(geometry, direction, by_tile, device, array, storage):
    tables = PATHS["tile by tile" if by_tile else "summed"]
    arrays = storage(geometry, device(read_noise=[TERMS["lumped"]]), array(18, 2, **tables))
    driven = drive(geometry, direction)
    first, second = (read(arrays, driven, direction, 3000).flatten(1) for _ in range(2))
    delta = (arrays.forward_read if direction == "forward" else arrays.transposed_read)(
        driven.expand(3000, *driven.shape[1:]), delta=True
    ).flatten(1)
    for one, other in ((first, second), (first[1:], first[:-1]), (second, delta)):
        one, other = one - one.mean(0), other - other.mean(0)
        correlation = (one * other).mean(0) / (one.std(0) * other.std(0))
        assert float(correlation.abs().max()) * len(one) ** 0.5 < 4.5


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_parts_of_a_complex_state_are_two_reads(
    mapping, device, array, storage, simulate, same_statistics
):
    terms = [TERMS["lumped"]]
    arrays = storage(DENSE, device(read_noise=terms), array(2, 2, mapping))
    real, imaginary = drive(DENSE, "forward"), drive(DENSE, "forward", seed=4)
    found = read(arrays, torch.complex(real, imaginary), "forward", 12_000)
    wanted = [
        simulate(arrays, terms, part, "forward", draws=12_000, seed=seed)
        for seed, part in enumerate((real, imaginary))
    ]
    same_statistics(torch.cat([found.real, found.imag], 1), torch.cat(wanted, 1))


def test_no_noise_where_nothing_is_driven_but_thermal(device, array, storage):
    silent = [TERMS[name] for name in ("shot", "flicker", "logarithmic", "telegraph", "lumped")]
    for mapping, direction in itertools.product(MAPPINGS, DIRECTIONS):
        driven = torch.zeros_like(drive(DENSE, direction))
        arrays = storage(DENSE, device(read_noise=silent), array(2, 2, mapping))
        arrays.advance_time(100.0)
        assert bool((read(arrays, driven, direction, 10) == 0.0).all())
        arrays = storage(DENSE, device(read_noise=[TERMS["thermal"]]), array(2, 2, mapping))
        assert float(read(arrays, driven, direction, 1000).std(0).min()) > 0.0


# Layers, edges, and which reads come together in which layer.
INTO_ONE_LAYER = {
    "forward and backwards, dense": (
        [(2,), (4,), (3,)],
        [(0, 1, Dense((2,), (4,))), (1, 2, Dense((4,), (3,))), (2, 1, Dense((3,), (4,)))],
        [(1, 1, "forward"), (2, 1, "transposed")],
        2,
    ),
    "convolution and dense": (
        [(1, 3, 3), (2, 3, 3), (3, 2, 2), (3,)],
        [
            (0, 1, Convolution((1, 3, 3), 2, kernel=1)),
            (1, 2, CONVOLUTION),
            (2, 3, Dense((3, 2, 2), (3,))),
        ],
        [(1, 1, "forward"), (2, 3, "transposed")],
        2,
    ),
}


@pytest.mark.parametrize("term", ["lumped", "lumped of range"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("graph", INTO_ONE_LAYER)
def test_noise_of_all_reads_into_a_layer(
    graph, mapping, path, term, device, array, simulate, same_statistics
):
    shapes, edges, reads, layer = INTO_ONE_LAYER[graph]
    network = HopfieldNetwork([Layer(s) for s in shapes], [Edge(*edge) for edge in edges]).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.weights:
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    converters = BY_TILE | {"dac_range": "fixed", "dac_range_state": 2.0}
    tables = {"forward": converters, "transposed": converters} if path == "tile by tile" else {}
    chip = map_to_crossbar(
        network, device(read_noise=[TERMS[term]]), array(9, 2, mapping, **tables)
    )
    states = [drive(Dense(shape, shape), "forward", seed) for seed, shape in enumerate(shapes)]
    draws = 3000
    many = [s.expand(draws, *s.shape[1:]).contiguous() for s in states]
    found = settle(chip, many[0], iterations=1, order="synchronous", initial=many)[layer]
    wanted = sum(
        simulate(chip.storages[edge], [TERMS[term]], states[pre], direction, draws=draws, seed=edge)
        for edge, pre, direction in reads
    )
    same_statistics(found, wanted)
