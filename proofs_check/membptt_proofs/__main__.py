"""``python -m membptt_proofs``: one verdict a claim; exit status 1 if any check fails.

``--quick`` takes the smaller ranges of the test suite; a claim's id limits the run to it.
"""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from membptt_proofs.checks import CHECKS, Effort, Verdict, run
from membptt_theory.claims import CLAIMS, Claim


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and print the verdicts; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m membptt_proofs", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="ID", help="claims to check (default: all)")
    parser.add_argument("--quick", action="store_true", help="the smaller ranges of the test suite")
    options = parser.parse_args(arguments)
    known = {claim.id: claim for claim in CLAIMS}
    unknown = sorted(set(options.claims) - known.keys())
    if unknown:
        parser.error(f"unknown claims: {', '.join(unknown)}; see CLAIMS.md")
    chosen = [known[name] for name in options.claims] or list(CLAIMS)
    effort = Effort.QUICK if options.quick else Effort.FULL
    failed = 0
    with tqdm(chosen, desc="claims", file=sys.stderr) as progress:
        for claim in progress:
            progress.set_postfix_str(claim.id)
            if claim.id not in CHECKS:
                tqdm.write(f"{'TEST':8} {claim.id:32} {claim.status:10} {claim.test}", file=sys.stdout)
                continue
            verdict = run(claim.id, effort)
            failed += not verdict.holds
            tqdm.write(_line(claim, verdict), file=sys.stdout)
    print(f"{len(chosen)} claims, {failed} failed")
    return int(failed > 0)


def _line(claim: Claim, verdict: Verdict) -> str:
    word = "OK" if verdict.holds else "FAILED"
    return f"{word:8} {claim.id:32} {claim.status:10} {verdict.evidence} ({verdict.seconds:.1f} s)"


if __name__ == "__main__":
    sys.exit(main())
