"""The contrast as outer products: both forms sum to the gradient, and cost what they should."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from neurosim_ep.learning import (
    CenteredEP,
    Form,
    HolomorphicEP,
    NegativeEP,
    PositiveEP,
    Term,
    accumulate_contrast,
    bias_factors,
    edge_products,
)
from neurosim_ep.models import Convolution, Dense, HopfieldNetwork, PooledConvolution, WeightStorage

NETWORKS = ["mlp", "graph", "vgg5", "hopfield_resnet13", "identity skips"]
FORMS: list[Form] = ["hebbian", "difference"]
TERMS = {
    "centered": CenteredEP(0.1).terms(),
    "positive": PositiveEP(0.3).terms(),
    "negative": NegativeEP(0.02).terms(),
    "three": [Term(0.7, 0.1), Term(-1.1, 0.2), Term(0.4, -0.3)],
    "four": [Term(-0.2, 0.1), Term(0.7, 0.0), Term(-1.0, 0.2), Term(0.5, -0.3)],
}
BATCH = 3


def equilibria(
    network: HopfieldNetwork, phases: int, *, spread: float = 1.0, dtype: torch.dtype
) -> list[Tensor]:
    """Positive states that differ between phases by about the spread; the input does not."""
    generator = torch.Generator().manual_seed(5)
    states = []
    for number, layer in enumerate(network.layers):
        common = torch.rand((BATCH, *layer.shape), generator=generator, dtype=torch.float64)
        apart = torch.randn((phases, *common.shape), generator=generator, dtype=torch.float64)
        states.append((common + (spread if number else 0.0) * apart).flatten(0, 1).to(dtype))
    return states


def gradients(
    network: HopfieldNetwork, states: Sequence[Tensor], terms: Sequence[Term]
) -> tuple[list[Tensor], list[Tensor]]:
    """Of biases and of weights, by `accumulate_contrast`, which other tests check by autograd."""
    network.zero_grad()
    accumulate_contrast(network, states, terms)
    found = [parameter.grad.clone() for parameter in (*network.biases, *network.weights)]
    return found[: len(network.biases)], found[len(network.biases) :]


def summed(
    network: HopfieldNetwork,
    states: Sequence[Tensor],
    terms: Sequence[Term],
    form: Form,
    *,
    absolute: bool = False,
) -> list[Tensor]:
    """Per weight, minus the sum of all outer products, or the sum of their magnitudes."""
    totals = []
    for _, edge, products in edge_products(network, states, terms, form):
        if not isinstance(edge.storage, WeightStorage):
            continue
        total = torch.zeros_like(edge.storage.weight)
        for pre, post in products:
            pair = (pre.abs(), post.abs()) if absolute else (pre, post)
            for a, b in zip(*pair, strict=True):
                total = total + edge.geometry.correlation(a.unsqueeze(0), b.unsqueeze(0))
        totals.append(total if absolute else -total)
    return totals


def test_the_networks_have_every_kind_of_edge(problem: Callable) -> None:
    kinds = {type(edge.geometry) for name in NETWORKS for edge in problem(name).network.edge_list()}
    assert {Dense, Convolution, PooledConvolution} <= kinds


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_both_forms_sum_to_the_gradient(
    problem: Callable, errors: Callable, name: str, terms: list[Term]
) -> None:
    # 1e-12: sums of some hundred products of order 1 in float64; coefficients of up to 50 cancel.
    network = problem(name).network
    states = equilibria(network, len(terms), dtype=torch.float64)
    biases, weights = gradients(network, states, terms)
    for form in FORMS:
        assert max(errors(summed(network, states, terms, form), weights)) < 1e-12
        found = []
        for layer in network.free_layers:
            total = torch.stack(bias_factors(states, terms, layer, form)).sum(0)
            found.append(-total.sum([0, *range(2, total.dim())]))
        assert max(errors(found, biases)) < 1e-12


@pytest.mark.parametrize("terms", [TERMS["centered"], TERMS["three"]], ids=["two", "three"])
@pytest.mark.parametrize("name", ["mlp", "hopfield_resnet13"])
def test_only_the_difference_form_shrinks_with_the_contrast(
    problem: Callable, name: str, terms: list[Term]
) -> None:
    # Magnitudes of all products together are the pulses that a device gets.  Without pooled edges:
    # where a winner changes between phases, the difference is as large as the states.
    network = problem(name).network
    pulses = {}
    for form in FORMS:
        for spread in (1e-2, 1e-3):
            states = equilibria(network, len(terms), spread=spread, dtype=torch.float64)
            found = summed(network, states, terms, form, absolute=True)
            pulses[form, spread] = torch.stack([total.sum() for total in found])
    shrinks = pulses["difference", 1e-2] / pulses["difference", 1e-3]
    # 15 %: the common part of the states is not large against a spread of 1e-2 everywhere.
    torch.testing.assert_close(shrinks, torch.full_like(shrinks, 10.0), rtol=0.15, atol=0.0)
    stays = pulses["hebbian", 1e-2] / pulses["hebbian", 1e-3]
    torch.testing.assert_close(stays, torch.ones_like(stays), rtol=0.05, atol=0.0)
    assert bool((pulses["hebbian", 1e-3] > 100.0 * pulses["difference", 1e-3]).all())


def test_the_difference_form_keeps_the_digits_in_float32(
    problem: Callable, errors: Callable
) -> None:
    network, terms = problem("mlp").network, TERMS["centered"]
    states = equilibria(network, 2, spread=1e-4, dtype=torch.float32)
    biases, weights = gradients(network, [state.double() for state in states], terms)
    for layer, wanted in zip(network.free_layers, biases, strict=True):
        found = {
            form: -torch.stack([f.sum(0) for f in bias_factors(states, terms, layer, form)]).sum(0)
            for form in FORMS
        }
        errors_of = {form: errors([total], [wanted.float()])[0] for form, total in found.items()}
        assert errors_of["difference"] < 1e-6
        assert errors_of["hebbian"] > 20.0 * errors_of["difference"]
    network.float()
    try:
        found = {form: summed(network, states, terms, form) for form in FORMS}
    finally:
        network.double()
    wanted = [weight.float() for weight in weights]
    assert max(errors(found["difference"], wanted)) < 1e-5
    assert max(errors(found["hebbian"], wanted)) > 20.0 * max(errors(found["difference"], wanted))


@pytest.mark.parametrize("form", FORMS)
def test_complex_equilibria_sum_to_the_gradient_too(
    problem: Callable, errors: Callable, form: Form
) -> None:
    network, terms = problem("mlp").network, HolomorphicEP(0.2, 4).terms()
    # Real nudgings have real states, and the input is real.
    off_axis = torch.tensor([complex(term.beta).imag != 0.0 for term in terms])
    states = [
        torch.complex(state, 0.1 * state.flip(0) * off_axis.repeat_interleave(BATCH)[:, None])
        for state in equilibria(network, len(terms), dtype=torch.float64)[1:]
    ]
    images = equilibria(network, len(terms), dtype=torch.float64)[0]
    states = [torch.complex(images, torch.zeros_like(images)), *states]
    _, weights = gradients(network, states, terms)
    found = []
    for _, _, products in edge_products(network, states, terms, form):
        total = torch.zeros((), dtype=torch.complex128)
        for pre, post in products:
            pre, post = pre.to(torch.complex128), post.to(torch.complex128)
            total = total + torch.einsum("ba,bc->ac", pre.flatten(1), post)
        found.append(-total.real)
    wanted = [weight.view(found[place].shape) for place, weight in enumerate(weights)]
    assert max(errors(found, wanted)) < 1e-12
