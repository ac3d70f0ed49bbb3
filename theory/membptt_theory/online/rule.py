"""Which states are stored while nobody knows the length: endless sequences of stores, made without knowing the end.

An online policy sees nothing but that another step exists, so all that it ever does is one sequence of stores. Time is
told in steps: a store is due before a step is run, once that step is known to exist.

*With a delay of one state*, state ``x`` is stored before step ``x + 1``. It is still at hand then, as the input of the
newest step, whose graph is kept since it may be the last one. *Without*, state ``x`` is stored before step ``x``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from membptt_theory.online.gaps import NEVER, gap_cost, losses, reach


class Store(NamedTuple):
    """One store: before step `due` is run, the `dropped` states give up their slots and state `position` gets one."""

    due: int
    position: int
    dropped: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """The budget rule: of the choices that keep the promise now, the one that is cheapest a few steps on.

    When the slots are full, the next state may be stored in the place of any other, or not. Of these choices, those
    whose cost, should the loop end now, is at most ``bound`` times the offline optimum are compared by their cost
    ``ahead`` steps on; where none keeps the bound, the cheapest now is taken. Of equals, that which drops the earliest.

    Args:
        bound: numerator and denominator; ``(1, 1)``: always the cheapest now.
        ahead: steps.
        delay: 1 or 0, see above.
        latest: of equals, that which drops the latest instead.
    """

    bound: tuple[int, int] = (1, 1)
    ahead: int = 1
    delay: int = 1
    latest: bool = False


def by_rule(slots: int, rule: Rule, /, *, held: list[int] | None = None, first: int = 1) -> Iterator[Store]:
    """Yield the stores of a rule: ``O(1)`` a step, ``O(m)`` a store.

    Only three choices can be best: to store nothing, to replace the newest stored state, and to replace whichever of
    the others costs least to lose, which does not depend on where the loop ends.

    Args:
        slots: ``m``, the starting state's included.
        rule: the rule.
        held: the states stored so far; the starting state alone if not given.
        first: the first state that may be stored.
    """
    held = [0] if held is None else list(held)
    state, delay, ahead = first, rule.delay, rule.ahead
    while len(held) < slots:
        held.append(state)
        yield Store(state + delay, state, ())
        state += 1
    if slots == 1:
        return
    promised, unit = rule.bound
    sign = -1 if rule.latest else 1
    # What lies behind a state that is stored is a gap in one slot.
    behind_now, behind_then = gap_cost(delay, 1), gap_cost(delay + ahead, 1)
    offline = _Growing(state + delay, slots)
    while True:
        gaps = [b - a for a, b in pairwise(held)]
        kept, spared = losses(gaps, slots)
        least = min(spared, default=NEVER)
        if rule.latest:
            spared.reverse()
        index = spared.index(least) + 1 if spared else 0
        index = len(spared) - index + 1 if rule.latest else index
        second, last = held[-2:]
        without_last = kept - gap_cost(gaps[-1], 2)
        joined_last, joined = _Growing(state - second - 1, 2), _Growing(state - last - 1, 2)
        while True:
            # Forwards in all, should the loop end now, less the first pass: nothing stored, the newest state replaced,
            # the cheapest of the others replaced.
            gap = state - last + delay
            allowed = promised * offline.grow()
            without = kept + gap * (gap + 1) // 2
            newest = without_last + joined_last.grow()
            other = least + joined.grow()
            state += 1
            if promised == unit and without < min(newest, other) + behind_now:
                continue
            first = state + delay
            gap += ahead
            best = (max(allowed, unit * (first + without)), kept + gap * (gap + 1) // 2, sign * slots)
            key = max(allowed, unit * (first + newest + behind_now)), newest + behind_then, sign * (slots - 1)
            best = min(best, key)
            if spared:
                best = min(best, (max(allowed, unit * (first + other + behind_now)), other + behind_then, sign * index))
            drop = sign * best[2]
            if drop < slots:
                break
        dropped = held.pop(drop)
        held.append(state - 1)
        yield Store(state - 1 + delay, state - 1, (dropped,))


class _Growing:
    """HSM's cost of a gap that grows a step at a time."""

    def __init__(self, steps: int, slots: int) -> None:
        self._slots, self._steps, self._cost = slots, steps, gap_cost(steps, slots)
        self._repeats = 0
        while reach(slots, self._repeats) < steps:
            self._repeats += 1
        self._top = reach(slots, self._repeats)

    def grow(self) -> int:
        """Return the cost with one step more."""
        self._steps += 1
        if self._steps > self._top:
            self._repeats += 1
            self._top = self._top * (self._slots + self._repeats) // self._repeats
        self._cost += self._repeats + 1
        return self._cost


def front_filling(slots: int, /) -> Iterator[Store]:
    """Yield stores that waste nothing up to ``binom(m + 2, 2)`` steps: the first gap that may still grow, grows.

    Every state is stored, with a delay of one state; the gaps end at ``m + 1, m, .., 2`` steps, as offline.

    Ref: ``delay_is_free`` of the formal proofs. Claim: online-delay-wastes-nothing.
    """
    for state in range(1, slots):
        yield Store(state + 1, state, ())
    state, start = slots, 0
    for room in range(slots, 1, -1):
        for gap in range(1, room + 1):
            yield Store(state + 1, state, (start + gap,))
            state += 1
        start += room + 1


def filled(slots: int, /) -> list[int]:
    """Return the states that `front_filling` holds at its end."""
    return list(accumulate(range(slots + 1, 2, -1), initial=0))
