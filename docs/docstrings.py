"""What the reference makes of the docstrings' own style, before they are parsed.

- One line may describe several arguments (``rows, columns: of the matrix.``): each gets an entry.
- A name in backticks that the reference has becomes a link to it.
"""

import re
from collections.abc import Iterator
from typing import Any

import griffe

MODULES = ("config", "cards", "crossbar.mapping")
"""Modules of the reference that no package names."""

_SEVERAL = re.compile(r"^( +)(\w+(?:, \w+)+):(?= |$)(.*)$")
_CODE = re.compile(r"(?<![`\[])`([A-Za-z_][\w.]*)`(?![`\]])")


class HouseStyle(griffe.Extension):
    """Rewrites the docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite every docstring."""
        names = reference_names(pkg)
        for owner in objects(pkg):
            if owner.docstring is not None:
                text = one_entry_per_name(owner.docstring.value)
                owner.docstring.value = linked(text, owner, names)


def objects(owner: griffe.Object) -> Iterator[griffe.Object]:
    """An object and all that it defines."""
    yield owner
    for member in owner.members.values():
        if not member.is_alias:
            yield from objects(member)


def reference_names(package: griffe.Module) -> dict[str, str]:
    """Where the reference has what: by path of definition, and by public path."""
    found: dict[str, str] = {}

    def add(public: str, item: griffe.Object | griffe.Alias) -> None:
        found[public] = found[item.canonical_path] = public
        if item.is_class:
            for name, member in item.members.items():
                if not name.startswith("_") and member.has_docstring:
                    found.setdefault(member.canonical_path, f"{public}.{name}")
                    found[f"{public}.{name}"] = f"{public}.{name}"

    def add_all(module: griffe.Module | griffe.Alias, path: str) -> None:
        for name, item in module.members.items():
            exported = item.is_exported if module.exports else not item.is_alias
            if exported and not name.startswith("_"):
                if item.is_module:
                    add_all(item, f"{path}.{name}")
                elif item.has_docstring:
                    add(f"{path}.{name}", item)

    for name in (*rooms(package), *MODULES):
        add_all(package[name], f"{package.path}.{name}")
    return found


def rooms(package: griffe.Module) -> list[str]:
    """Packages that the package's own ``__all__`` names."""
    return [str(name) for name in package.exports or () if package[str(name)].is_init_module]


def linked(docstring: str, owner: griffe.Object, names: dict[str, str]) -> str:
    """A docstring in which names that the reference has are links."""

    def link(found: re.Match[str]) -> str:
        name, scope = found[1], owner
        while scope is not None:
            for path in (f"{scope.path}.{name}", _resolved(scope, name)):
                if path in names and names[path] != names.get(owner.path):
                    return f"[`{name}`][{names[path]}]"
            scope = scope.parent
        return f"[`{name}`][{names[name]}]" if name in names else found[0]

    return _CODE.sub(link, docstring)


def _resolved(scope: griffe.Object, name: str) -> str | None:
    """The path of what a name means within a scope, by its imports."""
    first, _, rest = name.partition(".")
    try:
        item = scope.members[first]
        path = item.target_path if item.is_alias else item.path
    except (KeyError, AttributeError):
        return None
    return f"{path}.{rest}" if rest else path


def one_entry_per_name(docstring: str) -> str:
    """A docstring in which every argument and attribute has an entry of its own."""
    lines = docstring.splitlines()
    done: list[str] = []
    place = 0
    while place < len(lines):
        entry = [lines[place]]
        place += 1
        found = _SEVERAL.match(entry[0])
        if found is None:
            done += entry
            continue
        indent = found[1]
        while place < len(lines) and lines[place].startswith(f"{indent} "):
            entry.append(lines[place])
            place += 1
        for name in found[2].split(", "):
            done += [f"{indent}{name}:{found[3]}", *entry[1:]]
    return "\n".join(done)
