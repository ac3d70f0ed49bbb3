"""Equal memory: the settings of `membptt.scan` whose measured peak does not exceed a given number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import attrgetter, itemgetter
from statistics import median
from typing import Final

import torch

from bench.cells import Problem
from bench.meter import Peak, now
from bench.methods import scanned
from membptt_theory.limits import Limit
from membptt_theory.policies import find
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, useful_slots

Meter = Callable[[Callable[[], None]], Peak]
Size = Callable[[Peak], int]

ACTIVATIONS: Final[Size] = attrgetter("peak")
TOTAL: Final[Size] = attrgetter("peak_with_gradients")
CHUNKS: Final = (1, 2, 5, 10, 20, 40)
TABLE: Final = Limit(2**28, 3 * 10**8, "to be measured")
FORWARDS_LIMIT: Final = 12  # forwards a step beyond which nobody would run it
MORE: Final = 6  # times that more slots are tried
TIMED_CALLS: Final = 60  # calls of the step over which one operation is timed


@dataclass(frozen=True)
class Setting:
    """What `scan` is called with."""

    policy: str
    slots: int
    chunk: int
    internal: int = 1
    internal_known: int | None = None

    def table(self, calls: int) -> PolicyTable:
        """Build the table that decides; kept, since a training loop plans once."""
        return _table(self, calls)


@dataclass(frozen=True)
class Core:
    """What one core of some chunk needs: bytes of its states and of everything beside the slots."""

    hidden: int
    internal: int
    beside: Peak


class Fit:
    """Finds settings for one problem.

    Args:
        problem: what to differentiate.
        meter: measures the peak of a run.
        counted: the same problem with a step that counts; by default itself.

    Attributes:
        seconds: by chunk, to advance a core and to record and backpropagate it, where `time` was called.
    """

    def __init__(self, problem: Problem, meter: Meter, counted: Problem | None = None) -> None:
        self._problem = problem
        self._meter = meter
        self._counted = counted or problem
        self._cores: dict[int, Core] = {}
        self.seconds: dict[int, tuple[float, float]] = {}

    def best(
        self, policy: str, budget: int, chunks: Iterable[int] = CHUNKS, size: Size = ACTIVATIONS
    ) -> tuple[Setting, float] | None:
        """Return the setting that is predicted to be fastest within `budget` bytes, and its predicted seconds.

        ``None`` where nothing fits.
        """
        fitting = self._fitting(policy, budget, chunks, size)
        self.time([setting.chunk for setting in fitting])
        return min(((setting, self.predicted(setting)) for setting in fitting), key=itemgetter(1), default=None)

    def time(self, chunks: Iterable[int]) -> None:
        """Time cores of these chunks in turns, the least of five: a choice must not hang on what else a machine did."""
        new = [chunk for chunk in chunks if chunk not in self.seconds]
        rounds = [[operations(self._problem, chunk) for chunk in new] for _ in range(5)]
        for chunk, *samples in zip(new, *rounds, strict=True):
            advance, gradient = map(min, zip(*samples, strict=True))
            self.seconds[chunk] = advance, gradient

    def settled(
        self, policy: str, budget: int, chunks: Iterable[int] = CHUNKS, size: Size = ACTIVATIONS
    ) -> tuple[Setting, Peak, int] | None:
        """Return the fastest setting within `budget` bytes with its measured peak and forwards; ``None``: nothing fits.

        Of compiled cores nothing is predicted: one setting a chunk is run, twice in turns, and the fastest one kept.

        Args:
            policy: as `scan` takes it.
            budget: in bytes.
            chunks: calls of the step a core, of which one is chosen.
            size: what of a peak is to be within the budget.
        """
        best = (self._tried if self._problem.compile else self.best)(policy, budget, chunks, size)
        return best and self.verified(best[0], budget, size)

    def verified(self, setting: Setting, budget: int, size: Size = ACTIVATIONS) -> tuple[Setting, Peak, int] | None:
        """Measure a setting's peak and forwards: slots are given back until it is within `budget`, or more are tried.

        ``None``: one slot is too many.
        """
        peak, attempt = self._meter(partial(run, self._problem, setting)), 0
        while (excess := size(peak) - budget) > 0:
            # Twice as many each time: where a table holds large internal states, one slot less may change nothing.
            slots = setting.slots - 2**attempt * -(-excess // self._slot(setting))
            if slots < 1 or self._forwards(replace(setting, slots=slots)) > FORWARDS_LIMIT * self._problem.calls:
                return None
            setting, attempt = replace(setting, slots=slots), attempt + 1
            peak = self._meter(partial(run, self._problem, setting))
        part = 1  # of the room that is left: a slot may take more than it should
        for _ in range(MORE):
            more = (budget - size(peak)) // (part * self._slot(setting))
            larger = replace(setting, slots=self._useful(replace(setting, slots=setting.slots + more)))
            if larger.slots <= setting.slots:
                break
            tried = self._meter(partial(run, self._problem, larger))
            if size(tried) <= budget:
                setting, peak = larger, tried
            else:
                part *= 2
        self._counted.counter[0] = 0
        run(self._counted, setting)
        return setting, peak, self._counted.counter[0]

    def predicted(self, setting: Setting) -> float:
        """Return the cost model's seconds."""
        self.time([setting.chunk])
        cores = -(-self._problem.calls // setting.chunk)
        return predict(setting.table(self._problem.calls), cores, setting.slots, *self.seconds[setting.chunk])

    def _tried(self, policy: str, budget: int, chunks: Iterable[int], size: Size) -> tuple[Setting, float] | None:
        """Return the setting that is fastest, where each is run once to compile it, then twice in turns."""
        fitting = self._fitting(policy, budget, chunks, size)
        _, *rounds = ([self._seconds(setting) for setting in fitting] for _ in range(3))
        return min(zip(fitting, map(min, zip(*rounds, strict=True)), strict=True), key=itemgetter(1), default=None)

    def _fitting(self, policy: str, budget: int, chunks: Iterable[int], size: Size) -> list[Setting]:
        return [setting for chunk in chunks if (setting := self._setting(policy, budget, chunk, size))]

    def _seconds(self, setting: Setting) -> float:
        start = now(self._problem.xs.device.type)
        run(self._problem, setting)
        return now(self._problem.xs.device.type) - start

    def _slot(self, setting: Setting) -> int:
        """Return the bytes of a slot."""
        core = self.core(setting.chunk)
        return max(1, core.internal if setting.policy == "ism" else core.hidden)

    def _useful(self, setting: Setting) -> int:
        """Return how many of the slots change anything, and fit into a table."""
        cores = -(-self._problem.calls // setting.chunk)
        slots = useful_slots(setting.policy, cores, setting.slots, internal=setting.internal)
        return min(slots, TABLE.most_slots(setting.policy, cores))

    def _setting(self, policy: str, budget: int, chunk: int, size: Size) -> Setting | None:
        cores = -(-self._problem.calls // chunk)
        if cores < 2 and chunk > 1:
            return None
        core = self.core(chunk)
        known = max(1, -(-core.internal // core.hidden))
        internal = known + 1 if find(policy).mixed else 1
        setting = Setting(policy, 1, chunk, internal, known if policy == "msm" else None)
        slots = (budget - size(core.beside)) // self._slot(setting)
        if slots < 1:
            return None
        setting = replace(setting, slots=self._useful(replace(setting, slots=slots)))
        if self._forwards(setting) > FORWARDS_LIMIT * self._problem.calls:
            return None
        return setting

    def _forwards(self, setting: Setting) -> int:
        cores = -(-self._problem.calls // setting.chunk)
        return setting.chunk * setting.table(self._problem.calls).cost(cores, setting.slots)

    def core(self, chunk: int) -> Core:
        """Measure what one core of `chunk` calls needs, on the first few of them."""
        if chunk not in self._cores:
            short = self._problem.shortened(min(8 * chunk, self._problem.calls))

            def peak(policy: str, slots: int) -> Peak:
                return self._meter(partial(run, short, Setting(policy, slots, chunk)))

            internal = hidden = self._problem.hidden_bytes
            if not self._problem.compile:  # or only hidden states are stored
                inside = max(1, min(5, -(-short.calls // chunk) - 2))
                internal = max(hidden, (peak("ism", inside).peak - peak("ism", 1).peak) // max(1, inside - 1))
            slots = peak("hsm", 2)
            beside = Peak(*(max(0, size - 2 * hidden) for size in (slots.peak, slots.peak_with_gradients)))
            self._cores[chunk] = Core(hidden, internal, beside)
        return self._cores[chunk]


@lru_cache(maxsize=256)
def _table(setting: Setting, calls: int) -> PolicyTable:
    cores = -(-calls // setting.chunk)
    slots = useful_slots(setting.policy, cores, setting.slots, internal=setting.internal)
    return build(setting.policy, cores, slots, internal=setting.internal, internal_known=setting.internal_known)


def run(problem: Problem, setting: Setting) -> None:
    """Compute the gradient by `scan`."""
    table = setting.table(problem.calls)
    scanned(problem, table, table.slots, setting.chunk)


def predict(table: PolicyTable, cores: int, slots: int, advance: float, gradient: float) -> float:
    """Return the cost model's seconds: every core recorded and backpropagated once, the other forwards only advance."""
    return cores * gradient + (table.cost(cores, slots) - cores) * advance


def operations(problem: Problem, chunk: int) -> tuple[float, float]:
    """Time the cost model's operations on the bare step, without any runtime.

    Returns:
        Seconds to advance one core of `chunk` calls, and seconds to record and backpropagate it.
    """
    advances, gradients = [], []
    carry = problem.init
    totals = [torch.zeros_like(param) for param in problem.params]
    for start in range(0, min(max(3 * chunk, TIMED_CALLS), problem.calls - chunk + 1), chunk):
        xs = problem.xs[start : start + chunk].unbind(0)
        before = now(problem.xs.device.type)
        following = carry
        with torch.no_grad():
            for x in xs:
                following, _ = problem.step(following, x)
        advances.append(now(problem.xs.device.type) - before)
        before = now(problem.xs.device.type)
        leaves = tuple(leaf.detach().requires_grad_() for leaf in carry)
        carry, outputs = leaves, []
        for x in xs:
            carry, y = problem.step(carry, x)
            outputs.append(y)
        heads = [head for head in (*carry, *outputs) if head.requires_grad]
        wanted = (*leaves, *problem.params)
        grads = torch.autograd.grad(heads, wanted, [torch.ones_like(head) for head in heads], allow_unused=True)
        for total, grad in zip(totals, grads[len(leaves) :], strict=True):
            if grad is not None:
                total.add_(grad)
        gradients.append(now(problem.xs.device.type) - before)
        carry = following
    return median(advances), median(gradients)
