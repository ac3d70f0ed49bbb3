"""Memory-efficient backpropagation through time: `scan` a step over a sequence under a slot budget."""

from membptt.scan import scan

__all__ = ["scan"]
