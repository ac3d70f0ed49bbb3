"""What a step's code can reach by name: modules and tensors of its closure, its globals, its object, its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dis import get_instructions
from functools import lru_cache, partial
from inspect import getattr_static
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_MANY = 64  # longer containers hold data


def reached_by(step: Callable[..., Any], /) -> Iterator[tuple[str, nn.Module | Tensor]]:
    """Yield modules and tensors that `step` names, with the names it gives them; the empty name for `step` itself.

    Followed are closures, globals, defaults, helper functions of the same file, what a partial binds, containers, and
    the attributes of an object whose method it is or that it names. What a module contains is not listed.
    """
    pending: list[tuple[str, Any]] = [("", step)]
    seen: set[int] = set()
    for name, value in pending:
        if id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, nn.Module | Tensor):
                yield name, value
            else:
                pending += _inside(name, value)


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
        case list() | tuple():
            yield from _numbered(name, value)
        case dict():
            if len(value) <= _MANY:
                yield from ((f"{name}[{key!r}]", one) for key, one in value.items())
        case type() | ModuleType():
            pass
        case _:
            if "." not in name:
                yield from ((f"{name}.{key}".lstrip("."), one) for key, one in _attributes(value))
                if not name:
                    yield "", getattr_static(value, "__call__", None)


def _numbered(name: str, values: list[Any] | tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    if len(values) <= _MANY:
        yield from ((f"{name}[{index}]", one) for index, one in enumerate(values))


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    defaults = function.__defaults__ or ()
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if not isinstance(value, FunctionType) or value.__globals__ is function.__globals__:
            yield name, value


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    state: Any = object.__getstate__(value)  # the dict; where there are __slots__ too, a pair of dicts
    for part in state if isinstance(state, tuple) else (state,):
        yield from (part or {}).items()


@lru_cache(maxsize=256)
def _names(code: CodeType) -> tuple[str, ...]:
    """Return the globals that `code` reads or writes; `co_names` lists attributes among them."""
    found = [one.argval for one in get_instructions(code) if "GLOBAL" in one.opname or one.opname == "LOAD_NAME"]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += _names(constant)
    return tuple(dict.fromkeys(found))
