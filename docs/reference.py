"""The reference's pages, one per room: all that a package's ``__all__`` names, made at every build.

Where ``__all__`` names a module of the room, its names follow in a section of their own.  A
function may have the name of its file; mkdocstrings takes it for the file, so it is asked for by
its full path.
"""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parents[1] / "neurosim_ep"
ROOMS = {
    "models": {},
    "settling": {"show_if_no_docstring": "true"},  # its constants speak for themselves
    "learning": {},
    "devices": {
        "inherited_members": "[advance_time, age_s, conductance, pulse_count, pulse_devices, "
        "read_variance, state, state_bounds]"
    },
    "crossbar": {},
    "onchip": {},
    "exchange": {},
    "experiments": {},
    "data": {},
}
"""Rooms, and what their pages ask of mkdocstrings beside the rest."""
MODULES = {"crossbar": ("mapping",)}
"""Modules that the pages of others point to, though their packages do not name them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for room, options in ROOMS.items():
        text = page(room, options)
        files.append(File.generated(config, f"api/{room}.md", content=text))
    return files


def page(room: str, options: dict[str, str]) -> str:
    """A room's page, as Markdown."""
    functions, modules = named(room)
    parts = [f"# neurosim_ep.{room}", entry(f"neurosim_ep.{room}", filters="public", **options)]
    parts += [f"::: neurosim_ep.{room}.{name}.{name}" for name in functions]
    for name in (*modules, *MODULES.get(room, ())):
        filters = "public" if exports(PACKAGE / room / name) else '["!^_"]'
        path = f"neurosim_ep.{room}.{name}"
        parts += [f"## {path}", entry(path, filters=filters, show_root_toc_entry="false")]
    return "\n\n".join(parts) + "\n"


def entry(path: str, **options: str) -> str:
    """What asks mkdocstrings for a module."""
    lines = [f"      {name}: {value}" for name, value in options.items()]
    return "\n".join([f"::: {path}", "    options:", "      show_root_heading: false", *lines])


def named(room: str) -> tuple[list[str], list[str]]:
    """Functions named as their files, and modules, of a room's ``__all__``."""
    functions, modules = [], []
    for statement in tree(PACKAGE / room).body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            for name in (alias.name for alias in statement.names):
                if statement.module == f"neurosim_ep.{room}.{name}":
                    functions.append(name)
                elif statement.module == f"neurosim_ep.{room}":
                    modules.append(name)
    public = exports(PACKAGE / room)
    return [n for n in functions if n in public], [n for n in modules if n in public]


def exports(module: Path) -> list[str]:
    """The names in ``__all__``; none without it."""
    for statement in tree(module).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(statement.value)]
    return []


def tree(module: Path) -> ast.Module:
    """A module or package, parsed."""
    path = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))
