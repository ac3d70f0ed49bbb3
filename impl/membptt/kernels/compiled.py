"""Cores compiled by `torch.compile`: a whole chunk of steps becomes one kernel call, where a compiler is found."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence, Set
from functools import lru_cache, partial
from types import FunctionType
from typing import Any, Literal

import torch

from membptt.kernels.graphs import Captured, Chunk
from membptt.torch_private import compile_graph, inductor_options

Compile = bool | Literal["graphs"]


class CannotJoin(Exception):
    """Cores of this step are to be recorded."""


def compile_chunk(
    step: Callable[..., Any], devices: Set[torch.device], chunk: int = 1, how: Compile = True
) -> Chunk | None:
    """Return the loop over `step` compiled; ``None`` if that is not wanted, or, with a warning, not possible here.

    With ``"graphs"``, cores without graph are also captured, and replayed where that proves equal and faster. Results
    are kept for the steps and chunks last used: hand the same object to every call, or every call compiles anew. Each
    chunk is a function of its own, since the compiler bounds the shapes that one is compiled for. Use what a core
    returns, except the carry, before the next core runs: its memory is then written to again.

    Raises:
        ValueError: `how` is something else, or there are graphs to be captured beside one CUDA device.
    """
    if how is False:
        return None
    if how is not True and how != "graphs":
        raise ValueError(f"compile is True, False or 'graphs', got {how!r}")
    kinds = sorted({device.type for device in devices})
    capture = how == "graphs"
    if capture and (kinds != ["cuda"] or len(devices) > 1):
        where = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"compile='graphs' is for one CUDA device, and there is {where}: give compile=True")
    for kind in kinds:
        problem = _problem(kind)
        if problem is not None:
            warnings.warn(f"compile=True has no effect: torch.compile fails for {kind} ({problem})", stacklevel=3)
            return None
    key = step, chunk, capture
    try:
        known = _compiled.pop(key, None)
    except TypeError:  # not hashable
        return _compile(step, capture=capture)
    # What compiles a step refers to it: only a bound releases the steps that are created anew for every call.
    kernel = _compiled[key] = known or _compile(step, capture=capture)
    if len(_compiled) > _REMEMBERED:
        _compiled.popitem(last=False)
    return kernel


def _compile(step: Callable[..., Any], *, capture: bool) -> Chunk:
    plain: Chunk = torch.compile(loop_of(step), dynamic=False, options=compile_options())
    options = capture_options() if capture else None
    if options is None:
        return plain
    # fullgraph: a call that fails has run nothing yet, so the plain core can take its place. As a backend, since
    # torch.compile's own options= takes no policy.
    backend = partial(compile_graph(), config_patches=options)
    return Captured(plain, torch.compile(loop_of(step), dynamic=False, fullgraph=True, backend=backend))


def compile_options() -> dict[str, Any]:
    """Return what `torch.compile` gets as ``options`` for a core."""
    from membptt.kernels.merging import MergeProducts  # noqa: PLC0415  (Inductor takes a second to import)

    # fallback_random: compiled kernels draw the random numbers that eager ones draw, with and without graph.
    # No graphs of Inductor's own, which a user may have switched on: they overwrite what is stored here.
    options: dict[str, Any] = {"fallback_random": True, "triton.cudagraphs": False}
    if inductor_options().post_grad_custom_pre_pass is None:  # a pass that the user has set goes first
        options["post_grad_custom_pre_pass"] = MergeProducts()
    return options


def capture_options() -> dict[str, Any] | None:
    """Return the same for a core that is captured; ``None`` where this torch cannot capture one safely."""
    config = inductor_options()
    # A captured core reads parameters where they were; that they still are is one of these assertions.
    if not (config.size_asserts and __debug__ and hasattr(config, "cudagraph_policy")):
        return None
    from membptt.kernels.workspaces import OwnWorkspaces  # noqa: PLC0415

    # Not the trees: their memory is shared with the user's own captured functions, whose outputs a replay of ours
    # would overwrite. Without them every function has memory of its own, and one graph or none.
    return compile_options() | {
        "triton.cudagraphs": True,
        "triton.cudagraph_trees": False,
        "graph_partition": False,
        "cudagraph_policy": OwnWorkspaces(),
    }


def loop_of(step: Callable[..., Any]) -> Chunk:
    """Return the loop over `step`, as a function with a code object of its own."""

    def loop(carry: Any, parts: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        ys = []
        for x in parts:
            carry, y = step(carry, x)
            ys.append(y)
        return carry, ys

    # A code object of its own: the compiler counts recompilations by code object, and steps must not share a limit.
    return FunctionType(loop.__code__.replace(), loop.__globals__, loop.__name__, None, loop.__closure__)


@lru_cache(maxsize=8)
def _problem(kind: str) -> str | None:
    """Compile a trivial function; return what went wrong."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=kind))
    except Exception as error:
        return type(error).__name__
    return None


_REMEMBERED = 64
_compiled: OrderedDict[tuple[Callable[..., Any], int, bool], Chunk] = OrderedDict()
