"""Python's garbage collection, which may wait while many objects are made of which none is garbage."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from weakref import finalize


def uncollected() -> ExitStack:
    """Let nobody collect garbage meanwhile: each look at thousands of objects that stay takes as long as making them.

    Of all threads, for some milliseconds; no code of the user's is to run inside. Who finds it off leaves it alone:
    another thread may be inside, and switches it on again.
    """
    stack = ExitStack()
    if gc.isenabled():
        stack.callback(gc.enable)
        finalize(stack, gc.enable)  # wherever an interrupt comes
        gc.disable()
    return stack
