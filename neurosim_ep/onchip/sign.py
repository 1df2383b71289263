"""The threshold (Manhattan) rule: one pulse or none, by the gradient's sign."""

import torch

from neurosim_ep.onchip.rule import Rule, Update


class Sign(Rule):
    """One pulse against the gradient's sign where it asks for enough of a step.

    Per batch and device at most one pulse, and no memory: what stays below the threshold is lost,
    and what goes beyond a step is cut (Zamanidoost et al., Manhattan rule training for memristive
    crossbar circuit pattern classifiers, WISP 2015).

    Args:
        threshold_steps: pulse where ``learning rate |gradient|`` is at least this many steps.

    Raises:
        ValueError: for a threshold that is not above 0.
    """

    digital_gradient = True
    bytes_per_weight = 4.0  # the gradient, summed over the batch

    def __init__(self, threshold_steps: float = 0.5) -> None:
        if not threshold_steps > 0.0:
            raise ValueError(f"threshold_steps: {threshold_steps} is not allowed; must be above 0")
        self.threshold_steps = threshold_steps

    @torch.no_grad()
    def apply(self, update: Update) -> None:
        """Compare, and pulse."""
        assert update.wanted is not None
        for place, (target, wanted) in enumerate(zip(update.targets, update.wanted, strict=True)):
            enough = wanted.abs() >= self.threshold_steps * target.step
            update.pulse_by(place, wanted.sign() * enough)
