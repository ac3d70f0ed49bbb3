"""Where modules keep state: buffers, attributes that are or contain tensors, and plain objects that they hold."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import optree
import torch
from torch import Tensor, nn

from membptt.torch_private import buffers_of

State = dict[str, Tensor]

ABSENT: Final = object()  # what stands at a place that is not there
_UNKNOWN: Final = object()

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_CONTAINERS = frozenset({dict, OrderedDict, defaultdict, list, tuple, deque})
_NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}
_MANY: Final = 64  # longer containers, and larger objects, hold data
_NO_OBJECTS = (nn.Module, Tensor, type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, partial)
_WORDS = (type(None), str, bytes, *_NUMBERS, torch.Size, torch.dtype, torch.device)


def find_places(module: nn.Module) -> Iterator[Place]:
    """Find every buffer and every attribute of a module that holds a tensor which is not a parameter."""
    places = (place for place in all_places(module) if not place.is_inside)
    return (place for place in places if any(map(_is_state, leaves_of(place.value))))


def all_places(module: nn.Module) -> Iterator[Place]:
    """Yield every buffer and attribute, whatever it holds, and the attributes of plain objects, such as a cache."""
    yield from _places_of(module, "", set(), set())


def _places_of(module: nn.Module, name: str, modules: set[int], seen: set[int]) -> Iterator[Place]:
    modules |= {id(owner) for owner in module.modules()}
    for prefix, owner in module.named_modules(prefix=name):
        attributes = [key for key in vars(owner) if key not in _OF_EVERY_MODULE]
        # keys(): what a scripted module has in place of a dict does not iterate.
        for is_buffer, keys in ((True, list(buffers_of(owner).keys())), (False, attributes)):
            for key in keys:
                place = Place(f"{prefix}.{key}".lstrip("."), owner, key, is_buffer)
                yield place
                if not is_buffer:
                    yield from _places_inside(place.name, place.value, modules, seen)


def _places_inside(name: str, value: Any, modules: set[int], seen: set[int]) -> Iterator[Place]:
    if is_container(value) and len(value) <= _MANY:
        for inner, item in _named(name, value):
            yield from _places_inside(inner, item, modules, seen)
    elif isinstance(value, nn.Module):
        if id(value) not in modules:  # its owner does not register it
            yield from _places_of(value, name, modules, seen)
    elif _is_plain_object(value) and id(value) not in seen and len(seen) < _MANY:
        seen.add(id(value))
        for key in list(vars(value)):
            place = Place(f"{name}.{key}", value, key, is_buffer=False, is_inside=True)
            yield place
            yield from _places_inside(place.name, place.value, modules, seen)


def _is_plain_object(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, _NO_OBJECTS) and len(vars(value)) <= _MANY


def refuse_shared(state: State) -> None:
    """Refuse two state tensors in the same memory: a change of one in place would not be seen in the other's copy."""
    by_memory: dict[int, str] = {}
    for name, tensor in state.items():
        other = by_memory.setdefault(tensor.untyped_storage().data_ptr(), name)
        if other != name and tensor.numel() > 0:
            raise ValueError(f"the state tensors {other!r} and {name!r} share memory; give one of them a copy")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module keeps a state: in a buffer, or in an attribute, its own or that of an object it holds."""

    name: str
    owner: Any = field(compare=False)
    key: str
    is_buffer: bool
    is_inside: bool = False

    @property
    def namespace(self) -> dict[str, Any]:
        """The dict that holds it."""
        return buffers_of(self.owner) if self.is_buffer else vars(self.owner)

    @property
    def value(self) -> Any:
        """What is there now, or `ABSENT`."""
        namespace = self.namespace  # without get where the module is scripted
        return namespace[self.key] if self.key in namespace else ABSENT  # noqa: SIM401

    def put(self, value: Any) -> None:
        """Put `value` there, or nothing at all where it is `ABSENT`."""
        if value is ABSENT:
            self.namespace.pop(self.key, None)
        else:
            self.namespace[self.key] = value

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the state tensors found here now, by name."""
        return ((name, leaf) for name, leaf in _named(self.name, self.value) if _is_state(leaf))


class Frame:
    """What stands at a place around its states: containers, numbers, whatever does not change from step to step.

    Args:
        place: where.
        value: what is there now.
        names: of the tensors named so far. A tensor at two places is one state.
        before: what was there before the step. Numbers that are others now are states too; without it, none is.
    """

    def __init__(self, place: Place, value: Any, names: dict[int, str], before: Any = _UNKNOWN) -> None:
        self.place = place
        self._spec = optree.tree_structure(value) if is_container(value) else None
        then = dict(_named(place.name, before)) if before is not _UNKNOWN else None
        self._leaves = [_Slot.of(name, leaf, names, then) or leaf for name, leaf in _named(place.name, value)]
        self.slots = [leaf for leaf in self._leaves if isinstance(leaf, _Slot)]
        # Whether it can be put back and compared: of other objects nobody can tell whether they have changed.
        self.is_known = bool(self.slots) or all(isinstance(leaf, _WORDS) or leaf is ABSENT for leaf in self._leaves)

    def put(self, state: Mapping[str, Tensor]) -> None:
        """Put the states there, in containers of their own; what is no state stays as it is, where it fits."""
        rest = self._leaves
        if is_container(self.place.value):
            leaves, spec = optree.tree_flatten(self.place.value)
            rest = leaves if spec == self._spec else rest
        values = [
            leaf.unpacked(state[leaf.name]) if isinstance(leaf, _Slot) else other
            for leaf, other in zip(self._leaves, rest, strict=True)
        ]
        self.place.put(values[0] if self._spec is None else self._spec.unflatten(values))

    def write(self, state: Mapping[str, Tensor]) -> None:
        """Put the states there for good: a buffer that keeps its shape stays the same tensor."""
        value = self.place.value
        new = state[self.slots[0].name] if self.slots else None
        if self.place.is_buffer and new is not None and isinstance(value, Tensor) and value.shape == new.shape:
            with torch.no_grad():
                value.copy_(new)
        else:
            self.put(state)

    def read(self, into: State) -> bool:
        """Enter the states found there; return whether that is all that has changed."""
        value = self.place.value
        leaves, spec = optree.tree_flatten(value) if is_container(value) else ([value], None)
        if spec != self._spec:
            return False
        for leaf, kept in zip(leaves, self._leaves, strict=True):
            if not isinstance(kept, _Slot):
                if not _same(leaf, kept):
                    return False
            elif not kept.fits(leaf) or (kept.name in into and into[kept.name] is not leaf):
                return False
            else:
                into[kept.name] = kept.packed(leaf)
        return True


@dataclass(frozen=True, slots=True)
class _Slot:
    """A state's place among others in a container: its name, and the kind of a number that is kept as one."""

    name: str
    number: type | None

    @classmethod
    def of(cls, name: str, leaf: Any, names: dict[int, str], before: dict[str, Any] | None) -> _Slot | None:
        if _is_state(leaf):
            return cls(names.setdefault(id(leaf), name), None)
        if before is not None and type(leaf) in _NUMBERS and not _same(before.get(name, ABSENT), leaf):
            return cls(name, type(leaf))
        return None

    def fits(self, leaf: Any) -> bool:
        return _is_state(leaf) if self.number is None else type(leaf) is self.number

    def packed(self, leaf: Any) -> Tensor:
        return leaf if self.number is None else torch.tensor(leaf, dtype=_NUMBERS[self.number])

    def unpacked(self, tensor: Tensor) -> Any:
        return tensor if self.number is None else self.number(tensor.item())


def leaves_of(value: Any) -> Iterator[Any]:
    """Yield what containers hold, in no particular order: fast, since most hold no state at all."""
    pending = [value]
    for item in pending:
        if not is_container(item):
            yield item
        else:
            pending += item.values() if isinstance(item, dict) else item


def in_containers_of_its_own(value: Any, memo: dict[int, Any]) -> Any:
    """Copy containers, whatever lies in them stays; `memo` keeps those that were one from becoming two."""
    if not is_container(value):
        return value
    if id(value) not in memo:
        if isinstance(value, dict):
            memo[id(value)] = copy = value.copy()
            copy.update(
                (key, in_containers_of_its_own(item, memo)) for key, item in value.items() if is_container(item)
            )
        elif isinstance(value, tuple):
            items = [in_containers_of_its_own(item, memo) for item in value]
            memo[id(value)] = tuple(items) if type(value) is tuple else type(value)(*items)
        else:
            memo[id(value)] = copy = value.copy()
            for index, item in enumerate(value):
                copy[index] = in_containers_of_its_own(item, memo)
    return memo[id(value)]


def is_changed(before: Any, after: Any) -> bool:
    """Whether anything else lies there, at any depth of its containers."""
    if not (is_container(before) and is_container(after)):
        return before is not after
    then, now = list(leaves_of(before)), list(leaves_of(after))
    return len(then) != len(now) or any(before is not after for before, after in zip(then, now, strict=True))


def is_container(value: Any) -> bool:
    """Whether states are looked for inside."""
    return type(value) in _CONTAINERS or (isinstance(value, tuple) and optree.is_namedtuple(value))


def _is_state(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)


def _named(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not is_container(value):
        return [(name, value)]
    accessors, leaves, _ = optree.tree_flatten_with_accessor(value)
    return [(accessor.codify(name), leaf) for accessor, leaf in zip(accessors, leaves, strict=True)]


def _same(a: Any, b: Any) -> bool:
    """Whether two constants are the same: one object, or equal words, numbers and the like."""
    return a is b or (type(a) is type(b) and isinstance(a, _WORDS) and a == b)
