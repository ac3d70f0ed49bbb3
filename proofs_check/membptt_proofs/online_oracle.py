"""The referee of loops of unknown length: every online policy at once, each rule naively, equinox's program as it is.

Held states are positions beside position 0, which is always stored. After ``t`` steps an undelayed policy may hold
states up to ``t - 1``, a delayed one up to ``t - 2``. Imports the naive recurrence and nothing else of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Final

from membptt_proofs.dp import hsm, msm_plus_parts

Costs = Sequence[Sequence[float]]
Held = tuple[int, ...]
Stored = tuple[tuple[int, bool], ...]
_BOUND: Final = Fraction(103, 100)


def least_worst_ratio(slots: int, steps: int, *, delay: bool, most: Fraction) -> tuple[Fraction, int]:
    """Return the least worst ratio, to the offline optimum, of any policy up to ``t``, and how many sets were kept.

    Searched over all policies: a state may be stored when it is passed, in a free slot or in the place of any other,
    and at the end states may be given up before the gaps are completed, each in the slots that are free by then.

    Args:
        slots: ``m``.
        steps: the longest loop.
        delay: whether a state may still be stored while the step after it is the newest.
        most: a ratio that some policy keeps; what exceeds it is not followed.

    Raises:
        ValueError: no policy keeps `most`.

    Claim: online-two-slots, online-three-slots, online-without-delay.
    """
    costs = hsm(steps, slots)
    worst: dict[Held, Fraction] = {(): Fraction(1)}
    for t in range(1, steps + 1):
        state = t - 2 if delay else t - 1
        reached: dict[Held, Fraction] = {}
        for held, ratio in worst.items():
            for after in _choices(held, state, slots):
                reached[after] = min(ratio, reached.get(after, ratio))
        worst = {}
        for held, ratio in reached.items():
            least = min(forwards(kept, t, slots, costs) for k in range(len(held) + 1) for kept in combinations(held, k))
            now = Fraction(int(least), int(costs[slots][t]))
            if max(ratio, now) <= most:
                worst[held] = max(ratio, now)
        if not worst:
            raise ValueError(f"no policy in {slots} slots keeps {most} up to {t} steps")
    return min(worst.values()), len(worst)


def forwards(held: Held, steps: int, slots: int, costs: Costs) -> float:
    """Return the first pass and the gaps, the last of which ends before the newest step, whose graph is kept."""
    points = (0, *held, steps - 1)
    return steps + sum(costs[slots - j][b - a] for j, (a, b) in enumerate(pairwise(points)))


def by_budget(
    slots: int, steps: int, promised: Callable[[int], Fraction], *, ahead: int, delay: int, latest: bool = False
) -> Iterator[Held]:
    """Yield what the budget rule holds after ``1, 2, ..`` steps, from all of its choices evaluated from scratch.

    Args:
        slots: ``m``.
        steps: the last length.
        promised: of a number of steps, the ratio that is kept where it can be.
        ahead: how many steps later the choices are compared.
        delay: 1 or 0.
        latest: whether the latest of equal choices is taken.
    """
    costs = hsm(steps + ahead, slots)
    held: Held = ()
    for t in range(1, steps + 1):
        state = t - 1 - delay
        if state > 0 and len(held) < slots - 1:
            held = (*held, state)
        elif state > 0:
            allowed = promised(t) * int(costs[slots][t])
            full = (*held, state)
            choices = [full[:j] + full[j + 1 :] for j in range(slots)]
            if latest:
                choices.reverse()
            held = min(
                choices,
                key=lambda h: (max(allowed, int(forwards(h, t, slots, costs))), forwards(h, t + ahead, slots, costs)),
            )
        yield held


def with_graphs(slots: int, alpha: int, steps: int, *, ahead: int = 2, bound: Fraction = _BOUND) -> Iterator[Stored]:
    """Yield what is held after ``1, 2, ..`` steps where graphs are kept too: pairs of a step and whether it is a graph.

    Every row that a reduction leads to is priced from scratch, with the costs of MSM+ as its recurrence gives them.

    Args:
        slots: ``m``, of a hidden state each.
        alpha: slots of a graph.
        steps: the last length.
        ahead: how many steps later the choices are compared.
        bound: the ratio to MSM+ that is kept where it can be.
    """
    owned, kept = msm_plus_parts(steps + ahead, slots, alpha)

    def slots_of(held: Stored) -> int:
        return sum(alpha if graph else 1 for _, graph in held)

    def repeated(held: Stored, stop: int) -> float:
        forwards: float = 0
        for j, (state, graph) in enumerate(held):
            end = held[j + 1][0] if j + 1 < len(held) else stop
            free = slots - slots_of(held[:j])
            forwards += kept[max(1, free - alpha + 1)][end - state - 1] if graph else owned[max(1, free)][end - state]
        return forwards

    def reductions(held: Stored) -> Iterator[Stored]:
        for j, (state, graph) in enumerate(held):
            if graph:
                yield (*held[:j], (state, False), *held[j + 1 :])
            if j:
                yield (*held[:j], *held[j + 1 :])

    def price(held: Stored, reduced: Stored, stop: int) -> Fraction:
        freed = min(slots_of(held) - slots_of(reduced), slots_of(held) - slots)
        return Fraction(int(repeated(reduced, stop) - repeated(held, stop)), freed)

    def fitting(held: Stored, stop: int) -> Stored:
        while slots_of(held) > slots:
            held = min(reductions(held), key=lambda reduced, held=held: price(held, reduced, stop))  # type: ignore[misc]
        return held

    held: Stored = ((0, False),)
    for t in range(1, steps + 1):
        if alpha * (t - 1) <= slots:
            held = tuple((step, True) for step in range(t - 1)) or held
        elif t > 2:
            allowed = bound * int(owned[slots][t])
            choices = held, *(fitting((*held, (t - 2, graph)), t - 1 + ahead) for graph in (True, False))
            held = min(
                choices,
                key=lambda held: (
                    max(allowed, int(t + repeated(held, t - 1))),
                    repeated(held, t - 1 + ahead),
                    sum(graph for _, graph in held),
                ),
            )
        yield held


def by_levels(slots: int, steps: int) -> Iterator[Held]:
    """Yield what Wang, Moin and Iaccarino's algorithm holds after ``1, 2, ..`` steps.

    A checkpoint is dispensable if a later one has a higher level; this is looked up afresh at every step.

    Ref: wang2009, algorithm 1.
    """
    level: dict[int, float] = {0: float("inf")}
    yield ()
    for state in range(1, steps):
        if len(level) < slots:
            level[state] = 0
        elif slots > 1:
            dispensable = [p for p in level if any(q > p and level[q] > level[p] for q in level)]
            if dispensable:
                del level[max(dispensable)]
                level[state] = 0
            else:
                level[state] = level.pop(max(level)) + 1
        yield tuple(sorted(p for p in level if p))


def equinox_forwards(checkpoints: int, steps: int) -> int:
    """Count the evaluations of the body in equinox's checkpointed loop, walked through as it is programmed.

    Ref: equinox, ``_loop/checkpointed.py`` at 9336d82, without ``max_steps``.
    """
    unreachable = 10**18
    residual_steps = [unreachable] * checkpoints
    i, o, p, s = 0, checkpoints, checkpoints, True
    levels, dispensable = [unreachable] + [0] * (checkpoints - 1), [False] * checkpoints
    evaluations = 0
    for step in range(steps):
        if step >= (checkpoints + 1) * (checkpoints + 2) // 2 - 1:
            save, index = checkpoints > 1, 0
            if save and any(dispensable):
                index = max(range(checkpoints), key=lambda k: residual_steps[k] if dispensable[k] else 0)
                levels[index], dispensable[index] = 0, False
            elif save:
                index = max(range(checkpoints), key=residual_steps.__getitem__)
                dispensable = [old or level < levels[index] for old, level in zip(dispensable, levels, strict=True)]
                levels[index] += 1
        else:
            save, index = s, i
            i = i + 1 if s else i
            i = 1 if s and i > o else i
            s = False if step + 1 == p else s
            if step == p:
                p, o = p + o, o - 1
                i, s = o, o > 0
        if save:
            residual_steps[index] = step
        evaluations += 1
    residual_steps.sort()

    def load(step_grad_val: int, index: int) -> tuple[int, int]:
        step_val = residual_steps[max(index - 1, 0)]
        return step_val, max(index - 1, 0) if step_val + 1 == step_grad_val else index

    def next_checkpoint(step_val: int, step_grad_val: int, index: int) -> int:
        if index == checkpoints or step_grad_val - step_val <= 2:
            return unreachable
        if step_grad_val - step_val - 2 <= checkpoints - index:
            return step_val + 1
        return step_val + (step_grad_val - step_val) // 2

    step_grad_val = steps
    step_val, index = load(steps, min(steps, checkpoints))
    upcoming = next_checkpoint(step_val, step_grad_val, index)
    while step_grad_val > 0:
        evaluations += 1
        if step_val + 1 == step_grad_val:
            step_grad_val -= 1
            step_val, index = load(step_grad_val, index)
            upcoming = next_checkpoint(step_val, step_grad_val, index)
        else:
            step_val += 1
        if step_val == upcoming:
            residual_steps[index] = step_val
            index += 1
            upcoming = next_checkpoint(step_val, step_grad_val, index)
    return evaluations


def _choices(held: Held, state: int, slots: int) -> Iterator[Held]:
    yield held
    if state < 1:
        return
    if len(held) < slots - 1:
        yield (*held, state)
    else:
        for j in range(len(held)):
            yield (*held[:j], *held[j + 1 :], state)
