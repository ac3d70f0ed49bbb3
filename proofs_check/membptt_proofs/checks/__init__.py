"""One check a claim; importing this package registers them all."""

from membptt_proofs.checks import (  # noqa: F401  (importing them registers their checks)
    chen,
    derivations,
    figures,
    front,
    front_skips,
    literature,
    online,
    optimality,
    paper,
    separate,
    tables,
    theorems,
    tiers,
)
from membptt_proofs.checks.registry import CHECKS, CheckFailedError, Effort, Verdict, run

__all__ = ["CHECKS", "CheckFailedError", "Effort", "Verdict", "run", "theorems"]
