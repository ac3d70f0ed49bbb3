"""A search over every state and every action, with no reduction: the referee of the other referee, `oracle`.

It knows the rules and nothing else: any action at any time, one step at a time, breadth first. Storage is counted as in
`oracle`, or as in Maddison's mixed schedules: there a slot holds a hidden state or the internal state of a step without
its output, from which nothing can be restarted, and the starting state is not stored to begin with.

Ref: maddison2024, for the mixed model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

Storage: TypeAlias = Literal["separate", "shared", "detached", "mixed"]
EMPTY, RECORDED, LOADED = range(3)


class State(NamedTuple):
    """Where a schedule stands.

    Args:
        left: steps that are not backpropagated.
        position: of the working state; -1: there is none.
        core: whether the working core holds the step before that position; `LOADED`: without its output.
        hidden: stored hidden states, a bit each; with tensors counted once, every tensor that there is.
        internal: stored internal states, a bit each.
    """

    left: int
    position: int
    core: int
    hidden: int
    internal: int


class Rules(NamedTuple):
    """What may be stored and what it takes.

    Args:
        steps: ``t``.
        hidden: slots of a hidden state; ``None`` where none is stored and the start is free.
        internal: slots of an internal state, where its tensors are all its own; ``None`` where none is stored.
        storage: how stored states are counted.
        slots: ``m``.
    """

    steps: int
    hidden: int | None
    internal: int | None
    storage: Storage
    slots: int

    def start(self) -> State:
        """Return the first state."""
        return State(self.steps, 0, EMPTY, int(self.hidden is not None and self.storage != "mixed"), 0)

    def room(self, state: State) -> int:
        """Return the slots in use."""
        rest = (self.internal or 0) - 2 * (self.storage in ("shared", "detached"))
        return state.hidden.bit_count() * (self.hidden or 0) + state.internal.bit_count() * rest

    def held_by(self, step: int) -> int:
        """Return the tensors that an internal state holds, where tensors are counted once."""
        match self.storage:
            case "shared":
                return 3 << step
            case "detached":
                return 2 << step
        return 0

    def is_held(self, position: int, internal: int) -> bool:
        """Return whether a tensor is part of a stored internal state."""
        return any(internal >> p & 1 and self.held_by(p) >> position & 1 for p in range(self.steps))

    def moves(self, now: State) -> Iterator[tuple[int, State]]:
        """Yield every action that is legal now: its forwards, and the state after it."""
        p = now.position
        if now.core:
            if p == now.left:
                yield 0, State(now.left - 1, -1, EMPTY, now.hidden, now.internal)
            if self.internal is not None and not now.internal >> p - 1 & 1:
                at = -1 if now.core == LOADED else p
                yield 0, State(now.left, at, EMPTY, now.hidden | self.held_by(p - 1), now.internal | 1 << p - 1)
        elif 0 <= p < self.steps:
            yield 1, now._replace(position=p + 1)
            yield 1, now._replace(position=p + 1, core=RECORDED)
        if p >= 0 and not now.core and self.hidden is not None and not now.hidden >> p & 1:
            yield 0, now._replace(hidden=now.hidden | 1 << p)
        for q in range(self.steps + 1):
            output = self.storage != "mixed" and q > 0 and now.internal >> q - 1 & 1
            if not now.core and (now.hidden >> q & 1 or output or (q == 0 and self.hidden is None)):
                yield 0, now._replace(position=q)
            if now.hidden >> q & 1 and not self.is_held(q, now.internal):
                yield 0, now._replace(hidden=now.hidden & ~(1 << q))
            if now.internal >> q & 1:
                rest = now.internal & ~(1 << q)
                yield 0, now._replace(internal=rest)
                if not now.core and (self.storage != "detached" or p == q or now.hidden >> q & 1):
                    core = LOADED if self.storage == "mixed" else RECORDED
                    yield 0, State(now.left, q + 1, core, now.hidden, rest)


def fewest_forwards(rules: Rules, /) -> int | None:
    """Return the fewest forwards of any stream of actions; ``None`` where no stream backpropagates all steps.

    Time and memory grow as ``4**t`` and faster: ``t = 5`` takes about a second.
    """
    best = {rules.start(): 0}
    queue = deque([(0, rules.start())])
    while queue:
        forwards, now = queue.popleft()
        if now.left == 0:
            return forwards
        if best[now] < forwards:
            continue
        for cost, after in rules.moves(now):
            total = forwards + cost
            if total < best.get(after, total + 1) and rules.room(after) <= rules.slots:
                best[after] = total
                (queue.append if cost else queue.appendleft)((total, after))
    return None
