"""The fast exact builders: closed form for HSM and ISM, dynamic programming for MSM and MSM+.

With ``beta(s, r) = binomial(s + r, s)``, the number ``r`` of repetitions and the closed forms are

    HSM   C = (r + 1) t - beta(m+1, r-1)      for beta(m, r-1) <= t     <= beta(m, r)
    ISM   C = r (t + 1) - beta(m+1, r-1)      for beta(m, r-1) <= t + 1 <= beta(m, r)

and the smallest optimal splits are ``max(1, beta(m, r-2), t - beta(m-1, r))``, with ``t + 1`` for ``t`` in ISM.
"""

from __future__ import annotations

from bisect import bisect_left
from math import comb

import numpy as np

from membptt_theory import mixed
from membptt_theory.bellman import Sweep
from membptt_theory.cache import TABLES
from membptt_theory.policies import POLICIES, find, recurrence
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import INFEASIBLE, Decision, Recurrence


def build(
    policy: str, steps: int, slots: int, /, *, internal: int = 1, internal_known: int | None = None
) -> PolicyTable:
    """Build the table of one policy for every ``t <= steps`` and ``m <= slots``.

    Args:
        policy: a name of `membptt_theory.policies.POLICIES`.
        steps: longest sequence, at least 1.
        slots: largest number of slots, at least 1.
        internal: alpha, slots of an internal state, at least 2, where the policy stores both kinds of state.
        internal_known: beta, its slots where its input hidden state is stored too; ``None``: eq. (7), else (10).

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``steps < 1``, ``slots < 1``, unknown policy, or sizes outside the policy's domain.

    Ref: gruslys2016, Algorithm 1. Claim: hsm-recurrence, ism-recurrence, msm-recurrence.
    """
    steps, slots = check_count("steps", steps), check_count("slots", slots)
    return _build(policy, steps, slots, internal, internal_known)


def useful_slots(policy: str, steps: int, slots: int, /, *, internal: int = 1) -> int:
    """Return `slots`, or the number beyond which more slots save nothing, whichever is less.

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``steps < 1`` or ``slots < 1``.
    """
    unit = internal if find(policy).mixed else 1
    return min(check_count("slots", slots), unit * check_count("steps", steps))


def optimal_cost(policy: str, steps: int, slots: int, /, *, internal: int = 1) -> int:
    """Return ``C(t, m)`` of HSM, ISM or MSM+ in closed form: any ``t``, no table, exact.

    >>> optimal_cost("hsm", 1000, 10), optimal_cost("ism", 10**9, 50)
    (4636, 7699325920)
    >>> optimal_cost("msm_plus", 10**6, 1000, internal=5)
    2899298

    Raises:
        TypeError: a number is not an integer.
        ValueError: another policy, sizes outside its domain, ``steps < 0`` or ``slots < 1``.

    Claim: hsm-closed-form, ism-closed-form, msm-plus-solved.
    """
    solved = policy in POLICIES and POLICIES[policy].solved
    shift = 0 if solved else _shift(policy)
    alpha = recurrence(policy, internal=internal).sizes.internal
    t, m = check_count("steps", steps, least=0) + shift, check_count("slots", slots)
    if solved and alpha:
        return mixed.cost(t, m, alpha)
    if t == 0:
        return 0
    r = repetitions(t, m)
    return (r + 1 - shift) * t - (comb(m + r, r - 1) if r else 0)


def fewest_slots(steps: int, forwards: int, /) -> int:
    """Return the least ``m`` in which HSM backpropagates ``t`` steps in so many forwards.

    >>> fewest_slots(20_000, 3 * 20_000)
    198

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``steps < 1``, or fewer forwards than any number of slots takes.
    """
    steps = check_count("steps", steps)
    if forwards < optimal_cost("hsm", steps, steps):
        raise ValueError(f"{steps} steps take {optimal_cost('hsm', steps, steps)} forwards at least, got {forwards}")
    return bisect_left(range(1, steps), -forwards, key=lambda slots: -optimal_cost("hsm", steps, slots)) + 1


def optimal_split(policy: str, steps: int, slots: int, /) -> int:
    """Return the smallest optimal ``y`` of HSM or ISM in closed form; ``t`` itself where the recompute branch is taken.

    Raises:
        TypeError: a number is not an integer.
        ValueError: another policy, ``steps < 1`` or ``slots < 1``.

    Claim: hsm-splits, ism-splits.
    """
    shift = _shift(policy)
    steps, m = check_count("steps", steps), check_count("slots", slots)
    if m == 1 or steps == 1:
        return steps
    t = steps + shift
    r = repetitions(t, m)
    return max(1, _beta(m, r - 2), t - _beta(m - 1, r))


def repetitions(steps: int, slots: int, /) -> int:
    """Return the smallest ``r`` with ``steps <= beta(slots, r)``: how often HSM advances over its busiest step."""
    if steps <= 1:
        return 0
    low, high = 0, 1
    while not _reaches(slots, high, steps):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _reaches(slots, middle, steps) else (middle, high)
    return high


def check_count(name: str, value: int, /, *, least: int = 1) -> int:
    """Return ``value`` as an int, or raise one clear error."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


@TABLES.remember
def _build(policy: str, steps: int, slots: int, internal: int, internal_known: int | None) -> PolicyTable:
    rule = recurrence(policy, internal=internal, internal_known=internal_known)
    shape = (len(rule.cuts), slots + 1, steps + 1)
    costs = np.full(shape, INFEASIBLE, dtype=np.int64)
    costs[:, :, 0] = 0
    decisions = np.zeros(shape, dtype=np.uint8)
    splits = np.zeros(shape, dtype=np.int32)
    if find(policy).closed_form:
        _fill_by_closed_form(rule, costs[0], decisions[0], splits[0])
    else:
        sweep = Sweep(rule, slots, steps)
        for rows in sweep.blocks():
            for t in range(1, steps + 1):
                for mode in range(shape[0]):
                    best, decisions[mode, rows, t], splits[mode, rows, t] = sweep.best(mode, rows, t)
                    costs[mode, rows, t] = best
                    sweep.put(mode, rows, t, best)
    return PolicyTable(policy, rule.sizes, costs, decisions, splits)


def _fill_by_closed_form(rule: Recurrence, costs: np.ndarray, decisions: np.ndarray, splits: np.ndarray) -> None:
    shift = _shift(rule.policy)
    steps = costs.shape[1] - 1
    t = np.arange(1, steps + 1, dtype=np.int64) + shift
    branch = rule.cuts[0][0].decision
    for m in range(1, len(costs)):
        # beta(m, r) for r = -2 .. first r that covers t; capped, since only comparisons with t <= steps + 1 matter.
        top = repetitions(steps + shift, m)
        columns = [_beta(m, r) for r in range(-2, top)] + [steps + shift]
        covers = np.array(columns, dtype=np.int64)
        r = np.searchsorted(covers[2:], t)
        whole = np.array([0 if k == 0 else comb(m + k, k - 1) for k in range(top + 1)], dtype=np.int64)
        costs[m, 1:] = (r + 1 - shift) * t - whole[r]
        above = np.array([min(_beta(m - 1, k), steps + shift) for k in range(top + 1)], dtype=np.int64)
        y = np.maximum(1, np.maximum(covers[r], t - above[r]))
        last = (t - shift == 1) | (m == 1)
        splits[m, 1:] = np.where(last, t - shift, y)
        decisions[m, 1:] = np.where(last, Decision.LAST, branch)


def _shift(policy: str) -> int:
    shift = POLICIES[policy].shift if policy in POLICIES else None
    if shift is None:
        known = " and ".join(repr(name) for name, record in POLICIES.items() if record.closed_form)
        raise ValueError(f"only {known} have a closed form, got {policy!r}; build a table instead")
    return shift


def _beta(s: int, r: int) -> int:
    return comb(s + r, s) if r >= 0 else 0


def _reaches(s: int, r: int, target: int) -> bool:
    """Whether ``beta(s, r) >= target``, without ever holding a number much larger than ``target``."""
    product = 1
    low, high = sorted((s, r))
    for k in range(1, low + 1):
        product = product * (high + k) // k
        if product >= target:
            return True
    return product >= target
