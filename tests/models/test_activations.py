"""Activations: values, potentials, and what complex numbers need."""

from __future__ import annotations

import math
import re

import pytest
import torch

from neurosim_ep.models import Activation, Linear, ReLU, ReLUAlpha, Sigmoid

ALPHAS = [0.3, 1.0, 6.0, 10.0]
CURRENTS = torch.linspace(-9.0, 12.0, 85, dtype=torch.float64)
ALL: list[Activation] = [Linear(), ReLU(), Sigmoid(), *map(ReLUAlpha, ALPHAS)]


def test_values() -> None:
    for current in CURRENTS.tolist():
        one = torch.tensor(current, dtype=torch.float64)
        assert Linear()(one).item() == current
        assert ReLU()(one).item() == max(current, 0.0)
        for alpha in ALPHAS:
            assert ReLUAlpha(alpha)(one).item() == min(max(current, 0.0), alpha)
        expected = 1.0 / (1.0 + math.exp(-4.0 * (current - 0.5)))
        assert Sigmoid()(one).item() == pytest.approx(expected, rel=1e-13)


def test_sigmoid_has_value_a_half_and_slope_one_at_a_half() -> None:
    current = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    state = Sigmoid()(current)
    (slope,) = torch.autograd.grad(state, current)
    assert state.item() == pytest.approx(0.5)
    assert slope.item() == pytest.approx(1.0)


@pytest.mark.parametrize("activation", ALL, ids=repr)
def test_the_activation_minimises_its_potential(activation: Activation) -> None:
    """activation(c) = argmin of potential(s) - s c, by search on a dense grid."""
    low, high = -15.0, 15.0
    if isinstance(activation, ReLUAlpha):
        low, high = 0.0, activation.alpha
    elif isinstance(activation, ReLU):
        low = 0.0
    elif isinstance(activation, Sigmoid):
        low, high = 0.0, 1.0
    grid = torch.linspace(low, high, 30_001, dtype=torch.float64)
    potential = activation.potential(grid)
    assert potential.shape == grid.shape
    best = grid[(potential - CURRENTS.unsqueeze(1) * grid).argmin(1)]
    spacing = (high - low) / 30_000
    assert (activation(CURRENTS) - best).abs().max() <= 1.01 * spacing


@pytest.mark.parametrize("activation", ALL, ids=repr)
def test_potentials_are_finite_at_the_bounds(activation: Activation) -> None:
    states = activation(torch.tensor([-1e4, 1e4], dtype=torch.float64))
    assert activation.potential(states).isfinite().all()


def test_the_sigmoids_potential_is_the_integral_of_its_inverse() -> None:
    state = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Sigmoid().potential(state).sum(), state)
    torch.testing.assert_close(Sigmoid()(slope), state.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ALL, ids=repr)
def test_in_place_is_the_same(activation: Activation) -> None:
    assert torch.equal(activation.apply_(CURRENTS.clone()), activation(CURRENTS))


def test_clipping_in_place_needs_no_memory() -> None:
    for activation in (ReLUAlpha(1.0), ReLU()):
        current = CURRENTS.clone()
        assert activation.apply_(current) is current


def test_only_holomorphic_activations_say_so() -> None:
    assert Linear().holomorphic
    assert Sigmoid().holomorphic
    assert not ReLU().holomorphic
    assert not ReLUAlpha().holomorphic
    assert not Activation().holomorphic


def test_the_sigmoid_is_holomorphic() -> None:
    """Cauchy-Riemann by finite differences, and the derivative is 4 s (1 - s)."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, generator=generator, dtype=torch.complex128) * 0.3
    step = 1e-6
    along = (Sigmoid()(points + step) - Sigmoid()(points - step)) / (2 * step)
    across = (Sigmoid()(points + 1j * step) - Sigmoid()(points - 1j * step)) / (2j * step)
    torch.testing.assert_close(along, across, rtol=1e-8, atol=1e-8)
    state = Sigmoid()(points)
    torch.testing.assert_close(along, 4 * state * (1 - state), rtol=1e-8, atol=1e-8)


def test_the_complex_sigmoid_continues_the_real_one() -> None:
    complex_ = Sigmoid()(CURRENTS + 0j)
    torch.testing.assert_close(complex_.real, Sigmoid()(CURRENTS), rtol=1e-12, atol=1e-15)
    assert not complex_.imag.any()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_the_complex_sigmoid_saturates(dtype: torch.dtype) -> None:
    states = Sigmoid()(torch.tensor([-400 + 0.1j, 400 - 0.1j], dtype=dtype))
    assert torch.equal(states, torch.tensor([0, 1], dtype=dtype))


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_alpha_must_be_finite_and_positive(alpha: float) -> None:
    message = f"alpha: {alpha} is not allowed; must be a finite number above 0"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReLUAlpha(alpha)
    restored = ReLUAlpha(2.0)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        restored.set_extra_state(torch.tensor(alpha))
    assert restored.alpha == 2.0


def test_alpha_survives_the_state_dict_exactly() -> None:
    restored = ReLUAlpha()
    restored.load_state_dict(ReLUAlpha(math.pi).state_dict())
    assert restored.alpha == math.pi
    assert repr(ReLUAlpha(2.5)) == "ReLUAlpha(alpha=2.5)"
