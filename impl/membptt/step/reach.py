"""What a step's code can reach by name: modules and tensors of its closure, its globals, its object, its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dis import get_instructions
from functools import lru_cache, partial
from inspect import getattr_static
from itertools import islice
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

from torch import Tensor, nn

from membptt.step.blocks import Blocks

_MANY = 64  # longer containers hold data
_MOST = 4096  # things that are looked at

_LISTED = (nn.Module, Tensor)

Named = tuple[tuple[str, nn.Module | Tensor], ...]


class Reach(NamedTuple):
    """What a step names.

    Args:
        named: modules and tensors, with the names that the step gives them; the empty name for the step itself.
        functions: the functions among which its code is spread.
    """

    named: Named
    functions: tuple[FunctionType, ...]


def reach(step: Callable[..., Any], /) -> Reach:
    """Return what `step` names.

    Followed are closures, globals, defaults, helper functions of the same file, what a partial binds, containers, and
    the attributes of an object whose method it is or that it names. What a module contains is not listed. Only so much
    is looked at: what a step holds as data costs nothing.
    """
    pending: list[tuple[str, Any]] = [("", step)]
    seen: set[int] = set()
    named: list[tuple[str, nn.Module | Tensor]] = []
    functions: list[FunctionType] = []
    for name, value in pending:
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _LISTED):
            named.append((name, value))
            continue
        if isinstance(value, FunctionType):
            functions.append(value)
        if len(pending) < _MOST:
            pending += islice(_inside(name, value), _MOST)
    return Reach(tuple(named), tuple(functions))


class Variable(NamedTuple):
    """A variable of a function's closure or globals.

    Args:
        name: in the source.
        place: the cell, or the dict of globals.
        written: whether some function of the step assigns to it.
    """

    name: str
    place: CellType | dict[str, Any]
    written: bool

    def read(self) -> Any:
        """Return its value, or `UNSET`."""
        if isinstance(self.place, dict):
            return self.place.get(self.name, UNSET)
        try:
            return self.place.cell_contents
        except ValueError:
            return UNSET

    def assign(self, value: Any) -> None:
        """Let it be `value`, or unset."""
        if self.read() is value:
            return
        if isinstance(self.place, dict):
            if value is UNSET:
                self.place.pop(self.name, None)
            else:
                self.place[self.name] = value
        elif value is UNSET:
            del self.place.cell_contents
        else:
            self.place.cell_contents = value


UNSET: Final = object()


def variables_of(functions: Iterable[FunctionType], /) -> list[Variable]:
    """Return the variables that functions find in their closures and globals, each once."""
    variables: dict[tuple[int, str], Variable] = {}
    for function in functions:
        code, known = function.__code__, function.__globals__
        stored = _stored(code)
        places: list[tuple[str, CellType | dict[str, Any], bool]]
        places = [(name, cell, True) for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)]
        places += [(name, known, False) for name in _names(code)]
        for name, place, closed in places:
            if closed or name in known:
                key = id(place), "" if closed else name
                before = variables.get(key)
                written = (name, closed) in stored or (before is not None and before.written)
                variables[key] = Variable(name, place, written)
    return list(variables.values())


@lru_cache(maxsize=256)
def _stored(code: CodeType) -> frozenset[tuple[str, bool]]:
    """Return the variables outside it that `code` assigns to: names, and whether they lie in its closure."""
    free = set(code.co_freevars)
    stored: set[tuple[str, bool]] = set()
    for instruction in get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_NAME"):
            stored.add((instruction.argval, False))
        elif instruction.opname in ("STORE_DEREF", "DELETE_DEREF") and instruction.argval in free:
            stored.add((instruction.argval, True))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            stored |= {(name, closed) for name, closed in _stored(constant) if not closed or name in free}
    return frozenset(stored)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case FunctionType():
            yield from _variables(value)
        case MethodType():
            yield name, value.__self__
            yield "", value.__func__
        case partial():
            yield "", value.func
            yield from _numbered("argument", value.args)
            yield from value.keywords.items()
        case Blocks():
            yield from ((f"blocks[{number}]", block) for number, block in enumerate(value.blocks))
        case list() | tuple():
            yield from _numbered(name, value)
        case dict():
            if len(value) <= _MANY:
                yield from ((f"{name}[{key!r}]", item) for key, item in value.items())
        case type() | ModuleType():
            pass
        case _:
            if "." not in name:
                yield from ((f"{name}.{key}".lstrip("."), item) for key, item in _attributes(value))
                if not name:
                    yield "", getattr_static(value, "__call__", None)


def _numbered(name: str, values: list[Any] | tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    if len(values) <= _MANY:
        yield from ((f"{name}[{index}]", item) for index, item in enumerate(values))


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code, known = function.__code__, function.__globals__
    if defaults := function.__defaults__:
        positional = code.co_varnames[: code.co_argcount]
        yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    if function.__kwdefaults__:
        yield from function.__kwdefaults__.items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    for name in _names(code):
        value = known.get(name)
        if not isinstance(value, FunctionType) or value.__globals__ is known:
            yield name, value


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    state: Any = object.__getstate__(value)  # the dict; where there are __slots__ too, a pair of dicts
    for part in state if isinstance(state, tuple) else (state,):
        yield from (part or {}).items()


@lru_cache(maxsize=256)
def _names(code: CodeType) -> tuple[str, ...]:
    """Return the globals that `code` reads or writes; `co_names` lists attributes among them."""
    names = [
        instruction.argval
        for instruction in get_instructions(code)
        if "GLOBAL" in instruction.opname or instruction.opname == "LOAD_NAME"
    ]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += _names(constant)
    return tuple(dict.fromkeys(names))
