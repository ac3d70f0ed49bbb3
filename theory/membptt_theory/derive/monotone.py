"""Algorithm 1 in ``O(t m)`` for HSM and ISM: the optimal splits move right by one step at most as ``t`` grows by one.

Ref: gruslys2016, appendix A.
"""

from __future__ import annotations

from typing import NamedTuple

import sympy as sp

from membptt_theory.derive.envelope import Splits, m, r, x
from membptt_theory.derive.hsm import t
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, beta
from membptt_theory.policies import POLICIES
from membptt_theory.tables import build, check_count


class Search(NamedTuple):
    """What `pointer_search` found.

    Args:
        costs: row ``m - 1`` holds ``C(t, m)`` for ``t = 1 .. steps``.
        splits: likewise the smallest optimal ``y``; 0 where nothing is cut.
        evaluations: of ``y + C(.., m) + C(.., m-1)``, over the whole table.
    """

    costs: list[list[int]]
    splits: list[list[int]]
    evaluations: int


def monotone_splits(
    policy: str, *, left_low: int = -2, left_high: int = -1, right_low: int = -1, right_high: int = 0
) -> Derivation:
    """Derive that both ends of the interval of optimal splits move by 0 or 1 when ``t`` grows by 1.

    Args:
        policy: ``"hsm"`` or ``"ism"``; with ``x = t`` or ``x = t + 1`` their intervals are the same.
        left_low: offset to ``r`` in ``beta(m, r-2) <= y``; the others likewise, see `hsm.split_interval`.
        left_high: offset in ``y <= beta(m, r-1)``.
        right_low: offset in ``y <= x - beta(m-1, r-1)``.
        right_high: offset in ``x - beta(m-1, r) <= y``.

    Raises:
        ValueError: another policy.

    Ref: gruslys2016, appendix A. Claim: B11.
    """
    shift = _shift(policy)
    low, other_low, high, other_high = Splits(left_low, left_high, right_low, right_high).ends()
    edge, meet = beta(m, r), beta(m, r - 1)
    text = "at the breakpoint x = beta(m, r), where r and r + 1 both fit, "
    steps: tuple[Step, ...] = (
        Identity(
            "moves-low", other_low.subs(x, x + 1) - other_low, sp.S.One, "of max(1, A, x - B), with r fixed: 0, 1"
        ),
        Identity("moves-high", other_high.subs(x, x + 1) - other_high, sp.S.One, "of min(A, x - B): 0 or 1"),
        Identity("low-at-r", other_low.subs(x, edge), meet, text + "both give the one split beta(m, r-1)", {m: 2}),
        Inequality("low-at-r-is-the-end", meet, low, beta(m - 1, r - 1), text=text + "by r", lowest={m: 2}),
        Identity("high-at-r", high, meet, text + "by r"),
        Inequality(
            "high-at-r-is-the-end", other_high.subs(x, edge), meet, beta(m - 2, r), text=text + "by r", lowest={m: 2}
        ),
        Identity("low-at-r-plus-1", low.subs(r, r + 1), meet, text + "by r + 1"),
        Inequality(
            "low-at-r-plus-1-is-the-end",
            meet,
            other_low.subs(r, r + 1).subs(x, edge),
            beta(m - 2, r + 1),
            text=text + "by r + 1",
            lowest={m: 2},
        ),
        Identity("high-at-r-plus-1", other_high.subs(r, r + 1).subs(x, edge), meet, text + "by r + 1", {m: 2}),
        Inequality(
            "high-at-r-plus-1-is-the-end",
            high.subs(r, r + 1),
            meet,
            beta(m - 1, r),
            text=text + "by r + 1",
            lowest={m: 2},
        ),
        Finite(
            "finite", lambda: _search_is_the_table(policy), "costs, splits, number of evaluations: t <= 200, m <= 20"
        ),
    )
    y = sp.Function("y")
    return Derivation(
        "B11",
        sp.And(sp.Le(y(t, m), y(t + 1, m)), sp.Le(y(t + 1, m), y(t, m) + 1)),
        sp.And(sp.Ge(t, 2 - shift, evaluate=False), sp.Ge(m, 2)),
        "For the smallest optimal split y, and for the largest. Within one r each end is the maximum or minimum of "
        "constants and of x less a constant; at a breakpoint both r give the same split. So C(t+1, m) is Q at y or at "
        "y + 1, with y the smallest optimal split of t: two evaluations an entry, at most 2 t m in all.",
        steps,
        uses=(f"{policy}-splits",),
    )


def pointer_search(policy: str, steps: int, slots: int, /) -> Search:
    """Solve the recurrence of HSM or ISM with a pointer that only moves right: two evaluations an entry.

    >>> search = pointer_search("hsm", 100, 10)
    >>> search.costs[9][99], search.evaluations
    (322, 1773)

    Args:
        policy: ``"hsm"`` or ``"ism"``.
        steps: ``t``, at least 1.
        slots: ``m``, at least 1.

    Raises:
        TypeError: a number is not an integer.
        ValueError: another policy, or a number is below 1.

    Ref: gruslys2016, appendix A. Claim: B11.
    """
    shift = _shift(policy)
    steps, slots = check_count("steps", steps), check_count("slots", slots)
    longest, evaluations = steps + shift, 0
    # Index x = t + shift; row m = 1 is the boundary x (x+1) / 2, less x for ISM.
    above = [n * (n + 1) // 2 - shift * n for n in range(longest + 1)]
    costs, splits = [above[1 + shift :]], [[0] * steps]
    for _ in range(1, slots):
        row, chosen, y = above[:2], [0, 0], 1
        for n in range(2, longest + 1):
            candidates = [at + row[at] + above[n - at] for at in range(y, min(y + 2, n))]
            evaluations += len(candidates)
            row.append(min(candidates))
            y += candidates.index(row[-1])
            chosen.append(y)
        costs.append(row[1 + shift :])
        splits.append(chosen[1 + shift :])
        above = row
    return Search(costs, splits, evaluations)


def _shift(policy: str) -> int:
    if policy not in POLICIES or not POLICIES[policy].closed_form:
        raise ValueError(f"only 'hsm' and 'ism' have monotone splits, got {policy!r}")
    return int(policy == "ism")


def _search_is_the_table(policy: str) -> bool:
    table, search = build(policy, 200, 20), pointer_search(policy, 200, 20)
    cut = [(s, n) for s in range(2, 21) for n in range(2 - _shift(policy), 201)]
    return (
        search.costs == table.costs[0, 1:, 1:].tolist()
        and all(search.splits[s - 1][n - 1] == int(table.splits[0, s, n]) for s, n in cut)
        and search.evaluations <= 2 * 200 * 20
    )
