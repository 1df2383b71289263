"""Costs: values, gradients, large outputs, and holomorphy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from neurosim_ep.models import Cost, CrossEntropy, SquaredError

LABELS = torch.tensor([3, 0, 4, 1])
COSTS: list[Cost] = [SquaredError(), CrossEntropy()]


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_targets_are_one_hot(cost: Cost) -> None:
    targets = cost.targets(LABELS, 5, torch.float64)
    assert targets.dtype == torch.float64
    for row, label in zip(targets.tolist(), LABELS.tolist(), strict=True):
        assert row == [float(place == label) for place in range(5)]


def test_values(draw: Any) -> None:
    output = draw(4, 5)
    targets = F.one_hot(LABELS, 5).double()
    squares = [
        0.5 * sum((a - b) ** 2 for a, b in zip(row, target, strict=True))
        for row, target in zip(output.tolist(), targets.tolist(), strict=True)
    ]
    assert SquaredError().value(output, targets).tolist() == pytest.approx(squares, rel=1e-12)
    expected = F.cross_entropy(output, LABELS, reduction="none")
    torch.testing.assert_close(CrossEntropy().value(output, targets), expected)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_gradients_are_the_values_derivatives(cost: Cost, draw: Any) -> None:
    output = draw(4, 5).requires_grad_()
    targets = F.one_hot(LABELS, 5).double()
    (expected,) = torch.autograd.grad(cost.value(output, targets).sum(), output)
    torch.testing.assert_close(cost.gradient(output, targets), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_cross_entropy_stands_large_outputs(dtype: torch.dtype) -> None:
    output = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], dtype=dtype)
    targets = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    value = CrossEntropy().value(output, targets).real
    torch.testing.assert_close(
        value,
        torch.tensor([2e4, 3.0]).log().where(torch.tensor([False, True]), torch.tensor([2e4, 0.0])),
    )
    gradient = CrossEntropy().gradient(output, targets).real
    expected = torch.tensor([[1.0, -1.0, 0.0], [1 / 3, 1 / 3, -2 / 3]])
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_costs_are_holomorphic(cost: Cost, draw: Any) -> None:
    """Cauchy-Riemann by finite differences in every output, of the value and of the gradient."""
    output = draw.complex(4, 5) * 0.5
    targets = F.one_hot(LABELS, 5).double()
    step = 1e-6
    for unit in range(5):
        direction = torch.zeros(5, dtype=output.dtype)
        direction[unit] = step
        for function in (cost.value, cost.gradient):
            along, across = (
                (function(output + d, targets) - function(output - d, targets)) / (2 * d[unit])
                for d in (direction, 1j * direction)
            )
            torch.testing.assert_close(along, across, rtol=1e-7, atol=1e-7)
            if function == cost.value:
                gradient = cost.gradient(output, targets)[:, unit]
                torch.testing.assert_close(along, gradient, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: type(cost).__name__)
def test_complex_outputs_continue_real_ones(cost: Cost, draw: Any) -> None:
    output, targets = draw(4, 5), F.one_hot(LABELS, 5).double()
    for function in (cost.value, cost.gradient):
        result = function(output + 0j, targets)
        torch.testing.assert_close(result, function(output, targets) + 0j, rtol=1e-12, atol=1e-12)
