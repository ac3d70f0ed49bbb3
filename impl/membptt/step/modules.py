"""The modules among some values, and all below them, each once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from torch import nn

from membptt.torch_private import children_of


def modules_below(values: Iterable[Any], /) -> list[nn.Module]:
    """Return the modules among `values`, and all below them: level by level, thousands in no time."""
    modules: dict[nn.Module, None] = {}
    level = dict.fromkeys(value for value in values if isinstance(value, nn.Module))
    while level:
        modules |= level
        below = chain.from_iterable([table.values() for table in map(children_of, level) if table])
        level = {module: None for module in below if module is not None and module not in modules}
    return [*modules]


def named_below(named: Iterable[tuple[str, Any]], /) -> dict[nn.Module, str]:
    """Return the modules among what is named, and all below, each once, with names."""
    names: dict[nn.Module, str] = {}
    for root in named:
        pending = [root]
        while pending:
            name, module = pending.pop()
            if isinstance(module, nn.Module) and module not in names:
                names[module] = name
                if below := children_of(module):
                    pending += [(f"{name}.{key}".lstrip("."), child) for key, child in reversed(below.items())]
    return names
