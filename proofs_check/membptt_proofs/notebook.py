"""What every notebook shares: one look, derivations that are shown only once verified, and the claims at the end.

It is part of an installed package, so that a notebook runs from any folder (needs the `notebooks` extra).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from membptt_proofs.checks import Effort, run
from membptt_theory.claims import CLAIMS

if TYPE_CHECKING:
    from membptt_theory.derive.steps import Derivation

_LOOK: Final[dict[str, Any]] = {
    "figure.figsize": (7.0, 2.9),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def set_style() -> None:
    """Give every later plot of this process the look of the notebooks; colours are those of the palette."""
    import matplotlib as mpl  # noqa: PLC0415  (who checks claims draws nothing)

    parameters: Any = mpl.rcParams
    parameters.update(_LOOK)


def show_derivation(derivation: Derivation, /) -> None:
    """Verify every step of a derivation, then display its statement.

    Raises:
        ValueError: a step does not hold; names it.
    """
    from IPython.display import Markdown, display  # noqa: PLC0415

    if not derivation.verify():
        raise ValueError(f"{derivation.name} does not hold: {derivation.failures()}")
    words = f"**{derivation.name}**, {len(derivation.steps)} steps verified: $${derivation.latex()}$$"
    display(Markdown(words))  # type: ignore[no-untyped-call]


def check_claims(claims: Sequence[str], ran_here: Mapping[str, bool] | None = None, /) -> bool:
    """Print a line for each claim, with its verdict, and return whether all of them hold.

    Args:
        claims: names in the ledger.
        ran_here: whether a claim holds for what the notebook ran, of those that no referee of the proofs checks: their
            tests check them on the ranges that the ledger states.

    Raises:
        KeyError: a name that the ledger does not have.
    """
    ledger = {claim.id: claim for claim in CLAIMS}
    width = max(map(len, claims))
    widest = max(len(ledger[name].status) for name in claims)
    verdicts = []
    for name in claims:
        claim = ledger[name]
        if ran_here is not None and name in ran_here:
            holds, evidence = ran_here[name], f"here, and in {claim.test.split('::')[0]}"
        else:
            verdict = run(name, Effort.QUICK)
            holds, evidence = verdict.holds, verdict.evidence
        print(f"{'OK' if holds else 'FAILED':7} {claim.status:{widest}} {name:{width}} {evidence}")
        verdicts.append(holds)
    return all(verdicts)
