"""What each test answers to, and the page that says so: `python -m tests.peers` writes it."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "peers.md"
SUITES = {  # module: what its behaviours are from
    "test_torch_scan": "torch's `scan`: `test/functorch/test_control_flow.py`",
    "test_torch_checkpoint": "`torch.utils.checkpoint`: `test/test_utils.py`, `test/test_autograd.py`",
    "test_jax_scan": "JAX's `scan`, `while_loop` and `map`: `tests/lax_control_flow_test.py`",
    "test_equinox_loops": "equinox's loops: `tests/test_while_loop.py`, `tests/test_scan.py`",
}
INTRODUCTION = """# Beside other suites

What the tests of other loops ask for, asked of ours. The tests are our own (`tests/peers/`), named after theirs; this
page is made from them, and a test compares. *Passes*: the test passes. *Missing*: it is asked for and refused, which a
test sees, too. *Does not apply*: it asks for what has no meaning here, and the page says why.
"""


class Behaviour(NamedTuple):
    """What a peer's tests ask for.

    Args:
        suite: module of our tests.
        theirs: names of theirs.
        asks: in a sentence.
        missing: why it is refused here; ``None`` where the test passes.
        apart: why it does not apply; ``None`` where it does.
    """

    suite: str
    theirs: tuple[str, ...]
    asks: str
    missing: str | None = None
    apart: str | None = None

    @property
    def verdict(self) -> str:
        """What the page says of it."""
        if self.apart is not None:
            return f"does not apply: {self.apart}"
        return "passes" if self.missing is None else f"missing: {self.missing}"


_seen: list[Behaviour] = []


def answers(*theirs: str, missing: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a test that asks what tests of a peer ask; one that is missing has to fail, until it is there."""

    def marked(test: Callable[..., None]) -> Callable[..., None]:
        suite = test.__module__.rpartition(".")[2]
        asks = (test.__doc__ or "").split("\n\n")[0].strip().removesuffix(".")
        _seen.append(Behaviour(suite, theirs, asks, missing))
        if missing is None:
            return test

        @functools.wraps(test)
        def refused(*args: Any, **options: Any) -> None:
            with pytest.raises((RuntimeError, TypeError, ValueError)):
                test(*args, **options)

        return refused

    return marked


def apart(module: str, *theirs: str, asks: str, why: str) -> None:
    """Take note of what does not apply."""
    _seen.append(Behaviour(module.rpartition(".")[2], theirs, asks, apart=why))


def behaviours() -> list[Behaviour]:
    """Return all of them, by suite, in the order of the tests."""
    for suite in SUITES:
        importlib.import_module(f"tests.peers.{suite}")
    return sorted(dict.fromkeys(_seen), key=lambda each: [*SUITES].index(each.suite))


def page() -> str:
    """Return the page."""
    rows = behaviours()
    text = [INTRODUCTION, "| suite | behaviours | apply | pass | missing |\n|---|---|---|---|---|"]
    for suite, title in SUITES.items():
        own = [row for row in rows if row.suite == suite]
        applying = [row for row in own if row.apart is None]
        missing = [row for row in applying if row.missing is not None]
        text.append(f"| {title} | {len(own)} | {len(applying)} | {len(applying) - len(missing)} | {len(missing)} |")
    for suite, title in SUITES.items():
        text.append(f"\n## {re.sub(':.*', '', title)}\n\n| their tests | ask | here |\n|---|---|---|")
        for row in rows:
            if row.suite == suite:
                text.append(f"| {', '.join(f'`{name}`' for name in row.theirs)} | {row.asks} | {row.verdict} |")
    return "\n".join(text) + "\n"
