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

from membptt_theory.online.gaps import gap_cost, gaps_cost, losses, reach


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
    behind_now, behind_then = gap_cost(delay, 1), gap_cost(delay + ahead, 1) + ahead
    offline = gap_cost(state + delay, slots)
    repeats = 0
    while reach(slots, repeats) < state + delay:
        repeats += 1
    top = reach(slots, repeats)
    while True:
        gaps = [b - a for a, b in pairwise(held)]
        kept, spared = gaps_cost(gaps, slots), losses(gaps, slots)
        least, index = min(((lost, sign * j) for j, lost in enumerate(spared, start=1)), default=(0, 0))
        second, last = held[-2:]
        without_last = kept - gap_cost(gaps[-1], 2)
        drop = slots
        while True:
            steps = state + delay + 1  # known to exist
            if steps > top:
                repeats += 1
                top = top * (slots + repeats) // repeats
            offline += repeats + 1
            allowed = promised * offline
            gap = steps - 1 - last
            now = steps + kept + gap * (gap + 1) // 2
            gap += ahead
            then = steps + ahead + kept + gap * (gap + 1) // 2
            best = (max(allowed, unit * now), then, sign * slots)
            lost = steps + without_last + gap_cost(state - second, 2)
            best = min(best, (max(allowed, unit * (lost + behind_now)), lost + behind_then, sign * (slots - 1)))
            if index:
                lost = steps + least + gap_cost(state - last, 2)
                best = min(best, (max(allowed, unit * (lost + behind_now)), lost + behind_then, index))
            drop = sign * best[2]
            state += 1
            if drop < slots:
                break
        dropped = held.pop(drop)
        held.append(state - 1)
        yield Store(state - 1 + delay, state - 1, (dropped,))


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
