"""How fast a schedule can be iterated: ours against the package `checkpoint_schedules`, in interleaved runs.

    python -m bench.schedule_speed --steps 100000 --slots 100

All streams are iterated to their end and nothing is executed. Ours needs its table, whose building is timed apart: it
is built once and serves every length and budget up to its own. All schedules cost the same number of forwards, which
is checked. What `scan` executes are *instructions*, pairs of kind and places; *actions* are the same stream as objects
with named fields, as theirs is. *Cold* is the first stream of a table, which makes its templates; the others are later
ones. Nothing of a stream is kept for the next. Memory is the peak of what Python allocates while a cold stream, or
theirs, is iterated.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from pathlib import Path
from statistics import median
from time import perf_counter

from checkpoint_schedules import Forward, MultistageCheckpointSchedule
from tqdm import tqdm

from bench.machine import conditions
from bench.store import DATA, save
from membptt_theory.actions import Advance, Record, TieredAction
from membptt_theory.tables import build

FORMAT = "membptt-schedule-speed/3"
TARGET = 5.0
THEIRS = "checkpoint_schedules"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the data.

    Raises:
        RuntimeError: the two schedules do not cost the same.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    steps, slots = options.steps, options.slots
    start = perf_counter()
    table = build("hsm", steps, slots)
    built = perf_counter() - start

    streams: dict[str, Callable[[], Iterable[object]]] = {
        "cold": lambda: copy(table).schedule(steps, slots).instructions(),  # no template is known of a copy
        "instructions": lambda: table.schedule(steps, slots).instructions(),
        "actions": lambda: table.schedule(steps, slots),
        THEIRS: lambda: MultistageCheckpointSchedule(steps, slots, 0),
    }
    first = {name: _seconds(streams[name]) for name in ("cold", THEIRS)}
    counts = [
        sum(_forwards(kind, places) for kind, places in table.schedule(steps, slots).instructions()),
        sum(_forwards(type(action), action) for action in table.schedule(steps, slots)),
        _their_forwards(steps, slots),
    ]
    if counts != [table.cost(steps, slots)] * 3:
        raise RuntimeError(f"forwards are {counts}, the table says {table.cost(steps, slots)}")
    rounds = []
    for _ in tqdm(range(options.rounds), unit="round"):
        rounds.append({name: _seconds(stream) for name, stream in streams.items()})
    medians = {name: median(times[name] for times in rounds) for name in streams}
    ratios = {name: medians[THEIRS] / medians[name] for name in streams if name != THEIRS}
    actions = {name: sum(1 for _ in streams[name]()) for name in ("instructions", THEIRS)}
    peaks = {name: _peak(streams[name]) for name in ("cold", THEIRS)}
    content = {
        **conditions("cpu"),
        "format": FORMAT,
        "command": f"python -m bench.schedule_speed --steps {steps} --slots {slots}",
        "steps": steps,
        "slots": slots,
        "forwards": counts[0],
        "actions": {"membptt": actions["instructions"], THEIRS: actions[THEIRS]},
        "table_digest": table.digest,
        "seconds_to_build": built,
        "seconds_first_in_process": {"membptt": first["cold"], THEIRS: first[THEIRS]},
        "rounds": rounds,
        "times_faster": ratios,
        "peak_bytes": {"membptt": peaks["cold"], THEIRS: peaks[THEIRS]},
    }
    save(options.data / f"schedule_speed_{steps}_{slots}.json", content)
    print(f"t = {steps}, m = {slots}, medians of {len(rounds)} interleaved rounds (first in this process), peak memory")
    print(
        f"  checkpoint_schedules multistage  {medians[THEIRS]:.3f} s ({first[THEIRS]:.3f} s), "
        f"{peaks[THEIRS] / 1000:.0f} kB, {actions[THEIRS]} actions"
    )
    print(
        f"  membptt, instructions, cold      {medians['cold']:.3f} s ({first['cold']:.3f} s), "
        f"{peaks['cold'] / 1000:.0f} kB, {actions['instructions']} instructions (table: {built:.3f} s, once)"
    )
    print(
        f"  membptt, instructions            {medians['instructions']:.3f} s: {ratios['instructions']:.2f} times faster"
    )
    print(f"  membptt, actions                 {medians['actions']:.3f} s: {ratios['actions']:.2f} times faster")
    verdict = "met" if ratios["instructions"] >= TARGET else "NOT met"
    print(f"  target {TARGET:g} times, for what scan executes (cold: {ratios['cold']:.2f}): {verdict}")


def _exhaust(stream: Iterable[object]) -> None:
    deque(stream, maxlen=0)


def _peak(stream: Callable[[], Iterable[object]]) -> int:
    tracemalloc.start()
    try:
        _exhaust(stream())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _forwards(kind: type[TieredAction], places: tuple[int, ...]) -> int:
    return places[1] - places[0] if kind is Advance else int(kind is Record)


def _their_forwards(steps: int, slots: int) -> int:
    stream = MultistageCheckpointSchedule(steps, slots, 0)
    return sum(action.n1 - action.n0 for action in stream if isinstance(action, Forward))


def _seconds(stream: Callable[[], Iterable[object]]) -> float:
    start = perf_counter()
    _exhaust(stream())
    return perf_counter() - start


if __name__ == "__main__":
    main()
