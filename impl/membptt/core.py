"""One core: the user's step, or a chunk of steps, with flat leaves in and out; every irregularity is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optree
import torch
from torch import Tensor

from membptt.guards import refuse_undeclared
from membptt.inputs import Inputs, check_tensors
from membptt.outputs import At, Outputs
from membptt.replay import Generators
from membptt.slots import Emitted, Hidden, Internal, Leaves, as_leaf, signature

Step = Callable[[Any, Any], tuple[Any, Any]]


class Core:
    """Runs the user's step, with and without graph.

    Args:
        step: ``step(carry, x) -> (carry, y)``, or a segment, which eats several steps at once.
        carry_spec: structure of the carry.
        carry: leaves of the starting carry; every later carry must match their shape, dtype and device.
        inputs: the input sequence, cut into cores.
        segments: `step` is a segment: ``x`` and ``y`` have time as first dimension.
        params: declared tensors that the step uses and whose gradients are wanted.
        generators: read after every recorded core and every run of cores.
    """

    def __init__(
        self,
        step: Step,
        carry_spec: optree.PyTreeSpec,
        carry: Leaves,
        inputs: Inputs,
        *,
        segments: bool,
        params: Sequence[Tensor],
        generators: Generators,
    ) -> None:
        self._step = step
        self._spec = carry_spec
        self._signature = signature(carry)
        self._init_wanted = any(leaf.requires_grad for leaf in carry)
        self._inputs = inputs
        self._segments = segments
        self._params = params
        self._generators = generators
        self._guarded = False

    def advance(self, state: Hidden, xs: Leaves, start: int, stop: int, outputs: Outputs | None = None) -> Hidden:
        """Run cores ``start .. stop-1`` without graph; the first pass collects their outputs."""
        carry = self._spec.unflatten(state.leaves)
        with torch.no_grad():
            for core in range(start, stop):
                x, spec = self._inputs.fetch(xs, self._inputs.span(core))
                for at, piece in self._pieces(core, x):
                    carry, y = self._call(carry, spec.unflatten(piece), at)
                    if outputs is not None:
                        self._flatten_carry(carry, at)
                        outputs.put(at, y)
            leaves = self._flatten_carry(carry, self._inputs.span(stop - 1).stop - 1)
        state.check(start)
        return Hidden.of(leaves, self._generators.read())

    def tape(self, state: Hidden, xs: Leaves, core: int, outputs: Outputs | None = None) -> Internal:
        """Run one core with graph, from leaf inputs of its own."""
        emitted: list[Emitted] = []
        with torch.enable_grad():
            carry_in = tuple(as_leaf(leaf, wanted=core > 0 or self._init_wanted) for leaf in state.leaves)
            span = self._inputs.span(core)
            x, spec = self._inputs.fetch(xs, span)
            wanted = self._inputs.wanted or (False,) * len(x)
            x_in = tuple(as_leaf(leaf, wanted=want) for leaf, want in zip(x, wanted, strict=True))
            carry = self._spec.unflatten(carry_in)
            for at, piece in self._pieces(core, x_in):
                carry, y = self._call(carry, spec.unflatten(piece), at)
                emitted += [Emitted(index, at, leaf) for index, leaf in enumerate(optree.tree_leaves(y))]
                if outputs is not None:
                    outputs.put(at, y)
            carry_out = self._flatten_carry(carry, span.stop - 1)
        if not self._guarded:
            made = (*carry_out, *(one.leaf for one in emitted))
            refuse_undeclared(self._step, made, (*carry_in, *x_in, *self._params))
            self._guarded = True
        state.check(core)
        return Internal(span, carry_in, x_in, carry_out, tuple(emitted), self._generators.read())

    def rewind(self, state: Hidden) -> None:
        """Prepare to recompute from `state`."""
        self._generators.write(state.random)

    def _pieces(self, core: int, x: Leaves) -> Iterator[tuple[At, Leaves]]:
        """Yield what the user's step eats: the whole segment, or one step after the other."""
        span = self._inputs.span(core)
        if self._segments:
            yield span, x
            return
        # unbind, not indexing: its backward is one stack, where that of indexing fills zeros for every step.
        for offset, piece in enumerate(zip(*(leaf.unbind(0) for leaf in x), strict=True)):
            yield span.start + offset, piece

    def _call(self, carry: Any, x: Any, at: At) -> tuple[Any, Any]:
        result = self._step(carry, x)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"step must return a pair (carry, y), got {type(result).__name__} at step {_first(at)}")
        return result

    def _flatten_carry(self, carry: Any, at: At) -> Leaves:
        leaves, spec = optree.tree_flatten(carry)
        if spec != self._spec:
            raise ValueError(
                f"step {_first(at)} returned a carry of structure {spec}; the starting carry has {self._spec}"
            )
        flat = check_tensors("the carry", leaves)
        found = signature(flat)
        if found != self._signature:
            raise ValueError(
                f"step {_first(at)} returned a carry of shape, dtype and device {_readable(found)}; "
                f"the starting carry has {_readable(self._signature)}, and they must stay the same"
            )
        return flat


def _first(at: At) -> int:
    return int(at.start) if isinstance(at, slice) else at


def _readable(found: tuple[tuple[torch.Size, torch.dtype, torch.device], ...]) -> list[str]:
    return [f"{tuple(shape)} {str(dtype).removeprefix('torch.')} {device}" for shape, dtype, device in found]
