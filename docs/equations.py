"""Equations become MathML when the site is built: browsers show it without scripts or network."""

import html
import logging
import re

from latex2mathml.converter import convert

_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_UNKNOWN = re.compile(r"<m[ion]>(\\[A-Za-z]+)")
_LOG = logging.getLogger("mkdocs.equations")


def on_page_content(content: str, page: object, **_: object) -> str:
    """Replace what the Markdown extension ``arithmatex`` has marked on a page."""

    def replaced(found: re.Match[str]) -> str:
        kind, bracket, latex = found.groups()
        latex = html.unescape(latex).strip()
        shown = convert(latex, display="block" if bracket == "[" else "inline")
        for command in _UNKNOWN.findall(shown):
            _LOG.warning("%s: %s is not known, in %s", page, command, latex)
        return f'<{kind} class="equation">{shown}</{kind}>'

    found = _EQUATION.sub(replaced, content)
    if "arithmatex" in found:
        _LOG.warning("%s: an equation was not converted", page)
    return found
