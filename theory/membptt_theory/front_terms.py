"""What the equation of `front.py` counts: the cost of each block, and the bytes that are alive beside each move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

from membptt_theory.actions import Block
from membptt_theory.front_parts import BYTES


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The terms of the equation between fronts, one entry a block; made by `everything_alive`.

    Args:
        advance: cost of a forward without graph.
        backpropagate: cost of a forward with graph and the backward.
        output: bytes that the stored output takes from the part after it.
        carried: the same where it is handed on and not stored, at most `output`.
        internal: bytes that the stored internal state takes from the part after it.
        gradient: bytes of the output's gradient, alive while a part that ends there is solved.
        recorded: bytes while the block is recorded, on top of the gradient that waits.
        backward: bytes while it goes backward.
        first: bytes while it is advanced over at the start of a part, on top of the gradient that waits.
        passed: the same at any other place.

    Raises:
        ValueError: empty, of unequal lengths, a negative number, or numbers too large for exact arithmetic.
    """

    advance: tuple[int, ...]
    backpropagate: tuple[int, ...]
    output: tuple[int, ...]
    carried: tuple[int, ...]
    internal: tuple[int, ...]
    gradient: tuple[int, ...]
    recorded: tuple[int, ...]
    backward: tuple[int, ...]
    first: tuple[int, ...]
    passed: tuple[int, ...]

    def __post_init__(self) -> None:
        if len({len(terms) for terms in self.terms()}) != 1 or not len(self):
            raise ValueError(f"every term needs one entry a block, got {[len(terms) for terms in self.terms()]}")
        if any(value < 0 for terms in self.terms() for value in terms):
            raise ValueError("costs and bytes must be at least 0")
        if any(carried > output for carried, output in zip(self.carried, self.output, strict=True)):
            raise ValueError("what is handed on without being stored cannot take more than what is stored")
        if sum(sum(terms) for terms in self.terms()[2:]) >= 2**BYTES:
            raise ValueError(f"all the bytes of a chain must stay below 2**{BYTES}")
        if len(self) * sum(self.advance) + sum(self.backpropagate) >= 2**60 or len(self) >= 2 ** (62 - BYTES):
            raise ValueError(f"a chain must have fewer than {2 ** (62 - BYTES)} blocks and cost less than 2**60")

    def __len__(self) -> int:
        return len(self.advance)

    def terms(self) -> tuple[tuple[int, ...], ...]:
        """Return the terms, costs first."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def returning(self, returned: int, /) -> Recurrence:
        """Return the same where what the last block gives is handed to a caller, who gives its gradient in return.

        Both are alive to the end: the gradient here, from the first backward on; what was handed out, of as many
        bytes, on top of all budgets.
        """
        last = len(self) - 1
        return replace(
            self,
            gradient=tuple(held + returned * (i < last) for i, held in enumerate(self.gradient)),
            backward=tuple(held + returned * (i < last) for i, held in enumerate(self.backward)),
        )

    def around(self, start: int, stop: int, /) -> int:
        """Return the bytes while block `start` is recorded and while it goes backward, in the part up to `stop`."""
        return max(self.recorded[start] + self.gradient[stop - 1], self.backward[start])

    def run(self, start: int, stop: int, /) -> list[int]:
        """Return for ``k = start+1 .. stop-1`` the bytes while blocks ``start .. k-1`` are advanced over there."""
        peaks = accumulate((self.first[start], *self.passed[start + 1 : stop - 1]), max)
        return [peak + self.gradient[stop - 1] for peak in peaks]


def everything_alive(blocks: Sequence[Block], /) -> Recurrence:
    """Return the recurrence in which the peak is the peak of everything that is alive.

    Raises:
        ValueError: no blocks, or numbers too large for exact arithmetic.
    """
    if not blocks:
        raise ValueError("a chain needs at least one block")
    output = tuple(block.output for block in blocks)
    own = tuple(block.internal + block.output for block in blocks)  # the input is held by somebody else
    first = tuple(block.output + block.advance_need for block in blocks)
    return Recurrence(
        advance=tuple(block.advance for block in blocks),
        backpropagate=tuple(block.record + block.backward for block in blocks),
        output=output,
        carried=output,
        internal=own,
        gradient=(*output[:-1], 0),  # that of the last output comes when the last block goes backward
        recorded=tuple(held + block.record_need for held, block in zip(own, blocks, strict=True)),
        backward=tuple(held + block.output + block.backward_need for held, block in zip(own, blocks, strict=True)),
        first=first,
        # Block 0 always starts its part, so its entry is never asked for.
        passed=tuple(held + need for held, need in zip((output[0], *output), first, strict=False)),
    )
