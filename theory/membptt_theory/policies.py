"""The registry: all there is to know of a policy, said once. Names, sizes, planner, command line and tests read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from membptt_theory.recurrences import Recurrence, hsm, ism, msm, msm_plus

_LARGEST_ALPHA: Final = 2**31


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy.

    Args:
        name: as `scan`, `plan` and the command line take it.
        title: as people write it.
        summary: what it stores, in one line for people.
        state: its Bellman equation, given its sizes in the order of `parameters`.
        parameters: the sizes it takes: none, ``internal`` (alpha), or alpha and ``internal_known`` (beta, optional).
        published: the sizes ``(alpha, beta)`` of which `tables.lock` holds a digest.
        shift: where costs and splits have a closed form: they are those of HSM at ``t + shift``, each step counted
            `shift` times less. ``None``: its tables take a minimum over splits.
        solved: whether `mixed.py` has costs and decisions of it in closed form all the same.
        planned: whether ``policy="auto"`` tries it.
        spills: whether it has a form with a slow tier.
    """

    name: str
    title: str
    summary: str
    state: Callable[..., Recurrence]
    parameters: tuple[str, ...] = ()
    published: tuple[tuple[int, int | None], ...] = ((1, None),)
    shift: int | None = None
    solved: bool = False
    planned: bool = False
    spills: bool = False

    @property
    def closed_form(self) -> bool:
        """Whether its tables are filled by a formula, not by a minimum over splits."""
        return self.shift is not None

    @property
    def formula(self) -> bool:
        """Whether costs and decisions come from a formula, at any length, without a table."""
        return self.closed_form or self.solved

    @property
    def mixed(self) -> bool:
        """Whether it may store states of both kinds, so that an internal state has a size in slots."""
        return "internal" in self.parameters


POLICIES: Final = {
    policy.name: policy
    for policy in (
        Policy("hsm", "HSM", "hidden states only", hsm, shift=0, planned=True, spills=True),
        Policy("ism", "ISM", "internal states only", ism, shift=1, planned=True),
        Policy("msm", "MSM", "either kind", msm, ("internal", "internal_known"), ((5, None), (5, 4))),
        Policy(
            "msm_plus",
            "MSM+",
            "either kind; a starting state may be released",
            msm_plus,
            ("internal",),
            published=((5, None),),
            solved=True,
            planned=True,
        ),
    )
}


def sized(*alphas: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield every policy with the sizes it takes, as keyword arguments: each alpha, and beta = alpha - 1 beside it.

    >>> [name for name, _ in sized(3)]
    ['hsm', 'ism', 'msm', 'msm', 'msm_plus']
    """
    for name, policy in POLICIES.items():
        if not policy.parameters:
            yield name, {}
        for alpha in alphas if policy.parameters else ():
            yield name, {"internal": alpha}
            if "internal_known" in policy.parameters:
                yield name, {"internal": alpha, "internal_known": alpha - 1}


NO_TIERS: Final = (
    "spill goes with policy 'hsm' or a TierTable, got {}: the slow tier takes hidden states, and a table of one tier "
    "does not say which"
)


def planned() -> tuple[str, ...]:
    """Return the names that ``policy="auto"`` tries."""
    return tuple(name for name, policy in POLICIES.items() if policy.planned)


def find(name: str, /) -> Policy:
    """Return the policy of that name.

    Raises:
        ValueError: there is no such policy; names the known ones.
    """
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; known policies are {', '.join(POLICIES)}")
    return POLICIES[name]


def recurrence(policy: str, *, internal: int = 1, internal_known: int | None = None) -> Recurrence:
    """State the Bellman equation of one policy.

    Args:
        policy: a name of `POLICIES`.
        internal: alpha, slots of an internal state, at least 2; only policies that store both kinds of state.
        internal_known: beta, its slots where the input hidden state is stored; MSM only. ``None`` for (7), else (10).

    Raises:
        TypeError: a size is not an integer.
        ValueError: unknown policy, or sizes outside the policy's domain.

    Ref: gruslys2016, sections 3.1 to 3.4.
    """
    record = find(policy)
    if not record.parameters:
        if internal != 1 or internal_known is not None:
            raise ValueError(
                f"policy {policy!r} has one kind of slot: leave internal and internal_known out, or use policy 'msm'"
            )
        return record.state()
    if "internal_known" not in record.parameters:
        if internal_known is not None:
            raise ValueError(
                f"policy {policy!r} has no recurrence for shared storage: leave internal_known out, or use 'msm'"
            )
        return record.state(_alpha(policy, internal))
    return record.state(_alpha(policy, internal), internal_known)


def _alpha(policy: str, internal: int) -> int:
    if isinstance(internal, bool) or not isinstance(internal, int):
        raise TypeError(
            f"internal must be an integer number of slots, got {internal!r} of type {type(internal).__name__}"
        )
    if internal < 2:
        raise ValueError(f"policy {policy!r} needs internal >= 2 (alpha, slots of an internal state), got {internal}")
    if internal >= _LARGEST_ALPHA:
        raise ValueError(f"internal (alpha) must be below 2**31 slots, got {internal}")
    return internal
