"""Pytrees of the carry, of inputs and outputs: tensors are leaves, numbers and strings belong to the structure.

A number, a bool or a string is a constant: the step finds it as it was given. Classes that are registered with torch's
pytree are taken from there when they are met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any, Final

import optree
import torch
from torch import Tensor

from membptt.state.leaves import Leaves
from membptt.torch_private import registered

NAMESPACE: Final = "membptt"
_LEAF: Final = torch.empty(0)  # stands for any
SINGLE: Final = optree.treespec_leaf(namespace=NAMESPACE)  # of a tensor alone
_KINDS: Final = (int, float, complex, bool, str)


def flatten(what: str, tree: Any, /) -> tuple[Leaves, optree.PyTreeSpec]:
    """Return the leaves of a tree, and its structure, constants included.

    Raises:
        TypeError: a leaf is no tensor, and of no class that is registered as a pytree.
    """
    if type(tree) is Tensor:
        return (tree,), SINGLE
    leaves, spec = optree.tree_flatten(tree, namespace=NAMESPACE)
    others = [(index, leaf) for index, leaf in enumerate(leaves) if not isinstance(leaf, Tensor)]
    if not others:
        return tuple(leaves), spec
    for index, leaf in others:
        _adopt(what, index, leaf)
    return flatten(what, tree)


def tree_leaves(tree: Any, /) -> tuple[Any, ...]:
    """Return the leaves of a tree that was seen before."""
    if type(tree) is Tensor:
        return (tree,)
    return tuple(optree.tree_leaves(tree, namespace=NAMESPACE))


def refuse_constants(what: str, tree: Any, /) -> None:
    """Refuse constants where tensors are to be put together.

    Raises:
        TypeError: there is one.
    """
    if isinstance(tree, Tensor):
        return
    for index, leaf in enumerate(optree.tree_leaves(tree, is_leaf=_is_constant, namespace=NAMESPACE)):
        if _is_constant(leaf):
            raise TypeError(
                f"leaf {index} of {what} is a {type(leaf).__name__}; only tensors are allowed: "
                "wrap numbers in torch.tensor, keep constants out of it"
            )


def constants(spec: optree.PyTreeSpec, /) -> tuple[str, ...]:
    """Return the constants in a structure, as text."""
    return tuple(repr(node) for _, node in _nodes(spec)[0] if node is not _LEAF) if spec.namespace else ()


def changed_constant(before: optree.PyTreeSpec, after: optree.PyTreeSpec, /) -> str | None:
    """Say which constant differs between structures that are alike otherwise; ``None`` where something else does."""
    (old, outline), (new, other) = map(_nodes, (before, after))
    if outline != other:
        return None
    (path, was), (_, now) = next(pair for pair in zip(old, new, strict=True) if repr(pair[0][1]) != repr(pair[1][1]))
    return f"{_readable(now)} in place of {_readable(was)}, {path.codify('carry')}"


def _nodes(spec: optree.PyTreeSpec) -> tuple[list[tuple[optree.PyTreeAccessor, Any]], optree.PyTreeSpec]:
    """Return leaves and constants of a structure with their paths, and what is left of it."""
    tree: Any = spec.unflatten([_LEAF] * spec.num_leaves)
    paths, nodes, outline = optree.tree_flatten_with_accessor(tree, is_leaf=_is_constant, namespace=NAMESPACE)
    return list(zip(paths, nodes, strict=True)), outline


def _readable(node: Any) -> str:
    return "a tensor" if node is _LEAF else repr(node)


def _is_constant(node: Any) -> bool:
    return type(node) in _KINDS


def _adopt(what: str, index: int, leaf: Any) -> None:
    """Register a leaf's class as it is registered with torch's pytree.

    Raises:
        TypeError: it is not.
    """
    kind = type(leaf)
    functions = registered(kind)
    if functions is None:
        raise TypeError(
            f"leaf {index} of {what} is a {kind.__name__}; only tensors are allowed, and numbers, bools and strings, "
            f"which stay as they are: {_advice(leaf)}"
        )
    take_apart, put_together = functions

    def flattened(node: Any) -> tuple[Iterable[Any], Any]:
        children, context = take_apart(node)
        return tuple(children), context

    def unflattened(context: Any, children: Iterable[Any]) -> Any:
        return put_together(list(children), context)

    with suppress(ValueError):  # another thread was faster
        optree.register_pytree_node(kind, flattened, unflattened, namespace=NAMESPACE)


def _advice(leaf: Any) -> str:
    kind = type(leaf)
    if isinstance(leaf, type) or kind.__module__ in ("builtins", "numpy"):
        return "wrap what changes in torch.tensor, keep the rest out of it"
    if is_dataclass(leaf):
        return f"register its class, torch.export.register_dataclass({kind.__name__})"
    register = f"optree.register_pytree_node({kind.__name__}, flatten, unflatten, namespace={NAMESPACE!r})"
    return f"register its class, {register}"


def _same(node: Any) -> Any:
    return node


def _register(kind: type, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> None:
    optree.register_pytree_node(
        kind,
        lambda node: ((), pack(node)),
        lambda constant, nothing: unpack(constant),
        namespace=NAMESPACE,
    )


for _kind in _KINDS:  # numbers by their text, in which nan equals nan and 0.0 is not -0.0
    _register(_kind, repr if _kind in (float, complex) else _same, _kind)
