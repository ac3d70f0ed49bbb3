"""``membptt plan``: from sizes and a budget in bytes to a policy, its slots and its cores."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.console import Console

from membptt_cli.parsing import Refusal, command, print_json
from membptt_theory.footprint import Measured
from membptt_theory.options import Option, best_of_each, parse_bytes, readable, too_small
from membptt_theory.options import options as fitting
from membptt_theory.policies import POLICIES, planned
from membptt_theory.terminal import print_options

if TYPE_CHECKING:
    from membptt_cli.parsing import Commands

_LARGEST_CHUNK = 256


def add(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands,
        "plan",
        run,
        "choose policy, slots and steps per core for a budget in bytes",
        "The runtime's planner with sizes that you give; `membptt measure` prints those of a step of yours. Time is "
        "counted in forwards of one step: every step is recorded and backpropagated once, and advanced over as often "
        "as the table says.",
        "membptt plan --steps 100000 --hidden-bytes 8K --internal-bytes 40K --budget 64M",
        "membptt plan --steps 1000 --hidden-bytes 4096 --internal-bytes 20480 --budget 1MB --policy hsm --chunk 1",
        "membptt plan --steps 1000 --hidden-bytes 4096 --internal-bytes 20480 --budget 1MB --json",
    )
    parser.add_argument("--steps", type=int, required=True, metavar="T", help="length of the sequence")
    parser.add_argument(
        "--hidden-bytes",
        required=True,
        metavar="SIZE",
        help="what one step hands to the next: its carry; `membptt measure` prints it",
    )
    parser.add_argument(
        "--internal-bytes",
        required=True,
        metavar="SIZE",
        help="all that backpropagating one step needs, the states before and after it included",
    )
    parser.add_argument(
        "--budget", required=True, metavar="SIZE", help="bytes, or 64M or 64m (both MiB), 64MiB, 1.5GB, ..."
    )
    parser.add_argument("--policy", choices=("auto", *POLICIES), default="auto", help="default: auto, the fastest")
    parser.add_argument("--chunk", type=int, metavar="K", help="steps per core (default: powers of two up to 256)")
    parser.add_argument(
        "--backward", type=float, default=2.0, metavar="X", help="what a backward costs, in forwards (default: 2)"
    )
    parser.add_argument("--all", action="store_true", help="print every option, not only the best of each policy")
    parser.add_argument("--json", action="store_true", help="print JSON, every option")


def run(options: argparse.Namespace) -> int:
    """Print what fits the budget, the fastest first."""
    for name in ("budget", "hidden_bytes", "internal_bytes"):
        setattr(options, name, parse_bytes(getattr(options, name), f"--{name.replace('_', '-')}"))
    budget = options.budget
    _check(options)
    sizes = [_core(options, chunk) for chunk in _chunks(options)]
    fitted = fitting(sizes, options.steps, budget, planned() if options.policy == "auto" else (options.policy,))
    if not fitted:
        raise Refusal(too_small(sizes, budget, options.policy, options.steps))
    if options.json:
        rows = [_row(option) for option in fitted]
        print_json({"steps": options.steps, "budget": budget, "digest": fitted[0].schedule().digest, "options": rows})
    else:
        _show(options, budget, fitted)
    return 0


def _check(options: argparse.Namespace) -> None:
    for name in ("steps", "chunk"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise Refusal(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if options.chunk is not None and options.chunk > options.steps:
        raise Refusal(f"--chunk {options.chunk} is more than the {options.steps} steps there are")
    if options.internal_bytes < 2 * options.hidden_bytes:
        raise Refusal(
            f"--internal-bytes {options.internal_bytes} is less than two hidden states of "
            f"{options.hidden_bytes} bytes: it includes the state before the step and the state after it"
        )
    if not 0 <= options.backward < float("inf"):
        raise Refusal(f"--backward must be a number of forwards, 0 or more, got {options.backward}")


def _chunks(options: argparse.Namespace) -> list[int]:
    if options.chunk is not None:
        return [options.chunk]
    return [1 << power for power in range(9) if 1 << power <= min(options.steps, _LARGEST_CHUNK)]


def _core(options: argparse.Namespace, chunk: int) -> Measured:
    """Return the core of `chunk` steps: its graph also holds the hidden states between its steps."""
    hidden: int = options.hidden_bytes
    beyond: int = options.internal_bytes - 2 * hidden

    def internal(steps: int) -> int:
        return steps * beyond + (steps - 1) * hidden

    tail = options.steps % chunk or chunk
    return Measured(
        chunk=chunk,
        start=hidden,
        hidden=hidden,
        internal=internal(chunk),
        tail=internal(tail),
        shared=0,
        advance=float(chunk),
        backprop=chunk * (1 + options.backward),
    )


def _row(option: Option) -> dict[str, Any]:
    return {
        "policy": option.policy,
        "chunk": option.measured.chunk,
        "cores": option.cores,
        "slots": option.slots,
        "slot_bytes": option.unit,
        "internal": option.internal,
        "internal_known": option.internal_known,
        "forwards": option.forwards,
        "time_in_forwards": option.seconds,
        "peak_bytes": option.bytes,
    }


def _show(options: argparse.Namespace, budget: int, fitted: list[Option]) -> None:
    shown = fitted if options.all else best_of_each(fitted)
    print_options(
        shown,
        Console(),
        title=f"{options.steps} steps within {readable(budget)}, the fastest first",
        caption=f"vs plain: time over plain backpropagation's; {len(fitted) - len(shown)} more with --all",
        plain=options.steps * (1 + options.backward),
    )
