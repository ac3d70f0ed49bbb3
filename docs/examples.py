"""An extension of griffe: the examples in a docstring stand in a section of their own, which is drawn as code."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> (?:.|\n(?!\n))*", flags=re.MULTILINE)


class Examples(griffe.Extension):
    """Puts a heading over a docstring's first example."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Look at one documented object."""
        if obj.docstring is not None and "Examples:" not in obj.docstring.value:
            obj.docstring.value = _EXAMPLE.sub(_section, obj.docstring.value, count=1)


def _section(example: re.Match[str]) -> str:
    return "Examples:\n" + "\n".join(f"    {line}" for line in example[0].splitlines())
