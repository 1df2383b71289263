"""Fits recover the devices that made the data; wrong files are told of in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from neurosim_ep.cards import card_from_mapping, dump_card
from neurosim_ep.devices import DeviceCard, fitting
from neurosim_ep.devices.fitting import PulseFit, fit_pulse_response, read_pulse_csv
from neurosim_ep.devices.pulse_response import PulseDevices, PulseResponse

G_MIN, G_MAX = 12e-6, 60e-6
HALF = (G_MAX - G_MIN) / 2.0


def measured(
    path: Path, devices: int = 1, half: int = 75, cycles: int = 1, seed: int = 0, **fields: Any
) -> tuple[Path, PulseDevices]:
    """A CSV file of simulated devices, driven up and down by single pulses, and the devices."""
    response = TypeAdapter(PulseResponse).validate_python({"source": "simulated", **fields})
    generator = torch.Generator().manual_seed(seed)
    made = response.fabricate((devices,), generator, torch.float64)
    w = (0.95 * made.w_min).expand(devices)
    lines = ["device,pulse,direction,conductance_siemens"]
    ups = ([True] * half + [False] * half) * cycles
    rows = []
    for number, up in enumerate(ups):
        w = response.pulse(w, torch.tensor(up), made, generator)
        seen = (G_MIN + HALF * (response.visible(w, generator) + 1.0)).tolist()
        rows += [(d, number, "up" if up else "down", g) for d, g in enumerate(seen)]
    lines += [f"d{d},{number},{name},{g!r}" for d, number, name, g in sorted(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path, made


def fitted(tmp_path: Path, **fields: Any) -> tuple[PulseFit, PulseDevices]:
    path, made = measured(tmp_path / "data.csv", **fields)
    return fit_pulse_response(read_pulse_csv(path)), made


TRUTH: dict[str, dict[str, Any]] = {
    "constant": {"step_relative": 0.04, "up_down": 0.2},
    "linear": {"step_relative": 0.04, "up_down": -0.1, "gamma_up": 0.4, "gamma_down": 0.7},
    "soft_bounds": {"step_relative": 0.06, "up_down": 0.2},
    "exponential": {
        "step_relative": 0.03,
        "a_up": -0.15,
        "a_down": -0.4,
        "gamma_up": -2.5,
        "gamma_down": -2.0,
    },
    "power": {"step_relative": 0.08, "gamma_up": 1.8, "gamma_down": 0.6},
}


def true_step(model: str, w: np.ndarray, up: bool) -> np.ndarray:
    """The mean step in siemens, written out for the numbers of TRUTH."""
    t = TRUTH[model]
    bias = t.get("up_down", 0.0)
    length = t["step_relative"] * (1.0 + min(bias, 0.0) if up else 1.0 - max(bias, 0.0))
    away = w if up else -w  # how far the state has gone in the pulse's direction
    side = "up" if up else "down"
    factor = {
        "constant": lambda: np.ones_like(w),
        "linear": lambda: 1.0 - t[f"gamma_{side}"] * away,
        "soft_bounds": lambda: 1.0 - away,
        "exponential": lambda: np.maximum(
            1.0 - t[f"a_{side}"] * np.exp(t[f"gamma_{side}"] * away), 0.0
        ),
        "power": lambda: ((1.0 - away) / 2.0) ** t[f"gamma_{side}"],
    }[model]()
    return (1.0 if up else -1.0) * HALF * length * factor


@pytest.mark.parametrize("model", list(TRUTH))
def test_each_model_is_recognised_and_recovered(tmp_path: Path, model: str) -> None:
    fit, _ = fitted(tmp_path, model=model, cycle_spread_relative=0.1, **TRUTH[model])
    assert fit.model == model, fit.bic
    width = G_MAX - G_MIN
    assert fit.g_min_siemens == pytest.approx(G_MIN, abs=0.03 * width)
    assert fit.g_max_siemens == pytest.approx(G_MAX, abs=0.03 * width)
    assert fit.response.cycle_spread_relative == pytest.approx(0.1, rel=0.2)
    assert fit.response.write_noise_relative < 0.1
    assert fit.curve_r_squared > 0.995
    # The mean step over the inner nine tenths of the window: to 4 % of the longest one.
    w = np.linspace(-0.9, 0.9, 37)
    for up in (True, False):
        g, step = fit.mean_steps(up)
        truth = true_step(model, w, up)
        found = np.interp(G_MIN + HALF * (w + 1.0), g, step)
        assert np.abs(found - truth).max() < 0.04 * np.abs(truth).max()


@pytest.mark.parametrize("model", ["linear", "power"])
def test_without_noise_the_numbers_themselves_come_back(tmp_path: Path, model: str) -> None:
    fit, _ = fitted(tmp_path, model=model, **TRUTH[model])
    for name, value in TRUTH[model].items():
        assert getattr(fit.response, name) == pytest.approx(value, rel=1e-3), name
    assert fit.g_max_siemens == pytest.approx(G_MAX, rel=1e-4)
    assert fit.response.cycle_spread_relative == 0.0
    assert fit.response.write_noise_relative == 0.0


def test_noise_of_the_state_and_of_what_is_seen_are_told_apart(tmp_path: Path) -> None:
    fit, _ = fitted(
        tmp_path,
        model="soft_bounds",
        cycle_spread_relative=0.3,
        write_noise_relative=2.0,
        half=100,
        cycles=2,
        **TRUTH["soft_bounds"],
    )
    assert fit.model == "soft_bounds"
    assert fit.response.cycle_spread_relative == pytest.approx(0.3, rel=0.35)
    assert fit.response.write_noise_relative == pytest.approx(2.0, rel=0.1)
    # Steps alone would be too long by half: the errors of two measurements make each of them.
    assert fit.response.step_relative == pytest.approx(0.06, rel=0.08)
    assert fit.response.up_down == pytest.approx(0.2, abs=0.06)


def test_spread_between_devices(tmp_path: Path) -> None:
    fit, made = fitted(
        tmp_path,
        devices=8,
        half=60,
        cycles=1,
        model="soft_bounds",
        step_relative=0.08,
        step_spread_relative=0.25,
        up_down_spread=0.08,
        cycle_spread_relative=0.05,
        w_max_spread_relative=0.12,
        w_min_spread_relative=0.08,
    )
    assert fit.model == "soft_bounds"
    response, gain = fit.response, (made.step_up + made.step_down) / 2.0 / 0.08
    assert response.step_spread_relative == pytest.approx(float(gain.std()), rel=0.15)
    imbalance = (made.step_up - made.step_down) / 2.0 / 0.08
    assert response.up_down_spread == pytest.approx(float(imbalance.std()), rel=0.3)
    # The nominal window is the devices' mean, so its middle and width move with the sample.
    middle = float(made.w_max.mean() + made.w_min.mean()) / 2.0
    half = float(made.w_max.mean() - made.w_min.mean()) / 2.0
    assert fit.g_max_siemens == pytest.approx(G_MIN + HALF * (middle + half + 1.0), rel=0.01)
    assert response.w_max_spread_relative == pytest.approx(float(made.w_max.std()) / half, rel=0.1)
    assert response.w_min_spread_relative == pytest.approx(float(made.w_min.std()) / half, rel=0.1)


def test_two_devices_say_nothing_of_the_spread(tmp_path: Path) -> None:
    path, _ = measured(
        tmp_path / "two.csv", devices=2, half=30, cycles=1, model="constant", step_relative=0.1
    )
    response = fit_pulse_response(read_pulse_csv(path)).response
    assert response.step_spread_relative == 0.0
    assert response.w_max_spread_relative == 0.0


def test_many_numbers_are_solved_for_sparsely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = measured(
        tmp_path / "data.csv", devices=3, half=30, cycles=1, model="constant", step_relative=0.1
    )
    data = read_pulse_csv(path)
    dense = fit_pulse_response(data).response
    monkeypatch.setattr("neurosim_ep.devices.pulse_prediction.LARGEST_DENSE", 0)
    sparse = fit_pulse_response(data).response
    assert sparse.model == dense.model == "constant"
    assert sparse.step_relative == pytest.approx(dense.step_relative, rel=1e-4)


def test_the_card_loads_again_and_says_where_it_comes_from(tmp_path: Path) -> None:
    fit, _ = fitted(tmp_path, half=40, cycles=1, model="constant", step_relative=0.06)
    card = fit.card("my-device")
    text = dump_card(card)
    assert card_from_mapping(DeviceCard, tomllib.loads(text)) == card
    assert text.count('source = "fitted from data.csv, 80 pulses, date not included"') == 2


def test_a_window_far_narrower_than_its_conductance(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(GOOD)
    (train,) = read_pulse_csv(path).trains
    tiny = 1e-6 + 1e-7 * train.conductance_siemens
    fit = fit_pulse_response(fitting.PulseData("x", (fitting.PulseTrain("", train.up, tiny),)))
    assert fit.g_min_siemens == pytest.approx(tiny.min(), abs=1e-14)
    assert fit.g_max_siemens == pytest.approx(tiny.max(), abs=1e-14)


# --- Files --------------------------------------------------------------------------------------

GOOD = "pulse,direction,conductance_siemens\n" + "".join(
    f"{n},{'up' if n < 20 else 'down'},{(1 + min(n, 38 - n)) * 1e-6}\n" for n in range(39)
)


def test_directions_separators_gaps_and_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    plain = read_pulse_csv(path)
    rows = GOOD.replace("up", "+1").replace("down", "-1").replace(",", " ; ").splitlines()
    text = "\r\n".join(f"{'x' if n else 'note'};{row}" for n, row in enumerate(rows))
    path.write_bytes(("\ufeff" + text).encode())
    other = read_pulse_csv(path)
    assert np.array_equal(other.trains[0].up, plain.trains[0].up)
    assert np.array_equal(other.trains[0].conductance_siemens, plain.trains[0].conductance_siemens)
    gap = [line for line in GOOD.splitlines() if not line.startswith("7,")]
    path.write_text("\n".join([gap[0], *reversed(gap[1:])]))
    apart = read_pulse_csv(path)
    assert [train.up.size for train in apart.trains] == [7, 31]
    assert apart.pulses == 38


def test_cycles_and_devices_are_trains_of_their_own(tmp_path: Path) -> None:
    body = GOOD.splitlines()[1:]
    path = tmp_path / "many.csv"
    lines = ["pulse,direction,conductance_siemens,device,cycle"]
    lines += [f"{line},{d},{c}" for d in "ab" for c in (1, 2) for line in body]
    path.write_text("\n".join(lines))
    data = read_pulse_csv(path)
    assert data.devices == ("a", "b")
    assert [train.device for train in data.trains] == ["a", "a", "b", "b"]
    assert data.pulses == 156


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("pulse,", "number,", "without the column pulse; found"),
        ("pulse,direction", "a,b", "without the columns pulse, direction; found"),
        ("pulse,direction", "pulse,pulse", "without the column direction"),
        ("direction,", "direction,direction,", "two columns direction; must be one"),
        ("3,up,", "x,up,", 'line 5, pulse: "x" is not allowed; must be a whole number'),
        ("3,up,", "2,up,", "line 5, pulse: 2 is not allowed; must be once per device and cycle"),
        ("3,up,", "3,left,", 'line 5, direction: "left" is not allowed; must be one of "up"'),
        ("4e-06", "abc", 'line 5, conductance_siemens: "abc" is not allowed; must be a number'),
        ("4e-06", "nan", 'line 5, conductance_siemens: "nan" is not allowed'),
        ("4e-06", "inf", 'line 5, conductance_siemens: "inf" is not allowed'),
        ("4e-06", "-4e-06", 'line 5, conductance_siemens: "-4e-06" is not allowed'),
        ("4e-06", "0", 'line 5, conductance_siemens: "0" is not allowed'),
        ("4e-06", "", 'line 5, conductance_siemens: "" is not allowed'),
        ("4e-06", "4e-06,9", "line 5: 4 columns are not allowed; must be 3"),
        ("4e-06", '"4e-06', "not a CSV file"),
        ("down", "up", "steps down are not allowed; must be at least 8 (too few pulses)"),
        ("up", "down", "steps up are not allowed"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, old: str, new: str, line: str) -> None:
    path = tmp_path / "data.csv"
    everywhere = old in ("up", "down")
    position = GOOD.find("\n3,") if old == "4e-06" else 0
    text = GOOD.replace(old, new) if everywhere else GOOD.replace(old, new, 1)
    if old == "4e-06":
        text = GOOD[:position] + GOOD[position:].replace(old, new, 1)
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^data\.csv") as error:
        read_pulse_csv(path)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "an empty file"),
        (b" \n\n", "an empty file"),
        (b"\x89PNG\r\n\x1a\n\x00", "not a CSV file: not UTF-8 text"),
        (b"pulse,direction,conductance_siemens\n", "0 steps up|no two pulses in a row"),
        (b"{}", "without the columns pulse, direction, conductance_siemens"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, line: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=line) as error:
        read_pulse_csv(path)
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_pulse_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="cannot be read"):
        read_pulse_csv(tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda g: 1e-6 + 0.0 * g, "1e-06 throughout is not allowed; must change"),
        (lambda g: 1e-4 - g, "pulses up do not raise the conductance on average; must raise it"),
    ],
)
def test_data_that_do_not_follow_their_pulses(tmp_path: Path, change: Any, line: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(GOOD)
    data = read_pulse_csv(path)
    (train,) = data.trains
    train = fitting.PulseTrain(train.device, train.up, change(train.conductance_siemens))
    with pytest.raises(ValueError, match=line):
        fit_pulse_response(fitting.PulseData(data.source, (train,)))
