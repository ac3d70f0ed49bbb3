"""B2 and B3: the paper's two numerical bounds, over the whole of their ranges and as far as they go.

Between two breakpoints ``(C - less t) / t**(1+1/m)`` rises to one peak and falls after it, so two integers a piece
decide a range of any size exactly.

Ref: gruslys2016, section 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key, partial
from math import comb

import sympy as sp

from membptt_theory.derive.envelope import m
from membptt_theory.derive.hsm import t
from membptt_theory.derive.steps import Derivation, Finite, Identity, Step, beta, natural, nonnegative
from membptt_theory.tables import check_count, optimal_cost

STEPS, SLOTS = 10**5, 10**3  # the paper's range: t < STEPS, m < SLOTS


@dataclass(frozen=True, slots=True)
class Range:
    """What a bound ``C - less t < constant t**(1+1/m)`` does over a range.

    Args:
        pieces: linear pieces of ``C`` looked at.
        failures: number of ``(t, m)`` at which it fails.
        first: of those the one of least ``t``, then least ``m``; ``None`` where it always holds.
        largest: the ``(t, m)`` of largest ratio ``(C - less t) / t**(1+1/m)``.
        ratio: that ratio, rounded down to four decimals.
    """

    pieces: int
    failures: int
    first: tuple[int, int] | None
    largest: tuple[int, int]
    ratio: Fraction


def b2(*, constant: int = 4) -> Derivation:
    """Derive B2: ``C < 4 t**(1+1/m)`` for HSM, all ``t < 10**5, m < 10**3``.

    Args:
        constant: the paper's 4.

    Ref: gruslys2016, section 3.5. Claim: B2.
    """
    return Derivation(
        "B2",
        sp.Lt(sp.Function("C")(t, m), constant * t ** (1 + 1 / m)),
        sp.And(sp.Lt(t, STEPS), sp.Lt(m, SLOTS)),
        "Exact at the peak of every piece. No theorem for all t (no-constant): it holds for every m up to t = 281789 "
        "and fails at t = 281790, m = 39; for all t it holds where m <= 9 (best-constant).",
        (*peak_steps(), Finite("whole-range", lambda: check_range(constant).failures == 0, "t < 10**5, m < 10**3")),
        uses=("hsm-closed-form",),
    )


def b3_refuted(*, constant: int = 3) -> Derivation:
    """Refute B3, ``C - t < 3 t**(1+1/m)`` for HSM and ``t < 10**5, m < 10**3``, by its first counterexample.

    Args:
        constant: the paper's 3.

    Ref: gruslys2016, section 3.5. Claim: B3.
    """
    report = check_range(constant, less=1)
    steps, slots = report.first or (1, 1)

    def fails() -> bool:
        excess = optimal_cost("hsm", steps, slots) - steps
        return bool(excess**slots >= constant**slots * steps ** (slots + 1))

    return Derivation(
        "B3-refuted",
        sp.Ge(sp.Function("C")(t, m) - t, constant * t ** (1 + 1 / m)),
        sp.And(sp.Eq(t, steps), sp.Eq(m, slots)),
        f"It fails at {report.failures} of the (t, m) of its stated range; the ratio reaches {float(report.ratio)} at "
        f"t, m = {report.largest}. For all t it holds where m <= 7 only (best-constant).",
        (*peak_steps(), Finite("counterexample", fails, "one comparison of exact integers")),
        uses=("hsm-closed-form",),
    )


def check_range(constant: int, /, *, less: int = 0, steps: int = STEPS, slots: int | None = SLOTS) -> Range:
    """Check ``C - less t < constant t**(1+1/m)`` for HSM and all ``t < steps, m < slots``, exactly.

    >>> check_range(4).failures, check_range(3, less=1).first
    (0, (80309, 28))

    Args:
        constant: of the bound.
        less: forwards a step that are taken off.
        steps: end of the range of ``t``.
        slots: end of the range of ``m``; ``None`` for all ``m``, of which few need a look: with ``r < constant + less``
            the line ``(r + 1 - less) t`` itself is below the bound.

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``constant < 1``, ``less`` negative, ``steps < 3``, ``slots < 2``, or ``slots`` is ``None`` and
            ``constant + less < 2``.

    Claim: B2, B3.
    """
    constant, less = check_count("constant", constant), check_count("less", less, least=0)
    steps = check_count("steps", steps, least=3)
    if slots is None:
        if constant + less < 2:
            raise ValueError("constant + less must be at least 2 where slots is None: else every m needs a look")
        slots = 2
        while comb(slots + constant + less - 1, slots) < steps:
            slots += 1
    slots = check_count("slots", slots, least=2)
    pieces = failures = 0
    first: tuple[int, int] | None = None
    best = _Point(1, 1, 1 - less)
    for s in range(1, slots):
        for slope, offset, low, high in _pieces(s, steps, less):
            pieces += 1
            peak = min(max(offset * (s + 1) // slope, low), high)
            points = [_Point(n, s, slope * n - offset) for n in range(peak, min(peak + 1, high) + 1)]
            best = max((best, *points), key=cmp_to_key(_compare))
            bad = next((point.steps for point in points if point.reaches(constant)), None)
            if bad is not None:
                fails = partial(_fails, constant, s, slope, offset)
                left, right = _edge(fails, bad, low - 1), _edge(fails, bad, high + 1)
                failures += right - left + 1
                first = min(first or (left, s), (left, s))
    return Range(pieces, failures, first, (best.steps, best.slots), best.rounded_down())


def peak_steps() -> Iterator[Step]:
    """Yield the steps that locate the extremum of the ratio inside a piece."""
    slope, offset, a = nonnegative("A"), nonnegative("B"), natural("a")
    length = sp.Symbol("t", positive=True)
    ratio = (slope * length - offset) * length ** (-1 - 1 / m)
    yield Identity(
        "one-peak",
        sp.diff(ratio, length) * m * length ** (2 + 1 / m),
        offset * (m + 1) - slope * length,
        "on a piece C - less t = A t - B, and the ratio rises up to t = B (m+1)/A and falls after it",
    )
    yield Identity("breakpoints", beta(m + 1, a) - beta(m + 1, a - 1), beta(m, a), "the pieces meet: hsm-closed-form")


@dataclass(frozen=True, slots=True)
class _Point:
    steps: int
    slots: int
    excess: int

    def reaches(self, constant: int) -> bool:
        return bool(self.excess**self.slots >= constant**self.slots * self.steps ** (self.slots + 1))

    def rounded_down(self) -> Fraction:
        scaled = 10 ** (4 * self.slots) * self.excess**self.slots // self.steps ** (self.slots + 1)
        return Fraction(int(sp.integer_nthroot(scaled, self.slots)[0]), 10**4)


def _compare(left: _Point, right: _Point) -> int:
    """Compare two ratios: by floats where these are far apart, else by integers."""
    a, b = (point.excess / point.steps ** (1 + 1 / point.slots) for point in (left, right))
    if abs(a - b) > 1e-9 * (a + b):
        return 1 if a > b else -1
    power = left.slots * right.slots
    a = left.excess**power * right.steps ** ((right.slots + 1) * left.slots)
    b = right.excess**power * left.steps ** ((left.slots + 1) * right.slots)
    return int(a > b) - int(a < b)


def _fails(constant: int, slots: int, slope: int, offset: int, steps: int) -> bool:
    return _Point(steps, slots, slope * steps - offset).reaches(constant)


def _edge(fails: Callable[[int], bool], inside: int, outside: int) -> int:
    """Return the last ``n`` from `inside` towards `outside` (excluded) that fails, by bisection."""
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if fails(middle) else (inside, middle)
    return inside


def _pieces(slots: int, steps: int, less: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``A, B`` and the first and last ``t`` of each linear piece ``C - less t = A t - B``."""
    r, low = 1, 1
    while low < steps:
        high = comb(slots + r, slots)
        yield r + 1 - less, comb(slots + r, slots + 1), low, min(high, steps - 1)
        r, low = r + 1, high + 1
