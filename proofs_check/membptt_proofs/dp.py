"""The referee of the tables: the paper's recurrences transcribed naively. Imports nothing of ours, on purpose.

Ref: gruslys2016, equations (1)-(10), with the boundaries of the main text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

INFINITE = float("inf")  # only ever compared with; every finite cost stays an int


def hsm(steps: int, slots: int) -> list[list[float]]:
    """``C[m][t]`` of hidden-state memorisation, equations (1)-(3)."""
    c = _boundary(steps, slots, lambda t, m: 2 * t - 1 if m >= t else None)
    for m in range(2, slots + 1):
        for t in range(m + 1, steps + 1):
            c[m][t] = min(y + c[m - 1][t - y] + c[m][y] for y in range(1, t))
    return c


def ism(steps: int, slots: int) -> list[list[float]]:
    """``C[m][t]`` of internal-state memorisation, equations (4)-(5)."""
    c = _boundary(steps, slots, lambda t, m: t if m >= t else None)
    for m in range(2, slots + 1):
        for t in range(m + 1, steps + 1):
            c[m][t] = min(y + c[m][y - 1] + c[m - 1][t - y] for y in range(1, t + 1))
    return c


def msm(steps: int, slots: int, alpha: int, beta: int | None = None) -> list[list[float]]:
    """``C[m][t]`` of mixed-state memorisation, equations (6)-(9); (10) in place of (7) where `beta` is given.

    ``C(1, m) = 1`` for every ``m >= 1``: printed for HSM, needed here where ``1 < m < alpha``.
    """
    c = _boundary(steps, slots, lambda t, m: t if m >= alpha * t else None)
    for m in range(2, slots + 1):
        for t in range(2, steps + 1):
            if m >= alpha * t:
                continue
            best = min(y + c[m][y] + c[m - 1][t - y] for y in range(1, t))
            for y in range(1, t + 1):
                left_over = m - (beta if beta is not None and y == 1 else alpha)
                if left_over >= 0:
                    best = min(best, y + c[m][y - 1] + c[left_over][t - y])
            c[m][t] = best
    return c


def msm_plus(steps: int, slots: int, alpha: int) -> list[list[float]]:
    """``C[m][t]`` of MSM+: the first of `msm_plus_parts`."""
    return msm_plus_parts(steps, slots, alpha)[0]


def msm_plus_parts(steps: int, slots: int, alpha: int) -> tuple[list[list[float]], list[list[float]]]:
    """``P[m][t]`` and ``R[m][t]`` in MSM+'s two-branch form: hidden cuts, and one way to give up the start, or a slot.

    ``R`` is the cost of a part that may not give up its start, whose slot counts all the same.

    ``P = min(y + P(y, m) + P(t-y, m-1), 1 + R(t-1, m+1-alpha))``, ``R = min(y + R(y, m) + P(t-y, m-1), P(t, m-1))``.
    """
    owned, kept = (_boundary(steps, slots, lambda t, m: None) for _ in range(2))
    for m in range(2, slots + 1):
        for t in range(2, steps + 1):
            released = 1 + kept[m + 1 - alpha][t - 1] if m + 1 > alpha else INFINITE
            owned[m][t] = min(released, *(y + owned[m][y] + owned[m - 1][t - y] for y in range(1, t)))
            kept[m][t] = min(owned[m - 1][t], *(y + kept[m][y] + owned[m - 1][t - y] for y in range(1, t)))
    return owned, kept


def mixed(steps: int, slots: int) -> list[list[float]]:
    """``C[s][t]`` of Maddison's mixed schedules: a slot holds a hidden state, or an internal state without its output.

    The starting state is not stored to begin with. Ref: maddison2024.
    """
    c = [[0] + [INFINITE] * steps for _ in range(slots + 1)]
    for s in range(slots + 1):
        for t in range(1, steps + 1):
            if t <= s + 1:
                c[s][t] = t
            elif s == 1:
                c[s][t] = t * (t + 1) // 2 - 1
            elif s > 1:
                cuts = (y + c[s][y] + c[s - 1][t - y] for y in range(2, t))
                c[s][t] = min(1 + c[s - 1][t - 1], *cuts)
    return c


def rotor(steps: int, slots: int, beta: int) -> list[list[float]]:
    """``C[f][t]`` of rotor on equal cores, ``f`` slots beside the input: keep an input, or all of the first core.

    An output takes a slot, all of a core beside its input `beta`; what a core needs while it runs is outside, as in all
    of this project. Ref: beaumont2019.
    """
    c = [[0] + [INFINITE] * steps for _ in range(slots + 1)]
    for f in range(slots + 1):
        for t in range(1, steps + 1):
            options: list[float] = [1 if t == 1 else t * (t + 1) // 2]
            options += [y + c[f][y] + c[f - 1][t - y] for y in range(1, t)] if f else []
            options += [1 + c[f - beta][t - 1]] if f >= beta else []
            c[f][t] = min(options)
    return c


def _boundary(steps: int, slots: int, enough: Callable[[int, int], int | None]) -> list[list[float]]:
    """Rows ``0 .. slots``: ``C(0, m) = 0``, ``C(t, 0)`` infeasible, ``C(1, m) = 1``, ``C(t, 1)``, and enough slots."""
    c: list[list[float]] = [[0] + [INFINITE] * steps for _ in range(slots + 1)]
    for m in range(1, slots + 1):
        for t in range(1, steps + 1):
            given = 1 if t == 1 else t * (t + 1) // 2 if m == 1 else enough(t, m)
            if given is not None:
                c[m][t] = given
    return c


# By the policy's name; a policy with sizes takes them after steps and slots.
REFEREES: dict[str, Callable[..., Any]] = {"hsm": hsm, "ism": ism, "msm": msm}
