"""Several processes that train one model together, each on its share of every batch.

``torchrun`` starts them.  All hold the same model and the same optimiser; each settles its own
images, and the gradients are summed before anything uses them, so every process makes the same
step.  The first process writes and speaks for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neurosim_ep.data import WHOLE, Share


class SharedError(ValueError):
    """What went wrong in one process, raised in all of them; the first tells the user."""


class Processes:
    """The processes of one training, seen from one of them; by default it is alone.

    Every method with a "Together" in its description must be called by all processes, in the same
    order; alone, none of them does or costs anything.

    Args:
        share: this process's rank and the number of processes.
        local_rank: this process among those of its machine, which gives it its GPU.
    """

    def __init__(self, share: Share = WHOLE, local_rank: int = 0) -> None:
        self.share, self.local_rank = share, local_rank
        self._gradients: dist.ProcessGroup | None = None
        self._flat: Tensor | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return self.share.count

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.share.rank == 0

    @property
    def alone(self) -> bool:
        """Whether it is the only one."""
        return self.share.count == 1

    def use(self, device: torch.device) -> None:
        """Together: sum gradients on this kind of device, by NCCL on GPUs where there is NCCL.

        Raises:
            SharedError: if one process is on a GPU and another is not.
        """
        if self.alone:
            return
        kinds = sorted(set(self.gathered(device.type)))
        if len(kinds) > 1:
            raise SharedError(
                f"run.device: {' and '.join(kinds)} together are not allowed; must be the same in "
                "all processes"
            )
        if device.type == "cuda":
            torch.cuda.set_device(device)
            if dist.is_nccl_available():
                self._gradients = dist.new_group(backend="nccl")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Together: what is done inside succeeds in all processes or ends all of them.

        Nothing inside may wait for the other processes.

        Raises:
            SharedError: in all processes, if there was a ValueError or OSError in any: the first
                one's message.
        """
        if self.alone:
            yield
            return
        problem = ""
        try:
            yield
        except (ValueError, OSError) as error:
            problem = str(error) or type(error).__name__
        failed = torch.tensor(int(bool(problem)))
        with _connected():
            dist.all_reduce(failed, dist.ReduceOp.MAX)
        if int(failed):
            problems = self.gathered(problem)
            rank = next(rank for rank, text in enumerate(problems) if text)
            where = "" if all(problems) else f" (process {rank} of 0 to {self.count - 1})"
            raise SharedError(problems[rank] + where)

    def decided(self, choice: bool) -> bool:
        """Together: the first process's choice."""
        if self.alone:
            return choice
        decision = torch.tensor(int(choice))
        with _connected():
            dist.broadcast(decision, 0)
        return bool(decision)

    def from_first(self, thing: Any) -> Any:
        """Together: what the first process gives, on the CPU; the others give anything."""
        if self.alone:
            return thing
        things = [thing if self.first else None]
        with _connected():
            dist.broadcast_object_list(things, 0)
        return things[0]

    def gathered(self, thing: Any) -> list[Any]:
        """Together: what each process gives, in their order."""
        if self.alone:
            return [thing]
        things: list[Any] = [None] * self.count
        with _connected():
            dist.all_gather_object(things, thing)
        return things

    def to_first(self, thing: Any) -> list[Any]:
        """Together: what each process gives, in their order, for the first; the others get none."""
        if self.alone:
            return [thing]
        things: list[Any] | None = [None] * self.count if self.first else None
        with _connected():
            dist.gather_object(thing, things, 0)
        return things or []

    def same_model(self, model: nn.Module) -> None:
        """Together: give every process the first one's parameters and buffers."""
        if self.alone:
            return
        state = self.from_first({name: value.cpu() for name, value in model.state_dict().items()})
        if not self.first:
            model.load_state_dict(state)

    def summed(self, numbers: Tensor) -> Tensor:
        """Together: the sum of what each process gives, in place; on the device of `use`."""
        if not self.alone:
            with _connected():
                dist.all_reduce(numbers, group=self._gradients)
        return numbers

    @torch.no_grad()
    def sum_gradients(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        """Together: replace each ``.grad`` by the weighted sum of all processes' gradients.

        They go through one buffer at once.  A parameter without a gradient counts as zero.

        Args:
            parameters: the same in all processes; those that need no gradient are left out.
            weight: of this process's gradient: its images over those of the whole batch, since
                gradients are means over the images that a process had.
        """
        if self.alone:
            return
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        flat = self._buffer(wanted)
        pieces = torch.split(flat, [p.numel() for p in wanted])
        for parameter, piece in zip(wanted, pieces, strict=True):
            if weight == 0.0 or parameter.grad is None:
                piece.zero_()
            else:
                piece.view_as(parameter).copy_(parameter.grad)
        flat *= weight
        self.summed(flat)
        for parameter, piece in zip(wanted, pieces, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(piece.view_as(parameter))

    def _buffer(self, parameters: list[nn.Parameter]) -> Tensor:
        """One number for each of the parameters' entries, kept from step to step."""
        dtype = reduce(torch.promote_types, (p.dtype for p in parameters))
        size, device = sum(p.numel() for p in parameters), parameters[0].device
        held = self._flat
        if held is None or (len(held), held.dtype, held.device) != (size, dtype, device):
            self._flat = held = torch.zeros(size, dtype=dtype, device=device)
        return held

    def wait(self) -> None:
        """Together: go on when all have come here."""
        self.gathered(None)


ALONE = Processes()
"""No other process takes part."""


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; alone where it started none or only this one.

    Read from the environment: RANK, WORLD_SIZE, LOCAL_RANK, and what ``torch.distributed`` itself
    needs to find the others.  They talk through gloo; `Processes.use` adds NCCL for gradients.

    Raises:
        ValueError: if the environment is not torchrun's.
        ConnectionError: if the others are not found.
    """
    count = process_count()
    if count == 1:
        yield ALONE
        return
    share = Share(_whole_number("RANK"), count)
    local_rank = _whole_number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else share.rank
    with _connected():
        dist.init_process_group("gloo")
    try:
        yield Processes(share, local_rank)
    finally:
        # After an error too: the others, who may wait for this process, see that it is gone.
        dist.destroy_process_group()


def process_count() -> int:
    """How many processes ``torchrun`` started, by its environment; 1 without it."""
    return _whole_number("WORLD_SIZE") if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


def _whole_number(variable: str) -> int:
    text = os.environ[variable]
    if not text.isdecimal():
        raise ValueError(
            f"{variable}: {text!r} is not allowed in the environment; must be a whole number"
        )
    return int(text)


@contextmanager
def _connected() -> Iterator[None]:
    """A process that is gone shows as a RuntimeError of whatever the others do next."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConnectionError(
            f"processes: the others cannot be reached, one may have ended ({reason}); what was "
            "saved can be resumed"
        ) from None
