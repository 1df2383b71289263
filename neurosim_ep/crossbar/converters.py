"""Quantisation at the edge of an array: codes, full scales, and their calibration on data.

Both converters are uniform and hold zero exactly.  A signed one of b bits has 2^b - 1 codes from
-(2^(b-1) - 1) to 2^(b-1) - 1, an unsigned one 2^b codes from 0 to 2^b - 1; the last code stands for
full scale, and what is beyond saturates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim_ep.crossbar.mapping import quantile_of

# Values kept of each read and array while calibrating: enough for a quantile of 0.9995.
SAMPLES_PER_READ = 4096
_GOLDEN_RATIO = 0.6180339887498949


def largest_code(bits: int, signed: bool) -> int:
    """Code of full scale."""
    return (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1


@dataclass(frozen=True, eq=False)
class Step:
    """One code's worth, ready to round with: reads round by the same step again and again.

    Attributes:
        size: full scale / `largest_code`, not 0.
        inverse: of the size.
    """

    size: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, size: float | Tensor, like: Tensor) -> "Step":
        """A step of a size of at least 0, for values of a tensor's dtype and on its device."""
        # A full scale of zero, where nothing was ever seen, has a step without a finite inverse.
        tiny = torch.finfo(like.dtype).tiny
        if isinstance(size, Tensor):
            size = size.clamp_min(tiny)
            return cls(size, 1.0 / size)
        size = max(size, tiny)
        return cls(like.new_tensor(size), like.new_tensor(1.0 / size))


def quantise_(
    values: Tensor, step: float | Tensor | Step, bits: int, signed: bool = True
) -> Tensor:
    """`quantise` in place."""
    return quantise(values, step, bits, signed, out=values)


def quantise(
    values: Tensor,
    step: float | Tensor | Step,
    bits: int,
    signed: bool = True,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Round to whole steps and saturate at full scale.

    Args:
        values: any shape.
        step: one code's worth, full scale / `largest_code`; broadcasts over the values.
        bits: resolution.
        signed: whether the codes are.
        out: takes the result; a new tensor where None.
    """
    top = largest_code(bits, signed)
    if not isinstance(step, Step):
        step = Step.of(step, values)
    codes = torch.mul(values, step.inverse, out=out).round_()
    return codes.clamp_(-top if signed else 0, top).mul_(step.size)


class Calibration:
    """Absolute values seen while calibrating, a sample of each read.

    The full scale is a quantile of all of them, so that one outlier does not stretch it.
    """

    def __init__(self) -> None:
        self._samples: list[Tensor] = []

    @property
    def seen(self) -> bool:
        """Whether there was any read."""
        return bool(self._samples)

    def add(self, values: Tensor) -> None:
        """Sample one read: values (n, ...), spread over the first dimension."""
        count = values.shape[0]
        if count > SAMPLES_PER_READ:
            # By the golden ratio: an even stride would meet the same pixel of every image.
            places = torch.arange(SAMPLES_PER_READ, dtype=torch.float64) * _GOLDEN_RATIO % 1.0
            values = values[(places * count).long().to(values.device)]
        self._samples.append(values.abs())

    def full_scale(self, quantile: float) -> Tensor:
        """Quantile (...) of all samples; the smallest positive number where all were zero."""
        scale = quantile_of(torch.cat(self._samples), quantile)
        return scale.clamp_min(torch.finfo(scale.dtype).tiny)
