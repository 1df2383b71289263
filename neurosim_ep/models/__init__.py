"""What the network is: layers, edges, energy, costs, and the networks of the paper."""

from neurosim_ep.models.activations import Activation, Linear, ReLU, ReLUAlpha, Sigmoid
from neurosim_ep.models.costs import Cost, CrossEntropy, SquaredError
from neurosim_ep.models.feedforward import FeedForward
from neurosim_ep.models.geometry import (
    Convolution,
    Dense,
    Geometry,
    Identity,
    PooledConvolution,
    Scratch,
)
from neurosim_ep.models.initialisation import initialise
from neurosim_ep.models.network import Edge, HopfieldNetwork, Layer
from neurosim_ep.models.storage import (
    ExactStorage,
    NoiseSum,
    NoStorage,
    Reader,
    Storage,
    WeightStorage,
    as_complex,
    as_real,
)
from neurosim_ep.models.zoo import hopfield_resnet13, mlp, vgg5

__all__ = [
    "Activation",
    "Convolution",
    "Cost",
    "CrossEntropy",
    "Dense",
    "Edge",
    "ExactStorage",
    "FeedForward",
    "Geometry",
    "HopfieldNetwork",
    "Identity",
    "Layer",
    "Linear",
    "NoStorage",
    "NoiseSum",
    "PooledConvolution",
    "ReLU",
    "ReLUAlpha",
    "Reader",
    "Scratch",
    "Sigmoid",
    "SquaredError",
    "Storage",
    "WeightStorage",
    "as_complex",
    "as_real",
    "hopfield_resnet13",
    "initialise",
    "mlp",
    "vgg5",
]
