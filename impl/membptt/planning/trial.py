"""A short run of the user's step: what its states weigh and how long its cores take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from membptt.kernels.compiled import Compile, compile_chunk
from membptt.kernels.joint import join_cores
from membptt.planning.profile import timed
from membptt.planning.promising import disagreeing
from membptt.planning.repeat import Repeat
from membptt.run.adjoint import Adjoint, hooks_deferred
from membptt.run.continuity import Continuity
from membptt.run.core import Core, is_known_to_round
from membptt.run.course import Whole
from membptt.run.execution import Execution
from membptt.run.meter import parts_of, unmetered
from membptt.run.node import Choice
from membptt.run.outputs import Outputs
from membptt.run.problem import Problem
from membptt.run.progress import Tell, shown
from membptt.run.promise import Promise
from membptt.run.region import Region, beyond
from membptt.run.verdict import Compared
from membptt.slow.tier import IN_FLIGHT, SlowStates, SlowTier
from membptt.state.leaves import Layout, as_leaf, is_differentiable, storages
from membptt.state.states import Hidden, Internal
from membptt.state.trees import tree_leaves
from membptt.step.autocast import Autocast
from membptt.step.changes import InPlace
from membptt.step.generators import Generators
from membptt.step.surroundings import Surroundings
from membptt.torch_private import nodes_made
from membptt_theory.actions import (
    Backpropagate,
    LoadInternal,
    Record,
    Restore,
    StoreInternal,
    TieredInstruction,
)
from membptt_theory.footprint import Measured
from membptt_theory.tables import build

_SECONDS = 0.02  # time spent on one figure, at least
_ROUNDS = 3
_CALLS = 16  # in one round, at most
_AGAIN = 2  # times, at most, that times which disagree are taken again
_GRADIENT = 0.05  # seconds that a short scan and its backward are to take
_LEAST = 0.5  # of the time of single cores: less is a slip of the clock
_FEW, _MANY, _SLOTS = 2, 64, 6  # cores of it, at least and at most, and its slots
_Stream = tuple[TieredInstruction, ...]
_AT_ONCE: _Stream = ((Restore, (0,)), (Record, (0,)), (Backpropagate, (0,)))
_APART: _Stream = (*_AT_ONCE[:2], (StoreInternal, (0,)), (LoadInternal, (0,)), _AT_ONCE[2])

_Call = Callable[[], object]
Run = Callable[[Problem, Choice, Compile], tuple[Any, Any]]  # a scan, whose results have a graph


class Kind(NamedTuple):
    """Which cores are measured: of how many steps, and whether they are compiled, and how."""

    chunk: int
    compile: Compile


class Trial:
    """Measures cores of one step function; the random state is left as it was.

    Attributes:
        nodes: of autograd's graph that a step makes, in the core that was weighed last.

    Args:
        problem: of the call.
        run: runs a scan.
        compile: as for `scan`: how compiled cores are compiled.
        slow: the slow tier to measure transfers with, if any.
    """

    def __init__(self, problem: Problem, run: Run, *, compile: Compile, slow: SlowTier | None = None) -> None:
        self._surroundings = Surroundings.of(problem.reach)
        # Every core but the first has a carry that wants a gradient, and it is those that count.
        carry = tuple([as_leaf(leaf, is_differentiable(leaf)) for leaf in problem.carry])
        self._posed, self._run = problem, run
        self._begin = self._problem = replace(problem, carry=carry)
        self._xs = problem.inputs.leaves
        self._compile = compile
        self._generators, self._autocast = Generators(problem.devices), Autocast.current(problem.devices)
        self._generators.follow(self._surroundings.vectors)
        self._outside = storages((*problem.params, *self._xs))
        self._shared: dict[bool, dict[int, int]] = {}  # by whether cores are compiled
        self._kept: list[Internal] = []  # the addresses of what they share must not be used again
        self._slow = slow
        self.nodes = 0.0
        self._fails = False  # gradients of a few cores: the step is another at its recomputation

    def compiles(self, chunk: int) -> bool:
        """Whether such cores can be compiled here; the first time, the compiler is loaded to find out."""
        return compile_chunk(self._posed.step, self._posed.devices, chunk, self._compile) is not None

    def weigh(self, chunk: int, *, compiled: bool) -> Measured:
        """Measure the bytes of a core of `chunk` steps, compiled or not; its times are left at 0.

        Raises:
            RuntimeError: the step keeps state inside its module.
        """
        kind = Kind(chunk, compiled and self._compile)
        guard = InPlace(self._surroundings, rewound=self._surroundings.vectors)
        with self._undone():
            shared = self._find_shared(kind, guard)
            hidden, internal = self._weigh(kind, shared)
            rest = self._problem.inputs.steps % chunk
            tail = self._weigh(kind, shared, rest)[1] if rest else internal
            start = self._own(storages(self._begin.carry), shared)
            if self._problem is not self._begin:  # what the first core makes first, it keeps in place of a start
                start += max(0, self._weigh_first(kind, shared) - min(internal, tail))
            if compiled:  # here, where what compiling takes is looked at
                state = self._after_first(kind)
                for way in self._first_pass, self._at_once, self._apart:
                    way(kind, state)()
                if rest:
                    self._both_ways(kind, state, _APART, rest)()
        sizes = start, hidden, internal, tail, sum(shared.values())
        return Measured(chunk, *sizes, 0.0, 0.0, compiled=compiled)

    def looked(self, weighed: Sequence[Measured]) -> list[Measured]:
        """Add the times of single cores as one look at them gives them, or a few where they disagree."""
        with self._undone(), torch.enable_grad(), unmetered():
            figures = self._single(weighed)
            return _alone(weighed, self._agreed(weighed, figures, self._in_turns(figures, 1), 1))

    def timed(self, looked: Sequence[Measured], tell: Tell | None = None) -> list[Measured]:
        """Add times, and the sizes and times of the slow tier, to cores that were looked at.

        All is timed in turns, so that what else the machine does cannot decide which chunk or tier is chosen: single
        cores, which tell what an advance takes beside a recording; and gradients of a few, which tell what both take
        where one core follows the other, and what a gradient takes beside them.
        """
        count = len(looked)
        with self._undone(), torch.enable_grad(), unmetered(), ExitStack() as stack:
            figures, begin = self._single(looked), Hidden.of(self._start().leaves, self._generators.read())
            singles = len(figures)
            size = transit = 0
            if self._slow is not None:
                # Hidden states are the same whatever the chunk.
                states = SlowStates(begin, self._slow.directory)
                stack.callback(states.close)
                leaves = self._after_first(self._kind(looked[0])).leaves
                stored = Hidden.of(leaves, self._generators.read())
                states.store(1, stored)
                size = states.spill.bytes
                transit = (IN_FLIGHT + 1) * sum(Layout.of(x).nbytes for x in leaves if x.is_cuda)
                figures += [lambda: lambda: _write(states, stored), lambda: lambda: states.restore(1)]
            beside = len(figures)
            few = list(map(self._few, looked))
            lengths = bool(self._wanted())
            if lengths:  # of one core, whose carry wants a gradient as that of those timed alone does, and of several
                figures += [partial(self._gradient, self._begin, sizes, 1) for sizes in looked]
                figures += [
                    partial(self._gradient, self._posed, sizes, cores)
                    for sizes, (cores, _) in zip(looked, few, strict=True)
                ]
            stack.enter_context(shown(tell))
            seconds = self._agreed(looked, figures, self._in_turns(figures, _ROUNDS, tell), _ROUNDS)
        with self._undone():
            self._repeat.check()
        write, read = seconds[singles:beside] or (0.0, 0.0)
        alone = [
            replace(sizes, slow=size, transit=transit, write=write, read=read) for sizes in _alone(looked, seconds)
        ]
        if not lengths or self._fails:
            return alone
        by_length = seconds[beside:]
        return [_corrected(*each) for each in zip(alone, few, by_length[:count], by_length[count:], strict=True)]

    def adding(self) -> float:
        """Return what it takes to add a number to each declared tensor's sum of gradients."""
        with torch.no_grad(), unmetered():
            sums = (torch.zeros_like(leaf) for leaf in self._problem.params if leaf.requires_grad)
            return sum(timed(partial(each.add_, 1.0), self._problem.devices)[1] for each in sums)

    def beside(self) -> tuple[int, int]:
        """Return bytes beside the budget, after a core was weighed: of the outputs of all steps, and of gradients."""
        return self._problem.inputs.steps * self._output, _bytes(self._wanted())

    def _wanted(self) -> list[Tensor]:
        """Return what gets a gradient."""
        return [leaf for leaf in (*self._problem.params, *self._xs, *self._posed.carry) if leaf.requires_grad]

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Leave random generators, and what the step assigns to, as they are; call no hook of a parameter."""
        generators = self._generators
        with (
            generators.exclusive(),
            generators.handed_on(),
            generators.preserved(),
            self._surroundings.undone(),
            hooks_deferred(self._problem.params),
            beyond(Region.now()),
            self._autocast.replayed(),  # as in a scan: a cast that is cached would be a weight that the step has kept
        ):
            yield

    def _kind(self, sizes: Measured) -> Kind:
        return Kind(sizes.chunk, sizes.compiled and self._compile)

    def _weigh(self, kind: Kind, shared: dict[int, int], steps: int | None = None) -> tuple[int, int]:
        """Return bytes of a hidden state, and of an internal state beyond its two hidden states; of a shorter core."""
        core, state = self._core(kind, metered=True, steps=steps), self._after_first(kind)
        before = nodes_made()
        internal = core.record(state, self._xs, 0)
        self.nodes = (nodes_made() - before) / (steps or kind.chunk)
        output = storages(core.compact(internal.output()).leaves)
        return self._own(output, shared), self._inner(internal, state, output, shared)

    def _weigh_first(self, kind: Kind, shared: dict[int, int]) -> int:
        """Return the same as `_weigh` of the internal state of the first core, where that makes the carry."""
        core = self._core(kind, metered=True, problem=self._begin)
        start = Hidden.of(tuple(leaf.detach() for leaf in self._begin.carry), ())
        internal = core.record(start, self._xs, 0, Outputs(_places(self._begin, kind.chunk)))
        return self._inner(internal, start, storages(core.compact(internal.output()).leaves), shared)

    def _inner(self, internal: Internal, state: Hidden, output: dict[int, int], shared: dict[int, int]) -> int:
        ends = storages(state.leaves).keys() | output.keys()
        return self._own({key: size for key, size in parts_of(internal).items() if key not in ends}, shared)

    def _find_shared(self, kind: Kind, guard: InPlace) -> dict[int, int]:
        """Find what two consecutive cores both refer to, beside the state that one hands to the other."""
        if not self._shared:
            first = self._core(kind, metered=True, problem=self._posed, fresh=range(1))
            random = self._generators.read()
            with self._surroundings.undone(), torch.no_grad():  # as in a scan; a first pass checks the step
                steps = _places(self._problem, kind.chunk)
                outputs = Outputs(steps)
                state = first.compact(first.advance(self._start(), self._xs, 0, 1, outputs))
                self._output = _bytes(outputs.take()) // steps
            guard.check()
            again = partial(first.evaluate, self._start(), self._xs, 0, graph=False)
            start = Hidden.of(state.leaves, random)
            self._repeat = Repeat(again, self._generators, self._surroundings, start)
            self._repeat.check()
            if not first.form.starting:  # the first step made the carry: the others start from what it made
                carry = tuple(map(as_leaf, state.leaves, first.form.differentiable))
                self._problem = replace(self._problem, spec=first.form.spec, carry=carry)
        compiled = bool(kind.compile)
        if compiled not in self._shared:
            core = self._core(kind, metered=True)
            state = self._after_first(kind)
            once = core.record(state, self._xs, 0)
            twice = core.record(core.compact(once.output()), self._xs, 0)
            between = storages(once.carry_out)
            constant = storages(state.leaves).keys() & between.keys() & storages(twice.carry_out).keys()
            parts, others = parts_of(once), parts_of(twice)
            both = (parts.keys() & others.keys()) - (between.keys() - constant)
            self._shared[compiled] = {storage: parts[storage] for storage in both if storage not in self._outside}
            if self._shared[compiled]:
                self._kept += once, twice
        return self._shared[compiled]

    def _core(
        self,
        kind: Kind,
        *,
        metered: bool = False,
        problem: Problem | None = None,
        steps: int | None = None,
        fresh: Sequence[int] = (),
    ) -> Core:
        """Return what runs cores of this kind, and by the same kernel the last one, of `steps`."""
        problem, generators = problem or self._problem, Generators(set(), enabled=False)
        inputs = problem.inputs.cut(steps or kind.chunk)
        compiled = compile_chunk(problem.step, problem.devices, *kind)
        joint = join_cores(problem.step, problem.devices, kind.chunk) if compiled is not None else None
        return Core(
            problem, inputs, generators=generators, compiled=compiled, joint=joint, metered=metered, fresh=fresh
        )

    def _after_first(self, kind: Kind) -> Hidden:
        core = self._core(kind)
        return core.compact(core.advance(self._start(), self._xs, 0, 1))

    def _start(self) -> Hidden:
        return Hidden.of(tuple(leaf.detach() for leaf in self._problem.carry), ())

    def _own(self, parts: dict[int, int], shared: dict[int, int]) -> int:
        return sum(size for key, size in parts.items() if key not in shared and key not in self._outside)

    def _single(self, weighed: Sequence[Measured]) -> list[Callable[[], _Call]]:
        """Return what sets up each figure of single cores: way by way, of all of them; the last way, of compiled ones.

        An eager core takes as long whatever happens between its recording and its backward.
        """
        kinds = list(map(self._kind, weighed))
        state = self._after_first(kinds[0])
        ways = self._one_way, self._first_pass, self._at_once
        figures = [(way, kind) for way in ways for kind in kinds]
        figures += [(self._apart, kind) for kind in kinds if kind.compile]
        return [partial(way, kind, state) for way, kind in figures]

    def _one_way(self, kind: Kind, state: Hidden) -> _Call:
        core = self._core(kind)
        return lambda: core.advance(state, self._xs, 0, 1)

    def _first_pass(self, kind: Kind, state: Hidden) -> _Call:
        core, outputs = self._core(kind), Outputs(_places(self._problem, kind.chunk))

        def run() -> None:
            with torch.no_grad():
                core.advance(state, self._xs, 0, 1, outputs)

        return run

    def _at_once(self, kind: Kind, state: Hidden) -> _Call:
        return self._both_ways(kind, state, _AT_ONCE)

    def _apart(self, kind: Kind, state: Hidden) -> _Call:
        return self._both_ways(kind, state, _APART)

    def _both_ways(self, kind: Kind, state: Hidden, stream: _Stream, steps: int | None = None) -> _Call:
        core, outputs = self._core(kind, steps=steps), Outputs(_places(self._problem, steps or kind.chunk))
        after = core.record(state, self._xs, 0, outputs).output().leaves
        ys, carry = list(map(_some_gradient, outputs.take())), list(map(_some_gradient, state.leaves))
        adjoint = Adjoint(list(carry), ys, outputs, self._xs, self._problem.params)
        numbers = bool(kind.compile) or is_known_to_round(self._problem.step)
        continuity = Continuity(1, kind.chunk, numbers=numbers)
        continuity.ended(after, 1)
        course = Whole(1, lambda: iter(stream))

        def run() -> None:
            """Do what a scan does, with all that belongs to it."""
            adjoint.carry = list(carry)
            continuity.begin()
            with torch.no_grad():
                Execution(core, course, state).backward(self._xs, Compared(continuity, adjoint))

        return run

    def _few(self, sizes: Measured) -> tuple[int, int]:
        """Return how many cores a gradient to be timed has, and the forwards that it takes."""
        wanted = _GRADIENT / max(2 * sizes.advance + sizes.backprop, 1e-9)
        cores = min(max(_FEW, int(min(wanted, _MANY))), self._problem.inputs.cut(sizes.chunk).cores)
        return cores, build("hsm", _MANY, _SLOTS).cost(cores, min(_SLOTS, cores))

    def _gradient(self, posed: Problem, sizes: Measured, cores: int) -> _Call:
        """Run a scan of the first cores, with all that belongs to a call, and backpropagate it."""
        schedule = build("hsm", _MANY, _SLOTS).schedule(cores, min(_SLOTS, cores))
        inputs = posed.inputs.cut(sizes.chunk).first(cores)
        kept = replace(sizes, internal=2**63)  # whatever a core weighs
        compile = self._kind(sizes).compile

        def run() -> None:
            if self._fails:
                return
            promise = Promise(0, kept, (*posed.params, *inputs.leaves))
            choice = Choice(Whole(cores, schedule.instructions), inputs, promise=promise)
            try:
                leaves = tree_leaves(self._run(posed, choice, compile))
                node: Any = next((leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None), None)
                if node is not None:
                    # Not by autograd, which would call what is hooked to parameters.
                    with torch.no_grad():
                        node.apply(*map(_some_gradient, leaves))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # which the scan will say of its own, if what it runs recomputes anything
                self._fails = True

        return run

    def _agreed(
        self, weighed: Sequence[Measured], figures: Sequence[Callable[[], _Call]], seconds: list[float], rounds: int
    ) -> list[float]:
        """Return times, taken again as long as those of single cores disagree: a few times at most."""
        for _ in range(_AGAIN):
            if not disagreeing(_alone(weighed, seconds)):
                break
            seconds = list(map(min, seconds, self._in_turns(figures, rounds)))
        return seconds

    def _in_turns(self, figures: Sequence[Callable[[], _Call]], rounds: int, tell: Tell | None = None) -> list[float]:
        """Return the least time of each figure: each is set up, timed and released in every round."""
        taken: list[list[float]] = [[] for _ in figures]
        for turn, (prepare, times) in enumerate([*zip(figures, taken, strict=True)] * rounds, start=1):
            call = prepare()
            if rounds == 1:  # or the least is of a call that finds everything warm anyway
                call()
            calls = [timed(call, self._problem.devices)[1]]
            while sum(calls) < _SECONDS / _ROUNDS and len(calls) < _CALLS:
                calls.append(timed(call, self._problem.devices)[1])
            times += calls
            if tell is not None:
                tell(turn, rounds * len(figures))
        return [min(times) for times in taken]


def _alone(weighed: Sequence[Measured], seconds: Sequence[float]) -> list[Measured]:
    """Add the times of single cores: of an advance, of one in the first pass, and of recording and backpropagating.

    Where these are told apart from the same with the core stored in between, of that too.
    """
    count = len(weighed)
    aheads, checks, boths = (seconds[way * count : (way + 1) * count] for way in range(3))
    aparts = iter(seconds[3 * count :])
    alone = []
    for sizes, ahead, checked, both in zip(weighed, aheads, checks, boths, strict=True):
        more = max(0.0, checked - ahead)  # what the first pass takes longer than a recomputation, each core takes once
        apart = next(aparts) + more if sizes.compiled else None
        alone.append(replace(sizes, advance=min(ahead, both), backprop=both + more, apart=apart))
    return alone


def _corrected(alone: Measured, few: tuple[int, int], single: float, several: float) -> Measured:
    """Correct the times of single cores by those of the gradients of one core and of a few."""
    cores, forwards = few
    call = max(0.0, single - alone.stored)  # the first pass ends with the only core: it is backpropagated later
    predicted = (forwards - cores) * alone.advance + (cores - 1) * alone.backprop + alone.stored
    # All as much as the whole: which of them what is beside the kernels belongs to, nobody can tell.
    slower = max(_LEAST, (several - call) / max(predicted, 1e-9))
    apart = None if alone.apart is None else slower * alone.apart
    return replace(alone, advance=slower * alone.advance, backprop=slower * alone.backprop, apart=apart, call=call)


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
