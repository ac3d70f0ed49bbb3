"""``membptt table``: a policy table written to a file, or a file proved to be one."""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membptt_cli.parsing import Refusal, add_table_options, check_out, command, described, named_table, print_json
from membptt_theory.archive import TableError
from membptt_theory.files import write_whole
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import Decision

if TYPE_CHECKING:
    from membptt_cli.parsing import Commands

_FORMATS = ("npz", "csv", "json")


def add(commands: Commands) -> None:
    """Add the command and its verbs."""
    parser = commands.add_parser("table", help="write a policy table to a file, or check one")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    export = command(
        verbs,
        "export",
        run_export,
        "write a policy table to a file",
        "npz is what PolicyTable.load reads; csv and json hold a row per mode, slots and steps: cost, decision, split.",
        "membptt table export --policy msm --steps 300 --slots 40 --internal 5 --out msm.npz",
        "membptt table export --policy hsm --steps 10 --slots 4 --out hsm.csv",
        "membptt table export --policy hsm --steps 10 --slots 4 --json",
    )
    add_table_options(export)
    export.add_argument("--out", type=Path, metavar="FILE", help=f"the file: {', '.join(_FORMATS)}")
    export.add_argument("--json", action="store_true", help="print the table as JSON instead of writing a file")
    check = command(
        verbs,
        "check",
        run_check,
        "read a table from a file and check that it solves its Bellman equation",
        "Exit status 1 if it does not, or if its digest is not that of its contents.",
        "membptt table check msm.npz",
        "membptt table check msm.npz --json",
    )
    check.add_argument("file", type=Path, help="an npz file that `membptt table export` wrote")
    check.add_argument("--json", action="store_true", help="print JSON")


def run_export(options: argparse.Namespace) -> int:
    """Write the table, whole or not at all."""
    if options.out is None and not options.json:
        raise Refusal(f"say where to: --out FILE with the ending {', '.join(_FORMATS)}, or --json")
    if options.out is not None:
        check_out(options.out, "a table", _FORMATS)
    table = named_table(options)
    match options.out.suffix[1:] if options.out is not None else None:
        case "npz":
            table.save(options.out)
        case "csv":
            write_whole(options.out, lambda path: path.write_text(_csv(table), encoding="utf-8"))
        case "json":
            write_whole(options.out, lambda path: path.write_text(json.dumps(_whole(table)) + "\n", encoding="utf-8"))
    if options.json:
        print_json(_whole(table))
    else:
        print(f"{options.out}: {_sentence(table)}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Say whether the file holds a table."""
    try:
        table = PolicyTable.load(options.file)
    except TableError as error:
        if options.json:
            print_json({"holds": False, "error": str(error)})
        else:
            print(f"FAILED  {error}")
        return 1
    if options.json:
        print_json({"holds": True, **described(table, table.steps, table.slots)})
    else:
        print(f"OK  {options.file}: {_sentence(table)}; its costs solve {table.recurrence.equations}")
    return 0


def _sentence(table: PolicyTable) -> str:
    return f"{table.policy}, t <= {table.steps}, m <= {table.slots}, sha256 {table.digest}"


def _whole(table: PolicyTable) -> dict[str, Any]:
    costs, decisions, splits = (array[:, 1:].tolist() for array in (table.costs, table.decisions, table.splits))
    return {**described(table, table.steps, table.slots), "axes": "[mode][slots - 1][steps]"} | {
        "costs": costs,
        "decisions": decisions,
        "splits": splits,
    }


def _csv(table: PolicyTable) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["mode", "slots", "steps", "cost", "decision", "split"])
    for mode in range(len(table.costs)):
        for slots in range(1, table.slots + 1):
            for steps in range(1, table.steps + 1):
                decision, split = table.decision(steps, slots, mode)
                name = Decision(decision).name.lower()
                rows.writerow([mode, slots, steps, table.cost(steps, slots, mode), name, split])
    return text.getvalue()
