"""How fast a schedule can be iterated: ours against the package `checkpoint_schedules`, in interleaved runs.

    python impl/benchmarks/schedule_speed.py --steps 100000 --slots 100

Both streams are iterated to their end and nothing is executed. Ours needs its table, whose building is timed apart: it
is built once and serves every length and budget up to its own. Both schedules cost the same number of forwards, which
is checked.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

from checkpoint_schedules import Forward, MultistageCheckpointSchedule
from membptt_bench.record import conditions, save
from tqdm import tqdm

from membptt_theory.actions import Advance, Tape
from membptt_theory.schedule import schedule
from membptt_theory.tables import build

FORMAT = "membptt-schedule-speed/1"
TARGET = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the data.

    Raises:
        RuntimeError: the two schedules do not cost the same.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    options = parser.parse_args(arguments)
    steps, slots = options.steps, options.slots
    built = _timed(lambda: build("hsm", steps, slots))
    table = build("hsm", steps, slots)

    def ours() -> None:
        deque(schedule(table, steps, slots), maxlen=0)

    def theirs() -> None:
        deque(MultistageCheckpointSchedule(steps, slots, 0), maxlen=0)

    counts = [_our_forwards(schedule(table, steps, slots)), _their_forwards(steps, slots)]
    if counts != [table.cost(steps, slots)] * 2:
        raise RuntimeError(f"forwards are {counts}, the table says {table.cost(steps, slots)}")
    rounds = []
    for _ in tqdm(range(options.rounds), unit="round"):
        rounds.append({"membptt": _timed(ours), "checkpoint_schedules": _timed(theirs)})
    content = {
        **conditions("cpu"),
        "format": FORMAT,
        "command": f"python impl/benchmarks/schedule_speed.py --steps {steps} --slots {slots}",
        "steps": steps,
        "slots": slots,
        "forwards": counts[0],
        "table_digest": table.digest,
        "seconds_to_build": built,
        "rounds": rounds,
    }
    save(options.data / f"schedule_speed_{steps}_{slots}.json", content)
    medians = {name: median(one[name] for one in rounds) for name in rounds[0]}
    ratio = medians["checkpoint_schedules"] / medians["membptt"]
    print(f"t = {steps}, m = {slots}, medians of {len(rounds)} interleaved rounds")
    print(f"  checkpoint_schedules multistage  {medians['checkpoint_schedules']:.3f} s")
    print(f"  membptt                          {medians['membptt']:.3f} s (table: {built:.3f} s, once)")
    print(f"  {ratio:.2f} times faster; target {TARGET:g}: {'met' if ratio >= TARGET else 'NOT met'}")


def _our_forwards(stream: object) -> int:
    count = 0
    for action in stream:  # type: ignore[attr-defined]
        if isinstance(action, Advance):
            count += action.stop - action.start
        elif isinstance(action, Tape):
            count += 1
    return count


def _their_forwards(steps: int, slots: int) -> int:
    stream = MultistageCheckpointSchedule(steps, slots, 0)
    return sum(action.n1 - action.n0 for action in stream if isinstance(action, Forward))


def _timed(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


if __name__ == "__main__":
    main()
