"""``neurosim-ep devices`` as a user meets it: the list, a card, a fit, wrong inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from neurosim_ep.devices import load_device_card, shipped_device_cards

ROOF = "pulse,direction,conductance_siemens\n" + "".join(
    f"{n},{'up' if n < 20 else 'down'},{(1 + min(n, 38 - n)) * 1e-6:.3g}\n" for n in range(39)
)


def test_all_cards_are_listed(invoke) -> None:
    listed = invoke("devices")
    assert listed.exit_code == 0
    for name in shipped_device_cards():
        assert re.search(rf"│ {re.escape(name)} +│", listed.stdout), name
    (ideal,) = re.findall(r"│ ideal .*", listed.stdout)
    assert ideal.count(" ideal ") == 4
    (pcm,) = re.findall(r"│ pcm .*", listed.stdout)
    # sigma(1/2) of the card's polynomial: 0.95272 of 25 uS; (86420/20)^-0.05 of nine tenths.
    assert re.search(r"│ +0 to 25 │ +200 │ +3\.[789] │", pcm)
    assert re.search(r"-3[01]\.\d \+- \d\.\d", pcm)


def test_a_card_is_drawn_and_its_numbers_are_told(invoke, tmp_path: Path) -> None:
    shown = invoke("devices", "fefet")
    assert shown.exit_code == 0, shown.stderr
    assert re.search(r"window\.g_max_siemens +│ 4\.5e-05 +│", shown.stdout)
    assert "pulse_response.step_relative" in shown.stdout
    assert "Jerry et al." in shown.stdout
    assert "figure: fefet.png" in shown.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["fefet.png"]


def test_options_may_come_first_and_the_seed_draws_other_devices(invoke, tmp_path: Path) -> None:
    assert invoke("devices", "--out", "a.png", "fefet").exit_code == 0
    assert invoke("devices", "fefet", "--out", "b.png", "--seed", "1").exit_code == 0
    assert invoke("devices", "show", "fefet", "--out", "c.png").exit_code == 0
    first, second, third = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == third
    assert first != second


def test_a_fitted_card_is_a_card(invoke, tmp_path: Path) -> None:
    (tmp_path / "my data.csv").write_text(ROOF)
    done = invoke("devices", "fit", "my data.csv")
    assert done.exit_code == 0, done.stderr
    assert "39 pulses on 1 device(s): the fitted constant model" in done.stdout
    assert "card: my-data.toml" in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"my data.csv", "my-data.toml", "my-data.png"}
    card = load_device_card(tmp_path / "my-data.toml")
    assert card.window.g_max_siemens == pytest.approx(20e-6, rel=0.01)
    assert card.pulse_response is not None
    assert card.pulse_response.step_relative == pytest.approx(2.0 / 19.0, rel=0.01)
    shown = invoke("devices", "my-data.toml", "--out", "again.png")
    assert shown.exit_code == 0
    assert "fitted from my data.csv, 39 pulses, date not included" in shown.stdout


def test_a_fit_goes_where_it_is_told(invoke, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(ROOF)
    done = invoke(
        *("devices", "fit", "d.csv", "--name", "mine", "--out", "card.toml", "--plot", "x.svg")
    )
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"d.csv", "card.toml", "x.svg"}
    assert load_device_card(tmp_path / "card.toml").name == "mine"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("pcn",), r'"pcn": neither a shipped device card nor a file; did you mean pcm\?'),
        (("none.toml",), r'"none\.toml": no such file'),
        (("pcm", "--out", "pcm.xyz"), r'out: "pcm\.xyz" is not allowed; must be a file that ends'),
        (("pcm", "--out", "no/pcm.png"), r'out: "no/pcm\.png" is not allowed; must be a file in a'),
        (("pcm", "--seed", "-1"), r"seed: -1 is not allowed; must be a whole number from 0"),
        (("fit", "none.csv"), r'"none\.csv": no such file'),
        (("fit", "bad.csv"), r"bad\.csv: without the column conductance_siemens; found"),
        (("fit", "good.csv", "--name", "a b"), r'name: "a b" is not allowed; must be letters'),
        (("fit", "good.csv", "--out", "good.csv"), r'out: "good\.csv" is not allowed'),
        (("fit", "good.csv", "--plot", "good.csv"), r'plot: "good\.csv" is not allowed'),
        (("fit", "good.csv", "--out", "no/x.toml"), r'out: "no/x\.toml" is not allowed'),
        (("bad.toml",), r'"bad\.toml": not valid TOML'),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    invoke, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    files = {"good.csv": ROOF, "bad.csv": "pulse,direction\n1,up\n", "bad.toml": "name ="}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = invoke("devices", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert re.match(r"error: " + line, only), only
    assert {path.name for path in tmp_path.iterdir()} == set(files)
    assert (tmp_path / "good.csv").read_text() == ROOF


def test_help_names_both_commands(invoke) -> None:
    page = invoke("devices", "--help")
    assert page.exit_code == 0
    assert "fit" in page.stdout
    assert "devices NAME" in page.stdout
    assert "conductance_siemens" in invoke("devices", "fit", "--help").stdout
