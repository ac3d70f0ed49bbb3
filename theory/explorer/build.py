"""Build the explorer, one page that needs nothing else: ``python theory/explorer/build.py [--out FILE]``.

The page holds exact tables of every policy. Its script looks costs up and walks decisions and splits, as
`membptt_theory.streams` does; it computes no split and no minimum, and a test compares every stream it can draw.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, recursive_cost, sqrt_cost
from membptt_theory.files import write_whole
from membptt_theory.palette import ON_PAGES
from membptt_theory.policies import POLICIES, sized
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build

HERE: Final = Path(__file__).parent
OUT: Final = HERE / "out" / "index.html"
STEPS: Final = 64
SLOTS: Final = 32
ALPHAS: Final = tuple(range(2, 9))


def main(arguments: list[str] | None = None) -> int:
    """Write the page, whole or not at all; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the explorer, one page that needs nothing else.")
    parser.add_argument("--out", type=Path, default=OUT, help="the page (default: theory/explorer/out/index.html)")
    out: Path = parser.parse_args(arguments).out
    out.parent.mkdir(parents=True, exist_ok=True)
    text = page()
    write_whole(out, lambda path: path.write_text(text, encoding="utf-8"))
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB")
    return 0


def page() -> str:
    """Return the page: the template with style, colours, tables and script put in."""
    parts = {"STYLE": "style.css", "SCRIPT": "explorer.js"}
    text = (HERE / "template.html").read_text(encoding="utf-8")
    for mark, name in parts.items():
        text = text.replace(f"@@{mark}@@", (HERE / name).read_text(encoding="utf-8"))
    for mark, ground in (("LIGHT", 0), ("DARK", 1)):
        colours = "; ".join(f"--{name}: {shades[ground]}" for name, shades in ON_PAGES.items())
        text = text.replace(f"@@{mark}@@", f"{colours};")
    return text.replace("@@TABLES@@", json.dumps(embedded(), separators=(",", ":")))


def embedded() -> dict[str, Any]:
    """Return what the page knows: its range, the tables by key, and what Chen's strategies cost in the same memory."""
    tables = {
        key: _packed(table) for key, table in tqdm(policies().items(), desc="tables", file=sys.stderr, disable=None)
    }
    chen = {"chen_recursive": _pack16(_recursive())}
    for alpha in ALPHAS:
        chen[f"chen_sqrt/{alpha}"] = _pack16(_sqrt(Sizes(1, alpha)))
        chen[f"chen_sqrt_shared/{alpha}"] = _pack16(_sqrt(Sizes(1, alpha, alpha - 1)))
    return {
        "steps": STEPS,
        "slots": SLOTS,
        "alphas": ALPHAS,
        "strategies": strategies(),
        "tables": tables,
        "chen": chen,
    }


def policies() -> dict[str, PolicyTable]:
    """Return every table of the page: those that depend on alpha once for each."""
    tables = {}
    for policy, sizes in sized(*ALPHAS):
        shared = "_shared" if "internal_known" in sizes else ""
        key = f"{policy}{shared}/{sizes['internal']}" if sizes else policy
        tables[key] = build(policy, STEPS, SLOTS, **sizes)
    return tables


def strategies() -> list[tuple[str, str, str, bool]]:
    """Return what can be chosen or compared: key, name, what it is, and whether its schedule can be drawn."""
    shared = "what two states share is stored once"
    rows = []
    for name, policy in POLICIES.items():
        rows.append((name, policy.title, policy.summary, True))
        if "internal_known" in policy.parameters:
            rows.append((f"{name}_shared", f"{policy.title}, shared", f"{policy.summary}, {shared}", True))
    return [
        *rows,
        ("chen_sqrt", "Chen √t", "equal segments", False),
        ("chen_sqrt_shared", "Chen √t, shared", f"equal segments, {shared}", False),
        ("chen_recursive", "Chen recursive", "equal parts of equal parts", False),
    ]


def _packed(table: PolicyTable) -> dict[str, Any]:
    """Return a table as text: costs as they are, a decision and its split as one number ``256 decision + split``."""
    costs = table.costs.copy()
    costs[:, 0, :] = 0  # no slots, no policy: never looked up
    moves = 256 * table.decisions.astype(np.int64) + table.splits
    return {
        "digest": table.digest,
        "equations": table.recurrence.equations,
        "sizes": [table.sizes.hidden, table.sizes.internal, table.sizes.internal_known],
        "cuts": [[[cut.decision, cut.first, cut.last, cut.room] for cut in cuts] for cuts in table.recurrence.cuts],
        "costs": _pack16(costs),
        "moves": _pack16(moves),
    }


def _pack16(numbers: NDArray[np.int64]) -> str:
    if numbers.min() < 0 or numbers.max() >= 2**16:
        raise ValueError(f"a number between {numbers.min()} and {numbers.max()} does not fit in 16 bits")
    return base64.b64encode(numbers.astype("<u2").tobytes()).decode()


def _sqrt(sizes: Sizes) -> NDArray[np.int64]:
    """Return forwards of Chen's sqrt(t) by slots and steps, with the best segment that fits; 0 where none does."""
    forwards = np.zeros((SLOTS + 1, STEPS + 1), dtype=np.int64)
    for slots in range(1, SLOTS + 1):
        for steps in range(1, STEPS + 1):
            segment = best_segment(steps, sizes, slots=slots)
            forwards[slots, steps] = 0 if segment is None else sqrt_cost(steps, segment, sizes).forwards
    return forwards


def _recursive() -> NDArray[np.int64]:
    """Return the same of the recursive strategy, with the best number of parts that fits."""
    forwards = np.zeros((SLOTS + 1, STEPS + 1), dtype=np.int64)
    for steps in range(1, STEPS + 1):
        costs = [recursive_cost(steps, parts) for parts in range(2, max(steps, 2) + 1)]
        for slots in range(1, SLOTS + 1):
            forwards[slots, steps] = min((cost.forwards for cost in costs if cost.slots <= slots), default=0)
    return forwards


if __name__ == "__main__":
    sys.exit(main())
