"""The documentation builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the site's tools are not installed (pip install '.[dev]')")

ROOT = Path(__file__).parents[1]
ROOMS = (
    "models",
    "settling",
    "learning",
    "devices",
    "crossbar",
    "onchip",
    "exchange",
    "experiments",
    "data",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "built"
    # Another process: MkDocs' plugins warn of their own dependencies, and log to the root logger.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "WARNING" not in said, said
    return folder


class Page(HTMLParser):
    """What a page has: places to link to, links, files that a browser would fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.math = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.math += tag == "math"
        if given.get("id"):
            self.places.add(str(given["id"]))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag in ("img", "script") and given.get("src"):
            self.fetched.append(str(given["src"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "shortcut icon"):
            self.fetched.append(str(given["href"]))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for link in page.links:
            target, _, place = link.partition("#")
            if "://" in target or target.startswith("mailto:") or link == "#":
                continue
            found = (path.parent / target).resolve() if target else path
            found = found / "index.html" if found.is_dir() else found
            there = pages[found].places if found in pages else {place}
            if not found.is_file() or (place and place not in there):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert not lost


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for name in page.fetched:
            assert "//" not in name, f"{path.relative_to(site)}: {name}"
            assert (path.parent / name.partition("?")[0]).is_file(), f"{path}: {name}"


def test_equations_are_equations(site: Path, pages: dict[Path, Page]) -> None:
    assert pages[site / "physics.html"].math > 50
    for path in pages:
        text = path.read_text(encoding="utf-8")
        prose = re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL)
        assert "arithmatex" not in text
        assert "$$" not in prose, path
        assert not re.search(r"\\(frac|sum|beta|left|mathrm|text)\b", prose), path


def test_the_reference_has_every_public_name(site: Path, pages: dict[Path, Page]) -> None:
    for room in ROOMS:
        module = importlib.import_module(f"neurosim_ep.{room}")
        places = pages[site / "api" / f"{room}.html"].places
        missing = []
        for name in module.__all__:
            # A function may have the name of its file; a module has its functions.
            paths = (f"neurosim_ep.{room}.{name}", f"neurosim_ep.{room}.{name}.{name}")
            inside = any(place.startswith(f"{paths[0]}.") for place in places)
            if not inside and not places.intersection(paths):
                missing.append(name)
        assert not missing, f"{room}: no docstring, or not shown: {missing}"
