"""What the blocks of a chain weigh and how long they take: each distinct block is measured once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from membptt.planning.repeat import Repeat
from membptt.planning.tally import Tally, rounded
from membptt.run.adjoint import Adjoint, hooks_deferred
from membptt.run.core import Core
from membptt.run.outputs import Outputs
from membptt.run.problem import Problem
from membptt.run.progress import Tell, shown
from membptt.run.region import beyond_regions
from membptt.state.fingerprints import fingerprint
from membptt.state.leaves import Leaves, as_leaf, is_differentiable, signature
from membptt.state.states import Hidden, Internal
from membptt.step.autocast import Autocast
from membptt.step.blocks import Blocks
from membptt.step.changes import InPlace
from membptt.step.declared import frozen_of
from membptt.step.generators import Generators
from membptt.step.identity import identity
from membptt.step.surroundings import Surroundings
from membptt_theory.actions import Block

Result = TypeVar("Result")

_SECONDS: Final = 0.02  # time spent on one block, at least
_ROUNDS: Final = 3
_MOST: Final = 16
# What attributes of a module tell it from another: numbers, words, and functions such as an activation.
_TELLING: Final = (bool, int, float, str, FunctionType, BuiltinFunctionType)
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
    """

    kinds: tuple[Block, ...]
    order: tuple[int, ...]
    given: int
    returned: int
    kept: int


def profile(problem: Problem, blocks: Blocks, tell: Tell | None = None) -> Profile:
    """Measure every distinct block once, at the state that the blocks before it give; nothing is left changed.

    Blocks are alike where their code, their modules' kinds, modes, numbers and parameters' shapes, and the shapes of
    what they are given agree.

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
        beyond_regions(),
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
        still = replace(problem, step=blocks.again(), carry=carry)
        core = Core(still, problem.inputs, generators=Generators(set(), enabled=False))
        outputs = Outputs(problem.inputs.cores)
        outside = [*problem.params, *problem.carry, *(tensor for _, tensor in surroundings.tensors())]
        numbers: dict[Any, int] = {}
        kinds: list[Block] = []
        order: list[int] = []
        fingerprints = 0
        state = Hidden.of(tuple(leaf.detach() for leaf in problem.carry), ())
        for number, block in enumerate(blocks.blocks):
            random = generators.read()
            with surroundings.undone(), torch.no_grad():
                after = core.advance(state, (), number, number + 1, outputs)
            key = _kind(block), number >= still.unwanted, core.forms.at(number).spec, _layouts(state.leaves)
            if key not in numbers:
                numbers[key] = len(kinds)
                run = partial(core.evaluate, state, (), number, graph=False)
                first = Hidden.of(after.leaves, random)
                repeat = Repeat(run, generators, surroundings, first, blocks.name(number))
                with surroundings.undone():
                    kinds.append(_Measurement(core, number, state, after, outside).block())
                repeat.check()
            order.append(numbers[key])
            fingerprints = max(fingerprints, sum(bytes_of([fingerprint(leaf)]) for leaf in after.leaves))
            state = after
            if tell is not None:
                tell(number + 1, len(blocks.blocks))
    guard.check()
    kept = sum(bytes_of([tensor]) for tensor in blocks.rewound()) + _FINGERPRINTS * fingerprints
    return Profile(tuple(kinds), tuple(order), bytes_of(problem.carry), bytes_of(state.leaves), kept)


class _Measurement:
    """One block, run a few times from the same state."""

    def __init__(self, core: Core, number: int, state: Hidden, after: Hidden, outside: Sequence[Tensor]) -> None:
        self._core, self._number, self._state = core, number, state
        self._devices = {tensor.device for tensor in (*core.params, *state.leaves, *after.leaves)}
        self._heads = [torch.ones_like(leaf) if is_differentiable(leaf) else None for leaf in after.leaves]
        self._outside = [*outside, *state.leaves, *(head for head in self._heads if head is not None)]

    def block(self) -> Block:
        """Return what it weighs and costs."""
        advance, record, backward = self._times()
        with torch.no_grad(), Tally(self._outside) as tally:
            after = self._advance()
            ahead, output = tally.peak(), bytes_of(after.leaves)
            del after
        with Tally(self._outside) as tally:
            internal = self._record()
            output = max(output, bytes_of(internal.carry_out))
            own, recorded, mark = max(tally.live(), output), tally.peak(), tally.mark()
            adjoint = self._adjoint()
            self._backpropagate(internal, adjoint)
            back = tally.peak(mark, [grad for grad in adjoint.params if grad is not None])
        return Block(
            advance=max(1, min(advance, record)),
            record=max(1, record),
            backward=backward,
            output=output,
            internal=own - output,
            advance_need=max(0, ahead - output),
            record_need=max(0, recorded - own),
            backward_need=max(0, back - own),
        )

    def _times(self) -> tuple[int, int, int]:
        """Return the least time of a forward without graph, of one with graph, and of a backward."""
        rounds = [self._round()]  # the first one is slower than the others
        while len(rounds) <= _ROUNDS or (sum(map(sum, rounds)) < _SECONDS * 1e9 and len(rounds) < _MOST):
            rounds.append(self._round())
        advances, records, backwards = zip(*rounds[1:], strict=True)
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

    def _adjoint(self) -> Adjoint:
        return Adjoint(list(self._heads), [], Outputs(1), (), self._core.params, compact=True)

    def _time(self, call: Callable[[], Result]) -> tuple[Result, int]:
        finish(self._devices)
        before = time.perf_counter_ns()
        result = call()
        finish(self._devices)
        return result, time.perf_counter_ns() - before


def finish(devices: Iterable[torch.device]) -> None:
    """Wait until everything that was started on these devices is done."""
    for device in devices:
        if device.type not in ("cpu", "meta"):
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


def _layouts(leaves: Leaves) -> Any:
    return signature(leaves), tuple(leaf.stride() for leaf in leaves if leaf.layout is torch.strided)


def bytes_of(leaves: Iterable[Tensor], /) -> int:
    """Return the bytes of the storages that these tensors lie in, each once."""
    storages = {leaf.untyped_storage().data_ptr(): (leaf.untyped_storage().nbytes(), leaf.device) for leaf in leaves}
    return sum(rounded(size, device.type) for size, device in storages.values())
