"""One core: the user's step, or a chunk of steps, with flat leaves in and out; every irregularity is refused."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from itertools import chain
from operator import attrgetter, gt
from typing import Any, Final, cast

import optree
import torch
from torch import Tensor

from membptt.kernels.graphs import Chunk
from membptt.kernels.joint import Given, Joined, Joint, Traced, Wanted
from membptt.run.continuity import Continuity, Sweep
from membptt.run.inputs import Inputs
from membptt.run.outputs import Outputs, Unkept
from membptt.run.problem import Problem, Step
from membptt.run.promise import Promise
from membptt.run.saved import record_saved, saved_by
from membptt.run.verdict import only_rounds
from membptt.run.witness import Witness
from membptt.state.forms import Form, Forms
from membptt.state.garbage import uncollected
from membptt.state.leaves import Leaves, as_leaf, compact_gradients, compacted
from membptt.state.products import Product, multiplied, products
from membptt.state.states import At, Enclosure, Escaped, Hidden, Internal, RandomState, head
from membptt.state.trees import tree_leaves
from membptt.step.blocks import Blocks
from membptt.step.changes import Unchanged, accumulation_refused
from membptt.step.generators import Generators
from membptt.step.identity import code_of
from membptt.step.refusals import refuse_graphless, refuse_signature
from membptt.step.undeclared import Graph, Undeclared
from membptt.torch_private import first_since, hooks_made, is_opaque, nodes_made, switch_grad


class Core:
    """Runs the user's step, with and without graph.

    Args:
        problem: the step, the starting carry, and the forms that carries have.
        inputs: the input sequence, cut into cores.
        generators: read after every recorded core and every run of cores.
        compiled: runs a whole chunk of steps in place of the loop over them.
        joint: joins recording and backpropagating a core to a single function.
        witness: compares recomputed states with those of the first pass, bit by bit.
        promise: sees the graphs, and whether they keep what a plan promised.
        metered: take note of what each graph saves.
        fresh: cores, in ascending order, that have a graph even where they only advance. What the step keeps of its
            first call, such as a weight that it caches, then has one, as in the plain loop, and is noticed.

    Attributes:
        forms: of all carries, once the first pass has run.
        continuity: compares carries, and the outputs of the last few cores, with those of the first pass, if anything
            does.
        metered: as given; may be switched from core to core.
    """

    def __init__(
        self,
        problem: Problem,
        inputs: Inputs,
        *,
        generators: Generators,
        compiled: Chunk | None = None,
        joint: Joint | None = None,
        witness: Witness | None = None,
        promise: Promise | None = None,
        metered: bool = False,
        fresh: Sequence[int] = (),
    ) -> None:
        self._step, self._segments, self.params = problem.step, problem.segments, problem.params
        self.forms: Forms = problem.forms(problem.spec, problem.carry)
        self._unwanted = problem.unwanted
        self._views = None if problem.views is None else frozenset(problem.views)
        self._inputs = inputs
        start = [leaf if leaf.grad_fn is None else leaf.detach() for leaf in problem.carry]
        self._outside = (*inputs.leaves, *problem.params, *start)
        self._generators = generators
        self._compiled = compiled
        self._joint = joint if witness is None else None
        self._witness = witness
        self.continuity: Continuity | None = None
        self._promise = promise
        self.metered = metered
        self.accumulated: Sequence[Tensor] = ()  # whose .grad moved in the first pass: a recomputation tells by whom
        self._fresh = fresh
        # Whether steps are to be given inputs of their own: what is part of one that wants no gradient has no graph.
        self._apart = any(leaf.requires_grad or leaf.is_inference() for leaf in inputs.leaves)
        self._watches: bool | None = None  # whether to note what is saved while it is; not decided
        self._unchanged = Unchanged(inputs.leaves, problem.params)
        self._places = {id(tensor): place for place, tensor in enumerate(problem.params)} if joint is not None else {}
        self._kinds: dict[Any, Traced | None] = {}  # of cores, as they were found in this pass
        self._undeclared = Undeclared(problem.step, problem.params, inputs.read)
        self._records = False  # whether the step switches grad mode on by itself
        # Cores of a single step that nothing watches and nobody compiled.
        self._bare = not (isinstance(inputs.at(0), slice) or compiled or witness)

    @cached_property
    def _weights(self) -> dict[int, int]:
        """Declared tensors that may be weights of products."""
        return multiplied(self.params)

    def advance(self, state: Hidden, xs: Leaves, start: int, stop: int, outputs: Outputs | None = None) -> Hidden:
        """Run cores ``start .. stop-1`` without graph; the first pass collects their outputs.

        Called with grad mode on, as where nothing declared wants a gradient, it makes sure that nothing else does.
        """
        if outputs is None and torch.is_grad_enabled():
            with torch.no_grad():
                return self.advance(state, xs, start, stop)
        leaves, core = state.leaves, start
        if self._joint is not None:
            leaves, core = self._advance_traced(leaves, xs, range(start, stop), outputs)
        if core == start and self._fresh and start <= self._fresh[-1]:
            # With graph whenever they are run, or such a core would round in one way here, and in another there.
            for fresh in self._fresh[bisect_left(self._fresh, start) : bisect_left(self._fresh, stop)]:
                if start < fresh:
                    state = self.advance(state, xs, start, fresh, outputs)
                if outputs is None and self._witness is None:
                    state = self._graph_again(state, xs, fresh)
                else:
                    state = self._graph(state, xs, fresh, outputs)[0].output()
                start = fresh + 1
            leaves, core = state.leaves, start
        if core < stop:
            leaves = self._advance(leaves, xs, range(core, stop), outputs)
        if torch.is_grad_enabled():
            leaves = tuple(leaf.detach() for leaf in leaves)
        state.check(start)
        return Hidden.of(leaves, self._generators.read())

    def _advance(self, leaves: Leaves, xs: Leaves, cores: range, outputs: Outputs | None) -> Leaves:
        carry = self.forms.at(cores.start).spec.unflatten(leaves)
        if outputs is None and self._bare and not self._records:
            # The first pass has checked every step, so only the step itself is left to run.
            step = self._step
            try:
                for x, spec in self._inputs.few(xs, cores):
                    carry, _ = step(carry, spec.unflatten(x))
            except RuntimeError as error:
                refuse_graphless(error)
                raise
        elif outputs is not None and not (self.forms.alike or self._witness or torch.is_grad_enabled()):
            carry = self._run_blocks(carry, cores, outputs)
        else:
            carry = self._run_checked(carry, leaves, xs, cores, outputs)
        return self._flatten(carry, cores.stop - 1)

    def _run_blocks(self, carry: Any, cores: range, outputs: Outputs) -> Any:
        """Run blocks of a chain for the first time, without graph; they have no outputs."""
        blocks = cast("Blocks", self._step)
        for core in cores:
            before = carry
            carry, y = blocks(carry, core)
            leaves = self._pass(core, carry)
            if any(map(_requires_grad, leaves)):
                given = {*map(id, tree_leaves(before))}
                if any(leaf.requires_grad and id(leaf) not in given for leaf in leaves):
                    carry = self.forms.at(core + 1).spec.unflatten([leaf.detach() for leaf in leaves])
        outputs.put(cores.start, y)
        return carry

    def _advance_traced(self, leaves: Leaves, xs: Leaves, cores: range, outputs: Outputs | None) -> tuple[Leaves, int]:
        """Advance as far as cores are functions of tensors: return the carry there, and the core after it."""
        if not self.joins:
            return leaves, cores.start
        for core in cores:
            ran = self._run_traced(core, leaves, xs)
            if ran is None:
                return leaves, core
            traced, leaves, ys, places = ran
            if outputs is not None:
                for where, y_spec, y in zip(places, traced.y_specs, ys, strict=True):
                    outputs.put(where, y_spec.unflatten(y))
                leaves = self._checked(traced.spec.unflatten(leaves), places[-1])
                if self.continuity is not None:
                    self.continuity.passed(core, leaves)
                    if core >= self.continuity.first:
                        self.continuity.emitted(core, ys[-1])
        return leaves, cores.stop

    def _run_traced(
        self, core: int, leaves: Leaves, xs: Leaves
    ) -> tuple[Traced, Leaves, Sequence[Leaves], Sequence[At]] | None:
        """Run one core as a function of tensors: return it, the carry after it, its outputs and where they belong."""
        at = self._inputs.at(core)
        x, spec = self._inputs.fetch(xs, at)
        places, steps = self._parts(at, x)
        own = (*leaves, *chain(*steps))
        traced = self._trace(core, own, steps, spec)
        advanced = traced.advance(own) if traced is not None else None
        return (traced, *advanced, places) if traced is not None and advanced is not None else None

    def _trace(
        self, core: int, own: Leaves, steps: Sequence[Sequence[Tensor]], spec: optree.PyTreeSpec
    ) -> Traced | None:
        """Return cores of the kind of this one; whether the step still is what was traced is asked once in a pass.

        Of inputs that are read, every time: what reads them may change what the step finds.
        """
        joint, form, inputs = self._joint, self.forms.at(core), self._inputs
        if joint is None:
            return None
        kind = form, len(steps), *[_lie(leaf) for leaf in own]
        if inputs.read is not None or kind not in self._kinds:
            given = Given(own[: len(form.differentiable)], form.spec, steps, spec)
            wanted = Wanted(form.differentiable, inputs.wanted or (False,) * spec.num_leaves, self._places)
            self._kinds[kind] = joint.trace(given, wanted)
        return self._kinds[kind]

    def loop(self, state: Hidden, xs: Leaves, start: int, stop: int, outputs: Outputs) -> Hidden:
        """Run cores ``start .. stop-1`` as the plain loop: no graph, tangent or wrapper is taken off, nothing stored.

        For derivatives of derivatives, and under transforms. What is compiled runs as it is written.
        """
        leaves, cores = state.leaves, range(start, stop)
        for core, (x, spec) in zip(cores, self._inputs.all(xs, cores), strict=True):
            carry = self.forms.at(core).spec.unflatten(leaves)
            for where, after, y in self._steps(carry, self._inputs.at(core), x, spec, eager=True):
                leaves = self._checked(after, where)
                outputs.put(where, y)
        state.check(start)
        return Hidden.of(leaves, self._generators.read())

    def _run_checked(self, carry: Any, leaves: Leaves, xs: Leaves, cores: range, outputs: Outputs | None) -> Any:
        since, graph = nodes_made(), torch.is_grad_enabled()
        for core, (x, spec) in zip(cores, self._inputs.few(xs, cores), strict=False):
            at = self._inputs.at(core)
            if graph and self._inputs.leaves:  # what is read, and wants gradients, is to be declared
                x = [as_leaf(leaf, False) for leaf in x]
            before = leaves if self._witness is None else tree_leaves(carry)
            ys: list[Leaves] = []
            for where, after, y in self._steps(carry, at, x, spec):
                carry = after
                if outputs is not None:
                    leaves, emitted = self._checked(carry, where), outputs.put(where, y)
                    if graph:
                        self._undeclared.refuse((*leaves, *emitted), (), since)
                    elif any(map(_requires_grad, leaves)):
                        given = {id(leaf) for leaf in (*before, *x)}
                        self._records |= any(leaf.requires_grad and id(leaf) not in given for leaf in leaves)
                    ys = [*ys, emitted] if self._witness is not None else [emitted]
                elif self._witness is not None:
                    ys.append(tree_leaves(y))
            if outputs is not None and self.continuity is not None:
                self.continuity.passed(core, leaves)
                if core >= self.continuity.first:
                    self.continuity.emitted(core, ys[-1])
            if self._records:  # or the graphs of all cores would hang together, and stay
                carry = self.forms.at(core + 1).spec.unflatten([leaf.detach() for leaf in self._flatten(carry, core)])
            if self._witness is not None:
                self._witness.see(core, before, carry, ys)
        return carry

    def record(
        self, state: Hidden, xs: Leaves, core: int, outputs: Outputs | None = None, stop: int | None = None
    ) -> Internal:
        """Run one core with graph, from leaf inputs of its own; blocks of a chain, those before `stop`."""
        if self.accumulated and outputs is None:
            leaves, self.accumulated = self.accumulated, ()
            with accumulation_refused(leaves):
                return self.record(state, xs, core, outputs, stop)
        if stop is not None and stop > core + 1:
            return self._link(state, xs, range(core, stop), outputs)
        if not self.metered and self._promise is None:
            return self._graph(state, xs, core, outputs)[0]
        saved: dict[int, int] = {}
        with record_saved(saved) if self.metered and self._watches else nullcontext():
            internal, graph = self._graph(state, xs, core, outputs)
        internal.saved, nodes = saved, graph.nodes
        if self._promise is not None:
            self._promise.see(core, internal, nodes)
        if self.metered:
            saved |= saved_by(nodes)
            if self._watches is None and any(map(is_opaque, nodes)):
                return self._record_watched(internal, state, xs, core)
        return internal

    def _graph(self, state: Hidden, xs: Leaves, core: int, outputs: Outputs | None) -> tuple[Internal, Graph]:
        """Run one core with graph; return it, and what was found of that graph."""
        inputs = self._inputs
        emitted: list[tuple[At, Leaves]] = []
        carry_out: Leaves | None = None
        before = torch.is_grad_enabled()
        switch_grad(True)
        try:
            form, at = self.forms.at(core), inputs.at(core)
            wanted = self._wanted(form, core)
            carry_in = tuple(map(as_leaf, state.leaves, wanted))
            x, spec = inputs.fetch(xs, at)
            # What is read may have a graph of its own, down to declared tensors: it is part of the core's.
            x_in = tuple(map(as_leaf, x, inputs.wanted)) if self._apart else tuple(x)
            since, hooks = nodes_made(), hooks_made() if self._weights else 0
            for where, carry, y in self._steps(form.spec.unflatten(carry_in), at, x_in, spec):
                if outputs is None:
                    emitted.append((where, tree_leaves(y)))
                else:
                    carry_out = self._checked(carry, where)
                    emitted.append((where, outputs.put(where, y)))
            if carry_out is None:
                carry_out = self._flatten(carry, core)
        finally:
            switch_grad(before)
        own = (*carry_in, *x_in) if inputs.wanted else carry_in
        returned, heads = [*carry_out], []
        for where, leaves in emitted:
            returned += leaves
            heads += [(index, where, head(leaf, carry_out), leaf.shape) for index, leaf in enumerate(leaves)]
        graph = self._undeclared.refuse(returned, own, since)
        used = graph.used
        if used and core + 1 < self._unwanted:
            raise RuntimeError(_NOT_FROZEN)
        self._unchanged.check(used)
        state.check(core)
        if any(map(gt, wanted, map(_requires_grad, carry_in))):
            raise RuntimeError(_DETACHED)
        if self.continuity is not None:
            if outputs is not None:
                self.continuity.passed(core, carry_out)
            if core >= self.continuity.first:
                self.continuity.emitted(core, emitted[-1][1])
        if self._witness is not None:
            ys, rounds = [leaves for _, leaves in emitted], partial(only_rounds, self, state, xs, core)
            self._witness.see(core, carry_in, carry, ys, graph=True, rounds=rounds)
        random = self._generators.read()
        apart: list[Product] = []
        if self._weights and hooks_made() == hooks:
            apart = products(graph.nodes, self._weights, graph.accumulators, graph.shared(), since)
        internal = Internal(at, carry_in, x_in, carry_out, heads, used, apart, state, random)
        if outputs is not None or self.metered:  # a plan's trial, too, whose step may hand tensors to others
            internal.enclosure = Enclosure(carry_in, graph.gates(since))
        return internal, graph

    def _wanted(self, form: Form, core: int) -> Sequence[bool]:
        """Return which leaves of the carry that a core is given want a gradient: of compiled cores, in all alike.

        One whose carry wants none would be compiled by itself.
        """
        wanted = core >= self._unwanted or self._compiled is not None
        return form.differentiable if wanted else (False,) * len(form.differentiable)

    def _graph_again(self, state: Hidden, xs: Leaves, core: int) -> Hidden:
        """Run one core with a graph that nobody looks at: it was looked at in the first pass, where it was the same."""
        with torch.enable_grad():
            form, at = self.forms.at(core), self._inputs.at(core)
            x, spec = self._inputs.fetch(xs, at)
            x_in = map(as_leaf, x, self._inputs.wanted) if self._inputs.wanted else x
            carry_in = form.spec.unflatten(map(as_leaf, state.leaves, self._wanted(form, core)))
            *_, (_, carry, _) = self._steps(carry_in, at, tuple(x_in), spec)
        state.check(core)
        return Hidden.of(tuple(leaf.detach() for leaf in self._flatten(carry, core)), self._generators.read())

    def _link(self, state: Hidden, xs: Leaves, cores: range, outputs: Outputs | None) -> Internal:
        """Run several blocks of a chain with one graph, from leaf inputs of the first one; they have no outputs."""
        first, last, blocks = cores.start, cores[-1], cast("Blocks", self._step)
        form, views = self.forms.at(first), cores if self._views is None else self._views
        run = blocks if outputs is not None else blocks.run_again
        with torch.enable_grad():
            carry_in = tuple(map(as_leaf, state.leaves, self._wanted(form, first)))
            carry: Any = form.spec.unflatten(carry_in)
            since = nodes_made()
            for core in cores:
                if core == last:
                    since_last, before_last = nodes_made(), self._flatten(carry, core - 1)
                carry, y = run(carry, core)
                if outputs is not None:
                    self._pass(core, carry)
                if (
                    core + 1 < self._unwanted
                    and self._undeclared.refuse(self._flatten(carry, core), carry_in, since).used
                ):
                    raise RuntimeError(_NOT_FROZEN)
                if core < last and core + 1 in views:
                    carry = self._compacted(carry, core)
        leaves = self._flatten(carry, last)
        if outputs is not None:
            outputs.put(first, y)
        with uncollected():
            graph = self._undeclared.refuse(leaves, carry_in, since)
        self._unchanged.check(graph.used)
        state.check(first)
        # No products: their factors and gradients would wait for the end of all these blocks.
        at, random = slice(first, cores.stop), self._generators.read()
        internal = Internal(at, carry_in, (), leaves, [], graph.used, (), state, random)
        internal.cores, internal.before_last = len(cores), before_last
        internal.last_node = first_since(graph.nodes, since_last)
        if outputs is not None:
            internal.enclosure = Enclosure(carry_in, graph.gates(since))
        return internal

    def _pass(self, core: int, carry: Any) -> Leaves:
        """See to the state after a block in the first pass; return its leaves."""
        leaves = self._checked(carry, core)
        if self.continuity is not None:
            self.continuity.passed(core, leaves)
        return leaves

    def _compacted(self, carry: Any, core: int) -> Any:
        """Return the carry between two linked cores as where each has a graph of its own: no view is kept."""
        leaves = self._flatten(carry, core)
        own = compacted(leaves, self._outside)
        compact_gradients(own)
        return carry if own is leaves else self.forms.at(core + 1).spec.unflatten(own)

    def _record_watched(self, internal: Internal, state: Hidden, xs: Leaves, core: int) -> Internal:
        """Record a core once more, watched: some nodes of its graph do not tell what they keep."""
        self._watches = True
        self.rewind(state)
        try:
            return self.record(state, xs, core)
        except RuntimeError:  # only being watched can have failed: `torch.func` inside the step forbids it
            self._watches = False
            self._generators.write(internal.random)
            return internal

    def evaluate(self, state: Hidden, xs: Leaves, core: int, *, graph: bool) -> tuple[Leaves, Leaves]:
        """Return the carry after one core and its last output, beside the schedule; generators stay where they are."""
        random = self._generators.read()
        try:
            self.rewind(state)
            ran = self._run_traced(core, state.leaves, xs) if self.joins and not graph else None
            if ran is not None:
                _, after, ys, _ = ran
                return after, ys[-1]
            with torch.set_grad_enabled(graph):
                form = self.forms.at(core)
                wanted = self._wanted(form, core)
                leaves = [as_leaf(leaf, graph and want) for leaf, want in zip(state.leaves, wanted, strict=True)]
                at = self._inputs.at(core)
                x, spec = self._inputs.fetch(xs, at)
                x = [as_leaf(leaf, graph and leaf.requires_grad) for leaf in x]
                *_, (_, carry, y) = self._steps(form.spec.unflatten(leaves), at, x, spec)
            flat = self._flatten(carry, core)
            return tuple(leaf.detach() for leaf in flat), tuple(leaf.detach() for leaf in tree_leaves(y))
        finally:
            self._generators.write(random)

    def carry(self, state: Hidden, position: int) -> Any:
        """Return a hidden state as the step knows it, without graph."""
        leaves = [leaf.detach() if leaf.requires_grad else leaf for leaf in state.leaves]
        return self.forms.at(position).spec.unflatten(leaves)

    def random(self) -> RandomState:
        """Return the random state as it is now."""
        return self._generators.read()

    @property
    def compiled(self) -> bool:
        """Whether cores are compiled, which knows no tangents."""
        return self._compiled is not None

    @property
    def form(self) -> Form:
        """The form of the final carry, once the first pass has run; in a sequence, of all but the starting one."""
        return self.forms.last

    def name(self, what: str, core: int, leaf: int, outputs: Outputs) -> str:
        """Name a leaf of the carry after `core`, or of its outputs, as Python would."""
        spec, root = (self.forms.at(core + 1).spec, "carry") if what == "carry" else (outputs.spec, "y")
        return str(spec.accessors()[leaf].codify(root)) if spec is not None else f"leaf {leaf}"

    def check_unchanged(self) -> None:
        """Refuse, at the end of the first pass, a step that changed an input or a parameter.

        Raises:
            RuntimeError: it did.
        """
        self._unchanged.check()

    def leave(self, frozen: Collection[int]) -> None:
        """Leave out tensors, by identity, that wanted no gradient in the first pass: the loop would give them none."""
        self._undeclared.frozen = frozen

    def rounds(self) -> None:
        """Take note that the step gives other bits with graph than without: later calls look at numbers at once."""
        _rounding[_kind(self._step)] = None
        if len(_rounding) > _REMEMBERED:
            del _rounding[next(iter(_rounding))]

    def compact(self, state: Hidden) -> Hidden:
        """Return a state to be stored: its leaves keep nothing alive but themselves, and what is alive anyway."""
        leaves = compacted(state.leaves, self._outside)
        return state if leaves is state.leaves else Hidden.of(leaves, state.random)

    def rewind(self, state: Hidden) -> None:
        """Prepare to recompute from `state`."""
        self._generators.write(state.random)

    def begin(self) -> None:
        """Begin a pass: whether the step is what was traced is to be asked again."""
        self._kinds.clear()

    @property
    def joins(self) -> bool:
        """Whether cores may be recorded and backpropagated at once."""
        return self._joint is not None and self._joint.problem is None

    def join(self, state: Hidden, xs: Leaves, core: int, sweep: Sweep) -> bool:
        """Record one core and backpropagate it, at once; false, nothing done, where it has to be recorded by itself.

        Recorded is a first one that makes the carry. The outputs that are compared, of the last few cores, a joined one
        does not give: it is advanced for them.
        """
        form = self.forms.at(core)
        if not self.joins or form is not self.forms.last:
            return False
        at = self._inputs.at(core)
        with torch.no_grad():
            x, spec = self._inputs.fetch(xs, at)
            places, steps = self._parts(at, x)
        if not self._inputs.wanted and any(leaf.requires_grad for leaf in x):
            return False  # what is read has a graph of its own, which is part of the core's
        own = (*state.leaves, *chain(*steps))
        traced = self._trace(core, own, steps, spec)
        if traced is None or traced.spec != form.spec or not sweep.join(Joined(traced, at, places, state, own)):
            return False
        state.check(core)
        self._unchanged.check(traced.used)
        if self.continuity is not None and core >= self.continuity.first:
            advanced = traced.advance(own)
            if advanced is not None:
                self.continuity.emitted(core, advanced[1][-1])
        return True

    def backpropagate(self, internal: Internal, sweep: Sweep) -> None:
        """Backpropagate one recorded core.

        Raises:
            RuntimeError: what the step captured was computed outside it, and its graph is used up; or it was made by
                another core, and kept.
        """
        try:
            sweep.step(internal)
        except Escaped as error:
            raise self._undeclared.kept() from error
        except RuntimeError as error:
            if "backward through the graph a second time" not in str(error):
                raise
            raise self._undeclared.used_up() from error

    def _steps(
        self, carry: Any, at: At, x: Sequence[Tensor], spec: optree.PyTreeSpec, *, eager: bool = False
    ) -> Iterable[tuple[At, Any, Any]]:
        """Run one core: carry and output at each step, or once for a whole segment."""
        compiled = None if eager else self._compiled
        if compiled is None and (self._segments or not isinstance(at, slice)):
            return ((at, *self._call(carry, spec.unflatten(x), at)),)
        places, steps = self._parts(at, x)
        parts = [spec.unflatten(step) for step in steps]
        if compiled is None:
            return self._one_by_one(carry, places, parts)
        carry, ys = compiled(carry, parts)
        return [(where, carry, y) for where, y in zip(places, ys, strict=True)]

    def _parts(self, at: At, x: Sequence[Tensor]) -> tuple[list[At], list[Sequence[Tensor]]]:
        """Return what a core calls the step with: where, and the leaves of the inputs there."""
        if self._segments or not isinstance(at, slice):
            return [at], [x]
        # unbind, not indexing: its backward is one stack, where that of indexing fills zeros for every step.
        places: list[At] = list(range(at.start, at.stop))
        return places, list(zip(*(leaf.unbind(0) for leaf in x), strict=True)) if x else [()] * len(places)

    def _one_by_one(self, carry: Any, places: list[At], parts: list[Any]) -> Iterator[tuple[At, Any, Any]]:
        for where, part in zip(places, parts, strict=True):
            carry, y = self._call(carry, part, where)
            yield where, carry, y

    def _call(self, carry: Any, x: Any, at: At) -> tuple[Any, Any]:
        try:
            result = self._step(carry, x)
        except TypeError:
            refuse_signature(self._step)
            raise
        except RuntimeError as error:
            refuse_graphless(error)
            raise
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"step must return a pair (carry, y), got {type(result).__name__} at step {_first(at)}")
        return result

    def _checked(self, carry: Any, at: At) -> Leaves:
        """Return the leaves of a carry of the first pass, which are as they have to be."""
        return self.forms.settle(carry, _first(at))

    def _flatten(self, carry: Any, core: int) -> Leaves:
        return self.forms.at(core + 1).leaves(carry, core * self._inputs.chunk)


class LoopCore(Core):
    """Runs the step as the plain loop does, whatever is wanted of it."""

    def advance(self, state: Hidden, xs: Leaves, start: int, stop: int, outputs: Outputs | None = None) -> Hidden:
        """Run cores ``start .. stop-1``; see `loop`."""
        return self.loop(state, xs, start, stop, outputs if outputs is not None else Unkept())


_requires_grad: Final = attrgetter("requires_grad")
_DETACHED: Final = (
    "the step cuts the carry it was given in place (detach_(), requires_grad_(False)): in the loop that cuts outputs "
    "of the step before as well, where they are the same tensor. Use what detach() returns"
)
_NOT_FROZEN: Final = (
    "a block at the start of the chain, whose own parameters are all frozen, uses one of a later block by a way that "
    "its code does not show, and its gradient would be lost: name that parameter in params= as well"
)
_REMEMBERED: Final = 64
_rounding: dict[Any, None] = {}


def is_known_to_round(step: Step, /) -> bool:
    """Whether a step of this code was seen to give other bits with graph than without."""
    return bool(_rounding) and _kind(step) in _rounding


def _kind(step: Step) -> Any:
    return step.codes() if isinstance(step, Blocks) else code_of(step)


def _lie(leaf: Tensor) -> Any:
    """Return how a leaf lies, which Dynamo guards."""
    return type(leaf), leaf.shape, leaf.stride(), leaf.is_conj(), leaf.is_neg()


def _first(at: At) -> int:
    return int(at.start) if isinstance(at, slice) else at
