"""``membptt prove``: one verdict a claim."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from membptt_cli.parsing import Refusal, command

if TYPE_CHECKING:
    from membptt_cli.parsing import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands,
        "prove",
        run,
        "check the claims, one verdict each",
        "Without an ID all of them, on the ranges of CLAIMS.md: that takes a while. Coq, where it is installed, is "
        "asked for what is proved (formal): some minutes, however many claims. Exit status 1 if one fails.",
        "membptt prove chen-sqrt-cost",
        "membptt prove --list",
        "membptt prove --quick --json hsm-splits ism-splits",
    )
    parser.add_argument("claims", nargs="*", metavar="ID", help="claims to check, by their ids in CLAIMS.md")
    parser.add_argument("--quick", action="store_true", help="the smaller ranges of the test suite, without Coq")
    parser.add_argument("--list", action="store_true", help="print the claims' ids, statuses and scopes; check nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Hand over to the proofs, which import sympy."""
    try:
        from membptt_proofs.__main__ import main  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "sympy":
            raise
        raise Refusal("the proofs need sympy: pip install 'membptt[proofs]'") from error

    flags = [
        flag
        for flag, given in (("--quick", options.quick), ("--list", options.list), ("--json", options.json))
        if given
    ]
    return main([*flags, "--", *options.claims], prog=options.prog)
