"""Array cards: the shipped ones load, and a bad one is refused in one clear line."""

import pytest

from neurosim_ep.cards import CardError, card_from_mapping, dump_card
from neurosim_ep.crossbar import ArrayCard, load_array_card, map_to_crossbar, shipped_array_cards
from neurosim_ep.models import mlp

CARDS = shipped_array_cards()
S = {"source": "a test"}


def tables(**changes):
    """A valid card's tables, some of their fields changed or (None) left out."""
    card = {
        "layout": {"rows": 8, "columns": 8, **S},
        "drive": {"read_voltage_volt": 0.2, **S},
    }
    for table, fields in changes.items():
        if fields is None:
            card.pop(table)
            continue
        merged = card.get(table, dict(S)) | fields
        card[table] = {name: value for name, value in merged.items() if value is not None}
    return {"name": "test"} | card


@pytest.mark.parametrize("name", CARDS)
def test_shipped_cards(name, tmp_path):
    card = load_array_card(name)
    assert card.name == name
    assert card.description
    assert card == CARDS[name]
    file = tmp_path / "copy.toml"
    file.write_text(dump_card(card))
    assert load_array_card(file) == card
    chip = map_to_crossbar(mlp((1, 2, 2), 2, (3,)), "ideal", name)
    assert chip.array_card == card


def test_ideal_and_default_are_shipped():
    assert {"ideal", "default"} <= set(CARDS)
    assert (CARDS["ideal"].wires, CARDS["ideal"].forward) == (None, None)


def test_defaults_are_ideal():
    card = card_from_mapping(ArrayCard, tables(wires={}, forward={}))
    assert card.converters("transposed", False) is None
    assert card.forward is not None
    assert (card.forward.dac_bits, card.forward.adc_bits) == (None, None)
    assert card.forward.adc_noise_ampere == 0.0
    assert card.wires is not None
    ohm = (card.wires.word_line_ohm, card.wires.bit_line_ohm)
    assert (*ohm, card.wires.driver_ohm, card.wires.sense_ohm) == (0.0, 0.0, 0.0, 0.0)
    assert (card.layout.mapping, card.layout.scale) == ("differential_pair", "layer")


def test_which_converters_a_read_meets():
    full, second = {"dac_bits": 8}, {"dac_bits": 6}
    card = card_from_mapping(ArrayCard, tables(forward=full, transposed=full, forward_delta=second))
    bits = {
        (direction, delta): card.converters(direction, delta).dac_bits
        for direction in ("forward", "transposed")
        for delta in (False, True)
    }
    assert bits == {
        ("forward", False): 8,
        ("forward", True): 6,
        ("transposed", False): 8,
        ("transposed", True): 8,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layout": {"rows": 0}},
            "layout.rows: 0 is not allowed; must be a whole number at least 1",
        ),
        (
            {"layout": {"columns": 0}},
            "layout.columns: 0 is not allowed; must be a whole number at least 1",
        ),
        (
            {"layout": {"rows": -4}},
            "layout.rows: -4 is not allowed; must be a whole number at least 1",
        ),
        ({"layout": {"rows": 70_000}}, "layout.rows: 70000 is not allowed; must be"),
        ({"layout": {"rows": 8.5}}, "layout.rows: 8.5 is not allowed; must be a whole number"),
        ({"layout": {"rows": "8"}}, 'layout.rows: "8" is not allowed; must be a whole number'),
        ({"layout": {"rows": True}}, "layout.rows: true is not allowed; must be a whole number"),
        ({"layout": {"rows": None}}, "layout.rows: absent is not allowed; must be a whole number"),
        ({"layout": {"mapping": "pair"}}, 'layout.mapping: "pair" is not allowed; must be one of'),
        ({"layout": {"scale": "row"}}, 'layout.scale: "row" is not allowed; must be one of'),
        ({"layout": {"scale_quantile": 0.0}}, "layout.scale_quantile: 0.0 is not allowed; must be"),
        ({"layout": {"scale_quantile": 99.0}}, "layout.scale_quantile: 99.0 is not allowed"),
        ({"layout": {"source": None}}, "layout.source: absent is not allowed; must be"),
        ({"layout": {"source": ""}}, 'layout.source: "" is not allowed; must be'),
        ({"layout": {"source": {"rows": "x"}}}, "layout.source.columns: absent is not allowed"),
        ({"layout": {"row": 8}}, "layout.row: unknown field; did you mean layout.rows?"),
        ({"layout": None}, "layout: absent is not allowed; must be a table"),
        ({"drive": None}, "drive: absent is not allowed; must be a table"),
        ({"drive": {"read_voltage_volt": 0.0}}, "drive.read_voltage_volt: 0.0 is not allowed"),
        ({"drive": {"source": None}}, "drive.source: absent is not allowed; must be"),
        ({"wires": {"word_line_ohm": -1.0}}, "wires.word_line_ohm: -1.0 is not allowed; must be"),
        ({"wires": {"bit_line_ohm": -0.1}}, "wires.bit_line_ohm: -0.1 is not allowed; must be"),
        ({"wires": {"driver_ohm": float("inf")}}, "wires.driver_ohm: inf is not allowed"),
        ({"wires": {"sense_ohm": float("nan")}}, "wires.sense_ohm: nan is not allowed"),
        ({"wires": {"refresh_interval_programmings": 0}}, "wires.refresh_interval_programmings: 0"),
        ({"forward": {"adc_bits": 0}}, "forward.adc_bits: 0 is not allowed; must be"),
        ({"forward": {"adc_bits": 1}}, "forward.adc_bits: 1 is not allowed; must be"),
        ({"transposed": {"dac_bits": 25}}, "transposed.dac_bits: 25 is not allowed; must be"),
        ({"forward": {"adc_noise_ampere": -1e-9}}, "forward.adc_noise_ampere: -1e-09"),
        ({"forward": {"dac_range": "auto"}}, 'forward.dac_range: "auto" is not allowed; must be'),
        ({"forward": {"adc_range": "known"}}, 'forward.adc_range: "known" is not allowed; must be'),
        ({"forward": {"calibration_quantile": 1.5}}, "forward.calibration_quantile: 1.5"),
        (
            {"forward": {"adc_range": "fixed"}},
            "forward.adc_range_ampere: absent is not allowed; must be a number where adc_range is",
        ),
        (
            {"forward": {"dac_range": "fixed"}},
            "forward.dac_range_state: absent is not allowed; must be a number where dac_range is",
        ),
        (
            {"forward": {"adc_range_ampere": 1e-6}},
            "forward.adc_range_ampere: 1e-06 is not allowed; must be a number where adc_range is",
        ),
        ({"forward": {"adc_range": "fixed", "adc_range_ampere": 0.0}}, "forward.adc_range_ampere"),
        (
            {"forward_delta": {"dac_bits": 8}},
            "forward_delta: a table is not allowed; must be absent without [forward]",
        ),
        (
            {"forward": {}, "transposed_delta": {}},
            "transposed_delta: a table is not allowed; must be absent without [transposed]",
        ),
        ({"compensation": {"reads": 0}}, "compensation.reads: 0 is not allowed; must be"),
        ({"compensation": {"global_drift": 1}}, "compensation.global_drift: 1 is not allowed"),
        ({"adc": {"bits": 8}}, "adc: unknown field"),
    ],
)
def test_one_line_for_what_is_wrong(changes, message):
    with pytest.raises(CardError) as error:
        card_from_mapping(ArrayCard, tables(**changes))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ValueError)


def test_all_problems_are_named():
    with pytest.raises(CardError) as error:
        card_from_mapping(
            ArrayCard, tables(layout={"rows": 0, "columns": 0}, wires={"word_line_ohm": -1.0})
        )
    fields = [line.split(":")[0] for line in str(error.value).splitlines()]
    assert fields == ["layout.rows", "layout.columns", "wires.word_line_ohm"]


def test_files(tmp_path):
    with pytest.raises(CardError, match=r"neither a shipped array card nor a file.*ideal"):
        load_array_card("idael")
    with pytest.raises(CardError, match=r"no such file$"):
        load_array_card(tmp_path / "nothing.toml")
    file = tmp_path / "bad.toml"
    file.write_text("rows = \n")
    with pytest.raises(CardError, match=r"not valid TOML"):
        load_array_card(file)
