"""Memory-efficient backpropagation through time: `scan` a step over a sequence under a slot budget."""

from membptt.inputs import Indexed
from membptt.scan import scan

__all__ = ["Indexed", "scan"]
