"""Whether a run takes the bytes that its plan promised: planning measures a short run, and a step's work may vary."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor

from membptt.run.saved import saved_by
from membptt.state.leaves import storages
from membptt.state.states import Internal
from membptt.torch_private import elements_of
from membptt_theory.footprint import Measured
from membptt_theory.options import readable

_TURNS: Final = 4


class BrokenPromiseWarning(UserWarning):
    """A run takes more memory than its plan promised."""


class Promise:
    """What a plan promised of a run: a core is weighed where its graph is larger than those before, and no other one.

    Larger is what has more nodes, or whose operations gave larger tensors: a quarter of them is looked at in each core,
    in turns, which takes a few microseconds. The first core is weighed, and looked at as a whole.

    Args:
        total: bytes of stored states and working core, at most.
        measured: the core that planning measured.
        outside: the caller's tensors, which are no stored states.
    """

    def __init__(self, total: int, measured: Measured, outside: Sequence[Tensor]) -> None:
        self._total = total
        self._measured = measured
        self._outside = outside
        self._most: dict[int, tuple[int, int]] = {}
        self._broken = False

    def see(self, core: int, internal: Internal, nodes: Sequence[Any]) -> None:
        """Look at a recorded core and the nodes of its graph; warn, once, where it breaks the promise."""
        if self._broken:
            return
        turns = [core % _TURNS] if self._most else range(_TURNS)
        sizes = {turn: (len(nodes), elements_of(nodes[turn::_TURNS])) for turn in turns}
        most = {turn: self._most.get(turn, (0, 0)) for turn in turns}
        if all(size <= least for turn in turns for size, least in zip(sizes[turn], most[turn], strict=True)):
            return
        for turn, (count, elements) in sizes.items():
            self._most[turn] = max(count, most[turn][0]), max(elements, most[turn][1])
        ends = storages((*internal.carry_in, *internal.carry_out, *self._outside))
        parts = {**storages(internal.x_in, owned=True), **saved_by(nodes)}
        graph = sum(size for storage, size in parts.items() if storage not in ends)
        promised = max(self._measured.internal, self._measured.tail) + self._measured.shared
        excess = graph - promised - (self._measured.start if core == 0 else 0)
        if excess > 0:
            self._broken = True
            warnings.warn(
                f"the plan promised at most {readable(self._total)} of stored states and working core, but the graph "
                f"of core {core} keeps {readable(graph)} where the one that planning measured kept "
                f"{readable(promised)}: this run takes about {readable(self._total + excess)}, and more where several "
                "such graphs are stored. The step's work varies: plan with a carry and inputs at which the first step "
                "works the most, or give slots= with room to spare",
                BrokenPromiseWarning,
                stacklevel=2,
            )
