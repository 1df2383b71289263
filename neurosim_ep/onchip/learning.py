"""Learning on a chip: settling there, and updates that move its devices."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from neurosim_ep.crossbar import CrossbarNetwork
from neurosim_ep.learning import (
    Contrast,
    EquilibriumPropagation,
    Estimator,
    Phases,
    Report,
    accumulate_bias_contrast,
    accumulate_contrast,
    weighted_equilibria,
)
from neurosim_ep.models import Cost
from neurosim_ep.onchip.rule import Rule, Update
from neurosim_ep.onchip.tally import LineUse
from neurosim_ep.onchip.targets import OnPulses, Target, targets_of


class OnChipLearning(EquilibriumPropagation):
    """EP on a chip: every batch's weighted equilibria go to an update rule.

    Args:
        model: the chip.
        rule: how contrasts will be applied; those without a digital gradient need none.
        estimator, cost, phases, warm_start: as in `EquilibriumPropagation`.
        calibration_interval: the converters' ranges are set anew on a batch's own reads before
            every so many batches, and before batches 1, 2, 4, 8, ..., as weights grow fastest at
            the start; without effect where none is calibrated.

    Attributes:
        contrast: of the last batch; what `OnChipUpdates` applies.
        batches: learned from so far.
    """

    model: CrossbarNetwork

    def __init__(
        self,
        model: CrossbarNetwork,
        rule: Rule,
        estimator: Estimator,
        cost: Cost,
        phases: Phases,
        *,
        warm_start: bool = False,
        calibration_interval: int = 50,
    ) -> None:
        super().__init__(model, estimator, cost, phases, warm_start=warm_start)
        self.rule, self.calibration_interval = rule, calibration_interval
        self.contrast: Contrast | None = None
        self.batches = 0

    def step(
        self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> Report:
        """Settle one batch; the rule's update follows by `OnChipUpdates.step`."""
        card, number = self.model.array_card, self.batches
        due = number % self.calibration_interval == 0 or number & (number - 1) == 0
        if due and (card.forward or card.transposed):
            with self.model.calibrating():
                weighted_equilibria(
                    self.model,
                    images,
                    labels,
                    self.estimator,
                    cost=self.cost,
                    phases=self.phases,
                    generator=torch.Generator().manual_seed(generator.initial_seed()),
                )
        self.batches += 1
        return super().step(images, labels, generator)

    def learn(self, contrast: Contrast) -> None:
        """Hold the contrast for the rule, and leave the digital gradients in ``.grad``."""
        chip, self.contrast = self.model, contrast
        chip.zero_grad()
        if self.rule.digital_gradient:
            accumulate_contrast(chip, contrast.nudged, contrast.terms)
        else:
            accumulate_bias_contrast(chip, contrast.nudged, contrast.terms)
        for layer, row in chip.bias_rows.items():
            bias = chip.biases[layer - 1]
            if self.rule.digital_gradient and bias.grad is not None:
                row.weight.grad = bias.grad.view(1, -1)
            bias.grad = None


class OnChipUpdates:
    """Stands where the training loop has an optimiser: applies the rule to each batch's contrast.

    Args:
        method: whose contrasts are applied, by its rule.
        optimiser: of ``torch.optim``, over the groups of `on_chip_groups`; moves digital biases,
            says what rules with a digital gradient want, and carries the learning rates.
        seed: of whatever rules draw.
        image_time_s: time that passes per training image: devices drift while they learn.
        renew_interval: pairs that can only be pulsed up are renewed after every so many updates.
        renew_fraction: of the window, above which a device is renewed.
        on_pulses: is told the pulses of every target.

    Attributes:
        targets: what the rule moves.
        initial_spreads: standard deviation of each target's weights before the first update.
        initial_steps: largest mean change of each target's weights by one increment, likewise; 0
            where the rule does not pulse.

    Raises:
        ValueError: if the rule cannot move these devices.
    """

    def __init__(
        self,
        method: OnChipLearning,
        optimiser: Optimizer,
        *,
        seed: int = 0,
        image_time_s: float = 0.0,
        renew_interval: int = 10,
        renew_fraction: float = 0.75,
        on_pulses: OnPulses | None = None,
    ) -> None:
        self.method, self.rule, self.optimiser = method, method.rule, optimiser
        # The same list, whose learning rates a scheduler changes.
        self.param_groups: list[dict[str, Any]] = optimiser.param_groups
        self.seed, self.image_time_s, self.on_pulses = seed, image_time_s, on_pulses
        self.renew_interval, self.renew_fraction = renew_interval, renew_fraction
        self.targets: list[Target] = targets_of(method.model)
        device = method.model.biases[0].device
        self.uses = [LineUse.none(device) for _ in self.targets]
        self.updates = self.images = self.renewed = 0
        # Of the digital weights that the devices were first programmed to, and of their pulses.
        weights = [target.parameter.detach().double() for target in self.targets]
        self.initial_spreads = [float(weight.std(correction=0)) for weight in weights]
        self.initial_steps = [self._step_of(target) for target in self.targets]
        self.rule.attach(self.targets)

    def _step_of(self, target: Target) -> float:
        """Largest mean change of a weight by one increment; 0 where nothing is pulsed."""
        return float(target.storage.matrix.weight_step.max()) if self.rule.pulsed else 0.0

    @torch.no_grad()
    def step(self) -> None:
        """Apply the last batch's contrast."""
        chip, contrast = self.method.model, self.method.contrast
        assert contrast is not None
        self.method.contrast = None
        wanted = None
        if self.rule.digital_gradient:
            before = [target.parameter.clone() for target in self.targets]
            self.optimiser.step()
            wanted = [t.parameter - old for t, old in zip(self.targets, before, strict=True)]
        else:
            self.optimiser.step()
        self.rule.apply(
            Update(
                chip,
                self.targets,
                contrast,
                self.target_rates(),
                wanted,
                self.updates,
                self.seed,
                self.uses,
                self.on_pulses,
            )
        )
        self.updates += 1
        self.images += len(contrast.cost)
        if self.rule.pulsed and self.updates % self.renew_interval == 0:
            self.renewed += sum(
                target.storage.renew(self.renew_fraction)
                for target in self.targets
                if target.storage.matrix.one_sided
            )
        if self.image_time_s:
            seconds = self.image_time_s * len(contrast.cost)
            chip.advance_time(seconds, solve_wires=False)
            self.rule.advance_time(seconds)
        chip.read_bias_rows()

    def target_rates(self) -> list[float]:
        """Learning rate of every target at present."""
        rates = {id(p): group["lr"] for group in self.param_groups for p in group["params"]}
        return [float(rates[id(target.parameter)]) for target in self.targets]

    def record(self) -> dict[str, Any]:
        """Plain numbers that belong into a run's record."""
        scaling = [
            {
                "target": target.name,
                "weight_step": self._step_of(target),
                "largest_weight": float(target.storage.matrix.largest_weight.max()),
                "initial_weight_spread": spread,
            }
            for target, spread in zip(self.targets, self.initial_spreads, strict=True)
            if self.rule.pulsed
        ]
        return {
            "updates": self.updates,
            "pairs_renewed": self.renewed,
            "scaling": scaling,
            **self.rule.record(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, beside the chip."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "rule": self.rule.state_dict(),
            "updates": self.updates,
            "images": self.images,
            "renewed": self.renewed,
            "uses": [use.numbers() for use in self.uses],
            "batches": self.method.batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where the saved updates stood."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.param_groups = self.optimiser.param_groups
        self.rule.load_state_dict(state["rule"])
        self.updates, self.renewed = state["updates"], state["renewed"]
        self.images, device = state["images"], self.method.model.biases[0].device
        self.uses = [LineUse.of_numbers(numbers, device) for numbers in state["uses"]]
        self.method.batches = state["batches"]


def on_chip_groups(
    chip: CrossbarNetwork, weight_rates: list[float], bias_rates: list[float]
) -> list[dict[str, Any]]:
    """Parameter groups for the optimiser of `OnChipUpdates`: one per bias, then one per weight.

    Args:
        chip: its bias rows stand in for the biases that they hold.
        weight_rates: learning rate of every weight, in edge order.
        bias_rates: of every free layer's bias.
    """
    rows = chip.bias_rows
    biases: list[nn.Parameter] = [
        rows[layer].weight if layer in rows else chip.biases[layer - 1]
        for layer in chip.free_layers
    ]
    parameters = [*biases, *chip.weights]
    rates = [*bias_rates, *weight_rates]
    return [{"params": [p], "lr": rate} for p, rate in zip(parameters, rates, strict=True)]
