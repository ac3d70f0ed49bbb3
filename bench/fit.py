"""Equal memory: the settings of `membptt.scan` whose measured peak does not exceed a given number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import count
from operator import itemgetter
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

CHUNKS: Final = (1, 2, 5, 10, 20, 40)
TABLE: Final = Limit(2**28, 3 * 10**8, "to be measured")
FORWARDS_LIMIT: Final = 12  # forwards a step beyond which nobody would run it
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
    beside: int


class Fit:
    """Finds settings for one problem.

    Args:
        problem: what to differentiate.
        meter: measures the peak of a run.

    Attributes:
        seconds: by chunk, to advance a core and to record and backpropagate it, where `time` was called.
    """

    def __init__(self, problem: Problem, meter: Meter) -> None:
        self._problem = problem
        self._meter = meter
        self._cores: dict[int, Core] = {}
        self.seconds: dict[int, tuple[float, float]] = {}

    def best(self, policy: str, budget: int, chunks: Iterable[int] = CHUNKS) -> tuple[Setting, float] | None:
        """Return the setting that is predicted to be fastest within `budget` bytes, and its predicted seconds.

        ``None`` where nothing fits.
        """
        fitting = [setting for chunk in chunks if (setting := self._setting(policy, budget, chunk)) is not None]
        self.time([setting.chunk for setting in fitting])
        return min(((setting, self.predicted(setting)) for setting in fitting), key=itemgetter(1), default=None)

    def time(self, chunks: Iterable[int]) -> None:
        """Time cores of these chunks in turns, the least of five: a choice must not hang on what else a machine did."""
        new = [chunk for chunk in chunks if chunk not in self.seconds]
        rounds = [[operations(self._problem, chunk) for chunk in new] for _ in range(5)]
        for chunk, *samples in zip(new, *rounds, strict=True):
            advance, gradient = map(min, zip(*samples, strict=True))
            self.seconds[chunk] = advance, gradient

    def verified(self, setting: Setting, budget: int) -> tuple[Setting, Peak, int] | None:
        """Measure a setting's peak and forwards; give slots back until the peak is within `budget`.

        ``None``: one slot is too many.
        """
        core = self.core(setting.chunk)
        size = core.internal if setting.policy == "ism" else core.hidden
        for attempt in count():
            peak = self._meter(partial(self._run_counted, setting))
            excess = peak.peak - budget
            if excess <= 0:
                return setting, peak, self._problem.counter[0]
            # Twice as many each time: where a table holds large internal states, one slot less may change nothing.
            slots = setting.slots - 2**attempt * -(-excess // size)
            if slots < 1 or self._forwards(replace(setting, slots=slots)) > FORWARDS_LIMIT * self._problem.calls:
                break
            setting = replace(setting, slots=slots)
        return None

    def predicted(self, setting: Setting) -> float:
        """Return the cost model's seconds."""
        self.time([setting.chunk])
        cores = -(-self._problem.calls // setting.chunk)
        return predict(setting.table(self._problem.calls), cores, setting.slots, *self.seconds[setting.chunk])

    def _run_counted(self, setting: Setting) -> None:
        self._problem.counter[0] = 0
        run(self._problem, setting)

    def _setting(self, policy: str, budget: int, chunk: int) -> Setting | None:
        cores = -(-self._problem.calls // chunk)
        if cores < 2 and chunk > 1:
            return None
        core = self.core(chunk)
        mixes = find(policy).mixed
        known = max(1, -(-core.internal // core.hidden))
        internal = known + 1 if mixes else 1
        size = core.internal if policy == "ism" else core.hidden
        slots = (budget - core.beside) // max(1, size)
        if slots < 1:
            return None
        slots = useful_slots(policy, cores, slots, internal=internal)
        if slots > TABLE.most_slots(policy, cores):
            return None
        setting = Setting(policy, slots, chunk, internal, known if policy == "msm" else None)
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

            def peak(policy: str, slots: int) -> int:
                return self._meter(partial(run, short, Setting(policy, slots, chunk))).peak

            hidden = self._problem.hidden_bytes
            cores = -(-short.calls // chunk)
            inside = max(1, min(5, cores - 2))
            internal = (peak("ism", inside) - peak("ism", 1)) // max(1, inside - 1)
            beside = peak("hsm", 2) - 2 * hidden
            self._cores[chunk] = Core(hidden, max(hidden, internal), max(0, beside))
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
