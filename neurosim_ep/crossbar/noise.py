"""Read noise of whole arrays by its exact aggregate.

Devices are noisy independently of one another and anew in every read, so a sensed current's noise
is normal with the sum of the devices' variances, ``sum_i a(g_i) + b(g_i) |v_i| + c(g_i) v_i^2``
(`neurosim_ep.devices.read_noise`): one more product with squared inputs instead of a fresh matrix
per read.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from neurosim_ep.devices import ReadVariance


def map_variance(variance: ReadVariance, change: Callable[[Tensor], Tensor]) -> ReadVariance:
    """Apply a function to every matrix that is there."""
    matrices = (variance.constant, variance.per_volt, variance.per_square_volt)
    return ReadVariance(*(None if matrix is None else change(matrix) for matrix in matrices))


def is_silent(variance: ReadVariance) -> bool:
    """Whether there is no noise at all."""
    return variance == ReadVariance()


def conductance_variance(variance: ReadVariance, like: Tensor, volt: float) -> Tensor:
    """Variance of the conductances that single devices are read at, in siemens^2.

    Args:
        variance: of the devices' currents.
        like: conductances, whose shape, dtype and device the result takes.
        volt: read voltage.
    """
    total = torch.zeros_like(like)
    for matrix, factor in (
        (variance.constant, volt**-2),
        (variance.per_volt, 1.0 / volt),
        (variance.per_square_volt, 1.0),
    ):
        if matrix is not None:
            total += factor * matrix
    return total


class NormalSource:
    """Standard normal numbers from one generator, in memory that is used again.

    Numbers are drawn in the order of memory: filling a channels-last tensor element by element is
    several times as slow.

    Args:
        seed: of the generator; it is made on the device of the first draw.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator: torch.Generator | None = None
        self._scratch: Tensor | None = None
        # Of the scratch, by shape and strides: numbers in the order of memory, and as asked for.
        self._views: dict[tuple[torch.Size, tuple[int, ...]], tuple[Tensor, Tensor]] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """Numbers with a dense tensor's shape and strides, valid until the next call."""
        held = self._scratch
        if held is None or held.dtype != tensor.dtype or held.device != tensor.device:
            held = self._hold(tensor)
        layout = tensor.shape, tensor.stride()
        views = self._views.get(layout)
        if views is None:
            if held.numel() < tensor.numel():
                held = self._hold(tensor)
            flat = held[: tensor.numel()]
            views = self._views[layout] = flat, flat.as_strided(*layout)
        views[0].normal_(generator=self._on(tensor.device))
        return views[1]

    def _hold(self, tensor: Tensor) -> Tensor:
        self._views.clear()
        self._scratch = torch.empty(tensor.numel(), dtype=tensor.dtype, device=tensor.device)
        return self._scratch

    def state(self, device: torch.device) -> Tensor:
        """The generator's state, for a checkpoint."""
        return self._on(device).get_state()

    def set_state(self, state: Tensor, device: torch.device) -> None:
        """Go on from a saved state; one of another kind of device has no meaning here."""
        generator = self._on(device)
        if generator.get_state().shape == state.shape:
            generator.set_state(state.cpu())

    def _on(self, device: torch.device) -> torch.Generator:
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self.seed)
        return self._generator


def add_noise(currents: Tensor, variance: Tensor, source: NormalSource) -> Tensor:
    """Add normal noise in place.

    Args:
        currents: dense, of any layout.
        variance: broadcasts over the currents; overwritten.
        source: of the numbers.
    """
    # Fast convolutions may leave a variance of zero slightly negative.
    return currents.addcmul_(source.like(currents), variance.clamp_min_(0.0).sqrt_())
