"""One check a claim; importing this package registers them all."""

from membptt_proofs.checks import chen, derivations, optimality, paper, tables
from membptt_proofs.checks.registry import CHECKS, CheckFailedError, Effort, Verdict, run

MODULES = (chen, derivations, optimality, paper, tables)

__all__ = ["CHECKS", "MODULES", "CheckFailedError", "Effort", "Verdict", "run"]
