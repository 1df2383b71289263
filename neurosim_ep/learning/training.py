"""The training loop: epochs of batches, resumable after any batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from neurosim_ep.data import Batches, derive_seed
from neurosim_ep.learning.batch_norm import share_batch_norms
from neurosim_ep.learning.methods import Method
from neurosim_ep.learning.parallel import ALONE, Processes
from neurosim_ep.learning.totals import Summary, Totals

OnBatch = Callable[["Training"], None]


class Updates(Protocol):
    """What follows every batch: an optimiser of ``torch.optim``, or an on-chip rule's updates."""

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Apply what the batch left."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers that the next step depends on."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Stand where the saved updates stood."""


class Training:
    """A model in training: what one more batch needs, and what a checkpoint must hold.

    Args:
        method: the model and how it learns.
        optimiser: any of ``torch.optim`` over the model's parameters, or what stands for one.
        batches: the training images; order and augmentation depend on seed, epoch and batch alone.
        scheduler: stepped after every epoch, without metrics.
        clip_norm: scale all gradients down together to this global norm where it is larger.
        seed: of whatever else is drawn while training (the sign of random-sign EP).
        processes: those that train the same model, each on its share of the batches; all of them
            call all methods. Batch norms of the model are replaced by shared ones.

    Attributes:
        epoch: epochs done.
        batch: batches done in the present epoch.
        totals: of the present epoch, of this process's images.

    Raises:
        ValueError: if the batches are not those of this process, or hold fewer images than there
            are processes (with batch norm, the last batch too).
    """

    def __init__(
        self,
        method: Method,
        optimiser: Updates,
        batches: Batches,
        *,
        scheduler: LRScheduler | None = None,
        clip_norm: float | None = None,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        self.method, self.optimiser, self.batches = method, optimiser, batches
        self.scheduler, self.clip_norm, self.seed = scheduler, clip_norm, seed
        self.processes = processes
        if batches.share != processes.share:
            raise ValueError(
                f"batches: {batches.share} is not allowed; must be {processes.share}, this "
                "process's share"
            )
        if batches.batch_size < processes.count:
            raise ValueError(
                f"batch_size: {batches.batch_size} is not allowed with {processes.count} "
                f"processes; must be at least {processes.count}"
            )
        if not processes.alone and share_batch_norms(method.model, processes):
            last = batches.images_in(len(batches) - 1)
            if last < processes.count:
                raise ValueError(
                    f"batch_size: {batches.batch_size} is not allowed with batch norm and "
                    f"{processes.count} processes; must leave none of them without one of the "
                    f"last batch's {last} images"
                )
        self.epoch = 0
        self.batch = 0
        self.totals = Totals()

    def run_epoch(self, on_batch: OnBatch | None = None) -> Summary:
        """Train to the end of the present epoch, from wherever it stands.

        Args:
            on_batch: called after every batch, when the training may be saved.

        Raises:
            ValueError: if the settling or the cost diverges.
        """
        parameters = list(self.method.model.parameters())
        for images, labels in self.batches.epoch(self.epoch, self.batch):
            draw = torch.Generator().manual_seed(
                derive_seed(self.seed, self.epoch, self.batch, "estimator")
            )
            self._step(images, labels, draw)
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            self.optimiser.step()
            self.batch += 1
            if on_batch is not None:
                on_batch(self)
        summary = _summary(self.totals, self.processes)
        if self.scheduler is not None:
            with warnings.catch_warnings():
                # Resumed after an epoch's last batch, the optimiser has not stepped here yet.
                warnings.filterwarnings("ignore", message=".*lr_scheduler.step")
                self.scheduler.step()
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, Totals()
        self.method.carry(None)
        return summary

    def _step(self, images: Tensor, labels: Tensor, draw: torch.Generator) -> None:
        """The whole batch's gradient into ``.grad``, from this process's images and the others'."""
        size = self.batches.images_in(self.batch)
        if len(images) < size < self.batches.batch_size:
            # Where the whole batch would start at rest, a share of unchanged size must too.
            self.method.carry(None)
        with self.processes.together():
            if len(images):
                self.totals.add(self.method.step(images, labels, draw))
        self.processes.sum_gradients(self.method.model.parameters(), len(images) / size)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next batch depends on: tensors and plain numbers.

        Of several processes the first one's is whole: it can be loaded by any number of them.
        """
        totals = self.processes.gathered(self.totals.state_dict())
        return {
            "model": self.method.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "carried": self._carried(),
            "totals": totals[0] if self.processes.alone else totals,
            "epoch": self.epoch,
            "batch": self.batch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where the saved training stood; each process takes its share of a whole state."""
        device = next(self.method.model.parameters()).device
        self.method.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        carried: list[Tensor] | None = state["carried"]
        if carried is not None:
            rows = self.processes.share.rows(len(carried[0]))
            carried = [t[rows].to(device) for t in carried]
        self.method.carry(carried)
        totals = state["totals"] if isinstance(state["totals"], list) else [state["totals"]]
        if len(totals) == self.processes.count:
            self.totals.load_state_dict(totals[self.processes.share.rank], device)
        else:
            whole = Totals.merged(totals if self.processes.first else [])
            self.totals.load_state_dict(whole.state_dict(), device)
        self.epoch, self.batch = state["epoch"], state["batch"]

    def _carried(self) -> list[Tensor] | None:
        """Carried states of the whole batch."""
        mine = self.method.carried()
        if self.processes.alone:
            return mine
        shares = self.processes.to_first(mine and [state.cpu() for state in mine])
        held = [share for share in shares if share is not None]
        return [torch.cat(states) for states in zip(*held, strict=True)] or None


def evaluate(
    method: Method, batches: Iterable[tuple[Tensor, Tensor]], processes: Processes = ALONE
) -> Summary:
    """Answer all batches without learning.

    Args:
        method: answers.
        batches: those of this process.
        processes: whose answers are summed.

    Raises:
        ValueError: if there is no batch, or the settling diverges.
    """
    totals = Totals()
    with processes.together():
        for images, labels in batches:
            if len(images):
                totals.add(method.evaluate(images, labels))
    return _summary(totals, processes)


def _summary(totals: Totals, processes: Processes) -> Summary:
    """Means over the images of all processes."""
    if processes.alone:
        return totals.summary()
    shares = processes.gathered(totals.state_dict())
    with processes.together():
        return Totals.merged(shares).summary()


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a training.

    Attributes:
        epoch: counted from 1.
        train: while the weights changed, on augmented images.
        validation, test: after the epoch; None where there is no such split.
        learning_rate: of the first parameter group, during the epoch.
        seconds: training and evaluation together.
    """

    epoch: int
    train: Summary
    validation: Summary | None
    test: Summary | None
    learning_rate: float
    seconds: float
