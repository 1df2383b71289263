"""What holds an edge's weights and reads them: the half of an edge that a crossbar replaces.

Settling and learning only call the methods of `Storage`; whether a tensor or a set of arrays
answers, they never ask.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from neurosim_ep._toml_text import problem
from neurosim_ep.models.geometry import Geometry, Scratch


class NoiseSum:
    """Normal noise of several reads whose currents are added: drawn once for all of them.

    The reads are independent, so their variances add.
    """

    def __init__(self) -> None:
        self._variance: Tensor | None = None
        self._normal: Callable[[Tensor], Tensor] | None = None

    def add(self, variance: Tensor, normal: Callable[[Tensor], Tensor]) -> None:
        """Add one read's noise.

        Args:
            variance: of its currents (B, ...).
            normal: standard normal numbers like a tensor; the first read's are taken.
        """
        if self._variance is None:
            self._variance, self._normal = variance, normal
        else:
            self._variance = self._variance + variance

    @property
    def silent(self) -> bool:
        """Whether no read has added noise."""
        return self._variance is None

    def add_to(self, currents: Tensor) -> None:
        """Draw the noise and add it to the sum of the currents, in place."""
        if self._variance is not None:
            assert self._normal is not None
            # Fast convolutions may leave a variance of zero slightly negative.
            deviation = self._variance.clamp_min(0.0).sqrt_()
            currents.addcmul_(self._normal(currents), deviation)


class Reader(Protocol):
    """What settling reads an edge with: its storage, or a form of it made ready for many reads."""

    @property
    def resolution(self) -> float:
        """As of `Storage`."""

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """As of `Storage`."""

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """As of `Storage`."""


class Storage(nn.Module):
    """Weights of one edge, readable in both directions and locally updatable.

    Attributes:
        geometry: how states unroll into what the storage reads.
    """

    geometry: Geometry

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """Currents (B, *linear_shape) for pre states (B, *pre_shape).

        Args:
            pre: what is driven.
            delta: the change of a state is driven: converters then use their second range.
            noise: takes the read's noise, where it may be added to the sum of several reads; None
                where the currents themselves have to be noisy.
        """
        raise NotImplementedError

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """Currents (B, *pre_shape) for driven columns (B, *linear_shape), by the same weights."""
        raise NotImplementedError

    @property
    def resolution(self) -> float:
        """Smallest difference between currents of a full forward read, relative to the largest.

        0 where nothing rounds them.
        """
        return 0.0

    def prepared(self, batch: int, scratch: Scratch, dtype: torch.dtype | None = None) -> Reader:
        """Reads of the weights as they are now, made ready for many reads without autograd.

        Args:
            batch: how many states a read usually drives.
            scratch: buffers that the edges of one settling share.
            dtype: what is multiplied, and the currents of one read, are rounded to it; None keeps
                the states' own.

        Raises:
            ValueError: for a dtype, where reads are not tensor operations.
        """
        if dtype is not None:
            raise ValueError(problem("precision", str(dtype), "full: these reads are simulated"))
        return self

    def accumulate_gradient(self, pre: Tensor, post: Tensor) -> None:
        """Add the gradient of ``-sum_b <post_b, read(pre_b)>`` to what the optimiser will use.

        Args:
            pre: pre states (B, *pre_shape).
            post: post states before pooling (B, *linear_shape), each image scaled by its
                coefficient (`neurosim_ep.learning`: one weighted equilibrium per image).
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The geometry, for printing."""
        return repr(self.geometry)


class WeightStorage(Storage):
    """A storage that holds weights: a tensor, and whatever it is written to.

    Attributes:
        weight: the weights as they are meant to be, in the geometry's ``weight_shape``; what an
            optimiser updates.
    """

    weight: nn.Parameter

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        if geometry.weight_shape is None:
            raise ValueError(f"geometry: {geometry!r} is not allowed; must have weights")
        weight = torch.empty(geometry.weight_shape, memory_format=geometry.memory_format)
        self.weight = nn.Parameter(weight.zero_())

    def accumulate_gradient(self, pre: Tensor, post: Tensor) -> None:
        """Subtract the (real part of the) correlation from ``weight.grad``."""
        if pre.is_complex() or post.is_complex():
            # Re(sum pre * post), without conjugation: the derivative of a holomorphic energy.
            kind = torch.promote_types(pre.dtype, post.dtype)
            pre, post = pre.to(kind), post.to(kind)
            pre = torch.cat([pre.real, pre.imag])
            post = torch.cat([post.real, -post.imag])
        gradient = self.geometry.correlation(pre, post).neg_()
        if self.weight.grad is None:
            self.weight.grad = gradient
        else:
            self.weight.grad += gradient


class ExactStorage(WeightStorage):
    """A weight tensor, read by fused tensor operations in the tensor's own precision.

    Complex states (holomorphic EP) are read as their real and imaginary parts in one batch, as two
    reads of one array would be.
    """

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """``linear(pre)``."""
        return _by_parts(lambda real: self.geometry.linear(real, self.weight), pre)

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """``transposed(currents)``."""
        return _by_parts(lambda real: self.geometry.transposed(real, self.weight), currents)

    def prepared(self, batch: int, scratch: Scratch, dtype: torch.dtype | None = None) -> Reader:
        """The geometry's fastest reads; equal up to rounding."""
        return _ExactReader(self, batch, scratch, dtype)


class _ExactReader:
    """An exact storage's reads in the geometry's prepared form."""

    resolution = 0.0

    def __init__(
        self, storage: ExactStorage, batch: int, scratch: Scratch, dtype: torch.dtype | None
    ) -> None:
        weight = storage.weight if dtype is None else storage.weight.to(dtype)
        reads = storage.geometry.prepared(weight, batch, scratch)
        self._forward, self._back = reads.linear, reads.transposed
        if dtype is not None:
            self._forward, self._back = _cast(reads.linear, dtype), _cast(reads.transposed, dtype)

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        return _by_parts(self._forward, pre)

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        return _by_parts(self._back, currents)


class NoStorage(Storage):
    """The storage of an edge without weights: what is read is what was driven."""

    def forward_read(
        self, pre: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """The geometry's fixed map."""
        return self.geometry.linear(pre, pre)

    def prepared(self, batch: int, scratch: Scratch, dtype: torch.dtype | None = None) -> Reader:
        """Itself: nothing is multiplied."""
        return self

    def transposed_read(
        self, currents: Tensor, *, delta: bool = False, noise: NoiseSum | None = None
    ) -> Tensor:
        """The adjoint of the geometry's fixed map."""
        return self.geometry.transposed(currents, currents)

    def accumulate_gradient(self, pre: Tensor, post: Tensor) -> None:
        """Nothing to learn."""


def as_real(states: Tensor) -> Tensor:
    """Real and imaginary parts of complex states (B, ...) as one batch (2 B, ...)."""
    return torch.cat([states.real, states.imag])


def as_complex(parts: Tensor) -> Tensor:
    """Inverse of `as_real`."""
    return torch.complex(*parts.chunk(2))


def _by_parts(read: Callable[[Tensor], Tensor], driven: Tensor) -> Tensor:
    """A real read of real states, or of the real and imaginary parts of complex ones."""
    return as_complex(read(as_real(driven))) if driven.is_complex() else read(driven)


def _cast(read: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A read in another dtype, of states and to currents in theirs."""
    return lambda driven: read(driven.to(dtype)).to(driven.dtype)
