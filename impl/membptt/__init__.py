"""Memory-efficient backpropagation: `scan` a step over a sequence, or run a `chain` of blocks, in a memory budget."""

from importlib.metadata import version
from importlib.util import find_spec

if absent := [package for package in ("torch", "optree") if find_spec(package) is None]:
    raise ModuleNotFoundError(
        f"the runtime needs {' and '.join(absent)}: pip install 'membptt[runtime]'; membptt_theory works without",
        name=absent[0],
    )

from membptt import nn
from membptt.calls.chain import chain, plan_chain
from membptt.calls.plan import plan
from membptt.calls.scan import scan
from membptt.calls.while_loop import while_loop
from membptt.planning.chain_plan import ChainPlan
from membptt.planning.choice import HopelessScheduleWarning
from membptt.planning.plan_file import Plan, PlanError
from membptt.run.inputs import Indexed
from membptt.run.meter import Report, meter
from membptt.run.promise import BrokenPromiseWarning
from membptt.run.ragged import Ragged
from membptt.run.witness import NotDeterministicError
from membptt.slow.tier import SlowTier
from membptt.step.stateful import Stateful
from membptt.torch_private import MissingPrivateNameWarning
from membptt_theory.actions import Prices

__all__ = [
    "BrokenPromiseWarning",
    "ChainPlan",
    "HopelessScheduleWarning",
    "Indexed",
    "MissingPrivateNameWarning",
    "NotDeterministicError",
    "Plan",
    "PlanError",
    "Prices",
    "Ragged",
    "Report",
    "SlowTier",
    "Stateful",
    "chain",
    "meter",
    "nn",
    "plan",
    "plan_chain",
    "scan",
    "while_loop",
]

__version__ = version("membptt")
