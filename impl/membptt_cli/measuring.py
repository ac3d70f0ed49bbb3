"""``membptt measure``: the sizes that ``membptt plan`` asks for, measured on a step of the user's."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from membptt_cli.parsing import Refusal, command, print_json
from membptt_theory.options import readable

if TYPE_CHECKING:
    from membptt_cli.parsing import Commands

_ALL: Final = 2**60  # bytes: any number of steps fits


def add(commands: Commands) -> None:
    """Add the command."""
    parser = command(
        commands,
        "measure",
        run,
        "measure a step of yours: the sizes and times that plan asks for",
        "FUNCTION is called without arguments and returns what scan takes: (step, init, xs), or (step, init, xs, "
        "params). The step is run a few times; nothing is left changed. Needs the runtime, so torch.",
        "membptt measure model:problem",
        "membptt measure model:problem --json",
    )
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="found as python -m finds it, or in this folder")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print sizes and times, and the line to go on with."""
    runtime = _runtime()
    step, init, xs, *params = _problem(options.function)
    try:
        plan = runtime.plan(step, init, xs, budget=_ALL, chunk=1, policy="hsm", params=params[0] if params else None)
    except RuntimeError as error:
        raise Refusal(str(error)) from error
    core = plan.chosen.measured
    internal = core.internal + 2 * core.hidden
    backward = max(0.0, core.backprop / core.advance - 1)
    least = core.shared + core.start + internal
    plain = core.shared + core.start + plan.steps * (core.internal + core.hidden)
    budget = least if plain < 10 * least else readable(plain // 10).replace(" ", "")
    line = (
        f"membptt plan --steps {plan.steps} --hidden-bytes {core.hidden} --internal-bytes {internal} "
        f"--backward {backward:.2f} --budget {budget}"
    )
    if options.json:
        print_json(
            {
                "steps": plan.steps,
                "hidden_bytes": core.hidden,
                "internal_bytes": internal,
                "shared_bytes": core.shared,
                "forward_seconds": core.advance,
                "backward": backward,
                "outputs_bytes": plan.outputs,
                "gradients_bytes": plan.gradients,
                "least_budget": least,
                "plain_bytes": plain,
                "plan": line,
            }
        )
        return 0
    print(f"{options.function}, {plan.steps} steps, one step a core")
    print(f"  hidden state    {readable(core.hidden)}: what one step hands to the next")
    print(f"  internal state  {readable(internal)}: what its backward needs, with the states before and after it")
    if core.shared:
        print(f"  beside them     {readable(core.shared)} that all states share: add it to the budget of plan")
    print(f"  time            {core.advance * 1e3:.3g} ms forward; a backward costs {backward:.2f} forwards")
    print(f"  plain backpropagation keeps {readable(plain)}; the smallest feasible budget is {readable(least)}")
    print(f"go on, with\n  {line}")
    return 0


def _problem(name: str) -> tuple[Any, ...]:
    """Return what a user's function gives."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise Refusal(f"{name!r} names no function: write MODULE:FUNCTION, as in model:problem")
    sys.path.insert(0, os.getcwd())  # as python -m does
    try:
        value = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise Refusal(f"{module}: {error}; it is looked for in this folder and where Python looks") from error
    finally:
        sys.path.pop(0)
    if not callable(value):
        raise Refusal(f"{module} has no function {function}")
    problem = value()
    if not isinstance(problem, tuple) or len(problem) not in (3, 4):
        raise Refusal(f"{name} must return (step, init, xs) or (step, init, xs, params), got {type(problem).__name__}")
    return problem


def _runtime() -> Any:
    """Return the runtime, which every other command does without."""
    try:
        return importlib.import_module("membptt")
    except ModuleNotFoundError as error:
        raise Refusal(str(error)) from error
