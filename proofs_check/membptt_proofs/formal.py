"""``python -m membptt_proofs.formal``: let Coq check the theorems of `proofs_check/formal`.

Every file is compiled; every headline theorem assumes nothing and says what `statements.txt` says; Coq's machine and
recurrences agree with the product's machine and tables. Exit status 1 if anything is refused. What is compiled is kept
in `proofs_check/formal/out`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from membptt_proofs import formal_coq as coq
from membptt_proofs import formal_theorems as formal
from membptt_proofs import formal_tie as tie
from membptt_theory.files import write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks one after the other, say what each shows, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m membptt_proofs.formal", description=__doc__)
    parser.add_argument("--slow", action="store_true", help="with what takes minutes to compute: Five.v, Six.v")
    parser.add_argument("--large", action="store_true", help="compare both machines on 20,000 streams instead of 500")
    parser.add_argument("--seed", type=int, default=16, help="of those streams (default: 16)")
    parser.add_argument("--coqchk", action="store_true", help="with Coq's independent checker, which takes minutes")
    parser.add_argument("--fresh", action="store_true", help="compile everything again")
    parser.add_argument("--write", action="store_true", help="rewrite statements.txt (the slow ones: with --slow)")
    options = parser.parse_args(arguments)
    if not coq.installed():
        print(coq.ABSENT, file=sys.stderr)
        return 1
    chosen = formal.theorems(slow=options.slow)
    if options.write:
        coq.build(slow=options.slow, progress=_bar)
        slow = {theorem.key for theorem in formal.theorems() if theorem.slow and not options.slow}
        kept = {key: text for key, text in formal.committed().items() if key in slow}
        text = formal.render({**formal.printed(chosen), **kept})
        write_whole(formal.STATEMENTS, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return 0

    def compiled() -> str:
        files = coq.sources(slow=options.slow)
        gaps = {name: formal.gaps(path.read_text("utf-8")) for name, path in files.items()}
        _need([f"{name}.v assumes without proof: {', '.join(assumed)}" for name, assumed in gaps.items() if assumed])
        count = len(coq.build(slow=options.slow, fresh=options.fresh, progress=_bar))
        return f"{len(files)} files compiled ({count} of them now), {coq.version()}"

    def closed() -> str:
        _need(formal.assumptions(chosen))
        return f"{len(chosen)} headline theorems assume nothing: {formal.NO_ASSUMPTIONS}"

    def stated() -> str:
        answers = formal.printed(chosen)
        _need(formal.differences(answers))
        return f"they say what statements.txt says, and so do the {len(answers) - len(chosen)} definitions below them"

    def rechecked() -> str:
        summary = coq.coqchk(dict.fromkeys(theorem.module for theorem in chosen))
        # It lists what any loaded library declares, the standard library's module types too; none may be ours.
        axioms = summary.partition("* Axioms:")[2].partition("\n*")[0].split()
        _need([f"coqchk finds no summary: {summary}"] if not axioms else [])
        _need([f"{axiom} is an axiom" for axiom in axioms if axiom.startswith(coq.LIBRARY)])
        return "coqchk, Coq's independent checker, accepts every file; no axiom of ours"

    def tied() -> str:
        sizes = (
            {"streams": 20_000, "steps": 8, "slots": 8} if options.large else {"streams": 500, "steps": 6, "slots": 7}
        )
        return tie.check(**sizes, seed=options.seed, progress=_bar)

    checks: list[Callable[[], str]] = [compiled, closed, stated, tied, *([rechecked] if options.coqchk else [])]
    for number, step in enumerate(checks, 1):
        start = time.perf_counter()
        try:
            evidence = step()
        except (coq.CoqError, formal.StatementError) as error:
            print(f"FAILED  {number}/{len(checks)}  {error}")
            return 1
        print(f"OK      {number}/{len(checks)}  {evidence} ({time.perf_counter() - start:.1f} s)", flush=True)
    return 0


def _bar(names: Sequence[str]) -> Iterator[str]:
    with tqdm(names, desc="coqc", unit="file", file=sys.stderr, disable=None) as progress:
        for name in progress:
            progress.set_postfix_str(name)
            yield name


def _need(problems: list[str]) -> None:
    if problems:
        raise coq.CoqError("\n".join(problems))


if __name__ == "__main__":
    sys.exit(main())
