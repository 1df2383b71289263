"""Notebooks become pages when the site is built: their cells, and the outputs stored with them."""

import base64
import json
import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

AFTER = "How to"
"""The section of the navigation that the notebooks come after."""

_ROOT = Path(__file__).parents[1]
_LOG = logging.getLogger("mkdocs.notebooks")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_IMAGES = {"image/svg+xml": "svg", "image/png": "png"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the notebooks that there are into the navigation."""
    pages = [f"notebooks/{path.stem}.md" for path in _notebooks()]
    if pages and config.nav:
        names = [next(iter(item), "") if isinstance(item, dict) else "" for item in config.nav]
        place = names.index(AFTER) + 1 if AFTER in names else len(config.nav)
        config.nav.insert(place, {"Notebooks": pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page per notebook, and its figures."""
    for path in _notebooks():
        text, images = page_of(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in images.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def _notebooks() -> list[Path]:
    return sorted((_ROOT / "notebooks").glob("*.ipynb"))


def page_of(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its figures by file name."""
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = _text(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(_relinked(source, stem))
        elif cell["cell_type"] == "code" and source:
            parts.append(_fenced(source, "python"))
            parts += [_output(output, stem, images) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n", images


def _relinked(text: str, stem: str) -> str:
    """Links as from the page's place; what the site does not have is named without one."""

    def relinked(found: re.Match[str]) -> str:
        label, target = found.groups()
        if target.startswith("../docs/"):
            return f"[{label}](../{target.removeprefix('../docs/')})"
        if re.fullmatch(r"[\w-]+\.ipynb", target):
            return f"[{label}]({target.removesuffix('.ipynb')}.md)"
        if target.startswith("../"):
            if not (_ROOT / target.removeprefix("../").partition("#")[0]).exists():
                _LOG.warning("%s: there is no %s", stem, target)
            return label
        return found[0]

    return _LINK.sub(relinked, text)


def _output(output: dict[str, Any], stem: str, images: dict[str, bytes]) -> str:
    if output["output_type"] == "stream":
        return _fenced(_text(output["text"]), "text")
    if output["output_type"] == "error":
        return _fenced("\n".join(output["traceback"]), "text")
    data = output["data"]
    for kind, ending in _IMAGES.items():
        if kind in data:
            name = f"{stem}-{len(images) + 1}.{ending}"
            text = _text(data[kind])
            images[name] = text.encode() if ending == "svg" else base64.b64decode(text)
            return f"![figure {len(images)}]({name})"
    if "text/markdown" in data:
        return _text(data["text/markdown"])
    return _fenced(_text(data.get("text/plain", "")), "text")


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _fenced(text: str, language: str) -> str:
    text = _ESCAPES.sub("", text).strip("\n")
    return f"```{language}\n{text}\n```" if text else ""
