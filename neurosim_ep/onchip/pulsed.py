"""Outer products pulsed in place: no weight and no gradient is ever held outside the array."""

import torch

from neurosim_ep.crossbar import CrossbarMatrix
from neurosim_ep.learning import Form, Product
from neurosim_ep.onchip.rule import Rule, Update
from neurosim_ep.onchip.targets import Target, target_products
from neurosim_ep.onchip.trains import Counts, Trains, summed_counts


class Pulsed(Rule):
    """Every product of the contrast is sent to the array as trains of pulses.

    Args:
        form: ``hebbian`` applies every weighted equilibrium by itself, Hebbian at +beta and
            anti-Hebbian at -beta: neurons remember nothing, and nearly all pulses cancel;
            ``difference`` applies the same contrast as products of a mean with a difference:
            neurons keep one phase's state, and pulses shrink with the nudging.
        trains: how products become pulses.

    The pulses of a batch reach a device in random order, as they do where images follow one
    another; the batch settles at the weights from before all of them.
    """

    def __init__(self, form: Form = "difference", trains: Trains | None = None) -> None:
        self.form, self.trains = form, trains or Trains()

    @torch.no_grad()
    def apply(self, update: Update) -> None:
        """Send the trains of all products."""
        products = target_products(update.chip, update.contrast, self.form)
        for place, (target, pairs) in enumerate(zip(update.targets, products, strict=True)):
            rate = update.rates[place]
            counts = product_counts(
                target, pairs, rate, self.trains, update.generator("trains", place)
            )
            update.pulse(place, counts.up, counts.down, counts.use)


def product_counts(
    target: Target,
    products: list[Product],
    rate: float,
    trains: Trains,
    generator: torch.Generator,
    matrix: CrossbarMatrix | None = None,
) -> Counts:
    """Pulses of all products of a target, whose sum times the rate is the wanted change.

    Args:
        target: gives the geometry.
        products, rate, trains: what is sent, and how.
        generator: of the trains.
        matrix: whose devices are pulsed, as in `Target.demand`.
    """
    factors = [(pre, target.demand(post, rate, matrix)) for pre, post in products]
    return summed_counts(target.geometry, factors, trains, generator)
