"""One check a claim; importing this package registers them all."""

from membptt_proofs.checks import (
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

MODULES = (
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
    tiers,
)

__all__ = ["CHECKS", "MODULES", "CheckFailedError", "Effort", "Verdict", "run", "theorems"]
