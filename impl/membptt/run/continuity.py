"""Continuity: the carry that a recorded core gives is the one that the core after it was recorded from.

Both are at hand when a core is backpropagated, for nothing. Comparing their fingerprints notices every step that is not
at its recomputation what it was before, whatever made it another: a counter, a cache, a weight that moved, a kernel
that computes something else with graph. Where all recomputations agree and only the first pass was another, what it
gave is remembered of a few cores. Nothing is read from a device before the gradients are complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from membptt.kernels.joint import Joined
from membptt.state.fingerprints import Note, fingerprint, fingerprint_of, hashed, is_small, noted, tolerance
from membptt.state.leaves import Leaves
from membptt.state.states import At, Internal

What = Literal["carry", "output"]

MARKS: Final = 256  # cores of the first pass, at most, the carries after which are kept as hashes
_EVERY: Final = 4  # core of a short scan is among them
OUTPUTS: Final = 3  # cores, the last ones, whose outputs are compared with those of the first pass
_WINDOW: Final = 64  # pairs of fingerprints that are compared at once


class Sweep(Protocol):
    """What takes recorded cores, the last one first."""

    def step(self, internal: Internal) -> None:
        """Take one core."""

    def join(self, core: Joined) -> bool:
        """Take one core that is recorded and backpropagated at once; false where it has to be recorded by itself."""


class Doubt(NamedTuple):
    """The worst discontinuity of a backward pass.

    Args:
        what: whether it is of the carry after a core, or of a core's last output.
        core: the core.
        leaf: the leaf.
        gap: by how much the fingerprints differ, relative to their size; not a number where only bits were compared.
        then: the fingerprint of what the next core was recorded from, or of the first pass's output.
        now: that of what the core gave when it was recorded.
    """

    what: What
    core: int
    leaf: int
    gap: float
    then: Tensor
    now: Tensor


class Continuity:
    """The fingerprints of one call of scan, and the worst discontinuity of the backward pass under way.

    Args:
        cores: of the scan; ``None`` where nobody knows before `ended`.
        chunk: steps per core.
        numbers: look at the numbers of small leaves at once, since the step is known to round differently with graph.
            Otherwise their bits are compared, which is faster, and only where they differ everything is looked at.
        alike: whether the carries after the first core all have the form of the final one, as those of a sequence.

    Attributes:
        first: the first core whose outputs are compared.
        bits: a hash of all bits that were looked at in this backward pass.
        broken: the first core, and the leaf, whose bits are others than those the core after it was recorded from, or
            than those of the first pass.
        strayed: the first core, and the leaf, whose bits are others when the first pass is run once more.
    """

    def __init__(self, cores: int | None, chunk: int, *, numbers: bool = False, alike: bool = True) -> None:
        self._cores = cores or 0
        self._chunk = chunk
        self._numbers = numbers
        self._alike = alike
        self._last = _Kinds([], [], [])
        self._final: tuple[list[Note], list[int]] = [], []
        self._outputs: dict[int, list[Note]] = {}
        self._marks: dict[int, list[int]] = {}
        self._every = _EVERY
        self._over = False  # the first pass
        self.first = max(self._cores - OUTPUTS, 0)
        self.broken: tuple[int, int] | None = None
        self.strayed: tuple[int, int] | None = None
        self.begin()

    def begin(self, *, again: bool = False) -> None:
        """Begin a backward pass: nothing is in doubt.

        Args:
            again: whether it is the same one once more, now with a look at the numbers as well as at the bits.
        """
        numbers, bits = self._final
        self._hashes = again or not self._numbers
        self._everything = again or self._numbers
        self._at = self._cores  # the core that was backpropagated last
        self._kinds = self._last  # of the carry that it was given
        self._only_bits = self._alike and self._hashes and not self._looked_at
        self._next, self._next_bits = [fingerprint_of(numbers[leaf]) for leaf in self._looked_at], bits
        self._then: list[list[Tensor]] = []
        self._now: list[list[Tensor]] = []
        self._worst: dict[tuple[What, int, torch.dtype, int], _Worst] = {}
        self.bits = 0
        self.broken = self.strayed = None

    def passed(self, core: int, carry: Leaves) -> None:
        """Take note of the carry after a core of the first pass, or compare it where that is run once more.

        A number of cores that does not grow with the scan's length: of a long scan every second one is given up.
        """
        if core % self._every or self._numbers:
            return
        bits = [hashed(leaf) for leaf in carry if is_small(leaf)]
        if self._over:
            self.strayed = self.strayed or self._other_bits(core, bits, _Kinds.of(carry).small)
            return
        self._marks[core] = bits
        if len(self._marks) > MARKS:
            self._every *= 2
            self._marks = {core: bits for core, bits in self._marks.items() if core % self._every == 0}

    def _other_bits(self, core: int, bits: list[int], leaves: list[int]) -> tuple[int, int] | None:
        """Return the core and the first leaf that the first pass left with other bits, if it was noted."""
        known = self._marks.get(core, bits)
        others = (leaf for leaf, now, then in zip(leaves, bits, known, strict=True) if now != then)
        return next(((core, leaf) for leaf in others), None)

    def ended(self, carry: Leaves, cores: int) -> None:
        """Take note of the first pass's final carry, and of how many cores led to it."""
        self._cores, self.first = cores, max(cores - OUTPUTS, 0)
        self._last, self._over = _Kinds.of(carry), True
        self._final = [noted(leaf) for leaf in carry], [hashed(carry[leaf]) for leaf in self._last.small]

    def ends_at(self, carry: Leaves) -> bool:
        """Whether a carry is, within rounding, the first pass's final one. This waits for the device."""
        final = map(fingerprint_of, self._final[0])
        pairs = (_alike([then], [fingerprint(leaf)]) for leaf, then in zip(carry, final, strict=True))
        stacked = [(torch.stack(list(then)), torch.stack(list(now))) for then, now in pairs]
        dtypes = self._last.dtypes
        return not any(
            then.numel() and bool(_ratios(then, now, tolerance(dtype)) > 1)
            for (then, now), dtype in zip(stacked, dtypes, strict=True)
        )

    def emitted(self, core: int, outputs: Leaves) -> None:
        """Take note of the last output of one of the last cores, or compare it with the first pass's."""
        now = [noted(leaf) for leaf in outputs]
        then = self._outputs.get(core)
        if then is None:
            self._outputs[core] = now
            self._outputs.pop(core - OUTPUTS, None)  # where nobody knows the end, any core may be among the last
        elif not all(_is_same(*pair) for pair in zip(then, now, strict=True)):
            dtypes = dict(enumerate(leaf.dtype for leaf in outputs))
            before, after = ([*map(fingerprint_of, notes)] for notes in (then, now))
            self._compare("output", core, dtypes, [before], [after])

    def backpropagated(self, internal: Internal | Joined) -> None:
        """Compare what `internal` gave with what the core after it, which was backpropagated before, was given."""
        self._at -= 1
        if self._only_bits:  # the usual case on the host, where every call is felt
            self._look_at([hashed(leaf) for leaf in internal.carry_out])
            self._next_bits = [hashed(leaf) for leaf in internal.carry_in] if self._at else []
            return
        after, before = internal.carry_out, internal.carry_in
        small, looked_at = self._kinds.small, self._looked_at
        if self._hashes and small:
            self._look_at([hashed(after[leaf]) for leaf in small])
        if looked_at:
            self._then.append(self._next)
            self._now.append([fingerprint(after[leaf]) for leaf in looked_at])
            if len(self._then) == (_WINDOW if self._alike else 1):
                self._settle()
        if self._at > 0:  # the carry that the caller gave may be of another form
            if not self._alike:
                self._kinds = _Kinds.of(before)
            self._next_bits = [hashed(before[leaf]) for leaf in self._kinds.small] if self._hashes else []
            self._next = [fingerprint(before[leaf]) for leaf in self._looked_at]

    def _look_at(self, bits: list[int]) -> None:
        """Compare by bits what the present core gave with what the core after it was given, and with the first pass."""
        if bits != self._next_bits or self._marks.get(self._at, bits) != bits:
            differs = [bit != next_bit for bit, next_bit in zip(bits, self._next_bits, strict=True)]
            here = (self._at, self._kinds.small[differs.index(True)]) if any(differs) else None
            self.broken = self.broken or here or self._other_bits(self._at, bits, self._kinds.small)
        self.bits = hash((self.bits, *bits))

    def doubt(self) -> Doubt | None:
        """Return the worst discontinuity, if there is one beyond rounding. This waits for the device, once."""
        self._settle()
        ratios = _on_host([pair.ratio for pair in self._worst.values()])
        doubtful = [
            (what == "carry", ratio, what, leaf, dtype, pair)
            for ((what, leaf, dtype, _), pair), ratio in zip(self._worst.items(), ratios, strict=True)
            if ratio > 1
        ]
        if not doubtful:
            return None
        _, ratio, what, leaf, dtype, worst = max(doubtful, key=lambda doubt: doubt[:2])  # of the carry first
        gap = ratio * (tolerance(dtype) or 1)
        return Doubt(what, int(worst.core), leaf, gap, worst.then.cpu(), worst.now.cpu())

    def core(self, at: At) -> int:
        """Return the core that covers a step, or these steps."""
        return at.start // self._chunk if isinstance(at, slice) else at

    @property
    def _looked_at(self) -> Sequence[int]:
        """The leaves whose numbers are looked at."""
        return range(len(self._kinds.dtypes)) if self._everything else self._kinds.large

    def _settle(self) -> None:
        then, now = self._then, self._now
        if then:
            self._then, self._now = [], []
            dtypes = {leaf: self._kinds.dtypes[leaf] for leaf in self._looked_at}
            self._compare("carry", self._at + len(then) - 1, dtypes, then, now)

    def _compare(
        self, what: What, core: int, dtypes: dict[int, torch.dtype], then: list[list[Tensor]], now: list[list[Tensor]]
    ) -> None:
        """Compare fingerprints of `core` and of the cores before it, leaf by leaf."""
        pairs = zip(dtypes.items(), zip(*then, strict=True), zip(*now, strict=True), strict=True)
        for (leaf, dtype), some, others in pairs:
            a, b = (torch.stack(list(each)) for each in _alike(some, others))
            if not a.numel() or (a.device.type == "cpu" and torch.equal(a, b)):
                continue
            ratio, index = _ratios(a, b, tolerance(dtype)).max(0)
            index = index.view(1)
            worst = _Worst(ratio.view(1), core - index, a.index_select(0, index)[0], b.index_select(0, index)[0])
            key = what, leaf, dtype, a.shape[1]
            known = self._worst.get(key)
            if known is not None:
                worse = worst.ratio > known.ratio
                worst = _Worst(*(torch.where(worse, *pair) for pair in zip(worst, known, strict=True)))
            self._worst[key] = worst


class _Kinds(NamedTuple):
    """What the leaves of a carry are: those whose bits are looked at, the others, and all their dtypes."""

    small: list[int]
    large: list[int]
    dtypes: list[torch.dtype]

    @classmethod
    def of(cls, carry: Leaves) -> _Kinds:
        small = [is_small(tensor) for tensor in carry]
        places = range(len(carry))
        return cls(
            [leaf for leaf in places if small[leaf]],
            [leaf for leaf in places if not small[leaf]],
            [leaf.dtype for leaf in carry],
        )


class _Worst(NamedTuple):
    """The worst pair of one leaf so far: tensors on its device."""

    ratio: Tensor
    core: Tensor
    then: Tensor
    now: Tensor


def _is_same(then: Note, now: Note) -> bool:
    """Whether that is known without waiting for a device."""
    if isinstance(then, Tensor) and isinstance(now, Tensor):
        return then.device.type == "cpu" and torch.equal(then, now)
    return isinstance(then, tuple) and isinstance(now, tuple) and then == now


def _alike(then: Sequence[Tensor], now: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return both; of another shape, as where a leaf's shape has changed, they are as unlike as can be."""
    if len({tensor.shape for tensor in (*then, *now)}) == 1:
        return then, now
    unlike = [before.shape != after.shape for before, after in zip(then, now, strict=True)]
    return [torch.zeros(1) for _ in then], [torch.full((1,), torch.inf if differs else 0.0) for differs in unlike]


def _ratios(then: Tensor, now: Tensor, allowed: float) -> Tensor:
    """Return, for every row, by how many times what is allowed its fingerprints differ; a NaN is equal to itself."""
    if not then.is_floating_point():
        return torch.zeros(len(then), device=then.device).masked_fill((then != now).any(1), torch.inf)
    same = (then == now) | (then.isnan() & now.isnan())
    gap = (then - now).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).masked_fill(same, 0)
    size = torch.stack([then, now]).abs().nan_to_num(nan=0, posinf=0).amax()
    return (gap / (allowed * size)).nan_to_num(nan=0, posinf=torch.inf).amax(1).float()


def _on_host(values: Sequence[Tensor]) -> list[float]:
    """Bring single numbers to the host: those of one device in one transfer, in the order given."""
    numbers: dict[int, float] = {}
    for device in {value.device for value in values}:
        there = [index for index, value in enumerate(values) if value.device == device]
        numbers.update(zip(there, torch.cat([values[index] for index in there]).tolist(), strict=True))
    return [numbers[index] for index in range(len(values))]
