"""Modules that keep state inside themselves: an adapter that moves this state into the carry, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import optree
import torch
from optree.registry import __GLOBAL_NAMESPACE as GLOBAL
from torch import Tensor, nn

from membptt.state.forms import Starting
from membptt.state.trees import tree_leaves
from membptt.step.generators import Generators
from membptt.step.places import (
    ABSENT,
    Frame,
    Place,
    State,
    all_places,
    find_places,
    in_containers_of_its_own,
    is_changed,
    is_container,
    leaves_of,
    refuse_shared,
)
from membptt.torch_private import has_data, version


class Stateful(nn.Module):
    """Turn a module that updates its own buffers or attributes into a step of `scan`.

    Such are batch normalisation with its running statistics, spiking layers with their membrane potential, recurrent
    layers that remember their hidden state::

        net = Stateful(module)
        carry, ys = scan(net, net.init(), xs, slots=...)  # y = module(x) at every step
        net.load(carry)  # the module continues where the sequence ended

    A state need not be there yet: the first step may make it where there was no attribute, ``None``, a number or an
    empty tensor, and may give one that is there another shape, for another batch size. From then on it keeps its shape.

    A module that takes a carry of its own beside that state, ``module(carry, x) -> (carry, y)``, starts from
    ``net.init(carry)``; the carry is then ``(state, carry)``, otherwise ``(state,)``.

    Args:
        module: called once a step (once more at the first recorded step, if only that tells whether a state is part of
            the graph); between the calls it is as it was before them.
        names: the buffers and attributes that change, by their qualified names, for example ``"norm.running_mean"``;
            by default all buffers, and all attributes that are tensors, numbers that the first step changes, or lists,
            tuples and dicts of such. Each is part of every stored state, so leave large constants out. Of plain objects
            that a module holds, such as a cache, those attributes that the first step replaces.

    Raises:
        TypeError: `module` is not a module.

    Claim: stateful-equals-loop, stateful-equals-loop-from-the-first-call.
    """

    def __init__(self, module: nn.Module, /, names: Iterable[str] | None = None) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"Stateful adapts a torch.nn.Module, got {type(module).__name__}")
        self.module = module
        self._names = None if names is None else frozenset(names)
        # Where the states of a carry go, by the names of them all.
        self._frames: dict[tuple[str, ...], list[Frame]] = {}
        # States that may carry gradients. The others, running statistics for example, are read and written outside
        # autograd, and some operations refuse them when they require grad; `scan` makes all of a carry require it.
        self._tracked: set[str] = set()
        self._decided: set[str] = set()

    def init(self, *carry: Any) -> tuple[Any, ...]:
        """Return the starting carry: copies of the module's present state, and `carry`, if it has one of its own.

        Raises:
            ValueError: two state tensors share memory.
        """
        names: dict[int, str] = {}
        frames = [Frame(place, place.value, names) for place in find_places(self.module) if self._holds(place)]
        state = _read(frames)
        refuse_shared(state)
        copies = {name: tensor.clone() for name, tensor in state.items()}
        self._tracked |= {name for name, tensor in copies.items() if tensor.requires_grad}
        self._decided.clear()
        self._frames[_key(copies)] = frames
        return (_Start(copies, _First(frames, copies)), *carry)

    def forward(self, carry: tuple[Any, ...], x: Any) -> tuple[tuple[Any, ...], Any]:
        """Call the module with its state taken from `carry`; return the carry after it, and the output.

        Raises:
            RuntimeError: `init` was not called; a state appears or vanishes after the first step; or one that was
                outside the graph enters it.
            ValueError: a name that is none of a state's.
            TypeError: a module with a carry of its own does not return a pair.
        """
        if not isinstance(carry, tuple) or not carry or not isinstance(carry[0], dict):
            raise TypeError(
                f"a Stateful step starts from the state of its module: give init=net.init(), got {carry!r:.50}"
            )
        state, *own = carry
        first = state.first if isinstance(state, _Start) else None
        if first is None and _key(state) not in self._frames:
            raise RuntimeError(
                f"the module is not known to have the state {sorted(state)}: call init() first, it finds the state"
            )
        if first is not None and not first.called:
            # What the caller put in place of a copy is a start whose gradient is wanted.
            self._tracked |= {name for name, leaf in state.items() if first.is_replaced(name, leaf)}
        undecided = torch.is_grad_enabled() and not state.keys() <= self._decided
        tree: Any = (carry, x) if undecided else ()
        devices = {leaf.device for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}
        generators = Generators(devices, enabled=undecided)
        random = generators.read()
        after, tracked, result = self._call(state, own, x, first)
        late = tracked - self._tracked
        if torch.is_grad_enabled() and late & self._decided:
            raise RuntimeError(
                f"the state {sorted(late)} was outside the graph at the first recorded step and is in it at another: "
                "gradients would be lost; let the module update it in the same way at every step"
            )
        self._tracked |= late
        if late and undecided:
            generators.write(random)
            after, _, result = self._call(state, own, x, first)
        if undecided:
            self._decided |= state.keys()
        if not own:
            return (after,), result
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"the module was given a carry and must return a pair (carry, y), got {type(result)}")
        return (after, result[0]), result[1]

    def load(self, carry: tuple[Any, ...]) -> None:
        """Write the state in `carry` back into the module, without its graph.

        Buffers are written in place, attributes are replaced. To backpropagate from one call of `scan` into the one
        before, hand the carry on instead; to cut there, load it and call `init` again.

        Raises:
            ValueError: the carry is not this module's.
        """
        state = {name: tensor.detach().clone() for name, tensor in carry[0].items()}
        frames = self._frames.get(_key(state))
        if frames is None:
            known = [list(names) for names in self._frames]
            raise ValueError(f"the carry has the state {sorted(state)}, the module was seen to have {known}")
        for frame in frames:
            frame.write(state)

    def _holds(self, place: Place) -> bool:
        return self._names is None or place.name in self._names

    def _call(self, state: State, own: list[Any], x: Any, first: _First | None) -> tuple[State, set[str], Any]:
        """Call the module once; return its state after that, the names of those it updated by autograd, its result."""
        # Copies: an update in place must not reach the stored states, and batch normalisation's leaves no trace in a
        # tensor's version counter.
        given = {name: (leaf if name in self._tracked else leaf.detach()).clone() for name, leaf in state.items()}
        if first is not None:
            after, result = self._call_first(given, own, x, first)
        else:
            frames = self._frames[_key(state)]
            whole = [(frame.place, frame.place.value) for frame in frames]
            try:
                for frame in frames:
                    frame.put(given)
                result = self.module(*own, x)
                after = _read(frames)
            finally:
                for place, value in whole:
                    place.put(value)
        tracked = {name for name, leaf in given.items() if after.get(name) is not leaf or leaf.requires_grad}
        return after, tracked, result

    def _call_first(self, given: State, own: list[Any], x: Any, first: _First) -> tuple[State, Any]:
        """Call the module from a start: find the states that appear, and what was there before."""
        whole = {place: place.value for place in all_places(self.module) if self._holds(place)}
        was = whole | first.before  # the module may have been loaded or called since
        at_start = {frame.place for frame in first.frames}
        copies: dict[int, Any] = {}
        succeeded = False
        try:
            for place, value in was.items():
                if place not in at_start and (is_container(value) or place in first.before):
                    place.put(in_containers_of_its_own(value, copies))
            for frame in first.frames:
                frame.put(given)
            counted = [(place, leaf, version(leaf)) for place, leaf in _inside(whole)]
            result = self.module(*own, x)
            for place, leaf, count in counted:
                if version(leaf) != count:
                    raise RuntimeError(
                        f"the step writes to {place.name!r} in place, which lies in an object that the module holds: "
                        "let it assign a new tensor there, or keep the state in a buffer or an attribute of the module"
                    )
            names: dict[int, str] = {}
            frames = []
            for place in was | dict.fromkeys(filter(self._holds, all_places(self.module))):
                before = was.get(place, ABSENT)
                if place in at_start or is_changed(before, place.value):
                    frame = Frame(place, place.value, names, before)
                    frames += [frame] if place in at_start or frame.is_known else []
            after = _read(frames)
            succeeded = True
        finally:
            # Back to where it was goes what is carried from now on; the rest is the module's affair, if nothing failed.
            known = {frame.place for frame in frames} if succeeded else {*was, *all_places(self.module)}
            for place in known | first.before.keys() | {place for place, value in whole.items() if is_container(value)}:
                if self._holds(place):
                    place.put(whole.get(place, ABSENT))
        missing = (self._names or frozenset()) - {frame.place.name for frame in (*first.frames, *frames)}
        if missing:
            present = sorted(frame.place.name for frame in frames)
            raise ValueError(f"the module has no state {sorted(missing)} after its first step; it has {present}")
        first.before |= {frame.place: was.get(frame.place, ABSENT) for frame in frames if frame.place not in at_start}
        first.called = True
        self._frames[_key(after)] = frames
        return after, result


def _inside(values: dict[Place, Any]) -> Iterator[tuple[Place, Tensor]]:
    """Yield the tensors in objects that the module holds: there is no copy of them, as of its own."""
    for place, value in values.items():
        if place.is_inside:
            yield from ((place, leaf) for leaf in leaves_of(value) if isinstance(leaf, Tensor))


class _First:
    """The first step from one start: where its states go, and what there was where others appear.

    Args:
        frames: of the states that are there at the start.
        start: copies of these states.
    """

    def __init__(self, frames: list[Frame], start: State) -> None:
        self.frames = frames
        self.before: dict[Place, Any] = {}  # what was there where a state appeared, once the step has run
        self.called = False
        self._memory = {name: tensor.data_ptr() for name, tensor in start.items()}

    def is_replaced(self, name: str, leaf: Tensor) -> bool:
        """Whether the caller has put another tensor in place of a copy."""
        return has_data(leaf) and self._memory.get(name) != leaf.data_ptr()


class _Start(State, Starting):
    """A starting state: the first step may make more of it."""

    def __init__(self, tensors: State, first: _First) -> None:
        super().__init__(tensors)
        self.first = first


def _flatten(start: _Start) -> tuple[list[Tensor], tuple[tuple[str, ...], _First], tuple[str, ...]]:
    names = _key(start)
    return [start[name] for name in names], (names, start.first), names


def _unflatten(rest: tuple[tuple[str, ...], _First], tensors: Iterable[Tensor]) -> _Start:
    names, first = rest
    return _Start(dict(zip(names, tensors, strict=True)), first)


optree.register_pytree_node(_Start, _flatten, _unflatten, namespace=GLOBAL)  # type: ignore[arg-type]


def _key(state: State) -> tuple[str, ...]:
    return tuple(sorted(state))


def _read(frames: list[Frame]) -> State:
    """Return the states that are in the module now.

    Raises:
        RuntimeError: something else than their values has changed since the frames were made.
    """
    state: State = {}
    for frame in frames:
        if not frame.read(state):
            raise RuntimeError(
                f"the step changed what {frame.place.name!r} is, and not only the values of the states there, "
                f"{[slot.name for slot in frame.slots]}: from the first step on, a state keeps its containers, numbers "
                "their kind, and what was one tensor stays one. Return what grows as output y, and name the states, "
                "Stateful(module, names=...), if this is none"
            )
    return state
