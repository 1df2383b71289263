"""The command as a user meets it: help, good runs, wrong inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

COMMANDS = ("train", "evaluate", "compare", "sweep", "reproduce", "fidelity", "devices", "validate")
COMMANDS += ("recipes", "export")
TINY = (
    "--set=train_images=120",
    "--set=validation_images=40",
    "--set=epochs=2",
    "--set=free_iterations=6",
    "--set=nudged_iterations=3",
    "--set=threads=1",
)


def test_help_names_every_command_and_option(command, invoke) -> None:
    top = command("--help")
    assert top.returncode == 0
    for name in COMMANDS:
        assert name in top.stdout
        page = invoke(name, "--help")
        assert page.exit_code == 0
        assert page.stdout.count("--help") == 1
    assert "--resume" in invoke("train", "--help").stdout


def test_train_then_evaluate(command, tmp_path: Path) -> None:
    trained = command("train", "digits", *TINY)
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"epoch +1/2 +cost .* train .* test .*images/s", trained.stderr)
    said = re.search(r"best validation accuracy .*: ([0-9.]+) %", trained.stdout)
    assert said is not None
    evaluated = command("evaluate", "runs/digits")
    assert evaluated.returncode == 0
    assert f"test accuracy: {said[1]} % of 360 images" in evaluated.stdout


def test_compare_prints_both_ways_of_learning(command) -> None:
    done = command("compare", "digits", "--seeds", "2", *TINY)
    assert done.returncode == 0, done.stderr
    for label in ("backpropagation", "centered EP"):
        assert re.search(rf"{label} .* 2 .* [0-9.]+ \+- [0-9.]+", done.stdout)


def test_recipes_are_listed(invoke) -> None:
    listed = invoke("recipes").stdout
    assert "hopfield-resnet13-cifar100" in listed
    assert "vgg5-fashion-mnist" in listed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("train", "no-such-recipe"), "no-such-recipe"),
        (("train", "digits", "--set", "speed=3"), "speed"),
        (("train", "digits", "--set", "beta=-0.1"), r"learning\.beta: -0\.1 .*greater than 0"),
        (("train", "digits", "--set", "widths=[0]"), r"network\.widths: \[0\] .*at least 1"),
        (("train", "digits", "--set", "alpha=0"), r"network\.alpha: 0.* .*greater than 0"),
        (("train", "digits", "--set", "alpha=-6"), r"network\.alpha: -6"),
        (
            ("train", "digits", "--set", "free_iterations=10001"),
            r"settling\.free_iterations: 10001 .*10000",
        ),
        (("train", "digits", "--set", "image_size=4"), r"data\.image_size: 4 .*8"),
        (("train", "vgg5-small-cifar10", "--set", "image_size=28"), r"image_size: 28 .*32"),
        (("train", "mlp-mnist", "--data-dir", "nowhere"), "nowhere"),
        (("train", "digits", "--set", "device=cuda:99"), r"run\.device.*cuda:99"),
        (("evaluate", "nowhere"), "nowhere: not a run folder"),
        (("compare", "digits-bp"), "digits-bp"),
        (("validate", "nowhere.h5"), "nowhere.h5: no such file"),
        (("validate", "."), "a folder"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    invoke, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert re.search(line, only), only
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_file_with_several_faults_gives_one_line_each(command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nspeed = 3\n[network]\nmodel = "mlp"\n')
    done = command("train", "mine.toml")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert all(entry.startswith("error: ") for entry in done.stderr.splitlines())
    assert any("speed" in entry for entry in done.stderr.splitlines())
