"""What the slack of an inequality may be, so that no step rests on an assumption that nothing checks.

A slack is a quantity that a certificate takes as nonnegative. It is one of

- an expression that is nonnegative coefficient by coefficient, counted from the lowest values of its symbols;
- `Neighbours`: the product of two neighbouring integers;
- `Case`: the condition under which the step is stated, printed with it; some values must satisfy it;
- `Fact`: the difference of a step that verifies, at other values of its symbols;
- `Premise`: nonnegative by an argument in words, or by the definition of a function. Sympy does not read that, so exact
  numbers check it at every point of a grid of the step's domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from math import comb, factorial, prod
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import sympy as sp
from sympy.core.function import AppliedUndef

if TYPE_CHECKING:
    from membptt_theory.derive.steps import Induction, Inequality

Point = Mapping[sp.Symbol, Fraction]
Meaning = Mapping[Any, Any]
_REALS: Final = (Fraction(0), Fraction(1), Fraction(1, 2), Fraction(2), Fraction(3))


@dataclass(frozen=True)
class Case:
    """``value >= 0`` is the case that a step treats: a part of its domain.

    Args:
        value: an expression in the symbols of the step.
    """

    value: sp.Expr


@dataclass(frozen=True)
class Neighbours:
    """``number (number - 1)``, nonnegative for every integer.

    Args:
        number: an expression that is an integer by sympy's assumptions.
    """

    number: sp.Expr

    @property
    def value(self) -> sp.Expr:
        """Return the product."""
        return self.number * (self.number - 1)


@dataclass(frozen=True)
class Fact:
    """What another step proves, at other values of its symbols.

    Args:
        step: it must verify, at every value that `at` gives its symbols, and treat no case of its own.
        at: those values.
    """

    step: Inequality | Induction
    at: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    @property
    def value(self) -> sp.Expr:
        """Return the difference of the step's two sides."""
        return (self.step.lhs - self.step.rhs).subs(dict(self.at), simultaneous=True)

    def reaches(self, lowest: Mapping[sp.Symbol, int]) -> bool:
        """Return whether the step holds at these values and proves something there."""
        if self.step.conditions() or not self.step.verify():
            return False
        symbols = (self.step.lhs - self.step.rhs).free_symbols
        values = ((self.at.get(symbol, symbol), low(symbol, self.step.lowest)) for symbol in symbols)
        return all(nonnegative_by_coefficients(value - least, lowest) for value, least in values)


@dataclass(frozen=True)
class Premise:
    """``value >= 0`` by an argument in words, checked by exact numbers on a grid.

    Args:
        value: an expression in the symbols of the step.
        source: the step, derivation or definition that the argument starts from.
        meaning: a function of `value` as exact integers, called with the point and its arguments; or a symbol as an
            expression.
    """

    value: sp.Expr
    source: str
    meaning: Meaning = field(default_factory=dict)


Slack: TypeAlias = sp.Expr | Case | Neighbours | Fact | Premise


def value_of(slack: Slack) -> sp.Expr:
    """Return the expression that a slack symbol stands for."""
    return slack if isinstance(slack, sp.Expr) else slack.value


def low(symbol: sp.Symbol, lowest: Mapping[sp.Symbol, int]) -> int:
    """Return the lowest value of a symbol: 1 for a positive integer and 0 for another, unless stated."""
    return lowest.get(symbol, int(bool(symbol.is_integer and symbol.is_positive)))


def nonnegative_by_coefficients(expression: sp.Expr, lowest: Mapping[sp.Symbol, int]) -> bool:
    """Return whether a rational function has no negative coefficient, counted from the lowest values of its symbols.

    >>> b, c = sp.symbols("b c", integer=True, positive=True)
    >>> nonnegative_by_coefficients(b * c - c, {}), nonnegative_by_coefficients(b - 2, {})
    (True, False)
    """
    if not all(symbol.is_nonnegative for symbol in expression.free_symbols):
        return False
    start = {symbol: sp.Dummy(nonnegative=True) + low(symbol, lowest) for symbol in expression.free_symbols}
    numerator, denominator = sp.fraction(sp.together(expression.subs(start)))
    parts = [_coefficients(part, start.values()) for part in (numerator, denominator)]
    if any(part is None for part in parts):
        return False
    above, below = (part or {} for part in parts)
    sign = -1 if all(value <= 0 for value in below.values()) else 1
    corner = (0,) * len(start)
    fits = all(sign * value >= 0 for value in (*above.values(), *below.values()))
    return fits and sign * below.get(corner, 0) > 0  # the denominator has no zero


def points(symbols: Iterable[sp.Symbol], lowest: Mapping[sp.Symbol, int]) -> Iterator[dict[sp.Symbol, Fraction]]:
    """Yield a grid: each symbol from its lowest value on, as many values as a step's check can afford."""
    ordered = sorted(symbols, key=str)
    side = max(2, min(5, int(1000 ** (1 / max(1, len(ordered))))))
    sides = [
        [low(symbol, lowest) + Fraction(more) for more in range(side)] if symbol.is_integer else _REALS[:side]
        for symbol in ordered
    ]
    for values in product(*sides):
        yield dict(zip(ordered, values, strict=True))


def is_nonnegative(expression: sp.Expr, point: Point, meaning: Meaning) -> bool:
    """Return whether an expression is nonnegative at a point, exactly."""
    roots = {symbol: image for symbol, image in meaning.items() if isinstance(symbol, sp.Symbol)}
    if expression.free_symbols & roots.keys():
        at = {symbol: sp.Rational(number.numerator, number.denominator) for symbol, number in point.items()}
        return expression.subs(roots).subs(at).doit().is_nonnegative is True
    return exact(expression, point, meaning) >= 0


def exact(expression: sp.Expr, point: Point, meaning: Meaning) -> Fraction:
    """Return the value of an expression at a point.

    Raises:
        TypeError: it contains something that has no exact value here.
    """
    if isinstance(expression, sp.Symbol):
        return point[expression]
    if isinstance(expression, sp.Rational):
        return Fraction(int(expression.p), int(expression.q))
    arguments = [exact(argument, point, meaning) for argument in expression.args]
    match expression:
        case sp.Add():
            return sum(arguments, Fraction(0))
        case sp.Mul():
            return prod(arguments, start=Fraction(1))
        case sp.Pow() if arguments[1].denominator == 1:
            return Fraction(arguments[0] ** int(arguments[1]))
        case sp.binomial():
            whole, part = map(int, arguments)
            return Fraction(comb(whole, part) if min(whole, part) >= 0 else int(sp.binomial(whole, part)))
        case sp.factorial():
            return Fraction(factorial(int(arguments[0])))
        case AppliedUndef():
            return Fraction(_called(meaning[expression.func], point, arguments))
    raise TypeError(f"no exact value of {expression}")


def _called(function: Callable[..., int], point: Point, arguments: list[Fraction]) -> int:
    return function({str(symbol): int(value) for symbol, value in point.items()}, *map(int, arguments))


def _coefficients(expression: sp.Expr, shifted: Iterable[sp.Expr]) -> dict[tuple[int, ...], sp.Expr] | None:
    symbols = [symbol for image in shifted for symbol in image.free_symbols]
    if not symbols:
        return {(): expression} if expression.is_Rational else None
    try:
        coefficients = sp.Poly(expression, *symbols).as_dict()
    except sp.PolynomialError:
        return None
    return coefficients if all(value.is_Rational for value in coefficients.values()) else None
