"""The pages' examples run, their commands exist, and the tutorial works from end to end."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import torch
from pyarrow import Table, parquet
from typer.main import get_command
from typer.testing import CliRunner

from neurosim_ep.cli import app

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NAMES = [str(path.relative_to(DOCS)) for path in PAGES]

# Fewer epochs: what an example says, sooner.
SMALLER = {"epochs=20": "epochs=1"}
ELSEWHERE = {
    "aihwkit.md": "tests/exchange/test_aihwkit_training.py runs it where aihwkit is",
    "parallel.md": "tests/learning/test_parallel_training.py has it",
    "hdf5-format.md": "tests/exchange/test_hdf5_format.py runs them on a chip's file",
}


def blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p, "python")], ids=str)
def test_python_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(blocks(path, "python"))
    ast.parse(code)
    if path.name in ELSEWHERE:
        pytest.skip(ELSEWHERE[path.name])
    for text, smaller in SMALLER.items():
        code = code.replace(text, smaller)
    monkeypatch.chdir(tmp_path)
    if path.name == "sweeps.md":
        a_sweeps_table(Path("runs/states-and-rules"))
    torch.manual_seed(0)
    exec(compile(code, str(path), "exec"), {"__name__": "__main__"})


def a_sweeps_table(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = [
        {"device.states": states, "on_chip.rule": "pulsed", "last_percent": 90.0 + seed}
        for states in (4, 16)
        for seed in range(2)
    ]
    parquet.write_table(Table.from_pylist(rows), folder / "results.parquet")


def commands() -> list[tuple[str, str]]:
    found = []
    for path, name in zip(PAGES, NAMES, strict=True):
        for block in blocks(path, "sh"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(name, line.split("#")[0].strip()) for line in lines]
    return [(name, line) for name, line in found if line]


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_have_the_options_that_the_pages_give_them(page: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] in ("make", "."):
        makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
        assert words[0] == "." or re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        return
    if words[0] == "torchrun":
        words = words[words.index("neurosim_ep") :]
    assert words[0].replace("_", "-") == "neurosim-ep"
    command, arguments = get_command(app), words[1:]
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        command, arguments = command.commands[arguments[0]], arguments[1:]
    assert not hasattr(command, "commands") or command.invoke_without_command
    # Raises for an option or argument that the command does not have.
    command.make_context(line, list(arguments))


# What the tutorial trains and measures, sooner.
ONE_CHIP = " --device-seeds 1 --images 60"
QUICK = {
    "train digits": " --set epochs=1",
    "--times 0,1d,1y": f" --no-attribution{ONE_CHIP}",
    "--on-chip": f" --set epochs=1{ONE_CHIP}",
}


def test_the_tutorial_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "tutorial.md"
    (measured,), (tables,) = blocks(page, "python"), blocks(page, "toml")
    exec(compile(measured, str(page), "exec"), {})
    lines = [line for name, line in commands() if name == "tutorial.md"]
    ran = []
    for line in (line for line in lines if line.startswith("neurosim-ep ")):
        options = "".join(quick for key, quick in QUICK.items() if key in line)
        words = shlex.split(line + options)[1:]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{line}: {done.output}"
        ran.append(" ".join(words[:2]))
        if ran[-1] == "devices fit":
            card = Path("my-device.toml")
            card.write_text(card.read_text(encoding="utf-8") + "\n" + tables, encoding="utf-8")
    assert ran == ["train digits", "devices fit", "devices ./my-device.toml"] + 2 * [
        "compare digits"
    ]
    # What the page says of the fit.
    text = Path("my-device.toml").read_text(encoding="utf-8")
    for field, value in (("step_relative", "0.0406904"), ("model", '"soft_bounds"')):
        assert f"{field} = {value}" in text
        assert re.search(rf"pulse_response.{field} .*{value}", page.read_text(encoding="utf-8"))
    assert Path("runs/my-device/drift.png").is_file()
    assert Path("runs/my-device-on-chip/accuracy.png").is_file()
