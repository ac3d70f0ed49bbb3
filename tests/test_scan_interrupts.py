"""Ctrl-C at any line of the runtime leaves nothing behind: one interrupt a run, at every line that a scan executes.

Tensors are followed by plain weak references: a `WeakSet` forgets through a callback in Python, an interrupt inside
that callback is swallowed, and the set counts what is gone.
"""

import gc
import os
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

import membptt
from membptt import scan
from membptt.run import adjoint
from membptt.state.garbage import uncollected
from membptt.step import generators
from membptt.step.autocast import Autocast

HERE = str(Path(membptt.__file__).parent)
CASES = {
    "single": {"slots": 2},
    "mixed": {"slots": 3, "policy": "msm", "internal": 2},
    "chunk": {"slots": 2, "chunk": 2},
    "tiers": {"slots": 1, "spill": True},
    "nested": {"slots": 1},
}


class Interrupt:
    """Raises KeyboardInterrupt at the line event of a given index, in the package's files; counts them meanwhile."""

    def __init__(self, index=None):
        self.index, self.count, self.struck = index, 0, None

    def __enter__(self):
        sys.settrace(self.enter)
        return self

    def __exit__(self, *exception):
        sys.settrace(None)

    def enter(self, frame, event, _):
        return self.line if frame.f_code.co_filename.startswith(HERE) else None

    def line(self, frame, event, _):
        if event == "line":
            self.count += 1
            if self.count - 1 == self.index:
                sys.settrace(None)
                self.struck = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.line


def others_may_draw():
    """Whether another thread gets the lock on the random generators."""
    got = []

    def ask():
        got.append(generators._generators.acquire(blocking=False))
        if got[0]:
            generators._generators.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return got[0]


def descriptors():
    """How many files are open, where the system tells; the pipes of the compiler's own processes come and go."""
    folder, files = Path("/proc/self/fd"), 0
    for entry in folder.iterdir() if folder.exists() else ():
        with suppress(OSError):
            files += os.readlink(entry).startswith("/")
    return files


def sweep(case, share):
    """Interrupt one gradient at every `share`-th line event; return the places struck and what was found wrong."""
    a, b = nn.Parameter(torch.full((3,), 0.9)), nn.Parameter(torch.full((3,), 0.2))
    init = torch.full((3,), 0.1, requires_grad=True)
    xs = torch.linspace(0, 1, 12).reshape(4, 3).requires_grad_()
    leaves = a, b, init, xs
    seen, alive = [], []
    hooks = [leaf.register_hook(seen.append) for leaf in (a, b)]

    def step(carry, x):
        gate = nn.functional.dropout(torch.sin(carry * a), 0.5)
        new = torch.tanh(gate + b * x)
        alive.extend(map(weakref.ref, (gate, new)))
        return new, new * 2

    def outer(carry, x):
        return scan(step, carry, torch.stack([x, x]), slots=1, params=[a, b])

    def call():
        torch.manual_seed(5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, ys = scan(outer if case == "nested" else step, init, xs, params=[a, b], **CASES[case])
        ys.sum().backward()

    def gradients():
        actual = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        seen.clear()
        alive.clear()
        return actual

    def autocast():
        return torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()

    call()
    expected = gradients()
    with Interrupt() as calm:
        call()
    gradients()
    gc.collect()
    least, before = descriptors(), (autocast(), True, True, True, True)
    struck, wrong = set(), []
    gc.freeze()
    try:
        for index in range(0, calm.count, share):
            with Interrupt(index) as interrupt, pytest.raises(KeyboardInterrupt):
                call()
            gc.collect()
            struck.add(interrupt.struck)
            left = sum(ref() is not None for ref in alive)
            on = [len(leaf._backward_hooks) == 1 for leaf in (a, b)]
            after = autocast(), torch.is_grad_enabled(), others_may_draw(), all(on), gc.isenabled()
            gc.enable()
            opened = descriptors() - least  # what an earlier test has left may be closed meanwhile
            least += min(opened, 0)
            actual = gradients()
            whole = all(f is None or torch.equal(f, e) for f, e in zip(actual, expected, strict=True))
            for leaf in (a, b):  # so that one loss is not reported for all that follow
                leaf._backward_hooks.update(
                    {hook.id: seen.append for hook in hooks if leaf._backward_hooks is hook.hooks_dict_ref()}
                )
            call()
            right = all(torch.equal(f, e) for f, e in zip(gradients(), expected, strict=True))
            if left or opened > 0 or after != before or not whole or not right:
                wrong.append((interrupt.struck, left, opened, after, whole, right))
    finally:
        gc.unfreeze()
    return struck, wrong


@pytest.mark.parametrize(
    ("case", "share"), [("single", 9), ("mixed", 11), ("chunk", 9), ("tiers", 41), ("nested", 101)]
)
def test_an_interrupt_at_many_lines_leaves_nothing_behind_and_the_next_call_works(case, share):
    struck, wrong = sweep(case, share)
    assert wrong == []
    assert len(struck) > 50


@pytest.mark.slow
@pytest.mark.parametrize("case", ["single", "mixed", "chunk", "tiers"])
def test_an_interrupt_at_any_line_leaves_nothing_behind_and_the_next_call_works_exhaustive(case):
    struck, wrong = sweep(case, 1)
    assert wrong == []
    assert len(struck) > 200


def test_garbage_collection_goes_on_after_an_interrupt_at_any_line_of_a_call():
    w, init, xs = torch.ones(2, requires_grad=True), torch.zeros(2), torch.ones(2, 2)

    def call():
        scan(lambda carry, x: (torch.tanh(carry * w + x), None), init, xs, slots=1, params=[w])

    call()
    with Interrupt() as calm:
        call()
    left_off = []
    for index in range(calm.count):
        with Interrupt(index) as interrupt, suppress(KeyboardInterrupt):
            call()
        if not gc.isenabled():
            left_off.append(interrupt.struck)
            gc.enable()
    assert calm.count > 200
    assert left_off == []


def test_who_finds_garbage_collection_off_leaves_it_alone():
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_interrupt_while_hooks_are_deferred_silences_none_of_them():
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    seen = []
    for leaf in (a, b):
        leaf.register_hook(seen.append)

    def pair():
        with adjoint.hooks_deferred((a, b)):
            (a * b).backward()
            assert seen == []

    pair()
    with Interrupt() as calm:
        pair()
    for index in range(calm.count):
        with Interrupt(index), pytest.raises(KeyboardInterrupt):
            pair()
        (a * b).backward()
        assert len(seen) == 2, index
        seen.clear()


@pytest.mark.parametrize("late", ["a recomputation inside", "a backward inside"])
def test_what_an_interrupt_has_left_entered_restores_nothing_once_what_is_around_it_has(late):
    """As where Ctrl-C comes between the last line inside and the exit: the rest is done when the traceback goes."""

    def state():
        return torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()

    before = state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = Autocast.current(frozenset())
    around = cast.replayed()
    around.__enter__()
    inside = (
        cast.replayed()
        if late == "a recomputation inside"
        else cast._replace(settings=(("cpu", torch.float16, True),)).aside()()
    )
    inside.__enter__()
    around.__exit__(None, None, None)
    assert state() == before
    del inside
    gc.collect()
    assert state() == before
