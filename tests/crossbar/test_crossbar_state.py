"""Seeds, saving, copying and changing the precision of networks on arrays."""

import copy
import itertools

import pytest
import torch

from neurosim_ep.crossbar import map_to_crossbar
from neurosim_ep.models import Convolution, Dense, mlp, vgg5
from neurosim_ep.settling import settle

LUMPED = {"model": "lumped", "sigma_relative": 0.02}
TELEGRAPH = {"model": "telegraph", "amplitude_relative": 0.1, "device_fraction": 0.5}
DRIFT = {
    "model": "power_law",
    "start_s": 20.0,
    "reference_siemens": 1e-4,
    "mean_intercept": 0.06,
    "mean_low": 0.0,
    "mean_high": 1.0,
    "sigma_intercept": 0.02,
    "sigma_high": 1.0,
}
DEVICE = {
    "spread": {"g_max_sigma_relative": 0.1},
    "programming": {"coefficients_siemens": [1e-6], "reference_siemens": 1e-4},
    "write_verify": {"tolerance_siemens": 1e-6, "max_pulses": 3},
    "faults": {"stuck_at_min_fraction": 0.05, "stuck_at_max_fraction": 0.05},
    "read_noise": [LUMPED, TELEGRAPH],
    "drift": DRIFT,
}
CONVERTERS = {"dac_bits": 8, "adc_bits": 8}
WIRES = {"word_line_ohm": 5.0, "bit_line_ohm": 3.0, "sense_ohm": 10.0}
ARRAY = {
    "forward": CONVERTERS,
    "transposed": CONVERTERS,
    "forward_delta": CONVERTERS | {"dac_range": "calibrated"},
    "wires": WIRES | {"refresh_interval_programmings": 2},
    "compensation": {"global_drift": True},
}
MAPPINGS = ("differential_pair", "offset_column")


def model():
    return mlp((1, 3, 3), 3, (8, 6))


def images(dtype=torch.float32):
    return torch.linspace(-1.0, 1.0, 45).view(5, 1, 3, 3).to(dtype)


def used_chip(device, array, mapping, seed):
    """A chip with a past: calibrated, aged, reprogrammed, read."""
    chip = map_to_crossbar(
        model(), device(**DEVICE), array(5, 3, mapping, "column", **ARRAY), seed=seed
    )
    with chip.calibrating():
        settle(chip, images(), iterations=5)
    chip.advance_time(100.0)
    with torch.no_grad():
        for weight in chip.weights:
            weight.mul_(0.9)
    chip.program()
    chip.advance_time(50.0)
    settle(chip, images(), iterations=3)
    return chip


def outputs(chip):
    """What is seen of a chip from now on: noisy reads, further ageing, another programming."""
    found = [settle(chip, images(), iterations=4).output]
    chip.advance_time(1000.0)
    found.append(settle(chip, images(), iterations=4).output)
    with torch.no_grad():
        for weight in chip.weights:
            weight.mul_(1.05)
    chip.program()
    found.append(settle(chip, images(), iterations=4).output)
    chip.program(rescale=True)
    found += [storage.effective_weight(d) for storage in chip.storages for d in DIRECTIONS]
    return found


DIRECTIONS = ("forward", "transposed")


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_state_dict_restores_everything_bit_for_bit(mapping, device, array, tmp_path):
    chip = used_chip(device, array, mapping, seed=1)
    torch.save(chip.state_dict(), tmp_path / "chip.pt")
    state = torch.load(tmp_path / "chip.pt", weights_only=True)
    card = array(5, 3, mapping, "column", **ARRAY)
    other = map_to_crossbar(model(), device(**DEVICE), card, seed=2)
    other.load_state_dict(state)
    unlike = map_to_crossbar(model(), device(**DEVICE), card, seed=2)
    for mine, theirs, fresh in zip(chip.storages, other.storages, unlike.storages, strict=True):
        for direction in DIRECTIONS:
            weight = mine.effective_weight(direction)
            assert torch.equal(weight, theirs.effective_weight(direction))
            assert not torch.equal(weight, fresh.effective_weight(direction))
    for found, wanted in zip(outputs(other), outputs(chip), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("interval", [1, 2])
def test_a_state_dict_brings_the_wires_of_an_earlier_programming(interval, device, array):
    tables = ARRAY | {"wires": WIRES | {"refresh_interval_programmings": interval}}
    chips = [
        map_to_crossbar(model(), device(**DEVICE), array(5, 3, **tables), seed=seed)
        for seed in (1, 2)
    ]
    chips[0].program()
    chips[1].load_state_dict(chips[0].state_dict())
    for mine, theirs in zip(*(chip.storages for chip in chips), strict=True):
        for direction in DIRECTIONS:
            assert torch.equal(mine.effective_weight(direction), theirs.effective_weight(direction))


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_deep_copy_goes_on_alike_and_by_itself(mapping, device, array):
    chip = used_chip(device, array, mapping, seed=1)
    twin, third = copy.deepcopy(chip), copy.deepcopy(chip)
    wanted = outputs(chip)
    for copied in (twin, third):
        for found, expected in zip(outputs(copied), wanted, strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_one_seed_is_one_chip(mapping, device, array):
    first, again, other = (used_chip(device, array, mapping, seed) for seed in (1, 1, 2))
    torch.manual_seed(5)
    wanted = outputs(first)
    torch.manual_seed(6)
    for found, expected, different in zip(outputs(again), wanted, outputs(other), strict=True):
        assert torch.equal(found, expected)
        assert not torch.equal(found, different)


def test_edges_are_drawn_by_themselves(device, array):
    network = mlp((1, 3, 3), 9, (9,))
    with torch.no_grad():
        network.weights[1].copy_(network.weights[0].view(9, 9))
    chip = map_to_crossbar(network, device(**DEVICE), array(16, 16))
    first, second = (s.matrix.devices.programmed for s in chip.storages)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("wires", [{}, {"wires": WIRES}], ids=["ideal wires", "wires"])
def test_double_precision_and_back(wires, device, array):
    drawn = {name: DEVICE[name] for name in ("spread", "programming", "faults", "drift")}
    chip = map_to_crossbar(model(), device(**drawn), array(5, 3, **wires))
    chip.advance_time(100.0)
    before = [s.effective_weight(d).clone() for s in chip.storages for d in DIRECTIONS]
    output = settle(chip, images()).output
    chip.double()
    double = settle(chip, images(torch.float64)).output
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), output, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(
        [s.effective_weight(d) for s in chip.storages for d in DIRECTIONS], before, strict=True
    ):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), wanted, rtol=1e-4, atol=1e-5)
    chip.program()
    chip.float()
    assert settle(chip, images()).output.dtype == torch.float32
    # Nothing changes where nothing moves.
    weights = [s.effective_weight().clone() for s in chip.storages]
    chip.to("cpu")
    for found, wanted in zip(chip.storages, weights, strict=True):
        assert torch.equal(found.effective_weight(), wanted)


@pytest.mark.parametrize("geometry", [Dense((9,), (7,)), Convolution((3, 3, 3), 7, kernel=2)])
def test_what_is_programmed_does_not_depend_on_the_size_of_the_arrays(
    geometry, device, array, storage
):
    seen = []
    for size in ((64, 64), (4, 3), (5, 1)):
        arrays = storage(geometry, device(**DEVICE | {"read_noise": []}), array(*size))
        arrays.advance_time(100.0)
        seen.append(arrays.effective_weight())
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


def test_reads_do_not_depend_on_the_size_of_the_arrays(device, array):
    network = vgg5(1, 3, (3, 4, 3, 4), image_size=16).double()
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 1, 16, 16, generator=generator, dtype=torch.float64)
    seen = []
    for size, by_tile in itertools.product(((512, 512), (10, 2)), (False, True)):
        tables = {"forward": CONVERTERS, "transposed": CONVERTERS} if by_tile else {}
        drawn = {name: DEVICE[name] for name in ("spread", "programming", "faults", "drift")}
        chip = map_to_crossbar(network, device(**drawn), array(*size, **tables))
        with chip.calibrating():
            seen.append(settle(chip, pictures, iterations=10).output)
    for found in seen[1:]:
        torch.testing.assert_close(found, seen[0], rtol=1e-10, atol=1e-10)
