"""What a derivation is made of: symbolic steps that sympy can refuse, and finite checks by exact integers.

A `Derivation` proves its statement in four kinds of step. `Identity`, `Inequality` and `Induction` are symbolic: they
hold for all values of their symbols, from the lowest on and in the cases that they state. `Finite` is an exhaustive
check of a stated range, beside an argument given in words. The words that join the steps ("each factor is larger, so
the product is") are the step's ``text``: sympy does not read them, which is why every derivation also ends in a finite
check of its whole statement. What an inequality takes as nonnegative is checked too: see `conditions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import sympy as sp
from sympy.core.function import AppliedUndef

from membptt_theory.derive.conditions import (
    Case,
    Fact,
    Meaning,
    Neighbours,
    Premise,
    Slack,
    is_nonnegative,
    nonnegative_by_coefficients,
    points,
    value_of,
)

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
        """Return the names of the steps that do not hold, in order; `symbolic_only` leaves the finite checks out.

        A step does not hold either where a premise of it starts from no earlier step, no derivation that this one
        uses and no definition.
        """
        failed, sources = [], {"definition", *self.uses}
        for step in self.steps:
            if symbolic_only and isinstance(step, Finite):
                continue
            if not {premise.source for premise in step.premises()} <= sources or not step.verify():
                failed.append(step.name)
            sources.add(step.name)
        return tuple(failed)

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

    def premises(self) -> tuple[Premise, ...]:
        """Return nothing: an identity needs none."""
        return ()

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
        slack: symbols of the certificate, each with the quantity that it stands for; what that may be, and how its sign
            is checked, is in `conditions`.
        text: why it is wanted, and where its premises come from.
        lowest: as in `Identity`; here a part of the statement.
        cases: further conditions ``>= 0`` of the statement, which the certificate does not need.
    """

    name: str
    lhs: sp.Expr
    rhs: sp.Expr
    certificate: sp.Expr
    slack: Mapping[sp.Symbol, Slack] = field(default_factory=dict)
    text: str = ""
    lowest: Mapping[sp.Symbol, int] = field(default_factory=dict)
    cases: tuple[sp.Expr, ...] = ()

    def verify(self) -> bool:
        """Return whether the certificate equals the difference and everything it takes as nonnegative is."""
        if not all(_is_plain(symbol) for symbol in self.slack):
            return False
        # Sympy sees that n + 1 - 1 >= 0, but not that m - 1 >= 0 inside a sum for a positive integer m.
        symbols = [symbol for symbol in self.certificate.free_symbols if symbol.is_integer and symbol.is_positive]
        start = {symbol: sp.Dummy(integer=True, nonnegative=True) + self.lowest.get(symbol, 1) for symbol in symbols}
        if self.certificate.subs(start).is_nonnegative is not True:
            return False
        quantities = {symbol: value_of(slack) for symbol, slack in self.slack.items()}
        if not vanishes(self.lhs - self.rhs - self.certificate.subs(quantities), self.lowest):
            return False
        return all(self._is_shown(slack) for slack in self.slack.values()) and self._holds_on_a_grid()

    def conditions(self) -> tuple[sp.Expr, ...]:
        """Return what the statement supposes to be nonnegative, beside the lowest values of its symbols."""
        return (*self.cases, *(slack.value for slack in self.slack.values() if isinstance(slack, Case)))

    def premises(self) -> tuple[Premise, ...]:
        """Return what rests on an argument in words, or on a definition."""
        return tuple(slack for slack in self.slack.values() if isinstance(slack, Premise))

    def latex(self) -> str:
        """Return the step as LaTeX, with its conditions."""
        conditions = [sp.Ge(symbol, least, evaluate=False) for symbol, least in self.lowest.items()]
        conditions += [sp.Ge(value, 0, evaluate=False) for value in self.conditions()]
        stated = sp.Ge(self.lhs, self.rhs, evaluate=False)
        return r" \qquad ".join([sp.latex(stated), ", ".join(map(sp.latex, conditions))][: 1 + bool(conditions)])

    def _is_shown(self, slack: Slack) -> bool:
        match slack:
            case Case() | Premise():
                return True  # stated with the step; on a grid, below
            case Fact():
                return slack.reaches(self.lowest)
            case Neighbours():
                return slack.number.is_integer is True
        return nonnegative_by_coefficients(slack, self.lowest)

    def _holds_on_a_grid(self) -> bool:
        """Return whether premises and statement hold at every point of a grid, and its cases at some."""
        meaning: dict[Any, Any] = {}
        for premise in self.premises():
            meaning |= premise.meaning
        expressions = (self.lhs, self.rhs, *self.conditions(), *map(value_of, self.slack.values()))
        symbols = set().union(*(expression.free_symbols for expression in expressions)) - meaning.keys()
        wanted = [premise.value for premise in self.premises()]
        if not all(_functions(value) <= meaning.keys() for value in (*wanted, *self.conditions())):
            return False
        if _functions(self.lhs - self.rhs) <= meaning.keys():
            wanted.append(self.lhs - self.rhs)
        inside = [point for point in points(symbols, self.lowest) if self._covers(point, meaning)]
        return bool(inside) and all(is_nonnegative(value, point, meaning) for point in inside for value in wanted)

    def _covers(self, point: Mapping[sp.Symbol, Any], meaning: Meaning) -> bool:
        return all(is_nonnegative(value, point, meaning) for value in self.conditions())


@dataclass(frozen=True)
class Induction:
    """``lhs >= rhs`` for every value of a symbol, from its lowest on, by induction: no words are needed.

    Args:
        name: what to call it in a report.
        lhs: the larger expression.
        rhs: the smaller expression.
        over: the symbol, an integer.
        base: a certificate of the inequality at its lowest value.
        step: a certificate of the inequality, in which `hypothesis` stands for the difference at one less.
        hypothesis: a nonnegative symbol.
        slack: as in `Inequality`, for the step.
        base_slack: as in `Inequality`, for the base.
        text: why it is wanted.
        lowest: as in `Inequality`.
        cases: as in `Inequality`; they must not name the symbol, so that the hypothesis has them too.
    """

    name: str
    lhs: sp.Expr
    rhs: sp.Expr
    over: sp.Symbol
    base: sp.Expr
    step: sp.Expr
    hypothesis: sp.Symbol
    slack: Mapping[sp.Symbol, Slack] = field(default_factory=dict)
    text: str = ""
    lowest: Mapping[sp.Symbol, int] = field(default_factory=dict)
    cases: tuple[sp.Expr, ...] = ()
    base_slack: Mapping[sp.Symbol, Slack] = field(default_factory=dict)

    def verify(self) -> bool:
        """Return whether base and step hold."""
        if not self.over.is_integer or any(self.over in value.free_symbols for value in self.conditions()):
            return False
        return all(step.verify() for step in self.parts())

    def parts(self) -> Iterator[Inequality]:
        """Yield base and step."""
        first = self.lowest.get(self.over, int(bool(self.over.is_positive)))
        at, rest = {self.over: sp.Integer(first)}, {s: n for s, n in self.lowest.items() if s != self.over}
        yield Inequality(
            f"{self.name}-base",
            self.lhs.subs(at),
            self.rhs.subs(at),
            self.base,
            self.base_slack,
            self.text,
            rest,
            self.conditions(),
        )
        # What the hypothesis stands for is nonnegative because it is the statement itself at one less.
        before = Premise((self.lhs - self.rhs).subs(self.over, self.over - 1), self.name, self._meaning())
        yield Inequality(
            f"{self.name}-step",
            self.lhs,
            self.rhs,
            self.step,
            {**self.slack, self.hypothesis: before},
            self.text,
            {**rest, self.over: first + 1},
            self.cases,
        )

    def conditions(self) -> tuple[sp.Expr, ...]:
        """Return what the statement supposes to be nonnegative, beside the lowest values of its symbols."""
        return (*self.cases, *(slack.value for slack in self.slack.values() if isinstance(slack, Case)))

    def premises(self) -> tuple[Premise, ...]:
        """Return what the step rests on beside its hypothesis: arguments in words, or definitions."""
        quantities = (*self.base_slack.values(), *self.slack.values())
        return tuple(slack for slack in quantities if isinstance(slack, Premise))

    def latex(self) -> str:
        """Return the statement as LaTeX, with its conditions."""
        return Inequality(self.name, self.lhs, self.rhs, self.base, self.slack, "", self.lowest, self.cases).latex()

    def _meaning(self) -> Meaning:
        return {key: value for premise in self.premises() for key, value in premise.meaning.items()}


@dataclass(frozen=True)
class Finite:
    """An exhaustive check by exact integers over the range that ``text`` names."""

    name: str
    check: Callable[[], bool]
    text: str = ""

    def verify(self) -> bool:
        """Return whether the check holds."""
        return self.check()

    def premises(self) -> tuple[Premise, ...]:
        """Return nothing: a finite check needs none."""
        return ()

    def latex(self) -> str:
        """Return the step as LaTeX."""
        return rf"\text{{{self.text.translate(_ESCAPES)}}}"


Step = Identity | Inequality | Induction | Finite


def beta(s: Any, r: Any) -> sp.Expr:
    """Return ``binomial(s + r, s)``, 0 for ``r < 0 < s``: the longest sequence of ``s`` slots, ``r`` repetitions."""
    return sp.binomial(sp.sympify(s) + r, s)


def natural(name: str) -> sp.Symbol:
    """Return a symbol for an integer of at least 1."""
    return sp.Symbol(name, integer=True, positive=True)


def nonnegative(name: str) -> sp.Symbol:
    """Return a symbol for a nonnegative real."""
    return sp.Symbol(name, nonnegative=True)


def _functions(expression: sp.Expr) -> set[Any]:
    return {call.func for call in expression.atoms(AppliedUndef)}


def _is_plain(symbol: sp.Symbol) -> bool:
    """Return whether a slack symbol promises no more than that its quantity is nonnegative."""
    return bool(symbol.is_nonnegative) and symbol.is_positive is None and symbol.is_integer is None


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
