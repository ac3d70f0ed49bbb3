"""The backward sweep: from the gradient of one core's outputs to those of its inputs, the rest accumulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import update_wrapper
from itertools import compress
from itertools import product as pairs
from operator import attrgetter
from typing import Any, Final

import torch
from torch import Tensor

from membptt.kernels.joint import Joined
from membptt.run.outputs import Outputs
from membptt.state.leaves import Leaves, are_apart, compacted_gradient
from membptt.state.products import Product, without
from membptt.state.states import At, Internal
from membptt.torch_private import add_each, flagged, gradients, hooks_of, hooks_of_each, is_alone, is_set

Gradients = list[Tensor | None]
Hook = Callable[[Tensor], Tensor | None]

_IDLE: Final = nullcontext()
_requires_grad: Final = attrgetter("requires_grad")
_retains_grad: Final = attrgetter("retains_grad")
_DEFERRING: Final = "membptt: a core is backpropagated"


class Adjoint:
    """The gradients of one backward pass: of the carry at the present position, of the inputs, of the parameters.

    Args:
        carry: gradient of each leaf of the final carry, or ``None``.
        ys: gradient of each leaf of the outputs, or ``None``.
        outputs: knows each step's share of them.
        xs: the input leaves; gradients are gathered for those that require them.
        params: the declared parameters.
        compact: a gradient of the carry that waits takes no more than its own bytes.
        as_now: where formulas and hooks are to run: as the caller's backward is, not as the first pass was.
    """

    def __init__(
        self,
        carry: Gradients,
        ys: Gradients,
        outputs: Outputs,
        xs: Leaves,
        params: Sequence[Tensor],
        *,
        compact: bool = False,
        as_now: Callable[[], AbstractContextManager[object]] = lambda: _IDLE,
    ) -> None:
        self.carry = carry
        self.xs: Gradients = [None] * len(xs)  # as of a loop: none where no step used any of it
        self.params: Gradients = [None] * len(params)
        self._inputs = xs
        self._ys = ys
        self._outputs = outputs
        self._params = params
        self._owned = [False] * len(params)
        self._taken: set[int] = set()
        self._compact, self._as_now = compact, as_now
        # Hooks that the step put on the carry it was given, by leaf: they are of the core before, which gave it.
        self.hooks: list[list[Hook]] = [[] for _ in carry]

    def step(self, internal: Internal) -> None:
        """Backpropagate one recorded core: its output gradients in, its input gradients out, the rest accumulated."""
        if internal.enclosure is None:
            self._step(internal)
        else:
            with internal.enclosure:
                self._step(internal)

    def _step(self, internal: Internal) -> None:
        if any(self.hooks) or hooks_of_each(internal.carry_in):
            self._hand_on_hooks(internal)
        elif len(self.hooks) != len(internal.carry_in):
            self.hooks = [[] for _ in internal.carry_in]
        heads: list[Any] = []
        grads: list[Tensor] = []
        for leaf, grad in zip(internal.carry_out, self.carry, strict=True):
            if grad is not None and leaf.requires_grad:
                heads.append(leaf)
                grads.append(grad)
        for index, at, head, shape in internal.emitted:
            total = self._ys[index]
            if total is not None and head is not None:
                heads.append(head)
                grads.append(self._outputs.gradient(total, at, shape))
        mine = internal.x_in if self.xs else ()  # what was read has a graph of its own, and no gradient here
        inputs = [leaf for leaf in (*internal.carry_in, *mine) if leaf.requires_grad]
        used, apart = internal.used, self._apart(internal.products) if internal.products else ()
        if apart:
            added = {index for each, _ in apart for index in (each.weight, each.bias)}
            used = [index for index in used if index not in added]
        params = [*map(self._params.__getitem__, used)]
        if not all(map(_requires_grad, params)):  # one that was frozen since the first pass gets none
            used = [index for index in used if self._params[index].requires_grad]
            params = [*filter(_requires_grad, params)]
        ends: list[Any] = [*inputs, *params]
        if apart:
            ends += [each.edge for each, _ in apart]
        by_end: Sequence[Tensor | None] = ()
        kept: list[Tensor] = []
        if heads and ends:
            if self._compact and are_apart(grads):
                heads, grads = _handed_over(heads, grads)
                grad, self.carry = None, []
            if internal.cores > 1:
                del leaf
                kept = _kept_by_the_last(internal)
            try:
                with self._as_now():
                    by_end = gradients(heads, ends, grads)
            finally:
                kept.clear()
        by_leaf = iter(by_end or [None] * len(ends))
        self.carry = [next(by_leaf) if leaf.requires_grad else None for leaf in internal.carry_in]
        if self._compact:
            self.carry = _compacted(self.carry)
        for index, leaf in enumerate(mine):
            grad = next(by_leaf) if leaf.requires_grad else None
            if grad is not None and self._inputs[index].requires_grad:
                self._gather(index, internal.at, grad)
        totals: list[Any] = []
        shares: list[Tensor] = []
        for index, grad in zip(used, by_leaf, strict=False):  # then come those of products
            if grad is None:
                continue
            if index in self._taken:
                at = internal.at
                where = f"{at.start}:{at.stop}" if isinstance(at, slice) else at
                raise RuntimeError(_LATE.format(where, tuple(self._params[index].shape)))
            if self.params[index] is None:
                self.params[index] = grad
            elif self._owned[index] or self._is_mine(index):
                totals.append(self.params[index])
                shares.append(grad)
            else:
                first: Any = self.params[index]
                total = grad + first if first.is_sparse else first + grad  # a sparse one takes no dense one
                self.params[index], self._owned[index] = total, not total.is_sparse
        if totals:
            add_each(totals, shares)
        if apart:
            with torch.no_grad() if torch.is_grad_enabled() else _IDLE:  # as where a plan is made: rows have a graph
                for (factors, rows), grad in zip(apart, by_leaf, strict=True):
                    if grad is not None:
                        self._add_product(factors, rows, grad)

    def _apart(self, products: Sequence[Product]) -> list[tuple[Product, Tensor]]:
        """Return the products whose weights' gradients are added in place, with their rows.

        Not those of a weight whose rows and gradients, which wait until the core has gone backward, would take more
        than what autograd makes: a tensor as large as the weight, and where there are several products another for
        their sum.
        """
        apart: list[tuple[Product, Tensor]] = []
        waiting: dict[int, int] = {}  # numbers in rows and gradients, by weight
        several: set[int] = set()
        left: set[int] = set()
        elsewhere: set[int | None] = set()
        for each in products:
            index = each.weight
            if index in left:
                continue
            weight, numbers = self._params[index], waiting.get(index, 0)
            if numbers:
                several.add(index)
            rows = each.rows() if weight.requires_grad and index not in self._taken and weight.is_contiguous() else None
            if rows is not None:
                waiting[index] = numbers = numbers + len(rows) * sum(weight.shape)
            if rows is None or numbers > 2 * weight.numel():
                left.add(index)
                continue
            if each.bias is not None and not self._adds(each.bias, weight.shape[1 - each.turned]):
                elsewhere.add(each.bias)
            apart.append((each, rows))
        for index, numbers in waiting.items():
            if index not in several and numbers > self._params[index].numel():
                left.add(index)
        if not left and not elsewhere:
            return apart
        kept = [rows for each, rows in apart if each.weight not in left]
        return [*zip(without(products, left, elsewhere), kept, strict=True)]

    def _adds(self, bias: int, size: int) -> bool:
        tensor = self._params[bias]
        return tensor.requires_grad and bias not in self._taken and tensor.shape == (size,)

    def _add_product(self, product: Product, rows: Tensor, grad: Tensor) -> None:
        """Add to the gradients of a product's weight and bias; the first share is the sum that the others are added to.

        So no second tensor as large as the weight is ever there.
        """
        if self.params[product.weight] is None:
            self.params[product.weight], self._owned[product.weight] = product.share(rows, grad), True
        else:
            product.add(rows, grad, self._sum(product.weight))
        bias = product.bias
        if bias is not None and self.params[bias] is None:
            self.params[bias], self._owned[bias] = grad.sum(0), True
        elif bias is not None:
            self._sum(bias).add_(grad.sum(0))

    def take(self, indices: Sequence[int]) -> Gradients:
        """Hand over the gradients of some declared tensors, which are complete: they are kept no longer."""
        gradients = [self.params[index] for index in indices]
        for index in indices:
            self.params[index] = None
        self._taken.update(indices)
        return gradients

    def join(self, core: Joined) -> bool:
        """Record and backpropagate one core at once; false, nothing done, where it has to be recorded by itself."""
        if any(self.hooks):
            return False
        ys = [
            self._outputs.gradient(total, at, self._outputs.shape(leaf, at)) if total is not None else None
            for at in core.places
            for leaf, total in enumerate(self._ys)
        ]
        shares = core.pull(self.carry, ys, self._sum)
        if shares is None:
            return False
        after, mine = shares[: len(core.carry_in)], iter(shares[len(core.carry_in) :])
        self.carry, self.hooks = list(after), [[] for _ in after]
        if self._compact:
            self.carry = _compacted(self.carry)
        for at, index in pairs(core.places, range(len(self.xs))):
            share = next(mine)
            if share is not None and self._inputs[index].requires_grad:
                self._gather(index, at, share)
        return True

    def _sum(self, param: int) -> Tensor:
        """Return what gradients of a declared tensor are added to in place."""
        mine = self._is_mine(param)
        total = self.params[param]
        if total is None or not mine:
            total = torch.zeros_like(self._params[param]) if total is None else total.clone()
            self.params[param], self._owned[param] = total, True
        return total

    def _is_mine(self, param: int) -> bool:
        """Whether a sum may be added to in place: a first share may lie in the memory of another (an LSTM's biases)."""
        if not self._owned[param]:
            self._owned[param] = is_alone(self.params, param)
        return self._owned[param]

    def _gather(self, index: int, at: At, grad: Tensor) -> None:
        total = self.xs[index]
        if total is None:
            total = self.xs[index] = torch.zeros_like(self._inputs[index])
        self._outputs.order.enter(total, at, grad)

    def _hand_on_hooks(self, internal: Internal) -> None:
        """Let hooks on the carry that a core was given see the whole gradient, where that is known.

        On this core's side it is a share: outputs of the core before may be the same tensors.
        """
        late, self.hooks = self.hooks, [_taken(leaf) for leaf in internal.carry_in]
        for leaf, hooks in zip(internal.carry_out, late, strict=True):
            given = [index for index, entry in enumerate(internal.carry_in) if entry is leaf]
            if given:  # handed on as it is: the core that made it is further back
                self.hooks[given[0]] += hooks
            elif hooks and leaf.grad_fn is None and leaf.requires_grad:
                raise RuntimeError(_HOOK_ON_LEAF)
            elif leaf.requires_grad:
                for hook in hooks:
                    leaf.register_hook(hook)  # type: ignore[no-untyped-call]


def _compacted(gradients: Gradients) -> Gradients:
    return [compacted_gradient(grad) if grad is not None else None for grad in gradients]


def _handed_over(heads: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return one head with its gradient in place of all of them, of which each is then free as soon as it was used.

    The engine keeps those that it is given until it is done, where in the plain loop it makes them itself.
    """
    with torch.enable_grad():
        head: Tensor = _Given.apply([*grads], *heads)  # type: ignore[no-untyped-call]
    return [head], [head.detach()]


def _kept_by_the_last(internal: Internal) -> list[Tensor]:
    """Take the states around the last of several linked cores, which are gone once that has gone backward."""
    kept = [*internal.carry_out, *internal.before_last]
    internal.carry_out = internal.before_last = ()
    if internal.last_node is None:
        return []
    internal.last_node.register_hook(lambda *_: kept.clear())
    return kept


class _Given(torch.autograd.Function):
    """Forward: nothing. Backward: the gradients that it was given, which it keeps no longer."""

    @staticmethod
    def forward(ctx: Any, grads: list[Tensor], *heads: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.grads = grads
        return heads[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None
        return None, *grads


def _taken(leaf: Tensor) -> list[Hook]:
    """Take the step's hooks off a leaf."""
    hooks = hooks_of(leaf)
    return [hooks.pop(key) for key in [*hooks]]


_LATE: Final = (
    "blocks[{}] uses a parameter of shape {} of a later block, by a way that its code does not show: that gradient was "
    "complete and is handed on already. Name the parameter in params= as well, or make the later block's module an "
    "attribute of this one"
)
_HOOK_ON_LEAF: Final = (
    "the step put a hook on the carry it was given, which the step before took from outside (a parameter, for example) "
    "and did not compute; put the hook on that tensor itself, outside the step"
)


def hooks_deferred(tensors: Sequence[Tensor]) -> AbstractContextManager[None]:
    """Silence the hooks of `tensors` in what is backpropagated inside: they see the whole gradient, no core's share.

    Not by taking them off meanwhile: other threads may be adding up gradients of the same tensors.
    """
    hooked = hooks_of_each(tensors)
    retained = [(tensor, tensor.grad) for tensor in compress(tensors, map(_retains_grad, tensors))]
    return _deferred(hooked, retained) if hooked or retained else _IDLE


@contextmanager
def _deferred(hooked: list[dict[int, Hook]], retained: list[tuple[Tensor, Tensor | None]]) -> Iterator[None]:
    for hooks in hooked:
        for key, hook in list(hooks.items()):
            if not isinstance(hook, _Deferred):
                hooks[key] = _Deferred(hook)
    try:
        with flagged(_DEFERRING):
            yield
    finally:
        for tensor, grad in retained:  # what retain_grad kept is a core's share, too
            tensor.grad = grad


class _Deferred:
    """A hook that does nothing while a core is backpropagated; it stays in the place of the one it wraps."""

    def __init__(self, hook: Callable[[Tensor], Tensor | None]) -> None:
        update_wrapper(self, hook)
        self._hook = hook

    def __call__(self, grad: Tensor) -> Tensor | None:
        return None if is_set(_DEFERRING) else self._hook(grad)
