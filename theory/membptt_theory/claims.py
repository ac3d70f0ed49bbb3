"""The ledger: every statement of the paper and every one of ours, each with an honest status.

No claim without a check, no check without a claim: `membptt_proofs.checks` has exactly one for each, except for those
that need torch, which name the test that checks them, and those that Coq alone checks, which name their theorems. The
claims stand in ``claims.toml``; ``CLAIMS.md`` is generated.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from enum import StrEnum
from importlib.resources import files
from typing import Any, Final


class Status(StrEnum):
    """How far a claim is established; never blurred."""

    FORMAL = "proved (formal)"  # a theorem that Coq checks, from the machine's rules to the statement
    SYMBOLIC = "proved (sympy, prose frame)"  # symbolic steps that sympy verifies; the words between them are prose
    EXHAUSTIVE = "exhaustive"  # every case of the stated range
    SAMPLED = "sampled"  # random cases of the stated range
    MEASURED = "measured"  # on the stated device
    REFUTED = "refuted"  # a counterexample, verified at every run
    OPEN = "open"  # neither


class ClaimError(ValueError):
    """A claim, or a ledger of claims, is not well formed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One row of the ledger.

    Args:
        id: the name that docstrings, checks and figures use.
        group: heading in the ledger.
        place: where the paper says it (``gruslys2016`` unless another source is named), or "ours".
        statement: what is claimed, in words and plain mathematics.
        status: see `Status`.
        scope: for which t, m, sizes, or on which device; for a refuted claim the counterexample.
        derivation: module and function below ``derive/``, where there is one.
        theorem: names of theorems of ``proofs_check/formal``, where there are some.
        test: the test that checks it, where that needs torch.
        figure: the figures that show it.

    Raises:
        ClaimError: a field that is not text, or is empty and must not be; proved without a derivation or a theorem.
    """

    id: str
    group: str
    place: str
    statement: str
    status: Status
    scope: str
    derivation: str = ""
    theorem: str = ""
    test: str = ""
    figure: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(getattr(self, field.name), str) for field in fields(self)):
            raise ClaimError(f"claim {self.id!r} has a field that is not text")
        for name in ("id", "group", "place", "statement", "scope"):
            if not getattr(self, name):
                raise ClaimError(f"claim {self.id!r} has no {name}")
        for status, name in ((Status.SYMBOLIC, "derivation"), (Status.FORMAL, "theorem")):
            if self.status is status and not getattr(self, name):
                raise ClaimError(f"claim {self.id!r} is {status.value}, so it must name its {name}")


def load() -> tuple[Claim, ...]:
    """Read the ledger.

    Raises:
        ClaimError: as `parse`.
    """
    return parse(files(__package__).joinpath("claims.toml").read_text("utf-8"))


def parse(text: str, /) -> tuple[Claim, ...]:
    """Parse a ledger.

    Raises:
        ClaimError: not TOML, no claims, an unknown or a missing field, a claim that is not well formed, or an id twice.
    """
    try:
        rows: list[dict[str, Any]] = tomllib.loads(text)["claim"]
        claims = tuple(Claim(**{**row, "status": Status(row["status"])}) for row in rows)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ClaimError(f"not a ledger of claims ({error})") from error
    if len({claim.id for claim in claims}) != len(claims):
        raise ClaimError("two claims have the same id")
    return claims


CLAIMS: Final = load()
