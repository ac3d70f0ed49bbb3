"""Which compiled core is worth compiling, which cores are worth timing with care, and whose times nobody believes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple

from membptt_theory.footprint import Measured
from membptt_theory.options import options

_NOTICED: Final = 0.03  # of the time: nothing is compiled for less
_DISAGREE: Final = 1.5  # times as long as a core next to it lets expect: something else held it up
_UNSURE: Final = 1.05  # times the least, at one look, that may turn out to be the least
_SAME: Final = 1.1  # times the least, at one look, that eager cores take which are as fast as each other
_EAGER: Final = 1.5  # times the least, at one look, that the fastest eager core may turn out to take less than
# Seconds that a core takes beside its steps, until two sizes tell: on two processors 0.02 to 0.05 ms of an advance, and
# 0.04 to 0.2 ms of a recording and its backward, were seen. At least such a part of its time that four steps promise
# something.
_ADVANCE, _BACKPROP, _PART = 0.3e-4, 1e-4, 1 / 24
_NODES: Final = 160  # of the core that is compiled first, at most: how long that takes, nobody knows before


class Goal(NamedTuple):
    """What is planned for.

    Args:
        steps: of the sequence.
        budget: bytes.
        policies: as for `options`.
    """

    steps: int
    budget: int
    policies: Sequence[str] | None = None

    def least(self, measured: Sequence[Measured]) -> dict[Measured, float]:
        """Return the least predicted time with each core that fits."""
        slowest_first = reversed(options(measured, *self))
        return {option.measured: option.seconds for option in slowest_first}


def first(seconds: Mapping[Measured, float], chunks: Sequence[int], nodes: float) -> int:
    """Return the steps of the core to be compiled first: as many as the fastest eager one has, if that is no large one.

    Of eager cores that a look cannot tell apart, the largest: compiled, it is the fastest one more often.

    Args:
        seconds: the least predicted time with each eager core that fits.
        chunks: steps of those that could be compiled, in ascending order.
        nodes: of autograd's graph that a step makes.
    """
    enough = _SAME * min(seconds.values(), default=inf)
    steps = max((sizes.chunk for sizes, time in seconds.items() if time <= enough), default=1)
    return max((chunk for chunk in chunks if chunk <= steps and chunk * nodes <= _NODES), default=chunks[0])


def promising(measured: Sequence[Measured], chunks: Sequence[int], goal: Goal, adding: float = 0.0) -> int | None:
    """Return the steps of a compiled core that promises noticeably less time than all that were measured, if any does.

    Of several that promise about the least, the smallest: it is compiled soonest.

    Args:
        measured: cores with their times, one of them compiled, at least.
        chunks: steps of those that could be compiled.
        goal: what is planned for.
        adding: as for `expected`.
    """
    known = sorted((sizes for sizes in measured if sizes.compiled), key=lambda sizes: sizes.chunk)
    promised = [expected(known, chunk, goal.steps, adding) for chunk in chunks]
    seconds = goal.least([*measured, *promised])
    enough = min(seconds.values(), default=inf) / (1 - _NOTICED)
    if any(seconds.get(sizes, inf) < enough for sizes in measured):
        return None
    return min((sizes.chunk for sizes in promised if seconds.get(sizes, inf) < enough), default=None)


def hopeful(looked: Sequence[Measured], goal: Goal) -> list[Measured]:
    """Return the cores that may be the fastest, as far as one look at them tells; all of them where none fits.

    Of two kinds a look tells less than of two sizes: the fastest compiled one is among them, which was seen to be held
    up, and the fastest eager one, unless it takes far longer.
    """
    seconds = goal.least(looked)
    least = min(seconds.values(), default=inf)
    of_kind = {sizes.compiled: sizes for sizes in sorted(seconds, key=lambda sizes: -seconds[sizes])}

    def enough(sizes: Measured) -> float:
        if sizes != of_kind.get(sizes.compiled):
            return _UNSURE * least
        return inf if sizes.compiled else _EAGER * least

    return [sizes for sizes in looked if seconds.get(sizes, inf) <= enough(sizes)]


def disagreeing(measured: Sequence[Measured]) -> list[Measured]:
    """Return the cores that take far longer than one next to them lets expect: as if something had held them up.

    A step takes no longer in a larger core than in a smaller one of the same kind, and a core no longer than a larger
    one.
    """
    in_order = sorted(measured, key=lambda sizes: (sizes.compiled, sizes.chunk))
    pairs = [(small, large) for small, large in pairwise(in_order) if small.compiled == large.compiled]
    slow = [small for small, large in pairs if _slower(small, large, 1)]
    slow += [large for small, large in pairs if _slower(large, small, large.chunk / small.chunk)]
    return [sizes for sizes in in_order if sizes in slow]


def _slower(sizes: Measured, other: Measured, times: float) -> bool:
    """Whether a core takes far more than so many times as long as another, in any way."""
    each = (sizes.advance, other.advance), (sizes.backprop, other.backprop), (sizes.stored, other.stored)
    return any(own > _DISAGREE * times * its for own, its in each)


def expected(known: Sequence[Measured], chunk: int, steps: int, adding: float = 0.0) -> Measured:
    """Return what a compiled core of `chunk` steps is expected to weigh and to take: what lies on a straight line.

    The line goes through the sizes next to it that were measured, or, beyond them, the two nearest. Where there is one
    alone, a core of twice its steps keeps twice as much and the state in between, and saves what a core takes beside
    its steps.

    Args:
        known: compiled cores that were measured, in ascending order.
        chunk: steps.
        steps: of the sequence.
        adding: seconds of each core that it takes, at least, to add to the sums of gradients.
    """
    nearest = known[0]
    on_line = [*known] if len(known) > 1 else [nearest, _twice(nearest, adding, _PART if chunk > nearest.chunk else 0)]
    after = sum(sizes.chunk <= chunk for sizes in on_line)
    left = min(max(after - 1, 0), len(on_line) - 2)
    first, second = on_line[left : left + 2]

    def at(steps: int, left: float, right: float) -> float:
        slope = max(0.0, right - left) / (second.chunk - first.chunk)
        return max(0.0, left + slope * (steps - first.chunk))

    def time(left: float, right: float) -> float:
        return max(left * min(1.0, chunk / first.chunk), at(chunk, left, right))  # a step takes no less in fewer

    internal, rest = at(chunk, first.internal, second.internal), steps % chunk
    return replace(
        first,
        chunk=chunk,
        internal=round(internal),
        tail=round(at(rest, first.internal, second.internal) if rest else internal),
        advance=time(first.advance, second.advance),
        backprop=time(first.backprop, second.backprop),
        apart=time(first.stored, second.stored),
    )


def _twice(sizes: Measured, adding: float, part: float) -> Measured:
    """Return a core of twice the steps, as far as one alone lets expect it, which saves such a part of its time."""
    least = max(_BACKPROP, adding)
    times = (sizes.advance, _ADVANCE), (sizes.backprop, least), (sizes.stored, least)
    advance, backprop, apart = (2 * time - min(max(beside, part * time), time / 2) for time, beside in times)
    internal = 2 * sizes.internal + sizes.hidden
    return replace(sizes, chunk=2 * sizes.chunk, internal=internal, advance=advance, backprop=backprop, apart=apart)
