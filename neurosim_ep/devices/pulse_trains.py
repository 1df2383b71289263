"""Many pulses at once: mean and variance of what a train of up and down pulses does.

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
DISCRETE = 0.5826
"""How far a random walk stays behind a Brownian path, in steps (Chernoff 1965)."""
STRAIGHT = 0.1
"""Below this contraction, as a logarithm, a train counts as straight in its variance's shape."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)


@dataclass(frozen=True)
class Steps:
    """The steps around a state, linearised; tensors that broadcast with it.

    Attributes:
        up, down: signed steps at the state.
        slope_up, slope_down: their derivatives by the state.
        noise_up, noise_down: standard deviation of one pulse's noise.
        noise_slope_up, noise_slope_down: their derivatives, where the noise follows the step.
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
class Train:
    """Moments of where a train of pulses ends.

    Attributes:
        shift: mean displacement.
        variance: of the pulses' noise.
        exchange: kappa squared, what exchanging two pulses moves.
        loss: 1 - r, how much of a displacement a pulse takes away on average.
    """

    shift: Tensor
    variance: Tensor
    exchange: Tensor
    loss: Tensor


def train(
    steps: Steps, up: Tensor, down: Tensor, low: Tensor, high: Tensor, *, mixed: bool
) -> Train:
    """Moments of a train of pulses in random order, before the bounds stop it.

    Args:
        steps: at its start.
        up, down: numbers of pulses, whole and >= 0.
        low, high: displacements that lead to the bounds, low <= 0 <= high.
        mixed: whether any device has pulses of both directions.
    """
    count = (up + down).clamp(min=1.0)
    loss_up, step_up = _tamed(steps.up, steps.slope_up, low, high)
    loss_down, step_down = _tamed(steps.down, steps.slope_down, low, high)
    upward = up > 0
    step = torch.where(upward, step_up, step_down)
    shift = step * geometric(up + down, torch.where(upward, loss_up, loss_down))
    if mixed:
        both = _mixed_shift(up, down, step_up, step_down, loss_up, loss_down)
        shift = torch.where(upward & (down > 0), both, shift)
    loss = ((up * loss_up + down * loss_down) / count).clamp(max=ALMOST_ONE)
    before_last = shift * geometric(count - 1.0, loss) / geometric(count, loss)
    # Squares shrink by less than the square of the contraction where noise depends on the state.
    squares = up * ((1.0 - loss_up) ** 2 + steps.noise_slope_up**2)
    squares = squares + down * ((1.0 - loss_down) ** 2 + steps.noise_slope_down**2)
    squares = torch.where(up + down > 0, squares / count, 1.0).clamp(max=1.0)
    left = (0.5 * (count - 1.0) * squares.log()).exp()
    middle, spread = shape(count, loss)
    variance = torch.zeros_like(shift)
    for number, noise, slope in (
        (up, steps.noise_up, steps.noise_slope_up),
        (down, steps.noise_down, steps.noise_slope_down),
    ):
        first, change = noise * left, noise * (1.0 - left) + slope * before_last
        mean = first + change * middle
        variance = variance + number * (mean**2 + change**2 * spread)
    exchange = (step_down * loss_up - step_up * loss_down) ** 2
    return Train(shift, variance, exchange, loss)


def order_variance(steps: Steps, moments: Train, up: Tensor, down: Tensor) -> Tensor:
    """Variance of where a train ends that comes from the order of its pulses alone."""
    count = (up + down).clamp(min=2.0)
    _, spread = shape(count, moments.loss)
    longest = geometric(count - 1.0, moments.loss)
    return moments.exchange * up * down / (count - 1.0) * spread * longest**2


def stopped(
    end: Tensor,
    place: Tensor,
    steps: Steps,
    variance: Tensor,
    up: Tensor,
    down: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Where a train ends whose bounds stopped it on the way, given where it would have ended."""
    count = (up + down).clamp(min=2.0)
    wander = (steps.up - steps.down) ** 2 * up * down / (count - 1.0) + variance
    root = (end**2 - 2.0 * wander * place.log()).sqrt()
    between = DISCRETE * (wander / count).sqrt()
    for sign, room, step, slope in ((1.0, high, steps.up, steps.slope_up), (-1.0, -low, steps.down, steps.slope_down)):
        towards = sign * end
        farthest = torch.maximum((towards + root) / 2.0 - between, towards.clamp(min=0.0))
        noise = up * (steps.noise_up + sign * room * steps.noise_slope_up) ** 2
        noise = noise + down * (steps.noise_down + sign * room * steps.noise_slope_down) ** 2
        push = (up if sign > 0 else down) * (sign * step + slope * room).clamp(min=0.0)
        over = torch.minimum((farthest - room).clamp(min=0.0), push + 3.0 * noise.sqrt())
        end = end - sign * over
    return end


def composition(up: Tensor, down: Tensor, count: Tensor, place: Tensor) -> Tensor:
    """How many up pulses are among the first of a train in random order.

    Hypergeometric: exact for one pulse, else a rounded normal number of the same mean and variance.

    Args:
        up, down: pulses of the train.
        count: how many come first.
        place: uniform in (0, 1).
    """
    total = (up + down).clamp(min=1.0)
    share = up / total
    variance = count * share * (1.0 - share) * (total - count) / (total - 1.0).clamp(min=1.0)
    xi = torch.special.ndtri(1.0 - place)
    many = torch.floor(count * share + (variance - 1.0 / 12.0).clamp(min=0.0).sqrt() * xi + 0.5)
    one = (place < share).to(up.dtype)
    drawn = torch.where(count <= 1.0, one, many)
    return torch.minimum(torch.maximum(drawn, (count - down).clamp(min=0.0)), torch.minimum(count, up))


def geometric(count: Tensor, loss: Tensor) -> Tensor:
    """``1 + r + ... + r^(count - 1)`` with r = 1 - loss, for any real count >= 0."""
    total = -torch.expm1(count * torch.log1p(-loss)) / loss
    return torch.where(loss == 0.0, count + torch.zeros_like(loss), total)


def shape(count: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of ``e_j``, which falls geometrically from 1 at j = 0 to 0 at j = N - 1.

    ``e_j = (r^j - r^(N-1)) / (1 - r^(N-1))`` over j = 0 ... N - 1, r = 1 - loss.

    Args:
        count: N >= 1; for 1 both are what multiplies a range of zero: some finite number.
        loss: below 1.
    """
    rate = -torch.log1p(-loss)
    last = torch.exp(-(count - 1.0) * rate)
    few = count.clamp(min=2.0)
    straight = (count * rate).abs() < STRAIGHT
    straight = straight | (count < 2.0)
    rest = torch.where(straight, 1.0, 1.0 - last)
    first = geometric(count, loss) / count
    second = geometric(count, loss * (2.0 - loss)) / count
    middle = torch.where(straight, 0.5 - (few + 1.0) * rate / 12.0, (first - last) / rest)
    bent = (second - first**2).clamp(min=0.0) / rest**2
    return middle, torch.where(straight, (few + 1.0) / (12.0 * (few - 1.0)), bent)


def _tamed(step: Tensor, slope: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """1 - alpha, below 1, and the step; one that overshoots its fixed point ends at the bound."""
    stopped = torch.minimum(torch.maximum(step, low), high)
    return (-slope).clamp(max=ALMOST_ONE), torch.where(slope <= -1.0, stopped, step)


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
    part = (LONGEST / (up * loss_up + down * loss_down).clamp(min=LONGEST)).clamp(max=1.0)
    total = torch.zeros_like(part)
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        time = part * ((1.0 + node) / 2.0)
        keep_up, keep_down = 1.0 - time * loss_up, 1.0 - time * loss_down
        behind = torch.exp(up * keep_up.log() + down * keep_down.log())
        drive = up * step_up / keep_up + down * step_down / keep_down
        total = total + (weight / 2.0) * behind * drive
    return part * total
