"""A stream that is drawn is the table's, and what the runtime executes. Shared by figures 1, 3, 4, 8."""

from __future__ import annotations

from membptt_theory.machine import meter
from membptt_theory.policy import PolicyTable
from membptt_theory.timeline import Kind, Timeline
from membptt_theory.timeline import timeline as read
from paper_figs.evidence import require


def timeline(table: PolicyTable, steps: int, slots: int, /, *, forwards: int) -> Timeline:
    """Read the stream of `table`, meter it, and run it once in torch to compare what was executed.

    Args:
        table: any policy.
        steps: ``t``.
        slots: ``m``.
        forwards: the cost that the figure states.

    Raises:
        FigureClaimError: the stream, the table, the runtime and the figure are not of one mind.
    """
    drawn = read(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    where = f"t = {steps}"
    counted, cost = drawn.forwards, table.cost(steps, slots)
    require(counted == cost == forwards, f"{where}: {counted} forwards, not {forwards}")
    backwards = [step for step, kind in drawn.cells if kind is Kind.BACK]
    require(backwards == list(reversed(range(steps))), f"{where}: steps go backward in the order {backwards}")
    peak = meter(table.schedule(steps, slots), steps=steps, sizes=table.sizes).peak
    require(peak <= slots, f"{where}: {peak} slots are used at once, not {slots}")
    order = executed(table, steps, slots)
    require(evaluated(drawn) == order, f"{where}: the runtime executes other forwards than are drawn")
    return drawn


def evaluated(stream: Timeline, /) -> list[int]:
    """Return the steps that a stream evaluates, in order."""
    return [step for step, kind in stream.cells if kind is not Kind.BACK]


def executed(table: PolicyTable, steps: int, slots: int, /) -> list[int]:
    """Run `membptt.scan` on a counting step and return which steps it evaluated, in order."""
    import torch  # noqa: PLC0415  (drawing needs no torch)

    from membptt import scan  # noqa: PLC0415

    seen: list[int] = []

    def step(carry: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(int(x))
        return carry.sin(), carry

    carry, _ = scan(step, torch.ones((), requires_grad=True), torch.arange(steps), slots=slots, policy=table)
    carry.backward()  # type: ignore[no-untyped-call]
    return seen
