"""The plan of a chain: the front of bytes and time, the point that a budget chooses on it, and its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from membptt.planning.plan_file import PlanError, exactly, reading
from membptt_theory.actions import Block
from membptt_theory.files import write_whole
from membptt_theory.front import Front, solve_front
from membptt_theory.front_terms import everything_alive
from membptt_theory.options import parse_bytes, readable
from membptt_theory.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT: Final = "membptt-chain-plan/2"


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
        budget: bytes, or ``None``: no point of the front is chosen.
        digest: of the schedule that will be executed; ``None`` without a budget.
    """

    kinds: tuple[Block, ...]
    order: tuple[int, ...]
    given: int
    returned: int
    kept: int
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

    def __repr__(self) -> str:
        """Say what was chosen, in words."""
        front, blocks = self.front, f"{len(self.order)} blocks, {len(self.kinds)} of them distinct"
        least, most = front[0], front[-1]
        if self.budget is None and len(front) == 1:
            return f"{blocks}; no budget yet: none less than {readable(most.bytes)}, plain backpropagation's, is of use"
        if self.budget is None:
            return (
                f"{blocks}; no budget yet: plan.within(budget) chooses one of {len(front)} that make a difference\n"
                f"  from {readable(least.bytes)} at {least.seconds / most.seconds:.2f} of plain backpropagation's time "
                f"to {readable(most.bytes)} at 1"
            )
        return (
            f"{blocks}, within {readable(self.budget)}\n"
            f"  predicted: a peak of {readable(self.peak_bytes)}, {self.seconds / most.seconds:.2f} of plain "
            f"backpropagation's time; beside it the input, parameters and their gradients"
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

    @cached_property
    def _front(self) -> Front:
        terms = everything_alive([self.kinds[kind] for kind in self.order])
        return solve_front(terms.returning(self.returned))

    @cached_property
    def _schedule(self) -> Schedule:
        return self._front.schedule(self._room() - self._beside)


def _plan(plan: Any, stored: dict[str, Any]) -> ChainPlan:
    kinds = tuple(exactly(Block, entry) for entry in stored["kinds"])
    order: Sequence[Any] = stored["order"]
    if not order or any(type(kind) is not int or not 0 <= kind < len(kinds) for kind in order):
        raise ValueError(f"order must name kinds 0 .. {len(kinds) - 1}")
    result: ChainPlan = exactly(plan, {**stored, "kinds": kinds, "order": tuple(order)})
    return result
