"""Every shipped recipe builds what it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neurosim_ep.config import load_recipe, shipped_recipes
from neurosim_ep.experiments import build_network
from neurosim_ep.experiments.build import build, build_estimator, build_method
from neurosim_ep.learning import Backpropagation, EquilibriumPropagation, HolomorphicEP

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_build(name: str) -> None:
    recipe = load_recipe(name)
    method = build_method(recipe, CPU)
    by_bp = recipe.learning.algorithm == "backpropagation"
    assert isinstance(method, Backpropagation if by_bp else EquilibriumPropagation)
    weights = sum(p.numel() for p in build_network(recipe).parameters())
    full = {"hopfield-resnet13": 9.74e6, "vgg5": 3.86e6}
    for prefix, count in full.items():
        if name in (f"{prefix}-cifar10", f"{prefix}-cifar10-bp"):
            assert weights == pytest.approx(count, rel=2e-3)


def test_seed_decides_the_network() -> None:
    one, same, other = (
        build_network(load_recipe("digits", [f"seed={seed}"])) for seed in (1, 1, 2)
    )
    assert torch.equal(one.weights[0], same.weights[0])
    assert not torch.equal(one.weights[0], other.weights[0])


def test_digits_splits_do_not_overlap(small) -> None:
    experiment = build(small())
    assert experiment.training.batches.images_per_epoch == 160
    assert experiment.validation is not None
    assert experiment.validation.images_per_epoch == 40
    assert experiment.test.images_per_epoch == 360


def test_learning_rates_per_parameter_group(small) -> None:
    experiment = build(
        small("weight_learning_rates=[0.5, 0.25]", "bias_learning_rates=[0.125, 0.0]")
    )
    groups = experiment.training.optimiser.param_groups
    assert [group["lr"] for group in groups] == [0.125, 0.0, 0.5, 0.25]
    network = experiment.training.method.model
    assert [group["params"][0] is p for group, p in zip(groups, network.parameters(), strict=True)]


def test_holomorphic_recipe_learns(small, tmp_path: Path) -> None:
    recipe = small("estimator=holomorphic", "points=4", "activation=sigmoid", "beta=0.5")
    assert build_estimator(recipe.learning) == HolomorphicEP(0.5, 4)
    summary = build(recipe).training.run_epoch()
    assert summary.cost < 0.6


def test_double_precision_is_used_throughout(small) -> None:
    method = build(small("dtype=float64")).training.method
    assert {p.dtype for p in method.model.parameters()} == {torch.float64}
