"""From a budget in bytes to slots, where nobody knows how long the loop is: by what its first cores weigh."""

from __future__ import annotations

from typing import Final

from membptt.run.course import Slots
from membptt.run.execution import AtHand
from membptt.run.meter import active, parts_of
from membptt.run.problem import Problem
from membptt.state.leaves import storages
from membptt_theory.footprint import Measured
from membptt_theory.options import least_bytes, parse_bytes, too_small

_UNITS: Final = 256  # slots beyond which they are made larger, as long as a graph takes two of them


class Room:
    """Turns a budget into slots by the second core of the first pass itself: nothing is run for it.

    The first one may start from a carry that wants no gradient, or that it makes itself.

    Args:
        budget: bytes, or text.
        problem: of the call.
        internal: whether internal states are stored too.

    Raises:
        TypeError: neither bytes nor text.
        ValueError: text that names no size.
    """

    def __init__(self, budget: int | str, problem: Problem, *, internal: bool = False) -> None:
        self._budget = parse_bytes(budget)
        self._internal = internal
        self._start = storages(problem.carry)
        self._outside = storages((*problem.params, *problem.inputs.leaves))

    def __call__(self, at_hand: AtHand) -> Slots:
        """Return the slots and, where internal states are stored too, how many of them one takes.

        Raises:
            ValueError: the starting state and one working core do not fit, or not one stored graph beside them.
        """
        core = at_hand.recorded
        if core is None:
            raise AssertionError("no core was recorded")
        at_hand.core.metered = active() is not None
        working = parts_of(core)
        hidden, given = storages(at_hand.core.compact(core.output()).leaves), storages(core.carry_in)
        state = sum(size for key, size in hidden.items() if key not in given and key not in self._outside)
        whole = {**self._start, **working}
        least = sum(size for storage, size in whole.items() if storage not in self._outside)
        sizes = Measured(1, 0, 0, least, least, 0, 0.0, 0.0)
        if least_bytes([sizes]) > self._budget:
            raise ValueError(too_small([sizes], self._budget))
        room, unit = self._budget - least, max(state, 1)
        if not self._internal:
            return Slots(1 + room // unit)
        graph = max(unit, sum(size for storage, size in working.items() if storage not in self._outside))
        if graph > room:
            raise ValueError(
                f"a budget of {self._budget} bytes is too small to keep a graph: the starting state, one working core "
                f"and one stored graph take {least + graph} bytes; leave internal out, or give as many"
            )
        # Larger than a hidden state where it would be many slots: the policy's own work at a step grows with them.
        unit = max(unit, min(graph // 2, room // _UNITS))
        return Slots(1 + room // unit, max(2, -(-graph // unit)))
