"""Whether planning leaves a step as it was: run once more from the same state, it has to give the same."""

from __future__ import annotations

from collections.abc import Callable

from membptt.run.verdict import distance
from membptt.state.fingerprints import tolerance
from membptt.state.leaves import Leaves
from membptt.state.states import Hidden
from membptt.step.changes import Accumulated, accumulation_refused
from membptt.step.generators import Generators
from membptt.step.surroundings import Surroundings


class Repeat:
    """Runs a core again whenever it is asked to, beginning at once, and compares.

    Random generators, and what the step assigns to, are put back between the runs. What cannot be put back would have
    moved on before the scan begins, and where that recomputes nothing, nobody would notice.

    Args:
        run: runs the core, always from the same state, and returns the carry after it and its last output.
        generators: that the step may draw from.
        surroundings: what the step finds around it.
        first: what the very first run gave, and the state of the generators before it.
        name: of the step, for people.

    Raises:
        RuntimeError: as `check`.
    """

    def __init__(
        self,
        run: Callable[[], tuple[Leaves, Leaves]],
        generators: Generators,
        surroundings: Surroundings,
        first: Hidden,
        name: str = "the step",
    ) -> None:
        self._run, self._generators, self._surroundings, self._name = run, generators, surroundings, name
        self._random = first.random
        self._first: tuple[Leaves, Leaves | None] = first.leaves, None
        self._first = first.leaves, self.check()

    def check(self) -> Leaves:
        """Run it once more, and return its output.

        Raises:
            RuntimeError: it gives something else, by more than rounding, or calls ``backward()``.
        """
        accumulated = Accumulated(self._surroundings)
        carry, output = self._again()
        if moved := accumulated.moved():
            with accumulation_refused(moved):
                self._again()
        pairs = ("carry", self._first[0], carry), ("output", self._first[1], output)
        others = [what for what, then, now in pairs if then is not None and not _alike(then, now)]
        if others:
            raise RuntimeError(
                f"planning runs {self._name} a few times, and from the same state it gave another {others[0]} the "
                "second time: it keeps state outside the carry that cannot be put back, such as a counter in a list, "
                "an iterator or a cache, or it draws from a generator of its own. Hand that state on in the carry, or "
                "draw from torch's, Python's or numpy's global generator"
            )
        return output

    def _again(self) -> tuple[Leaves, Leaves]:
        self._generators.write(self._random)
        with self._surroundings.undone():
            return self._run()


def _alike(then: Leaves, now: Leaves) -> bool:
    return len(then) == len(now) and all(distance(a, b) <= tolerance(a.dtype) for a, b in zip(then, now, strict=True))
