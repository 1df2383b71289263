"""aihwkit's tiles drawn from seeds, copied, saved and restored, as far as aihwkit lets one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from neurosim_ep.exchange import AihwkitNetwork, Tile, aihwkit_problem, map_to_aihwkit
from neurosim_ep.learning import load_checkpoint, save_checkpoint
from neurosim_ep.models import mlp

REASON = aihwkit_problem()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

# What aihwkit does not take back: of compounds with write noise the states below it, of mixed
# precision the digital sum.
PRESETS: dict[str, list[str]] = {
    "EcRamPreset": [],
    "ReRamESPreset": [],
    "ReRamSBPreset": [],
    "CapacitorPreset": [],
    "EcRam2Preset": [],
    "PCMPreset": [],
    "TikiTakaEcRamPreset": [],
    "TTv2CapacitorPreset": [],
    "AGADEcRamPreset": [],
    "MixedPrecisionEcRamPreset": ["hidden_weights_chi"],
    "TTv2ReRamESPreset": ["persistent_weights_0", "hidden_weights_0", "persistent_weights_1"],
}


def preset(name: str) -> Any:
    from aihwkit.simulator import presets

    return getattr(presets, name)()


def pulsed(name: str, seed: int = 3) -> AihwkitNetwork:
    """A network that has learnt something, whatever."""
    network = map_to_aihwkit(mlp((1, 3, 3), 4, (5,)), preset(name), seed=seed)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for storage in network.storages:
            pre = torch.rand(6, *storage.geometry.pre_shape, generator=generator)
            post = torch.randn(6, *storage.geometry.linear_shape, generator=generator)
            storage.pulse_products([(pre, 0.1 * post)], 0.05)
    return network


def assert_same(ours: AihwkitNetwork, theirs: AihwkitNetwork, but: list[str]) -> None:
    for a, b in zip(ours.storages, theirs.storages, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.tile.matrix, b.tile.matrix)
        assert a.scale == b.scale
        for name, tensor in b.tile.hidden.items():
            assert torch.equal(a.tile.hidden[name], tensor) is (name not in but), name
        mine, other = a.tile.state()["extra"], b.tile.state()["extra"]
        assert mine == other


@pytest.mark.parametrize("name", PRESETS)
def test_a_network_comes_back_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    network = pulsed(name)
    save_checkpoint(tmp_path / "checkpoint.pt", network.state_dict())
    # Other devices, which the state replaces.
    restored = map_to_aihwkit(mlp((1, 3, 3), 4, (5,)), preset(name), seed=9)
    restored.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert_same(restored, network, PRESETS[name])
    for storage in restored.storages:
        assert storage.unrestored == PRESETS[name]


@pytest.mark.parametrize("name", ["EcRamPreset", "ReRamESPreset", "TTv2CapacitorPreset"])
def test_a_copy_is_equal_and_goes_its_own_way(name: str) -> None:
    network = pulsed(name)
    twin = copy.deepcopy(network)
    assert_same(twin, network, [])
    before = [storage.tile.matrix for storage in network.storages]
    for storage in twin.storages:
        storage.tile.write(torch.zeros_like(storage.tile.matrix) + 0.3)
    for storage, matrix in zip(network.storages, before, strict=True):
        assert torch.equal(storage.tile.matrix, matrix)
    assert not torch.equal(twin.storages[0].tile.matrix, before[0])


@pytest.mark.parametrize("name", ["EcRamPreset", "PCMPreset", "AGADEcRamPreset"])
def test_a_seed_is_a_set_of_devices(name: str) -> None:
    def bounds(seed: int) -> list[torch.Tensor]:
        network = map_to_aihwkit(mlp((1, 3, 3), 5, (9, 9)), preset(name), seed=seed)
        key = "max_bound" if name == "EcRamPreset" else "max_bound_1"
        return [storage.tile.hidden[key] for storage in network.storages]

    first, again, other = bounds(4), bounds(4), bounds(5)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    # Two edges of one network are two pieces of hardware.
    assert first[0].shape == first[1].shape
    assert not torch.equal(first[0], first[1])


def test_one_seed_does_not_fix_aihwkits_noise() -> None:
    config = preset("EcRamPreset")
    reads = []
    for _ in range(2):
        torch.manual_seed(0)
        tile = Tile(config, 8, 8, seed=1)
        tile.write(torch.full((8, 8), 0.3))
        reads.append(tile.forward(torch.ones(1, 8)))
    assert not torch.equal(*reads)


def test_a_configuration_is_copied() -> None:
    config = preset("EcRamPreset")
    before = copy.deepcopy(config)
    network = map_to_aihwkit(mlp((1, 3, 3), 4, (5,)), config)
    assert config == before
    config.forward.is_perfect = True
    assert not network.storages[0].tile.configuration.forward.is_perfect


def test_a_state_of_other_devices_is_refused() -> None:
    state = pulsed("EcRamPreset").storages[0].get_extra_state()
    target = pulsed("ReRamESPreset").storages[0]
    before = target.tile.matrix
    with pytest.raises(ValueError, match=r"^state: .* must be of Tile\(ReRamESPresetDevice"):
        target.set_extra_state(state)
    wrong_size = pulsed("ReRamESPreset").storages[1].get_extra_state()
    with pytest.raises(ValueError, match=r"^state: .* is not allowed; must be of Tile"):
        target.set_extra_state(wrong_size)
    assert torch.equal(target.tile.matrix, before)
    assert target.scale != 1.0
