"""Quantisation at the edge of an array: codes, full scales, and their calibration on data.

Both converters are uniform and hold zero exactly.  A signed one of b bits has 2^b - 1 codes from
-(2^(b-1) - 1) to 2^(b-1) - 1, an unsigned one 2^b codes from 0 to 2^b - 1; the last code stands for
full scale, and what is beyond saturates.
"""

import torch
from torch import Tensor

from neurosim_ep.crossbar.mapping import quantile_of

# Values kept of each read and array while calibrating: enough for a quantile of 0.9995.
SAMPLES_PER_READ = 4096
_GOLDEN_RATIO = 0.6180339887498949


def largest_code(bits: int, signed: bool) -> int:
    """Code of full scale."""
    return (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1


def quantise_(values: Tensor, step: float | Tensor, bits: int, signed: bool = True) -> Tensor:
    """Round to whole steps and saturate at full scale, in place.

    Args:
        values: any shape.
        step: one code's worth, full scale / `largest_code`; broadcasts over the values.
        bits: resolution.
        signed: whether the codes are.
    """
    top = largest_code(bits, signed)
    # A full scale of zero, where nothing was ever seen, has a step without a finite inverse.
    if isinstance(step, Tensor):
        step = step.clamp_min(torch.finfo(step.dtype).tiny)
    else:
        step = max(step, torch.finfo(values.dtype).tiny)
    codes = values.mul_(1.0 / step).round_()
    return codes.clamp_(-top if signed else 0, top).mul_(step)


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
