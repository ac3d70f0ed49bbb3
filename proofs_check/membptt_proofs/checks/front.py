"""Checks of chains that may keep outputs and internal states: the exact front against its referees and its machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any, TypeAlias

from membptt_proofs.checks.registry import Covered, Effort, check, need
from membptt_proofs.front_oracle import beaumont_costs, naive_front, searched_front
from membptt_theory.actions import Block
from membptt_theory.chain import Chain, solve_chain
from membptt_theory.front import near_front, solve_front
from membptt_theory.front_parts import Parts
from membptt_theory.front_terms import Recurrence, everything_alive
from membptt_theory.machine import meter_chain
from membptt_theory.tables import build

Ints: TypeAlias = Sequence[int]

TOO_LARGE = 2**40  # bytes of an internal state that never fits
# Recording takes no less time and no fewer bytes than advancing.
_KINDS = [
    Block(advance=cost, record=cost, backward=1, output=output, internal=internal, backward_need=gradient)
    for cost, output, internal, gradient in product((1, 3), (1, 3), (0, 2), (0, 2))
]


def random_blocks(random: Random, count: int, most: int = 6) -> list[Block]:
    """Return blocks as they are in practice: recording takes no less time and no fewer bytes than advancing."""
    blocks = []
    for _ in range(count):
        advance, internal, record_need = random.randint(1, 4), random.randint(0, 2 * most), random.randint(0, 2)
        blocks.append(
            Block(
                advance=advance,
                record=advance + random.randint(0, 1),
                backward=random.randint(0, 2 * advance),
                output=random.randint(1, most),
                internal=internal,
                advance_need=random.randint(0, min(2, internal + record_need)),
                record_need=record_need,
                backward_need=random.randint(0, most),
            )
        )
    return blocks


_SMALL = "16 kinds of blocks"


def small_chains(count: int) -> Iterator[tuple[Block, ...]]:
    """Yield every chain of `count` blocks of a few costs and bytes, such as there are not in practice included."""
    kinds = [
        Block(
            advance=advance, record=2, backward=1, output=output, internal=internal, advance_need=need, backward_need=2
        )
        for advance, output, internal, need in product((1, 3), (1, 3), (0, 2), (0, 3))
    ]
    return product(kinds, repeat=count)


def _small(count: int) -> Iterator[tuple[tuple[Block, ...]]]:
    return zip(small_chains(count), strict=True)


def on_chains(
    effort: Effort,
    seed: int,
    *,
    every: Callable[[int], Iterable[tuple[Any, ...]]],
    draw: Callable[[Random, int], tuple[Any, ...]],
    cases: int,
    agree: Callable[..., bool],
) -> str:
    """Need two ways to solve a chain to agree, on every small one and on drawn ones; return which these were.

    Args:
        effort: small chains have up to two blocks, or three.
        seed: of the drawn ones.
        every: yields all small ones of so many blocks, each as what `agree` takes, its blocks first.
        draw: returns one alike, given its number.
        cases: how many are drawn.
        agree: whether both ways give the same.
    """
    small, drawn, random = Covered(), Covered(), Random(seed)
    for n in small.over("n", range(1, effort.pick(2, 3) + 1)):
        for chain in small.every("chain", every(n)):
            need(agree(*chain), f"{chain}")
    for case in drawn.counted("drawn", range(cases)):
        chain = draw(random, case)
        need(agree(*chain), f"{chain}")
        drawn.note(n=len(chain[0]))
    return f"{small}; {drawn}"


@check("front-recurrence")
def front_recurrence(effort: Effort) -> str:
    """Compare the fronts with the equation between fronts, pair by pair."""

    def draw(random: Random, case: int) -> tuple[list[Block]]:
        return (random_blocks(random, 4 + case % 6, random.choice((2, 6, 10**9))),)

    def agree(blocks: Sequence[Block]) -> bool:
        return solve_front(blocks).points == naive_front(blocks)

    return f"{_SMALL}: {on_chains(effort, 15, every=_small, draw=draw, cases=effort.pick(60, 600), agree=agree)}"


@check("front-optimal")
def front_optimal(effort: Effort) -> str:
    """Search all persistent schedules."""

    def draw(random: Random, case: int) -> tuple[list[Block]]:
        return (random_blocks(random, 4 + case % 2),)

    def agree(blocks: Sequence[Block]) -> bool:
        return solve_front(blocks).points == _searched(blocks, persistent=True)

    return f"{_SMALL}: {on_chains(effort, 16, every=_small, draw=draw, cases=effort.pick(10, 200), agree=agree)}"


@check("front-metered")
def front_metered(effort: Effort) -> str:
    """Execute the schedule of every point on paper."""
    drawn, equal, random, chains = Covered(), Covered(), Random(17), effort.pick(20, 120)
    cases = [random_blocks(random, 1 + case % 16, random.choice((3, 10**6))) for case in range(chains)]
    for blocks in drawn.counted("drawn", cases):
        _execute_every_point(blocks, drawn)
    cases = [random_blocks(random, 1) * (2 + case % 39) for case in range(chains)]
    for blocks in equal.counted("equal", cases):
        _execute_every_point(blocks, equal)
    return f"{drawn}; {equal}"


@check("front-near")
def front_near(effort: Effort) -> str:
    """Compare fronts of which every part keeps a few points with the exact ones, and execute their schedules."""
    drawn, random = Covered(), Random(19)
    for case in drawn.counted("drawn", range(effort.pick(6, 60))):
        blocks = random_blocks(random, 12 + case % 9, random.choice((6, 10**6)))
        exact, near = solve_front(blocks), near_front(everything_alive(blocks), 8)
        need(near.bytes[0] == exact.bytes[0], f"{blocks}: the front starts at {near.bytes[0]}")
        need(near.points[-1] == exact.points[-1], f"{blocks}: the front ends at {near.points[-1]}")
        for room, cost in drawn.every("point", near.points):
            report = meter_chain(near.schedule(room), blocks)
            need((report.bytes, report.cost) == (room, cost), f"{blocks}, {room} bytes, cost {cost}: {report}")
        for room, cost in exact.points:
            need(near.least(room) <= cost <= near.cost(room), f"{blocks}, {room} bytes: {cost} is the least")
        drawn.note(n=len(blocks))
    return str(drawn)


def appendix_c(chain: Chain) -> Recurrence:
    """State appendix C as a recurrence between fronts: the working state is free, no internal state fits."""
    n = len(chain)
    return Recurrence(
        advance=chain.costs,
        backpropagate=chain.costs,
        output=chain.sizes,
        carried=(0,) * n,
        internal=(TOO_LARGE,) * n,
        gradient=(0,) * n,
        recorded=chain.needs,
        backward=(0,) * n,
        first=chain.needs,
        passed=chain.needs,
    )


@check("front-appendix-c")
def front_appendix_c(effort: Effort) -> str:
    """Compare with `solve_chain` at appendix C's own accounting."""
    covered, random = Covered(), Random(18)
    for case in covered.counted("drawn", range(effort.pick(40, 400))):
        n = 1 + case % 9
        parts = [tuple(random.randint(*ends) for _ in range(n)) for ends in ((1, 5), (1, 4), (0, 4))]
        chain = Chain(*parts)
        table, front = solve_chain(chain, 20), solve_front(appendix_c(chain))
        for m in covered.over("m", range(max(chain.needs), 21)):
            need(front.cost(m) == table.cost(m), f"{chain}, m={m}: table {table.cost(m)}")
        need(front.bytes[0] == max(chain.needs), f"{chain}: the front starts at {front.bytes[0]}")
        covered.note(n=n)
    return str(covered)


@dataclass(frozen=True, slots=True)
class Beaumont(Recurrence):
    """The recurrence of Beaumont et al., by its two differences from `everything_alive`; see `front_oracle`."""

    def around(self, start: int, stop: int, /) -> int:
        """A recorded block counts the gradient of its own output; a part asks for all that it may advance over."""
        alone = Recurrence.around(self, start, start + 1)
        return max(alone, *Recurrence.run(self, start, stop), 0)

    def run(self, start: int, stop: int, /) -> list[int]:
        """A part asks for all that it may advance over."""
        return [max(Recurrence.run(self, start, stop))] * (stop - start - 1)


def beaumont(*, forward: Ints, backward: Ints, output: Ints, recorded: Ints, needs: tuple[Ints, Ints]) -> Recurrence:
    """State the recurrence of Beaumont et al. as one between fronts; arguments as those of `beaumont_costs`."""
    held = (0, *output)
    return Beaumont(
        advance=tuple(forward),
        backpropagate=_sums(forward, backward),
        output=tuple(output),
        carried=tuple(output),
        internal=tuple(recorded),
        gradient=tuple(output),
        recorded=_sums(recorded, needs[0]),
        backward=_sums(recorded, output, needs[1]),
        first=_sums(output, needs[0]),
        passed=_sums(held[:-1], output, needs[0]),
    )


@check("front-beaumont")
def front_beaumont(effort: Effort) -> str:
    """Compare with the recurrence of Beaumont et al. at its own accounting."""
    covered, random, most = Covered(), Random(19), 90
    for case in covered.counted("drawn", range(effort.pick(20, 200))):
        n = 1 + case % 7
        ends = ((1, 5), (0, 5), (1, 9), (0, 2), (0, 20), (0, 3))
        forward, backward, output, more, first, second = ([random.randint(*end) for _ in range(n)] for end in ends)
        output[-1] = random.choice((0, 1))  # the loss
        stages: dict[str, Any] = {"forward": forward, "backward": backward, "output": output, "needs": (first, second)}
        stages["recorded"] = _sums(output, more)
        front, costs = solve_front(beaumont(**stages)), beaumont_costs(**stages, most=most)
        for m in covered.over("m", range(most + 1)):
            least = front.cost(m) if m >= front.bytes[0] else float("inf")
            need(least == costs[m], f"{stages}, {m} slots: front {least}, theirs {costs[m]}")
        covered.note(n=n)
    return str(covered)


def shared_slots(steps: int, known: int) -> Recurrence:
    """State (10) as a recurrence between fronts: one slot a hidden state, `known` an internal one, all else free."""
    free, unit = (0,) * steps, (1,) * steps
    return Recurrence(
        advance=unit,
        backpropagate=unit,
        output=unit,
        carried=free,
        internal=(known,) * steps,
        gradient=free,
        recorded=free,
        backward=free,
        first=free,
        passed=free,
    )


@check("front-homogeneous")
def front_homogeneous(effort: Effort) -> str:
    """Compare equal blocks with the tables of (10), whose m counts the start too."""
    covered = Covered()
    for beta, t in product(range(1, 5), range(1, effort.pick(12, 40) + 1)):
        table = build("msm", t, beta * t + 1, internal=beta + 1, internal_known=beta)
        front = solve_front(shared_slots(t, beta))
        for m in covered.every("m", range(1, beta * t + 2)):
            need(front.cost(m - 1) == table.cost(t, m), f"beta={beta}, t={t}, m={m}: table {table.cost(t, m)}")
        covered.note(beta=beta, t=t)
    return str(covered)


@check("front-equal-blocks")
def front_equal_blocks(effort: Effort) -> str:
    """Compare the front of equal blocks, with one of three losses or none, with that of all their parts."""
    covered, most = Covered(), effort.pick(3, 5)
    losses = [[], *([Block(output=0, internal=1, backward_need=need)] for need in (0, 7, 30))]
    for output, internal, n in product(range(1, most + 1), range(2 * most), range(2, effort.pick(9, 24) + 1)):
        block = Block(advance=2, backward=3, output=output, internal=internal, backward_need=output)
        for loss in covered.counted("losses", losses):
            blocks = [block] * n + loss
            whole = Parts(everything_alive(blocks)).of(0, len(blocks))
            points = list(zip(whole.bytes.tolist(), whole.costs.tolist(), strict=True))
            need(solve_front(blocks).points == points, f"{n} blocks {block}, then {loss}")
        covered.note(output=output, internal=internal, n=n)
    return str(covered)


@check("front-beyond-persistent")
def front_beyond_persistent(effort: Effort) -> str:
    """Verify the counterexample: an internal state dropped and recomputed beats the front."""
    blocks = [Block(output=output, internal=internal) for output, internal in ((1, 0), (2, 0), (2, 0), (1, 1))]
    front, searched = solve_front(blocks), _searched(blocks, persistent=False)
    need((front.points[0], searched[0]) == ((6, 9), (6, 8)), f"front {front.points}, search {searched}")
    return "outputs 1, 2, 2, 1, graphs 0, 0, 0, 1: in 6 bytes the front gives 9 forwards, the search 8"


@check("front-gap")
def front_gap(effort: Effort) -> str:
    """Measure how far persistent schedules are from all schedules."""
    small, shaped, drawn, random, worst = Covered(), Covered(), Covered(), Random(20), 1.0
    for n in small.over("n", range(1, effort.pick(2, 3) + 1)):
        for chain in small.every("chain", product(_KINDS, repeat=n)):
            need(_gap(chain) == 1, f"{chain}")
    for blocks in shaped.counted("shapes", [shape for n in range(2, effort.pick(4, 6) + 1) for shape in _shapes(n)]):
        need(_gap(blocks) == 1, f"{blocks}")
        shaped.note(n=len(blocks))
    counts = {4: effort.pick(20, 500), 5: effort.pick(2, 100), 6: effort.pick(0, 10)}
    for n in drawn.counted("drawn", [n for n, chains in counts.items() for _ in range(chains)]):
        worst = max(worst, _gap(random_blocks(random, n)))
        drawn.note(n=n)
    need(worst <= 1.2, f"{worst}")
    return f"{len(_KINDS)} kinds of blocks: {small}; {shaped}; {drawn}: at most {worst:.3f} times the least cost"


def _execute_every_point(blocks: Sequence[Block], covered: Covered) -> None:
    front = solve_front(blocks)
    for room, cost in covered.every("point", front.points):
        report = meter_chain(front.schedule(room), blocks)
        need((report.bytes, report.cost) == (room, cost), f"{blocks}, {room} bytes, cost {cost}: {report}")
    covered.note(n=len(blocks))


def _searched(blocks: Sequence[Block], *, persistent: bool) -> list[tuple[int, int]]:
    return [(room, cost) for room, cost, _ in searched_front(blocks, persistent=persistent)]


def _gap(blocks: Sequence[Block]) -> float:
    """Return the largest ratio of the front's cost to the least of all schedules in the same bytes."""
    front, points = solve_front(blocks), _searched(blocks, persistent=False)
    need(points[0][0] == front.bytes[0], f"{blocks}: {points[0][0]} bytes are enough, not {front.bytes[0]}")
    return max(front.cost(room) / cost for room, cost in points)


def _sums(*terms: Ints) -> tuple[int, ...]:
    return tuple(map(sum, zip(*terms, strict=True)))


def _shapes(count: int) -> Iterator[list[Block]]:
    """Yield pyramids, both ways up, U-shapes and equal blocks, with graphs of no, one and three outputs."""
    half = [2 ** (q // 2) for q in range(count)]
    for graph, sizes in product(
        (0, 1, 3), (half, half[::-1], _mirrored(half, count), _mirrored(half[::-1], count), [4] * count)
    ):
        yield [
            Block(advance=2, record=2, backward=4, output=size, internal=graph * size, backward_need=before)
            for size, before in zip(sizes, [sizes[0], *sizes], strict=False)
        ]


def _mirrored(sizes: list[int], count: int) -> list[int]:
    half = sizes[: count // 2]
    return [*half, *sizes[count // 2 : count - len(half)], *half[::-1]]
