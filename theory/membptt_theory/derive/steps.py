"""What a derivation is made of: symbolic steps that sympy can refuse, and finite checks by exact integers.

A `Derivation` proves its statement in three kinds of step. `Identity` and `Inequality` are symbolic and hold for all
values of their symbols; `Finite` is an exhaustive check of a stated range, beside an argument given in words. The words
that join the steps (induction, "each factor is larger, so the product is") are the step's ``text``: sympy does not
read them, which is why every derivation also ends in a finite check of its whole statement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import sympy as sp

_ESCAPES: Final = str.maketrans({char: f"\\{char}" for char in "_&%#"} | {"^": r"\^{}"})


@dataclass(frozen=True)
class Derivation:
    """A statement, its domain and the steps that prove it.

    Args:
        name: the claim it belongs to.
        statement: what is proved, as a sympy relation.
        domain: where, as a sympy condition.
        text: the statement in words, with the argument that joins the steps.
        steps: every one must verify.
        uses: names of the derivations it builds on.
    """

    name: str
    statement: sp.Basic
    domain: sp.Basic
    text: str
    steps: tuple[Step, ...]
    uses: tuple[str, ...] = ()

    def verify(self) -> bool:
        """Return whether every step holds."""
        return not self.failures()

    def failures(self, *, symbolic_only: bool = False) -> tuple[str, ...]:
        """Return the names of the steps that do not hold, in order; `symbolic_only` leaves the finite checks out."""
        chosen = [step for step in self.steps if not (symbolic_only and isinstance(step, Finite))]
        return tuple(step.name for step in chosen if not step.verify())

    def latex(self, *, steps: bool = False) -> str:
        """Return the statement as LaTeX; with `steps`, followed by one line a step."""
        head = rf"{sp.latex(self.statement)} \qquad {sp.latex(self.domain)}"
        return "\n".join([head, *(step.latex() for step in self.steps)]) if steps else head


@dataclass(frozen=True)
class Identity:
    """``lhs == rhs`` for all values of their symbols.

    Args:
        name: what to call it in a report.
        lhs: an expression.
        rhs: another.
        text: why it is wanted.
        lowest: smallest value of a symbol, where that is not 1 for a positive and 0 for a nonnegative one.
    """

    name: str
    lhs: sp.Expr
    rhs: sp.Expr
    text: str = ""
    lowest: Mapping[sp.Symbol, int] = field(default_factory=dict)

    def verify(self) -> bool:
        """Return whether sympy reduces the difference to zero, and exact integers agree at the domain's corner."""
        return vanishes(self.lhs - self.rhs, self.lowest)

    def latex(self) -> str:
        """Return the step as LaTeX."""
        return str(sp.latex(sp.Eq(self.lhs, self.rhs, evaluate=False)))


@dataclass(frozen=True)
class Inequality:
    """``lhs >= rhs``: the difference equals a certificate that is nonnegative term by term.

    Args:
        name: what to call it in a report.
        lhs: the larger expression.
        rhs: the smaller expression.
        certificate: equals ``lhs - rhs`` and is nonnegative by sympy's assumptions alone.
        slack: symbols of the certificate that stand for a quantity assumed nonnegative (sympy does not check that).
        text: why it is wanted, and where these assumptions come from.
        lowest: as in `Identity`.
    """

    name: str
    lhs: sp.Expr
    rhs: sp.Expr
    certificate: sp.Expr
    slack: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)
    text: str = ""
    lowest: Mapping[sp.Symbol, int] = field(default_factory=dict)

    def verify(self) -> bool:
        """Return whether the certificate is nonnegative and equals the difference."""
        if not all(symbol.is_nonnegative for symbol in self.slack):
            return False
        # Sympy sees that n + 1 - 1 >= 0, but not that m - 1 >= 0 inside a sum for a positive integer m.
        symbols = [symbol for symbol in self.certificate.free_symbols if symbol.is_integer and symbol.is_positive]
        start = {symbol: sp.Dummy(integer=True, nonnegative=True) + self.lowest.get(symbol, 1) for symbol in symbols}
        if self.certificate.subs(start).is_nonnegative is not True:
            return False
        return vanishes(self.lhs - self.rhs - self.certificate.subs(dict(self.slack)), self.lowest)

    def latex(self) -> str:
        """Return the step as LaTeX."""
        return str(sp.latex(sp.Ge(self.lhs, self.rhs, evaluate=False)))


@dataclass(frozen=True)
class Finite:
    """An exhaustive check by exact integers over the range that ``text`` names."""

    name: str
    check: Callable[[], bool]
    text: str = ""

    def verify(self) -> bool:
        """Return whether the check holds."""
        return self.check()

    def latex(self) -> str:
        """Return the step as LaTeX."""
        return rf"\text{{{self.text.translate(_ESCAPES)}}}"


Step = Identity | Inequality | Finite


def beta(s: Any, r: Any) -> sp.Expr:
    """Return ``binomial(s + r, s)``, 0 for ``r < 0 < s``: the longest sequence of ``s`` slots, ``r`` repetitions."""
    return sp.binomial(sp.sympify(s) + r, s)


def natural(name: str) -> sp.Symbol:
    """Return a symbol for an integer of at least 1."""
    return sp.Symbol(name, integer=True, positive=True)


def nonnegative(name: str) -> sp.Symbol:
    """Return a symbol for a nonnegative real."""
    return sp.Symbol(name, nonnegative=True)


def vanishes(expression: sp.Expr, lowest: Mapping[sp.Symbol, int] | None = None) -> bool:
    """Return whether an expression is identically zero.

    Sympy simplifies binomials as gamma functions, blind to the zeros of ``beta(s, r)`` at negative ``r``; so exact
    values at the corner of the domain, where those occur, come first (and refuse a wrong identity quickly).
    """
    corner = {symbol: int(bool(symbol.is_positive)) for symbol in expression.free_symbols} | dict(lowest or {})
    symbols = [symbol for symbol in corner if symbol in expression.free_symbols]
    for offsets in product(range(3), repeat=len(symbols)):
        point = {symbol: corner[symbol] + offset for symbol, offset in zip(symbols, offsets, strict=True)}
        if not sp.simplify(expression.subs(point).doit()).is_zero:
            return False
    return any(reduce(expression) == 0 for reduce in (sp.expand, sp.combsimp, _by_gamma, sp.simplify))


def _by_gamma(expression: sp.Expr) -> sp.Expr:
    return sp.simplify(sp.expand_func(sp.gammasimp(expression.rewrite(sp.gamma))))
