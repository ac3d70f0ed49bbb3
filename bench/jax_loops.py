"""The cells of the benchmarks in JAX, under JAX's and equinox's loops, in a process that `bench.peer` starts.

The first line that it reads is the problem, whose arrays lie in a file; it answers with versions, and with bytes and
forwards of every method, whose gradients it leaves in another file. Each line after that names a method and asks for
the seconds of one gradient. Needs jax and equinox, and neither torch nor this package.
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
import numpy as np
from equinox.internal import while_loop

Carry = tuple[Any, ...]
Step = Callable[[Carry, Any], Carry]
Cell = Callable[..., tuple[Carry, Any]]


def main() -> None:
    """Answer every line of the input by one of the output."""
    problem = json.loads(sys.stdin.readline())
    with np.load(problem["arrays"]) as file:
        given = {name: jnp.array(file[name]) for name in file}
    weights, init = _numbered(given, "weight"), _numbered(given, "init")
    loss, cell = PROBLEMS[problem["problem"]], CELLS[problem["cell"]]
    wanted = {"weights": weights, "init": init} if problem["start_wanted"] else {"weights": weights}
    constant = {"xs": given["xs"]} | ({} if problem["start_wanted"] else {"init": init})
    runs, methods, gradients = {}, {}, {}
    for label, (kind, size) in problem["methods"].items():
        loop = partial(LOOPS[kind], size, problem["calls"])
        compiled = _gradient(loss, loop, cell).lower(wanted, constant).compile()
        runs[label] = partial(compiled, wanted, constant)
        methods[label] = {
            "forwards": _forwards(loss, loop, cell, wanted, constant),
            "peak_bytes": compiled.memory_analysis().temp_size_in_bytes,
        }
        parts = runs[label]()
        for index, leaf in enumerate([*parts.get("init", ()), *parts["weights"]]):
            gradients[f"{label} {index}"] = np.asarray(leaf)
    np.savez(problem["gradients"], **gradients)  # type: ignore[arg-type]
    versions = {"jax": jax.__version__, "jaxlib": jax.lib.__version__, "equinox": equinox.__version__}
    _answer({"versions": versions, "methods": methods})
    for line in sys.stdin:
        _answer(_seconds(runs[json.loads(line)]))


def _sequence(loop: Callable[..., Any], cell: Cell, weights: Any, init: Any, xs: Any) -> Any:
    """Return the loss of `bench.cells`: of the final carry and of the outputs' sum."""

    def step(state: Carry, x: Any) -> Carry:
        carry, y = cell(weights, state[0], x)
        return carry, state[1] + y

    start = tuple(init)
    shape = jax.eval_shape(cell, weights, start, xs[0])[1]
    carry, total = loop(step, (start, jnp.zeros(shape.shape, shape.dtype)), xs)
    return jnp.square(total / len(xs)).mean() + sum(jnp.square(leaf).mean() for leaf in carry)


def _relaxation(loop: Callable[..., Any], cell: Cell, weights: Any, init: Any, xs: Any) -> Any:
    """Return the loss of `bench.while_loop`: of the final carry, with one input for all steps."""
    return loop(lambda state, _: cell(weights, state, xs)[0], tuple(init), None)[0].sum()


def _scan(_: int, calls: int, step: Step, carry: Carry, xs: Any) -> Any:
    return jax.lax.scan(lambda state, x: (step(state, x), None), carry, xs, length=calls)[0]


def _chunks(size: int, calls: int, step: Step, carry: Carry, xs: Any) -> Any:
    """`jax.checkpoint` over chunks of `size` steps, which divides their number."""
    chunk = jax.checkpoint(partial(_scan, 0, size, step))
    cut = xs.reshape(calls // size, size, *xs.shape[1:])
    return jax.lax.scan(lambda state, part: (chunk(state, part), None), carry, cut)[0]


def _checkpointed(slots: int, calls: int, step: Step, carry: Carry, xs: Any) -> Any:
    """Run the loop that `equinox.internal.scan` is too, without its outputs, in so many states."""

    def body(state: tuple[Carry, Any]) -> tuple[Carry, Any]:
        return step(state[0], None if xs is None else xs[state[1]]), state[1] + 1

    start = carry, jnp.array(0)
    return while_loop(lambda state: state[1] < calls, body, start, kind="checkpointed", checkpoints=slots)[0]


def _lstm(weights: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
    """Advance as torch's `LSTMCell` does."""
    w_ih, w_hh, b_ih, b_hh = weights
    h, c = carry
    i, f, g, o = jnp.split(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _gru(weights: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
    """Advance as torch's `GRUCell` does."""
    w_ih, w_hh, b_ih, b_hh = weights
    (h,) = carry
    xr, xz, xn = jnp.split(x @ w_ih.T + b_ih, 3, axis=1)
    hr, hz, hn = jnp.split(h @ w_hh.T + b_hh, 3, axis=1)
    z = jax.nn.sigmoid(xz + hz)
    h = (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + z * h
    return (h,), h


def _spiking(weights: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
    feed, bias, recur = weights
    potential, spikes = carry
    potential = 0.9 * potential + (x @ feed.T + bias) + spikes @ recur.T - spikes
    spikes = _spike(potential - 1)
    return (potential, spikes), spikes


@jax.custom_vjp  # type: ignore[untyped-decorator,unused-ignore]
def _spike(above: Any) -> Any:
    return (above > 0).astype(above.dtype)


_spike.defvjp(lambda above: (_spike(above), above), lambda above, grad: (grad / jnp.square(1 + 10 * jnp.abs(above)),))


def _state_space(weights: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
    log_rate, skip, into, b_into, select, b_select, out, b_out = weights
    width, states = log_rate.shape
    u, gate = jnp.split(x @ into.T + b_into, 2, axis=-1)
    dt, b, c = jnp.split(u @ select.T + b_select, (width, width + states), axis=-1)
    dt = jax.nn.softplus(dt)
    decay = jnp.exp(-dt[..., None] * jnp.exp(log_rate))
    state = (dt * u)[..., None] * b[..., None, :]
    span = 1
    while span < len(x):
        state = jnp.concatenate([state[:span], state[span:] + decay[span:] * state[:-span]])
        decay = jnp.concatenate([decay[:span], decay[span:] * decay[:-span]])
        span *= 2
    state = state + decay * carry[0]
    y = (state * c[..., None, :]).sum(-1) + skip * u
    return (state[-1],), ((y * jax.nn.silu(gate)) @ out.T + b_out).sum(0)


def _attention_memory(weights: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
    place, *gru, ask, b_ask, write, b_write = weights
    h, keys, values = carry
    width = values.shape[-1]

    def attend(query: Any) -> Any:
        scores = ((keys + place) @ query[..., None])[..., 0]
        return jax.nn.softmax(scores / width**0.5, axis=-1)

    read = (attend(h @ ask.T + b_ask)[..., None, :] @ values)[..., 0, :]
    (h,), _ = _gru(gru, (h,), jnp.concatenate([x, read], -1))
    where, key, value, gate = jnp.split(h @ write.T + b_write, (width, 2 * width, 3 * width), axis=-1)
    weight = (jax.nn.sigmoid(gate) * attend(where))[..., None]
    keys = keys + weight * (jnp.tanh(key)[..., None, :] - keys)
    values = values + weight * (jnp.tanh(value)[..., None, :] - values)
    return (h, keys, values), h


# Each takes the weights in the order of its torch module.
CELLS: dict[str, Cell] = {
    "lstm": _lstm,
    "gru": _gru,
    "spiking": _spiking,
    "state-space": _state_space,
    "attention-memory": _attention_memory,
}
LOOPS: dict[str, Callable[..., Any]] = {"scan": _scan, "checkpoint": _chunks, "equinox": _checkpointed}
PROBLEMS: dict[str, Callable[..., Any]] = {"sequence": _sequence, "relaxation": _relaxation}


def _numbered(given: dict[str, Any], name: str) -> list[Any]:
    return [given[f"{name} {index}"] for index in range(sum(key.startswith(name) for key in given))]


def _gradient(loss: Callable[..., Any], loop: Callable[..., Any], cell: Cell) -> Any:
    return jax.jit(jax.grad(lambda wanted, constant: loss(loop, cell, **wanted, **constant)))


def _forwards(loss: Callable[..., Any], loop: Callable[..., Any], cell: Cell, wanted: Any, constant: Any) -> int:
    """Count the cell's evaluations in one gradient."""
    seen: list[None] = []

    def counted(weights: Any, carry: Carry, x: Any) -> tuple[Carry, Any]:
        # Of the state, or a scan counts once for all steps.
        jax.debug.callback(lambda _: seen.append(None), carry[0].ravel()[0])
        return cell(weights, carry, x)

    jax.block_until_ready(_gradient(loss, loop, counted)(wanted, constant))
    jax.effects_barrier()
    return len(seen)


def _seconds(run: Callable[[], Any]) -> float:
    start = perf_counter()
    jax.block_until_ready(run())
    return perf_counter() - start


def _answer(content: Any) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
