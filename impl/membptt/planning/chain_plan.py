"""The plan of a chain: the front of bytes and time, the point that a budget chooses on it, and its file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from membptt.planning.plan_file import PlanError, exactly, reading
from membptt.run.progress import Tell, shown
from membptt_theory.actions import Block, Skip
from membptt_theory.files import write_whole
from membptt_theory.front import Front, solve_front
from membptt_theory.front_terms import everything_alive
from membptt_theory.options import parse_bytes, readable
from membptt_theory.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT: Final = "membptt-chain-plan/3"
DIFFERENT: Final = 100  # kinds of blocks: of more, those that agree within what a measurement is off count as one


class Point(NamedTuple):
    """A budget that makes a difference.

    Args:
        bytes: predicted peak; a budget of as many is the least in which the chain takes no longer.
        seconds: predicted time of one gradient.
    """

    bytes: int
    seconds: float


@dataclass(frozen=True, repr=False)
class ChainPlan:
    """What `plan_chain` measured, and the schedule that follows from it in a budget; printed, two lines.

    Args:
        kinds: the distinct blocks, in bytes and nanoseconds.
        order: the kind of each block.
        given: bytes of the chain's input.
        returned: bytes of what the last block gives.
        kept: bytes that are there throughout.
        skips: what several states hold together, open skip connections above all: each is there once.
        whole: of each kind, whether what it gives, and the gradient of what it is given, are views of nothing
            larger; empty where nobody knows.
        budget: bytes, or ``None``: no point of the front is chosen.
        digest: of the schedule that will be executed; ``None`` without a budget.
    """

    kinds: tuple[Block, ...]
    order: tuple[int, ...]
    given: int
    returned: int
    kept: int
    skips: tuple[Skip, ...] = ()
    whole: tuple[bool, ...] = ()
    budget: int | None = None
    digest: str | None = None

    @property
    def front(self) -> list[Point]:
        """Every budget that makes a difference, the least one first, and the time it takes; the last one is plain."""
        return [Point(size + self._beside, cost / 1e9) for size, cost in self._front.points]

    @property
    def chosen(self) -> Point:
        """The last point of the front that fits in the budget.

        Raises:
            ValueError: there is no budget yet.
        """
        budget = self._room()
        return [point for point in self.front if point.bytes <= budget][-1]

    @property
    def peak_bytes(self) -> int:
        """Predicted peak of everything that lives beside the chain's input, parameters and their gradients."""
        return self.chosen.bytes

    @property
    def seconds(self) -> float:
        """Predicted time of one gradient."""
        return self.chosen.seconds

    @property
    def excess(self) -> float:
        """By how much of the least time that is possible in the budget, at most, the predicted time is above it.

        It is 0 but for chains of so many different blocks that only some points of each part's front are kept.
        """
        size = self._room() - self._beside
        cost, least = self._front.cost(size), self._front.least(size)
        return (cost - least) / least

    @property
    def blocks(self) -> str:
        """What it was made for, in words."""
        skips = f", {len(self.skips)} tensors handed on as they are" if self.skips else ""
        return f"{len(self.order)} blocks, {len(self.kinds)} of them distinct{skips}"

    def __repr__(self) -> str:
        """Say what was chosen, in words."""
        front, blocks = self.front, self.blocks
        least, most = front[0], front[-1]
        if self.budget is None and len(front) == 1:
            return f"{blocks}; no budget yet: none less than {readable(most.bytes)}, plain backpropagation's, is of use"
        if self.budget is None:
            return (
                f"{blocks}; no budget yet: plan.within(budget) chooses one of {len(front)} that make a difference\n"
                f"  from {readable(least.bytes)} at {least.seconds / most.seconds:.2f} of plain backpropagation's time "
                f"to {readable(most.bytes)} at 1"
            )
        excess = f", at most {self.excess:.1%} above the least" if self.excess else ""
        return (
            f"{blocks}, within {readable(self.budget)}\n"
            f"  predicted: a peak of {readable(self.peak_bytes)}, {self.seconds / most.seconds:.2f} of plain "
            f"backpropagation's time{excess}; beside it the input, parameters and their gradients"
        )

    def within(self, budget: int | str, /) -> ChainPlan:
        """Return the plan for a budget; nothing is measured again.

        Args:
            budget: bytes, or text such as ``"512MiB"`` or ``"1.5 GB"``.

        Raises:
            TypeError: neither bytes nor text.
            ValueError: text that names no size, or less than the least feasible budget: the message names that one.
        """
        size = parse_bytes(budget)
        least = self.front[0].bytes
        if size < least:
            raise ValueError(
                f"the smallest feasible budget of this chain is {least} bytes ({readable(least)}), got "
                f"{size} bytes ({readable(size)}); where a single block needs most of it, cut that block into several"
            )
        schedule = self._front.schedule(size - self._beside)
        plan = replace(self, budget=size, digest=schedule.digest)
        vars(plan).update(_front=self._front, _schedule=schedule)  # solved already
        return plan

    @cached_property
    def kept_bytes(self) -> int:
        """Bytes that the plan takes while it is kept, with its front."""
        return self._bytes + self._front.kept_bytes

    def settled(self) -> ChainPlan:
        """Return the same plan without its front, which may take much more than the schedule."""
        plan = replace(self)
        vars(plan).update(_schedule=self.schedule(), kept_bytes=self._bytes)
        return plan

    def schedule(self) -> Schedule:
        """Return the schedule that will be executed.

        Raises:
            ValueError: there is no budget yet.
        """
        return self._schedule

    def check(self, blocks: int, given: int, /) -> None:
        """Check that the plan was made for a chain of so many blocks, whose input is no larger.

        Raises:
            ValueError: it was not.
        """
        if blocks != len(self.order) or given > self.given:
            raise ValueError(
                f"the plan was made for {len(self.order)} blocks and an input of {self.given} bytes, this call has "
                f"{blocks} blocks and an input of {given} bytes: plan anew"
            )

    def views(self) -> tuple[int, ...] | None:
        """Return the positions at which a state, or its gradient, may be a view of something larger; ``None``: at any.

        A block that was seen to give none gives such only where it was given one, and so it is with gradients.
        """
        if not self.whole:
            return None
        whole = [*map(self.whole.__getitem__, self.order)]
        return tuple([position for position in range(1, len(whole)) if not (whole[position - 1] and whole[position])])

    def explain(self) -> None:
        """Print the front, thinned where it is long, with the chosen point in bold."""
        from membptt.planning.view import show_chain  # noqa: PLC0415  (rich is slow to import)

        show_chain(self)

    def draw(self) -> Figure:
        """Draw the front with the chosen point, and the schedule, position to the right (needs matplotlib).

        Raises:
            ValueError: there is no budget yet, or the schedule is longer than a picture can show.
        """
        from membptt.planning.view import draw_chain  # noqa: PLC0415  (only who draws needs matplotlib)

        return draw_chain(self)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, whole or not at all."""
        text = json.dumps({"format": FORMAT, **asdict(self)}) + "\n"
        write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> ChainPlan:
        """Read a plan that `save` wrote, and solve its front again.

        Raises:
            PlanError: no such plan: missing, foreign, another version, or its schedule has another digest now.
        """
        with reading(path, FORMAT) as stored:
            plan = _plan(cls, stored)
            digest = plan.schedule().digest if plan.budget is not None else None
        if digest != plan.digest:
            raise PlanError(f"{path}: its schedule has digest {digest}, the plan says {plan.digest}: plan anew")
        return plan

    def _room(self) -> int:
        if self.budget is None:
            raise ValueError("the plan has no budget yet: choose a point of its front with plan.within(budget)")
        return self.budget

    @property
    def _beside(self) -> int:
        """Bytes beside the schedule's own."""
        return self.returned + self.kept

    @property
    def _bytes(self) -> int:
        """Bytes of a plan and its schedule, about."""
        return 1024 * (4 + len(self.order))

    def solve(self, tell: Tell | None = None) -> None:
        """Solve the front now, which the first look at it does otherwise; `tell` is told how far it is."""
        kinds = self.kinds if len(self.kinds) <= DIFFERENT else alike(self.kinds)
        terms = everything_alive([kinds[kind] for kind in self.order], self.skips)
        with shown(tell):
            vars(self)["_front"] = solve_front(terms.returning(self.returned), tell)

    @cached_property
    def _front(self) -> Front:
        self.solve()
        front: Front = vars(self)["_front"]
        return front

    @cached_property
    def _schedule(self) -> Schedule:
        return self._front.schedule(self._room() - self._beside)


def alike(kinds: Sequence[Block], /) -> list[Block]:
    """Return for each kind of blocks the one that stands for it and all of its sizes that take about its times.

    Each of their three times is within a tenth of the others', as two measurements of one block may be. It takes their
    mean times: what is predicted of any schedule changes by less than a tenth.
    """
    result = [*kinds]
    groups: dict[tuple[Any, ...], list[list[int]]] = {}  # by all sizes: kinds of about the same times
    for number in sorted(range(len(kinds)), key=lambda number: sum(_times(kinds[number]))):
        known = groups.setdefault(astuple(replace(kinds[number], advance=1, record=1, backward=0)), [])
        group = next((group for group in known if _agree(kinds[other] for other in (*group, number))), None)
        if group is None:
            known.append(group := [])
        group.append(number)
    for group in (group for known in groups.values() for group in known):
        each = zip(*(_times(kinds[number]) for number in group), strict=True)
        advance, record, backward = (sum(times) // len(group) for times in each)
        for number in group:
            result[number] = replace(kinds[number], advance=advance, record=record, backward=backward)
    return result


def _times(kind: Block) -> tuple[int, int, int]:
    return kind.advance, kind.record, kind.backward


def _agree(kinds: Iterable[Block]) -> bool:
    return all(10 * max(times) <= 11 * min(times) for times in zip(*map(_times, kinds), strict=True))


def _plan(plan: Any, stored: dict[str, Any]) -> ChainPlan:
    kinds = tuple(exactly(Block, entry) for entry in stored["kinds"])
    order: Sequence[Any] = stored["order"]
    if not order or any(type(kind) is not int or not 0 <= kind < len(kinds) for kind in order):
        raise ValueError(f"order must name kinds 0 .. {len(kinds) - 1}")
    skips = tuple(exactly(Skip, entry) for entry in stored["skips"])
    whole: Sequence[Any] = stored["whole"]
    if len(whole) not in (0, len(kinds)) or any(type(each) is not bool for each in whole):
        raise ValueError(f"whole must tell of each of {len(kinds)} kinds whether it is, or of none")
    sequences = {"kinds": kinds, "order": tuple(order), "skips": skips, "whole": tuple(whole)}
    result: ChainPlan = exactly(plan, {**stored, **sequences})
    return result
