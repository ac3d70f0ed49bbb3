"""Cores compiled by `torch.compile`: a whole chunk of steps becomes one kernel call, where a compiler is found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch

Chunk = Callable[[Any, Sequence[Any]], tuple[Any, Sequence[Any]]]


def compile_chunk(step: Callable[..., Any], devices: set[torch.device]) -> Chunk | None:
    """Return the loop over `step` compiled, or ``None``, with a warning, where this machine cannot compile.

    The result is kept as long as the step lives: hand the same object to every call, or every call compiles anew.
    """
    for kind in sorted({device.type for device in devices}):
        problem = _problem(kind)
        if problem is not None:
            warnings.warn(f"compile=True has no effect: torch.compile fails for {kind} ({problem})", stacklevel=3)
            return None
    try:
        found = _compiled.get(step)
    except TypeError:  # not weakly referable, a bound method's partial for example
        return _compile(step)
    if found is None:
        found = _compiled[step] = _compile(step)
    return found


def _compile(step: Callable[..., Any]) -> Chunk:
    def loop(carry: Any, parts: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        ys = []
        for x in parts:
            carry, y = step(carry, x)
            ys.append(y)
        return carry, ys

    # A code object of its own: the compiler counts recompilations by code object, and steps must not share a limit.
    own = FunctionType(loop.__code__.replace(), loop.__globals__, loop.__name__, None, loop.__closure__)
    # fallback_random: compiled kernels draw the random numbers that eager ones draw, with and without graph.
    compiled: Chunk = torch.compile(own, dynamic=False, options={"fallback_random": True})
    return compiled


@lru_cache(maxsize=8)
def _problem(kind: str) -> str | None:
    """Compile a trivial function; return what went wrong."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=kind))
    except Exception as error:
        return type(error).__name__
    return None


_compiled: WeakKeyDictionary[Any, Chunk] = WeakKeyDictionary()
