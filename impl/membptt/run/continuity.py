"""Continuity: the carry that a recorded core gives is the one that the core after it was recorded from.

Both are at hand when a core is backpropagated, for nothing. Comparing them notices every step that is not at its
recomputation what it was before, whatever made it another: a counter, a cache, a weight that moved, a kernel that
computes something else with graph. Small leaves on the host are compared as they are: what a core was recorded from
stays until the core before it is recorded, and is gone when that goes backward, where memory peaks. Of others
fingerprints are kept, and nothing is read from a device before the gradients are complete. Where all recomputations
agree and only the first pass was another, what it gave is remembered of a few cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from membptt.kernels.joint import Joined
from membptt.state.fingerprints import (
    Note,
    alone,
    fingerprint,
    fingerprint_of,
    hashed,
    is_small,
    leaf_of,
    noted,
    tolerance,
)
from membptt.state.leaves import Leaves
from membptt.state.states import At, Hidden, Internal
from membptt.torch_private import versions

What = Literal["carry", "output"]

MARKS: Final = 64  # cores of the first pass, at most, the carries after which are kept as hashes
_EVERY: Final = 4  # core of a short scan is among them
OUTPUTS: Final = 3  # cores, the last ones, whose outputs are compared with those of the first pass
_WINDOW: Final = 64  # pairs of fingerprints that are compared at once
_equal: Final = torch.equal
_NO_FINGERPRINT: Final = torch.empty(0, 0)  # has the shape of none


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
        numbers: look at the numbers of all leaves and at no bits: the step is known to round differently with graph.
            Otherwise small leaves are to be the same; from a core on that gave others, all numbers are looked at.
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
        self._final: list[Note] = []
        self._outputs: dict[int, list[Note]] = {}
        self._marks: dict[int, list[int | None]] = {}
        self._every = _EVERY
        while self._cores > MARKS * self._every:
            self._every *= 2
        self._over = False  # the first pass
        self.first = max(self._cores - OUTPUTS, 0)
        self.begin()

    def begin(self, *, again: bool = False) -> None:
        """Begin a backward pass: nothing is in doubt.

        Args:
            again: whether it is the same one once more: of carries that are not alike, numbers are looked at, too.
        """
        self._at = self._cores  # the core that was backpropagated last
        self._closely = self._numbers or (again and not self._alike)  # the numbers of small leaves are looked at
        self._kinds = self._last.closely() if self._closely else self._last  # of the carry that it was given
        self._plain = self._alike and not self._kinds.large  # all its leaves are compared as they are
        self._given: Sequence[Tensor] = ()  # that carry, with fingerprints of large leaves
        self._versions: tuple[int, ...] = ()
        self._given_bits: list[int | None] | None = None
        self._then: list[list[Tensor]] = []
        self._now: list[list[Tensor]] = []
        self._worst: dict[tuple[What, int, torch.dtype, int], _Worst] = {}
        self.bits = 0
        self.broken: tuple[int, int] | None = None
        self.strayed: tuple[int, int] | None = None

    def _look_up(self, after: Leaves) -> None:
        """Begin with the first pass's final carry, which nearly always has the bits of this one."""
        same = self._plain and all(map(_is_same, self._final, map(noted, after)))
        given = [*after] if same else [*map(leaf_of, self._final)]
        for leaf in self._kinds.large:
            given[leaf] = fingerprint_of(self._final[leaf])
        if not self._alike:
            self._given_bits = [None if isinstance(note, Tensor) else hash(note[0]) for note in self._final]
        self._given, self._versions = given, versions(given)

    def passed(self, core: int, carry: Leaves) -> None:
        """Take note of the carry after a core of the first pass, or compare it where that is run once more.

        A number of cores that does not grow with the scan's length: where nobody knows that before, every second one is
        given up as it grows.
        """
        if core % self._every or self._numbers:
            return
        bits = [*map(hashed, carry)]
        if self._over:
            self.strayed = self.strayed or _other(core, bits, self._marks.get(core))
            return
        self._marks[core] = bits
        if len(self._marks) > MARKS:
            self._every *= 2
            self._marks = {core: bits for core, bits in self._marks.items() if core % self._every == 0}

    def ended(self, carry: Leaves, cores: int) -> None:
        """Take note of the first pass's final carry, and of how many cores led to it."""
        self._cores, self.first = cores, max(cores - OUTPUTS, 0)
        self._last, self._over = _Kinds.of(carry), True
        self._final = [*map(noted, carry)]

    def ends_at(self, carry: Leaves) -> bool:
        """Whether a carry is, within rounding, the first pass's final one. This waits for the device."""
        final = map(fingerprint_of, self._final)
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

    def compare(self, internal: Internal | Joined) -> None:
        """Compare what a core gave with what the core after it, which was backpropagated before, was recorded from."""
        after = internal.carry_out
        if self._at == self._cores:
            self._look_up(after)
        self._at, given = self._at - 1, self._given
        at = self._at
        if not (self._plain and _are_equal(after, given) and versions(given) == self._versions):
            self._compare_each(after)
        elif at in self._marks:
            self._look_at_bits(given)
        if at and self._plain:  # the usual case, where every call is felt
            self._given, self._versions = internal.carry_in, internal.start.versions
            return
        self._given = ()  # which is gone when the core goes backward
        # The carry that the caller gave may be of another form; for several cores at once, see `went`.
        if at and (self._alike or isinstance(internal, Joined) or internal.cores == 1):
            self._keep(internal.carry_in)

    def went(self, internal: Internal) -> None:
        """Take note of what the first of several linked cores was given: their graphs are gone, memory has peaked."""
        self._at -= internal.cores - 1
        if self._at > 0:
            self._keep(internal.carry_in)

    def _keep(self, before: Leaves) -> None:
        """Keep of a state what takes little: fingerprints of large leaves."""
        if not self._alike:
            # As of a chain, whose budget is exact: hashes of small leaves are kept in place of them.
            kinds = _Kinds.of(before)
            self._kinds = kinds.closely() if self._closely else kinds
            self._given_bits = [*map(hashed, before)]
        large = set(self._kinds.large)
        self._given = [
            fingerprint(leaf) if place in large else alone(leaf) if self._alike else _NO_FINGERPRINT
            for place, leaf in enumerate(before)
        ]
        self._versions = versions(self._given)

    def _compare_each(self, after: Leaves) -> None:
        """Compare leaf by leaf: as they are, by fingerprints, by bits."""
        if self._alike:
            if versions(self._given) != self._versions:
                Hidden(tuple(self._given), (), self._versions).check(self._at + 1)
            if not all(_are_equal(after[leaf : leaf + 1], self._given[leaf : leaf + 1]) for leaf in self._kinds.small):
                self._look_closely(after)
        if not self._numbers and (self._closely or not self._alike or self._at in self._marks):
            self._look_at_bits(after)
        if self._kinds.large:
            self._then.append([self._given[leaf] for leaf in self._kinds.large])
            self._now.append([fingerprint(after[leaf]) for leaf in self._kinds.large])
            if len(self._then) == (_WINDOW if self._alike else 1):
                self._settle(self._at)

    def _look_closely(self, after: Leaves) -> None:
        """See whether small leaves that are not equal have other bits; then look at all numbers, from this core on."""
        given, small = list(self._given), self._kinds.small
        others = [
            leaf
            for leaf in small
            if _form(given[leaf]) != _form(after[leaf]) or hashed(given[leaf]) != hashed(after[leaf])
        ]
        if not others:  # a NaN does not equal itself
            return
        self.broken = self.broken or (self._at, others[0])
        self._settle(self._at + 1)
        for leaf in small:
            given[leaf] = fingerprint(given[leaf]) if _form(given[leaf]) == _form(after[leaf]) else _NO_FINGERPRINT
        self._given, self._closely, self._kinds, self._plain = given, True, self._kinds.closely(), False

    def _look_at_bits(self, carry: Sequence[Tensor]) -> None:
        """Compare the carry after the present core by bits with the first pass's, and take note of them."""
        bits = [*map(hashed, carry)]
        for then in (self._given_bits, self._marks.get(self._at)):
            if then is not None and then != bits:
                self.broken = self.broken or _other(self._at, bits, then)
        self.bits = hash((self.bits, *bits))

    def doubt(self) -> Doubt | None:
        """Return the worst discontinuity, if there is one beyond rounding. This waits for the device, once."""
        self._settle(self._at)
        if not self._worst:
            return None
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

    def _settle(self, last: int) -> None:
        then, now = self._then, self._now
        if then:
            self._then, self._now = [], []
            dtypes = {leaf: self._kinds.dtypes[leaf] for leaf in self._kinds.large}
            self._compare("carry", last + len(then) - 1, dtypes, then, now)

    def _compare(
        self, what: What, core: int, dtypes: dict[int, torch.dtype], then: list[list[Tensor]], now: list[list[Tensor]]
    ) -> None:
        """Compare fingerprints of `core` and of the cores before it, leaf by leaf."""
        pairs = zip(dtypes.items(), zip(*then, strict=True), zip(*now, strict=True), strict=True)
        for (leaf, dtype), some, others in pairs:
            if len(some) == 1 and _is_same(some[0], others[0]):
                continue
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
    """What the leaves of a carry are: those that are compared as they are, the others, and all their dtypes."""

    small: Sequence[int]
    large: Sequence[int]
    dtypes: Sequence[torch.dtype]

    @classmethod
    def of(cls, carry: Leaves) -> _Kinds:
        small = [leaf for leaf, tensor in enumerate(carry) if is_small(tensor)]
        return cls(small, [leaf for leaf in range(len(carry)) if leaf not in small], [leaf.dtype for leaf in carry])

    def closely(self) -> _Kinds:
        """Return them with none to be compared as it is."""
        return _Kinds([], range(len(self.dtypes)), self.dtypes)


class _Worst(NamedTuple):
    """The worst pair of one leaf so far: tensors on its device."""

    ratio: Tensor
    core: Tensor
    then: Tensor
    now: Tensor


def _other(core: int, now: list[int | None], then: list[int | None] | None) -> tuple[int, int] | None:
    """Return the core and the first leaf with other bits, if it is known which they were."""
    differs = [before != after for before, after in zip(then or now, now, strict=True)]
    return (core, differs.index(True)) if True in differs else None


def _are_equal(after: Sequence[Tensor], given: Sequence[Tensor]) -> bool:
    try:
        # A map takes as long as a comparison, and most carries are a single leaf.
        return _equal(after[0], given[0]) if len(given) == 1 else all(map(_equal, after, given))
    except RuntimeError:  # on another device, or of another layout
        return False


def _form(leaf: Tensor) -> tuple[torch.Size, torch.dtype]:
    return leaf.shape, leaf.dtype


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
