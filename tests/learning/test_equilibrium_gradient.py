"""One EP gradient: phases, reads, initial states, and what is returned."""

from dataclasses import replace

import pytest
import torch

from neurosim_ep.learning import (
    CenteredEP,
    Estimator,
    HolomorphicEP,
    NegativeEP,
    Phases,
    PositiveEP,
    accumulate_contrast,
    equilibrium_gradient,
)
from neurosim_ep.settling import settle, settle_nudged

NETWORKS = ["mlp", "graph", "vgg5", "hopfield_resnet13"]
SHORT = Phases(30, 12)


def run(problem, estimator: Estimator, phases: Phases = SHORT, **options):
    return equilibrium_gradient(
        problem.network,
        problem.images,
        problem.labels,
        estimator,
        cost=problem.cost,
        phases=phases,
        **options,
    )


@pytest.mark.parametrize("order", ["coloured", "asynchronous", "synchronous"])
@pytest.mark.parametrize(
    ("name", "activation", "estimator"),
    [
        ("mlp", "relu_alpha", PositiveEP(0.2)),
        ("graph", "relu_alpha", CenteredEP(0.2)),
        ("vgg5", "relu_alpha", NegativeEP(0.2)),
        ("hopfield_resnet13", "relu_alpha", CenteredEP(0.2)),
        ("graph", "sigmoid", HolomorphicEP(0.2, 4)),
    ],
)
def test_phases_in_one_batch_equal_separate_phases(
    problem, errors, name: str, activation: str, estimator: Estimator, order: str
) -> None:
    given, terms = problem(name, activation), estimator.terms()
    contrast = run(given, estimator, replace(SHORT, order=order))
    found = given.gradients()
    free = settle(given.network, given.images, iterations=30, order=order)
    for kept, alone in zip(contrast.free, free, strict=True):
        torch.testing.assert_close(kept, alone, rtol=0.0, atol=0.0)
    targets = torch.eye(3, dtype=torch.float64)[given.labels]
    separate = [
        settle_nudged(
            given.network, free, targets, [term.beta], given.cost, iterations=12, order=order
        )
        for term in terms
    ]
    for layer, together in enumerate(contrast.nudged):
        for phase, states in zip(together.chunk(len(terms)), separate, strict=True):
            torch.testing.assert_close(phase, states[layer].to(phase.dtype), rtol=0.0, atol=1e-12)
    given.network.zero_grad()
    stacked = [
        torch.cat([states[layer].to(together.dtype) for states in separate])
        for layer, together in enumerate(contrast.nudged)
    ]
    accumulate_contrast(given.network, stacked, terms)
    assert max(errors(found, given.gradients())) < 1e-9


@pytest.mark.parametrize(
    ("name", "activation", "estimator"),
    [
        *((name, "relu_alpha", CenteredEP(0.1)) for name in [*NETWORKS, "identity skips"]),
        ("graph", "relu_alpha", PositiveEP(0.1)),
        ("graph", "sigmoid", HolomorphicEP(0.1, 6)),
        ("vgg5", "sigmoid", HolomorphicEP(0.1, 3)),
    ],
)
def test_delta_reads_equal_full_reads(
    problem, errors, name: str, activation: str, estimator: Estimator
) -> None:
    given = problem(name, activation)
    full = run(given, estimator)
    wanted = given.gradients()
    delta = run(given, estimator, replace(SHORT, nudged_reads="delta"))
    assert max(errors(given.gradients(), wanted)) < 1e-9
    for a, b in zip(full.nudged, delta.nudged, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=1e-9)


def test_gradients_are_replaced(problem) -> None:
    given = problem("graph")
    run(given, CenteredEP(0.1))
    wanted = given.gradients()
    for parameter in given.network.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    run(given, CenteredEP(0.1))
    for found, once in zip(given.gradients(), wanted, strict=True):
        assert torch.equal(found, once)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_the_mean_over_the_batch(problem, errors, name: str) -> None:
    given = problem(name)
    run(given, CenteredEP(0.1))
    whole = given.gradients()
    twice = replace(
        given, images=torch.cat([given.images] * 2), labels=torch.cat([given.labels] * 2)
    )
    run(twice, CenteredEP(0.1))
    assert max(errors(twice.gradients(), whole)) < 1e-9
    singles = []
    for image in range(3):
        here = slice(image, image + 1)
        one = replace(given, images=given.images[here], labels=given.labels[here])
        run(one, CenteredEP(0.1))
        singles.append(one.gradients())
    mean = [torch.stack(grads).mean(0) for grads in zip(*singles, strict=True)]
    assert max(errors(mean, whole)) < 1e-9


def test_weights_and_initial_states_stay_as_they_are(problem) -> None:
    given = problem("graph")
    before = [parameter.detach().clone() for parameter in given.network.parameters()]
    initial = [torch.rand_like(state) for state in given.network.rest(given.images)]
    kept = [state.clone() for state in initial]
    run(given, CenteredEP(0.1), initial=initial)
    for old, new in zip(before, given.network.parameters(), strict=True):
        assert torch.equal(old, new)
    for old, new in zip(kept, initial, strict=True):
        assert torch.equal(old, new)


def test_the_free_phase_starts_from_the_initial_states(problem) -> None:
    given = problem("mlp")
    first = run(given, CenteredEP(0.1), Phases(7, 5))
    onwards = run(given, CenteredEP(0.1), Phases(5, 5), initial=first.free)
    whole = run(given, CenteredEP(0.1), Phases(12, 5))
    for a, b in zip(onwards.free, whole.free, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"^initial\[1\]: shape \(2, 4\) "):
        run(given, CenteredEP(0.1), initial=[state[:2] for state in first.free])


def test_the_free_phase_stops_at_the_tolerance_and_nudged_phases_do_not(problem) -> None:
    given = problem("mlp")
    contrast = run(given, CenteredEP(0.1), Phases(500, 9, tolerance=1e-4))
    assert bool((contrast.free.residual <= 1e-4).all())
    assert 2 < contrast.free.iterations < 100
    before = settle(given.network, given.images, iterations=contrast.free.iterations - 1)
    assert not bool((before.residual <= 1e-4).all())
    assert contrast.nudged.iterations == 9
    full = run(given, CenteredEP(0.1), Phases(500, 9))
    assert full.free.iterations == 500


@pytest.mark.parametrize("cost", ["squared error", "cross entropy"])
def test_what_is_reported(problem, cost: str) -> None:
    given = problem("vgg5", "relu_alpha", cost)
    contrast = run(given, CenteredEP(0.1))
    output = contrast.free.output
    if cost == "squared error":
        one_hot = torch.eye(3, dtype=torch.float64)[given.labels]
        wanted = 0.5 * ((output - one_hot) ** 2).sum(1)
    else:
        wanted = torch.nn.functional.cross_entropy(output, given.labels, reduction="none")
    torch.testing.assert_close(contrast.cost, wanted)
    guesses = output.numpy().argmax(1)
    assert contrast.wrong.tolist() == (guesses != given.labels.numpy()).tolist()
    assert contrast.departure is not None
    assert contrast.departure.shape == (3,)
    assert float(contrast.departure.max()) < 0.2
    assert run(given, PositiveEP(0.1)).departure is None
    assert [term.beta for term in contrast.terms] == [0.1, -0.1]


def test_defaults_are_the_papers(problem) -> None:
    given = problem("mlp")
    free = settle(given.network, given.images, iterations=120)
    found = equilibrium_gradient(given.network, given.images, given.labels, CenteredEP(0.1))
    assert (found.free.iterations, found.nudged.iterations) == (120, 50)
    one_hot = torch.eye(3, dtype=torch.float64)[given.labels]
    torch.testing.assert_close(found.cost, 0.5 * ((free.output - one_hot) ** 2).sum(1))


def test_complex_points_need_holomorphic_units(problem) -> None:
    with pytest.raises(ValueError, match=r"^activation: .* must be holomorphic"):
        run(problem("mlp"), HolomorphicEP(0.1, 4))
    run(problem("mlp"), HolomorphicEP(0.1, 2))


@pytest.mark.parametrize(
    ("phases", "name"),
    [
        (Phases(0, 5), "iterations"),
        (Phases(5, 0), "iterations"),
        (Phases(5, 5, order="random"), "order"),
        (Phases(5, 5, tolerance=0.0), "tolerance"),
        (Phases(5, 5, nudged_reads="half"), "reads"),
    ],
)
def test_phases_out_of_range(problem, phases: Phases, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: ") as caught:
        run(problem("mlp"), CenteredEP(0.1), phases)
    assert "\n" not in str(caught.value)
