"""The staged policy: at most 8/7 of the offline optimum for every length, from eight slots on.

Between ``B = binom(m + q, m)`` and ``binom(m + q + 1, m)`` steps, ``2 <= q <= m - 2``, the states that are stored at
``B`` give way one by one. In stage ``u = q .. m - 1`` the first ``m - u`` of them are left, and ``u`` slots work on the
``v`` steps after ``B``: afresh for ``u = q``; else the first ``V = binom(u + q, u)`` of these steps are one gap, and
``u - 1`` slots begin afresh behind it. From ``q = m - 1`` on everything but the starting state is given up at ``B``.

Whatever is stored at ``B``, the states of the next stretch are all stored after it. So any policy may be run up to some
``B`` and be handed over: only the ``m - u`` states that are left cost something else than in the staged policy, and
that is counted at ``B``, once and for all stages, whatever follows.

Ref: the restart lemma and the stages, formal proofs. Claim: online-every-length.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from membptt_theory.online.gaps import NEVER, gap_cost, gaps_cost, losses, reach
from membptt_theory.online.rule import Store


def staged(slots: int, /) -> Iterator[Store]:
    """Yield the stores of the staged policy, without delay."""
    return _stores(slots, [0], 1, -1, None)


def handed_over(slots: int, level: int, held: list[int], /) -> Iterator[Store]:
    """Yield the stores after ``binom(m + q, m)`` steps, ``q = level``, whatever is `held` there."""
    return _stores(slots, held, reach(slots, level), level, _remain(slots, level, held))


def held_at(steps: int, slots: int, /, level: int = -1, remain: list[list[int]] | None = None) -> tuple[list[int], int]:
    """Return the states held after ``t >= 1`` steps, and the last length at which they are just these.

    Args:
        steps: ``t``.
        slots: ``m``.
        level: the stretch in which other old states remain than the staged policy's.
        remain: those, by how many there are.
    """
    if slots == 1:
        return [0], NEVER
    if steps <= slots:
        return list(range(steps)), steps
    if steps <= reach(slots, 2):
        return _front_filled(steps, slots), steps
    q = 2
    while reach(slots, q + 1) < steps:
        q += 1
    start, stop = reach(slots, q), reach(slots, q + 1)
    new = steps - start
    if q >= slots - 1:
        old, shift, rest, room = [0], start, new, slots - 1
    else:
        u = q
        while u < slots - 1 and new > reach(u + 1, q):
            u += 1
        old = remain[slots - u] if remain and q == level else _full(slots, q)[: slots - u]
        stop = min(stop, start + reach(u + 1, q)) if u < slots - 1 else stop
        gap = reach(u, q) if u > q else 0
        old = [*old, start] if gap else old
        shift, rest, room = start + gap, new - gap, u - 1 if gap else u
    fresh, until = held_at(rest, room)
    return [*old, *(shift + state for state in fresh)], min(stop, shift + until)


def bound_after(slots: int, level: int, held: list[int] | None = None, /) -> Fraction:
    """Return a bound of cost over the offline optimum for every ``t > binom(m + q, m)``, ``q = level``.

    Args:
        slots: ``m >= 2``.
        level: ``q >= 2``.
        held: what is held after ``binom(m + q, m)`` steps; the staged policy's own if not given.
    """
    worst = Fraction(1)
    for q in range(level, max(level, slots - 1) + 1):
        start = reach(slots, q)
        offline = gap_cost(start, slots)
        if q >= slots - 1:
            # One more pass over what came before; further on that weighs less.
            return max(worst, 1 + Fraction(start, offline))
        remain = _remain(slots, q, held) if held and q == level else None
        for u in range(q, slots):
            # Beyond C(B, m): what the old states cost, less what the first gap of the new ones saves, q + 2 a step.
            old = reach(u + 1, q)
            if remain:
                old = start + gaps_cost(_gaps(remain[slots - u], start), slots) - offline
            new, saved = (reach(u, q), reach(u + 1, q - 1)) if u > q else (0, 0)
            worst = max(worst, 1 + Fraction(old - saved, offline + (q + 2) * new))
    return worst


def _stores(slots: int, held: list[int], until: int, level: int, remain: list[list[int]] | None) -> Iterator[Store]:
    while until < NEVER:
        state = until
        after, until = held_at(state + 1, slots, level, remain)
        if after[-1] == state:
            kept = set(after)
            yield Store(state, state, tuple(old for old in held if old not in kept))
            held = after


def _front_filled(steps: int, slots: int) -> list[int]:
    held, left, state = [], steps - slots, 0
    for room in range(slots, 0, -1):
        held.append(state)
        grown = min(left, room)
        left -= grown
        state += 1 + grown
    return held


def _full(slots: int, level: int) -> list[int]:
    """Return the states of an optimum at ``binom(m + q, m)`` steps: gaps of ``binom(m - j + q - 1, m - j)``."""
    held = [0]
    for room in range(slots, 1, -1):
        held.append(held[-1] + reach(room, level - 1))
    return held


def _remain(slots: int, level: int, held: list[int]) -> list[list[int]]:
    """Return which of `held` are left where ``0, 1, 2, ..`` may be, each loss the cheapest after those before."""
    stop = reach(slots, level)
    remain = [held]
    while len(held) > 1:
        _, lost = losses(_gaps(held, stop), slots)
        index = min(range(len(lost)), key=lambda j: (lost[j], -j)) + 1
        held = held[:index] + held[index + 1 :]
        remain.append(held)
    return [[], *reversed(remain)]


def _gaps(held: list[int], stop: int) -> list[int]:
    return [b - a for a, b in zip(held, [*held[1:], stop], strict=True)]
