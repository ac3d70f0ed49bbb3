"""A short run of the user's step: what its states weigh and how long its cores take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optree
import torch
from torch import Tensor

from membptt.adjoint import Adjoint
from membptt.compiled import compile_chunk
from membptt.core import Core, Step
from membptt.guards import StateGuard
from membptt.inputs import Inputs, check_tensors
from membptt.meter import parts_of, storages
from membptt.outputs import Outputs
from membptt.replay import Generators, RandomState
from membptt.slots import Hidden, as_leaf, is_differentiable
from membptt.tier import IN_FLIGHT, SlowStates, SlowTier
from membptt_theory.footprint import Measured

_SECONDS = 0.02  # time spent on one figure, at least
_CALLS = 3


class Trial:
    """Measures cores of one step function; the random state is left as it was.

    Args:
        step: as for `scan`.
        init: as for `scan`.
        xs: as for `scan`.
        params: the declared parameters.
        segments: as for `scan`.
        compile: as for `scan`.
        slow: the slow tier to measure transfers with, if any.
    """

    def __init__(
        self,
        step: Step,
        init: Any,
        xs: Any,
        params: Sequence[Tensor],
        *,
        segments: bool,
        compile: bool,
        slow: SlowTier | None = None,
    ) -> None:
        leaves, self._spec = optree.tree_flatten(init)
        # Every core but the first has a carry that wants a gradient, and it is those that count.
        self._carry = tuple(as_leaf(leaf, is_differentiable(leaf)) for leaf in check_tensors("init", leaves))
        self._step, self._xs, self._params, self._segments = step, xs, params, segments
        self._devices = {tensor.device for tensor in (*self._carry, *params)}
        self._compiled = compile_chunk(step, self._devices) if compile else None
        self._generators = Generators(self._devices)
        self._outside = storages((*params, *Inputs(xs, 1).leaves))
        self._shared: dict[int, int] | None = None
        self._slow = slow
        self._transfers: tuple[int, int, float, float] | None = None

    def measure(self, chunk: int) -> Measured:
        """Measure a core of `chunk` steps.

        Raises:
            RuntimeError: the step keeps state inside its module.
        """
        guard = StateGuard(self._step)
        with self._generators.exclusive(), self._generators.preserved():
            shared = self._find_shared(guard)
            start = self._own(storages(self._carry), shared)
            hidden, internal = self._weigh(chunk, shared)
            rest = Inputs(self._xs, chunk).steps % chunk
            tail = self._weigh(rest, shared)[1] if rest else internal
            core, inputs, xs = self._core(chunk, metered=False)
            before = self._generators.read()
            state = core.advance(self._start(), xs, 0, 1)
            transfers = self._transfer(state, before)
            advance = self._time(lambda: core.advance(state, xs, 0, 1))
            backprop = self._time(self._backpropagation(core, inputs, xs, state))
        everywhere = sum(shared.values())
        return Measured(chunk, start, hidden, internal, tail, everywhere, min(advance, backprop), backprop, *transfers)

    def _transfer(self, state: Hidden, before: RandomState) -> tuple[int, int, float, float]:
        """Return what `Measured` says of the slow tier; hidden states are the same whatever the chunk."""
        if self._slow is not None and self._transfers is None:
            start = Hidden.of(self._start().leaves, before)
            state = Hidden.of(state.leaves, self._generators.read())
            states = SlowStates(start, self._slow.directory)

            def write() -> None:
                states.store(1, state)
                states.drop(1)

            try:
                seconds = self._time(write)
                states.store(1, state)
                size = states.spill.bytes
                on_device = sum(leaf.nbytes for leaf in state.leaves if leaf.is_cuda)
                self._transfers = size, (IN_FLIGHT + 1) * on_device, seconds, self._time(lambda: states.restore(1))
            finally:
                states.close()
        return self._transfers or (0, 0, 0.0, 0.0)

    def _weigh(self, chunk: int, shared: dict[int, int]) -> tuple[int, int]:
        """Return bytes of a hidden state, and of an internal state beyond its two hidden states."""
        core, _, xs = self._core(chunk, metered=True)
        state = core.advance(self._start(), xs, 0, 1)
        internal = core.tape(state, xs, 0)
        whole = self._own(parts_of(internal), shared)
        ends = self._own(storages((*state.leaves, *internal.carry_out)), shared)
        return self._own(storages(internal.carry_out), shared), max(whole - ends, 0)

    def _find_shared(self, guard: StateGuard) -> dict[int, int]:
        """Find what two consecutive cores both refer to, beside the state that one hands to the other."""
        if self._shared is None:
            core, _, xs = self._core(1, metered=True)
            state = core.advance(self._start(), xs, 0, 1, Outputs(1))  # with outputs, a first pass: it checks the step
            guard.check()
            first = core.tape(state, xs, 0)
            second = core.tape(first.output(), xs, 0)
            between = storages(first.carry_out)
            constant = storages(state.leaves).keys() & between.keys() & storages(second.carry_out).keys()
            one, other = parts_of(first), parts_of(second)
            both = (one.keys() & other.keys()) - (between.keys() - constant)
            self._shared = {storage: one[storage] for storage in both if storage not in self._outside}
            self._kept = first, second  # their storages' addresses must not be used again
        return self._shared

    def _core(self, chunk: int, *, metered: bool) -> tuple[Core, Inputs, tuple[Tensor, ...]]:
        inputs = Inputs(self._xs, chunk, segments=self._segments)
        core = Core(
            self._step,
            self._spec,
            self._carry,
            inputs,
            segments=self._segments,
            params=self._params,
            generators=Generators(set(), enabled=False),
            compiled=self._compiled,
            metered=metered,
        )
        return core, inputs, inputs.leaves

    def _start(self) -> Hidden:
        return Hidden.of(tuple(leaf.detach() for leaf in self._carry), ())

    def _own(self, parts: dict[int, int], shared: dict[int, int]) -> int:
        return sum(size for key, size in parts.items() if key not in shared and key not in self._outside)

    def _backpropagation(self, core: Core, inputs: Inputs, xs: tuple[Tensor, ...], state: Hidden) -> Callable[[], None]:
        outputs = Outputs(min(inputs.chunk, inputs.steps))
        core.tape(state, xs, 0, outputs)
        ys = [torch.ones_like(leaf) if is_differentiable(leaf) else None for leaf in outputs.take()]
        carry = [torch.ones_like(leaf) if is_differentiable(leaf) else None for leaf in state.leaves]
        adjoint = Adjoint(list(carry), ys, outputs, xs, self._params)

        def run() -> None:
            adjoint.carry = list(carry)
            adjoint.step(core.tape(state, xs, 0))

        return run

    def _time(self, call: Callable[[], object]) -> float:
        call()
        taken: list[float] = []
        while len(taken) < _CALLS or (sum(taken) < _SECONDS and len(taken) < 50):
            _finish(self._devices)
            before = time.perf_counter()
            call()
            _finish(self._devices)
            taken.append(time.perf_counter() - before)
        return min(taken)  # what else the machine did meanwhile is not to choose the chunk


def _finish(devices: Iterable[torch.device]) -> None:
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
