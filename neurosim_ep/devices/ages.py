"""Clocks of single devices: how long ago each was programmed or pulsed.

Ages are kept in float64 whatever the devices' precision, as the whole numbers with the same bits:
a change of a module's dtype leaves those alone.
"""

import torch
from torch import Tensor


def ages_after(held: Tensor | None, elapsed_s: float, written: Tensor) -> Tensor | None:
    """Ages at a write that restarts some devices' clocks.

    Args:
        held: ages at the last write, as bits; None where all were 0.
        elapsed_s: since then.
        written: mask of the devices whose clocks restart.

    Returns:
        Ages at this write, as bits; None where all are 0.
    """
    if held is None and elapsed_s == 0.0:
        return None
    before = torch.zeros_like(written, dtype=torch.float64) if held is None else seconds(held)
    return torch.where(written, 0.0, before + elapsed_s).view(torch.int64)


def seconds(bits: Tensor) -> Tensor:
    """Ages in seconds, float64."""
    return bits.view(torch.float64)
