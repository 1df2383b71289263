"""One layer's update: its currents added, nudged, clipped and over-relaxed.

(arXiv 2509.26003, equations 3, 10 and 11.)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from neurosim_ep._toml_text import problem
from neurosim_ep.models import Activation, Linear, NoiseSum, ReLU, ReLUAlpha

CLIPPING = (ReLUAlpha, ReLU, Linear)
"""Activations that only clip: their box can be projected onto twice, and compiled."""

# Variants of one compiled update: counts of reads, ranks, bounds, precisions, nudged or not.
_VARIANTS = 64


@dataclass
class Currents:
    """All that flows into a layer in one update.

    Attributes:
        reads: of all edges, each of which the next may overwrite, (B, *shape).
        noise: of these reads, to be drawn once they are made.
        constant: biases, and currents that do not change, broadcast over the state.
        pull: of the cost, (B, *shape); None in the free phase.
    """

    reads: Iterable[Tensor]
    noise: NoiseSum
    constant: Tensor
    pull: Tensor | None


class LayerUpdate:
    """Makes one layer's new states, each in the tensor of the state before the last.

    What an update replaces is the next one's buffer, so that a settling holds two tensors per layer
    and its states allocate no others; tensors that came from outside are never written to.

    Args:
        activation: of the layer.
        relaxation: how far the state moves, in units of its update's step.
        fused: one compiled kernel instead of an operation per addend; needs one of `CLIPPING`.
    """

    def __init__(self, activation: Activation, relaxation: float, fused: bool) -> None:
        self._activation, self._relaxation = activation, relaxation
        self._fused = fused
        self._last: Tensor | None = None
        self._spare: Tensor | None = None

    def __call__(self, old: Tensor, currents: Currents) -> Tensor:
        """The new state (B, *shape), after the present one, which the last call returned."""
        if torch.is_grad_enabled():
            return self._recorded(old, currents)
        state = (self._in_one_kernel if self._fused else self._in_place)(old, currents)
        self._spare, self._last = self._last, state
        return state

    def _in_place(self, old: Tensor, currents: Currents) -> Tensor:
        total = None
        for read in currents.reads:
            if total is None:
                total = torch.add(read, currents.constant, out=self._spare)
            else:
                total.add_(read)
        if total is None:
            total = torch.empty_like(old) if self._spare is None else self._spare
            total.copy_(currents.constant)
        currents.noise.add_to(total)
        if currents.pull is not None:
            total.sub_(currents.pull)
        state = self._activation.apply_(total)
        if self._relaxation != 1.0:
            # Clipping a second time projects onto the box, which keeps the descent.
            torch.lerp(old, state, self._relaxation, out=state)
            state = self._activation.apply_(state)
        return state

    def _in_one_kernel(self, old: Tensor, currents: Currents) -> Tensor:
        addends = list(currents.reads)
        if not currents.noise.silent:
            addends.append(torch.zeros_like(old))
            currents.noise.add_to(addends[-1])
        out = torch.empty_like(old) if self._spare is None else self._spare
        low = -torch.inf if isinstance(self._activation, Linear) else 0.0
        high = self._activation.upper_bound
        bounds = (low, torch.inf if high is None else high)
        _compiled(addends, currents.constant, currents.pull, old, bounds, self._relaxation, out)
        return out

    def _recorded(self, old: Tensor, currents: Currents) -> Tensor:
        """The same for autograd: nothing that it needs is overwritten."""
        total = sum(currents.reads, start=currents.constant).expand_as(old).clone()
        currents.noise.add_to(total)
        if currents.pull is not None:
            total = total - currents.pull
        state: Tensor = self._activation(total)
        if self._relaxation != 1.0:
            state = self._activation(torch.lerp(old, state, self._relaxation))
        return state


def _add_clip(
    addends: Sequence[Tensor],
    constant: Tensor,
    pull: Tensor | None,
    old: Tensor,
    bounds: tuple[float, float],
    relaxation: float,
    out: Tensor,
) -> None:
    """What `LayerUpdate` computes, for a compiler: reads every addend once and writes once."""
    total = constant
    for addend in addends:
        total = total + addend
    if pull is not None:
        total = total - pull
    state = total.clamp(*bounds)
    if relaxation != 1.0:
        state = torch.lerp(old, state, relaxation).clamp(*bounds)
    out.copy_(state)


@cache
def _compiler() -> Callable[..., None]:
    return torch.compile(_add_clip, dynamic=True)


def _compiled(*arguments: object) -> None:
    try:
        with torch._dynamo.config.patch(recompile_limit=_VARIANTS):
            _compiler()(*arguments)
    except torch._dynamo.exc.BackendCompilerFailed as failure:
        reason = str(failure).strip().splitlines()[0]
        allowed = f"'none' here: torch.compile found no working compiler ({reason})"
        raise ValueError(problem("fusion", "compiled", allowed)) from None
