"""Reads of aihwkit's tiles: exact with ideal converters, and what its converters make of them."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from neurosim_ep.exchange import (
    AihwkitStorage,
    aihwkit_problem,
    map_to_aihwkit,
    nominal_window,
)
from neurosim_ep.models import (
    Convolution,
    Dense,
    ExactStorage,
    Geometry,
    HopfieldNetwork,
    Identity,
    NoiseSum,
    PooledConvolution,
    SquaredError,
    hopfield_resnet13,
    mlp,
    vgg5,
)
from neurosim_ep.settling import settle, settle_nudged

REASON = aihwkit_problem()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

GEOMETRIES = [
    Dense((2, 3, 4), (5,)),
    Convolution((3, 7, 6), 4, kernel=3, padding=1),
    Convolution((2, 7, 8), 3, kernel=3, stride=2),
    Convolution((3, 5, 5), 2, kernel=1, stride=2),
    PooledConvolution((2, 6, 6), 3, kernel=3, padding=1),
]


def ideal() -> Any:
    from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig

    config = SingleRPUConfig(device=ConstantStepDevice(w_max_dtod=0.0, w_min_dtod=0.0))
    config.forward.is_perfect = config.backward.is_perfect = True
    return config


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def programmed(geometry: Geometry, config: Any, **options: Any) -> AihwkitStorage:
    storage = AihwkitStorage(geometry, config, seed=1, window=0.5, **options)
    with torch.no_grad():
        storage.weight.copy_(drawn(*storage.weight.shape))
    storage.program(rescale=True)
    return storage


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float64])
def test_ideal_reads_are_exact(geometry: Geometry, dtype: torch.dtype) -> None:
    storage = programmed(geometry, ideal(), dtype=dtype.to_real())
    exact = ExactStorage(geometry)
    exact.weight.data = storage.weight.data.clone()
    pre = drawn(4, *geometry.pre_shape, seed=1, dtype=dtype)
    currents = drawn(4, *geometry.linear_shape, seed=2, dtype=dtype)
    for delta in (False, True):
        for noise in (None, NoiseSum()):
            forward = storage.forward_read(pre, delta=delta, noise=noise)
            backward = storage.transposed_read(currents, delta=delta, noise=noise)
            expected = exact.forward_read(pre), exact.transposed_read(currents)
            for read, exactly in zip((forward, backward), expected, strict=True):
                assert read.dtype == dtype
                assert exactly.abs().max() > 1.0
                torch.testing.assert_close(read, exactly, rtol=1e-5, atol=1e-5)


def test_the_largest_weight_sits_where_it_should_and_the_rest_in_proportion() -> None:
    from aihwkit.simulator.configs import SingleRPUConfig
    from aihwkit.simulator.presets.devices import EcRamPresetDevice

    config = SingleRPUConfig(device=EcRamPresetDevice())
    window = nominal_window(config)
    # The preset's bounds are -0.8276 and 1.1724, with 5 % from device to device.
    assert window == pytest.approx(0.8276, abs=6 * 0.05 * 0.8276 / 64)
    network = mlp((1, 4, 4), 3, (5,))
    for fraction in (0.5, 0.2):
        mapped = map_to_aihwkit(network, config, window_fraction=fraction)
        for source, storage in zip(network.weights, mapped.storages, strict=True):
            assert float(storage.tile.matrix.abs().max()) == pytest.approx(fraction * window)
            largest = float(source.detach().abs().max())
            assert storage.scale == pytest.approx(largest / (fraction * window))
            torch.testing.assert_close(storage.weight, source)


def test_unbounded_devices_and_zero_weights_keep_the_tiles_units() -> None:
    from aihwkit.simulator.configs import IdealDevice, SingleRPUConfig

    config = SingleRPUConfig(device=IdealDevice())
    assert nominal_window(config) == 1.0
    network = mlp((1, 2, 2), 2, (3,))
    with torch.no_grad():
        network.weights[1].zero_()
    first, second = map_to_aihwkit(network, config).storages
    assert first.scale == pytest.approx(2.0 * float(network.weights[0].detach().abs().max()))
    assert second.scale == 1.0
    assert not second.weight.any()


def test_weights_beyond_the_bounds_are_clipped_and_shown() -> None:
    from aihwkit.simulator.configs import ConstantStepDevice, SingleRPUConfig

    config = SingleRPUConfig(device=ConstantStepDevice(w_max_dtod=0.0, w_min_dtod=0.0))
    storage = programmed(Dense((3,), (4,)), config)
    scale = storage.scale
    with torch.no_grad():
        storage.weight[0, 0], storage.weight[1, 1] = 9.0 * scale, -9.0 * scale
        kept = storage.weight.clone()
    storage.program()
    assert storage.scale == scale
    kept[0, 0], kept[1, 1] = 0.6 * scale, -0.6 * scale
    torch.testing.assert_close(storage.weight.detach(), kept)


def test_each_direction_has_its_own_converters() -> None:
    config = ideal()
    config.forward.is_perfect = False
    config.forward.noise_management = config.forward.noise_management.__class__.NONE
    config.forward.bound_management = config.forward.bound_management.__class__.NONE
    config.forward.inp_res = config.forward.out_res = -1
    config.forward.out_noise, config.forward.out_bound = 0.1, 100.0
    storage = programmed(Dense((6,), (5,)), config)
    pre = drawn(1, 6).clamp(-1.0, 1.0)
    noise = storage.forward_read(pre.expand(4000, 6)) - pre @ storage.weight.detach()
    # 20,000 numbers: their standard deviation is known to 1 / sqrt(40,000) = 0.5 %.
    assert float(noise.std()) == pytest.approx(0.1 * storage.scale, rel=0.03)
    assert abs(float(noise.mean())) < 6.0 * 0.1 * storage.scale / math.sqrt(20_000)
    currents = drawn(3, 5)
    torch.testing.assert_close(
        storage.transposed_read(currents), currents @ storage.weight.detach().T
    )


def test_resolution_is_the_step_of_the_reads() -> None:
    config = ideal()
    assert programmed(Dense((6,), (5,)), config).resolution == 0.0
    config.forward.is_perfect = False
    config.forward.inp_res, config.forward.out_noise, config.forward.out_bound = -1, 0.0, 1.0
    config.forward.noise_management = config.forward.noise_management.__class__.NONE
    for resolution in (1 / 30, 30.0):
        config.forward.out_res = resolution
        storage = programmed(Dense((6,), (5,)), config)
        currents = storage.forward_read(0.5 * drawn(50, 6).clamp(-1.0, 1.0))
        codes = currents / (storage.scale * storage.resolution)
        torch.testing.assert_close(codes, codes.round(), rtol=0.0, atol=1e-4)
        assert len(codes.round().unique()) > 3


NETWORKS = {
    "mlp": lambda: mlp((2, 5, 4), 3, (7, 6)),
    "vgg5": lambda: vgg5(2, 3, (3, 4, 3, 5), image_size=16),
    "resnet": lambda: hopfield_resnet13(2, 3, (3, 4, 3, 5), image_size=16, skip="identity"),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("reads", ["full", "delta"])
def test_networks_settle_as_exact_ones(name: str, reads: str) -> None:
    network = NETWORKS[name]()
    for edge in network.edge_list():
        if isinstance(edge.geometry, Identity):
            edge.geometry.strength = 0.3
    mapped = map_to_aihwkit(network, ideal())
    images = drawn(3, *network.layers[0].shape)
    targets = SquaredError().targets(torch.tensor([0, 2, 1]), 3, images.dtype)
    found = []
    for model in (network, mapped):
        free = settle(model, images, iterations=30)
        nudged = settle_nudged(
            model, free, targets, [0.3, -0.3], SquaredError(), iterations=10, reads=reads
        )
        found.append((free, nudged))
    for exact, read in zip(found[0], found[1], strict=True):
        assert exact.output.norm() > 0.05
        for expected, state in zip(exact, read, strict=True):
            torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)


def test_the_source_stays_and_biases_are_copies() -> None:
    network = mlp((1, 4, 4), 3, (5,))
    before = copy.deepcopy(network.state_dict())
    mapped = map_to_aihwkit(network, ideal())
    assert isinstance(mapped, HopfieldNetwork)
    with torch.no_grad():
        for mine, theirs in zip(mapped.biases, network.biases, strict=True):
            assert torch.equal(mine, theirs)
            mine.add_(1.0)
    mapped.storages[0].pulse_products([(torch.ones(1, 1, 4, 4), torch.ones(1, 5))], 0.1)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert [id(p) for p in mapped.parameters()] == [
        id(p) for p in (*mapped.biases, *mapped.weights)
    ]
