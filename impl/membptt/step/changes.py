"""Notices a step that changes what a recomputation reads again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from membptt.state.leaves import bits
from membptt.step.places import find_places
from membptt.step.reach import reached_by


class Unchanged:
    """Notices a step that writes to what is read again by every recomputation: the inputs and the parameters."""

    def __init__(self, xs: Sequence[Tensor], params: Sequence[Tensor]) -> None:
        self._inputs = len(xs)
        # What was made in inference mode has no counter.
        self._tensors = [tensor for tensor in (*xs, *params) if not tensor.is_inference()]
        self._before = [tensor._version for tensor in self._tensors]

    def check(self) -> None:
        """Refuse a change since construction.

        Raises:
            RuntimeError: a tensor was changed in place.
        """
        now = [tensor._version for tensor in self._tensors]
        if now != self._before:
            index = next(index for index, pair in enumerate(zip(now, self._before, strict=True)) if pair[0] != pair[1])
            what = f"leaf {index} of xs" if index < self._inputs else f"parameter {index - self._inputs}"
            raise RuntimeError(
                f"{what}, of shape {tuple(self._tensors[index].shape)}, was changed in place while the step ran, and a "
                "recomputation would read the changed values; let the step work on a copy"
            )


class StateGuard:
    """Notices a step that keeps state outside the carry: every recomputation would update that state again.

    Watched are buffers and attributes that are or contain tensors, of every module that the step is or names and of
    the modules below it: by identity, by in-place counter, and by value, since some kernels write without counting.
    Tensors that the step names outside modules are watched by identity and counter.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        # One list: a step and its helper may each name another tensor alike.
        self._before = [
            (name, tensor, _version(tensor), tensor.detach().clone() if inside else None)
            for name, tensor, inside in states_of(self._step)
        ]

    def check(self) -> None:
        """Refuse a change since construction.

        Raises:
            RuntimeError: names the buffer, attribute or variable.
        """
        after = {(name, id(tensor)): inside for name, tensor, inside in states_of(self._step)}
        for name, tensor, version, value in self._before:
            if (
                (name, id(tensor)) not in after
                or _version(tensor) != version
                or not (value is None or _same(tensor, value))
            ):
                raise RuntimeError(_updates(name))
        known = {(name, id(tensor)) for name, tensor, *_ in self._before}
        for one, inside in after.items():
            if inside and one not in known:  # a state that was a number, or nothing, before the first step
                raise RuntimeError(_updates(one[0]))


def states_of(step: Callable[..., Any]) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield every tensor that is reached and no module's parameter: its name, and whether it lies inside a module."""
    for prefix, value in reached_by(step):
        if isinstance(value, nn.Module):
            for place in find_places(value):
                yield from ((f"{prefix}.{name}".lstrip("."), tensor, True) for name, tensor in place.tensors())
        else:
            yield prefix, value, False


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, where a NaN is equal to itself."""
    return torch.equal(one, other) or bool(one.layout is torch.strided and torch.equal(bits(one), bits(other)))


def _updates(name: str) -> str:
    return (
        f"the step updates {name!r}, a state inside its module or beside it; a recomputed step would update it again. "
        "Hand that state on in the carry (membptt.Stateful does it for modules), or put the module into eval mode"
    )


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
