"""Taking nonidealities away one by one leaves all others as they were, to the last draw."""

import itertools

import pytest
import torch

from neurosim_ep.crossbar import (
    NONIDEALITIES,
    load_array_card,
    map_to_crossbar,
    only,
    present,
    without,
)
from neurosim_ep.devices import load_device_card
from neurosim_ep.learning import CenteredEP, Phases, equilibrium_gradient
from neurosim_ep.models import Dense, mlp

TABLES = {
    "levels": {"window": {"levels": 16}},
    "programming": {
        "programming": {"coefficients_siemens": [1e-6], "reference_siemens": 1e-4},
        "write_verify": {"tolerance_siemens": 1e-6, "max_pulses": 3},
    },
    "spread": {"spread": {"g_max_sigma_relative": 0.05}},
    "faults": {"faults": {"stuck_at_random_fraction": 0.2}},
    "read_noise": {
        "read_noise": [
            {"model": "telegraph", "amplitude_relative": 0.1, "device_fraction": 0.5},
            {"model": "lumped", "sigma_relative": 0.02},
        ]
    },
    "drift": {
        "drift": {"model": "power_law", "start_s": 20.0, "reference_siemens": 1e-4}
        | {"mean_intercept": 0.06, "mean_low": 0.0, "mean_high": 1.0}
        | {"sigma_intercept": 0.02, "sigma_high": 1.0}
    },
}
FULL = {"dac_bits": 8, "adc_bits": 8, "adc_range": "ideal", "adc_noise_ampere": 1e-8}
WIRES = {"wires": {"word_line_ohm": 1.0}}
DENSE = Dense((20,), (15,))


@pytest.fixture
def cards(device, array):
    """A device card and an array card with everything in them."""
    tables = {name: table for group in TABLES.values() for name, table in group.items()}
    return device(**tables), array(8, 8, **WIRES, forward=FULL, transposed=FULL)


def test_all_of_them_in_order(cards):
    assert present(*cards) == NONIDEALITIES
    wanted = "levels programming spread faults read_noise drift wires dac adc adc_noise"
    assert tuple(wanted.split()) == NONIDEALITIES


@pytest.mark.parametrize("name", NONIDEALITIES)
def test_one_of_them(name, cards):
    rest = tuple(other for other in NONIDEALITIES if other != name)
    before = tuple(card.model_copy(deep=True) for card in cards)
    assert present(*without(*cards, [name])) == rest
    assert present(*only(*cards, [name])) == (name,)
    assert present(*without(*cards, rest)) == (name,)
    assert cards == before


@pytest.mark.parametrize("name", TABLES)
def test_each_table_by_itself(name, device, array):
    for group in ({name: table} for name, table in TABLES[name].items()):
        assert present(device(**group), array(8, 8)) == (name,)


@pytest.mark.parametrize(
    ("tables", "name"),
    [
        *(({"wires": {f: 1.0}}, "wires") for f in ("word_line_ohm", "bit_line_ohm")),
        *(({"wires": {f: 1.0}}, "wires") for f in ("driver_ohm", "sense_ohm")),
        *(({d: {"dac_bits": 8}}, "dac") for d in ("forward", "transposed")),
        *(({d: {"adc_bits": 8}}, "adc") for d in ("forward", "transposed")),
        ({"forward": {}, "forward_delta": {"adc_bits": 8}}, "adc"),
        ({"transposed": {}, "transposed_delta": {"adc_noise_ampere": 1e-9}}, "adc_noise"),
    ],
)
def test_each_field_of_the_array_by_itself(tables, name, device, array):
    card = array(8, 8, **tables)
    assert present(device(), card) == (name,)
    assert present(*without(device(), card, [name])) == ()


def test_ideal_tables_are_no_nonideality(device, array):
    card = array(8, 8, wires={}, forward={}, compensation={"global_drift": True})
    assert present(device(), card) == ()
    assert present(load_device_card("ideal"), load_array_card("ideal")) == ()
    ideal, default = load_device_card("ideal"), load_array_card("default")
    assert present(ideal, default) == ("wires", "dac", "adc")


@pytest.mark.parametrize("change", [without, only])
def test_a_name_that_there_is_not(change, cards):
    with pytest.raises(ValueError, match=r"^nonideality: 'noise' is not allowed; must be one") as e:
        change(*cards, ["faults", "noise"])
    assert "\n" not in str(e.value)


def drawn(storage, device, array, seconds=0.0):
    """Devices of a programmed array, everything that was drawn for them."""
    arrays = storage(DENSE, device, array)
    arrays.advance_time(seconds)
    return arrays.matrix.devices


@pytest.mark.parametrize("name", ["read_noise", "drift", "wires", "dac", "adc", "adc_noise"])
def test_what_was_programmed_stays(name, cards, storage):
    one, other = drawn(storage, *cards), drawn(storage, *without(*cards, [name]))
    for field in ("programmed", "lower", "upper", "stuck"):
        assert torch.equal(getattr(one, field), getattr(other, field))
    if name != "read_noise":
        assert torch.equal(one.fluctuating, other.fluctuating)
    if name != "drift":
        assert torch.equal(one.drift_coefficient, other.drift_coefficient)


@pytest.mark.parametrize("name", ["levels", "programming", "spread", "faults"])
def test_other_draws_stay(name, cards, storage):
    one, other = drawn(storage, *cards), drawn(storage, *without(*cards, [name]))
    assert not torch.equal(one.programmed, other.programmed)
    assert torch.equal(one.fluctuating, other.fluctuating)
    if name == "faults":
        # Devices that were not stuck stay where they were.
        free = ~one.stuck
        assert torch.equal(one.programmed[free], other.programmed[free])
    else:
        assert torch.equal(one.stuck, other.stuck)
    if name != "spread":
        assert torch.equal(one.lower, other.lower)
        assert torch.equal(one.upper, other.upper)
    if name not in ("spread", "levels"):
        # A stuck device is stuck at the same conductance.
        both = one.stuck if name == "programming" else torch.zeros_like(one.stuck)
        assert torch.equal(one.programmed[both], other.programmed[both])


@pytest.mark.parametrize("name", ["wires", "dac", "drift", "faults"])
def test_read_noise_stays(name, cards, storage):
    # The same numbers are drawn: what differs is what the nonideality itself makes.
    device, array = only(*cards, ["read_noise", name])
    noisy = storage(DENSE, device, array), storage(DENSE, *only(device, array, ["read_noise"]))
    device, array = only(device, array, [name])
    silent = storage(DENSE, device, array), storage(DENSE, *without(device, array, [name]))
    driven = torch.ones(50, 20, dtype=torch.float64)
    noise = [
        a.forward_read(driven) - b.forward_read(driven) for a, b in zip(noisy, silent, strict=True)
    ]
    correlation = torch.corrcoef(torch.stack([n.flatten() for n in noise]))[0, 1]
    assert float(correlation) > (0.9 if name == "faults" else 0.95)


@pytest.mark.parametrize("reads", ["full", "delta"])
def test_without_all_of_them_is_the_exact_path(reads, cards, array):
    network = mlp((1, 3, 3), 3, (8, 6)).double()
    images = torch.linspace(-1.0, 1.0, 45, dtype=torch.float64).view(5, 1, 3, 3)
    # Ranges that would be calibrated on data: there is nothing left that needs them.
    delta = FULL | {"dac_range": "calibrated", "adc_range": "calibrated"}
    tables = {"forward_delta": delta, "transposed_delta": delta}
    cards = cards[0], array(8, 8, **WIRES, forward=FULL, transposed=FULL, **tables)
    phases = Phases(20, 5, nudged_reads=reads)

    def outputs(model):
        labels = torch.arange(5) % 3
        return equilibrium_gradient(model, images, labels, CenteredEP(0.1), phases=phases).nudged

    exact = outputs(network)
    for ideal in (without(*cards, NONIDEALITIES), only(*cards, ())):
        found = outputs(map_to_crossbar(network, *ideal))
        for state, wanted in zip(found, exact, strict=True):
            torch.testing.assert_close(state, wanted, rtol=1e-10, atol=1e-12)


def test_a_pair_of_them_can_stay(cards):
    for pair in itertools.combinations(NONIDEALITIES, 2):
        assert present(*only(*cards, pair)) == pair
