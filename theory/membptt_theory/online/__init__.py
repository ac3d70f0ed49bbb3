"""Loops whose length nobody knows: what is stored on the way, what it costs in all, and how it is backpropagated."""

from __future__ import annotations

from membptt_theory.online import internal as _internal
from membptt_theory.online.policies import DEFAULT, POLICIES, Policy, policy, promise
from membptt_theory.online.stream import SIZES, Stream, check_internal, instructions, schedule
from membptt_theory.tables import check_count

__all__ = ["DEFAULT", "POLICIES", "SIZES", "Policy", "Stream", "cost", "instructions", "policy", "promise", "schedule"]


def cost(steps: int, slots: int, /, *, policy: str = DEFAULT, internal: int | None = None) -> int:
    """Return the forwards in all of a loop that turns out to have ``t`` steps, in ``m`` slots: first pass and backward.

    >>> cost(1000, 10), cost(1000, 10, policy="equinox")
    (4728, 6469)
    >>> cost(3, 10, internal=5), cost(3, 10), cost(1000, 10, internal=5)
    (3, 5, 4668)

    Args:
        steps: ``t``, at least 1.
        slots: ``m``, the starting state's included.
        policy: a name of `POLICIES`.
        internal: alpha, slots of an internal state, where those are stored too, by a rule of their own; at least 2.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below its least, an unknown policy, or another than the default with `internal`.

    Claim: online-metered, online-internal-metered.
    """
    alpha = check_internal(internal, policy)
    if alpha:
        return _internal.cost(check_count("steps", steps), check_count("slots", slots), alpha)
    return _policy(policy).cost(steps, slots)


_policy = policy
