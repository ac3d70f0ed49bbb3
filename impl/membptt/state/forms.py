"""The form of a carry: structure, shapes, dtypes and devices. One for all, which the first step may settle; or many."""

from __future__ import annotations

from typing import Any, Protocol

import optree
import torch
from torch import Tensor

from membptt.state.leaves import Leaves, check_tensors, is_differentiable, signature
from membptt.state.trees import NAMESPACE, changed_constant, flatten

_Signature = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]


class Starting:
    """A node of a starting carry in whose place the first step puts whatever it makes."""


class Forms(Protocol):
    """The forms of the carries of one call, by position.

    Attributes:
        alike: whether all of them are alike, except for what the first step makes of the starting one.
    """

    alike: bool

    @property
    def last(self) -> Form:
        """The form of the final carry, or of the last one that is known."""

    def at(self, position: int) -> Form:
        """Return the form of the carry at `position`."""

    def settle(self, carry: Any, step: int) -> Leaves:
        """Return the leaves of the carry that `step` returned in the first pass, which may settle its form.

        Raises:
            TypeError: a leaf is no tensor.
            ValueError: it is of another form than it may be.
        """


class Alike:
    """The forms of the carries of a sequence: all are alike, except for what the first step makes of the starting one.

    Args:
        spec: structure of the starting carry.
        leaves: its leaves.
    """

    alike = True

    def __init__(self, spec: optree.PyTreeSpec, leaves: Leaves) -> None:
        self._start = self.last = Form(spec, leaves, starting=True)

    def at(self, position: int) -> Form:
        """Return the form of the carry at `position`."""
        return self.last if position > 0 else self._start

    def settle(self, carry: Any, step: int) -> Leaves:
        """Return the leaves of a carry of the first pass; see `Forms`."""
        if step > 0:
            return self.last.flatten(carry, step)
        self.last, leaves = self._start.after(carry)
        return leaves


class Unlike:
    """The forms of the states of a chain: each is its own, settled by the first pass.

    Args:
        spec: structure of the chain's input.
        leaves: its leaves.
        joined: blocks that the first step joins beside its first.
    """

    alike = False

    def __init__(self, spec: optree.PyTreeSpec, leaves: Leaves, joined: int = 0) -> None:
        self._forms = [Form(spec, leaves, starting=True)]
        self._joined = joined

    @property
    def last(self) -> Form:
        """The last form that is known."""
        return self._forms[-1]

    def at(self, position: int) -> Form:
        """Return the form of the state at `position`."""
        return self._forms[position]

    def settle(self, carry: Any, step: int) -> Leaves:
        """Return the leaves of a state of the first pass; see `Forms`."""
        if len(self._forms) > step + 1:  # the first pass is run once more
            return self._forms[step + 1].flatten(carry, step + self._joined)
        last = self._forms[-1]
        if type(carry) is Tensor and isinstance(last, _Settled) and last.is_of_one(carry):  # in most chains, in all
            self._forms.append(last)
            return (carry,)
        flat, spec = flatten(f"what blocks[{step + self._joined}] returned", carry)
        alike = isinstance(last, _Settled) and last.is_of(spec, flat)  # as of equal blocks: one object for all of them
        self._forms.append(last if alike else _Settled(spec, flat, starting=False))
        return flat


class Form:
    """The form of a carry, which the steps after it keep.

    Args:
        spec: structure.
        leaves: of one such carry.
        starting: it is the starting carry's.
    """

    def __init__(self, spec: optree.PyTreeSpec, leaves: Leaves, *, starting: bool) -> None:
        self.spec = spec
        self._single = spec.is_leaf()
        self.differentiable = [is_differentiable(leaf) for leaf in leaves]
        self._signature = signature(leaves)
        self.starting = starting

    def is_of(self, spec: optree.PyTreeSpec, leaves: Leaves) -> bool:
        """Whether this is the form of a carry of this structure, with these leaves."""
        return signature(leaves) == self._signature and spec == self.spec

    def is_of_one(self, carry: Tensor) -> bool:
        """Whether this is the form of a carry that is this tensor alone."""
        return self._single and self._signature[0] == (carry.shape, carry.dtype, carry.device)

    def leaves(self, carry: Any, step: int) -> Leaves:
        """Return the leaves of the carry that `step` returned, which had this form when it was run before.

        Raises:
            TypeError: a leaf is no tensor.
            ValueError: it is of another structure.
        """
        if self._single and type(carry) is Tensor:
            return (carry,)
        leaves, spec = optree.tree_flatten(carry, namespace=self.spec.namespace)
        return tuple(leaves) if spec == self.spec else self.flatten(carry, step)

    def flatten(self, carry: Any, step: int) -> Leaves:
        """Return the leaves of the carry that `step` returned.

        Raises:
            TypeError: a leaf is no tensor.
            ValueError: it is of another form.
        """
        if self._single and type(carry) is Tensor:
            if self.is_of_one(carry):
                return (carry,)
            raise self._other_leaves(signature((carry,)), self._signature, step)
        leaves, spec = optree.tree_flatten(carry, namespace=self.spec.namespace)
        if spec != self.spec:
            flatten("the carry", carry)  # which may be refused for a leaf
            raise self._other_structure(optree.tree_structure(carry, namespace=NAMESPACE), step)
        flat = check_tensors("the carry", leaves)
        given = signature(flat)
        if given != self._signature:
            raise self._other_leaves(given, self._signature, step)
        return flat

    def after(self, carry: Any) -> tuple[Form, Leaves]:
        """Return the form of all later carries, and its leaves, given what the first step returned for this start.

        It is this form, but for what the start does not have yet: ``None``, tensors without elements, and nodes of the
        kind `Starting`.

        Raises:
            TypeError: a leaf is no tensor.
            ValueError: the first step gave another form to something that was there.
        """
        flat, spec = flatten("the carry", carry)
        if spec == self.spec and signature(flat) == self._signature:
            return self, flat
        stand_ins = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype, _ in self._signature]
        given = dict(zip(map(id, stand_ins), self._signature, strict=True))
        start: Any = self.spec.unflatten(stand_ins)
        nodes, outline = optree.tree_flatten(start, is_leaf=_is_missing, none_is_leaf=True, namespace=NAMESPACE)
        try:
            subtrees = outline.flatten_up_to(carry)
        except ValueError:
            raise self._other_structure(spec, 0) from None
        for node, tree in zip(nodes, subtrees, strict=True):
            was = (given[id(node)],) if not _is_missing(node) else None
            if was is not None and not isinstance(tree, Tensor):
                raise self._other_structure(spec, 0)
            if was is not None and signature((tree,)) != was:
                raise self._other_leaves(signature((tree,)), was, 0)
        return Form(spec, flat, starting=False), flat

    def _other_structure(self, spec: optree.PyTreeSpec, step: int) -> ValueError:
        constant = changed_constant(self.spec, spec)
        if constant is not None:
            return ValueError(f"step {step} returned {constant}: {_CONSTANT}")
        return ValueError(
            f"step {step} returned a carry of structure {spec}; {self._whose} has {self.spec}: {self._advice}"
        )

    def _other_leaves(self, given: _Signature, kept: _Signature, step: int) -> ValueError:
        return ValueError(
            f"step {step} returned a carry of shape, dtype and device {_readable(given)}; {self._whose} has "
            f"{_readable(kept)}, and they must stay the same: {self._advice}"
        )

    @property
    def _whose(self) -> str:
        return "the starting carry" if self.starting else "the carry before it"

    @property
    def _advice(self) -> str:
        return _START if self.starting else _LATER


class _Settled(Form):
    """The form of a chain's state, which the first pass settled."""

    def _other_structure(self, spec: optree.PyTreeSpec, step: int) -> ValueError:
        return ValueError(
            f"blocks[{step}] returned a state of structure {spec}, in the first pass one of {self.spec}: {_SETTLED}"
        )

    def _other_leaves(self, given: _Signature, kept: _Signature, step: int) -> ValueError:
        return ValueError(
            f"blocks[{step}] returned a state of shape, dtype and device {_readable(given)}, in the first pass "
            f"{_readable(kept)}: {_SETTLED}"
        )


def _is_missing(node: Any) -> bool:
    return node is None or isinstance(node, Starting) or (isinstance(node, Tensor) and node.numel() == 0)


def _readable(leaves: _Signature) -> list[str]:
    return [f"{tuple(shape)} {str(dtype).removeprefix('torch.')} {device}" for shape, dtype, device in leaves]


_START = "start from a carry like the one that the step returns, or from None where the first step is to make it"
_CONSTANT = "numbers, bools and strings are constants of the carry; wrap in torch.tensor what changes from step to step"
_SETTLED = "a block returns the same structure and shapes whenever it is given the same state"
_LATER = "only the first step may make what was None; return as output y what grows from step to step"
