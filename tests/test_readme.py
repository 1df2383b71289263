"""The README's examples run, and its commands exist with the options it gives them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from neurosim_ep.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
LINES = [line.split("#")[0] for line in README.splitlines() if line.startswith("neurosim-ep ")]

# Fewer epochs and iterations and a smaller network: what the examples say, sooner.
SMALLER = (
    ("epochs=20", "epochs=1"),
    ("learning_rate=0.3)", "learning_rate=0.3, epochs=1)"),
    ("widths=(16, 32, 64, 64)", "widths=(4, 4, 8, 8)"),
    ("iterations=120", "iterations=12"),
    ("iterations=60", "iterations=6"),
)


def test_the_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    for text, smaller in SMALLER:
        assert text in blocks, f"{text} is no longer in the README: adapt this test"
        blocks = blocks.replace(text, smaller)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(compile(blocks, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert float(printed[0]) > 50.0
    assert "86400" in "".join(printed)
    assert printed[-1] == "torch.Size([5, 32])"


@pytest.mark.parametrize("line", LINES)
def test_the_commands_have_the_options_that_the_readme_gives_them(line: str) -> None:
    command, arguments = get_command(app), [a for a in shlex.split(line)[1:] if a != "..."]
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        command, arguments = command.commands[arguments[0]], arguments[1:]
    assert not hasattr(command, "commands") or command.invoke_without_command
    # Raises for an option or argument that the command does not have.
    command.make_context(line, list(arguments))


def test_there_are_commands_in_the_readme() -> None:
    assert len(LINES) > 10
