"""What all cards share: tables with sources, loading, messages, writing."""

import tomllib
from typing import Annotated, Literal

import pytest
from pydantic import BeforeValidator, Field, model_validator

from neurosim_ep._toml_text import problem
from neurosim_ep.cards import (
    Card,
    CardError,
    CardTable,
    Fraction,
    Numbers,
    Positive,
    as_tuple,
    card_from_mapping,
    dump_card,
    load_card,
)
from neurosim_ep.crossbar import ArrayCard, load_array_card
from neurosim_ep.devices import DeviceCard, load_device_card

EMPTY_FOLDER = "neurosim_ep.recipes"  # holds TOML files, none of which is a card


class Size(CardTable):
    width: Positive
    height: Positive = 1.0
    weights: Numbers = ()


class Red(CardTable):
    model: Literal["red"] = "red"
    share: Fraction


class Blue(CardTable):
    model: Literal["blue"] = "blue"
    depth: Annotated[int, Field(ge=1)]


Colour = Annotated[Red | Blue, Field(discriminator="model")]


class Box(Card):
    size: Size
    colour: Colour | None = None
    stripes: Annotated[tuple[Colour, ...], BeforeValidator(as_tuple)] = ()

    @model_validator(mode="after")
    def _fits(self) -> "Box":
        if self.size.width > 100.0:
            raise ValueError(problem("size.width", self.size.width, "at most 100"))
        return self


SIZE = {"width": 2.0, "source": "measured"}
RED = {"model": "red", "share": 0.5, "source": "seen"}
BLUE = {"model": "blue", "depth": 3, "source": "seen"}


def box(**fields):
    return card_from_mapping(Box, {"name": "box", "size": SIZE} | fields)


def refused(**fields):
    with pytest.raises(CardError) as error:
        box(**fields)
    return str(error.value)


# --- Sources -------------------------------------------------------------------------------------

NO_TEXT = "is not allowed; must be text that says where the numbers come from"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, f"size.source: absent {NO_TEXT}"),
        ("", f'size.source: "" {NO_TEXT}'),
        (7, f"size.source: 7 {NO_TEXT}"),
        ({}, "size.source.height: absent is not allowed; must be the source of height"),
        (
            {"width": "here"},
            "size.source.height: absent is not allowed; must be the source of height",
        ),
        ({"width": "here", "height": ""}, f'size.source.height: "" {NO_TEXT}'),
        ({"width": "here", "height": 5}, f"size.source.height: 5 {NO_TEXT}"),
        (
            {"width": "here", "height": "there", "weights": "nowhere"},
            'size.source.weights: "nowhere" is not allowed; must be of a field that is given',
        ),
        (
            {"width": "here", "height": "there", "age": "old"},
            'size.source.age: "old" is not allowed; must be of a field that is given',
        ),
    ],
)
def test_every_number_has_a_source(source, message):
    table = {"width": 2.0, "height": 3.0, "source": source}
    assert refused(size={k: v for k, v in table.items() if v is not None}) == message


def test_one_source_or_one_per_field():
    assert box().size.source == "measured"
    each = {"width": "here", "height": "there"}
    assert box(size={"width": 2.0, "height": 3.0, "source": each}).size.source == each
    assert box(size={"width": 2.0, "source": {"width": "here"}}).size.height == 1.0


def test_the_choice_of_a_model_needs_no_source():
    assert box(colour={**RED, "source": {"share": "seen"}}).colour.share == 0.5


# --- Messages ------------------------------------------------------------------------------------

TAGS = 'must be one of "red", "blue"'
TABLE_OR_ABSENT = "is not allowed; must be a table or absent"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 3}, "size: 3 is not allowed; must be a table"),
        ({"size": [SIZE]}, "is not allowed; must be a table"),
        (
            {"size": {**SIZE, "width": -1.0}},
            "size.width: -1.0 is not allowed; must be greater than 0",
        ),
        (
            {"size": {**SIZE, "width": "2"}},
            'size.width: "2" is not allowed; must be a number greater than 0',
        ),
        (
            {"size": {**SIZE, "width": True}},
            "size.width: true is not allowed; must be a number greater than 0",
        ),
        (
            {"size": {**SIZE, "width": float("inf")}},
            "size.width: inf is not allowed; must be a finite number greater than 0",
        ),
        ({"size": {**SIZE, "widht": 1.0}}, "size.widht: unknown field; did you mean size.width?"),
        (
            {"size": {**SIZE, "weights": 1.0}},
            "size.weights: 1.0 is not allowed; must be a list, each item a number",
        ),
        (
            {"size": {**SIZE, "weights": [1.0, "a"]}},
            'size.weights[1]: "a" is not allowed; must be a number',
        ),
        ({"size": {**SIZE, "width": 200.0}}, "size.width: 200.0 is not allowed; must be at most"),
        ({"siz": SIZE}, "siz: unknown field; did you mean size?"),
        ({"name": "a box"}, 'name: "a box" is not allowed; must be letters, digits, -, _, . and +'),
        ({"name": ""}, 'name: "" is not allowed; must be letters'),
        ({"colour": 1}, f"colour: 1 {TABLE_OR_ABSENT}"),
        ({"colour": [RED]}, TABLE_OR_ABSENT),
        ({"colour": {"share": 0.5}}, f"colour.model: absent is not allowed; {TAGS}"),
        ({"colour": {**RED, "model": "green"}}, f'colour.model: "green" is not allowed; {TAGS}'),
        ({"colour": {**RED, "model": 1}}, f"colour.model: 1 is not allowed; {TAGS}"),
        (
            {"colour": {**RED, "share": 1.5}},
            "colour.share: 1.5 is not allowed; must be at least 0 and at most 1",
        ),
        (
            {"colour": {"model": "blue", "source": "seen"}},
            "colour.depth: absent is not allowed; must be a whole number at least 1",
        ),
        ({"colour": {**BLUE, "shade": 1}}, "colour.shade: unknown field"),
        ({"stripes": RED}, "stripes: a table is not allowed; must be a list, each item a table"),
        ({"stripes": [RED, 5]}, "stripes[1]: 5 is not allowed; must be a table"),
        ({"stripes": [RED, [BLUE]]}, "is not allowed; must be a table"),
        (
            {"stripes": [RED, {**BLUE, "depth": 0}]},
            "stripes[1].depth: 0 is not allowed; must be a whole number at least 1",
        ),
        (
            {"stripes": [{"model": "red", "share": 0.1}]},
            f"stripes[0].source: absent {NO_TEXT}",
        ),
        (
            {"stripes": [RED, {**BLUE, "model": "green"}]},
            f'stripes[1].model: "green" is not allowed; {TAGS}',
        ),
    ],
)
def test_one_line_names_field_value_and_what_is_allowed(fields, message):
    text = refused(**fields)
    assert message in text
    assert "\n" not in text


def test_every_problem_has_its_line():
    text = refused(name=3, size={"width": 0.0, "weight": 1.0}, stripes=[{**BLUE, "depth": 1.5}])
    assert text.splitlines() == [
        "name: 3 is not allowed; must be letters, digits, -, _, . and +",
        f"size.source: absent {NO_TEXT}",
        "size.width: 0.0 is not allowed; must be greater than 0",
        "size.weight: unknown field; did you mean size.weights?",
        "stripes[0].depth: 1.5 is not allowed; must be a whole number at least 1",
    ]


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[size", ": not valid TOML: "),
        (b"name = ", ": not valid TOML: "),
        (b"name = 'x'\nname = 'y'", ": not valid TOML: "),
        (b"\xff\xfe\x00", ": not UTF-8 text (at byte 0)"),
        (b"", "name: absent is not allowed; must be letters, digits, -, _, . and +"),
    ],
)
def test_files_that_are_no_cards(tmp_path, content, message):
    file = tmp_path / "box.toml"
    file.write_bytes(content)
    with pytest.raises(CardError) as error:
        load_card(Box, EMPTY_FOLDER, file, "box card")
    assert message in str(error.value)
    assert str(error.value).splitlines()[0].startswith((f'"{file}"', "name"))


def test_a_missing_file_and_a_folder(tmp_path):
    missing = tmp_path / "none.toml"
    with pytest.raises(CardError, match=r"none.toml\": no such file$"):
        load_card(Box, EMPTY_FOLDER, missing, "box card")
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(CardError, match=r"folder.toml\": cannot be read: "):
        load_card(Box, EMPTY_FOLDER, folder, "box card")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    file = tmp_path / "box.toml"
    file.write_text(dump_card(box()), encoding="utf-8-sig")
    assert load_card(Box, EMPTY_FOLDER, file, "box card") == box()


def test_an_unknown_name_lists_the_shipped_ones():
    from neurosim_ep.devices import load_device_card

    with pytest.raises(CardError) as error:
        load_device_card("pmc")
    text = str(error.value)
    assert text.startswith('"pmc": neither a shipped device card nor a file; did you mean pcm? ')
    assert "li-ecram, " in text
    assert "\n" not in text


def test_a_shipped_name_wins_over_a_file_beside(tmp_path, monkeypatch):
    from neurosim_ep.devices import load_device_card

    monkeypatch.chdir(tmp_path)
    (tmp_path / "pcm").write_text("not a card")
    assert load_device_card("pcm").name == "pcm"
    with pytest.raises(CardError, match="not valid TOML"):
        load_device_card("./pcm")


# --- Writing -------------------------------------------------------------------------------------


def test_what_is_written_reads_back(tmp_path):
    card = box(
        description='a "quoted" line\nand another',
        size={
            "width": 1e-21,
            "weights": [1, 2.5, -3e300],
            "source": {"width": "é", "weights": "f"},
        },
        colour=RED,
        stripes=[BLUE, RED],
    )
    file = tmp_path / "box.toml"
    file.write_text(dump_card(card), encoding="utf-8")
    assert load_card(Box, EMPTY_FOLDER, file, "box card") == card


def test_a_model_is_written_even_where_it_was_never_given(tmp_path):
    card = Box(
        name="box",
        size=Size(width=1.0, source="test"),
        colour=Blue(depth=2, source="test"),
        stripes=(Red(share=0.1, source={"share": "test"}),),
    )
    file = tmp_path / "box.toml"
    file.write_text(dump_card(card), encoding="utf-8")
    assert load_card(Box, EMPTY_FOLDER, file, "box card") == card


def test_cards_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        box().size.width = 3.0


def test_a_card_that_a_program_changed_is_dumped_with_a_source_for_every_number() -> None:
    card = load_array_card("default")
    assert isinstance(card.layout.source, dict)
    assert "scale_headroom" not in card.layout.source
    layout = card.layout.model_copy(update={"scale_headroom": 4.0})
    changed = card.model_copy(update={"layout": layout})
    loaded = card_from_mapping(ArrayCard, tomllib.loads(dump_card(changed)))
    assert loaded.layout.scale_headroom == 4.0
    assert isinstance(loaded.layout.source, dict)
    assert loaded.layout.source["scale_headroom"] == "assumed: changed by a program"
    assert loaded.layout.source["rows"] == card.layout.source["rows"]
    assert dump_card(loaded) == dump_card(changed)
    # A number that was taken away leaves no source behind.
    device = load_device_card("fefet")
    window = device.window.model_copy(update={"levels": None})
    text = dump_card(device.model_copy(update={"window": window}))
    assert card_from_mapping(DeviceCard, tomllib.loads(text)).window.levels is None
