"""Checks of what the paper prints and what cannot be so: each counterexample is verified afresh."""

from __future__ import annotations

from math import inf

from membptt_proofs.checks.registry import Effort, check, need
from membptt_proofs.oracle import least_forwards
from membptt_theory.actions import Sizes


@check("algorithm-2")
def algorithm_2(effort: Effort) -> str:
    """Run Algorithm 2 as printed and see it fail: at one slot for want of a branch, elsewhere for its forward loop."""
    splits = _printed_splits(6, 3)
    with_one_slot = _outcome(3, 1, splits)
    need(with_one_slot == "KeyError: (3, 1)", with_one_slot)
    longer = _outcome(4, 2, splits)
    need(longer.startswith("ran 4 steps where y = "), longer)
    return f"t = 3, m = 1: D[3][1] is never set; t = 4, m = 2: {longer}"


@check("appendix-b-boundary")
def appendix_b_boundary(effort: Effort) -> str:
    """Compare the two printed boundaries with the search at one slot, where every step is run from the start."""
    wrong = []
    for t in range(1, effort.pick(6, 9) + 1):
        search = least_forwards(t, 1, Sizes(hidden=1, internal=None))
        need(2 * search == t * (t + 1), f"t={t}: the main text's boundary is not {search}")
        wrong += [t] if 2 * search != t * (t + 2) else []
    need(wrong[:1] == [1] and len(wrong) == t, f"the appendix's boundary is right at some t <= {t}")
    return f"wrong at every t <= {t}: 3/2 against 1 at t = 1"


@check("msm-boundary-complete")
def msm_boundary_complete(effort: Effort) -> str:
    """Solve (6)-(9) with the printed boundaries alone: C(1, m) is infinite for 1 < m < alpha; the search needs 1."""
    for alpha in range(3, effort.pick(5, 9)):
        for m in range(2, alpha):
            search = least_forwards(1, m, Sizes(1, alpha))
            need((_printed_msm(1, m, alpha), search) == (inf, 1), f"alpha={alpha}, m={m}: {search}")
        need(_printed_msm(1, alpha, alpha) == 1, f"alpha={alpha}: with m = alpha the boundary is printed")
    return f"alpha 3..{alpha}: infinite as printed, 1 by the search"


def _printed_msm(steps: int, slots: int, alpha: int) -> float:
    if slots < 0 or (slots == 0 and steps):
        return inf
    if slots == 1 or steps == 0:
        return steps * (steps + 1) // 2
    if slots >= alpha * steps:
        return steps
    hidden = [y + _printed_msm(y, slots, alpha) + _printed_msm(steps - y, slots - 1, alpha) for y in range(1, steps)]
    internal = [
        y + _printed_msm(y - 1, slots, alpha) + _printed_msm(steps - y, slots - alpha, alpha)
        for y in range(1, steps + 1)
    ]
    return min([*hidden, *internal])


def _printed_splits(steps: int, slots: int) -> dict[tuple[int, int], int]:
    """Algorithm 1 as printed: ``D`` is set inside the loops over ``m >= 2`` and ``t >= 2`` only."""
    splits, costs = {}, {}
    for t in range(1, steps + 1):
        costs[t, 1] = t * (t + 1) // 2
    for m in range(2, slots + 1):
        costs[1, m] = 1
        for t in range(2, steps + 1):
            options = {y: y + costs[t - y, m - 1] + costs[y, m] for y in range(1, t)}
            splits[t, m] = min(options, key=lambda y, options=options: (options[y], y))  # type: ignore[misc]
            costs[t, m] = options[splits[t, m]]
    return splits


def _outcome(steps: int, slots: int, splits: dict[tuple[int, int], int]) -> str:
    """Run the printed algorithm on a counter; say what went wrong, or 'fine'."""
    ran: list[int] = []
    try:
        _printed(steps, slots, 0, splits, ran)
    except (KeyError, _LoopError) as error:
        return f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    return "fine"


class _LoopError(Exception):
    """The printed loop runs another number of steps than the table's split."""


def _printed(steps: int, slots: int, start: int, splits: dict[tuple[int, int], int], ran: list[int]) -> None:
    """Algorithm 2 line by line, its forward loop over ``0 .. t-1`` included."""
    if slots >= 1 and steps == 1:
        ran.append(start)
        return
    y = splits[steps, slots]
    forwards = 0
    for _ in range(steps):
        forwards += 1
    if forwards != y:
        raise _LoopError(f"ran {forwards} steps where y = {y} were meant")
    _printed(steps - y, slots - 1, start + y, splits, ran)
    _printed(y, slots, start, splits, ran)
