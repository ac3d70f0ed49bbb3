"""The training mode of the modules that a step reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from membptt.step.reach import reached_by


@dataclass(frozen=True, slots=True)
class Modes:
    """Which of the step's modules were in training mode in the first pass."""

    modules: tuple[tuple[nn.Module, bool], ...]

    @classmethod
    def of(cls, step: Callable[..., Any]) -> Modes:
        """Take note of every module that `step` is or names, and of those below it."""
        named = [value for _, value in reached_by(step) if isinstance(value, nn.Module)]
        return cls(tuple((module, module.training) for one in named for module in one.modules()))

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Switch modules that were switched since, and back again."""
        changed = [(module, mode) for module, mode in self.modules if module.training != mode]
        try:
            for module, mode in changed:
                module.training = mode
            yield
        finally:
            for module, mode in changed:
                module.training = not mode
