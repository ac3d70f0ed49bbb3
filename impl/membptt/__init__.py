"""Memory-efficient backpropagation through time: `scan` a step over a sequence under a memory budget."""

from membptt import nn
from membptt.inputs import Indexed
from membptt.meter import Report, meter
from membptt.plan import Plan, PlanError, plan
from membptt.scan import scan
from membptt.stateful import Stateful

__all__ = ["Indexed", "Plan", "PlanError", "Report", "Stateful", "meter", "nn", "plan", "scan"]
