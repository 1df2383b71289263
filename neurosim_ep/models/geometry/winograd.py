"""3x3 convolutions of stride 1 by fewer multiplications (Winograd 1980; Lavin and Gray 2016).

A tile of m x m outputs needs (m + 2)^2 products per pair of channels instead of 9 m^2: 4 times
fewer for m = 4, 2.25 times for m = 2.  The products are batched matrix products, and the weights
are transformed once for the many reads of a settling.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from neurosim_ep.models.geometry.scratch import CURRENTS, PRODUCTS, TRANSFORMED, Scratch

# Tiles whose products run as one: fills the matrix products, and the buffers stay in the cache.
_TILES = 256


@cache
def _matrices(tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """A^T (m, n), G (n, 3) and B^T (n, n), n = m + 2, in float64.

    Toom-Cook evaluates both polynomials at n - 1 points and at infinity, multiplies, and
    interpolates; correlation is its transpose (Lavin and Gray 2016, arXiv 1509.09308).
    """
    points = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 2.0, -2.0)}[tile]

    def evaluate(degrees: int) -> Tensor:
        finite = torch.tensor([[p**d for d in range(degrees)] for p in points], dtype=torch.float64)
        infinity = torch.eye(degrees, dtype=torch.float64)[-1:]
        return torch.cat([finite, infinity])

    # Scaled so that what meets the data holds whole numbers, as the usual tables do.
    interpolate = torch.linalg.inv(evaluate(tile + 2)).T
    scale = interpolate.abs().masked_fill(interpolate.abs() < 1e-9, torch.inf).amin(1)
    whole = (interpolate / scale[:, None]).round()
    return evaluate(tile).T, evaluate(3) * scale[:, None], whole


class WinogradConvolution:
    """Convolution of many states with one 3x3 kernel, stride 1.

    Args:
        weight: (out_channels, in_channels, 3, 3), in any memory format; what it holds later is not
            seen.
        padding: zeros on every side, 0 to 2.
        size: height and width of the states; those of the outputs are multiples of ``tile``.
        tile: side of an output tile: 2, or 4 (a little less exact).
        scratch: shared buffers.
    """

    def __init__(
        self, weight: Tensor, padding: int, size: Sequence[int], tile: int, scratch: Scratch
    ) -> None:
        outputs, inputs = weight.shape[:2]
        self._padding, self._tile, self._scratch = padding, tile, scratch
        self._down, self._across = ((side + 2 * padding - 2) // tile for side in size)
        self._inputs, self._outputs = inputs, outputs
        self._images = max(1, _TILES // (self._down * self._across))
        back, kernel, forth = (m.to(weight) for m in _matrices(tile))
        taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
        self._weight = (torch.kron(kernel, kernel) @ taps).view(-1, inputs, outputs)
        self._back, self._forth = back.contiguous(), forth.contiguous()
        self._padded = weight.new_zeros(0)
        self._size = tuple(size)

    def __call__(self, states: Tensor) -> Tensor:
        """States (B, in_channels, H, W) to currents (B, out_channels, H', W'), channels-last."""
        batch, side = states.shape[0], self._tile
        grid = (batch, self._down, side, self._across, side, self._outputs)
        tiled = self._scratch.take(CURRENTS, grid, states)
        for start in range(0, batch, self._images):
            chunk = slice(start, min(start + self._images, batch))
            tiled[chunk].copy_(self._tiles(states[chunk].permute(0, 2, 3, 1)))
        shape = (batch, self._down * side, self._across * side, self._outputs)
        return tiled.view(shape).permute(0, 3, 1, 2)

    def _tiles(self, states: Tensor) -> Tensor:
        """(B, H, W, in_channels) to (B, rows, tile, columns, tile, out_channels), a view."""
        side, window = self._tile, self._tile + 2
        take, grid = self._scratch.take, (states.shape[0], self._down, self._across)
        tiles = grid[0] * grid[1] * grid[2]
        # Separable: one matrix over the rows of all tiles, then the same over their columns.
        gathered = take(TRANSFORMED, (window, window, *grid, self._inputs), states)
        gathered.copy_(self._windows(states))
        rows = take(PRODUCTS, (window, window * tiles * self._inputs), states)
        torch.mm(self._forth, gathered.view(window, -1), out=rows)
        both = take(TRANSFORMED, (window, window, tiles * self._inputs), states)
        forth = self._forth.expand(window, window, window)
        torch.bmm(forth, rows.view(window, window, -1), out=both)
        products = take(PRODUCTS, (window * window, tiles, self._outputs), states)
        torch.bmm(both.view(-1, tiles, self._inputs), self._weight, out=products)
        rows = take(TRANSFORMED, (side, window * tiles * self._outputs), states)
        torch.mm(self._back, products.view(window, -1), out=rows)
        both = take(PRODUCTS, (side, side, tiles * self._outputs), states)
        back = self._back.expand(side, side, window)
        torch.bmm(back, rows.view(side, window, -1), out=both)
        return both.view(side, side, *grid, self._outputs).permute(2, 3, 0, 4, 1, 5)

    def _windows(self, states: Tensor) -> Tensor:
        """Overlapping windows (window, window, B, rows, columns, in_channels), a view."""
        (height, width), pad, step = self._size, self._padding, self._tile
        if self._padded.shape[0] < states.shape[0]:
            shape = (states.shape[0], height + 2 * pad, width + 2 * pad, self._inputs)
            self._padded = states.new_zeros(shape)
        self._padded[: states.shape[0], pad : pad + height, pad : pad + width].copy_(states)
        image, row, column, channel = self._padded.stride()
        return self._padded.as_strided(
            (step + 2, step + 2, states.shape[0], self._down, self._across, self._inputs),
            (row, column, image, step * row, step * column, channel),
        )
