"""The committed notebooks: a question, executed cells, labelled figures, an answer of outputs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SETTINGS = "# Settings: raise them for the full study."

notebooks = pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem
)


def cells(path: Path, kind: str) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def outputs(path: Path) -> list[Any]:
    return [output for cell in cells(path, "code") for output in cell.outputs]


@notebooks
def test_it_starts_from_a_question_and_ends_with_the_answer(path: Path) -> None:
    every = nbformat.read(path, as_version=4).cells
    assert every[0].cell_type == "markdown"
    assert re.match(r"# .+\?$", every[0].source.splitlines()[0])
    # Its numbers are computed: the answer is what the last cell displays, not what a person typed.
    (answer,) = every[-1].outputs
    assert re.search(r"\d", answer.data["text/markdown"])


@notebooks
def test_every_cell_has_been_executed_without_errors_or_warnings(path: Path) -> None:
    code = cells(path, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" for output in outputs(path))
    assert all(output.get("name") != "stderr" for output in outputs(path))


@notebooks
def test_its_figures_are_labelled(path: Path) -> None:
    pictures = [output.data for output in outputs(path) if "image/png" in output.get("data", {})]
    assert pictures
    for picture in pictures:
        # What `plots.publish` says: the vector files, and the labels of every axes.
        assert re.match(r"\S+\.pdf, \S+\.svg: .+ over .+", picture["text/plain"])


@notebooks
def test_one_cell_holds_what_a_full_study_raises(path: Path) -> None:
    assert [cell.source.startswith(SETTINGS) for cell in cells(path, "code")].count(True) == 1


@notebooks
def test_it_holds_nothing_that_changes_with_every_execution(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert dict(notebook.metadata.language_info) == {"name": "python"}
    assert all(not cell.metadata for cell in notebook.cells)
    assert not re.search(r"/home/|/tmp/| at 0x[0-9a-f]{6}", path.read_text())


@notebooks
def test_its_links_lead_somewhere(path: Path) -> None:
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert any(link.startswith("../neurosim_ep/") for link in links)
    for link in links:
        assert (FOLDER / link.partition("#")[0]).exists(), link


def test_a_warning_fails_a_notebook_and_what_is_written_is_tidy(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "conftest.py", tmp_path)
    for name, code in (
        ("quiet", "import sys\nprint(sys.prefix)"),
        ("warns", "import warnings\nwarnings.warn('deprecated', DeprecationWarning)"),
    ):
        cell = nbformat.v4.new_code_cell(code, id="only", metadata={"tags": ["a"]})
        notebook = nbformat.v4.new_notebook(cells=[cell])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    settings = ("-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, "--nbmake", "--overwrite", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1
    assert re.search(r"FAILED.*warns\.ipynb", ran.stdout)
    assert "1 failed, 1 passed" in ran.stdout
    written = nbformat.read(tmp_path / "quiet.ipynb", as_version=4)
    (only,) = written.cells
    assert (dict(only.metadata), only.execution_count) == ({}, 1)
    assert dict(written.metadata.language_info) == {"name": "python"}
    # The kernel is that of the environment that runs the tests.
    assert only.outputs[0].text.strip() == sys.prefix
