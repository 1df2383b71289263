"""One crossbar by itself: a matrix-vector product in both directions, without a network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neurosim_ep.crossbar.card import ArrayCard, load_array_card
from neurosim_ep.crossbar.ports import calibrating
from neurosim_ep.crossbar.storage import CrossbarStorage
from neurosim_ep.devices import DeviceCard, Programmed, load_device_card
from neurosim_ep.models import Dense


class CrossbarArray(CrossbarStorage):
    """One crossbar of the array card's size, or a smaller part of it.

    Args:
        rows, columns: of the weights that it will hold; at most the array's.
        device: device card, or the name or path of one.
        array: array card, or the name or path of one.
        seed: of everything that is drawn.
        dtype, where: of the tensors.

    Raises:
        ValueError: if a size is not allowed or a card is not valid.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        device: DeviceCard | str = "ideal",
        array: ArrayCard | str = "ideal",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        where: torch.device | str = "cpu",
    ) -> None:
        device = load_device_card(device) if isinstance(device, str) else device
        array = load_array_card(array) if isinstance(array, str) else array
        for name, value, most in (
            ("rows", rows, array.layout.rows),
            ("columns", columns, array.layout.columns),
        ):
            if not 1 <= value <= most:
                raise ValueError(
                    f"{name}: {value} is not allowed; must be at least 1 and at most {most}, the "
                    "array's"
                )
        super().__init__(
            Dense((rows,), (columns,)), device, array, seed=seed, dtype=dtype, where=where
        )
        # Devices at rest can be read too.
        self.matrix.refresh()

    def program(self, weights: Tensor | None = None, *, rescale: bool = True) -> Programmed:
        """Write weights (rows, columns); time starts again at 0.

        Args:
            weights: finite; None writes the present ones again.
            rescale: choose the scale from these weights; else keep it and clip what is beyond.

        Raises:
            ValueError: if the weights have another shape or are not finite.
        """
        if weights is not None:
            if weights.shape != self.weight.shape:
                raise ValueError(
                    f"weights: shape {tuple(weights.shape)} is not allowed; must be "
                    f"{tuple(self.weight.shape)}"
                )
            if not bool(weights.isfinite().all()):
                raise ValueError("weights: NaN or infinity is not allowed; must be finite")
            self.weight.data.copy_(weights)
        return super().program(rescale=rescale)

    @torch.no_grad()
    def read(self, x: Tensor, *, delta: bool = False) -> Tensor:
        """Forward read: ``x @ W``, (..., rows) to (..., columns).

        Args:
            x: what drives the rows, in units of the states.
            delta: through the converters of delta reads.

        Raises:
            ValueError: if the last size is not the number of rows.
        """
        self._check("x", x, self.weight.shape[0])
        return self.forward_read(x.reshape(-1, x.shape[-1]), delta=delta).view(*x.shape[:-1], -1)

    @torch.no_grad()
    def read_transposed(self, y: Tensor, *, delta: bool = False) -> Tensor:
        """Transposed read: ``y @ W^T``, (..., columns) to (..., rows).

        Args:
            y: what drives the columns.
            delta: through the converters of delta reads.

        Raises:
            ValueError: if the last size is not the number of columns.
        """
        self._check("y", y, self.weight.shape[1])
        return self.transposed_read(y.reshape(-1, y.shape[-1]), delta=delta).view(*y.shape[:-1], -1)

    @contextmanager
    def calibrating(self) -> Iterator[None]:
        """Converters read ideally inside, and take their ranges from what they saw at its end.

        Read inside, in both directions and with delta reads as they will be used; after an error
        inside, the ranges are what they were.
        """
        with calibrating(self.ports.values()):
            yield

    @staticmethod
    def _check(name: str, values: Tensor, size: int) -> None:
        if values.dim() < 1 or values.shape[-1] != size:
            raise ValueError(
                f"{name}: shape {tuple(values.shape)} is not allowed; must end with {size}"
            )
