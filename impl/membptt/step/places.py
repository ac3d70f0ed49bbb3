"""Where modules keep state: buffers, and attributes that are or contain tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import optree
import torch
from torch import Tensor, nn

State = dict[str, Tensor]


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def find_places(module: nn.Module) -> Iterator[Place]:
    """Find every buffer and every attribute that holds a tensor which is not a parameter."""
    for prefix, owner in module.named_modules():
        attributes = [key for key in vars(owner) if key not in _OF_EVERY_MODULE]
        for is_buffer, keys in ((True, list(owner._buffers)), (False, attributes)):
            for key in keys:
                place = Place(f"{prefix}.{key}".lstrip("."), owner, key, is_buffer)
                if any(place.tensors()):
                    yield place


def refuse_shared(state: State) -> None:
    """Refuse two state tensors in the same memory: a change of one in place would not be seen in the other's copy."""
    by_memory: dict[int, str] = {}
    for name, tensor in state.items():
        other = by_memory.setdefault(tensor.untyped_storage().data_ptr(), name)
        if other != name and tensor.numel() > 0:
            raise ValueError(f"the state tensors {other!r} and {name!r} share memory; give one of them a copy")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module keeps a state: in a buffer, or in an attribute that is or contains tensors."""

    name: str
    owner: nn.Module
    key: str
    is_buffer: bool

    @property
    def namespace(self) -> dict[str, Any]:
        """The dict that holds it."""
        return self.owner._buffers if self.is_buffer else vars(self.owner)

    @property
    def value(self) -> Any:
        """What is there now."""
        return self.namespace.get(self.key)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the state tensors found here now, by name."""
        for name, leaf in self._leaves():
            if _is_state(leaf):
                yield name, leaf

    def constants(self) -> list[Any]:
        """Return what is found here beside state tensors."""
        return [leaf for _, leaf in self._leaves() if not _is_state(leaf)]

    def put(self, state: State) -> None:
        """Put the tensors of `state` here, in containers of their own; what is no state tensor stays."""
        names, leaves = zip(*self._leaves(), strict=True)
        made = [state.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
        whole = isinstance(self.value, Tensor)
        self.namespace[self.key] = made[0] if whole else optree.tree_structure(self.value).unflatten(made)

    def write(self, state: State) -> None:
        """Put the tensors of `state` here for good: a buffer that keeps its shape stays the same tensor."""
        value = state.get(self.name)
        if self.is_buffer and value is not None and self.value.shape == value.shape:
            with torch.no_grad():
                self.value.copy_(value)
        else:
            self.put(state)

    def _leaves(self) -> list[tuple[str, Any]]:
        if isinstance(self.value, Tensor):
            return [(self.name, self.value)]
        accessors, leaves, _ = optree.tree_flatten_with_accessor(self.value)
        return [(accessor.codify(self.name), leaf) for accessor, leaf in zip(accessors, leaves, strict=True)]


class Unlisted:
    """What a module holds beside its known state: a step that makes tensors of it has a state that was not found."""

    def __init__(self, module: nn.Module, known: Iterable[Place]) -> None:
        self._module = module
        self._known = {place.name for place in known}
        self._before = {owner: (dict(vars(owner)), dict(owner._buffers)) for owner in module.modules()}

    def restore(self) -> list[str]:
        """Undo such a change; return the names."""
        grown = [place for place in find_places(self._module) if place.name not in self._known]
        for place in grown:
            attributes, buffers = self._before.get(place.owner, ({}, {}))
            before = buffers if place.is_buffer else attributes
            if place.key in before:
                place.namespace[place.key] = before[place.key]
            else:
                del place.namespace[place.key]
        return [place.name for place in grown]


def _is_state(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)
