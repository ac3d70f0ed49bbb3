"""Chen's two strategies as schedules of the same actions, with exact integer costs for every length and segment.

*Sqrt(t)*: hidden states at the starts of equal segments; the backward pass of a segment first runs it again with
graphs and keeps its internal states. *Recursive*: a part is cut into ``p = k + 1`` parts by ``k`` hidden states, and
each part is cut again, down to single steps.

The paper gives neither for uneven lengths; here, and in every function below:
- the starting state is stored at position 0, counts, and is dropped at the end, as in HSM and MSM;
- the last step of a segment is backpropagated from the working core, so ``L`` steps keep ``L - 1`` internal states;
- segments have ``L`` steps, the last one the remainder; parts differ by at most one step, longer ones first;
- the first pass stops where the last segment begins and records it at once (``records_last=True``, as every
  implementation does), or runs to the end and starts the last segment again (``False``: two forwards per step).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from math import isqrt
from typing import Final, NamedTuple

from membptt_theory.actions import (
    Action,
    Advance,
    Backpropagate,
    DropHidden,
    LoadInternal,
    Record,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.schedule import Schedule, paired
from membptt_theory.tables import check_count

_EACH_ONE: Final = Sizes(hidden=1, internal=1)


class Cost(NamedTuple):
    """What a schedule costs: forward evaluations, and the largest number of slots in use."""

    forwards: int
    slots: int


def sqrt_schedule(steps: int, segment: int, /, *, sizes: Sizes = _EACH_ONE, records_last: bool = True) -> Schedule:
    """Return Chen's sqrt(t) schedule.

    Args:
        steps: ``t``, at least 1.
        segment: ``L``, steps of a segment, at least 1; more than ``t`` means one segment.
        sizes: slots of a hidden and of an internal state; by default each state takes one.
        records_last: whether the first pass records the last segment.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is below 1, or `sizes` cannot store what the strategy stores.

    Ref: chen2016, section 4; gruslys2016, section 4.1. Claim: chen-sqrt-cost.
    """
    steps, segment = check_count("steps", steps), check_count("segment", segment)
    cost = sqrt_cost(steps, segment, sizes, records_last=records_last)
    stream = partial(_sqrt_stream, steps, segment, records_last)
    return _schedule(f"Chen's sqrt(t), segments of {segment}", steps, sizes, cost, stream)


def recursive_schedule(steps: int, parts: int, /, *, records_last: bool = True) -> Schedule:
    """Return Chen's recursive schedule; it holds one pending part for each stored state and does not recurse.

    Args:
        steps: ``t``, at least 1.
        parts: ``p = k + 1``, at least 2; a part of fewer than ``p`` steps is cut into single steps.
        records_last: whether a pass stops where its last part begins instead of running to its end.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: ``steps < 1`` or ``parts < 2``.

    Ref: chen2016, section 4; gruslys2016, section 4.1. Claim: chen-recursive-cost.
    """
    steps, parts = check_count("steps", steps), check_count("parts", parts, least=2)
    cost = recursive_cost(steps, parts, records_last=records_last)
    stream = partial(_recursive_stream, steps, parts, records_last)
    return _schedule(f"Chen's recursion, {parts} parts", steps, Sizes(hidden=1, internal=None), cost, stream)


def sqrt_cost(steps: int, segment: int, sizes: Sizes, /, *, records_last: bool = True) -> Cost:
    """Return what `sqrt_schedule` costs, in closed form.

    With ``K = ceil(t/L)`` segments, the last of ``l = t - (K-1) L`` steps: ``2t - l`` forwards (``2t`` where the first
    pass runs to the end), and ``max((K-1) h + (L-1) b [K > 1], K h + (l-1) b)`` slots with hidden states of ``h`` and
    internal states of ``b`` slots.

    >>> sqrt_cost(1000, 32, Sizes(1, 3, 2))
    Cost(forwards=1992, slots=93)

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or `sizes` cannot store what the strategy stores.

    Claim: chen-sqrt-cost.
    """
    steps, segment = check_count("steps", steps), min(check_count("segment", segment), steps)
    hidden, internal = _room(sizes, needs_internal=segment > 1)
    count = -(-steps // segment)
    tail = steps - (count - 1) * segment
    slots = count * hidden + (tail - 1) * internal
    if count > 1:
        slots = max(slots, (count - 1) * hidden + (segment - 1) * internal)
    return Cost(2 * steps - tail if records_last else 2 * steps, slots)


def recursive_cost(steps: int, parts: int, /, *, hidden: int = 1, records_last: bool = True) -> Cost:
    """Return what `recursive_schedule` costs, in ``O(log t)`` arithmetic.

    With ``h = floor(log_p t)`` the slots are ``h (p - 1) + floor(t / p^h)`` hidden states. The parts of depth ``d``
    have ``floor(t / p^d)`` steps or one more, and each is advanced over once unless it is a single step.

    >>> recursive_cost(1000, 2)
    Cost(forwards=6044, slots=10)

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``steps < 1``, ``parts < 2`` or ``hidden < 1``.

    Claim: chen-recursive-cost.
    """
    steps, parts = check_count("steps", steps), check_count("parts", parts, least=2)
    forwards, states, width = steps, 0, 1
    while (size := steps // width) > 0:
        states = states + parts - 1 if size >= parts else states + size
        longer = steps - size * width
        for length, many in ((size, width - longer), (size + 1, longer)):
            if length > 1:
                last = max(1, length // parts) if records_last else 0
                forwards += many * (length - last)
        width *= parts
    return Cost(forwards, states * check_count("hidden", hidden))


def best_segment(steps: int, sizes: Sizes, /, *, slots: int | None = None) -> int | None:
    """Return the segment that needs the fewest slots; with `slots` given, the one of fewest forwards that fits.

    Ties take the fewest forwards, then the fewest slots, then the shortest segment. ``None`` where nothing fits.

    >>> best_segment(1000, Sizes(1, 3, 2)), best_segment(1000, Sizes(1, 3, 2), slots=100)
    (24, 36)

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or `sizes` cannot store what the strategy stores.

    Claim: chen-sqrt-cost.
    """
    steps = check_count("steps", steps)
    _, internal = _room(sizes, needs_internal=steps > 1)
    limit = None if slots is None else check_count("slots", slots)
    # Two or more segments need more than (L-1) b slots, so a best one is short, or the whole sequence.
    reach = sqrt_cost(steps, isqrt(steps), sizes).slots if limit is None else limit
    longest = min(steps, reach // internal + 1) if internal else steps
    ranked: list[tuple[int, int, int]] = []
    for segment in {*range(1, longest + 1), steps}:
        forwards, room = sqrt_cost(steps, segment, sizes)
        if limit is None:
            ranked.append((room, forwards, segment))
        elif room <= limit:
            ranked.append((forwards, room, segment))
    return min(ranked)[2] if ranked else None


def _schedule(title: str, steps: int, sizes: Sizes, cost: Cost, stream: Callable[[], Iterator[Action]]) -> Schedule:
    digest = hashlib.sha256(repr((title, steps, sizes, cost)).encode()).hexdigest()
    return Schedule(title, steps, sizes, cost.slots, cost.forwards, digest, lambda: paired(stream()))


def _sqrt_stream(steps: int, segment: int, records_last: bool) -> Iterator[Action]:
    last = (steps - 1) // segment * segment
    for start in range(0, last, segment):
        yield Advance(start, start + segment)
        yield StoreHidden(start + segment)
    if not records_last:
        yield Advance(last, steps)
    for start in range(last, -1, -segment):
        stop = min(start + segment, steps)
        if start < last or not records_last:
            yield Restore(start)
        for step in range(start, stop - 1):
            yield Record(step)
            yield StoreInternal(step)
        yield Record(stop - 1)
        yield Backpropagate(stop - 1)
        for step in range(stop - 2, start - 1, -1):
            yield LoadInternal(step)
            yield Backpropagate(step)
        yield DropHidden(start)


def _recursive_stream(steps: int, parts: int, records_last: bool) -> Iterator[Action]:
    pending = [(0, steps)]
    there = True
    while pending:
        start, length = pending.pop()
        if not there:
            yield Restore(start)
        while length > 1:
            short, longer = divmod(length, parts)
            for part in range(min(parts, length) - 1):
                stop = start + short + (part < longer)
                yield Advance(start, stop)
                yield StoreHidden(stop)
                pending.append((start, stop - start))
                start, length = stop, length - (stop - start)
            if not records_last:
                yield Advance(start, start + length)
                yield Restore(start)
        yield Record(start)
        yield Backpropagate(start)
        yield DropHidden(start)
        there = False


def _room(sizes: Sizes, *, needs_internal: bool) -> tuple[int, int]:
    internal = sizes.internal_known or sizes.internal
    if sizes.hidden is None or (internal is None and needs_internal):
        raise ValueError(f"Chen's sqrt(t) strategy stores hidden and internal states; {sizes} cannot store both")
    return sizes.hidden, internal or 0
