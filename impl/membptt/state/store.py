"""The stored states of one call."""

from __future__ import annotations

from dataclasses import dataclass, field

from membptt.state.states import Hidden, Internal


@dataclass(slots=True)
class Store:
    """The stored states of one call: hidden states by position, internal states by step."""

    hidden: dict[int, Hidden] = field(default_factory=dict)
    internal: dict[int, Internal] = field(default_factory=dict)

    def restore(self, position: int) -> Hidden:
        """Return the hidden state at `position`, stored by itself or as the output of an internal state."""
        state = self.hidden.get(position)
        if state is None:
            return self.internal[position - 1].output()
        state.check(position)
        return state

    def clear(self) -> None:
        """Let go of every stored state."""
        self.hidden.clear()
        self.internal.clear()
