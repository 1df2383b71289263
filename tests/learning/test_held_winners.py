"""The winners of pooled edges are held from settling, so that noise decides no near-tie anew."""

from __future__ import annotations

import torch

from neurosim_ep.cards import card_from_mapping
from neurosim_ep.crossbar import ArrayCard, map_to_crossbar
from neurosim_ep.devices import DeviceCard
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient
from neurosim_ep.models import SquaredError, vgg5
from neurosim_ep.settling import settle, settle_nudged

NOISY = card_from_mapping(
    DeviceCard,
    {
        "name": "noisy",
        "window": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4, "source": "test"},
        "read_noise": [{"model": "lumped", "sigma_of_range_relative": 3e-3, "source": "test"}],
    },
)
PLAIN = card_from_mapping(
    ArrayCard,
    {
        "name": "plain",
        "layout": {"rows": 512, "columns": 512, "source": "test"},
        "drive": {"read_voltage_volt": 0.2, "source": "test"},
    },
)


def test_all_phases_share_the_winners_of_the_input() -> None:
    """The input is read once per settling: its winners cannot differ between the phases."""
    generator = torch.Generator().manual_seed(0)
    network = vgg5(3, 10, (8, 8, 8, 8), image_size=16, gains=[1.0] * 5, generator=generator)
    chip = map_to_crossbar(network.double(), device=NOISY, array=PLAIN, seed=0)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=generator)
    free = settle(chip, images, iterations=20)
    method = CenteredEP(0.2)
    targets = SquaredError().targets(torch.arange(4), 10, images.dtype)
    betas = [term.beta for term in method.terms()]
    states = settle_nudged(chip, free, targets, betas, SquaredError(), iterations=5, reads="delta")
    first = next(n for n, e in enumerate(chip.edge_list()) if e.pre == 0)
    assert torch.equal(states.winners[first][:4], states.winners[first][4:])
    assert set(states.winners) == {n for n, e in enumerate(chip.edge_list()) if e.geometry.pooled}


def test_noise_does_not_swamp_the_first_layers() -> None:
    """With delta reads the first layers' gradients keep their size under read noise."""
    generator = torch.Generator().manual_seed(1)
    network = vgg5(3, 10, (8, 8, 8, 8), image_size=16, gains=[1.0] * 5, generator=generator)
    network = network.double()
    images = torch.randn(8, 3, 16, 16, dtype=torch.float64, generator=generator)
    labels = torch.arange(8)
    phases = Phases(40, 8, nudged_reads="delta")
    equilibrium_gradient(network, images, labels, CenteredEP(0.05), phases=phases)
    exact = [weight.grad.clone() for weight in network.weights if weight.grad is not None]
    chip = map_to_crossbar(network, device=NOISY, array=PLAIN, seed=0)
    equilibrium_gradient(chip, images, labels, CenteredEP(0.05), phases=phases)
    for weight, expected in zip(chip.weights, exact, strict=True):
        assert weight.grad is not None
        cosine = torch.cosine_similarity(weight.grad.flatten(), expected.flatten(), dim=0)
        assert cosine > 0.5
        assert 0.5 < weight.grad.norm() / expected.norm() < 2.0


def test_converters_do_not_let_the_phases_pick_different_members_of_a_tie() -> None:
    """An ADC makes currents of one window equal; the nudge must not choose among them."""
    generator = torch.Generator().manual_seed(2)
    network = vgg5(3, 10, (8, 16, 16, 16), image_size=16, gains=[0.8] * 5, generator=generator)
    network = network.double()
    images = torch.randn(16, 3, 16, 16, dtype=torch.float64, generator=generator)
    labels = torch.arange(16) % 10
    phases = Phases(40, 8, nudged_reads="delta")
    equilibrium_gradient(network, images, labels, CenteredEP(0.1), phases=phases)
    exact = [weight.grad.clone() for weight in network.weights if weight.grad is not None]
    converters = {"adc_bits": 7, "source": "test"}
    second = {"adc_bits": 7, "dac_range": "calibrated", "source": "test"}
    array = ArrayCard.model_validate(
        PLAIN.model_dump(exclude_unset=True)
        | {"forward": converters, "transposed": converters}
        | {"forward_delta": second, "transposed_delta": second}
    )
    chip = map_to_crossbar(network, array=array, seed=0)
    with chip.calibrating():
        equilibrium_gradient(chip, images, labels, CenteredEP(0.1), phases=phases)
    equilibrium_gradient(chip, images, labels, CenteredEP(0.1), phases=phases)
    weight, expected = chip.weights[1], exact[1]
    assert weight.grad is not None
    cosine = torch.cosine_similarity(weight.grad.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.6
    assert 0.5 < weight.grad.norm() / expected.norm() < 1.5
