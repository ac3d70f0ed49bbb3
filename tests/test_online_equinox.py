"""equinox itself, where it is installed: its checkpointed loop evaluates its body as often as our policy counts."""

from __future__ import annotations

import pytest

from membptt_theory import online

jax = pytest.importorskip("jax")
loops = pytest.importorskip("equinox.internal")


def evaluations(steps: int, checkpoints: int) -> int:
    """Count the body's evaluations in one gradient of a loop."""
    seen = []

    def body(carry):
        step, state = carry
        jax.debug.callback(seen.append, step)
        return step + 1, jax.numpy.tanh(state) * 1.1

    def last(state):
        start = (jax.numpy.array(0), state)
        return loops.while_loop(
            lambda carry: carry[0] < steps, body, start, kind="checkpointed", checkpoints=checkpoints
        )[1]

    jax.grad(last)(jax.numpy.array(0.3)).block_until_ready()
    jax.effects_barrier()
    return len(seen)


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 33, 61])
def test_equinox_evaluates_its_body_as_often_as_counted(steps, slots):
    assert evaluations(steps, slots) == online.cost(steps, slots, policy="equinox")


@pytest.mark.parametrize(
    ("steps", "slots", "count"), [(100, 5, 460), (1000, 5, 9919), (1000, 10, 6469), (1778, 50, 8558)]
)
def test_equinox_evaluates_its_body_as_often_as_stated(steps, slots, count):
    assert evaluations(steps, slots) == count == online.cost(steps, slots, policy="equinox")
