"""The ledger: every statement of the paper and every one of ours, each with an honest status.

No claim without a check, no check without a claim: `membptt_proofs.checks` has exactly one for each, except for those
that need torch, which name the test that checks them. The claims stand in ``claims.toml``; ``CLAIMS.md`` is generated.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any, Final


class Status(StrEnum):
    """How far a claim is established; never blurred."""

    PROVED = "proved"  # symbolic steps that sympy verifies, all t and m; the words between them are prose
    EXHAUSTIVE = "exhaustive"  # every case of the stated range
    SAMPLED = "sampled"  # random cases of the stated range
    MEASURED = "measured"  # on the stated device
    REFUTED = "refuted"  # a counterexample, verified at every run
    OPEN = "open"  # neither


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
        test: the test that checks it, where that needs torch.
        figure: the figures that show it.

    Raises:
        ValueError: an empty field that must not be, or an unknown status.
    """

    id: str
    group: str
    place: str
    statement: str
    status: Status
    scope: str
    derivation: str = ""
    test: str = ""
    figure: str = ""

    def __post_init__(self) -> None:
        for name in ("id", "group", "place", "statement", "scope"):
            if not getattr(self, name):
                raise ValueError(f"claim {self.id!r} has no {name}")
        if self.status is Status.PROVED and not self.derivation:
            raise ValueError(f"claim {self.id!r} is proved, so it must name its derivation")


def load() -> tuple[Claim, ...]:
    """Read the ledger.

    Raises:
        TypeError: an unknown or a missing field.
        ValueError: a claim is not well formed, or two have the same id.
    """
    rows: list[dict[str, Any]] = tomllib.loads(files(__package__).joinpath("claims.toml").read_text("utf-8"))["claim"]
    claims = tuple(Claim(**{**row, "status": Status(row["status"])}) for row in rows)
    if len({claim.id for claim in claims}) != len(claims):
        raise ValueError("two claims have the same id")
    return claims


CLAIMS: Final = load()
