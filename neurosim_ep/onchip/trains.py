"""Outer products as trains of pulses: how many meet at every crossing of rows and columns.

Rows send trains for the pre factor, columns for the post factor, at most ``longest`` slots long; a
device is pulsed where two pulses meet, in the direction of the product of their signs (Gokmen &
Vlasov, Front. Neurosci. 10:333, 2016).  The product of image b that asks for at most k_b pulses
gets BL_b = min(ceil(k_b), longest) slots, and probabilities ``sqrt(k_b / BL_b)`` times the factors
relative to their largest, so that on average exactly what was asked for is given; beyond
``longest`` they saturate at 1.  Where an edge is a convolution, every output position has a train
of its own, with the slots of its image.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurosim_ep.models import Geometry
from neurosim_ep.onchip.tally import LineUse, train_use

Kind = Literal["mean_field", "stochastic", "deterministic"]

_ROUNDING = 1e-5
"""Relative error of a ratio of sums in float32, with room to spare."""


@dataclass(frozen=True)
class Trains:
    """How trains of pulses are made.

    Attributes:
        kind: ``stochastic`` draws every slot; ``mean_field`` draws the number of coincidences of
            each device from a binomial distribution with the mean and the variance that stochastic
            trains give it, and leaves out that devices of one line share its train;
            ``deterministic`` sends a train's pulses in a row to the rows and evenly spread to the
            columns, so that n_x and n_d pulses meet round(n_x n_d / BL) times.
        longest: slots of a train at most.

    Raises:
        ValueError: for no slots.
    """

    kind: Kind = "mean_field"
    longest: int = 31

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"longest: {self.longest} is not allowed; must be at least 1")


@dataclass(frozen=True)
class Counts:
    """Pulses that every weight gets, whole numbers in ``weight_shape``.

    Attributes:
        up: increments.
        down: decrements.
        use: what their trains took of the lines.
    """

    up: Tensor
    down: Tensor
    use: LineUse

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.up + other.up, self.down + other.down, self.use + other.use)


@torch.no_grad()
def pulse_counts(
    geometry: Geometry, pre: Tensor, demand: Tensor, trains: Trains, generator: torch.Generator
) -> Counts:
    """Increments and decrements that one outer product gives every weight.

    Args:
        geometry: says which pre and post units a weight joins.
        pre: pre factor (N, *pre_shape).
        demand: post factor (N, *linear_shape), such that ``pre x demand`` is in pulses.
        trains: how they are made.
        generator: on the tensors' device.

    Returns:
        Counts in the geometry's ``weight_shape``.
    """
    rows, columns = pre.flatten(1).abs().amax(1), demand.flatten(1).abs().amax(1)
    asked = rows * columns
    slots = asked.ceil().clamp(1.0, float(trains.longest))
    share = (asked / slots).sqrt()
    x = _relative(pre, rows, share)
    d = _relative(demand, columns, share)
    if trains.kind == "mean_field":
        met = _mean_field(geometry, x, d, slots, generator)
    else:
        met = _slot_by_slot(geometry, x, d, slots, trains.kind == "stochastic", generator)
    return Counts(*met, train_use(geometry, x, d, torch.where(asked > 0.0, slots, 0.0)))


def _relative(factor: Tensor, largest: Tensor, share: Tensor) -> Tensor:
    """Signed probabilities of a pulse per slot: relative to the largest, times the share."""
    scale = torch.where(largest > 0.0, share / largest, 0.0)
    return (factor * _per_image(scale, factor)).clamp_(-1.0, 1.0)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))


def _mean_field(
    geometry: Geometry, x: Tensor, d: Tensor, slots: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    # Of independent slots with probability p: mean sum(p), variance sum(p) - sum(p^2).
    weighted = x * _per_image(slots, x)
    means = _by_sign(geometry, weighted, d)
    squares = _by_sign(geometry, weighted * x.abs(), d * d.abs())
    up, down = (
        _binomial(mean, square, generator) for mean, square in zip(means, squares, strict=True)
    )
    return up, down


def _by_sign(geometry: Geometry, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the positive and of the negative products, both as numbers of at least 0."""
    net = geometry.correlation(x, d)
    if bool((x >= 0.0).all()) and bool((d >= 0.0).all()):
        return net.clamp_min(0.0), torch.zeros_like(net)
    if bool((x >= 0.0).all()) and bool((d <= 0.0).all()):
        return torch.zeros_like(net), (-net).clamp_min(0.0)
    total = geometry.correlation(x.abs(), d.abs())
    return (0.5 * (total + net)).clamp_min(0.0), (0.5 * (total - net)).clamp_min(0.0)


def _binomial(mean: Tensor, square: Tensor, generator: torch.Generator) -> Tensor:
    """Whole numbers with a mean, and the variance ``mean - square`` up to a whole n."""
    if not bool(mean.any()):
        return torch.zeros_like(mean)
    # n p = mean, n p^2 = square; sums that rounding made inconsistent have n of at least 1.
    tiny = torch.finfo(mean.dtype).tiny
    trials = (mean.square() / square.clamp_min(tiny)).clamp_max(1e6)
    # A whole n stays what it is, though rounding put it slightly above.
    trials = (trials * (1.0 - _ROUNDING)).ceil()
    trials = torch.maximum(trials, mean.ceil()).clamp_min(1.0)
    return torch.binomial(trials, (mean / trials).clamp_max(1.0), generator=generator)


def _slot_by_slot(
    geometry: Geometry,
    x: Tensor,
    d: Tensor,
    slots: Tensor,
    stochastic: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    up = down = torch.zeros((), dtype=x.dtype, device=x.device)
    for slot in range(int(slots.max())):
        if stochastic:
            rows = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            columns = torch.rand(d.shape, generator=generator, dtype=d.dtype, device=d.device)
            rows, columns = (rows < x.abs()).to(x), (columns < d.abs()).to(d)
            rows *= _per_image((slot < slots).to(x), x)
        else:
            length = _per_image(slots, x)
            rows = (slot < (x.abs() * length).round()).to(x)
            length = _per_image(slots, d)
            sent = (d.abs() * length).round()
            columns = _sent_by(sent, slot + 1, length) - _sent_by(sent, slot, length)
            columns *= (slot < length).to(d)
        met = _by_sign(geometry, rows * x.sign(), columns * d.sign())
        up, down = up + met[0], down + met[1]
    return up.round(), down.round()


def _sent_by(sent: Tensor, slot: int, length: Tensor) -> Tensor:
    """Pulses of an evenly spread train before a slot: sent * slot / length, halves rounded up."""
    # One division of whole numbers: exact where it comes out whole.
    return ((2.0 * sent * slot + length) / (2.0 * length)).floor()
