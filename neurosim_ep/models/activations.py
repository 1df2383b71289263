"""What a layer does with its current: ReLU-alpha, ReLU, linear, a holomorphic sigmoid.

Every activation also gives its *potential*, the convex function whose minimiser, against a
current c, is the activation of c: ``activation(c) = argmin_s potential(s) - s * c``.  Summed over
all units and added to the energy it is the Lyapunov function F (see `neurosim_ep.settling`).
"""

import math

import torch
from torch import Tensor, nn


class Activation(nn.Module):
    """Element-wise map from a layer's current to its state."""

    holomorphic: bool = False
    """Whether the activation accepts complex currents (needed by holomorphic EP)."""

    @property
    def upper_bound(self) -> float | None:
        """Largest possible state where states lie in [0, bound]; None where they have no bounds."""
        return None

    def forward(self, current: Tensor) -> Tensor:
        """State for a current, any shape, element by element."""
        raise NotImplementedError

    def potential(self, state: Tensor) -> Tensor:
        """Convex potential of each unit's state, same shape as ``state``."""
        return 0.5 * state.square()

    def apply_(self, current: Tensor) -> Tensor:
        """Like ``forward``, but may overwrite ``current``; only for use without autograd."""
        result: Tensor = self(current)
        return result


class Linear(Activation):
    """The output layer's activation: the state is the current."""

    holomorphic = True

    def forward(self, current: Tensor) -> Tensor:
        """The current itself."""
        return current


class ReLU(Activation):
    """``max(current, 0)``: what the paper's feed-forward counterparts use.

    Unbounded: a Hopfield network with it may diverge.
    """

    def forward(self, current: Tensor) -> Tensor:
        """Current, or zero where it is negative."""
        return current.clamp_min(0.0)

    def apply_(self, current: Tensor) -> Tensor:
        """Clip in place."""
        return current.clamp_min_(0.0)


class ReLUAlpha(Activation):
    """ReLU clipped at alpha: ``min(max(current, 0), alpha)`` (arXiv 2509.26003, section III-B).

    ``alpha=6`` is the paper's ReLU6, ``alpha=1`` the hard sigmoid of Scellier et al. 2023.

    Raises:
        ValueError: if alpha is not a finite number above 0.
    """

    alpha: float

    def __init__(self, alpha: float = 6.0) -> None:
        super().__init__()
        self.alpha = _checked_alpha(alpha)

    @property
    def upper_bound(self) -> float:
        """Alpha."""
        return self.alpha

    def forward(self, current: Tensor) -> Tensor:
        """Current clipped to [0, alpha]."""
        return current.clamp(0.0, self.alpha)

    def apply_(self, current: Tensor) -> Tensor:
        """Clip in place."""
        return current.clamp_(0.0, self.alpha)

    # alpha may have been drawn at random: it belongs to what a checkpoint restores.
    def get_extra_state(self) -> Tensor:
        """Alpha as a tensor, saved with the weights."""
        return torch.tensor(self.alpha, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore alpha from a saved tensor."""
        self.alpha = _checked_alpha(float(state))

    def extra_repr(self) -> str:
        """Alpha, for printing."""
        return f"alpha={self.alpha:g}"


class Sigmoid(Activation):
    """Holomorphic stand-in for the hard sigmoid: ``1 / (1 + exp(-4 (current - 1/2)))``.

    Value 1/2 and slope 1 at a current of 1/2, bounds 0 and 1; the shifted sigmoid of holomorphic EP
    (Laborieux and Zenke 2022, arXiv 2209.00530).
    """

    holomorphic = True

    @property
    def upper_bound(self) -> float:
        """1."""
        return 1.0

    def forward(self, current: Tensor) -> Tensor:
        """Shifted sigmoid, real or complex."""
        if current.is_complex():
            # The same function; torch.sigmoid of complex numbers overflows to NaN far left of 0.
            return 0.5 + 0.5 * torch.tanh(2.0 * current - 1.0)
        return torch.sigmoid(4.0 * current - 2.0)

    def potential(self, state: Tensor) -> Tensor:
        """Integral of the inverse, ``s/2 + (s ln s + (1 - s) ln(1 - s)) / 4``."""
        return 0.5 * state + 0.25 * (
            torch.xlogy(state, state) + torch.xlogy(1.0 - state, 1.0 - state)
        )


def _checked_alpha(alpha: float) -> float:
    if not (math.isfinite(alpha) and alpha > 0.0):
        raise ValueError(f"alpha: {alpha} is not allowed; must be a finite number above 0")
    return float(alpha)
