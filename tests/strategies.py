"""Every hypothesis strategy and every exhaustive range of the suite, and the one comparator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from membptt_theory import policies as registry
from membptt_theory.actions import Block
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build

# (policy, keyword arguments of build): every policy of the registry.
POLICIES: list[tuple[str, dict[str, int]]] = [*registry.sized(5), ("msm", {"internal": 2})]


def policy_id(value: Any) -> str:
    """Name a policy in a test id."""
    return "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)


@st.composite
def policies(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """Any policy with any sizes."""
    policy = draw(st.sampled_from(list(registry.POLICIES.values())))
    name = policy.name
    if not policy.parameters:
        return name, {}
    sizes = {"internal": draw(st.integers(2, 9))}
    if "internal_known" in policy.parameters and draw(st.booleans()):
        sizes["internal_known"] = draw(st.integers(1, sizes["internal"]))
    return name, sizes


@st.composite
def queries(draw: st.DrawFn, *, most_steps: int, most_slots: int) -> tuple[PolicyTable, int, int]:
    """A table and a ``(t, m)`` inside it: any sizes for short sequences, `POLICIES` (built once) for long ones."""
    steps, slots = draw(st.integers(1, most_steps)), draw(st.integers(1, most_slots))
    if steps <= 400:
        name, sizes = draw(policies())
        return build(name, steps, slots, **sizes), steps, slots
    name, sizes = draw(st.sampled_from(POLICIES))
    return build(name, most_steps, most_slots, **sizes), steps, slots


@st.composite
def blocks(draw: st.DrawFn, *, longest: int, most: int = 5) -> list[Block]:
    """A chain of blocks; `most` bounds the bytes of an output. Any of them may be equal."""
    size, cost = st.integers(0, 2 * most), st.integers(1, 4)
    kind = st.builds(
        Block,
        advance=cost,
        record=cost,
        backward=st.integers(0, 5),
        output=st.integers(0, most),
        internal=size,
        advance_need=size,
        record_need=size,
        backward_need=size,
    )
    kinds = draw(st.lists(kind, min_size=1, max_size=longest))
    return draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=longest))


# Any JSON value, numbers that JSON does not have included.
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-3, 9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def outcome(call: Callable[[], Any]) -> Any:
    """The value of a call, or the type of what it raises: the one comparator of this suite."""
    try:
        return call()
    except Exception as error:
        return type(error)


def grid(most_steps: int, most_slots: int) -> Iterator[tuple[int, int]]:
    """Every ``(t, m)`` up to the given sizes."""
    return ((t, m) for m in range(1, most_slots + 1) for t in range(1, most_steps + 1))
