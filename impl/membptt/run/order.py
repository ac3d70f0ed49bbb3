"""The order in which a sequence is run: from its start, or from its end."""

from __future__ import annotations

from torch import Tensor

from membptt.state.states import At


class Order:
    """Where the steps of a run find their parts of the sequence. Inputs and outputs lie at the same places.

    Args:
        steps: of a sequence that is run from its end; ``None`` for one that is run from its start.

    Attributes:
        backwards: whether it is run from its end.
    """

    def __init__(self, steps: int | None = None) -> None:
        self._steps = steps
        self.backwards = steps is not None

    def part(self, sequence: Tensor, at: At) -> Tensor:
        """Return the part of a step, or of several in the order in which they run."""
        if self._steps is None:
            return sequence[at]
        return sequence[self.place(at)].flip(0) if isinstance(at, slice) else sequence[self.place(at)]

    def enter(self, sequence: Tensor, at: At, part: Tensor) -> None:
        """Write the part of a step, or of several."""
        if self._steps is None:
            sequence[at] = part
        else:
            sequence[self.place(at)] = part.flip(0) if isinstance(at, slice) else part

    def place(self, at: At) -> At:
        """Return where in the sequence the steps are that run at `at`."""
        if self._steps is None:
            return at
        if isinstance(at, slice):
            return slice(self._steps - at.stop, self._steps - at.start)
        return self._steps - 1 - at
