"""Layers of one colour launched together, as branches of a captured phase.

They share no edge, so nothing that one of them writes is read by another.  On a GPU each takes a
stream of its own between two joins, and a CUDA graph keeps the branches: small layers then fill the
chip side by side.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

# More than a few kernels at once find no free multiprocessors.
_MOST = 4


class Branches:
    """Runs jobs that do not depend on each other; one after another unless there are streams.

    Memory that a branch allocates is only used again by the same branch, after the next fork.

    Args:
        width: most jobs at a time.
        device: where they launch; streams exist on GPUs.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        count = min(width, _MOST) if device.type == "cuda" else 1
        new: Callable[[torch.device], torch.cuda.Stream] = torch.cuda.Stream
        self._streams = [new(device) for _ in range(count)] if count > 1 else []

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """The jobs' results, in their order; the current stream waits for all of them."""
        streams = self._streams[: len(jobs)]
        if len(jobs) < 2 or not streams:
            return [job() for job in jobs]
        current = torch.cuda.current_stream()
        for stream in streams:
            stream.wait_stream(current)
        results = []
        for number, job in enumerate(jobs):
            with torch.cuda.stream(streams[number % len(streams)]):
                results.append(job())
        for stream in streams:
            current.wait_stream(stream)
        return results
