"""The contrast between equilibria against the plain formula by autograd of the energy."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from neurosim_ep.learning import (
    CenteredEP,
    HolomorphicEP,
    NegativeEP,
    PositiveEP,
    Term,
    accumulate_contrast,
)
from neurosim_ep.models import HopfieldNetwork, vgg5

NETWORKS = ["mlp", "graph", "vgg5", "hopfield_resnet13", "identity skips"]
BATCH = 3


def random_states(
    network: HopfieldNetwork, terms: Sequence[Term], seed: int, spread: float = 1.0
) -> list[Tensor]:
    """Unsettled states, complex where beta is; the input is the same in all phases."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn((BATCH, *shape), generator=generator, dtype=torch.float64)

    holomorphic = any(isinstance(term.beta, complex) for term in terms)
    states = []
    for index, layer in enumerate(network.layers):
        common, phases = draw(layer.shape), []
        for term in terms:
            phase = common
            if index:
                phase = phase + spread * draw(layer.shape)
            if holomorphic:
                imaginary = draw(layer.shape) if index else torch.zeros_like(common)
                off_axis = spread * float(isinstance(term.beta, complex))
                phase = torch.complex(phase, off_axis * imaginary)
            phases.append(phase)
        states.append(torch.cat(phases))
    return states


def plain_form(
    network: HopfieldNetwork, states: Sequence[Tensor], terms: Sequence[Term]
) -> list[Tensor]:
    """sum_k c_k dE/dtheta(s_k), its real part, the mean over the batch."""
    total = torch.zeros((), dtype=states[-1].real.dtype)
    for phase, term in enumerate(terms):
        energy = network.energy([state.chunk(len(terms))[phase] for state in states])
        weighted = energy * term.coefficient
        total = total + (weighted.real if weighted.is_complex() else weighted).mean()
    return list(torch.autograd.grad(total, list(network.parameters())))


def contrast_of(
    network: HopfieldNetwork, states: Sequence[Tensor], terms: Sequence[Term]
) -> list[Tensor]:
    network.zero_grad()
    accumulate_contrast(network, states, terms)
    return [parameter.grad.clone() for parameter in network.parameters()]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "terms",
    [
        CenteredEP(0.1).terms(),
        PositiveEP(0.3).terms(),
        NegativeEP(0.02).terms(),
        [Term(0.7, 0.1), Term(-1.1, 0.2), Term(0.4, -0.3)],
        [Term(-0.2, 0.1), Term(0.7, 0.0), Term(-1.0, 0.2), Term(0.5, -0.3)],
    ],
    ids=["centered", "positive", "negative", "three", "four"],
)
def test_real_terms_equal_the_plain_formula(problem, errors, name: str, terms: list[Term]) -> None:
    network = problem(name).network
    for seed in range(2):
        states = random_states(network, terms, seed)
        found, wanted = contrast_of(network, states, terms), plain_form(network, states, terms)
        assert max(errors(found, wanted)) < 1e-11


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("points", [3, 4, 5, 6, 8])
def test_complex_terms_equal_the_plain_formula(problem, errors, name: str, points: int) -> None:
    network, terms = problem(name).network, HolomorphicEP(0.2, points).terms()
    states = random_states(network, terms, seed=points)
    found, wanted = contrast_of(network, states, terms), plain_form(network, states, terms)
    assert max(errors(found, wanted)) < 1e-11


@pytest.mark.parametrize("points", [3, 4, 6])
def test_half_the_circle_equals_the_whole_circle(problem, errors, points: int) -> None:
    network, terms = problem("graph").network, HolomorphicEP(0.2, points).terms()
    states = random_states(network, terms, seed=points)
    circle, phases = [], []
    for phase, term in enumerate(terms):
        here = [state.chunk(len(terms))[phase] for state in states]
        share = complex(term.coefficient) / term.multiplicity
        circle.append(Term(share, complex(term.beta)))
        phases.append(here)
        if term.multiplicity == 2:
            circle.append(Term(share.conjugate(), complex(term.beta).conjugate()))
            phases.append([state.conj().resolve_conj() for state in here])
    assert len(circle) == points
    assert abs(sum(term.coefficient for term in circle)) < 1e-12
    whole = [torch.cat(tensors) for tensors in zip(*phases, strict=True)]
    wanted = plain_form(network, whole, circle)
    assert max(errors(contrast_of(network, states, terms), wanted)) < 1e-11
    assert max(errors(contrast_of(network, whole, circle), wanted)) < 1e-11


@pytest.mark.parametrize("points", [2, 4])
def test_the_contrast_is_added_to_the_gradient(problem, errors, points: int) -> None:
    network, terms = problem("graph").network, HolomorphicEP(0.2, points).terms()
    first, second = (random_states(network, terms, seed) for seed in (0, 1))
    wanted = [
        a + b
        for a, b in zip(
            contrast_of(network, first, terms), contrast_of(network, second, terms), strict=True
        )
    ]
    network.zero_grad()
    accumulate_contrast(network, first, terms)
    accumulate_contrast(network, second, terms)
    found = [parameter.grad for parameter in network.parameters()]
    assert max(errors(found, wanted)) < 1e-12


@pytest.mark.parametrize(
    "terms",
    [CenteredEP(0.1).terms(), HolomorphicEP(0.1, 4).terms()],
    ids=["two phases", "four points"],
)
def test_differences_keep_the_digits_that_the_plain_formula_loses(
    errors, terms: list[Term]
) -> None:
    network = vgg5(1, 3, (2, 3, 2, 3), image_size=16).double()
    states = random_states(network, terms, seed=0, spread=1e-4)
    kinds = {False: torch.float32, True: torch.complex64}
    rounded = [state.to(kinds[state.is_complex()]) for state in states]
    exact_states = [
        state.to(torch.complex128 if state.is_complex() else torch.float64) for state in rounded
    ]
    exact = plain_form(network, exact_states, terms)
    network.float()
    differences = errors(contrast_of(network, rounded, terms), exact)
    plain = errors(plain_form(network, rounded, terms), exact)
    network.double()
    assert max(differences) < 1e-4
    assert max(plain) > 20.0 * max(differences)
