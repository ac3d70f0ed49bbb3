"""The plain loop that a scan must equal, values and gradients, under several policies."""

from __future__ import annotations

from typing import Any

import optree
import torch
from torch import Tensor

from membptt import scan, while_loop

D = torch.float64
WAYS = ({"slots": 2}, {"slots": 9, "policy": "ism"}, {"slots": 3, "chunk": 2})


def looped(step: Any, init: Any, xs: Any = None, *, length: int | None = None, reverse: bool = False) -> Any:
    """What `scan` must return."""
    leaves, spec = optree.tree_flatten(xs)
    steps = len(leaves[0]) if leaves else length
    carry, ys = init, [None] * steps
    for at in reversed(range(steps)) if reverse else range(steps):
        carry, ys[at] = step(carry, spec.unflatten([leaf[at] for leaf in leaves]))
    return carry, optree.tree_map(lambda *leaves: torch.stack(leaves), *ys)


def total(result: Any) -> Tensor:
    """A number that weighs every element differently."""
    weighed = torch.zeros((), dtype=D)
    for leaf in optree.tree_leaves(result):
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            real = torch.view_as_real(leaf) if leaf.is_complex() else leaf
            weighed = weighed + (torch.linspace(-1, 1, real.numel(), dtype=D).cos().reshape(real.shape) * real).sum()
    return weighed


def assert_scans(step: Any, init: Any, xs: Any = None, *, wanted: Any = (), params: Any = None, **options: Any) -> None:
    """Compare a scan with the loop under every way, and the gradients of `wanted`."""
    expected = looped(step, init, xs, **options)
    gradients = torch.autograd.grad(total(expected), wanted) if wanted else ()
    for way in WAYS:
        result = scan(step, init, xs, params=params, **way, **options)
        torch.testing.assert_close(optree.tree_leaves(result), optree.tree_leaves(expected), rtol=1e-10, atol=1e-12)
        computed = torch.autograd.grad(total(result), wanted) if wanted else ()
        torch.testing.assert_close(computed, gradients, rtol=1e-10, atol=1e-12)


def assert_loops(cond: Any, body: Any, init: Any, *, wanted: Any = (), params: Any = None) -> int:
    """Compare a while loop with Python's, and the gradients of `wanted`; return the number of steps."""
    expected, count = init, 0
    while cond(expected):
        expected, count = body(expected), count + 1
    gradients = torch.autograd.grad(total(expected), wanted) if wanted else ()
    for slots in (1, 3):
        result, steps = while_loop(cond, body, init, slots=slots, params=params)
        assert steps == count
        torch.testing.assert_close(optree.tree_leaves(result), optree.tree_leaves(expected), rtol=1e-10, atol=1e-12)
        computed = torch.autograd.grad(total(result), wanted) if wanted else ()
        torch.testing.assert_close(computed, gradients, rtol=1e-10, atol=1e-12)
    return count


def leaf(*shape: int, dtype: torch.dtype = D, seed: int = 0) -> Tensor:
    """A tensor whose gradient is wanted."""
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()
