"""What the commands share: the options that name a table, examples in the help, errors, output."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from membptt_theory.formula import Formula, solve
from membptt_theory.limits import ASKED, TABLED
from membptt_theory.policies import POLICIES
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, check_count

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

Run = Callable[[argparse.Namespace], int]


class Refusal(Exception):
    """A request that cannot be met, and why."""


def command(commands: Commands, name: str, run: Run, about: str, more: str, *shown: str) -> argparse.ArgumentParser:
    """Add a command with examples in its help; `main` calls `run`."""
    parser = commands.add_parser(
        name,
        help=about,
        description=textwrap.fill(f"{about[0].upper()}{about[1:]}. {more}", 90),
        epilog=examples(*shown),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, prog=parser.prog)
    return parser


def examples(*shown: str) -> str:
    """Format the examples of a help text; the tests find them by this form and run every one."""
    return "\n".join(["examples:", *(f"  {line}" for line in shown)])


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a policy table."""
    parser.add_argument("--policy", choices=POLICIES, required=True, help="which states may be stored")
    parser.add_argument("--steps", type=int, required=True, metavar="T", help="length of the sequence")
    parser.add_argument("--slots", type=int, required=True, metavar="M", help="room for stored states")
    parser.add_argument(
        "--internal", type=int, metavar="ALPHA", help=f"slots of an internal state ({_taking('internal')}; default: 2)"
    )
    parser.add_argument(
        "--internal-known",
        type=int,
        metavar="BETA",
        help=f"its slots where its input state is stored too ({_taking('internal_known')}; default: not shared)",
    )


def _taking(parameter: str) -> str:
    return ", ".join(name for name, policy in POLICIES.items() if parameter in policy.parameters)


def named_source(options: argparse.Namespace) -> PolicyTable | Formula:
    """Return the table that `add_table_options` asked for or, where it would be large and there is one, its formula.

    Raises:
        TooLargeError: it would take gigabytes, or hours.
        ValueError: a number or a size is outside the policy's domain.
    """
    steps, slots = check_count("steps", options.steps), check_count("slots", options.slots)
    record = POLICIES[options.policy]
    if not record.formula or slots <= TABLED.most_slots(options.policy, steps):
        return named_table(options)
    return solve(options.policy, steps, slots, TABLED, internal=_internal(options))


def _internal(options: argparse.Namespace) -> int:
    alpha: int | None = options.internal
    return alpha if alpha is not None else (2 if POLICIES[options.policy].mixed else 1)


def named_table(options: argparse.Namespace) -> PolicyTable:
    """Build the table that `add_table_options` asked for.

    Raises:
        TooLargeError: it would take gigabytes, or hours.
        ValueError: a number or a size is outside the policy's domain.
    """
    steps, slots = check_count("steps", options.steps), check_count("slots", options.slots)
    record = POLICIES[options.policy]
    solved = " and ".join(name for name, policy in POLICIES.items() if policy.formula)
    advice = f"`membptt schedule` needs no table for {solved}" if record.formula else f"{solved} have a formula"
    ASKED.check(options.policy, steps, slots, unit="steps", advice=advice)
    return build(options.policy, steps, slots, internal=_internal(options), internal_known=options.internal_known)


def check_out(path: Path, what: str, endings: Sequence[str]) -> None:
    """Check, before anything is built, that `path` is where `what` can be written.

    Raises:
        Refusal: another ending, or no such folder.
    """
    if path.suffix[1:] not in endings:
        raise Refusal(f"--out {path}: {what} is written as {', '.join(endings)}; name the file accordingly")
    if not path.parent.is_dir():
        raise Refusal(f"--out {path}: there is no folder {path.parent}")


def described(table: PolicyTable | Formula, steps: int, slots: int) -> dict[str, Any]:
    """Return what names a table, or a formula at so many steps and slots."""
    sizes = table.sizes
    return {
        "policy": table.policy,
        "steps": steps,
        "slots": slots,
        "hidden": sizes.hidden,
        "internal": sizes.internal,
        "internal_known": sizes.internal_known,
        "digest": table.digest,
    }


def print_json(value: Any) -> None:
    """Print one JSON value."""
    json.dump(value, sys.stdout, indent=1)
    print()
