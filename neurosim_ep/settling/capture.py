"""Whole phases captured as CUDA graphs: one launch instead of thousands.

A captured phase reads its inputs from buffers of its own, and the weights where they are: it sees
what an optimiser does to them in place.  Everything else that it depends on is part of its key, so
that other shapes, settings or parameters lead to another capture.  Where nothing can be captured
the same function is simply called (`phases`).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from neurosim_ep.models import ExactStorage, HopfieldNetwork, NoStorage
from neurosim_ep.settling.options import Engine

# Takes the inputs, then how many iterations; returns tensors only.
Phase = Callable[[Sequence[Tensor], int], list[Tensor]]

# Each holds a phase's memory; free and nudged phases of two batch sizes, training and evaluation.
_KEPT = 6

_captured: WeakKeyDictionary[HopfieldNetwork, "OrderedDict[Hashable, CapturedPhase]"]
_captured = WeakKeyDictionary()


class Recorder(Protocol):
    """Records what a function launches on given inputs."""

    def __call__(
        self, run: Callable[[], list[Tensor]], warm_up: Callable[[], object]
    ) -> tuple[Callable[[], None], list[Tensor]]:
        """What launches it again, and the tensors that it then fills."""


def cuda_graph(
    run: Callable[[], list[Tensor]], warm_up: Callable[[], object]
) -> tuple[Callable[[], None], list[Tensor]]:
    """Record a CUDA graph; libraries choose their kernels while warming up on a side stream."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            warm_up()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()
    return graph.replay, outputs


class CapturedPhase:
    """A phase with fixed buffers for its inputs and outputs.

    Args:
        phase: what is captured; launches only, without a wait for the device.
        inputs: their shapes, dtypes and memory formats stay; what they hold does not matter.
        iterations: of one launch.
        record: `cuda_graph`, or what stands for it in tests.
    """

    def __init__(
        self, phase: Phase, inputs: Sequence[Tensor], iterations: int, record: Recorder
    ) -> None:
        self._inputs = [torch.empty_like(tensor) for tensor in inputs]
        self._load(inputs)
        self._replay, self.outputs = record(
            lambda: phase(self._inputs, iterations), lambda: phase(self._inputs, 1)
        )

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Launch it on new inputs; the next call overwrites the outputs."""
        self._load(inputs)
        self._replay()
        return self.outputs

    def _load(self, inputs: Sequence[Tensor]) -> None:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)


def can_capture(network: HopfieldNetwork, engine: Engine, device: torch.device) -> bool:
    """Whether a network's phases are launches only: exact edges, on a GPU."""
    exact = all(isinstance(edge.storage, ExactStorage | NoStorage) for edge in network.edge_list())
    return device.type == "cuda" and engine.capture == "auto" and exact


def captured_phase(
    network: HopfieldNetwork,
    settings: Hashable,
    phase: Phase,
    inputs: Sequence[Tensor],
    iterations: int,
    record: Recorder = cuda_graph,
) -> CapturedPhase:
    """The captured phase of a network, captured now if this is the first of its kind.

    Args:
        network: its parameters are read in place; replaced ones make another capture.
        settings: all that the phase depends on beside the network and the inputs.
        phase, inputs, iterations, record: as for `CapturedPhase`.
    """
    kept = _captured.setdefault(network, OrderedDict())
    key = (settings, iterations, record, tuple(map(_form, inputs)), _network_key(network))
    found = kept.get(key)
    if found is None:
        found = kept[key] = CapturedPhase(phase, inputs, iterations, record)
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
    return found


def _form(tensor: Tensor) -> tuple[Hashable, ...]:
    return tensor.shape, tensor.dtype, tensor.device, tensor.stride()


def _network_key(network: HopfieldNetwork) -> Hashable:
    """Where the parameters lie, and the numbers that the activations hold."""
    parameters = tuple((p.data_ptr(), *_form(p)) for p in network.parameters())
    bounds = tuple(layer.activation.upper_bound for layer in network.layers)
    return parameters, bounds, tuple(id(edge.storage) for edge in network.edge_list())
