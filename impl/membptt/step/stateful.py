"""Modules that keep state inside themselves: an adapter that moves this state into the carry, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from membptt.step.generators import Generators
from membptt.step.places import Place, State, Unlisted, find_places, refuse_shared


class Stateful(nn.Module):
    """Turn a module that updates its own buffers or tensor attributes into a step of `scan`.

    Such are batch normalisation with its running statistics, spiking layers with their membrane potential, recurrent
    layers that remember their hidden state::

        net = Stateful(module)
        carry, ys = scan(net, net.init(), xs, slots=...)  # y = module(x) at every step
        net.load(carry)  # the module continues where the sequence ended

    A module that takes a carry of its own beside that state, ``module(carry, x) -> (carry, y)``, starts from
    ``net.init(carry)``; the carry is then ``(state, carry)``, otherwise ``(state,)``.

    Args:
        module: called once a step (once more at the first recorded step, if only that tells whether a state is part of
            the graph); between the calls it is as it was before them.
        names: the buffers and attributes that change, by their qualified names, for example ``"norm.running_mean"``;
            by default all buffers, and all attributes that are tensors or lists, tuples and dicts of tensors. Each is
            part of every stored state, so leave large constants out.

    Raises:
        TypeError: `module` is not a module.

    Claim: stateful-equals-loop.
    """

    def __init__(self, module: nn.Module, /, names: Iterable[str] | None = None) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"Stateful adapts a torch.nn.Module, got {type(module).__name__}")
        self.module = module
        self._names = None if names is None else frozenset(names)
        self._places: tuple[Place, ...] = ()
        self._start: dict[str, int] | None = None
        # States that may carry gradients. The others, running statistics for example, are read and written outside
        # autograd, and some operations refuse them when they require grad; `scan` makes all of a carry require it.
        self._tracked: set[str] = set()
        self._decided = False

    def init(self, *carry: Any) -> tuple[Any, ...]:
        """Return the starting carry: copies of the module's present state, and `carry`, if it has one of its own.

        Raises:
            ValueError: the module has no state, or none of some name, or two state tensors share memory.
        """
        found = {place.name: place for place in find_places(self.module)}
        missing = (self._names or frozenset()) - found.keys()
        if missing or not found:
            raise ValueError(f"the module has no tensor state {sorted(missing) or ''}; it has {sorted(found)}")
        self._places = tuple(place for name, place in found.items() if self._names is None or name in self._names)
        state = self._state()
        refuse_shared(state)
        copies = {name: tensor.clone() for name, tensor in state.items()}
        self._tracked |= {name for name, tensor in copies.items() if tensor.requires_grad}
        self._start = {name: tensor.data_ptr() for name, tensor in copies.items()}
        self._decided = False
        return (copies, *carry)

    def forward(self, carry: tuple[Any, ...], x: Any) -> tuple[tuple[Any, ...], Any]:
        """Call the module with its state taken from `carry`; return the carry after it, and the output.

        Raises:
            RuntimeError: `init` was not called; a state appears, vanishes or is no tensor; or one that was outside the
                graph enters it.
            TypeError: a module with a carry of its own does not return a pair.
        """
        state, *own = carry
        if not self._places:
            raise RuntimeError("call init() first: it finds the module's state")
        unlisted = self._begin(state)
        undecided = torch.is_grad_enabled() and not self._decided
        generators = Generators({leaf.device for leaf in state.values()} if undecided else set(), enabled=undecided)
        random = generators.read()
        after, tracked, result = self._call(state, own, x, unlisted)
        late = tracked - self._tracked
        if late and torch.is_grad_enabled() and self._decided:
            raise RuntimeError(
                f"the state {sorted(late)} was outside the graph at the first recorded step and is in it at another: "
                "gradients would be lost; let the module update it in the same way at every step"
            )
        self._tracked |= late
        if late and undecided:
            generators.write(random)
            after, _, result = self._call(state, own, x, None)
        self._decided |= undecided
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
        if state.keys() != self._state().keys():
            raise ValueError(f"the carry has the state {sorted(state)}, the module {sorted(self._state())}")
        for place in self._places:
            place.write(state)

    def _state(self) -> State:
        return {name: tensor for place in self._places for name, tensor in place.tensors()}

    def _begin(self, state: State) -> Unlisted | None:
        """Look at the starting state, once: what the caller wants gradients for, and what was not found."""
        if self._start is None:
            return None
        start, self._start = self._start, None
        self._tracked |= {name for name, leaf in state.items() if leaf.requires_grad and leaf.data_ptr() != start[name]}
        return Unlisted(self.module, self._places) if self._names is None else None

    def _call(self, state: State, own: list[Any], x: Any, unlisted: Unlisted | None) -> tuple[State, set[str], Any]:
        """Call the module once; return its state after that, the names of those it updated by autograd, its result."""
        before = [(place, place.value, place.constants()) for place in self._places]
        try:
            # Copies: an update in place must not reach the stored states, and batch normalisation's leaves no trace in
            # a tensor's version counter.
            given = {name: (leaf if name in self._tracked else leaf.detach()).clone() for name, leaf in state.items()}
            for place in self._places:
                place.put(given)
            result = self.module(*own, x)
            after = self._state()
            constants = [place.constants() for place in self._places]
        finally:
            for place, value, _ in before:
                place.namespace[place.key] = value
            grown = unlisted.restore() if unlisted is not None else []
        if grown or after.keys() != state.keys() or constants != [found for *_, found in before]:
            raise RuntimeError(
                f"the step turned the state tensors {sorted(state)} into {sorted({*after, *grown})}, or changed what "
                "lies beside them; set every state to its starting tensor before init(), and keep numbers out of it"
            )
        tracked = {name for name, tensor in after.items() if tensor is not given[name] or tensor.requires_grad}
        return after, tracked, result
