"""Write-verify: program again until the conductance is within a tolerance, or give up.

An attempt lands at ``clip(target + sigma xi, lower, upper)``, xi standard normal, whatever earlier
attempts did.  The loop is never run: the number of attempts is geometric, and what it ends with is
a truncated normal deviation, so inverse distribution functions give both at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim_ep.cards import CardTable, Positive


@dataclass(frozen=True)
class Written:
    """What write-verify came to; all tensors have the devices' shape.

    Attributes:
        conductance: in siemens.
        attempts: how many pulses were spent, int64.
        failed: mask of the devices that never came within the tolerance.
    """

    conductance: Tensor
    attempts: Tensor
    failed: Tensor


@dataclass(frozen=True)
class _Acceptance:
    """Which xi are accepted: low <= xi <= high, and how likely one is below, within, above."""

    low: Tensor
    high: Tensor
    below: Tensor
    within: Tensor
    above: Tensor


class WriteVerify(CardTable):
    """When to stop, and what a device keeps that never got there.

    Attributes:
        tolerance_siemens: greatest accepted distance from the target.
        max_pulses: how many attempts a device gets.
        on_failure: "keep_last" attempt, "keep_best" of all attempts, or "reset" to the lower bound.
    """

    tolerance_siemens: Positive
    max_pulses: Annotated[int, Field(ge=1)]
    on_failure: Literal["keep_last", "keep_best", "reset"] = "keep_last"

    def write(
        self,
        target: Tensor,
        sigma: Tensor,
        lower: Tensor,
        upper: Tensor,
        generator: torch.Generator,
    ) -> Written:
        """Write a tensor of devices.

        Args:
            target: conductances in siemens, any shape.
            sigma: standard deviation of an attempt in siemens, of the shape.
            lower: the devices' lower bounds in siemens, of the shape or one.
            upper: upper bounds, likewise; equal to the lower one for a stuck device.
            generator: a CPU generator.
        """

        def uniform() -> Tensor:
            draws = torch.rand(target.shape, generator=generator, dtype=target.dtype)
            # 0 excluded: it has no logarithm and no finite normal quantile.
            smallest = torch.finfo(target.dtype).eps / 4.0
            return draws.clamp_(smallest, 1.0 - 2.0 * smallest).to(target.device)

        accepted = self._acceptance(target, sigma, lower, upper)
        needed = _geometric(accepted, uniform())
        failed = needed > self.max_pulses
        place = uniform()
        xi = torch.where(failed, self._outside(accepted, place), _inside(accepted, place))
        if self.on_failure == "keep_best" and bool(failed.any()):
            best = self._nearest(target, sigma, lower, upper, accepted, place, uniform())
            xi = torch.where(failed, best, xi)
        conductance = torch.minimum(torch.maximum(target + sigma * xi, lower), upper)
        if self.on_failure == "reset":
            conductance = torch.where(failed, lower, conductance)
        attempts = needed.clamp(1.0, float(self.max_pulses)).to(torch.int64)
        return Written(conductance, attempts, failed)

    def _acceptance(
        self, target: Tensor, sigma: Tensor, lower: Tensor, upper: Tensor
    ) -> _Acceptance:
        # Without noise every xi counts as within; a bound that a deviation runs into within the
        # tolerance lifts the limit on that side; a bound out of tolerance leaves nothing within.
        limit = self.tolerance_siemens / sigma
        low = torch.where(lower > target - self.tolerance_siemens, -torch.inf, -limit)
        high = torch.where(upper < target + self.tolerance_siemens, torch.inf, limit)
        low = torch.where(upper < target - self.tolerance_siemens, torch.inf, low)
        high = torch.where(lower > target + self.tolerance_siemens, -torch.inf, high)
        within = 0.5 * (torch.erf(high * 0.5**0.5) - torch.erf(low * 0.5**0.5))
        below, above = torch.special.ndtr(low), torch.special.ndtr(-high)
        return _Acceptance(low, high, below, within, above)

    def _outside(self, accepted: _Acceptance, place: Tensor) -> Tensor:
        """One xi that is not accepted."""
        rank = place * (accepted.below + accepted.above)
        from_below = rank < accepted.below
        rank = torch.where(from_below, rank, rank - accepted.below)
        xi = torch.special.ndtri(rank)
        return torch.where(from_below, xi, -xi)

    def _nearest(
        self,
        target: Tensor,
        sigma: Tensor,
        lower: Tensor,
        upper: Tensor,
        accepted: _Acceptance,
        place: Tensor,
        side: Tensor,
    ) -> Tensor:
        """Of ``max_pulses`` that are not accepted, the xi that lands nearest to the target."""
        # The greatest of n uniform numbers is the n-th root of one.
        rank = place ** (1.0 / self.max_pulses)
        rank = rank.clamp_(max=1.0 - 0.5 * torch.finfo(rank.dtype).eps)
        both = (accepted.below > 0.0) & (accepted.above > 0.0)
        tail = torch.where(both, accepted.below, accepted.below + accepted.above)
        distance = -torch.special.ndtri(rank * tail)
        # Once the distance exceeds the nearer bound's, the farther side wins only if no attempt
        # went to the nearer one.
        lower_is_nearer = target - lower < upper - target
        nearer = torch.where(lower_is_nearer, target - lower, upper - target)
        farther = torch.where(sigma * distance < nearer, 0.5, 0.5**self.max_pulses)
        go_below = torch.where(both, (side < farther) != lower_is_nearer, accepted.below > 0.0)
        return torch.where(go_below, -distance, distance)


def _inside(accepted: _Acceptance, place: Tensor) -> Tensor:
    """One xi that is accepted."""
    # From the side whose tail is resolved better.
    from_low = torch.special.ndtri(accepted.below + place * accepted.within)
    from_high = -torch.special.ndtri(accepted.above + (1.0 - place) * accepted.within)
    return torch.where(place < 0.5, from_low, from_high)


def _geometric(accepted: _Acceptance, place: Tensor) -> Tensor:
    """How many attempts are needed: a floating-point whole number, infinite where none succeeds."""
    fails = torch.where(
        accepted.within < 0.5,
        torch.log1p(-accepted.within),
        torch.log(accepted.below + accepted.above),
    )
    return torch.ceil(torch.log(place) / fails).clamp_(min=1.0)
