"""How an edge connects two layers: dense, convolution, convolution with max pooling, identity."""

from neurosim_ep.models.geometry.base import Geometry, Shape
from neurosim_ep.models.geometry.convolution import Convolution, PooledConvolution
from neurosim_ep.models.geometry.dense import Dense
from neurosim_ep.models.geometry.identity import Identity
from neurosim_ep.models.geometry.scratch import Scratch

__all__ = ["Convolution", "Dense", "Geometry", "Identity", "PooledConvolution", "Scratch", "Shape"]
