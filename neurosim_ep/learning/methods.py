"""How a model learns from one batch: by equilibrium propagation or by backpropagation.

Both fill ``.grad`` and report what they saw; the training loop and ``torch.optim`` do the rest.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from neurosim_ep.learning.estimators import Estimator
from neurosim_ep.learning.gradients import (
    Contrast,
    Phases,
    accumulate_contrast,
    weighted_equilibria,
)
from neurosim_ep.models import Cost, FeedForward, HopfieldNetwork
from neurosim_ep.settling import States, settle


@dataclass(frozen=True)
class Report:
    """What one batch showed, per image (B,).

    Attributes:
        cost: C before the update.
        wrong: whether the largest output is not the label's.
        residual: of the free phase; None without settling.
        settled: whether the residual is within the tolerance; None without settling.
        departure: see `neurosim_ep.learning.departure`; None for one-sided estimators.
    """

    cost: Tensor
    wrong: Tensor
    residual: Tensor | None = None
    settled: Tensor | None = None
    departure: Tensor | None = None


class Method(Protocol):
    """A model together with the way it learns and answers."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Report:
        """Fill ``.grad`` from one batch.

        Args:
            images: prepared (B, *input shape).
            labels: class indices (B,).
            generator: on the CPU, of what the method draws.
        """

    def evaluate(self, images: Tensor, labels: Tensor) -> Report:
        """Answer one batch without learning.

        Args:
            images: prepared (B, *input shape).
            labels: class indices (B,).
        """

    def carried(self) -> list[Tensor] | None:
        """States that the next batch starts from, for a checkpoint; None if it starts at rest."""

    def carry(self, states: list[Tensor] | None) -> None:
        """Set the states that the next batch starts from."""


class EquilibriumPropagation:
    """EP on a Hopfield network.

    Args:
        model: the network.
        estimator: of the gradient.
        cost: pulls the output.
        phases: how the free and nudged phases settle.
        warm_start: start a batch's free phase where the last batch's nudged phase ended, as the
            paper's code does while training; evaluation always starts at rest.
    """

    def __init__(
        self,
        model: HopfieldNetwork,
        estimator: Estimator,
        cost: Cost,
        phases: Phases,
        *,
        warm_start: bool = False,
    ) -> None:
        self.model = model
        self.estimator, self.cost, self.phases = estimator, cost, phases
        self.warm_start = warm_start
        self._carried: list[Tensor] | None = None

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Report:
        """Free phase, nudged phases, contrast into ``.grad``."""
        start = self._carried
        if start is not None and start[0].shape[0] != images.shape[0]:
            start = None
        contrast = weighted_equilibria(
            self.model,
            images,
            labels,
            self.estimator,
            cost=self.cost,
            phases=self.phases,
            initial=start,
            generator=generator,
        )
        self.learn(contrast)
        if self.warm_start:
            self._carried = _last_phase(contrast)
        free = contrast.free
        return Report(
            contrast.cost, contrast.wrong, free.residual, free.settled, contrast.departure
        )

    def learn(self, contrast: Contrast) -> None:
        """Leave the gradient in every parameter's ``.grad``."""
        self.model.zero_grad()
        accumulate_contrast(self.model, contrast.nudged, contrast.terms)

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> Report:
        """Free phase from rest."""
        free = self.free_phase(images)
        targets = self.cost.targets(labels, self.model.num_outputs, images.dtype)
        value = self.cost.value(free.output, targets)
        return Report(value, free.output.argmax(1) != labels, free.residual, free.settled)

    def free_phase(self, images: Tensor) -> States:
        """The states that answer a batch of images."""
        return settle(
            self.model,
            images,
            iterations=self.phases.free_iterations,
            order=self.phases.order,
            tolerance=self.phases.tolerance,
            engine=self.phases.engine,
        )

    def carried(self) -> list[Tensor] | None:
        """States of the last batch, with a warm start."""
        return self._carried

    def carry(self, states: list[Tensor] | None) -> None:
        """Set the states that the next batch starts from."""
        self._carried = states


class Backpropagation:
    """Backpropagation through the feed-forward counterpart."""

    def __init__(self, model: FeedForward, cost: Cost) -> None:
        self.model, self.cost = model, cost

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Report:
        """Forward, backward."""
        self.model.train()
        self.model.zero_grad()
        report = self._report(images, labels)
        report.cost.mean().backward()  # type: ignore[no-untyped-call]
        return Report(report.cost.detach(), report.wrong)

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> Report:
        """Forward, with the running statistics of batch norm."""
        self.model.eval()
        return self._report(images, labels)

    def _report(self, images: Tensor, labels: Tensor) -> Report:
        output = self.model(images)
        targets = self.cost.targets(labels, output.shape[1], images.dtype)
        return Report(self.cost.value(output, targets), output.argmax(1) != labels)

    def carried(self) -> None:
        """Nothing is carried from batch to batch."""

    def carry(self, states: list[Tensor] | None) -> None:
        """Nothing is carried from batch to batch."""


def _last_phase(contrast: Contrast) -> list[Tensor]:
    """States of the phase with the largest beta: the one that the paper's code settles last."""
    betas = [complex(term.beta).real for term in contrast.terms]
    phase, count = betas.index(max(betas)), len(betas)
    states = [state.chunk(count)[phase] for state in contrast.nudged]
    # Copies: a checkpoint would store the other phases that a view shares its memory with.
    return [(state.real if state.is_complex() else state).clone() for state in states]
