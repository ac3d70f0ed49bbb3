"""A short run of the user's step: what its states weigh and how long its cores take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from membptt.kernels.compiled import compile_chunk
from membptt.planning.repeat import Repeat
from membptt.run.adjoint import Adjoint
from membptt.run.core import Core
from membptt.run.meter import parts_of
from membptt.run.outputs import Outputs
from membptt.run.problem import Problem
from membptt.run.progress import Tell, shown
from membptt.slow.tier import IN_FLIGHT, SlowStates, SlowTier
from membptt.state.leaves import Layout, as_leaf, is_differentiable, storages
from membptt.state.states import Hidden, Internal
from membptt.step.changes import InPlace
from membptt.step.generators import Generators
from membptt.step.surroundings import Surroundings
from membptt_theory.footprint import Measured

_SECONDS = 0.02  # time spent on one figure, at least
_ROUNDS = 3
_CALLS = 16  # in one round, at most

_Call = Callable[[], object]


class Trial:
    """Measures cores of one step function; the random state is left as it was.

    Args:
        problem: of the call.
        compile: as for `scan`.
        slow: the slow tier to measure transfers with, if any.
    """

    def __init__(self, problem: Problem, *, compile: bool, slow: SlowTier | None = None) -> None:
        # Every core but the first has a carry that wants a gradient, and it is those that count.
        carry = tuple([as_leaf(leaf, is_differentiable(leaf)) for leaf in problem.carry])
        self._given = problem.carry
        self._begin = self._problem = replace(problem, carry=carry)
        self._xs = problem.inputs.leaves
        self._compiled = compile_chunk(problem.step, problem.devices) if compile else None
        self._generators = Generators(problem.devices)
        self._surroundings = Surroundings.of(problem.reach)
        self._generators.follow(self._surroundings.vectors)
        self._outside = storages((*problem.params, *self._xs))
        self._shared: dict[int, int] | None = None
        self._slow = slow

    def weigh(self, chunk: int) -> Measured:
        """Measure the bytes of a core of `chunk` steps; its times are left at 0.

        Raises:
            RuntimeError: the step keeps state inside its module.
        """
        guard = InPlace(self._surroundings, rewound=self._surroundings.vectors)
        with self._undone():
            shared = self._find_shared(guard)
            hidden, internal = self._weigh(chunk, shared)
            rest = self._problem.inputs.steps % chunk
            tail = self._weigh(rest, shared)[1] if rest else internal
            start = self._own(storages(self._begin.carry), shared)
            if self._problem is not self._begin:  # what the first core makes first, it keeps in place of a start
                start += max(0, self._weigh_first(chunk, shared) - min(internal, tail))
        return Measured(chunk, start, hidden, internal, tail, sum(shared.values()), 0.0, 0.0)

    def timed(self, weighed: Sequence[Measured], tell: Tell | None = None) -> list[Measured]:
        """Add times, and the sizes and times of the slow tier.

        All is timed in turns, so that what else the machine does cannot decide which chunk or tier is chosen.
        """
        with self._undone(), ExitStack() as stack:
            before = self._generators.read()
            core = self._core(weighed[0].chunk)
            state = core.compact(core.advance(self._start(), self._xs, 0, 1))
            figures: list[Callable[[], _Call]] = [partial(self._one_way, sizes.chunk, state) for sizes in weighed]
            figures += [partial(self._both_ways, sizes.chunk, state) for sizes in weighed]
            size = transit = 0
            if self._slow is not None:
                # Hidden states are the same whatever the chunk.
                states = SlowStates(Hidden.of(self._start().leaves, before), self._slow.directory)
                stack.callback(states.close)
                stored = Hidden.of(state.leaves, self._generators.read())
                states.store(1, stored)
                size = states.spill.bytes
                transit = (IN_FLIGHT + 1) * sum(Layout.of(x).nbytes for x in state.leaves if x.is_cuda)
                figures += [lambda: lambda: _write(states, stored), lambda: lambda: states.restore(1)]
            seconds = self._in_turns(figures, tell)
        with self._undone():
            self._repeat.check()
        advance, backprop = seconds[: len(weighed)], seconds[len(weighed) : 2 * len(weighed)]
        write, read = seconds[2 * len(weighed) :] or (0.0, 0.0)
        return [
            replace(sizes, advance=min(ahead, both), backprop=both, slow=size, transit=transit, write=write, read=read)
            for sizes, ahead, both in zip(weighed, advance, backprop, strict=True)
        ]

    def beside(self) -> tuple[int, int]:
        """Return bytes beside the budget, after a core was weighed: of the outputs of all steps, and of gradients."""
        wanted = (leaf for leaf in (*self._problem.params, *self._xs, *self._given) if leaf.requires_grad)
        return self._problem.inputs.steps * self._output, _bytes(wanted)

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Leave random generators, and what the step assigns to, as they are."""
        generators = self._generators
        with generators.exclusive(), generators.handed_on(), generators.preserved(), self._surroundings.undone():
            yield

    def _weigh(self, chunk: int, shared: dict[int, int]) -> tuple[int, int]:
        """Return bytes of a hidden state, and of an internal state beyond its two hidden states."""
        core = self._core(chunk, metered=True)
        state = core.compact(core.advance(self._start(), self._xs, 0, 1))
        internal = core.record(state, self._xs, 0)
        output = storages(core.compact(internal.output()).leaves)
        return self._own(output, shared), self._inner(internal, state, output, shared)

    def _weigh_first(self, chunk: int, shared: dict[int, int]) -> int:
        """Return the same as `_weigh` of the internal state of the first core, where that makes the carry."""
        core = self._core(chunk, metered=True, problem=self._begin)
        start = Hidden.of(tuple(leaf.detach() for leaf in self._begin.carry), ())
        internal = core.record(start, self._xs, 0, Outputs(_places(self._begin, chunk)))
        return self._inner(internal, start, storages(core.compact(internal.output()).leaves), shared)

    def _inner(self, internal: Internal, state: Hidden, output: dict[int, int], shared: dict[int, int]) -> int:
        ends = storages(state.leaves).keys() | output.keys()
        return self._own({key: size for key, size in parts_of(internal).items() if key not in ends}, shared)

    def _find_shared(self, guard: InPlace) -> dict[int, int]:
        """Find what two consecutive cores both refer to, beside the state that one hands to the other."""
        if self._shared is None:
            core = self._core(1, metered=True)
            random = self._generators.read()
            with self._surroundings.undone(), torch.no_grad():  # as in a scan; a first pass checks the step
                outputs = Outputs(_places(self._problem, 1))
                state = core.compact(core.advance(self._start(), self._xs, 0, 1, outputs))
                self._output = _bytes(outputs.take())
            guard.check()
            again = partial(core.evaluate, self._start(), self._xs, 0, graph=False)
            start = Hidden.of(state.leaves, random)
            self._repeat = Repeat(again, self._generators, self._surroundings, start)
            self._repeat.check()
            if not core.form.starting:  # the first step made the carry: the others start from what it made
                carry = tuple(map(as_leaf, state.leaves, core.form.differentiable))
                self._problem = replace(self._problem, spec=core.form.spec, carry=carry)
                core = self._core(1, metered=True)
            first = core.record(state, self._xs, 0)
            second = core.record(core.compact(first.output()), self._xs, 0)
            between = storages(first.carry_out)
            constant = storages(state.leaves).keys() & between.keys() & storages(second.carry_out).keys()
            parts, others = parts_of(first), parts_of(second)
            both = (parts.keys() & others.keys()) - (between.keys() - constant)
            self._shared = {storage: parts[storage] for storage in both if storage not in self._outside}
            self._kept = first, second  # their storages' addresses must not be used again
        return self._shared

    def _core(self, chunk: int, *, metered: bool = False, problem: Problem | None = None) -> Core:
        problem, generators = problem or self._problem, Generators(set(), enabled=False)
        inputs = problem.inputs.cut(chunk)
        return Core(problem, inputs, generators=generators, compiled=self._compiled, metered=metered)

    def _start(self) -> Hidden:
        return Hidden.of(tuple(leaf.detach() for leaf in self._problem.carry), ())

    def _own(self, parts: dict[int, int], shared: dict[int, int]) -> int:
        return sum(size for key, size in parts.items() if key not in shared and key not in self._outside)

    def _one_way(self, chunk: int, state: Hidden) -> _Call:
        core = self._core(chunk)
        return lambda: core.advance(state, self._xs, 0, 1)

    def _both_ways(self, chunk: int, state: Hidden) -> _Call:
        core, outputs = self._core(chunk), Outputs(_places(self._problem, chunk))
        core.record(state, self._xs, 0, outputs)
        ys, carry = list(map(_some_gradient, outputs.take())), list(map(_some_gradient, state.leaves))
        adjoint = Adjoint(list(carry), ys, outputs, self._xs, self._problem.params)

        def run() -> None:
            adjoint.carry = list(carry)
            core.backpropagate(core.record(state, self._xs, 0), adjoint)

        return run

    def _in_turns(self, figures: Sequence[Callable[[], _Call]], tell: Tell | None) -> list[float]:
        """Return the least time of each figure: each is set up, timed and released in every round."""
        taken: list[list[float]] = [[] for _ in figures]
        with shown(tell):
            for turn, (prepare, times) in enumerate([*zip(figures, taken, strict=True)] * _ROUNDS, start=1):
                call = prepare()
                if not times:
                    call()
                calls = [self._time(call)]
                while sum(calls) < _SECONDS / _ROUNDS and len(calls) < _CALLS:
                    calls.append(self._time(call))
                times += calls
                if tell is not None:
                    tell(turn, _ROUNDS * len(figures))
        return [min(times) for times in taken]

    def _time(self, call: _Call) -> float:
        _finish(self._problem.devices)
        before = time.perf_counter()
        call()
        _finish(self._problem.devices)
        return time.perf_counter() - before


def _bytes(leaves: Iterable[Tensor]) -> int:
    """Return what these take as dense tensors."""
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def _places(problem: Problem, chunk: int) -> int:
    """Return how many places the first core of `chunk` steps takes."""
    at = problem.inputs.cut(chunk).at(0)
    return at.stop if isinstance(at, slice) else 1


def _some_gradient(leaf: Tensor) -> Tensor | None:
    """Return a gradient of ones; for a sparse leaf, its own values: it cannot be filled."""
    if not is_differentiable(leaf):
        return None
    return torch.ones_like(leaf) if leaf.layout is torch.strided else leaf.detach()


def _write(states: SlowStates, state: Hidden) -> None:
    states.store(2, state)
    states.drop(2)


def _finish(devices: Iterable[torch.device]) -> None:
    for device in devices:
        if device.type not in ("cpu", "meta"):
            torch.accelerator.synchronize(device)
