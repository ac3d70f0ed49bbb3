"""The tie: Coq's machine and recurrences against the product's, by checks that Coq computes.

Streams are the product's own schedules of every policy, mutations of them, and random walks of its machine. For each,
the number of actions that the product's machine accepts and, where the stream is complete, its forwards, recorded
forwards and peak must be what `tie/Meter.v` finds with Coq's machine. Tables must be what Coq's recurrences compute.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from membptt_proofs import formal_coq as coq
from membptt_theory import online
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Prices,
    Record,
    Restore,
    RestoreSlow,
    Sizes,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredAction,
)
from membptt_theory.machine import IllegalActionError, Machine, TieredMachine
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import KEPT, OWNED
from membptt_theory.tables import build
from membptt_theory.tiers import Tier, build_tiers

A = TypeVar("A", bound=TieredAction)

ALPHAS: Final = (2, 3, 5)
STEPS: Final = 8
SLOTS: Final = 9
IMPORTED: Final = ("Machine", "Policies", "Recurrences", "Meter")  # modules of the development that the checks' files
NAMED: Final = ("Tiers", "Value", "Online", "Restart")  # import, and those whose names they write out
_HEAD: Final = (
    f"From Membptt Require Import {' '.join(IMPORTED)}.",
    f"From Membptt Require {' '.join(NAMED)}.",
)
_COMPUTED: Final = "Proof. vm_compute. reflexivity. Qed."
_CAPACITIES: Final = ((Tier.FAST, 1, 0), (Tier.FAST, 2, 1), (Tier.FAST, 1, 2), (Tier.SLOW, 0, 2), (Tier.SLOW, 2, 1))
_PLACES: Final = (
    Record, Backpropagate, StoreHidden, StoreInternal, Restore, LoadInternal, DropHidden, DropInternal,
)  # fmt: skip
_TIERED: Final = (Record, Backpropagate, StoreHidden, StoreSlow, Restore, RestoreSlow, DropHidden, DropSlow)
_IN_TIERS: Final[dict[type[TieredAction], str]] = {
    StoreHidden: "Store Tiers.Fast",
    StoreSlow: "Store Tiers.Slow",
    Restore: "Restore Tiers.Fast",
    RestoreSlow: "Restore Tiers.Slow",
    DropHidden: "Drop Tiers.Fast",
    DropSlow: "Drop Tiers.Slow",
}


@dataclass(frozen=True, slots=True)
class Model:
    """A policy as both sides see it: in Coq, in slots, and the tables whose schedules it may carry out."""

    policy: str
    sizes: Sizes
    tables: tuple[PolicyTable, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A stream, and what the product's machine says of it, both as Coq reads them."""

    stream: str
    report: str
    complete: bool


def models() -> list[Model]:
    """Return the policies of `model/Policies.v` that the product has."""
    return [
        Model("HSM", Sizes(1, None), (build("hsm", STEPS, SLOTS),)),
        Model("ISM", Sizes(None, 1), (build("ism", STEPS, SLOTS),)),
        *(
            Model(
                f"(SEPARATE {alpha})",
                Sizes(1, alpha),
                (build("msm_plus", STEPS, SLOTS, internal=alpha), build("msm", STEPS, SLOTS, internal=alpha)),
            )
            for alpha in ALPHAS
        ),
        *(
            Model(
                f"(CHARGED {alpha})",
                Sizes(1, alpha, alpha - 1),
                (build("msm", STEPS, SLOTS, internal=alpha, internal_known=alpha - 1),),
            )
            for alpha in ALPHAS
        ),
    ]


def report(actions: Sequence[TieredAction], steps: int, sizes: Sizes) -> tuple[int, tuple[int, int, int] | None]:
    """Return how many actions the product's machine accepts; forwards, recorded ones and peak of a complete stream."""
    machine = Machine(steps, sizes)
    count, complete = _carried_out(machine, actions)
    if not complete:
        return count, None
    done = machine.finish()
    return count, (done.forwards, done.recorded, done.peak)


def cases(count: int, rng: random.Random, /) -> Iterator[Case]:
    """Yield `count` streams of one tier: schedules, mutations of them, and random walks."""
    chosen = models()
    for _ in range(count):
        model = rng.choice(chosen)
        steps = rng.randint(1, STEPS)
        kind = rng.random()
        if kind < 0.7:
            table = rng.choice(model.tables)
            actions = list(table.schedule(steps, rng.randint(1, SLOTS)))
            if kind >= 0.15:
                actions = _mutated(actions, steps, _PLACES, rng)
        else:
            actions = _walk(steps, model.sizes, rng)
        accepted, complete = report(actions, steps, model.sizes)
        yield Case(
            f"{model.policy}, {steps}, {_listed(map(_in_coq, actions))}",
            f"({accepted}, {'None' if complete is None else 'Some ({}, {}, {})'.format(*complete)})",
            complete is not None,
        )


def tiered_cases(count: int, rng: random.Random, /) -> Iterator[Case]:
    """Yield `count` streams of two tiers: schedules and mutations of them."""
    tables = [build_tiers(STEPS, 3, 3, Prices(*prices)) for prices in ((1, 0, 0), (1, 2, 1), (3, 6, 1))]
    for number in range(count):
        steps, tier = rng.randint(1, STEPS), rng.choice(list(Tier))
        actions: list[TieredAction] = list(
            rng.choice(tables).schedule(steps, rng.randint(1, 3), rng.randint(1, 3), tier)
        )
        if number % 4:
            actions = _mutated(actions, steps, _TIERED, rng)
        accepted, complete = _tiered_report(actions, steps, slow=tier is Tier.SLOW)
        values = "None" if complete is None else f"Some {_listed(map(str, complete))}"
        yield Case(
            f"{_tier(tier)}, {steps}, {_listed(map(_in_tiers, actions))}",
            f"({accepted}, {values})",
            complete is not None,
        )


def streams_file(single: Sequence[Case], tiered: Sequence[Case], /) -> str:
    """Return a Coq file that holds exactly where both machines agree on every stream.

    Each expectation is spoilt in turn as well, and the comparison must notice.
    """
    lines = [*_HEAD]
    for name, held, checks in (("single", single, "agrees notices"), ("tiered", tiered, "tiers_agree tiers_notice")):
        rows = ";\n".join(f"({case.stream}, {case.report})" for case in held)
        lines.append(f"Definition {name} := [\n{rows}].")
        lines += [f"Example {check}_{name} : forallb {check} {name} = true. {_COMPUTED}" for check in checks.split()]
    return "\n".join(lines) + "\n"


def tables_file(steps: int, slots: int, /) -> str:
    """Return a Coq file that holds exactly where Coq's recurrences are the product's tables, to `steps` and `slots`."""
    lines = [*_HEAD]

    def equal(name: str, function: str, values: Callable[[int, int], int]) -> None:
        rows = _listed(_listed(str(values(t, m)) for t in range(1, steps + 1)) for m in range(1, slots + 1))
        lines.append(
            f"Example {name} : table {function} {steps} {slots} = {rows}. Proof. vm_compute. reflexivity. Qed."
        )

    equal("hsm_table", "hsm", build("hsm", steps, slots).cost)
    equal("ism_table", "ism", build("ism", steps, slots).cost)
    for alpha in ALPHAS:
        shared = build("msm", steps, slots, internal=alpha, internal_known=alpha - 1)
        plus = build("msm_plus", steps, slots, internal=alpha)
        equal(f"shared_table_{alpha}", f"(shared {alpha})", shared.cost)
        for mode, keep in ((OWNED, "false"), (KEPT, "true")):
            cost = _in_mode(plus, mode)
            equal(f"separate_table_{alpha}_{keep}", f"(separate {alpha} {keep})", cost)
            equal(f"two_table_{alpha}_{keep}", f"(two {alpha} {keep})", cost)
    equal("staged_costs", "(fun t m => Online.evals t m (Restart.W m t))", online.policy("staged").cost)
    staged = online.policy("staged").held
    held = [[_listed(map(str, staged(t, m)[1:])) for t in range(1, 8 * steps)] for m in range(1, slots)]
    states = f"map (fun m => map (Restart.W m) (seq 1 {8 * steps - 1})) (seq 1 {slots - 1})"
    lines.append(f"Example staged_states : {states} = {_listed(map(_listed, held))}. {_COMPUTED}")
    rows = []
    for prices in (Prices(1, 0, 0), Prices(1, 2, 1), Prices(3, 6, 1), Prices(1, 0, 3)):
        table = build_tiers(min(steps, 5), 2, 2, prices)
        for t in range(1, table.steps + 1):
            for tier, fast, slow in _CAPACITIES:
                price = f"(Tiers.Prices {prices.forward} {prices.write} {prices.read})"
                value = f"Value.value {price} {t} {_tier(tier)} (Tiers.fs {fast} {slow}) {t}"
                rows.append(f"match {value} with Some k => k =? {table.cost(t, fast, slow, tier)} | None => false end")
    lines.append(f"Example tiers_tables : forallb (fun b => b) {_listed(rows)} = true. {_COMPUTED}")
    return "\n".join(lines) + "\n"


def check(
    *,
    streams: int,
    steps: int,
    slots: int,
    seed: int = 16,
    progress: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> str:
    """Let Coq compare both machines on random streams, and both kinds of tables; return the evidence.

    Args:
        streams: how many streams; a fifth of them has two tiers.
        steps: longest sequence of the tables.
        slots: largest number of slots of the tables.
        seed: of the streams.
        progress: wraps the names of the files that Coq goes through.

    Raises:
        CoqError: Coq is absent, or the two disagree.
    """
    rng = random.Random(seed)
    portions = -(-streams // 2000)
    complete = total = 0
    for name in progress([*(f"Streams{number}" for number in range(portions)), "Tables"]):
        if name == "Tables":
            text = tables_file(steps, slots)
        else:
            size = min(2000, streams - total)
            single, tiered = list(cases(size - size // 5, rng)), list(tiered_cases(size // 5, rng))
            total += size
            complete += sum(case.complete for case in (*single, *tiered))
            text = streams_file(single, tiered)
        coq.check_text(name, text)
    return (
        f"Coq's machine and the product's agree on {total} streams, {complete} of them complete, "
        f"and its recurrences are the tables to t = {steps}, m = {slots}"
    )


def _tiered_report(actions: Sequence[TieredAction], steps: int, *, slow: bool) -> tuple[int, tuple[int, ...] | None]:
    machine = TieredMachine(steps, start_slow=slow)
    count, complete = _carried_out(machine, actions)
    if not complete:
        return count, None
    done = machine.finish()
    return count, (done.forwards, done.writes, done.reads, done.peak, done.slow_peak)


def _carried_out(machine: Machine, actions: Sequence[TieredAction]) -> tuple[int, bool]:
    """Return how many actions a machine accepts, and whether they are a complete stream."""
    for count, action in enumerate(actions):
        try:
            machine.execute(action)
        except IllegalActionError:
            return count, False
    try:
        machine.finish()
    except IllegalActionError:
        return len(actions), False
    return len(actions), True


def _mutated(actions: Sequence[A], steps: int, kinds: Sequence[type[A]], rng: random.Random) -> list[A]:
    """Return a stream with one to three actions left out, put in, doubled, replaced or exchanged."""
    changed = list(actions)

    def some() -> A:
        if rng.random() < 0.2:
            return Advance(rng.randint(0, steps), rng.randint(0, steps + 1))  # type: ignore[return-value]
        return rng.choice(kinds)(rng.randint(0, steps))  # type: ignore[call-arg]

    for _ in range(rng.randint(1, 3)):
        place, kind = rng.randrange(len(changed)), rng.random()
        if kind < 0.3:
            del changed[place]
        elif kind < 0.5:
            changed.insert(place, some())
        elif kind < 0.6:
            changed[place] = some()
        elif kind < 0.75:
            changed.insert(place, changed[place])
        elif kind < 0.9:
            changed[place - 1], changed[place] = changed[place], changed[place - 1]
        else:  # wasteful, mostly legal
            changed[place:place] = rng.choice(([Restore(0)], [Restore(0), Advance(0, 1)], [Restore(0), Record(0)]))  # type: ignore[arg-type]
        changed = changed or [some()]
    return changed


def _walk(steps: int, sizes: Sizes, rng: random.Random) -> list[TieredAction]:
    """Return a random stream that the machine accepts, but perhaps for its last action."""
    machine, actions = Machine(steps, sizes), list[TieredAction]()
    for _ in range(rng.randint(1, 50)):
        action = (
            rng.choice(_plausible(machine, sizes))
            if rng.random() > 0.02
            else rng.choice(_PLACES)(rng.randint(0, steps))
        )
        actions.append(action)
        try:
            machine.execute(action)
        except IllegalActionError:
            break
    return actions


def _plausible(machine: Machine, sizes: Sizes) -> list[TieredAction]:
    choices: list[TieredAction] = [*map(DropHidden, machine.hidden), *map(DropInternal, machine.internal)]
    if machine.core is not None:
        choices += [Backpropagate(machine.core)] * 4
        if sizes.internal is not None:
            choices.append(StoreInternal(machine.core))
        return choices
    place = machine.position
    if place is not None:
        if place < machine.steps:
            choices += [Record(place)] * 2 + [Advance(place, stop) for stop in range(place + 1, machine.steps + 1)]
        if sizes.hidden is not None:
            choices.append(StoreHidden(place))
    choices += [*map(Restore, machine.hidden), *(Restore(step + 1) for step in machine.internal)]
    choices += [*map(LoadInternal, machine.internal), Restore(0)]
    return choices


def _in_mode(table: PolicyTable, mode: int) -> Callable[[int, int], int]:
    return lambda steps, slots: table.cost(steps, slots, mode)


def _in_coq(action: TieredAction) -> str:
    return f"{type(action).__name__} {' '.join(map(str, action))}"


def _in_tiers(action: TieredAction) -> str:
    name = _IN_TIERS.get(type(action), type(action).__name__)
    return f"Tiers.{name} {' '.join(map(str, action))}"


def _tier(tier: Tier) -> str:
    return "Tiers.Slow" if tier is Tier.SLOW else "Tiers.Fast"


def _listed(items: Iterable[str]) -> str:
    return f"[{'; '.join(items)}]"
