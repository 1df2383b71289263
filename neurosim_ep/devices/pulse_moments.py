"""Mean and variance of what a train of many pulses does, in closed form.

Around a state the step of a pulse is linearised, so that each pulse is an affine map of the state:
``x -> alpha x + f`` with x the way from the start, f the step there and ``alpha = 1 + df/dw``.
What a train of such maps comes to has closed forms, and no pulse is ever looped over.

Mean.  Of a train of n pulses of one direction ``f (1 - alpha^n) / (1 - alpha)``.  Of n_u up and n_d
down pulses in random order, give each pulse a uniform time: a pulse at time 1 - t has every other
one behind it with probability t, hence the expected displacement ::

    int_0^1 (n_u f_u / b_u + n_d f_d / b_d) b_u^n_u b_d^n_d dt,   b = 1 - t (1 - alpha)

exactly, a polynomial in t that six Gauss-Legendre nodes integrate exactly up to twelve pulses.

Variance of the random order.  Exchanging an up pulse with the down pulse behind it moves the end by
``kappa = f_d (1 - alpha_u) - f_u (1 - alpha_d)``, times the contraction of what follows, wherever
the state is.  So the end is, up to a constant, the sum of ``kappa (1 - r^j) / (1 - r)`` over the up
pulses, j pulses from the end, r the mean contraction of a pulse; a sum over n_u of N places drawn
without replacement, whose variance is ``n_u n_d / (N - 1)`` times that over the places.

Variance of the noise.  Each pulse's own noise shrinks with the contraction of what follows; where
it depends on the state it is taken along the mean path.

Bounds.  A train that meets a bound on its way is held back by what it would have gone beyond: its
running maximum, which follows from where it ends as for a Brownian bridge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ALMOST_ONE = 1.0 - 1e-6
"""Largest 1 - alpha: a pulse that would overshoot its fixed point lands on it."""
LONGEST = 8.0
"""The integrand of a mean falls at least by exp(-8) within the part that is integrated."""
STRAIGHT = 0.1
"""Below this contraction, as a logarithm, a train's places count as equidistant."""
BEHIND = 0.5826
"""How far a random walk's maximum is behind that of a Brownian path, in steps (Chernoff 1965)."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


@dataclass(frozen=True)
class Steps:
    """The steps around a state, linearised; tensors that broadcast with it.

    Attributes:
        up, down: signed steps at the state.
        slope_up, slope_down: their derivatives by the state.
        noise_up, noise_down: standard deviation of one pulse's noise, of either sign.
        noise_slope_up, noise_slope_down: their derivatives.
    """

    up: Tensor
    down: Tensor
    slope_up: Tensor
    slope_down: Tensor
    noise_up: Tensor
    noise_down: Tensor
    noise_slope_up: Tensor
    noise_slope_down: Tensor


@dataclass(frozen=True)
class Moments:
    """Where a train of pulses ends, before the bounds stop it.

    Attributes:
        shift: mean displacement.
        noise: variance from the pulses' own noise.
        order: variance from their order.
    """

    shift: Tensor
    noise: Tensor
    order: Tensor


def mean_shift(
    steps: Steps, up: Tensor, down: Tensor, low: Tensor, high: Tensor, *, mixed: bool
) -> Tensor:
    """Mean displacement by a train of pulses in random order, before the bounds stop it.

    Args:
        steps: at its start.
        up, down: numbers of pulses, whole and >= 0.
        low, high: displacements that lead to the bounds, low <= 0 <= high.
        mixed: whether any device has pulses of both directions.
    """
    loss_up, step_up = _tamed(steps.up, steps.slope_up, low, high)
    loss_down, step_down = _tamed(steps.down, steps.slope_down, low, high)
    upward = up > 0
    step = torch.where(upward, step_up, step_down)
    shift = step * geometric(up + down, torch.where(upward, loss_up, loss_down))
    if mixed:
        both = _mixed_shift(up, down, step_up, step_down, loss_up, loss_down)
        shift = torch.where(upward & (down > 0), both, shift)
    return shift


def moments(
    steps: Steps, up: Tensor, down: Tensor, low: Tensor, high: Tensor, *, mixed: bool
) -> Moments:
    """Moments of such a train, of the same arguments."""
    shift = mean_shift(steps, up, down, low, high, mixed=mixed)
    count = (up + down).clamp(min=1.0)
    loss_up, step_up = _tamed(steps.up, steps.slope_up, low, high)
    loss_down, step_down = _tamed(steps.down, steps.slope_down, low, high)
    loss = ((up * loss_up + down * loss_down) / count).clamp(max=ALMOST_ONE)
    longest = geometric(count - 1.0, loss)
    before_last = shift * longest / geometric(count, loss)
    middle, spread = _places(count, loss)
    # Squares shrink by less than the square of the contraction where noise depends on the state.
    squares = up * ((1.0 - loss_up) ** 2 + steps.noise_slope_up**2)
    squares = squares + down * ((1.0 - loss_down) ** 2 + steps.noise_slope_down**2)
    squares = torch.where(up + down > 0, squares / count, 1.0).clamp(max=1.0)
    left = (0.5 * (count - 1.0) * squares.log()).exp()
    noise = torch.zeros_like(shift)
    for number, sigma, slope in (
        (up, steps.noise_up, steps.noise_slope_up),
        (down, steps.noise_down, steps.noise_slope_down),
    ):
        # At the end, the first pulse's noise is this large, the last one's more by the change.
        first, change = sigma * left, sigma * (1.0 - left) + slope * before_last
        noise = noise + number * ((first + change * middle) ** 2 + change**2 * spread)
    order = torch.zeros_like(shift)
    if mixed:
        exchange = step_down * loss_up - step_up * loss_down
        pairs = up * down / (count - 1.0).clamp(min=1.0)
        order = (exchange * longest) ** 2 * pairs * spread
    return Moments(shift, noise, order)


def stopped(
    end: Tensor,
    place: Tensor,
    steps: Steps,
    noise: Tensor,
    up: Tensor,
    down: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Where a train ends that the bounds stopped on its way, given where it would have ended.

    With drift and end known, the way is a Brownian bridge, whose maximum M has the distribution
    ``P(M > m) = exp(-2 m (m - end) / wander)``; what a reflecting bound takes is M less the room.

    Args:
        end: displacement without bounds.
        place: uniform in (0, 1).
        steps: at the train's start.
        noise: of `moments`.
        up, down: numbers of pulses.
        low, high: displacements that lead to the bounds.
    """
    count = (up + down).clamp(min=2.0)
    wander = (steps.up - steps.down) ** 2 * up * down / (count - 1.0) + noise
    wander = torch.where(up + down > 1.0, wander, 0.0)
    root = (end**2 - 2.0 * wander * place.log()).sqrt()
    behind = BEHIND * (wander / count).sqrt()
    for sign, bound in ((1.0, high), (-1.0, low)):
        going, room = sign * end, sign * bound
        farthest = torch.maximum((going + root) / 2.0 - behind, going.clamp(min=0.0))
        # No more than pulses can push beyond the bound, or can bring back from it.
        pushed, back = torch.zeros_like(end), (going - room).clamp(min=0.0)
        turned = torch.zeros_like(end)
        for number, step, slope, sigma, sigma_slope in (
            (up, steps.up, steps.slope_up, steps.noise_up, steps.noise_slope_up),
            (down, steps.down, steps.slope_down, steps.noise_down, steps.noise_slope_down),
        ):
            there = sign * (step + slope * bound)
            pushed = pushed + number * there.clamp(min=0.0)
            back = back + number * (-there).clamp(min=0.0)
            # Noise turns a pulse round where it is larger than the step.
            more = (sigma + sigma_slope * bound).abs() - there.abs()
            turned = turned + number * more.clamp(min=0.0) ** 2
        most = torch.minimum(pushed, back) + 3.0 * turned.sqrt()
        end = end - sign * torch.minimum((farthest - room).clamp(min=0.0), most)
    return end


def geometric(count: Tensor, loss: Tensor) -> Tensor:
    """``1 + r + ... + r^(count - 1)`` with r = 1 - loss, for any real count >= 0."""
    total = -torch.expm1(count * torch.log1p(-loss)) / loss
    return torch.where(loss == 0.0, count + torch.zeros_like(loss), total)


def _places(count: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of numbers that fall geometrically from 1 to 0.

    ``(r^j - r^(N-1)) / (1 - r^(N-1))`` for j = 0 ... N - 1, r = 1 - loss.

    Args:
        count: N; for 1 both are finite, and meant to multiply a range of zero.
        loss: below 1.
    """
    rate = -torch.log1p(-loss)
    last = torch.exp(-(count - 1.0) * rate)
    few = count.clamp(min=2.0)
    straight = ((count * rate).abs() < STRAIGHT) | (count < 2.0)
    whole = torch.where(straight, 1.0, 1.0 - last)
    first = geometric(count, loss) / count
    second = geometric(count, loss * (2.0 - loss)) / count
    mean = torch.where(straight, 0.5 - (few + 1.0) * rate / 12.0, (first - last) / whole)
    bent = (second - first**2).clamp(min=0.0) / whole**2
    return mean, torch.where(straight, (few + 1.0) / (12.0 * (few - 1.0)), bent)


def _tamed(step: Tensor, slope: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """1 - alpha, below 1, and the step; one that overshoots its fixed point ends at the bound."""
    within = torch.minimum(torch.maximum(step, low), high)
    return (-slope).clamp(max=ALMOST_ONE), torch.where(slope <= -1.0, within, step)


def _mixed_shift(
    up: Tensor,
    down: Tensor,
    step_up: Tensor,
    step_down: Tensor,
    loss_up: Tensor,
    loss_down: Tensor,
) -> Tensor:
    """Mean displacement of a train of both directions in random order."""
    # A long, strongly contracting train remembers its end only.
    part = LONGEST / (up * loss_up + down * loss_down).clamp(min=LONGEST)
    total = torch.zeros_like(part)
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        time = part * ((1.0 + node) / 2.0)
        keep_up, keep_down = 1.0 - time * loss_up, 1.0 - time * loss_down
        behind = torch.exp(up * keep_up.log() + down * keep_down.log())
        drive = up * step_up / keep_up + down * step_down / keep_down
        total = total + (weight / 2.0) * behind * drive
    return part * total
