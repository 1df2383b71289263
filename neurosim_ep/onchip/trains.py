"""Outer products as trains of pulses: how many meet at every crossing of rows and columns.

Rows send trains for the pre factor, columns for the post factor, at most ``longest`` slots long; a
device is pulsed where two pulses meet, in the direction of the product of their signs (Gokmen &
Vlasov, Front. Neurosci. 10:333, 2016).  The product of image b that asks for at most k_b pulses
gets BL_b = min(ceil(k_b), longest) slots, and probabilities ``sqrt(k_b / BL_b)`` times the factors
relative to their largest, so that on average exactly what was asked for is given; beyond
``longest`` they saturate at 1.  Where an edge is a convolution, every output position has a train
of its own, with the slots of its image.
"""

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurosim_ep.learning import Product
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
    return summed_counts(geometry, [(pre, demand)], trains, generator)


@torch.no_grad()
def summed_counts(
    geometry: Geometry, factors: Sequence[Product], trains: Trains, generator: torch.Generator
) -> Counts:
    """Increments and decrements that several outer products give every weight together.

    Args:
        factors: at least one pair of a pre factor and a demand.
        geometry, trains, generator: as for `pulse_counts`.
    """
    sides = [_sides(pre, demand, trains.longest) for pre, demand in factors]
    if trains.kind == "mean_field":
        met = _mean_field(geometry, sides, generator)
    else:
        met = _slot_by_slot(geometry, sides, trains.kind == "stochastic", generator)
    shape, x = geometry.weight_shape, sides[0].x
    assert shape is not None
    up, down = (x.new_zeros(shape) if counts is None else counts for counts in met)
    use = [train_use(geometry, both.x, both.d, both.slots) for both in sides]
    return Counts(up, down, functools.reduce(operator.add, use))


_BySign = tuple[Tensor | None, Tensor | None]
"""Of positive and of negative products, in ``weight_shape``; None where there are none."""


@dataclass(frozen=True, eq=False)
class _Sides:
    """Trains of one outer product.

    Attributes:
        x: signed probabilities of a row's pulse per slot (N, *pre_shape).
        d: of a column's (N, *linear_shape).
        slots: of each image; none where nothing is asked for (N,).
        sign: of all products, or 0 where it differs.
    """

    x: Tensor
    d: Tensor
    slots: Tensor
    sign: int


def _sides(pre: Tensor, demand: Tensor, longest: int) -> _Sides:
    rows, columns = pre.flatten(1).abs().amax(1), demand.flatten(1).abs().amax(1)
    asked = rows * columns
    slots = asked.ceil().clamp(1.0, float(longest))
    share = (asked / slots).sqrt()
    x, d = _relative(pre, rows, share), _relative(demand, columns, share)
    ends = torch.stack([*x.aminmax(), *d.aminmax()]).tolist()
    return _Sides(x, d, torch.where(asked > 0.0, slots, 0.0), _sign(*ends[:2]) * _sign(*ends[2:]))


def _sign(lowest: float, highest: float) -> int:
    """Sign of everything in between; 0 where it differs."""
    return 1 if lowest >= 0.0 else -1 if highest <= 0.0 else 0


def _relative(factor: Tensor, largest: Tensor, share: Tensor) -> Tensor:
    """Signed probabilities of a pulse per slot: relative to the largest, times the share."""
    # Where all are zero, so is the share.
    scale = share / largest.clamp_min(torch.finfo(largest.dtype).tiny)
    return (factor * _per_image(scale, factor)).clamp_(-1.0, 1.0)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))


def _mean_field(geometry: Geometry, sides: list[_Sides], generator: torch.Generator) -> _BySign:
    # Of independent slots with probability p: mean sum(p), variance sum(p) - sum(p^2).
    means: _BySign = (None, None)
    squares: _BySign = (None, None)
    for both in sides:
        x, d, sign = both.x, both.d, both.sign
        weighted = x * _per_image(both.slots, x)
        means = _sum(means, _by_sign(geometry, weighted, d, sign))
        squares = _sum(squares, _by_sign(geometry, weighted * x.abs(), d * d.abs(), sign))
    up, down = (
        None if mean is None or square is None else _binomial(mean, square, generator)
        for mean, square in zip(means, squares, strict=True)
    )
    return up, down


def _by_sign(geometry: Geometry, x: Tensor, d: Tensor, sign: int) -> _BySign:
    """Sums of the positive and of the negative products, both as numbers of at least 0.

    Args:
        sign: of all products; 0 where it differs.
    """
    net = geometry.correlation(x, d)
    if sign:
        return (net.clamp_min_(0.0), None) if sign > 0 else (None, net.neg_().clamp_min_(0.0))
    total = geometry.correlation(x.abs(), d.abs())
    up, down = (total + net).mul_(0.5), total.sub_(net).mul_(0.5)
    return up.clamp_min_(0.0), down.clamp_min_(0.0)


def _sum(total: _BySign, more: _BySign) -> _BySign:
    up, down = (
        a if b is None else b if a is None else a.add_(b) for a, b in zip(total, more, strict=True)
    )
    return up, down


def _binomial(mean: Tensor, square: Tensor, generator: torch.Generator) -> Tensor:
    """Whole numbers with a mean, and the variance ``mean - square`` up to a whole n."""
    # n p = mean, n p^2 = square; sums that rounding made inconsistent have n of at least 1.
    tiny = torch.finfo(mean.dtype).tiny
    trials = (mean.square() / square.clamp_min(tiny)).clamp_max(1e6)
    # A whole n stays what it is, though rounding put it slightly above.
    trials = (trials * (1.0 - _ROUNDING)).ceil()
    trials = torch.maximum(trials, mean.ceil()).clamp_min(1.0)
    return torch.binomial(trials, (mean / trials).clamp_max(1.0), generator=generator)


def _slot_by_slot(
    geometry: Geometry, sides: list[_Sides], stochastic: bool, generator: torch.Generator
) -> _BySign:
    met: _BySign = (None, None)
    for both in sides:
        for image, slot in _entries(both.slots):
            x, d = both.x.index_select(0, image), both.d.index_select(0, image)
            if stochastic:
                rows = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
                columns = torch.rand(d.shape, generator=generator, dtype=d.dtype, device=d.device)
                rows, columns = (rows < x.abs()).to(x), (columns < d.abs()).to(d)
            else:
                slots = both.slots.index_select(0, image)
                rows = (_per_image(slot, x) < (x.abs() * _per_image(slots, x)).round()).to(x)
                length, before = _per_image(slots, d), _per_image(slot, d)
                sent = (d.abs() * length).round()
                columns = _sent_by(sent, before + 1, length) - _sent_by(sent, before, length)
            rows, columns = rows.mul_(x.sign()), columns.mul_(d.sign())
            met = _sum(met, _by_sign(geometry, rows, columns, both.sign))
    up, down = (None if counts is None else counts.round_() for counts in met)
    return up, down


def _entries(slots: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Every slot of every image once: parts of images and slots, each part as long as the batch.

    Images with few slots cost no more than these, and longer trains no more memory.
    """
    counts, batch = slots.long(), len(slots)
    image = torch.arange(batch, device=slots.device).repeat_interleave(counts)
    slot = torch.arange(len(image), device=slots.device) - (counts.cumsum(0) - counts)[image]
    return zip(torch.split(image, batch), torch.split(slot, batch), strict=True)


def _sent_by(sent: Tensor, slot: Tensor, length: Tensor) -> Tensor:
    """Pulses of an evenly spread train before a slot: sent * slot / length, halves rounded up."""
    # One division of whole numbers: exact where it comes out whole.
    return ((2.0 * sent * slot + length) / (2.0 * length)).floor()
