"""Backpropagation through settling, the other tests' reference, against finite differences."""

import pytest


@pytest.mark.parametrize("cost", ["squared error", "cross entropy"])
@pytest.mark.parametrize("activation", ["relu_alpha", "sigmoid"])
def test_every_parameter_of_an_mlp(
    reference, finite_differences, errors, activation: str, cost: str
) -> None:
    wanted = finite_differences("mlp", activation, cost)
    assert max(errors(reference("mlp", activation, cost).gradients, wanted)) < 1e-6


@pytest.mark.parametrize(
    ("activation", "cost"), [("relu_alpha", "squared error"), ("sigmoid", "cross entropy")]
)
def test_every_parameter_of_a_graph_with_every_kind_of_edge(
    reference, finite_differences, errors, activation: str, cost: str
) -> None:
    wanted = finite_differences("graph", activation, cost)
    assert max(errors(reference("graph", activation, cost).gradients, wanted)) < 1e-6


@pytest.mark.parametrize(
    ("name", "activation", "cost"),
    [
        ("vgg5", "relu_alpha", "squared error"),
        ("vgg5", "sigmoid", "cross entropy"),
        ("hopfield_resnet13", "relu_alpha", "cross entropy"),
        ("identity skips", "relu_alpha", "squared error"),
    ],
)
def test_a_random_direction_of_every_tensor_of_the_deep_networks(
    reference, directional_differences, name: str, activation: str, cost: str
) -> None:
    gradients = reference(name, activation, cost).gradients
    slopes = directional_differences(name, activation, cost)
    for gradient, (direction, slope) in zip(gradients, slopes, strict=True):
        assert float((gradient * direction).sum()) == pytest.approx(
            slope, rel=1e-5, abs=1e-6 * float(gradient.norm())
        )
