"""Cards with changed numbers: what changes, what does not, and where it is said."""

from __future__ import annotations

import tomllib

import pytest

from neurosim_ep.cards import Card, card_from_mapping, dump_card
from neurosim_ep.crossbar import ArrayCard, load_array_card
from neurosim_ep.devices import DeviceCard, load_device_card
from neurosim_ep.experiments.sweeps.cards import SOURCE, changed_card


def fields(card: Card) -> dict[str, object]:
    """Every field of a card by its path, without names and sources."""
    flat: dict[str, object] = {}

    def visit(value: object, path: str) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                if key != "source":
                    visit(part, f"{path}.{key}")
        elif isinstance(value, tuple) and value and isinstance(value[0], dict):
            for index, part in enumerate(value):
                visit(part, f"{path}[{index}]")
        else:
            flat[path.lstrip(".")] = value

    visit(card.model_dump(exclude={"name", "description"}), "")
    return flat


def difference(before: Card, after: Card) -> dict[str, object]:
    old, new = fields(before), fields(after)
    return {key: new.get(key) for key in old | new if old.get(key) != new.get(key)}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("device.pulse_response.up_down", 0.3, {"pulse_response.up_down": 0.3}),
        ("device.states", 50, {"pulse_response.step_relative": 0.04}),
        # A default that the card's file leaves out.
        (
            "device.pulse_response.write_noise_relative",
            2.0,
            {"pulse_response.write_noise_relative": 2.0},
        ),
        ("device.read_noise[0].sigma_relative", 0.1, {"read_noise[0].sigma_relative": 0.1}),
        ("device.programming.coefficients_siemens[0]", 1e-9,
         {"programming.coefficients_siemens": (1e-9,)}),
        ("device.operation.temperature_kelvin", 350.0, {"operation.temperature_kelvin": 350.0}),
    ],
)  # fmt: skip
def test_one_number_changes_and_says_so(
    key: str, value: object, expected: dict[str, object]
) -> None:
    card = load_device_card("li-ecram")
    changed = changed_card(card, {key: value})
    assert difference(card, changed) == expected
    assert changed.name == "li-ecram-varied"
    assert card.description in changed.description
    assert key.removeprefix("device.") in changed.description
    # It reads back from its file, and nothing else lost its source.
    assert card_from_mapping(DeviceCard, tomllib.loads(dump_card(changed))) == changed
    assert dump_card(changed).count(SOURCE) == 2  # the description and the number


def test_other_numbers_of_a_table_keep_their_source() -> None:
    card = load_device_card("li-ecram")
    before = card.pulse_response
    after = changed_card(card, {"device.pulse_response.up_down": 0.0}).pulse_response
    assert before is not None
    assert after is not None
    assert isinstance(after.source, dict)
    assert after.source["up_down"] == SOURCE
    assert after.source["gamma_up"] == before.source
    layout = changed_card(load_array_card("default"), {"array.layout.rows": 64}).layout
    assert isinstance(layout.source, dict)
    assert layout.source == {"rows": SOURCE, "columns": "as rows"}


def test_bits_are_those_of_all_converters_that_a_card_has() -> None:
    default = load_array_card("default")
    assert difference(default, changed_card(default, {"array.adc_bits": 5})) == {
        f"{table}.adc_bits": 5
        for table in ("forward", "transposed", "forward_delta", "transposed_delta")
    }
    one = load_array_card("default-one-range")
    assert difference(one, changed_card(one, {"array.dac_bits": 5})) == {
        "forward.dac_bits": 5,
        "transposed.dac_bits": 5,
    }
    ideal = changed_card(default, {"array.adc_bits": "none"})
    assert isinstance(ideal, ArrayCard)
    assert ideal.forward is not None
    assert ideal.forward.adc_bits is None
    assert ideal.forward.dac_bits == 8


def test_read_noise_becomes_one_term_or_none() -> None:
    card = load_device_card("cmo-hfox-reram")
    (term,) = changed_card(card, {"device.read_noise_relative": 0.02}).read_noise
    assert term.model == "lumped"
    assert term.sigma_of_range_relative == 0.02
    assert term.sigma_relative == 0.0
    assert changed_card(card, {"device.read_noise_relative": 0}).read_noise == ()


def test_none_takes_a_table_away() -> None:
    card = load_device_card("li-ecram")
    changed = changed_card(card, {"device.drift": "none", "device.states": 10})
    assert changed.drift is None
    assert changed.pulse_response is not None
    assert changed.pulse_response.step_relative == 0.2
    # What a card lacks is away already.
    assert changed_card(load_device_card("ideal"), {"device.drift": "none"}).drift is None


def test_without_changes_it_is_the_same_card() -> None:
    card = load_device_card("pcm")
    assert changed_card(card, {}) is card


@pytest.mark.parametrize(
    ("card", "key", "value", "line"),
    [
        ("ideal", "device.drift.time_constant_s", 1.0, r"card 'ideal' has no table \[drift\]"),
        ("fefet", "device.write_verify.tolerance_siemens", 1.0, r"has no table \[write_verify\]"),
        ("li-ecram", "device.pulse_response.foo", 1.0, r"device\.pulse_response\.foo: unknown"),
        ("li-ecram", "device.read_noise[1].sigma_relative", 1.0, r"li-ecram' has 1 of them"),
        ("li-ecram", "device.read_noise.sigma_relative", 1.0, r"read_noise\[0\]"),
        ("li-ecram", "device.pulse_response[0].up_down", 1.0, r"has 0 of them"),
        ("li-ecram", "device.drift", 1.0, r'device\.drift: 1\.0 .*"none"'),
        ("li-ecram", "device.window", "none", r"device\.window: absent is not allowed"),
        (
            "li-ecram",
            "device.pulse_response.up_down",
            1.0,
            r"device\.pulse_response\.up_down: 1\.0",
        ),
        ("li-ecram", "device.pulse_response.up_down", "x", r"up_down: \"x\" .*a number"),
        ("li-ecram", "device.pulse_response.step_relative", "none", r"step_relative: absent"),
        ("li-ecram", "device.states", 0.5, r"device\.states: 0\.5 .*at least 1"),
        ("li-ecram", "device.states", float("inf"), r"device\.states: inf"),
        ("li-ecram", "device.states", True, r"device\.states: true"),
        ("li-ecram", "device.read_noise_relative", -0.1, r"read_noise_relative: -0\.1"),
    ],
)
def test_what_a_card_cannot_take_is_one_line(card: str, key: str, value: object, line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        changed_card(load_device_card(card), {key: value})
    assert len(str(error.value).splitlines()) == 1


def test_bad_bits_are_one_line_with_the_key_that_was_asked_for() -> None:
    with pytest.raises(ValueError, match=r"^array\.adc_bits: 1 is not allowed") as error:
        changed_card(load_array_card("default"), {"array.adc_bits": 1})
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match=r"array card 'ideal' has no converters"):
        changed_card(load_array_card("ideal"), {"array.adc_bits": 4})
