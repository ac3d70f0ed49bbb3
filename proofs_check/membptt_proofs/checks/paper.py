"""Checks of what the paper prints and what cannot be so: each counterexample is verified afresh."""

from __future__ import annotations

from membptt_proofs.checks.registry import Effort, check, need
from membptt_theory.recurrences import recurrence
from membptt_theory.tables import build


@check("algorithm-2")
def algorithm_2(effort: Effort) -> str:
    """Run Algorithm 2 as printed and see it fail: at one slot for want of a branch, elsewhere for its forward loop."""
    table = build("hsm", 6, 3)
    splits = {(t, m): table.decision(t, m)[1] for t in range(2, 7) for m in range(2, 4)}
    with_one_slot = _outcome(3, 1, splits)
    need(with_one_slot == "KeyError: (3, 1)", with_one_slot)
    longer = _outcome(4, 2, splits)
    need(longer.startswith("ran 4 steps where y = "), longer)
    return f"t = 3, m = 1: D[3][1] is never set; t = 4, m = 2: {longer}"


@check("appendix-b-boundary")
def appendix_b_boundary(effort: Effort) -> str:
    """Compare the two printed boundaries at t = 1: one of them is no integer, and a step costs one forward."""
    printed, main_text = (1 * (1 + 2), 2), (1 * (1 + 1), 2)
    need(printed[0] % printed[1] != 0, "t (t + 2) / 2 is an integer at t = 1")
    need(main_text[0] // main_text[1] == build("ism", 1, 1).cost(1, 1), "the main text's boundary is wrong")
    return "at t = 1, t (t + 2) / 2 = 3/2; the main text's t (t + 1) / 2 = 1"


@check("msm-boundary-complete")
def msm_boundary_complete(effort: Effort) -> str:
    """Look for a legal cut of (6)-(7) at t = 1, 1 < m < alpha: there is none, though one step always can be done."""
    for alpha in range(3, 9):
        rule = recurrence("msm", internal=alpha)
        storing = [cut for cut in rule.cuts[0] if cut.decision.name != "LAST"]
        for m in range(2, alpha):
            legal = [cut for cut in storing if len(cut.splits(1)) and cut.room <= m]
            need(not legal, f"alpha={alpha}, m={m}: {legal}")
            need(rule.boundary(1, m) == 1, f"alpha={alpha}, m={m}")
    return "alpha 3..8: no cut of (6)-(7) is legal at t = 1, 1 < m < alpha"


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
