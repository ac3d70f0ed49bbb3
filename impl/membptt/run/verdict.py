"""What stands behind a discontinuity: rounding, a kernel chosen by grad mode, or a step that has become another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

from membptt.kernels.joint import Joined
from membptt.run.continuity import Continuity, Doubt, Sweep
from membptt.run.witness import NotDeterministicError
from membptt.state.fingerprints import fingerprint, tolerance
from membptt.state.leaves import Leaves
from membptt.state.states import Hidden, Internal

_ONLY_THEN: Final = (
    "This came up in the backward of a scan, while_loop or chain, which runs the step again: where the step fails only "
    "then, it keeps state outside the carry, such as a queue or an iterator that is used up"
)
_ROUNDINGS: Final = 100  # a step's own rounding, as a multiple of what one rounding of its carry does to its result


class Evaluates(Protocol):
    """A core that can be evaluated beside the schedule."""

    def evaluate(self, state: Hidden, xs: Leaves, core: int, *, graph: bool) -> tuple[Leaves, Leaves]:
        """Return the carry after one core and its last output, without their graph."""

    def rounds(self) -> None:
        """Take note that the step gives other bits with graph than without."""


class Executes(Protocol):
    """A scan that has run up to its first backward instruction."""

    def backward(self, xs: Leaves, sweep: Sweep, first: int = 0) -> None:
        """Go on, which gives every recorded core to `sweep`, the last one first, until core `first` was given."""


@dataclass(slots=True)
class Comparison:
    """Backpropagates a scan, and sees that its cores belong together.

    Args:
        continuity: compares each core with the one after it.
        core: evaluates cores beside the schedule.
        xs: the input leaves.
        again: executes the scan once more, up to its first backward instruction; with ``linked=False``, each core under
            a graph of its own.
        failure: returns the error for a discontinuity.
    """

    continuity: Continuity
    core: Evaluates
    xs: Leaves
    again: Callable[..., Executes]
    failure: Callable[[Doubt, Replay | None], RuntimeError]

    def backpropagate(self, execution: Executes, sweep: Sweep, first: int = 0) -> None:
        """Backpropagate the cores down to core `first`.

        Raises:
            RuntimeError: it failed, and what a core gave is not what the core after it was recorded from.
        """
        try:
            execution.backward(self.xs, Compared(self.continuity, sweep), first)
        except (RuntimeError, ValueError) as failed:
            # A step that has become another may well fail; that it has is the cause.
            if isinstance(failed, torch.OutOfMemoryError | NotDeterministicError):
                raise
            doubt, broken = self.continuity.doubt(), self.continuity.broken
            if doubt is None and broken is not None:
                doubt = _unmeasured(broken)
            if doubt is None:
                raise
            raise self.failure(doubt, None) from failed
        except Exception as failed:
            failed.add_note(_ONLY_THEN)
            raise

    def judge(self, first: int = 0) -> None:
        """See, once the cores down to core `first` have gone backward, whether they belong together.

        Raises:
            RuntimeError: what a core gave is not what the core after it was recorded from.
        """
        continuity = self.continuity
        broken, bits, doubt = continuity.broken, continuity.bits, continuity.doubt()
        if broken is not None:
            # Other bits: rounding, or another function? Rounding comes out again.
            continuity.begin(again=True)
            self.backpropagate(self.again(), _Onlooker(), first)
            doubt = doubt or continuity.doubt()
            if (continuity.broken, continuity.bits) != (broken, bits) or continuity.strayed is not None:
                where = continuity.strayed or broken
                raise self.failure(doubt if doubt is not None and doubt.what == "carry" else _unmeasured(where), None)
        if doubt is not None:
            replay = Replay(self.core, self.xs, continuity, doubt)
            with suppress(Reached, RuntimeError, ValueError):  # a step that fails now is not what it was
                self.again(linked=False).backward(self.xs, replay)
            if not forgiven(replay):
                raise self.failure(doubt, replay)
        if broken is not None:
            self.core.rounds()


def _unmeasured(broken: tuple[int, int]) -> Doubt:
    return Doubt("carry", *broken, math.nan, torch.empty(0), torch.empty(0))


@dataclass(slots=True)
class Compared:
    """Has every core compared with the one after it before it is backpropagated."""

    continuity: Continuity
    sweep: Sweep

    def step(self, internal: Internal) -> None:
        """Compare one core, and hand it on."""
        self.continuity.compare(internal)
        self.sweep.step(internal)
        if internal.cores > 1:
            self.continuity.went(internal)

    def join(self, core: Joined) -> bool:
        """Hand on one core, and compare the carry that comes of it."""
        joined = self.sweep.join(core)
        if joined:
            self.continuity.compare(core)
        return joined


class _Onlooker:
    """Takes cores that have gone backward already."""

    def step(self, internal: Internal) -> None:
        """Leave its graph as it is."""

    def join(self, core: Joined) -> bool:
        """Compute its carry only."""
        return core.evaluate()


class Modes(NamedTuple):
    """One core evaluated from one state without graph and with it: carries, and last outputs.

    Args:
        plain: without graph.
        graphed: with graph.
        gap: the largest difference of a leaf, relative to its size.
        rounds: whether rounding explains it: differences as small as that in the carry do as much to the result.
        steady: whether either way gives the same bits when it is taken again.
    """

    plain: tuple[Leaves, Leaves]
    graphed: tuple[Leaves, Leaves]
    gap: float
    rounds: bool
    steady: bool


def compare_modes(core: Evaluates, state: Hidden, xs: Leaves, index: int, joined: Leaves | None = None) -> Modes:
    """Evaluate core `index` from `state` without graph and with it, and see how well-conditioned it is.

    Each way twice, one right after the other: a step that is another at every call, in whatever rhythm, has no excuse.
    Where it was not recorded but `joined`, the carry that it gave then stands for the one with graph.
    """
    plain, once_more = (core.evaluate(state, xs, index, graph=False) for _ in range(2))
    graphed, with_graph_once_more = (core.evaluate(state, xs, index, graph=True) for _ in range(2))
    steady = _all_equal(plain, once_more) and _all_equal(graphed, with_graph_once_more)
    graphed = graphed if joined is None else (joined, graphed[1])
    nudged = core.evaluate(Hidden.of(tuple(map(_nudged, state.leaves)), state.random), xs, index, graph=False)
    gaps = [distance(a, b) for a, b in zip(sum(plain, ()), sum(graphed, ()), strict=True)]
    growths = [distance(a, b) for a, b in zip(sum(plain, ()), sum(nudged, ()), strict=True)]
    allowed = [
        tolerance(leaf.dtype) + _ROUNDINGS * growth for leaf, growth in zip(sum(plain, ()), growths, strict=True)
    ]
    rounds = steady and all(gap <= most for gap, most in zip(gaps, allowed, strict=True))
    return Modes(plain, graphed, max(gaps, default=0.0), rounds, steady)


def only_rounds(core: Evaluates, state: Hidden, xs: Leaves, index: int) -> bool:
    """Whether core `index` gives other bits with graph than without, and rounding explains them."""
    modes = compare_modes(core, state, xs, index)
    return modes.gap > 0 and modes.rounds


class Reached(Exception):
    """The doubtful core was reached and examined."""


class Replay:
    """Takes the cores of the same scan, executed once more, up to the doubtful one, and examines that.

    Args:
        core: evaluates it.
        xs: the input leaves.
        continuity: whose doubt it is.
        doubt: the discontinuity.

    Attributes:
        modes: the core without graph and with it, once it was reached.
        again: whether what is in doubt came out as it was, bit by bit.
        by_mode: whether without graph the core gives what was there before, and only with graph something else.
    """

    def __init__(self, core: Evaluates, xs: Leaves, continuity: Continuity, doubt: Doubt) -> None:
        self._core = core
        self._xs = xs
        self._continuity = continuity
        self._doubt = doubt
        self._next: Leaves | None = None
        self.modes: Modes | None = None
        self.again = self.by_mode = False

    def step(self, internal: Internal) -> None:
        """Take one core.

        Raises:
            Reached: it was the doubtful one.
        """
        self._take(internal)

    def join(self, core: Joined) -> bool:
        """Take one core, of which only the carry is computed."""
        evaluated = core.evaluate()
        if evaluated:
            self._take(core, core.carry_out)
        return evaluated

    def _take(self, internal: Internal | Joined, joined: Leaves | None = None) -> None:
        doubt, core = self._doubt, self._continuity.core(internal.at)
        if core == doubt.core:
            start = tuple(leaf.detach() for leaf in internal.carry_in)
            self.modes = modes = compare_modes(
                self._core, Hidden.of(start, internal.start.random), self._xs, core, joined
            )
            side = doubt.what == "output"
            plain, graphed = modes.plain[side][doubt.leaf], modes.graphed[side][doubt.leaf]
            now = graphed if side else internal.carry_out[doubt.leaf]
            then = plain if side or self._next is None else self._next[doubt.leaf]
            self.again = _equal(fingerprint(then).cpu(), doubt.then) and _equal(fingerprint(now).cpu(), doubt.now)
            allowed = tolerance(plain.dtype)
            kept = distance(plain, then) <= allowed < distance(graphed, plain)
            self.by_mode = kept and self.again and modes.steady
            raise Reached
        if core == doubt.core + 1:
            self._next = tuple(leaf.detach() for leaf in internal.carry_in)


def forgiven(replay: Replay) -> bool:
    """Whether a discontinuity is rounding: the same comes out again, and with graph other bits, but no other values."""
    return replay.modes is not None and replay.again and replay.modes.rounds and replay.modes.gap > 0


def error(doubt: Doubt, replay: Replay | None, name: str, steps: str, changed: Sequence[str]) -> RuntimeError:
    """Return what is said of a discontinuity.

    Args:
        doubt: the discontinuity.
        replay: what a second execution showed, if there was one.
        name: of the leaf.
        steps: that the core covers.
        changed: what the step reads and was changed since the call.
    """
    by = "" if math.isnan(doubt.gap) else f" by {_percent(doubt.gap)} of its size" if doubt.gap < 10 else " entirely"
    where = f"core {doubt.core} ({steps})"
    if doubt.what == "carry":
        what = f"recomputing {where} gave another carry than the one the scan went on from: {name} differs{by}"
    else:
        what = f"recomputing {where} gave another output than the first pass: {name} differs{by}"
    lead = f"{what}, so the gradient would belong to another function. "
    if replay is not None and replay.by_mode:
        return RuntimeError(
            f"{lead}The step itself gives something else with graph than without: a kernel is chosen by grad mode. "
            "torch.nn.TransformerEncoder, its layers and MultiheadAttention do so in eval mode; switch their fast path "
            "off (torch.backends.mha.set_fastpath_enabled(False)), and let no code of the step ask whether gradients "
            "are recorded"
        )
    moved = f"Changed since the call: {', '.join(map(repr, changed[:4]))}. " if changed else ""
    return RuntimeError(
        f"{lead}{moved}At its recomputation the step is not what it was. Likeliest first: it keeps state outside the "
        "carry, such as a counter, a cache or an attribute (hand that on in the carry; membptt.Stateful does it for "
        "the tensors of a module); what it reads was changed between forward and backward (hand it on as an input or "
        "in the carry, or change it after the backward); it draws from a generator of its own, or it computes in "
        "another order each time (draw from torch's, Python's or numpy's global generator, and see "
        "torch.use_deterministic_algorithms). check=True finds the first such core; check=False compares nothing"
    )


def _percent(gap: float) -> str:
    return f"{gap:.1%}" if gap >= 0.001 else f"{100 * gap:.1g}%"


def distance(a: Tensor, b: Tensor, /) -> float:
    """Return how far two tensors are apart, relative to the larger; infinity where integers or NaNs differ."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if a.layout is not torch.strided:
        a, b = a.to_dense(), b.to_dense()
    if not (a.is_floating_point() or a.is_complex()):
        return 0.0 if torch.equal(a, b) else math.inf
    wide = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.cpu().to(wide), b.cpu().to(wide)
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()):
        return 0.0
    gap = torch.where(same, 0, a - b).norm().item()
    size = max(torch.where(each.isfinite(), each, 0).norm().item() for each in (a, b))
    return gap / size if size and math.isfinite(gap) else math.inf


def _all_equal(some: tuple[Leaves, Leaves], others: tuple[Leaves, Leaves]) -> bool:
    return all(distance(a, b) == 0 for a, b in zip(sum(some, ()), sum(others, ()), strict=True))


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _nudged(leaf: Tensor) -> Tensor:
    """Return a leaf with one rounding more: random signs, as large as its elements and their mean size."""
    if not (leaf.is_floating_point() or leaf.is_complex()) or leaf.layout is not torch.strided:
        return leaf
    generator = torch.Generator().manual_seed(0)
    signs = (torch.randint(0, 2, leaf.shape, generator=generator) * 2 - 1).to(leaf.device)
    sizes = leaf.abs()
    mean = sizes.float().nan_to_num(0, 0, 0).mean() if leaf.numel() else 0
    return leaf + (signs * torch.finfo(leaf.dtype).eps * (sizes + mean)).to(leaf.dtype)
