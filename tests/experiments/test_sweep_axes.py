"""What a sweep varies: keys, values, and what is refused before anything is resolved."""

from __future__ import annotations

import re

import pytest

from neurosim_ep.experiments.sweeps.axes import (
    axes_of,
    check_apart,
    full_key,
    plain_name,
    settings_of,
)


def steps(text: str) -> list[tuple[str, ...]]:
    (axis,) = axes_of([text])
    return list(axis.steps)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("learning.beta=0.1,0.3", ["0.1", "0.3"]),
        ("learning.beta = 0.1 , 0.3", ["0.1", "0.3"]),
        ("network.widths=[96];[96,96];[96, 96, 96]", ["[96]", "[96,96]", "[96, 96, 96]"]),
        ("network.widths=[96],[96,96]", ["[96]", "[96,96]"]),
        ("device=pcm,my,card.toml", ["pcm", "my", "card.toml"]),
        ("device=pcm;my,card.toml", ["pcm", "my,card.toml"]),
        ('device=pcm,"a,b.toml"', ["pcm", '"a,b.toml"']),
        ("array.adc_bits=4,none", ["4", "none"]),
    ],
)
def test_values_are_separated_outside_of_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert steps(text) == [(value,) for value in values]


def test_keys_that_vary_together_take_as_many_values() -> None:
    (axis,) = axes_of(["on_chip.rule+learning_rate=pulsed+0.1,sign+0.01,sign+0.02"])
    assert axis.keys == ("on_chip.rule", "learning.learning_rate")
    assert axis.settings[1] == {"on_chip.rule": "sign", "learning.learning_rate": "0.01"}
    # Rules alone would not tell the last two apart.
    assert axis.labels == ("pulsed, 0.1", "sign, 0.01", "sign, 0.02")
    (axis,) = axes_of({"device.states+learning_rate": [(10, 0.5), (100, 0.1)]})
    assert axis.labels == ("10", "100")
    assert axis.numbers == (10.0, 100.0)
    assert axis.name == "states of a device"


def test_python_values_are_written_as_toml() -> None:
    (axis,) = axes_of({"network.widths": [(16,), [16, 8]]})
    assert axis.steps == (("[16]",), ("[16, 8]",))
    (axis,) = axes_of({"settling.warm_start": [True, False]})
    assert axis.steps == (("true",), ("false",))
    assert axis.numbers is None
    (axis,) = axes_of({"array.adc_bits": [4, None]})
    assert axis.steps == (("4",), ("none",))
    assert axis.numbers is None
    assert not axis.words


@pytest.mark.parametrize(
    ("key", "full"),
    [
        ("beta", "learning.beta"),
        ("learning.beta", "learning.beta"),
        ("rule", "on_chip.rule"),
        ("device", "device"),
        ("on_chip.device_card", "device"),
        ("array_card", "array"),
        ("run.device", "run.device"),
        ("device.states", "device.states"),
        ("device.read_noise[0].sigma_relative", "device.read_noise[0].sigma_relative"),
    ],
)
def test_every_key_has_one_full_name(key: str, full: str) -> None:
    assert full_key(key) == full


@pytest.mark.parametrize(
    ("vary", "line"),
    [
        (["speed=1"], r"speed: unknown field"),
        (["network=1"], r"network: a table cannot be set as a whole"),
        (["device.wndow.g_min_siemens=1"], r"unknown field; did you mean device\.window"),
        (["device.name=a,b"], r"device\.name: unknown field"),
        (["array.forward.source.adc_bits=1"], r"unknown field"),
        (["device.read_noise[x].sigma_relative=1"], r"unknown field"),
        (["seed=1,2"], r"recipe\.seed .*varied by their number"),
        (["name=a,b"], r"recipe\.name"),
        (["beta"], r"\"beta\" .*KEY=V1,V2"),
        (["beta="], r"beta: \"\" .*a value"),
        (["beta=0.1,,0.2"], r"beta: \"\" .*a value"),
        (["beta=0.1,0.10"], r"beta: 0\.10 .*given once"),
        (["beta=1,1.0"], r"beta: 1\.0 .*given once"),
        (["beta=0.1", "learning.beta=0.2"], r"learning\.beta .*given once"),
        (["device=pcm", "device_card=pcm"], r"device .*given once"),
        (["beta+learning_rate=1+2,3"], r"2 values joined by \+"),
        (["beta+beta=1+2"], r"learning\.beta .*given once"),
        (["beta+beta.=1+2"], r"unknown field"),
        (["device.states=4", "device.pulse_response.step_relative=1"], r"absent beside device"),
        (["array.adc_bits=4", "array.transposed_delta.adc_bits=1"], r"absent beside array"),
        (["array.forward=none", "array.adc_bits=4"], r"absent beside array\.forward"),
        (["device.read_noise_relative=1", "device.read_noise[0].bandwidth_hz=1"], r"absent beside"),
        (["beta=1", "epochs=1", "batch_size=1", "momentum=0"], r"one to 3 varied keys"),
        ([], r"one to 3 varied keys"),
    ],
)
def test_wrong_keys_and_values_are_refused_in_one_line(vary: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        axes_of(vary)
    assert len(str(error.value).splitlines()) == 1


def test_one_text_is_one_key() -> None:
    assert axes_of("beta=0.1,0.2") == axes_of(["beta=0.1,0.2"])


def test_true_is_not_one() -> None:
    (axis,) = axes_of({"settling.warm_start": ["true", "1"]})
    assert len(axis.steps) == 2


def test_the_choice_of_a_card_is_apart_from_its_fields() -> None:
    axes_of(["device=pcm,ideal", "device.states=4,8", "run.device=cpu"])
    check_apart(["array.dac_bits"], "vary", ["array", "array.adc_bits"])
    with pytest.raises(ValueError, match=r"vary: learning\.beta is not allowed"):
        check_apart(["learning.beta"], "vary", settings_of(["beta=0.1"]))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("learning.learning_rate", "learning rate"),
        ("on_chip.image_time_s", "image time (s)"),
        ("array.wires.word_line_ohm", "word line (ohm)"),
        ("array.forward.dac_bits", "DAC (bits)"),
        ("device.read_noise[0].amplitude_relative", "amplitude (relative)"),
        ("device.states", "states of a device"),
    ],
)
def test_figures_name_keys_in_words_with_units(key: str, name: str) -> None:
    assert plain_name(key) == name


def test_of_two_settings_of_a_key_the_later_wins() -> None:
    settings = settings_of(["beta=0.1", "device.states=4", "learning.beta=0.3"])
    assert settings == {"learning.beta": "0.3", "device.states": "4"}
    with pytest.raises(ValueError, match=re.escape('set: "beta" is not allowed')):
        settings_of(["beta"])
