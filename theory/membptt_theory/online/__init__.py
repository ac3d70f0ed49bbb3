"""Loops whose length nobody knows: what is stored on the way, what it costs in all, and how it is backpropagated."""

from __future__ import annotations

from membptt_theory.online.policies import DEFAULT, POLICIES, Policy, policy, promise
from membptt_theory.online.stream import SIZES, Stream, instructions, schedule

__all__ = ["DEFAULT", "POLICIES", "SIZES", "Policy", "Stream", "cost", "instructions", "policy", "promise", "schedule"]


def cost(steps: int, slots: int, /, *, policy: str = DEFAULT) -> int:
    """Return the forwards in all of a loop that turns out to have ``t`` steps, in ``m`` slots: first pass and backward.

    >>> cost(1000, 10), cost(1000, 10, policy="equinox")
    (4728, 6469)

    Args:
        steps: ``t``, at least 1.
        slots: ``m``, the starting state's included.
        policy: a name of `POLICIES`.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or an unknown policy.

    Claim: online-metered.
    """
    return _policy(policy).cost(steps, slots)


_policy = policy
