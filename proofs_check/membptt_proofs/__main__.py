"""``python -m membptt_proofs``: one verdict a claim; exit status 1 if any check fails.

``--quick`` takes the smaller ranges of the test suite; a claim's id limits the run to it; ``--json`` prints a list.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from tqdm import tqdm

from membptt_proofs.checks import CHECKS, Effort, Verdict, run
from membptt_theory.claims import CLAIMS, Claim, Status

WIDTH: Final = max(len(status.value) for status in Status)


def main(arguments: list[str] | None = None, *, prog: str = "python -m membptt_proofs") -> int:
    """Run the checks and print the verdicts; return the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="ID", help="claims to check (default: all)")
    parser.add_argument("--quick", action="store_true", help="the smaller ranges of the test suite")
    parser.add_argument("--json", action="store_true", help="print the verdicts as one JSON list, at the end")
    options = parser.parse_args(arguments)
    known = {claim.id: claim for claim in CLAIMS}
    unknown = sorted(set(options.claims) - known.keys())
    if unknown:
        parser.error(f"unknown claims: {', '.join(unknown)}; see CLAIMS.md")
    chosen = [known[name] for name in options.claims] or list(CLAIMS)
    effort = Effort.QUICK if options.quick else Effort.FULL
    failed = 0
    rows: list[dict[str, Any]] = []
    with tqdm(chosen, desc="claims", file=sys.stderr) as progress:
        for claim in progress:
            progress.set_postfix_str(claim.id)
            verdict = run(claim.id, effort) if claim.id in CHECKS else None
            failed += verdict is not None and not verdict.holds
            if options.json:
                rows.append(_row(claim, verdict))
            else:
                tqdm.write(_line(claim, verdict), file=sys.stdout)
    print(json.dumps(rows, indent=1) if options.json else f"{len(chosen)} claims, {failed} failed")
    return int(failed > 0)


def _line(claim: Claim, verdict: Verdict | None) -> str:
    if verdict is None:
        return f"{'TEST':8} {claim.id:32} {claim.status:{WIDTH}} {claim.test}"
    word = "OK" if verdict.holds else "FAILED"
    return f"{word:8} {claim.id:32} {claim.status:{WIDTH}} {verdict.evidence} ({verdict.seconds:.1f} s)"


def _row(claim: Claim, verdict: Verdict | None) -> dict[str, Any]:
    """Return one verdict; ``holds`` is null for a claim that a test checks instead."""
    row = {"id": claim.id, "status": claim.status.value, "scope": claim.scope}
    if verdict is None:
        return {**row, "holds": None, "evidence": claim.test}
    return {**row, "holds": verdict.holds, "evidence": verdict.evidence, "seconds": verdict.seconds}


if __name__ == "__main__":
    sys.exit(main())
