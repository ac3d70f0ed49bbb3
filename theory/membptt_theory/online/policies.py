"""Online policies by name: what each stores and when, how its gaps are completed, what the default promises."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from membptt_theory.online.gaps import gap_split, kept_gap_cost, reach
from membptt_theory.online.peers import equinox, halving_cost, halving_split, wang_moin_iaccarino
from membptt_theory.online.rule import Rule, Store, by_rule, filled, front_filling
from membptt_theory.online.staged import bound_after, handed_over, staged
from membptt_theory.tables import check_count

# Beyond binom(m + 2, 2) steps: the bound that the rule keeps as long as it can, and how many steps it looks ahead.
RULES: Final[Mapping[int, Rule]] = MappingProxyType(
    {2: Rule((57, 52), ahead=3), 3: Rule((26, 25)), 4: Rule((69, 68)), 5: Rule((35, 34))}
)
GREEDY: Final = Rule(ahead=0, delay=0, latest=True)
MOST_CHECKED: Final = 100  # slots up to which the rule was counted
CHECKED: Final = reach(MOST_CHECKED, 3)  # steps up to which it was: 176,851
# What the rule was counted to keep up to there: cost over the offline optimum.
COUNTED: Final[Mapping[int, Fraction]] = MappingProxyType({2: Fraction(57, 52), 3: Fraction(21, 20)})
COUNTED_BEYOND: Final = Fraction(34, 33)  # from four slots on


@dataclass(frozen=True, slots=True)
class Policy:
    """An online policy.

    Args:
        name: by which `POLICIES` knows it.
        line: what it is, for people.
        stores: of a number of slots, the endless sequence of its stores.
        keeps_newest: whether the newest step is recorded and its graph kept, so that it is never run twice.
        gap_cost: forwards of a gap of so many steps in so many slots.
        gap_split: where such a gap is cut; its length to store nothing.
    """

    name: str
    line: str
    stores: Callable[[int], Iterator[Store]]
    keeps_newest: bool = True
    gap_cost: Callable[[int, int], int] = kept_gap_cost
    gap_split: Callable[[int, int], int] = gap_split

    def costs(self, slots: int, /) -> Iterator[int]:
        """Yield the forwards in all of a loop of ``1, 2, 3, ..`` steps, endlessly.

        Raises:
            TypeError: `slots` is not an integer.
            ValueError: ``slots < 1``.
        """
        return self._costs(check_count("slots", slots))

    def cost(self, steps: int, slots: int, /) -> int:
        """Return the forwards in all of a loop that turns out to have ``t`` steps, in ``m`` slots.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: ``steps < 1`` or ``slots < 1``.
        """
        steps = check_count("steps", steps)
        held = self.held(steps, slots)
        stop = steps - self.keeps_newest
        ends = [*held[1:], stop]
        return steps + sum(self.gap_cost(b - a, slots - j) for j, (a, b) in enumerate(zip(held, ends, strict=True)))

    def held(self, steps: int, slots: int, /) -> list[int]:
        """Return the states stored when a loop ends after ``t`` steps, in order.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: ``steps < 1`` or ``slots < 1``.
        """
        steps, slots = check_count("steps", steps), check_count("slots", slots)
        held = [0]
        for store in self.stores(slots):
            if store.due >= steps:
                break
            change(held, store)
        return held

    def _costs(self, slots: int) -> Iterator[int]:
        held, steps, complete = [0], 1, 0
        stores = self.stores(slots)
        store = next(stores, None)
        while True:
            while store and store.due < steps:
                change(held, store)
                store = next(stores, None)
                gaps = enumerate(pairwise(held))
                complete = sum(self.gap_cost(b - a, slots - j) for j, (a, b) in gaps)
            last = steps - self.keeps_newest - held[-1]
            yield steps + complete + self.gap_cost(last, slots + 1 - len(held))
            steps += 1


def change(held: list[int], store: Store, /) -> None:
    """Carry out a store in a list of positions."""
    for position in store.dropped:
        held.remove(position)
    insort(held, store.position)


def budget(slots: int, /) -> Iterator[Store]:
    """Yield the stores of the budget rule without its promise: nothing wasted first, then the rule for ever."""
    return _phases(slots, None)


def for_every_t(slots: int, level: int | None = None, /) -> Iterator[Store]:
    """Yield the stores of the budget rule up to the length to which it was counted, then of the staged policy.

    Args:
        slots: ``m``.
        level: ``q >= 2``, to hand over after ``binom(m + q, m)`` steps; the last that was counted if not given.
    """
    return _phases(slots, handover_level(slots) if level is None else level)


def promise(slots: int, /) -> Fraction:
    """Return what `for_every_t` keeps for every ``t``: cost over the offline optimum is never more.

    >>> promise(2), promise(50)
    (Fraction(57, 52), Fraction(8651, 7801))

    Raises:
        TypeError: `slots` is not an integer.
        ValueError: ``slots < 1``.

    Claim: online-every-length.
    """
    slots = check_count("slots", slots)
    if slots == 1:
        return Fraction(1)
    level = handover_level(slots)
    counted = COUNTED.get(slots, COUNTED_BEYOND) if level > 2 else Fraction(1)
    return max(counted, bound_after(slots, level))


def handover_level(slots: int, /) -> int:
    """Return the largest ``q`` with ``binom(m + q, m)`` steps counted; 2, where nothing is wasted, if none were."""
    q = 2
    if slots <= MOST_CHECKED:
        while reach(slots, q + 1) <= CHECKED:
            q += 1
    return q


def _phases(slots: int, level: int | None) -> Iterator[Store]:
    if slots == 1:
        return
    yield from front_filling(slots)
    held = filled(slots)
    if level != 2:
        stop = None if level is None else reach(slots, level)
        for store in by_rule(slots, RULES.get(slots, Rule()), held=held, first=reach(slots, 2) - 1):
            if stop is not None and store.due >= stop:
                break
            yield store
            change(held, store)
    if level is not None:
        yield from handed_over(slots, level, held)


POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            Policy("for_every_t", "the budget rule one state late, then the staged policy; the default", for_every_t),
            Policy("budget", "the budget rule one state late, for ever", budget),
            Policy("staged", "old states give way in stages: at most 8/7 from eight slots on", staged),
            Policy("greedy", "the cheapest should the loop end now, without delay", lambda m: by_rule(m, GREEDY)),
            Policy("wang_moin_iaccarino", "replace what a later state of a higher level spares", wang_moin_iaccarino),
            Policy(
                "equinox",
                "the checkpointed loop of equinox, its halved gaps and its unrecorded newest step included",
                equinox,
                keeps_newest=False,
                gap_cost=halving_cost,
                gap_split=halving_split,
            ),
        )
    }
)
DEFAULT: Final = "for_every_t"


def policy(name: str, /) -> Policy:
    """Return the policy of that name.

    Raises:
        ValueError: no policy has that name.
    """
    if name not in POLICIES:
        raise ValueError(f"unknown online policy {name!r}; there are {', '.join(POLICIES)}")
    return POLICIES[name]
