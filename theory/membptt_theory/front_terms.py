"""What the equation of `front.py` counts: the cost of each block, and the bytes that are alive beside each move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from operator import sub

from membptt_theory.actions import Block, Skip
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
        skips: tensors that are counted in the output of several blocks, and so in what is handed on there and in
            `passed`. A part takes none of those that the state it starts from holds; the caller's are in no term.

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
    skips: tuple[Skip, ...] = ()

    def __post_init__(self) -> None:
        if len({len(terms) for terms in self.terms()}) != 1 or not len(self):
            raise ValueError(f"every term needs one entry a block, got {[len(terms) for terms in self.terms()]}")
        if any(value < 0 for terms in self.terms() for value in terms):
            raise ValueError("costs and bytes must be at least 0")
        if any(carried > output for carried, output in zip(self.carried, self.output, strict=True)):
            raise ValueError("what is handed on without being stored cannot take more than what is stored")
        if any(not 1 <= skip.first < skip.last < len(self) for skip in self.skips):
            raise ValueError(f"skips must be held at positions 1 .. {len(self) - 1}, got {self.skips}")
        if self.skips and any(
            held > min(self.carried[position - 1], self.passed[position])
            for position, held in enumerate(self.shared(len(self)))
            if position > 0
        ):
            raise ValueError("a state cannot take fewer bytes than the skips that it holds")
        if sum(sum(terms) for terms in self.terms()[2:]) >= 2**BYTES:
            raise ValueError(f"all the bytes of a chain must stay below 2**{BYTES}")
        if len(self) * sum(self.advance) + sum(self.backpropagate) >= 2**60 or len(self) >= 2 ** (62 - BYTES):
            raise ValueError(f"a chain must have fewer than {2 ** (62 - BYTES)} blocks and cost less than 2**60")

    def __len__(self) -> int:
        return len(self.advance)

    def terms(self) -> tuple[tuple[int, ...], ...]:
        """Return the terms, costs first."""
        return tuple(getattr(self, field.name) for field in fields(self) if field.name != "skips")

    def part(self, start: int, stop: int, /) -> Recurrence:
        """Return the recurrence of blocks ``start .. stop-1`` alone, where the state that they start from is held."""
        shared = self.shared(start)
        terms = {field.name: getattr(self, field.name)[start:stop] for field in fields(self) if field.name != "skips"}
        for name in ("output", "carried"):
            terms[name] = tuple(map(sub, terms[name], (*shared[start + 1 :], 0)))
        terms["passed"] = tuple(map(sub, terms["passed"], shared[start:]))
        inside = [skip for skip in self.skips if start < skip.first < min(skip.last, stop - 1)]
        skips = tuple(Skip(skip.first - start, min(skip.last, stop - 1) - start, skip.bytes) for skip in inside)
        return replace(self, **terms, skips=skips)

    def shared(self, start: int, /) -> list[int]:
        """Return for every position the bytes of its state that the state at `start` holds too, or held before.

        Of positions before `start`, those of all their skips.
        """
        change = [0] * (len(self) + 1)
        for skip in self.skips:
            if skip.first <= start:
                change[skip.first] += skip.bytes
                change[skip.last + 1] -= skip.bytes
        return list(accumulate(change))[:-1]

    def held(self, start: int, position: int, /) -> int:
        """Return the bytes of the state at `position` that the state at `start` does not hold."""
        return self.output[position - 1] - sum(
            skip.bytes for skip in self.skips if skip.first <= start < position <= skip.last
        )

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
        passed = self.passed[start + 1 : stop - 1]
        if self.skips:
            passed = tuple(map(sub, passed, self.shared(start)[start + 1 : stop - 1]))
        peaks = accumulate((self.first[start], *passed), max)
        return [peak + self.gradient[stop - 1] for peak in peaks]


def everything_alive(blocks: Sequence[Block], /, skips: Sequence[Skip] = ()) -> Recurrence:
    """Return the recurrence in which the peak is the peak of everything that is alive, each tensor once.

    Args:
        blocks: the chain.
        skips: the tensors that several of its states hold.

    Raises:
        ValueError: no blocks, skips of states that there are not or larger than a state that holds them, or numbers
            too large for exact arithmetic.
    """
    count = len(blocks)
    if not blocks:
        raise ValueError("a chain needs at least one block")
    if any(skip.last > count for skip in skips):
        raise ValueError(f"a chain of {count} blocks has the states 0 .. {count}, got {skips}")
    output = [block.output for block in blocks]  # beside what is the caller's
    handed = [0] * count  # of that, what the block was given
    for skip in skips:
        for position in range(max(skip.first, 1), skip.last + 1):
            output[position - 1] -= 0 if skip.first else skip.bytes
            handed[position - 1] += skip.bytes if 0 < skip.first < position else 0
    if any(held > size for held, size in zip(handed, output, strict=True)):
        raise ValueError("a state cannot take fewer bytes than the skips that it holds")
    fresh = list(map(sub, output, handed))
    gradient = [block.output_gradient for block in blocks]
    own = tuple(block.internal + new for block, new in zip(blocks, fresh, strict=True))  # somebody else holds the input
    first = tuple(new + block.advance_need for block, new in zip(blocks, fresh, strict=True))
    later = [(skip.first, min(skip.last, count - 1), skip.bytes) for skip in skips if skip.first]
    return Recurrence(
        advance=tuple(block.advance for block in blocks),
        backpropagate=tuple(block.record + block.backward for block in blocks),
        output=tuple(output),
        carried=tuple(output),
        internal=own,
        gradient=(*gradient[:-1], 0),  # that of the last output comes when the last block goes backward
        recorded=tuple(held + block.record_need for held, block in zip(own, blocks, strict=True)),
        backward=tuple(
            held + size + block.backward_need for held, size, block in zip(own, gradient, blocks, strict=True)
        ),
        first=first,
        # Block 0 always starts its part, so its entry is never asked for.
        passed=tuple(held + need for held, need in zip((output[0], *output), first, strict=False)),
        skips=tuple(Skip(*skip) for skip in later if skip[0] < skip[1]),
    )
