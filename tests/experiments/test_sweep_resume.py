"""A stopped sweep goes on; what is finished is kept; what does not belong to it is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosim_ep.cards import dump_card
from neurosim_ep.config import Recipe
from neurosim_ep.devices import load_device_card
from neurosim_ep.experiments import run, run_folder, sweep

Small = Callable[..., Recipe]
Rows = Callable[[Path], list[dict[str, str]]]

pytestmark = pytest.mark.usefixtures("pictures")

# What rules without a digital gradient ask for.
PULSED = ("learning.momentum=0", "nesterov=false", "learning.learning_rate=0.5")


def test_finished_cells_are_kept_and_new_values_join_them(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small("epochs=1")
    first = sweep(recipe, ["beta=0.1,0.3"], 1, tmp_path)
    with pytest.raises(ValueError, match="there is a sweep in this folder"):
        sweep(recipe, ["beta=0.1,0.3"], 1, tmp_path)
    trained = []

    def counted(recipe: Recipe, *arguments: object, **options: object) -> object:
        trained.append((recipe.learning.beta, recipe.seed))
        return run(recipe, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("neurosim_ep.experiments.sweeps.cells.run", counted)
    again = sweep(recipe, ["beta=0.1,0.3"], 1, tmp_path, resume=True)
    assert trained == []
    assert again.cells == first.cells
    more = sweep(recipe, ["beta=0.1,0.2,0.3"], 2, tmp_path, resume=True)
    assert trained == [(0.1, 1), (0.2, 0), (0.2, 1), (0.3, 1)]
    assert [more.cells[n] for n in (0, 4)] == list(first.cells)
    assert len(json.loads((tmp_path / "sweep.json").read_text())["runs"]) == 3


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_stopped_sweep_goes_on_to_the_same_results(
    small: Small, tmp_path: Path, timeless: Rows, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    recipe = small()
    sweep(recipe, ["beta=0.1,0.3"], 1, tmp_path / "whole")
    write, epochs = run_folder.RunFolder.write_metrics, 0

    def stopping(files, history) -> None:
        nonlocal epochs
        write(files, history)
        epochs += 1
        if epochs == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.RunFolder, "write_metrics", stopping)
    with pytest.raises(KeyboardInterrupt):
        sweep(recipe, ["beta=0.1,0.3"], 1, tmp_path / "parts")
    monkeypatch.setattr(run_folder.RunFolder, "write_metrics", write)
    sweep(recipe, ["beta=0.1,0.3"], 1, tmp_path / "parts", resume=True)
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")


def test_a_failed_cell_is_tried_again(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ValueError("out of luck")

    monkeypatch.setattr("neurosim_ep.experiments.sweeps.cells.run", broken)
    (cell,) = sweep(small("epochs=1"), ["beta=0.1"], 1, tmp_path).cells
    assert (cell.status, cell.message) == ("failed", "out of luck")
    monkeypatch.setattr("neurosim_ep.experiments.sweeps.cells.run", run)
    (cell,) = sweep(small("epochs=1"), ["beta=0.1"], 1, tmp_path, resume=True).cells
    assert (cell.status, cell.message) == ("finished", "")
    assert not (cell.folder / "failed.json").exists()


@pytest.mark.parametrize(
    ("vary", "options", "line"),
    [
        (["beta=0.1"], {"overrides": ["epochs=2"]}, r"learning\.epochs: 2 .*started with 1"),
        (["epochs=1"], {}, r"vary: learning\.epochs .*varies learning\.beta"),
        (
            ["beta=0.1"],
            {"device": "mo-ecram"},
            r"on_chip\.device_card: 'mo-ecram' .*'device\.toml'",
        ),
        (["beta=0.1"], {"overrides": ["device.states=9"]}, r"on_chip\.device_card: "),
        (["beta=0.1"], {"edit": True}, r"started with other cards"),
    ],
)
def test_another_sweep_is_not_resumed(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    vary: list[str], options: dict[str, object], line: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    card = dump_card(load_device_card("li-ecram"))
    Path("device.toml").write_text(card)
    recipe = small("epochs=1", *PULSED, "on_chip.device_card=device.toml", "array_card=ideal")
    if "device" in options:
        recipe_again = small("epochs=1", *PULSED, "array_card=ideal", "device_card=mo-ecram")
        options = {}
    else:
        recipe_again = recipe
    sweep(recipe, ["beta=0.1"], 1, Path("here"))
    before = {p: p.stat().st_mtime_ns for p in Path("here").rglob("*")}
    if options.pop("edit", None):
        Path("device.toml").write_text(card.replace("step_relative = ", "step_relative = 1.5 #"))
    with pytest.raises(ValueError, match=line):
        sweep(recipe_again, vary, 1, Path("here"), resume=True, **options)  # type: ignore[arg-type]
    assert {p: p.stat().st_mtime_ns for p in Path("here").rglob("*")} == before


def test_a_run_of_another_origin_is_left_alone(small: Small, tmp_path: Path) -> None:
    recipe = small("epochs=1")
    run(recipe, tmp_path / "beta=0.1_seed=0")
    with pytest.raises(ValueError, match="there is a run in this folder"):
        sweep(recipe, ["beta=0.1"], 1, tmp_path)


def test_a_damaged_record_is_refused(small: Small, tmp_path: Path) -> None:
    recipe = small("epochs=1")
    (cell,) = sweep(recipe, ["beta=0.1"], 1, tmp_path).cells
    for name in ("cell.json", "result.json", "../sweep.json"):
        whole = (cell.folder / name).read_text()
        (cell.folder / name).write_text(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"damaged"):
            sweep(recipe, ["beta=0.1"], 1, tmp_path, resume=True)
        (cell.folder / name).write_text(whole)
