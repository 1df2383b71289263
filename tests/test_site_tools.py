"""What the site's build does to docstrings, equations, notebooks and tables."""

from __future__ import annotations

import base64
import importlib.util
import logging
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mkdocs", reason="the site's tools are not installed (pip install '.[dev]')")

DOCS = Path(__file__).parents[1] / "docs"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_that_share_a_line_get_an_entry_each() -> None:
    docstring = "What.\n\nArgs:\n    a, b: of this,\n        and that.\n    c: other, d: no.\n"
    expected = (
        "What.\n\nArgs:\n    a: of this,\n        and that.\n    b: of this,\n        and that.\n"
        "    c: other, d: no."
    )
    assert tool("docstrings").one_entry_per_name(docstring) == expected


def test_names_in_backticks_become_links(tmp_path: Path) -> None:
    griffe = pytest.importorskip("griffe")
    package = tmp_path / "made"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text('__all__ = ["room"]\n', encoding="utf-8")
    (package / "room" / "__init__.py").write_text(
        '"""Room."""\nfrom made.room.inner import Thing, use\n__all__ = ["Thing", "use"]\n',
        encoding="utf-8",
    )
    (package / "room" / "inner.py").write_text(
        '"""Inner."""\nclass Thing:\n    """A thing; `go`, `use`, `hidden`."""\n'
        '    def go(self):\n        """Of `Thing`."""\n'
        'def use():\n    """`Thing.go` of `made.room.Thing`; ``use`` stays."""\n'
        "def hidden(): ...\n",
        encoding="utf-8",
    )
    tools = tool("docstrings")
    tools.MODULES = ()
    loaded = griffe.load("made", search_paths=[tmp_path])
    names = tools.reference_names(loaded)
    assert set(names.values()) == {"made.room.Thing", "made.room.Thing.go", "made.room.use"}
    inner = loaded["room.inner"]

    def linked(path: str) -> str:
        text: str = tools.linked(inner[path].docstring.value, inner[path], names)
        return text

    thing = "A thing; [`go`][made.room.Thing.go], [`use`][made.room.use], `hidden`."
    assert linked("Thing") == thing
    assert linked("Thing.go") == "Of [`Thing`][made.room.Thing]."
    link = "[`Thing.go`][made.room.Thing.go] of [`made.room.Thing`][made.room.Thing]"
    assert linked("use") == f"{link}; ``use`` stays."


def test_equations_become_mathml_and_unknown_commands_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    equations = tool("equations")
    page = '<p><span class="arithmatex">\\(a_i &lt; \\beta\\)</span></p>'
    shown = equations.on_page_content(page, page="x.md")
    assert "<msub><mi>a</mi><mi>i</mi></msub>" in shown
    assert "arithmatex" not in shown
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        equations.on_page_content('<div class="arithmatex">\\[\\nope{a}\\]</div>', page="x.md")
    assert "\\nope is not known" in caplog.text


def test_notebooks_become_pages(caplog: pytest.LogCaptureFixture) -> None:
    image = base64.b64encode(b"png").decode()
    cells = [
        {
            "cell_type": "markdown",
            "source": [
                "# Why?\n",
                "[results](../docs/results.md#x), [next](2-next.ipynb), ",
                "[`cards.py`](../neurosim_ep/cards.py), [web](https://x.org/a.ipynb)",
            ],
        },
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["\x1b[1m1\x1b[0m\n"]},
                {"output_type": "display_data", "data": {"image/png": image, "text/plain": "f"}},
                {"output_type": "display_data", "data": {"image/svg+xml": ["<svg", "/>"]}},
                {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
            ],
        },
        {"cell_type": "code", "source": "", "outputs": []},
    ]
    notebooks = tool("notebooks")
    text, images = notebooks.page_of({"cells": cells}, "1-why")
    assert text == (
        "# Why?\n[results](../results.md#x), [next](2-next.md), `cards.py`, "
        "[web](https://x.org/a.ipynb)\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "![figure 1](1-why-1.png)\n\n![figure 2](1-why-2.svg)\n\n```text\n2\n```\n"
    )
    assert images == {"1-why-1.png": b"png", "1-why-2.svg": b"<svg/>"}
    assert not caplog.records
    cells[0]["source"] = "[gone](../neurosim_ep/gone.py)"
    with caplog.at_level(logging.WARNING):
        notebooks.page_of({"cells": cells}, "1-why")
    assert "there is no ../neurosim_ep/gone.py" in caplog.text


def test_the_reference_follows_what_packages_name() -> None:
    reference = tool("reference")
    functions, modules = reference.named("experiments")
    assert {"build", "compare", "run"} <= set(functions)
    functions, modules = reference.named("crossbar")
    assert {"cost", "wires"} <= set(modules)
    page = reference.page("crossbar", {})
    assert "::: neurosim_ep.crossbar.cost\n    options:" in page
    assert page.count("# neurosim_ep.crossbar\n") == 1


def test_short_cells_stay_whole() -> None:
    tables = tool("tables")
    row = "<td>2.3e-16</td><td>a cell that is rather long</td><td><b>1</b></td>"
    expected = row.replace("<td>2.3e-16", '<td class="short">2.3e-16')
    assert tables.on_page_content(row) == expected
