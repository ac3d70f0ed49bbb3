"""Python's garbage collection, which may wait while many objects are made of which none is garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Let nobody collect garbage meanwhile: each look at thousands of objects that stay takes as long as making them.

    Of all threads, for some milliseconds; no code of the user's is to run inside.
    """
    collects = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if collects:
            gc.enable()
