"""Geometries that the tests of the models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import Convolution, Dense, Geometry, Identity, PooledConvolution

DENSE = [
    Dense((5,), (3,)),
    Dense((1,), (1,)),
    Dense((3, 2, 2), (4,)),
    Dense((4,), (2, 3, 2)),
    Dense((2, 3), (3, 2, 2)),
]
CONVOLUTIONS = [
    Convolution((2, 5, 5), 3, kernel=3, padding=1),
    Convolution((3, 6, 6), 2, kernel=3, stride=2, padding=1),
    Convolution((3, 7, 7), 2, kernel=3, stride=2, padding=1),
    Convolution((2, 6, 6), 4, kernel=1, stride=2),
    Convolution((2, 7, 7), 4, kernel=1, stride=2),
    Convolution((1, 4, 7), 2, kernel=2, stride=1),
    Convolution((2, 8, 5), 3, kernel=3, stride=3, padding=2),
    Convolution((2, 9, 6), 1, kernel=4, stride=3, padding=1),
    Convolution((1, 3, 3), 1, kernel=5, padding=2),
    Convolution((2, 5, 9), 2, kernel=2, stride=4),
    Convolution((1, 1, 1), 1, kernel=1),
]
POOLED = [
    PooledConvolution((2, 6, 6), 3, kernel=3, padding=1),
    PooledConvolution((1, 5, 7), 2, kernel=3, padding=1),
    PooledConvolution((3, 7, 4), 2, kernel=2),
    PooledConvolution((2, 9, 9), 2, kernel=3, stride=2, padding=1),
]
IDENTITIES = [
    Identity((4,), (4,)),
    Identity((4,), (6,), strength=0.5),
    Identity((6,), (4,), strength=2.0),
    Identity((3, 4, 4), (3, 4, 4), strength=1.5),
    Identity((2, 6, 6), (5, 3, 3)),
    Identity((5, 7, 7), (2, 4, 4), strength=0.25),
    Identity((2, 9, 9), (3, 3, 3)),
    Identity((2, 5, 3), (2, 3, 2)),
    Identity((2, 1, 6), (2, 1, 3)),
    Identity((1, 5, 4), (1, 2, 2)),
]
WITH_WEIGHTS: list[Geometry] = [*DENSE, *CONVOLUTIONS, *POOLED]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: more threads than one only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=WITH_WEIGHTS, ids=repr)
def weighted(request: pytest.FixtureRequest) -> Geometry:
    """One geometry with weights."""
    geometry: Geometry = request.param
    return geometry


@pytest.fixture(params=[*WITH_WEIGHTS, *IDENTITIES], ids=repr)
def geometry(request: pytest.FixtureRequest) -> Geometry:
    """One geometry of any kind."""
    geometry: Geometry = request.param
    return geometry


@pytest.fixture(params=CONVOLUTIONS, ids=repr)
def convolution(request: pytest.FixtureRequest) -> Convolution:
    """One convolution without pooling."""
    geometry: Convolution = request.param
    return geometry


@pytest.fixture(params=POOLED, ids=repr)
def pooled(request: pytest.FixtureRequest) -> PooledConvolution:
    """One convolution with pooling."""
    geometry: PooledConvolution = request.param
    return geometry


@pytest.fixture(params=IDENTITIES, ids=repr)
def identity(request: pytest.FixtureRequest) -> Identity:
    """One identity."""
    geometry: Identity = request.param
    return geometry


class Draw:
    """Normal numbers in float64 from one seeded generator."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        """A tensor of the given shape."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def complex(self, *shape: int) -> Tensor:
        """A complex tensor of the given shape."""
        return torch.complex(self(*shape), self(*shape))


@pytest.fixture
def draw() -> Draw:
    """Normal numbers in float64."""
    return Draw()
