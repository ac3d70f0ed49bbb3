"""The public call for loops of unknown length: a body for as long as a condition holds, in a budget of slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from membptt.calls.execute import execute
from membptt.kernels.compiled import Compile
from membptt.planning.choice import from_loop
from membptt.run.condition import Condition
from membptt.run.inputs import Inputs
from membptt.run.problem import Problem
from membptt.run.progress import Progress
from membptt.state.trees import flatten
from membptt.step.declared import Params, declared_by
from membptt.step.refusals import refuse_cache, refuse_wrapped
from membptt.torch_private import untraced
from membptt_theory.tables import check_count

Carry = TypeVar("Carry")


@untraced
def while_loop(
    cond: Callable[[Carry], Tensor | bool],
    body: Callable[[Carry], Carry],
    init: Carry,
    *,
    slots: int | None = None,
    budget: int | str | None = None,
    internal: int | bool | None = None,
    params: Params | None = None,
    max_steps: int | None = None,
    strict: bool = True,
    preserve_rng_state: bool = True,
    compile: Compile = False,
    check: bool | None = None,
    progress: Progress = None,
) -> tuple[Carry, int]:
    """Apply `body` while `cond` holds, and make the result differentiable within a budget of slots or bytes.

    Computes ``while cond(carry): carry = body(carry)`` and returns the carry and how many steps there were, which
    nobody needs to know in advance. States are stored by an online policy on the way, and backpropagation recomputes
    the others: ``membptt_theory.online.cost(steps, slots)`` evaluations of `body` in all, forward and backward, at
    most ``membptt_theory.online.promise(slots)`` times those of a loop whose length was known. Memory does not grow
    with the number of steps. The newest step's graph is kept, so that the last step is never run twice.

    With `internal`, the graphs of further steps are kept too, all of them while they fit: a short loop then costs what
    it costs under plain autograd, and a longer one turns its graphs into hidden states, a few at a time. `body` is
    evaluated ``online.cost(steps, slots, internal=internal)`` times in all: from five slots on within 21/20 of the
    offline optimum wherever that was counted, but no bound is promised for every length, and once the slots are full
    the policy's own work at a step of the first such loop grows with them.

    Args:
        cond: ``cond(carry)`` gives a bool, or a tensor of one without dimensions. It is evaluated once before every
            step, and never again; it takes no gradient, and what it uses need not be declared. What it is to count or
            to draw belongs into the carry. On an accelerator, every answer waits for the device.
        body: ``body(carry) -> carry``. A function, a module, or a module's method; the same structure, shapes and
            dtypes at every step; no in-place change of what it is given.
        init: starting carry, any pytree of tensors. What the first step makes is ``None`` in it.
        slots: hidden states that may be stored, ``m >= 1``, the starting one included. Either `slots` or `budget`.
        budget: bytes for stored states and one working core (a step's graph, its input and its output), or text such
            as ``"64MiB"``. The second step is weighed as it runs, so that no length and no trial run is needed; a body
            whose later steps need more than that goes beyond the budget by as much.
        internal: with `slots`, how many of them the graph of one step takes, with its input and its output: alpha, at
            least 2. With `budget`, ``True``: what a graph takes is weighed, and one must fit beside the working core.
            ``None``: hidden states only.
        params: as for `scan`: what `body` uses, beside the parameters of the module that it is or belongs to.
        max_steps: the most steps; ``None`` for any number.
        strict: whether a loop that is not over after `max_steps` is an error; ``False`` returns what was reached.
        preserve_rng_state: as for `scan`.
        compile: as for `scan`; `cond` is not compiled.
        check: as for `scan`.
        progress: as for `scan`; `total` is 0 in the first pass.

    Returns:
        The final carry, and the number of steps. Without a single step, the carry is `init`.

    Raises:
        TypeError: a leaf is not a tensor, `cond` gives no bool, neither or both of `slots` and `budget` are given, a
            number is not an integer, or `body` contains a data-parallel wrapper.
        ValueError: no slot, ``internal < 2``, ``max_steps < 1``, too small a budget (the smallest feasible one is
            named), a carry that changes structure, shape or dtype, or an undeclared tensor that requires grad.
        RuntimeError: `max_steps` are over and `cond` still holds; `cond` and `body` draw from one generator; and as
            `scan`. After an error in `cond` or `body`, nothing is kept.

    Ref: the online policies of `membptt_theory.online`; wang2009 and stumm2010 for loops of unknown length.
    Claim: while-forwards-equal-online-cost, while-gradients-equal-autograd, while-internal-states.
    """
    most = check_count("max_steps", max_steps) if max_steps is not None else None
    refuse_cache()
    carry, spec = flatten("init", init)
    problem = Problem(_Step(body), spec, carry, Inputs.nothing(), declared_by(body, params), segments=False)
    refuse_wrapped(body, problem.reach.named if torch.is_grad_enabled() else ())
    choice = from_loop(problem, Condition(cond, most, strict=strict), slots, budget, internal=internal)
    after, _ = execute(
        problem,
        choice,
        reduce=None,
        preserve_rng_state=preserve_rng_state,
        compile=compile,
        check=check,
        progress=progress,
    )
    return after, choice.course.cores


@dataclass(frozen=True, slots=True)
class _Step:
    """A body as a step without inputs and outputs; equal to that of the same body, so that it is compiled once."""

    body: Callable[[Any], Any]

    @property
    def __func__(self) -> Callable[[Any], Any]:  # by whose code it is known, as a method is
        return self.body

    def __call__(self, carry: Any, nothing: Any) -> tuple[Any, Any]:
        return self.body(carry), nothing
