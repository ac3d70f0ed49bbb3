"""Checks of chains whose states share tensors, open skip connections: each is counted once, whoever holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from random import Random
from typing import TypeAlias

from membptt_proofs.checks.front import on_chains, random_blocks
from membptt_proofs.checks.registry import Covered, Effort, check, need
from membptt_proofs.front_oracle import naive_front, objects_peak, searched_front
from membptt_theory.actions import Block, Skip
from membptt_theory.front import Front, solve_front
from membptt_theory.front_terms import everything_alive
from membptt_theory.machine import meter_chain

Skipping: TypeAlias = tuple[list[Block], list[Skip]]

_SMALL = "4 kinds of blocks, each set of at most 2 skips"


def with_skips(blocks: list[Block], skips: list[Skip]) -> Skipping:
    """Return blocks that hand on the skips beside their own outputs."""
    held = [sum(skip.bytes for skip in skips if skip.first <= p <= skip.last) for p in range(1, len(blocks) + 1)]
    return [replace(block, output=block.output + size) for block, size in zip(blocks, held, strict=True)], skips


def small_skipping_chains(count: int) -> Iterator[Skipping]:
    """Yield every chain of `count` blocks of a few costs and bytes, with every set of at most two skips."""
    kinds = [
        Block(advance=advance, record=3, backward=1, output=1, internal=internal, advance_need=need, backward_need=2)
        for advance, internal, need in ((1, 0, 0), (3, 0, 1), (1, 2, 0), (3, 2, 0))
    ]
    held = [Skip(first, last, 2) for first, last in combinations(range(count + 1), 2)]
    for blocks, number in product(product(kinds, repeat=count), range(3)):
        for skips in combinations(held, number):
            yield with_skips(list(blocks), list(skips))


def random_skipping_chain(random: Random, count: int, most: int = 6) -> Skipping:
    """Return blocks as they are in practice, and up to three skips; gradients may be of other bytes than outputs."""
    ends = (sorted(random.sample(range(count + 1), 2)) for _ in range(random.randint(1, 3)))
    skips = [Skip(first, last, random.randint(0, most)) for first, last in ends]
    blocks, skips = with_skips(random_blocks(random, count, most), skips)
    if random.random() < 0.5:
        blocks = [replace(block, gradient=block.output + random.randint(-1, 2)) for block in blocks]
    return blocks, skips


def solve(blocks: list[Block], skips: list[Skip]) -> Front:
    """Return the front, each tensor counted once."""
    return solve_front(everything_alive(blocks, skips))


@check("front-skips-recurrence")
def front_skips_recurrence(effort: Effort) -> str:
    """Compare the fronts with the equation between fronts, pair by pair."""

    def draw(random: Random, case: int) -> Skipping:
        return random_skipping_chain(random, 4 + case % 6, random.choice((2, 6, 10**9)))

    def agree(blocks: list[Block], skips: list[Skip]) -> bool:
        return solve(blocks, skips).points == naive_front(blocks, skips)

    cases = effort.pick(60, 600)
    return f"{_SMALL}: {on_chains(effort, 31, every=small_skipping_chains, draw=draw, cases=cases, agree=agree)}"


@check("front-skips-optimal")
def front_skips_optimal(effort: Effort) -> str:
    """Search all persistent schedules that store a state behind all those that are stored."""

    def draw(random: Random, case: int) -> Skipping:
        return random_skipping_chain(random, 4 + case % 2)

    def agree(blocks: list[Block], skips: list[Skip]) -> bool:
        return solve(blocks, skips).points == searched(blocks, skips, nested=True)

    cases = effort.pick(20, 400)
    return f"{_SMALL}: {on_chains(effort, 32, every=small_skipping_chains, draw=draw, cases=cases, agree=agree)}"


@check("front-skips-metered")
def front_skips_metered(effort: Effort) -> str:
    """Execute the schedule of every point on paper, once by names of tensors, once with tensors as objects."""
    drawn, random = Covered(), Random(33)
    for case in drawn.counted("drawn", range(effort.pick(30, 240))):
        blocks, skips = random_skipping_chain(random, 1 + case % 14, random.choice((3, 10**6)))
        front = solve(blocks, skips)
        for room, cost in drawn.every("point", front.points):
            schedule = front.schedule(room)
            report = meter_chain(schedule, blocks, skips)
            need((report.bytes, report.cost) == (room, cost), f"{blocks}, {skips}, {room} bytes, cost {cost}: {report}")
            need(objects_peak(schedule, blocks, skips) == room, f"{blocks}, {skips}: not {room} bytes as objects")
        drawn.note(n=len(blocks))
    return str(drawn)


@check("front-skips-beyond-nested")
def front_skips_beyond_nested(effort: Effort) -> str:
    """Verify the counterexample: to advance before a skip's gradient is there beats the front."""
    block = Block(output=0, internal=0)
    graph, need_gradient = replace(block, internal=1), replace(block, backward_need=3)
    first, last = replace(graph, advance_need=1, record_need=1), replace(graph, advance_need=3, record_need=3)
    blocks, skips = with_skips([first, block, block, need_gradient, last], [Skip(0, 3, 3)])
    points, others = solve(blocks, skips).points, searched(blocks, skips, nested=False)
    need(searched(blocks, skips, nested=True) == points, f"front {points}")
    need((points[0], others[0]) == ((4, 9), (4, 7)), f"front {points}, search {others}")
    chain = "the caller's 3 bytes in states 1 to 3, graphs 1, 0, 0, 0, 1"
    return f"{chain}: in 4 bytes the front gives 9 forwards, the search 7"


def searched(blocks: list[Block], skips: list[Skip], *, nested: bool) -> list[tuple[int, int]]:
    """Return the front over all persistent schedules, or over those that are nested, too."""
    front = searched_front(blocks, skips, persistent=True, nested=nested)
    return [(room, cost) for room, cost, _ in front]
