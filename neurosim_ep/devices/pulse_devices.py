"""What fabrication gave the devices that pulses move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PulseDevices:
    """What fabrication gave every device.

    Every tensor has the devices' shape, or no dimension where all devices have the same number.

    Attributes:
        step_up: an up pulse's step before it depends on the state, >= 0, in units of the state.
        step_down: a down pulse's, likewise >= 0.
        w_min: lower bound of the state, <= 0.
        w_max: upper bound of the state, >= 0.
        gamma_up: slope ("linear") or exponent ("power") of up pulses, >= 0, else None.
        gamma_down: of down pulses.
    """

    step_up: Tensor
    step_down: Tensor
    w_min: Tensor
    w_max: Tensor
    gamma_up: Tensor | None = None
    gamma_down: Tensor | None = None

    def clip(self, w: Tensor) -> Tensor:
        """States kept between the devices' bounds."""
        return torch.clamp(w, self.w_min, self.w_max)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> PulseDevices:
        """The same devices with their tensors on another device or in another precision."""
        return replace(self, **{k: v.to(device, dtype) for k, v in self._tensors().items()})

    def select(self, index: Tensor) -> PulseDevices:
        """Some of the devices.

        Args:
            index: whole numbers (K,), places in the flattened tensor of devices.

        Returns:
            devices of shape (K,).
        """
        chosen = {
            k: v.reshape(-1).index_select(0, index) for k, v in self._tensors().items() if v.dim()
        }
        return replace(self, **chosen)

    def parts(self, places: Iterable[slice]) -> Iterator[PulseDevices]:
        """Slices of devices of one dimension, without copies, one after the other."""
        own = {k: v for k, v in self._tensors().items() if v.dim()}
        for here in places:
            yield PulseDevices(**(vars(self) | {k: v[here] for k, v in own.items()}))

    def _tensors(self) -> dict[str, Tensor]:
        return {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
