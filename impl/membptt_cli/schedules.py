"""``membptt schedule``: the stream of actions of one table, counted, listed or drawn."""

from __future__ import annotations

import argparse
import sys
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tqdm import tqdm

from membptt_cli.parsing import Refusal, add_table_options, check_out, command, described, named_source, print_json
from membptt_theory.actions import TieredAction
from membptt_theory.files import write_whole
from membptt_theory.machine import meter
from membptt_theory.schedule import Schedule
from membptt_theory.terminal import print_schedule
from membptt_theory.timeline import Timeline, timeline

if TYPE_CHECKING:
    from membptt_cli.parsing import Commands

_FORMATS = ("svg", "pdf", "png")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands,
        "schedule",
        run,
        "count, list or draw what a policy does",
        "Forwards and peak are counted by executing the stream on paper; they are the table's.",
        "membptt schedule --policy msm --steps 10 --slots 4 --draw",
        "membptt schedule --policy hsm --steps 1000 --slots 50",
        "membptt schedule --policy msm_plus --steps 20000 --slots 900 --internal 5",
        "membptt schedule --policy msm_plus --steps 10 --slots 7 --internal 3 --actions --json",
        "membptt schedule --policy ism --steps 30 --slots 3 --out ism.svg",
    )
    add_table_options(parser)
    parser.add_argument("--draw", action="store_true", help="draw it in the terminal")
    parser.add_argument("--actions", action="store_true", help="list every action")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"draw it to a file: {', '.join(_FORMATS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print what was asked for."""
    if options.out is not None:
        check_out(options.out, "a drawing", _FORMATS)
    source = named_source(options)
    schedule = source.schedule(options.steps, options.slots)
    bar = tqdm(schedule, desc="counting", unit="action", file=sys.stderr, leave=False, delay=1, disable=None)
    report = meter(bar, steps=options.steps, sizes=source.sizes)
    counted = {"forwards": report.forwards, "recorded": report.recorded, "peak": report.peak, "actions": report.actions}
    if options.out is not None:
        _write(options.out, schedule)
    if options.json:
        listed: dict[str, Any] = {"stream": [_named(action) for action in schedule]} if options.actions else {}
        print_json({**described(source, options.steps, options.slots), **counted, **listed})
        return 0
    sizes = source.sizes
    alpha = f", alpha = {sizes.internal}" if sizes.hidden and sizes.internal else ""
    beta = f", beta = {sizes.internal_known}" if sizes.internal_known else ""
    print(f"{source.policy}, {options.steps} steps, {options.slots} slots{alpha}{beta}")
    print(f"{report.forwards} forwards, {report.forwards / options.steps:.3f} a step; {report.peak} slots at most")
    print(f"{type(source).__name__.removeprefix('Policy').lower()} {source.digest}")
    if options.draw:
        print()
        _draw(schedule)
    if options.actions:
        print()
        for action in schedule:
            print(*_named(action))
    return 0


def _timeline(schedule: Schedule) -> Timeline:
    return timeline(schedule, steps=schedule.cores, sizes=schedule.sizes)


def _named(action: TieredAction) -> list[str | int]:
    return [type(action).__name__, *astuple(action)]


def _draw(schedule: Schedule) -> None:
    try:
        print_schedule(_timeline(schedule), Console(highlight=False))
    except ValueError as error:
        raise Refusal(f"{error}, with --out FILE.svg") from error


def _write(path: Path, schedule: Schedule) -> None:
    try:
        from membptt_theory.picture import draw_schedule  # noqa: PLC0415

        figure = draw_schedule(_timeline(schedule), f"{schedule.title}, t = {schedule.cores}, m = {schedule.slots}")
    except ImportError as error:
        raise Refusal(f"drawing to a file needs matplotlib: pip install 'membptt[figs]' ({error})") from error
    write_whole(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:]))
