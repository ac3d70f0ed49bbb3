"""What Coq says of the theorems that claims name: asked once a run, for all of them together."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from membptt_proofs import formal_coq as coq
from membptt_proofs import formal_theorems as formal
from membptt_theory.claims import Claim

QUICK = "not asked of Coq here: --quick"


@dataclass(frozen=True, slots=True)
class Theorems:
    """The verdict on the theorems of one claim.

    Args:
        holds: whether Coq accepts them, as stated and without axioms; ``None`` where it was not asked.
        evidence: what it said, or why it was not asked.
    """

    holds: bool | None
    evidence: str


def named(claim: Claim) -> tuple[str, ...]:
    """Return the theorems that a claim names."""
    return tuple(name for name in claim.theorem.split(", ") if name)


def ask(claims: Iterable[Claim], *, quick: bool = False) -> tuple[dict[str, Theorems], float]:
    """Return the verdict of each claim that names theorems, by its id, and the seconds that Coq took for them all.

    Raises:
        StatementError: a claim names a theorem that is not in the list.
    """
    wanted = {claim.id: named(claim) for claim in claims if claim.theorem}
    listed = {theorem.name: theorem for theorem in formal.theorems()}
    unknown = sorted({name for names in wanted.values() for name in names} - listed.keys())
    if unknown:
        raise formal.StatementError(f"no such theorems in {formal.LIST.name}: {', '.join(unknown)}")
    if not wanted or quick or not coq.installed():
        why = QUICK if quick else formal.NOT_CHECKED
        return {claim: Theorems(None, f"{', '.join(names)} {why}") for claim, names in wanted.items()}, 0.0
    start = time.perf_counter()
    chosen = [theorem for name, theorem in listed.items() if any(name in names for names in wanted.values())]
    try:
        coq.build(slow=any(theorem.slow for theorem in chosen))
        problems = [*formal.assumptions(chosen), *formal.differences(formal.printed(chosen))]
    except coq.CoqError as error:
        problems = [str(error)]
    seconds = time.perf_counter() - start
    keys = {theorem.key for theorem in chosen}
    # A problem that names no theorem is one of a definition, or of Coq itself: everything may rest on it.
    shared = [problem for problem in problems if problem.split()[0] not in keys]

    def verdict(names: tuple[str, ...]) -> Theorems:
        own = [problem for problem in problems if problem.split()[0] in {listed[name].key for name in names}]
        holds = not (own or shared)
        said = f"Coq: {', '.join(names)}, as stated, without axioms" if holds else "; ".join([*own, *shared])
        return Theorems(holds, said)

    return {claim: verdict(names) for claim, names in wanted.items()}, seconds
