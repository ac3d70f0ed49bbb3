"""A hook of mkdocs: formulas become MathML, which browsers show by themselves, without a script from elsewhere."""

import html
import re
from collections.abc import Iterable
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', flags=re.DOTALL)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Return the page with each formula converted; one that cannot be read stops the build."""
    _name(page.toc)
    return _FORMULA.sub(_mathml, content)


def _name(headings: Iterable[Any]) -> None:
    """A table of contents has no room for formulas: leave their letters."""
    for heading in headings:
        heading.title = re.sub(r"\\\((.*?)\\\)", r"\1", heading.title)
        _name(heading.children)


def _mathml(formula: re.Match[str]) -> str:
    block = formula[2] == "["
    return str(convert(html.unescape(formula[3]).strip(), display="block" if block else "inline"))
