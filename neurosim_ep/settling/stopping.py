"""Stopping on a tolerance without making the host wait for the device."""

import torch
from torch import Tensor


class Stop:
    """Whether every image's residual is within the tolerance.

    A CPU answers at once.  Of a GPU the answer is copied in the background and seen at the next
    look, when it has long arrived: settling goes on for one interval more, and nothing waits.

    Args:
        tolerance: largest residual of a settled image.
        late: answer with the last look's result; by default on a GPU only.
    """

    def __init__(self, tolerance: float, late: bool | None = None) -> None:
        self._tolerance, self._late = tolerance, late
        self._pending: tuple[Tensor, torch.cuda.Event | None] | None = None

    def __call__(self, residual: Tensor) -> bool:
        """Look at residuals (B,), and say whether those of this or the last look are small."""
        settled = (residual <= self._tolerance).all()
        late = residual.is_cuda if self._late is None else self._late
        if not late:
            return bool(settled)
        before, self._pending = self._pending, _to_host(settled)
        if before is None:
            return False
        flag, arrived = before
        if arrived is not None:
            arrived.synchronize()
        return bool(flag)


def _to_host(flag: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Begin to copy a flag; the event says when it is there."""
    if not flag.is_cuda:
        return flag, None
    host = torch.empty((), dtype=torch.bool, pin_memory=True)
    host.copy_(flag, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return host, arrived
