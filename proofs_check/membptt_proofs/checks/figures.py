"""Checks of claims whose scope quotes figures: each figure is computed, and must be the one that the ledger prints."""

from __future__ import annotations

from membptt_proofs.checks.derivations import verify
from membptt_proofs.checks.registry import Effort, check, need
from membptt_theory.claims import CLAIMS
from membptt_theory.derive import msm, ranges


@check("B2")
def b2(effort: Effort) -> str:
    """Check the whole stated range, and find where the bound first fails."""
    evidence = verify((ranges.b2,), effort)
    report = ranges.check_range(4)
    _quoted("B2", f"the largest ratio is {float(report.ratio):.4f} at t = {report.largest[0]}, m = {report.largest[1]}")
    beyond = ranges.check_range(4, steps=281_791, slots=None)
    need(beyond.first is not None, "it never fails")
    if beyond.first is not None:
        _quoted("B2", f"it first fails at t = {beyond.first[0]}, m = {beyond.first[1]}")
    return f"{evidence}; {report.pieces} pieces of the range"


@check("B3")
def b3(effort: Effort) -> str:
    """Verify the counterexample, that it is the first, and how many there are."""
    evidence = verify((ranges.b3_refuted,), effort)
    report = ranges.check_range(3, less=1)
    need(report.first is not None, "it holds")
    if report.first is not None:
        _quoted("B3", f"t = {report.first[0]}, m = {report.first[1]} is the first of the {report.failures} pairs")
    _quoted("B3", f"{float(report.ratio):.4f} at t = {report.largest[0]}, m = {report.largest[1]}")
    return f"{evidence}; {report.failures} pairs fail"


@check("B11-msm")
def b11_msm(effort: Effort) -> str:
    """Count the negative second differences of MSM."""
    evidence = verify((msm.not_convex,), effort)
    count, first = msm.concave_bends(2, 299)
    need(first is not None, "MSM is convex")
    if first is not None:
        _quoted("B11-msm", f"is at t = {first[0]}, m = {first[1]}; below t = 300 there are {count}")
    return f"{evidence}; {count} negative second differences"


def _quoted(claim: str, figure: str) -> None:
    (scope,) = (row.scope for row in CLAIMS if row.id == claim)
    need(figure in scope, f"computed '{figure}', the ledger says '{scope}'")
