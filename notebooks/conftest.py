"""Notebooks as tests: warnings are errors, and `--overwrite` writes nothing that always changes."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path

import nbformat
import pytest

# Run by the kernel after its own imports, before the first cell; the kernel's warnings are its own.
STARTUP = """import warnings

warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ipykernel")
"""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        startup = Path(folder) / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "warnings_are_errors.py").write_text(STARTUP)
        patch.setenv("IPYTHONDIR", folder)
        yield
    if item.config.option.overwrite:
        tidy(item.path)


def tidy(path: Path) -> None:
    """Leave what does not change from one execution to the next."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
    nbformat.write(notebook, path)
