"""Several outer products whose pulses are counted together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neurosim_ep.models import Dense
from neurosim_ep.onchip.trains import Kind, Trains, pulse_counts, summed_counts

GEOMETRY, LONGEST, DRAWS = Dense((3,), (4,)), 6, 800


def factors(seed: int, sign: float) -> tuple[Tensor, Tensor]:
    """Two images, asking for trains of different length; a sign of 0 leaves all signs."""
    generator = torch.Generator().manual_seed(seed)
    pre = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    demand = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    if sign:
        pre, demand = pre.abs(), sign * demand.abs()
    return pre, demand * torch.tensor([[0.4], [2.0]])


def moments(products: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and variance of up and of down pulses (2, 3, 4), train by train."""
    mean, variance = torch.zeros(2, 2, 3, 4, dtype=torch.float64)
    for pre, demand in products:
        for x, d in zip(pre, demand, strict=True):
            asked = float(x.abs().max() * d.abs().max())
            slots = min(max(math.ceil(asked), 1), LONGEST)
            share = math.sqrt(asked / slots)
            p = torch.outer(
                (x.abs() / x.abs().max() * share).clamp(max=1.0),
                (d.abs() / d.abs().max() * share).clamp(max=1.0),
            )
            for side, here in enumerate((torch.outer(x, d) > 0.0, torch.outer(x, d) < 0.0)):
                mean[side] += slots * p * here
                variance[side] += slots * p * (1.0 - p) * here
    return mean, variance


@pytest.mark.parametrize("kind", ["mean_field", "stochastic"])
@pytest.mark.parametrize("signs", [(1.0, -1.0), (-1.0, -1.0), (0.0, 1.0), (0.0, 0.0)])
def test_products_add_their_means_and_variances(kind: Kind, signs: tuple[float, float]) -> None:
    products = [factors(seed, sign) for seed, sign in enumerate(signs)]
    mean, variance = moments(products)
    generator, trains = torch.Generator().manual_seed(5), Trains(kind, LONGEST)
    drawn = []
    for _ in range(DRAWS):
        counts = summed_counts(GEOMETRY, products, trains, generator)
        drawn.append(torch.stack([counts.up, counts.down]))
    found = torch.stack(drawn)
    assert torch.equal(found, found.round())
    assert ((found == 0.0).all(0) == (mean < 1e-9)).all()
    error = (variance / DRAWS).sqrt()
    assert ((found.mean(0) - mean).abs() <= 5.0 * error + 1e-12).all()
    squares = (found - mean) ** 2
    error = squares.std(0) / math.sqrt(DRAWS)
    # A binomial's whole number of trials adds up to mean^2 / n - mean^2 / ceil(n) in mean field.
    whole = (mean - variance).clamp(min=0.0)
    assert (squares.mean(0) > variance - 5.0 * error - 1e-12).all()
    assert (squares.mean(0) < variance + whole + 5.0 * error + 1e-12).all()


def test_deterministic_trains_together_are_the_sum_of_each() -> None:
    products = [factors(3, 0.0), factors(4, 1.0)]
    trains, generator = Trains("deterministic", LONGEST), torch.Generator()
    single = [pulse_counts(GEOMETRY, *pair, trains, generator) for pair in products]
    both = summed_counts(GEOMETRY, products, trains, generator)
    assert torch.equal(both.up, single[0].up + single[1].up)
    assert torch.equal(both.down, single[0].down + single[1].down)
    use = [one.use.numbers() for one in single]
    assert both.use.numbers() == [a + b for a, b in zip(*use, strict=True)]
    assert both.up.sum() > 0.0
    assert both.down.sum() > 0.0
