"""What the commands share: the options that name a table, examples in the help, errors, output."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from membptt_theory.policies import POLICIES
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, check_count

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

_ENTRIES = 2**28  # of 13 bytes
_ADDITIONS = 10**11  # some minutes

Run = Callable[[argparse.Namespace], int]


class Refusal(Exception):
    """A request that cannot be met, and why."""


def command(commands: Commands, name: str, run: Run, about: str, more: str, *shown: str) -> argparse.ArgumentParser:
    """Add a command with examples in its help; `main` calls `run`."""
    made = commands.add_parser(
        name,
        help=about,
        description=textwrap.fill(f"{about[0].upper()}{about[1:]}. {more}", 90),
        epilog=examples(*shown),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run, prog=made.prog)
    return made


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


def named_table(options: argparse.Namespace) -> PolicyTable:
    """Build the table that `add_table_options` asked for.

    Raises:
        Refusal: it would be too large, or take hours.
        ValueError: a number or a size is outside the policy's domain.
    """
    entries = check_count("steps", options.steps) * check_count("slots", options.slots)
    if entries > _ENTRIES:
        raise Refusal(f"a table of {options.steps} steps and {options.slots} slots has more than {_ENTRIES} entries")
    record = POLICIES[options.policy]
    closed = " or ".join(name for name, policy in POLICIES.items() if policy.closed_form)
    if not record.closed_form and entries * options.steps > _ADDITIONS:
        raise Refusal(
            f"{options.policy} takes steps squared times slots additions, here {entries * options.steps:.1e}: hours; "
            f"ask for less than {_ADDITIONS:.0e}, or for {closed}, which have a closed form"
        )
    internal = options.internal if options.internal is not None else (2 if record.mixed else 1)
    return build(options.policy, options.steps, options.slots, internal=internal, internal_known=options.internal_known)


def check_out(path: Path, what: str, endings: Sequence[str]) -> None:
    """Check, before anything is built, that `path` is where `what` can be written.

    Raises:
        Refusal: another ending, or no such folder.
    """
    if path.suffix[1:] not in endings:
        raise Refusal(f"--out {path}: {what} is written as {', '.join(endings)}; name the file accordingly")
    if not path.parent.is_dir():
        raise Refusal(f"--out {path}: there is no folder {path.parent}")


def described(table: PolicyTable) -> dict[str, Any]:
    """Return what names a table."""
    sizes = table.sizes
    return {
        "policy": table.policy,
        "steps": table.steps,
        "slots": table.slots,
        "hidden": sizes.hidden,
        "internal": sizes.internal,
        "internal_known": sizes.internal_known,
        "digest": table.digest,
    }


def print_json(found: Any) -> None:
    """Print one JSON value."""
    json.dump(found, sys.stdout, indent=1)
    print()
