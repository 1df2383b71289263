"""How far the nudged phases leave the free state's basin."""

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosim_ep.learning import CenteredEP, Estimator, HolomorphicEP, Term, departure

SHAPES = [(2, 3, 3), (4,), (3,)]
ESTIMATORS = [CenteredEP(0.1), *(HolomorphicEP(0.1, points) for points in (2, 3, 4, 5, 8))]


def draw(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((2, *s), generator=generator, dtype=torch.float64) for s in SHAPES]


def directly(free: list[Tensor], nudged: list[Tensor], terms: list[Term]) -> np.ndarray:
    """From a full circle of phases, with their conjugates written out."""
    found = []
    for image in range(2):
        start = np.concatenate([state[image].numpy().ravel() for state in free[1:]])
        changes = []
        for phase, term in enumerate(terms):
            parts = [state[2 * phase + image].numpy().ravel() for state in nudged[1:]]
            change = np.concatenate(parts) - start
            changes += [change] if term.multiplicity == 1 else [change, change.conj()]
        spread = np.sqrt(np.mean([np.sum(np.abs(change) ** 2) for change in changes]))
        found.append(np.linalg.norm(np.mean(changes, axis=0)) / spread)
    return np.array(found)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_it_equals_a_direct_computation(estimator: Estimator) -> None:
    terms, free = estimator.terms(), draw(0)
    is_complex = any(isinstance(term.beta, complex) for term in terms)
    nudged = [torch.cat([state] * len(terms)) for state in free]
    generator = torch.Generator().manual_seed(1)
    for layer in range(1, len(free)):
        moved = torch.randn(nudged[layer].shape, generator=generator, dtype=torch.float64)
        if is_complex:
            other = torch.randn(moved.shape, generator=generator, dtype=torch.float64)
            off_axis = torch.tensor([float(term.multiplicity == 2) for term in terms])
            off_axis = off_axis.double().repeat_interleave(2)
            other *= off_axis.view(-1, *(1,) * (other.dim() - 1))
            moved = torch.complex(moved, other)
        nudged[layer] = nudged[layer] + moved
    if is_complex:
        nudged[0] = nudged[0].to(torch.complex128)
    found = departure(free, nudged, terms)
    assert found.shape == (2,)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), directly(free, nudged, terms), rtol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_an_exactly_linear_response_has_none(estimator: Estimator) -> None:
    terms, free, change = estimator.terms(), draw(0), draw(1)
    nudged = [free[0]] + [
        torch.cat([state + term.beta * moved for term in terms])
        for state, moved in zip(free[1:], change[1:], strict=True)
    ]
    assert float(departure(free, nudged, terms).max()) < 1e-14


def test_one_of_two_phases_gone_elsewhere_is_one_over_root_two_for_its_image_alone() -> None:
    terms, free, change, elsewhere = CenteredEP(0.1).terms(), draw(0), draw(1), draw(2)
    nudged = []
    for state, moved, far in zip(free, change, elsewhere, strict=True):
        phases = [state + 1e-6 * term.beta * moved for term in terms]
        phases[1][0] = far[0]  # The first image of the second phase.
        nudged.append(torch.cat(phases))
    found = departure(free, nudged, terms)
    assert float(found[0]) == pytest.approx(2**-0.5, abs=1e-5)
    assert float(found[1]) < 1e-8


def test_both_phases_gone_to_the_same_place_is_one() -> None:
    free, elsewhere = draw(0), draw(2)
    found = departure(free, [torch.cat([far, far]) for far in elsewhere], CenteredEP(0.1).terms())
    torch.testing.assert_close(found, torch.ones(2, dtype=torch.float64))


def test_the_input_does_not_count_and_unmoved_states_have_none() -> None:
    free = draw(0)
    nudged = [torch.cat([state, state]) for state in free]
    nudged[0] = nudged[0] + 1.0
    assert departure(free, nudged, CenteredEP(0.1).terms()).tolist() == [0.0, 0.0]
