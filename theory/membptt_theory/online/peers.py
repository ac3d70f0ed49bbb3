"""The stores and ends of other people's policies, as their papers and programs state them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from membptt_theory.online.gaps import NEVER
from membptt_theory.online.rule import Store


def wang_moin_iaccarino(slots: int, /) -> Iterator[Store]:
    """Yield the stores of the minimal repetition dynamic algorithm.

    A state is stored at level 0. It can be spared once a later one has a higher level. If there is any such state the
    newest of them is replaced, at level 0; else the newest of all is, one level higher than it had.

    Ref: wang2009, algorithm 1.
    """
    return _by_levels(list(range(min(slots, 1))), slots, first=1, above=1)


def equinox(slots: int, /) -> Iterator[Store]:
    """Yield the stores of ``equinox.internal.while_loop(kind="checkpointed")``.

    Up to ``binom(m + 2, 2) - 1`` steps Stumm and Walther's first algorithm; from there on Wang, Moin and Iaccarino's,
    in which a state can be spared once a later one is *two* levels above it.

    Ref: equinox, ``_loop/checkpointed.py`` at 9336d82; stumm2010, algorithm 1.
    """
    change = (slots + 1) * (slots + 2) // 2 - 1
    place = [NEVER] * slots  # the state in each slot
    index, last, turn, storing = 0, slots, slots, True
    for state in range(change):
        if storing:
            if state:
                yield Store(state, state, () if place[index] == NEVER else (place[index],))
            place[index] = state
            index = 1 if index + 1 > last else index + 1
        if state + 1 == turn:
            storing = False
        if state == turn:
            turn, last = turn + last, last - 1
            index, storing = last, last > 0
    yield from _by_levels(place, slots, first=change, above=0)


def halving_split(steps: int, slots: int, /) -> int:
    """Return where equinox cuts a gap: in half, or one step on if that suffices; ``L`` itself to store nothing."""
    if steps <= 2 or slots == 1:
        return steps
    return 1 if steps <= slots + 1 else steps // 2


@lru_cache(maxsize=2**16)
def halving_cost(steps: int, slots: int, /) -> int:
    """Return the forwards of a gap that is cut by `halving_split`."""
    if steps <= 2 or slots == 1:
        return steps * (steps + 1) // 2
    if steps <= slots + 1:
        return 2 * steps - 1
    half = steps // 2
    return half + halving_cost(steps - half, slots - 1) + halving_cost(half, slots)


def _by_levels(place: list[int], slots: int, *, first: int, above: int) -> Iterator[Store]:
    """Yield stores by levels; the newest state spares those lower than its new level, less one where `above` is 0."""
    levels = [NEVER] + [0] * (slots - 1)
    spare: set[int] = set()
    state = first
    while len(place) < slots:
        yield Store(state, state, ())
        place.append(state)
        state += 1
    if slots == 1:
        return
    while True:
        if spare:
            index = max(spare, key=place.__getitem__)
            spare.remove(index)
            levels[index] = 0
        else:
            index = place.index(max(place))
            spare = {i for i, level in enumerate(levels) if i != index and level < levels[index] + above}
            levels[index] += 1
        yield Store(state, state, (place[index],))
        place[index] = state
        state += 1
