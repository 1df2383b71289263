"""A sweep's file: its fields, what options change, what is refused, and the copy in the folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosim_ep.config import Recipe, dump_recipe
from neurosim_ep.experiments import sweep
from neurosim_ep.experiments.sweeps.axes import axes_of, settings_of
from neurosim_ep.experiments.sweeps.file import SweepFile, sweep_or_recipe, sweep_toml

Small = Callable[..., Recipe]
Rows = Callable[[Path], list[dict[str, str]]]

pytestmark = pytest.mark.usefixtures("pictures")

DOCUMENTED = Path(__file__).parents[2] / "docs" / "sweeps" / "states-and-rules.toml"
TINY = """
recipe = "digits"
seeds = 2
[vary]
"learning.beta" = [0.1, 0.3]
[set]
"learning.epochs" = 1
"data.train_images" = 96
validation_images = 40
"settling.free_iterations" = 6
"settling.nudged_iterations" = 3
"network.widths" = [8]
[references]
"exact EP" = 97.2
"""


def test_a_file_is_the_sweep_that_its_options_would_be(
    invoke, timeless: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(
        "neurosim_ep.experiments.sweeps.sweep.sweep_figure", lambda *given: told.append(given[2])
    )
    Path("tiny.toml").write_text(TINY)
    done = invoke("sweep", "tiny.toml", "--out=file")
    assert done.exit_code == 0, done.stderr
    done = invoke(
        "sweep", "digits", "--vary=learning.beta=0.1,0.3", "--set=learning.epochs=1",
        "--set=data.train_images=96", "--set=data.validation_images=40", "--set=widths=[8]",
        "--set=settling.free_iterations=6", "--set=settling.nudged_iterations=3", "--seeds=2",
        "--reference=exact EP=97.2", "--out=options",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert len(timeless(Path("file"))) == 4
    assert timeless(Path("file")) == timeless(Path("options"))
    assert told == [{"exact EP": 97.2}] * 2
    # The copy in the folder finds everything done.
    before = {path: path.stat().st_mtime_ns for path in Path("file").glob("*/*")}
    done = invoke("sweep", "file/sweep.toml", "--resume")
    assert done.exit_code == 0, done.stderr
    assert "4 of 4 cells are finished already" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in Path("file").glob("*/*")} == before
    assert invoke("sweep", "file/sweep.toml").exit_code == 2


def test_options_win_over_the_file(invoke, rows: Rows) -> None:
    Path("tiny.toml").write_text('out = "there"\njobs = 2\n' + TINY)
    done = invoke(
        "sweep", "tiny.toml", "--vary=nudged_reads=full,delta", "--seeds=1", "--jobs=1",
        "--set=epochs=2", "--set=beta=0.2", "--reference=exact EP=50", "--reference=chance=10",
        "--out=here",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert [(r["settling.nudged_reads"], r["epochs"]) for r in rows(Path("here"))] == [
        ("full", "2"),
        ("delta", "2"),
    ]
    copy = sweep_or_recipe("here/sweep.toml")
    assert copy.set["learning.beta"] == 0.2
    assert copy.references == {"exact EP": 50.0, "chance": 10.0}
    assert (copy.jobs, copy.scheduler, copy.seeds, copy.out) == (1, None, 1, "here")


def test_the_copy_keeps_every_text(small: Small, tmp_path: Path) -> None:
    axes = axes_of(
        [
            "network.widths=[8,8];[ 4 ]",
            "rule+learning_rate=pulsed+1e-1;sign+0.10;digital+5",
            'device=pcm,"a,b.toml",my.toml',
        ]
    )
    settings = settings_of(
        ["array=default", "device.drift=none", "warm_start=true", "batch_size=1_6", "momentum=0.5"]
    )
    text = sweep_toml(
        "digits", settings, axes, 4, {"a \"b\"": 50.0}, tmp_path, 1, "tcp://node:8786"
    )  # fmt: skip
    (tmp_path / "sweep.toml").write_text(text)
    copy = sweep_or_recipe(str(tmp_path / "sweep.toml"))
    assert axes_of(copy.vary) == axes
    assert settings_of(copy.overrides) | {"array": copy.array} == settings
    assert (copy.seeds, copy.scheduler, copy.jobs) == (4, "tcp://node:8786", None)
    assert copy.references == {'a "b"': 50.0}
    # Numbers and truth values are written as such.
    assert copy.vary["on_chip.rule+learning.learning_rate"][2] == ["digital", 5]
    assert copy.set["settling.warm_start"] is True
    assert copy.set["learning.momentum"] == 0.5


def test_a_recipe_from_python_becomes_a_file_of_the_copy(small: Small, tmp_path: Path) -> None:
    recipe = small("epochs=1")
    first = sweep(recipe, ["beta=0.1"], 1, tmp_path / "sweep")
    copy = sweep_or_recipe(str(tmp_path / "sweep" / "sweep.toml"))
    assert copy.recipe == str(tmp_path / "sweep" / "recipe.toml")
    assert copy.out is not None
    again = sweep(copy.recipe, copy.vary, copy.seeds, Path(copy.out), resume=True)
    assert again.cells == first.cells


def test_the_documented_sweep_runs_at_toy_size(invoke, rows: Rows) -> None:
    """docs/sweeps.md shows this file."""
    assert DOCUMENTED.read_text() in (DOCUMENTED.parents[1] / "sweeps.md").read_text()
    done = invoke(
        "sweep", str(DOCUMENTED), "--seeds=1", "--jobs=1", "--out=here", "--set=train_images=64",
        "--set=epochs=1", "--set=validation_images=40", "--set=widths=[4]",
        "--set=free_iterations=4", "--set=nudged_iterations=2",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    plan = sweep_or_recipe(str(DOCUMENTED))
    cells = len(plan.vary["device.states"]) * len(plan.vary["on_chip.rule+learning_rate"])
    assert [row["status"] for row in rows(Path("here"))] == ["finished"] * cells


def test_a_recipe_is_told_from_a_sweep_by_what_is_in_it(small: Small, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(dump_recipe(small()))
    (tmp_path / "sweep.toml").write_text('recipe = "digits"')
    assert sweep_or_recipe("digits") == SweepFile.model_construct(recipe="digits")
    path = str(tmp_path / "recipe.toml")
    assert sweep_or_recipe(path) == SweepFile.model_construct(recipe=path)
    assert sweep_or_recipe(str(tmp_path / "sweep.toml")).recipe == "digits"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('colour = "red"', [r"neither a sweep, which has recipe and \[vary\], nor a recipe"]),
        ("", [r"neither a sweep"]),
        ("recipe = ", [r"not valid TOML: .*line 1"]),
        ('recipe = "digits"', [r"vary: absent is not allowed; must be one to 3 varied keys"]),
        ("[vary]\nbeta = [0.1]", [r"recipe: absent is not allowed; must be the name or the path"]),
        ('recipe = ""\n[vary]\nbeta = [0.1]', [r'recipe: "" .*the name or the path']),
        ('recipe = "digit"\n[vary]\nbeta = [0.1]', [r'"digit": neither .*did you mean digits']),
        ('recipe = "digits"\nsed = {}\nseeds = 0\njobs = 1.5\n[vary]\nbeta = [0.1]',
         [r"seeds: 0 .*at least 1", r"jobs: 1\.5 .*whole", r"sed: unknown field; did you mean"]),
        ('recipe = "digits"\nvary = 3', [r"vary: 3 .*a table, \[vary\]"]),
        ('recipe = "digits"\n[vary]\nbeta = 0.1\nmomentum = []\nbatch_size = [{a = 1}]\n[set]\n'
         "learning.epochs = 3\n[references]\nEP = 101\nBP = true",
         [r"vary\.beta: 0\.1 .*a list of values", r"vary\.momentum: \[\] .*a list of values",
          r"vary\.batch_size: a table .*a list of values",
          r'set\.learning: a table .*\(keys with dots are quoted: "learning\.epochs" = \.\.\.\)',
          r"references\.EP: 101 .*0 to 100", r"references\.BP: true .*0 to 100"]),
        ('recipe = "digits"\n[vary]\nlearning.beta = [0.1]',
         [r'vary\.learning: a table .*quoted: "learning\.beta" = \[\.\.\.\]\)']),
        ('recipe = "digits"\n[vary]\nbeta = [nan]', [r"vary\.beta: nan"]),
        ('recipe = "digits"\n[vary]\nbeta = [2001-01-01]', [r"vary\.beta: 2001-01-01"]),
        ('recipe = "digits"\njobs = 2\nscheduler = "tcp://x:1"\n[vary]\nbeta = [0.1]',
         [r'scheduler: "tcp://x:1" .*absent where jobs is given']),
        ('recipe = "digits"\n[vary]\nspeed = [1]', [r"speed: unknown field"]),
        ('recipe = "digits"\n[vary]\n"rule+learning_rate" = [["sign"]]', [r"2 values joined"]),
        ('recipe = "digits"\ndevice = "pcm"\n[vary]\nbeta = [0.1]\n[set]\ndevice = "pcm"',
         [r'device: "pcm" .*set already']),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line_per_problem(
    invoke, tmp_path: Path, text: str, lines: list[str]
) -> None:
    Path("wrong.toml").write_text(text)
    done = invoke("sweep", "wrong.toml")
    assert done.exit_code == 2
    assert done.stdout == ""
    told = done.stderr.splitlines()
    assert len(told) == len(lines), told
    for found, line in zip(told, lines, strict=True):
        assert re.search(line, found), found
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.toml"]


def test_no_file_and_no_text_are_told_as_of_a_recipe(invoke) -> None:
    assert '"none.toml": no such file' in invoke("sweep", "none.toml").stderr
    Path("bytes.toml").write_bytes(b"\xff\xff")
    assert "not UTF-8 text" in invoke("sweep", "bytes.toml", "--vary=beta=1").stderr
