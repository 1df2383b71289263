"""How the settling loop uses the machine: precision, acceleration, capture, and when it looks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from neurosim_ep._toml_text import problem

PRECISIONS = ("full", "tf32", "bfloat16", "float16")
"""What exact edges may multiply in."""

ACCELERATIONS = ("none", "overrelaxed")
"""How far a layer moves in one update."""

CAPTURES = ("auto", "none")
"""Whether whole phases are replayed as CUDA graphs."""

FUSIONS = ("none", "compiled")
"""Whether a layer's additions and clips are one kernel."""

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Looking at the residual costs a GPU's host a wait, and the CPU a pass over the states.
_CHECK_INTERVAL = {"cpu": 1, "cuda": 10}


@dataclass(frozen=True)
class Engine:
    """What changes the time, memory and rounding of a settling, but not its equilibrium.

    Attributes:
        precision: of what exact edges multiply: ``full`` is the states' own (TF32 off), ``tf32``
            needs a GPU of compute capability 8.0, ``bfloat16`` and ``float16`` also round the
            currents of each single read.  States, biases, input currents and the sums over reads
            keep the states' precision.
        acceleration: ``overrelaxed`` moves every layer beyond its update, `RELAXATION` times as
            far.
        capture: ``auto`` replays each phase as one CUDA graph where all edges are exact and on a
            GPU (written without one: no capture has run on a GPU yet); ``none`` launches every
            operation.
        check_interval: iterations between two looks at the residual where a tolerance is given;
            None is 1 on a CPU and 10 on a GPU, where it is looked at one interval late, without
            waiting.
        fusion: ``compiled`` adds, nudges, clips and over-relaxes each layer's currents in one
            kernel of torch.compile, which reads every current once; activations must clip.  The
            first settling compiles for seconds, and needs Triton on a GPU or a C++ compiler.
    """

    precision: str = "full"
    acceleration: str = "none"
    capture: str = "none"
    check_interval: int | None = None
    fusion: str = "none"

    def __post_init__(self) -> None:
        for field, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("acceleration", self.acceleration, ACCELERATIONS),
            ("capture", self.capture, CAPTURES),
            ("fusion", self.fusion, FUSIONS),
        ):
            if value not in allowed:
                raise ValueError(problem(field, value, f"one of {', '.join(allowed)}"))
        if self.check_interval is not None and self.check_interval < 1:
            raise ValueError(problem("check_interval", self.check_interval, "at least 1"))

    @property
    def read_dtype(self) -> torch.dtype | None:
        """What weights and driven states are cast to; None where they stay."""
        return _HALF.get(self.precision)

    def interval(self, device: torch.device) -> int:
        """Iterations between two looks at the residual."""
        return self.check_interval or _CHECK_INTERVAL.get(device.type, 1)

    def check_device(self, device: torch.device) -> None:
        """Refuse what the device cannot do.

        Raises:
            ValueError: for TF32 elsewhere than on a GPU that has it.
        """
        if self.precision != "tf32":
            return
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
            allowed = f"full, bfloat16 or float16 on this device ({device}), which has no TF32"
            raise ValueError(problem("precision", self.precision, allowed))


@contextmanager
def products(engine: Engine, device: torch.device) -> Iterator[None]:
    """Switch a GPU's TF32 products on or off, as the engine says, and back again."""
    if device.type != "cuda":
        yield
        return
    switches: Sequence[object] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [getattr(switch, "allow_tf32") for switch in switches]  # noqa: B009
    try:
        for switch in switches:
            setattr(switch, "allow_tf32", engine.precision == "tf32")  # noqa: B010
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, "allow_tf32", value)  # noqa: B010
