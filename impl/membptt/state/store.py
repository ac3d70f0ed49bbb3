"""The stored states of one call."""

from __future__ import annotations

from dataclasses import dataclass, field

from membptt.state.states import Hidden, Internal


@dataclass(slots=True)
class Store:
    """The stored states of one call: hidden states by position, internal states by step."""

    hidden: dict[int, Hidden] = field(default_factory=dict)
    internal: dict[int, Internal] = field(default_factory=dict)

    def clear(self) -> None:
        """Let go of every stored state."""
        self.hidden.clear()
        self.internal.clear()
