"""A network on a chip: mapped as it is, its converters calibrated on what they will read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neurosim_ep.config import Recipe
from neurosim_ep.crossbar import load_array_card
from neurosim_ep.crossbar.ports import Port
from neurosim_ep.data import Batches, Split, load
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments import build, load_trained, prepare_chip, run
from neurosim_ep.experiments.hardware.mapped import (
    CALIBRATION_IMAGES,
    calibration_betas,
    evenly_spaced,
    weights_digest,
)
from neurosim_ep.learning import (
    CenteredEP,
    HolomorphicEP,
    NegativeEP,
    Phases,
    PositiveEP,
    RandomSignEP,
)
from neurosim_ep.models import SquaredError, mlp

PHASES = Phases(free_iterations=6, nudged_iterations=4, nudged_reads="delta")


def network(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return mlp((1, 8, 8), 10, [12], generator=generator)


def chip_of(model, array: str = "default", betas=(0.3, -0.3), phases=PHASES, **options):
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(16, 1, 8, 8, generator=generator)
    settings = {"device": "ideal", "seed": 3} | options
    return prepare_chip(
        model,
        settings["device"],
        array,
        seed=settings["seed"],
        images=images,
        labels=torch.arange(16) % 10,
        phases=phases,
        betas=betas,
        cost=SquaredError(),
    )


def ports(chip) -> dict[str, list[Port]]:
    names = chip.storages[0].ports.keys()
    return {name: [storage.ports[name] for storage in chip.storages] for name in names}


def test_a_chip_holds_the_network_and_leaves_it_alone() -> None:
    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    chip = chip_of(model)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(map(torch.equal, model.weights, chip.weights))
    assert all(map(torch.equal, model.biases, chip.biases))
    assert chip.elapsed_s == 0.0


def test_ranges_of_all_reads_that_will_be_used_are_set() -> None:
    every = ports(chip_of(network()))
    assert set(every) == {"forward_full", "transposed_full", "forward_delta", "transposed_delta"}
    # Dense layer 0 is the input: it is driven forward only, and never changes against itself.
    for name, first in (("forward_full", 0), ("forward_delta", 1), ("transposed_full", 1),
                        ("transposed_delta", 1)):  # fmt: skip
        for port in every[name][first:]:
            assert bool(port.adc_full_scale_ampere.isfinite().all()), name
            assert bool((port.adc_full_scale_ampere > 0.0).all()), name


def test_without_nudgings_only_the_free_phase_is_calibrated() -> None:
    every = ports(chip_of(network(), betas=()))
    assert bool(every["forward_full"][1].adc_full_scale_ampere.isfinite().all())
    assert bool(every["forward_delta"][1].adc_full_scale_ampere.isnan().all())


def test_the_reads_of_the_nudged_phases_are_those_that_are_calibrated() -> None:
    every = ports(chip_of(network(), phases=replace(PHASES, nudged_reads="full")))
    assert bool(every["forward_delta"][1].adc_full_scale_ampere.isnan().all())


def test_the_driven_range_is_the_images() -> None:
    chip = chip_of(network())
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(16, 1, 8, 8, generator=generator).flatten()
    seen = float(chip.storages[0].ports["forward_full"].dac_full_scale)
    low, high = (float(images.quantile(share)) for share in (0.998, 1.0))
    assert low <= seen <= high


def test_ideal_converters_need_no_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr("neurosim_ep.experiments.hardware.mapped.settle", refuse)
    chip_of(network(), array="ideal")


def test_a_seed_is_a_piece_of_hardware() -> None:
    one, same, other = (chip_of(network(), device="pcm", seed=seed) for seed in (3, 3, 4))
    states, twin = one.state_dict(), same.state_dict()
    assert states.keys() == twin.keys()
    for name, value in states.items():
        torch.testing.assert_close(value, twin[name], rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(one.storages[0].effective_weight(), other.storages[0].effective_weight())


@pytest.mark.parametrize(
    ("estimator", "betas"),
    [
        (PositiveEP(0.2), {0.2, 0.0}),
        (NegativeEP(0.2), {-0.2, 0.0}),
        (CenteredEP(0.2), {0.2, -0.2}),
        (RandomSignEP(0.2), {0.2, -0.2}),
    ],
)
def test_every_phase_of_an_estimator_is_calibrated(estimator, betas: set[float]) -> None:
    assert set(calibration_betas(estimator)) == betas


def test_holomorphic_phases_are_calibrated_off_the_real_axis() -> None:
    betas = [complex(beta) for beta in calibration_betas(HolomorphicEP(0.2, 4))]
    assert [abs(beta) for beta in betas] == pytest.approx([0.2] * 3)
    assert any(beta.imag > 0.1 for beta in betas)


@pytest.mark.parametrize(
    ("count", "expected"), [(3, [0, 3, 6]), (10, range(10)), (None, range(10))]
)
def test_images_are_spread_over_the_split(count, expected) -> None:
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    chosen = evenly_spaced(Split(images, torch.arange(10)), count)
    assert chosen.labels.tolist() == list(expected)


def test_no_images_are_refused() -> None:
    split = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="images: 0 is not allowed; must be at least 1"):
        evenly_spaced(split, 0)


def test_a_digest_tells_weights_apart() -> None:
    assert weights_digest(network()) == weights_digest(network())
    assert weights_digest(network()) != weights_digest(network(1))
    assert weights_digest(network()) != weights_digest(network().double())


def test_a_trained_run_is_loaded_with_training_images(
    small: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = small("epochs=1")
    run(recipe, tmp_path)
    trained = load_trained(tmp_path, load("digits"))
    assert trained.recipe == recipe
    assert trained.images.shape == (CALIBRATION_IMAGES, 1, 8, 8)
    # The very images that were trained on: neither held out nor test images.
    experiment = build(recipe)
    batches = experiment.training.batches
    plain = Batches(
        Split(batches._images, batches._labels),
        batch_size=160,
        preparation=batches.preparation,
        shuffle=False,
    )
    ((images, labels),) = plain.epoch(0)
    pairs = zip(images, labels, strict=True)
    known = {(image.numpy().tobytes(), int(label)) for image, label in pairs}
    mine = zip(trained.images, trained.labels, strict=True)
    assert {(image.numpy().tobytes(), int(label)) for image, label in mine} <= known
    chip = trained.chip(load_device_card("pcm"), load_array_card("default"), seed=1)
    assert trained.on(chip).model is chip


def test_a_run_by_backpropagation_is_refused(small: Callable[..., Recipe], tmp_path: Path) -> None:
    run(small("epochs=1", "batch_norm=false", name="digits-bp"), tmp_path)
    with pytest.raises(ValueError, match=r"learning\.algorithm: 'backpropagation' is not allowed"):
        load_trained(tmp_path, load("digits"))
