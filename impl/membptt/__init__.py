"""Memory-efficient backpropagation through time: `scan` a step over a sequence under a memory budget."""

from membptt import nn
from membptt.inputs import Indexed
from membptt.meter import Report, meter
from membptt.plan import Plan, PlanError, plan
from membptt.scan import scan
from membptt.stateful import Stateful
from membptt.tier import SlowTier
from membptt_theory.actions import Prices

__all__ = ["Indexed", "Plan", "PlanError", "Prices", "Report", "SlowTier", "Stateful", "meter", "nn", "plan", "scan"]
