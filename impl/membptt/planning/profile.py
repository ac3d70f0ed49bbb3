"""What the blocks of a chain weigh and how long they take: each distinct block is measured once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import sub
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from membptt.planning.repeat import Repeat
from membptt.planning.shared import Shared, pattern
from membptt.planning.tally import Tally, rounded
from membptt.run.adjoint import Adjoint, hooks_deferred
from membptt.run.core import Core
from membptt.run.outputs import Outputs
from membptt.run.problem import Problem
from membptt.run.progress import Tell, shown
from membptt.run.region import Region, beyond
from membptt.state.fingerprints import fingerprint
from membptt.state.leaves import Leaves, as_leaf, compacted_gradient, is_differentiable, located, signature
from membptt.state.states import Hidden, Internal
from membptt.step.autocast import Autocast
from membptt.step.blocks import Blocks
from membptt.step.changes import InPlace
from membptt.step.declared import frozen_of
from membptt.step.generators import Generators
from membptt.step.identity import identity
from membptt.step.reach import reach
from membptt.step.surroundings import Surroundings
from membptt_theory.actions import Block, Skip

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # of Linux
    RUSAGE_THREAD = None  # type: ignore[assignment, misc]

Result = TypeVar("Result")

_HOSTS: Final = ("cpu", "meta")
_SECONDS: Final = 0.02  # time spent on one block, at least
_ROUNDS: Final = 3
_MOST: Final = 16
# What attributes of a module tell it from another: numbers, words, and functions such as an activation.
_TELLING: Final = (bool, int, float, str, FunctionType, BuiltinFunctionType)
_FEW: Final = 100  # blocks, of which each has the gradient that the one after it gives
_FINGERPRINTS: Final = 16  # of one state, that continuity has in hand at once, at most


@dataclass(frozen=True, slots=True)
class Profile:
    """What the blocks of a chain weigh, in bytes, and cost, in nanoseconds.

    Args:
        kinds: the distinct blocks.
        order: the kind of each block.
        given: bytes of the chain's input.
        returned: bytes of what the last block gives.
        kept: bytes that are there throughout: copies of running statistics, and the fingerprints of a state.
        skips: what several states hold together.
        whole: of each kind, whether what it gives, and the gradient of what it is given, are views of nothing larger.
    """

    kinds: tuple[Block, ...]
    order: tuple[int, ...]
    given: int
    returned: int
    kept: int
    skips: tuple[Skip, ...]
    whole: tuple[bool, ...]


def profile(problem: Problem, blocks: Blocks, tell: Tell | None = None) -> Profile:
    """Measure every distinct block once, at the state that the blocks before it give; nothing is left changed.

    Blocks are alike where their code, their modules' kinds, modes, numbers and parameters' shapes, and the shapes of
    what they are given agree, and which of it shares a storage.

    Raises:
        ValueError: a block uses a tensor that requires grad and was not declared.
        RuntimeError: a block changes what it is given, or a state inside its module or beside it.
    """
    surroundings = Surroundings.of(problem.reach)
    guard = InPlace(surroundings, rewound=(*surroundings.vectors, *problem.rewound))
    generators = Generators(problem.devices)
    generators.follow(surroundings.vectors)
    as_called = Autocast.current(problem.devices).replayed()
    undone = generators.exclusive(), generators.handed_on(), generators.preserved()
    with (
        beyond(Region.now()),
        undone[0],
        undone[1],
        undone[2],
        surroundings.undone(),
        as_called,
        torch.enable_grad(),
        hooks_deferred(problem.params),
        shown(tell),
    ):
        # As if the input wanted a gradient: so the first block is like others of its kind, unless it is frozen.
        carry = tuple(as_leaf(leaf, not problem.frozen and is_differentiable(leaf)) for leaf in problem.carry)
        still = replace(problem, step=blocks.again(), carry=carry, _reach=None)
        core, anew = (
            Core(posed, problem.inputs, generators=Generators(set(), enabled=False), fresh=fresh)
            for posed, fresh in ((still, ()), (replace(still, carry=problem.carry), range(problem.inputs.cores)))
        )
        core.forms = anew.forms
        outputs = Outputs(problem.inputs.cores)
        outside = [*problem.params, *problem.carry, *surroundings.tensors()]
        shared = Shared(outside)
        numbers: dict[Any, int] = {}
        measured: list[_Measured] = []
        order: list[int] = []
        weights: list[int] = []  # bytes of each output
        fingerprints = 0
        state = Hidden.of(tuple(leaf.detach() for leaf in problem.carry), ())
        for number, block in enumerate(blocks.blocks):
            random = generators.read()
            own = Surroundings.of(reach(block))  # all of them at every block would make planning quadratic
            with own.undone(), torch.no_grad():
                after = anew.advance(state, (), number, number + 1, outputs)
            form = core.forms.at(number).spec, layouts(state.leaves), pattern(state.leaves)
            key = _kind(block), number >= still.unwanted, form
            if key not in numbers:
                numbers[key] = len(measured)
                run = partial(core.evaluate, state, (), number, graph=False)
                first = Hidden.of(after.leaves, random)
                repeat = Repeat(run, generators, own, first, blocks.name(number))
                with own.undone():
                    measured.append(_Measurement(core, number, (state, after), outside, shared).block())
                repeat.check()
            order.append(numbers[key])
            fingerprints = max(fingerprints, sum(bytes_of([fingerprint(leaf)]) for leaf in after.leaves))
            stored = core.compact(after)
            handed, new = shared.follow(shared.sizes(after.leaves, stored.leaves))
            weights.append(handed + max(new, measured[order[-1]].block.output))
            state = stored
            if tell is not None:
                tell(number + 1, len(blocks.blocks))
    guard.check()
    kept = sum(bytes_of([tensor]) for tensor in blocks.rewound()) + _FINGERPRINTS * fingerprints
    gradients = [*(measured[kind].gradient for kind in order[1:]), measured[order[-1]].block.output_gradient]
    if len(order) > _FEW:  # equal blocks stay equal
        largest = {kind: size for size, kind in sorted(zip(gradients, order, strict=True))}
        gradients = [largest[kind] for kind in order]
    # A kind is measured once; its output may hand on less here than there, and have another gradient.
    entries = [(*entry, False) for entry in zip(order, weights, gradients, strict=True)]
    kind, size, gradient, _ = entries[-1]
    kept_or_not = [_handed(measured[kind], size, gradient, kept=each) for each in (True, False)]
    # Autograd keeps the gradient of what the chain gave until the backward is over.
    entries[-1] = kind, size, gradient, kept_or_not[0] != kept_or_not[1]
    places = {entry: place for place, entry in enumerate(dict.fromkeys(entries))}
    kinds = tuple(_handed(measured[kind], size, gradient, kept=keeps) for kind, size, gradient, keeps in places)
    given, returned = bytes_of(problem.carry), bytes_of(after.leaves)
    whole = tuple([measured[kind].whole for kind, *_ in places])
    return Profile(kinds, tuple([places[entry] for entry in entries]), given, returned, kept, shared.skips(), whole)


class _Measured(NamedTuple):
    """What was measured of one block.

    Args:
        block: what it weighs and costs, without what it hands on.
        gradient: bytes of the gradient of its input.
        need: bytes that its backward needs together with its output's gradient, where that is free once it was used.
        whole: see `Profile`.
    """

    block: Block
    gradient: int
    need: int
    whole: bool


def _handed(measured: _Measured, output: int, gradient: int, *, kept: bool) -> Block:
    """Return a block where it hands on so many bytes, and so many are its output's gradient, which may be kept.

    It needs no more than with gradients that are kept, and than with such that are free once they were used, unless
    several are one and the same.
    """
    block = measured.block
    kept = kept or gradient < block.output_gradient
    least = block.backward_need if kept else min(block.backward_need, max(0, measured.need - gradient))
    return replace(block, output=output, gradient=gradient, backward_need=least)


class _Measurement:
    """One block, run a few times from the same state."""

    def __init__(
        self, core: Core, number: int, states: tuple[Hidden, Hidden], outside: Sequence[Tensor], shared: Shared
    ) -> None:
        self._core, self._number, self._shared = core, number, shared
        self._state, after = states
        self._devices = {tensor.device for tensor in (*core.params, *self._state.leaves, *after.leaves)}
        # A gradient of ones is no sparse one.
        self._after = [
            leaf if is_differentiable(leaf) and leaf.layout is torch.strided else None for leaf in after.leaves
        ]
        self._outside = [*outside, *self._state.leaves]

    def block(self) -> _Measured:
        """Return what it weighs and costs."""
        whole = self._is_whole()  # the first run, which is slower than the others
        advance, record, backward = self._times()
        with torch.no_grad(), Tally(self._outside) as tally:
            after = self._core.advance(self._state, (), self._number, self._number + 1)
            new = self._new(after, self._core.compact(after))
            ahead = tally.peak()
            del after
        with Tally(self._outside) as tally:
            internal = self._record()
            stored = self._core.compact(internal.output())
            new = max(new, self._new(internal.output(), stored))
            own, recorded = max(tally.live(), new), tally.peak()
            del stored
            mark = tally.mark()
            adjoint = self._adjoint()
            given = [grad for grad in adjoint.carry if grad is not None]
            gradient, heads = bytes_of(given), tally.numbers(given)
            del given
            self._backpropagate(internal, adjoint)
            own_gradients = tally.numbers(grad for grad in adjoint.params if grad is not None)
            # Each gradient is free as soon as it was used. They may be one and the same, which is so at the last use.
            back = tally.peak(mark, own_gradients), tally.peak(mark, own_gradients | heads)
        weighed = Block(
            advance=max(1, min(advance, record)),
            record=max(1, record),
            backward=backward,
            output=new,
            internal=own - new,
            advance_need=max(0, ahead - new),
            record_need=max(0, recorded - own),
            backward_need=max(0, back[1] - own),
            gradient=gradient,
        )
        # Both terms of a sum have the same gradient: it is there once.
        of_input = bytes_of(grad for grad in adjoint.carry if grad is not None)
        return _Measured(weighed, of_input, back[0] - own, whole)

    def _is_whole(self) -> bool:
        internal, adjoint = self._record(), self._adjoint(compact=False)
        after = internal.output()
        whole = self._core.compact(after) is after
        self._backpropagate(internal, adjoint)
        return whole and all(grad is None or compacted_gradient(grad) is grad for grad in adjoint.carry)

    def _new(self, after: Hidden, stored: Hidden) -> int:
        """Return the bytes of the output, as it is stored, that the input does not hold."""
        before = self._shared.sizes(self._state.leaves, self._state.leaves)
        return sum(size for at, size in self._shared.sizes(after.leaves, stored.leaves).items() if at not in before)

    def _times(self) -> tuple[int, int, int]:
        """Return the least time of a forward without graph, of one with graph, and of a backward."""
        rounds: list[tuple[int, int, int]] = []
        while len(rounds) < _ROUNDS or (sum(map(sum, rounds)) < _SECONDS * 1e9 and len(rounds) < _MOST):
            rounds.append(self._round())
        advances, records, backwards = zip(*rounds, strict=True)
        return min(advances), min(records), min(backwards)

    def _round(self) -> tuple[int, int, int]:
        with torch.no_grad():
            _, advance = self._time(self._advance)
        internal, record = self._time(self._record)
        adjoint = self._adjoint()
        _, backward = self._time(lambda: self._backpropagate(internal, adjoint))
        return advance, record, backward

    def _advance(self) -> Hidden:
        return self._core.advance(self._state, (), self._number, self._number + 1)

    def _record(self) -> Internal:
        return self._core.record(self._state, (), self._number)

    def _backpropagate(self, internal: Internal, adjoint: Adjoint) -> None:
        for leaf in (*internal.carry_out, *internal.carry_in):  # as continuity does
            fingerprint(leaf)
        self._core.backpropagate(internal, adjoint)

    def _adjoint(self, *, compact: bool = True) -> Adjoint:
        heads = [torch.ones_like(leaf) if leaf is not None else None for leaf in self._after]
        return Adjoint(heads, [], Outputs(1), (), self._core.params, compact=compact)

    def _time(self, call: Callable[[], Result]) -> tuple[Result, int]:
        result, seconds = timed(call, self._devices)
        return result, round(1e9 * seconds)


class Moment(NamedTuple):
    """What is read before and after what is timed.

    Args:
        wall: seconds.
        own: seconds in which this thread ran.
        waits: how often it has waited for something.
    """

    wall: float
    own: float
    waits: int


def timed(call: Callable[[], Result], devices: Iterable[torch.device]) -> tuple[Result, float]:
    """Return what `call` returns, and its seconds, in which everything that it starts on these devices gets done.

    Of a thread that waits for nothing, only those in which it runs: whatever else the machine does takes none of them.
    """
    devices = [device for device in devices if device.type not in _HOSTS]
    _finish(devices)
    before = now()
    result = call()
    _finish(devices)
    wall, own, waits = map(sub, now(), before)
    return result, wall if waits else own


def now() -> Moment:
    """Return this moment; where the system does not tell whether a thread has waited, every moment says that it has."""
    wall, own = time.perf_counter(), time.thread_time()
    return Moment(wall, own, getrusage(RUSAGE_THREAD).ru_nvcsw if RUSAGE_THREAD is not None else time.perf_counter_ns())


def _finish(devices: Iterable[torch.device]) -> None:
    for device in devices:
        torch.accelerator.synchronize(device)


def _kind(block: Any) -> Any:
    """Return what tells one block from another that is to be measured by itself."""
    told_by = [
        (key, identity(value))
        for module in (block.modules() if isinstance(block, nn.Module) else ())
        for key, value in vars(module).items()
        if type(value) in _TELLING
    ]
    return identity(block), tuple(told_by), frozen_of(block)


def layouts(leaves: Leaves) -> Any:
    """Return shapes, dtypes and devices of these tensors, and how they lie in memory."""
    return signature(leaves), tuple(leaf.stride() for leaf in leaves if leaf.layout is torch.strided)


def bytes_of(leaves: Iterable[Tensor], /) -> int:
    """Return the bytes of the storages that these tensors lie in, each once."""
    sizes = {at: rounded(storage.nbytes(), leaf.device.type) for leaf in leaves for at, storage in located(leaf)}
    return sum(sizes.values())
