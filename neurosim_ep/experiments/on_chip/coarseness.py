"""Pulses that are too coarse for the weights that they move: told at the start, and when it fails.

The window's end stands for `weight_headroom` times the largest initial weight, so with few states
one pulse may change a weight by more than the initial weights differ.  Learning then replaces the
network by noise, and settling may run away.
"""

from neurosim_ep.config import Recipe
from neurosim_ep.onchip import OnChipUpdates


def coarse_pulses(recipe: Recipe, updates: OnChipUpdates) -> str | None:
    """One line, where a pulse is larger than an edge's initial weights are spread; else None.

    Args:
        recipe: with a table [on_chip].
        updates: of the training; the edge with the coarsest pulses is told.
    """
    assert recipe.on_chip is not None
    if not updates.rule.pulsed:
        return None
    found = [
        (step / spread, step, target.name)
        for target, step, spread in zip(
            updates.targets, updates.initial_steps, updates.initial_spreads, strict=True
        )
        if spread > 0.0 and target.name.startswith("edge")
    ]
    ratio, step, name = max(found, default=(0.0, 0.0, ""))
    if ratio <= 1.0:
        return None
    return (
        f"one pulse changes a weight of {name} by {step:.2g}, {ratio:.2g} standard deviations of "
        f"its initial weights: a smaller on_chip.weight_headroom ({recipe.on_chip.weight_headroom} "
        "now) or a card with more states helps"
    )


def explained(message: str, recipe: Recipe, updates: OnChipUpdates) -> str:
    """What ended a training on a chip, with what to change where it ran away.

    Args:
        message: of the error.
        recipe, updates: as in `coarse_pulses`.
    """
    if "diverges" not in message:
        return message
    reason = coarse_pulses(recipe, updates)
    return f"{message}; on the chip " + (
        reason or "a smaller learning.learning_rate or on_chip.weight_headroom helps"
    )
