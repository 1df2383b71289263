"""What geometries refuse: every message names the field, the value and what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from neurosim_ep.models import Convolution, Dense, Geometry, Identity, PooledConvolution

STATE = (2, 5, 6)
SHAPE_RULE = "must be (channels, height, width), each at least 1"
PLACES = "taken at every n-th place"

REFUSED: list[tuple[Callable[[], Geometry], str]] = [
    (
        lambda: Convolution((2, 5), 1, kernel=1),
        f"pre_shape: (2, 5) is not allowed; {SHAPE_RULE}",
    ),
    (
        lambda: Convolution((2, 0, 5), 1, kernel=1),
        f"pre_shape: (2, 0, 5) is not allowed; {SHAPE_RULE}",
    ),
    (
        lambda: Convolution(STATE, 0, kernel=1),
        "out_channels: 0 is not allowed; must be at least 1",
    ),
    (lambda: Convolution(STATE, 1, kernel=0), "kernel: 0 is not allowed; must be at least 1"),
    (
        lambda: Convolution(STATE, 1, kernel=1, stride=0),
        "stride: 0 is not allowed; must be at least 1",
    ),
    (
        lambda: Convolution(STATE, 1, kernel=1, padding=-1),
        "padding: -1 is not allowed; must be at least 0",
    ),
    (
        lambda: Convolution(STATE, 1, kernel=8, padding=1),
        "kernel: 8 is not allowed; must be at most 7, the padded size of the pre layer",
    ),
    (
        lambda: PooledConvolution((1, 3, 6), 1, kernel=3),
        "pre_shape: (1, 3, 6) is not allowed; must leave at least 2x2 currents to pool, not 1x4",
    ),
    (
        lambda: PooledConvolution(STATE, 0, kernel=3),
        "out_channels: 0 is not allowed; must be at least 1",
    ),
    (
        lambda: Dense((), (3,)),
        "pre_shape: () is not allowed; every size must be at least 1",
    ),
    (
        lambda: Dense((3,), (2, 0)),
        "post_shape: (2, 0) is not allowed; every size must be at least 1",
    ),
    (
        lambda: Identity((3,), (3,), strength=0.0),
        "strength: 0.0 is not allowed; must be above 0",
    ),
    (
        lambda: Identity((3,), (3,), strength=math.nan),
        "strength: nan is not allowed; must be above 0",
    ),
    (
        lambda: Identity((3,), (3, 1, 1)),
        "post_shape: (3, 1, 1) is not allowed; must have as many sizes as the pre layer's (3,), "
        "1 or 3",
    ),
    (
        lambda: Identity((3, 2), (3, 2)),
        "post_shape: (3, 2) is not allowed; must have as many sizes as the pre layer's (3, 2), "
        "1 or 3",
    ),
    (
        lambda: Identity((3, 4, 4), (3, 8, 8)),
        f"post_shape: (3, 8, 8) is not allowed; must be the pre layer's (3, 4, 4) {PLACES}",
    ),
    (
        lambda: Identity((3, 8, 8), (3, 4, 8)),
        f"post_shape: (3, 4, 8) is not allowed; must be the pre layer's (3, 8, 8) {PLACES}",
    ),
    (
        lambda: Identity((3, 9, 9), (3, 4, 4)),
        f"post_shape: (3, 4, 4) is not allowed; must be the pre layer's (3, 9, 9) {PLACES}",
    ),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused(build: Callable[[], Geometry], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build()


@pytest.mark.parametrize("shape", [(0, 8, 8), (4, 0, 0), (4, 4, 0)], ids=str)
def test_an_identity_refuses_empty_shapes(shape: tuple[int, ...]) -> None:
    rule = f": {re.escape(str(shape))} is not allowed; every size must be at least 1$"
    with pytest.raises(ValueError, match="^post_shape" + rule):
        Identity((4, 8, 8), shape)
    with pytest.raises(ValueError, match="^pre_shape" + rule):
        Identity(shape, (4, 8, 8))


def test_the_limits_are_allowed() -> None:
    assert Convolution((1, 1, 1), 1, kernel=3, padding=1).post_shape == (1, 1, 1)
    assert PooledConvolution((1, 4, 4), 1, kernel=3).post_shape == (1, 1, 1)
    assert Dense((1,), (1,)).fan_in == 1


def test_repr_rebuilds_the_geometry(geometry: Geometry) -> None:
    names = {c.__name__: c for c in (Convolution, Dense, Identity, PooledConvolution)}
    again = eval(repr(geometry), names)
    assert type(again) is type(geometry)
    assert vars(again) == vars(geometry)
