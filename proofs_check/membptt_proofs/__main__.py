"""``python -m membptt_proofs``: one verdict a claim; exit status 1 if any check fails.

``--quick`` takes the smaller ranges of the test suite, and leaves Coq alone; a claim's id limits the run to it;
``--json`` prints a list. Where Coq is not installed, what it would check is said not to be checked here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Any, Final

from tqdm import tqdm

from membptt_proofs.checks import CHECKS, Effort, Verdict, run, theorems
from membptt_proofs.checks.theorems import Theorems, named
from membptt_theory.claims import CLAIMS, Claim, Status

WIDTH: Final = max(len(status.value) for status in Status)


def main(arguments: list[str] | None = None, *, prog: str = "python -m membptt_proofs") -> int:
    """Run the checks and print the verdicts; return the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="ID", help="claims to check (default: all)")
    parser.add_argument("--quick", action="store_true", help="the smaller ranges of the test suite, without Coq")
    parser.add_argument("--list", action="store_true", help="print the claims' ids, statuses and scopes; check nothing")
    parser.add_argument("--json", action="store_true", help="print the verdicts as one JSON list, at the end")
    options = parser.parse_args(arguments)
    known = {claim.id: claim for claim in CLAIMS}
    unknown = sorted(set(options.claims) - known.keys())
    if unknown:
        parser.error(f"unknown claims: {', '.join(unknown)}; see CLAIMS.md")
    chosen = [known[name] for name in options.claims] or list(CLAIMS)
    if options.list:
        _list(chosen, as_json=options.json)
        return 0
    effort = Effort.QUICK if options.quick else Effort.FULL
    proofs, seconds = theorems.ask(chosen, quick=options.quick)
    outcomes: list[str] = []
    rows: list[dict[str, Any]] = []
    # A bar only where somebody looks at it: in a log it would be a line for every claim.
    with tqdm(chosen, desc="claims", file=sys.stderr, disable=None) as progress:
        for claim in progress:
            progress.set_postfix_str(claim.id)
            verdict = run(claim.id, effort) if claim.id in CHECKS else None
            proof = proofs.get(claim.id)
            outcomes.append(_outcome(claim, verdict, proof))
            if options.json:
                rows.append(_row(claim, verdict, proof))
            else:
                tqdm.write(_line(claim, verdict, proof), file=sys.stdout)
    print(json.dumps(rows, indent=1) if options.json else _summary(chosen, outcomes, list(proofs.values()), seconds))
    return int("FAILED" in outcomes)


def _list(claims: list[Claim], *, as_json: bool) -> None:
    rows = [{"id": claim.id, "status": claim.status.value, "scope": claim.scope} for claim in claims]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"{row['id']:32} {row['status']:{WIDTH}} {row['scope']}")


def _holds(verdict: Verdict | None, proof: Theorems | None) -> bool | None:
    """Return whether all that was checked holds; ``None`` where nothing was."""
    outcomes = [outcome.holds for outcome in (verdict, proof) if outcome is not None and outcome.holds is not None]
    return all(outcomes) if outcomes else None


def _outcome(claim: Claim, verdict: Verdict | None, proof: Theorems | None) -> str:
    """Return the word for one claim: it holds, it does not, or it is left to its test or to a Coq that is absent."""
    holds = _holds(verdict, proof)
    if holds is None:
        return "TEST" if claim.test else "NO COQ"
    return "OK" if holds else "FAILED"


def _line(claim: Claim, verdict: Verdict | None, proof: Theorems | None) -> str:
    evidence = [claim.test] if claim.test else []
    evidence += [proof.evidence] if proof else []
    evidence += [f"{verdict.evidence} ({verdict.seconds:.1f} s)"] if verdict else []
    return f"{_outcome(claim, verdict, proof):8} {claim.id:32} {claim.status:{WIDTH}} {'; '.join(evidence)}"


def _row(claim: Claim, verdict: Verdict | None, proof: Theorems | None) -> dict[str, Any]:
    """Return one verdict; ``holds`` is null for a claim of which nothing was checked here, as ``proof`` says of Coq."""
    row: dict[str, Any] = {"id": claim.id, "status": claim.status.value, "scope": claim.scope}
    row |= {"holds": _holds(verdict, proof), "evidence": verdict.evidence if verdict else claim.test}
    if verdict:
        row["seconds"] = verdict.seconds
    if proof:
        row["proof"] = {"theorems": list(named(claim)), "holds": proof.holds, "evidence": proof.evidence}
    return row


def _summary(claims: list[Claim], outcomes: list[str], proofs: list[Theorems], seconds: float) -> str:
    """Return what was checked here and what was not, and how many claims are refuted as they were first stated."""
    counts = Counter(outcomes)
    parts = [f"{counts['OK']} of {len(claims)} claims checked here hold"]
    parts += [f"{counts['FAILED']} FAILED"] if counts["FAILED"] else []
    parts += [f"{counts['TEST']} left to the tests named"] if counts["TEST"] else []
    refuted = sum(claim.status is Status.REFUTED for claim in claims)
    parts += [f"{refuted} refuted as stated, by counterexample"] if refuted else []
    unasked = sum(proof.holds is None for proof in proofs)
    parts += [f"the theorems of {unasked} claim{'s' * (unasked > 1)} were not checked here"] if unasked else []
    parts += [f"Coq took {seconds:.0f} s"] if seconds else []
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
