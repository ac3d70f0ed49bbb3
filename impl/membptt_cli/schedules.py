"""``membptt schedule``: the stream of actions of one table, counted, listed or drawn."""

from __future__ import annotations

import argparse
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from membptt_cli.parsing import Refusal, add_table_options, check_out, command, described, named_table, print_json
from membptt_theory.actions import Action
from membptt_theory.files import write_whole
from membptt_theory.machine import meter
from membptt_theory.policy import PolicyTable
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
    table = named_table(options)
    stream = table.schedule(table.steps, table.slots)
    report = meter(stream, steps=table.steps, sizes=table.sizes)
    counted = {"forwards": report.forwards, "recorded": report.recorded, "peak": report.peak, "actions": report.actions}
    if options.out is not None:
        _write(options.out, table)
    if options.json:
        listed: dict[str, Any] = {"stream": [_named(action) for action in _stream(table)]} if options.actions else {}
        print_json({**described(table), **counted, **listed})
        return 0
    sizes = table.sizes
    alpha = f", alpha = {sizes.internal}" if sizes.hidden and sizes.internal else ""
    beta = f", beta = {sizes.internal_known}" if sizes.internal_known else ""
    print(f"{table.policy}, {table.steps} steps, {table.slots} slots{alpha}{beta}")
    print(f"{report.forwards} forwards, {report.forwards / table.steps:.3f} a step; {report.peak} slots at most")
    print(f"table {table.digest}")
    if options.draw:
        print()
        _draw(table)
    if options.actions:
        print()
        for action in _stream(table):
            print(*_named(action))
    return 0


def _stream(table: PolicyTable) -> Any:
    return table.schedule(table.steps, table.slots)


def _timeline(table: PolicyTable) -> Timeline:
    return timeline(_stream(table), steps=table.steps, sizes=table.sizes)


def _named(action: Action) -> list[str | int]:
    return [type(action).__name__, *astuple(action)]


def _draw(table: PolicyTable) -> None:
    try:
        print_schedule(_timeline(table), Console(highlight=False))
    except ValueError as error:
        raise Refusal(f"{error}, with --out FILE.svg") from error


def _write(path: Path, table: PolicyTable) -> None:
    try:
        from membptt_theory.picture import draw_schedule  # noqa: PLC0415

        figure = draw_schedule(_timeline(table), f"{table.policy}, t = {table.steps}, m = {table.slots}")
    except ImportError as error:
        raise Refusal(f"drawing to a file needs matplotlib: pip install 'membptt[figs]' ({error})") from error
    write_whole(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:]))
