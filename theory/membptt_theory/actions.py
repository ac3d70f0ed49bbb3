"""The instruction set: what a checkpoint schedule can tell a machine to do, and the units it is metered in.

A sequence has steps ``0 .. t-1`` and positions ``0 .. t``; step ``p`` maps the hidden state at position ``p`` to the
hidden state at position ``p + 1``. A machine has a *working state* (the hidden state at one position), a *working
core* (the internal state of one step, outside the budget), and *slots* of stored states.

An action is a frozen dataclass that keeps its fields as a tuple: a stream makes millions of them, and a tuple is made
by a call in C, in half the time.

Ref: gruslys2016, section 3 (hidden and internal states), appendix A (Algorithm 2).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Self


class _Action(tuple[int, ...]):
    """A tuple of places under the name of its kind; unequal to another kind and to a plain tuple of the same places."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other)

    __ne__ = object.__ne__
    __hash__ = tuple.__hash__

    def __getnewargs__(self) -> tuple[int, ...]:
        return tuple(self)


@dataclass(frozen=True, init=False, eq=False)
class _OfStep(_Action):
    __slots__ = ()

    step: int = property(itemgetter(0))  # type: ignore[assignment]

    def __new__(cls, step: int) -> Self:
        return tuple.__new__(cls, (step,))


@dataclass(frozen=True, init=False, eq=False)
class _OfPosition(_Action):
    __slots__ = ()

    position: int = property(itemgetter(0))  # type: ignore[assignment]

    def __new__(cls, position: int) -> Self:
        return tuple.__new__(cls, (position,))


@dataclass(frozen=True, init=False, eq=False)
class Advance(_Action):
    """Run steps ``start .. stop-1`` unrecorded, ``stop - start`` forwards; the working state moves to ``stop``."""

    __slots__ = ()

    start: int = property(itemgetter(0))  # type: ignore[assignment]
    stop: int = property(itemgetter(1))  # type: ignore[assignment]

    def __new__(cls, start: int, stop: int) -> Self:  # noqa: D102
        return tuple.__new__(cls, (start, stop))


class Record(_OfStep):
    """Run one step with its graph recorded: one forward. Its internal state becomes the working core."""

    __slots__ = ()


class Backpropagate(_OfStep):
    """Backpropagate the step in the working core, which is then empty. No forward."""

    __slots__ = ()


class StoreHidden(_OfPosition):
    """Copy the working state into a slot."""

    __slots__ = ()


class StoreInternal(_OfStep):
    """Move the working core into a slot. The working state stays where it is, at ``step + 1``."""

    __slots__ = ()


class Restore(_OfPosition):
    """Make a stored hidden state, or the output state of a stored internal state, the working state."""

    __slots__ = ()


class LoadInternal(_OfStep):
    """Move a stored internal state back into the working core; its slot is free again."""

    __slots__ = ()


class DropHidden(_OfPosition):
    """Free the slot of a stored hidden state."""

    __slots__ = ()


class DropInternal(_OfStep):
    """Free the slot of a stored internal state without backpropagating it."""

    __slots__ = ()


class ReduceInternal(_OfStep):
    """Turn a stored internal state into a hidden one: its graph is given up, the state it was recorded from remains."""

    __slots__ = ()


Action = (
    Advance
    | Record
    | Backpropagate
    | StoreHidden
    | StoreInternal
    | Restore
    | LoadInternal
    | DropHidden
    | DropInternal
    | ReduceInternal
)


class StoreSlow(_OfPosition):
    """Copy the working state into a slot of the slow tier: one write."""

    __slots__ = ()


class RestoreSlow(_OfPosition):
    """Make a hidden state of the slow tier the working state: one read."""

    __slots__ = ()


class DropSlow(_OfPosition):
    """Free a slot of the slow tier."""

    __slots__ = ()


TieredAction = Action | StoreSlow | RestoreSlow | DropSlow

# An action not yet constructed: its kind, and its fields in order.
Instruction = tuple[type[Action], tuple[int, ...]]
TieredInstruction = tuple[type[TieredAction], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Slots taken by each kind of stored state; ``None`` where a policy cannot store that kind.

    Args:
        hidden: slots of a hidden state. ``None``: the starting state is outside the budget (ISM).
        internal: slots of an internal state, the paper's alpha.
        internal_known: slots of an internal state whose input hidden state is stored as well, the paper's beta.
            ``None``: storage is never shared.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size is below 1, both kinds are ``None``, or ``internal_known`` exceeds ``internal``.

    Ref: gruslys2016, sections 3.3 and 3.4.
    """

    hidden: int | None
    internal: int | None
    internal_known: int | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "internal", "internal_known"):
            size = getattr(self, name)
            if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
                raise TypeError(
                    f"{name} must be an integer number of slots, got {size!r} of type {type(size).__name__}"
                )
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1 slot, got {size}")
        if self.hidden is None and self.internal is None:
            raise ValueError("a policy must be able to store hidden states, internal states, or both; got neither")
        if self.internal_known is not None and (self.internal is None or self.internal_known > self.internal):
            raise ValueError(
                f"internal_known must be between 1 and internal ({self.internal}), got {self.internal_known}: "
                "knowing the input hidden state cannot make an internal state larger"
            )


@dataclass(frozen=True, slots=True)
class Prices:
    """What two-tier schedules are charged, in a common integer unit: a time of 2.5 forwards is 5 where a forward is 2.

    Args:
        forward: cost of one step forward.
        write: cost of a store to the slow tier.
        read: cost of a restart from the slow tier.

    Raises:
        TypeError: a price is not an integer.
        ValueError: ``forward < 1``, or a negative price.
    """

    forward: int = 1
    write: int = 0
    read: int = 0

    def __post_init__(self) -> None:
        for name, least in (("forward", 1), ("write", 0), ("read", 0)):
            price = getattr(self, name)
            if not isinstance(price, int) or isinstance(price, bool):
                raise TypeError(f"{name} must be an integer, got {price!r} of type {type(price).__name__}")
            if price < least:
                raise ValueError(f"{name} must be at least {least}, got {price}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a chain: its costs, in any common integer unit, and its bytes.

    Args:
        advance: cost of a forward without graph, at least 1.
        record: cost of a forward with graph, at least 1.
        backward: cost of a backward.
        output: bytes of what it hands to the next block, each tensor once.
        internal: bytes of its graph, beside its input and its output.
        advance_need: bytes that a forward without graph needs on top of its input and its output.
        record_need: bytes that a forward with graph needs on top of its input, its graph and its output.
        backward_need: bytes that a backward needs on top of its input, its graph, its output and its output's
            gradient; the gradient of its input is among them.
        gradient: bytes of its output's gradient, of each of its tensors one; ``None``: as many as of the output.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is out of range.
    """

    advance: int = 1
    record: int = 1
    backward: int = 0
    output: int
    internal: int
    advance_need: int = 0
    record_need: int = 0
    backward_need: int = 0
    gradient: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "gradient":
                continue
            least = 1 if field.name in ("advance", "record") else 0
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field.name} must be an integer, got {value!r} of type {type(value).__name__}")
            if value < least:
                raise ValueError(f"{field.name} must be at least {least}, got {value}")

    @property
    def output_gradient(self) -> int:
        """Bytes of its output's gradient."""
        return self.output if self.gradient is None else self.gradient


@dataclass(frozen=True, slots=True)
class Skip:
    """A tensor that several states of a chain hold: the blocks between them hand it on as it is.

    Args:
        first: position of the first state that holds it. At 0 it is the caller's, and takes no bytes.
        last: position of the last state that holds it, after `first`.
        bytes: its size, which is counted in the output of every block that hands it on.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a negative number, or no other state than the first holds it.
    """

    first: int
    last: int
    bytes: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field.name} must be an integer, got {value!r} of type {type(value).__name__}")
        if not 0 <= self.first < self.last or self.bytes < 0:
            raise ValueError(f"a skip has 0 <= first < last and bytes of at least 0, got {self}")
