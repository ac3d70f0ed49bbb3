"""Whether a `while_loop` goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from membptt.run.core import Core
from membptt.state.states import Hidden, RandomState
from membptt.torch_private import is_transformed


class Condition:
    """Asks a caller's condition, once a step, without graph.

    Args:
        cond: ``cond(carry)``.
        max_steps: the most steps; ``None`` for any number.
        strict: whether a loop that is not over by then is an error, instead of cut short.
    """

    def __init__(self, cond: Callable[[Any], Any], max_steps: int | None, *, strict: bool) -> None:
        self._cond = cond
        self._max_steps = max_steps
        self._strict = strict
        self._random: RandomState = ()
        self._by_cond: set[int] = set()
        self._by_body: set[int] = set()

    def __call__(self, step: int, state: Hidden, core: Core) -> bool:
        """Whether there is a step `step`, from `state`.

        Raises:
            TypeError: `cond` gives neither a bool nor a tensor of one.
            RuntimeError: `max_steps` are over; `cond` changed the carry, or draws random numbers as the body does.
        """
        full = self._max_steps is not None and step >= self._max_steps
        if full and not self._strict:
            return False
        with torch.no_grad():
            answer = self._cond(core.carry(state, step))
            goes_on = _truth(answer)
        state.check(step)
        self._follow(step, state, core)
        if full and goes_on:
            raise RuntimeError(
                f"cond still holds after max_steps={self._max_steps} steps: give more, let cond end the loop earlier, "
                "or take the carry that was reached with strict=False"
            )
        return goes_on

    def _follow(self, step: int, state: Hidden, core: Core) -> None:
        """See that random numbers that `cond` draws leave those of the body alone: recomputations do not ask it."""
        before, now = state.random, core.random()
        if step == 0:
            self._random = before
        if len(before) != len(now) or not self._random:
            return  # the loop runs without graph, or nothing is followed
        self._by_body |= _drawn(self._random, before)
        self._by_cond |= _drawn(before, now)
        if self._by_body & self._by_cond:
            raise RuntimeError(
                "cond and body both draw random numbers from the same generator, and a recomputation, which does not "
                "ask cond, would draw others: draw in body what cond is to look at, and hand it on in the carry"
            )
        state.random = self._random = now


_MANY: Final = (
    "cond has an answer for each element that torch.func.vmap maps over, and a loop takes one: map inside body, and "
    "let cond reduce the answers with .any() or .all()"
)


def _drawn(before: RandomState, now: RandomState) -> set[int]:
    """Return which generators were drawn from."""
    return {index for index, pair in enumerate(zip(before, now, strict=True)) if pair[0] is not pair[1]}


def _truth(answer: object) -> bool:
    if isinstance(answer, bool):
        return answer
    if isinstance(answer, Tensor) and answer.dtype is torch.bool and answer.dim() == 0:
        try:
            return bool(answer)
        except RuntimeError as error:  # what is mapped has as many answers
            if not is_transformed():
                raise
            raise RuntimeError(_MANY) from error
    what = f"a tensor of shape {tuple(answer.shape)} and {answer.dtype}" if isinstance(answer, Tensor) else repr(answer)
    raise TypeError(
        f"cond must return a bool, or a tensor of one without dimensions, got {what}: reduce a tensor with .any() or "
        ".all(), compare a number with something"
    )
