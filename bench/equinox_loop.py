"""JAX's plain scan and equinox's checkpointed loop over a GRU cell, in a process that `bench.peer` starts.

The first line that it reads is the problem; it answers with versions, and with bytes, forwards and gradient of every
method. Each line after that asks for one round of times. Needs jax and equinox, and neither torch nor this package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import equinox
import jax
import jax.numpy as jnp
from equinox.internal import while_loop

SCAN = "jax scan"


def main() -> None:
    """Answer every line of the input by one of the output."""
    problem = json.loads(sys.stdin.readline())
    steps, x = problem["steps"], jnp.array(problem["x"])
    wanted = [jnp.array(values) for values in problem["wanted"]]
    loops: dict[str, Callable[..., Any]] = {SCAN: partial(_scan, steps)}
    loops |= {f"equinox m={m}": partial(_checkpointed, steps, m) for m in problem["slots"]}
    runs, methods = {}, {}
    for label, loop in loops.items():
        compiled = jax.jit(jax.grad(partial(_loss, loop, _cell))).lower(wanted, x).compile()
        runs[label] = partial(compiled, wanted, x)
        methods[label] = {
            "forwards": _forwards(loop, wanted, x),
            "peak_bytes": compiled.memory_analysis().temp_size_in_bytes,
            "gradient": [leaf.tolist() for leaf in runs[label]()],
        }
    versions = {"jax": jax.__version__, "jaxlib": jax.lib.__version__, "equinox": equinox.__version__}
    _answer({"versions": versions, "methods": methods})
    for _ in sys.stdin:
        _answer({label: _seconds(run) for label, run in runs.items()})


def _loss(loop: Callable[..., Any], cell: Callable[..., Any], wanted: list[Any], x: Any) -> Any:
    h, *weights = wanted
    return loop(lambda state: cell(x, state, *weights), h).sum()


def _scan(steps: int, step: Callable[[Any], Any], h: Any) -> Any:
    return jax.lax.scan(lambda state, _: (step(state), None), h, None, length=steps)[0]


def _checkpointed(steps: int, slots: int, step: Callable[[Any], Any], h: Any) -> Any:
    def body(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        return step(carry[0]), carry[1] + 1

    start = h, jnp.array(0)
    return while_loop(lambda carry: carry[1] < steps, body, start, kind="checkpointed", checkpoints=slots)[0]


def _cell(x: Any, h: Any, *weights: Any) -> Any:
    """Advance as torch's `GRUCell` does."""
    w_ih, w_hh, b_ih, b_hh = weights
    xr, xz, xn = jnp.split(x @ w_ih.T + b_ih, 3, axis=1)
    hr, hz, hn = jnp.split(h @ w_hh.T + b_hh, 3, axis=1)
    z = jax.nn.sigmoid(xz + hz)
    return (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + z * h


def _forwards(loop: Callable[..., Any], wanted: list[Any], x: Any) -> int:
    """Count the cell's evaluations in one gradient."""
    seen: list[None] = []

    def counted(x: Any, h: Any, *weights: Any) -> Any:
        jax.debug.callback(lambda _: seen.append(None), h[0, 0])  # of the state, or a scan counts once for all steps
        return _cell(x, h, *weights)

    jax.block_until_ready(jax.jit(jax.grad(partial(_loss, loop, counted)))(wanted, x))
    jax.effects_barrier()
    return len(seen)


def _seconds(run: Callable[[], Any]) -> float:
    start = perf_counter()
    jax.block_until_ready(run())
    return perf_counter() - start


def _answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
