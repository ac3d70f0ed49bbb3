"""Two tiers of slots: table, naive recurrence, stream and search agree; which of its moves the recurrence needs."""

from __future__ import annotations

import copy
import heapq
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs.tiers_oracle import INFINITE, least_cost, naive_tiers
from membptt_theory import tiers
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropSlow,
    Prices,
    Record,
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreSlow,
    TieredAction,
)
from membptt_theory.archive import TableError, save_arrays
from membptt_theory.machine import IllegalActionError, TieredMachine, TieredReport, meter_tiers
from membptt_theory.tables import build
from membptt_theory.tiers import Tier, TierDecision, TierTable, build_tiers

PRICES = [
    Prices(*three)
    for three in [
        (1, 0, 0), (1, 1, 1), (1, 0, 1), (1, 1, 0), (2, 1, 1), (2, 3, 1), (2, 1, 3), (3, 1, 2), (1, 3, 1), (1, 10, 10),
        (4, 1, 3), (7, 3, 2),
    ]
]  # fmt: skip
SAMPLE = Prices(2, 3, 1)


def search(t: int, f: int, s: int, tier: Tier, prices: Prices) -> int:
    named = {"forward": prices.forward, "write": prices.write, "read": prices.read}
    return least_cost(t, f, s, start_slow=tier is Tier.SLOW, **named)


def naive(t: int, f: int, s: int | None, prices: Prices) -> dict[tuple[bool, int, int | None, int], float]:
    return naive_tiers(t, f, s, forward=prices.forward, write=prices.write, read=prices.read)


def queries(t: int, f: int, s: int) -> Iterator[tuple[int, int, int, Tier]]:
    """Every query that has a slot for the starting state."""
    for steps, fast, slow, tier in itertools.product(range(1, t + 1), range(f + 1), range(s + 1), Tier):
        if (slow if tier else fast) > 0:
            yield steps, fast, slow, tier


@st.composite
def prices_drawn(draw: st.DrawFn, most: int = 20) -> Prices:
    return Prices(draw(st.integers(1, 8)), draw(st.integers(0, most)), draw(st.integers(0, most)))


@st.composite
def queries_drawn(draw: st.DrawFn, *, t: int, f: int, s: int) -> tuple[int, int, int, Tier]:
    tier = draw(st.sampled_from(Tier))
    fast, slow = draw(st.integers(int(tier is Tier.FAST), f)), draw(st.integers(int(tier is Tier.SLOW), s))
    return draw(st.integers(1, t)), fast, slow, tier


def assert_metered(table: TierTable, t: int, f: int, s: int | None, tier: Tier) -> TieredReport:
    report = meter_tiers(table.schedule(t, f, s, tier), steps=t, start_slow=tier is Tier.SLOW)
    assert report.cost(table.prices) == table.cost(t, f, s, tier)
    assert report.recorded == t
    assert report.peak <= f
    assert s is None or report.slow_peak <= s
    return report


def cheapest_stream(steps: int, fast: int, slow: int, tier: Tier, prices: Prices) -> int:
    """Dijkstra over the machine's own states and actions, without any argument of ours."""

    def moves(machine: TieredMachine) -> Iterator[TieredAction]:
        p = machine.position
        if p is not None:
            yield from (Advance(p, p + 1), Record(p), StoreHidden(p), StoreSlow(p))
        if machine.core is not None:
            yield Backpropagate(machine.core)
        for q in range(steps):
            yield from (Restore(q), DropHidden(q), RestoreSlow(q), DropSlow(q))

    def price(action: TieredAction) -> int:
        return {Advance: prices.forward, Record: prices.forward, StoreSlow: prices.write, RestoreSlow: prices.read}.get(
            type(action), 0
        )

    ticket = itertools.count()
    queue = [(0, next(ticket), TieredMachine(steps, start_slow=tier is Tier.SLOW))]
    seen = set()
    while queue:
        cost, _, machine = heapq.heappop(queue)
        stored = frozenset(machine.hidden), frozenset(machine.slow)
        state = machine.position, machine.core, *stored, machine.next_backward
        if state in seen:
            continue
        seen.add(state)
        if machine.next_backward < 0:
            return cost
        for action in moves(machine):
            after = copy.copy(machine)
            after.hidden, after.slow = set(machine.hidden), set(machine.slow)
            try:
                after.execute(action)
            except IllegalActionError:
                continue
            if len(after.hidden) <= fast and len(after.slow) <= slow:
                heapq.heappush(queue, (cost + price(action), next(ticket), after))
    raise AssertionError("no legal schedule")


@pytest.mark.parametrize("prices", [Prices(2, 3, 1), Prices(1, 0, 4)], ids=str)
def test_the_search_equals_dijkstra_on_the_machine_exhaustive(prices):
    for t, f, s, tier in queries(3, 2, 2):
        assert search(t, f, s, tier, prices) == cheapest_stream(t, f, s, tier, prices)


@pytest.mark.parametrize(("t", "f", "s"), [(4, 1, 1), (4, 1, 2), (4, 2, 1), (5, 1, 1)])
def test_the_search_equals_dijkstra_on_the_machine_where_slots_are_scarce(t, f, s):
    for tier in Tier:
        assert search(t, f, s, tier, Prices(3, 2, 1)) == cheapest_stream(t, f, s, tier, Prices(3, 2, 1))


@pytest.mark.parametrize("prices", PRICES, ids=str)
def test_the_table_is_optimal_over_all_schedules_exhaustive(prices):
    table = build_tiers(6, 3, 3, prices)
    for query in queries(6, 3, 3):
        assert table.cost(*query) == search(*query, prices)


@pytest.mark.slow
@pytest.mark.parametrize("prices", PRICES[4:9], ids=str)
def test_the_table_is_optimal_over_all_schedules_of_eight_steps(prices):
    table = build_tiers(8, 3, 3, prices)
    for query in queries(8, 3, 3):
        assert query[0] < 7 or table.cost(*query) == search(*query, prices)


@settings(max_examples=60, deadline=None)
@given(queries_drawn(t=7, f=4, s=4), prices_drawn())
def test_the_table_is_optimal_over_all_schedules_hypothesis(query, prices):
    assert build_tiers(*query[:3], prices).cost(*query) == search(*query, prices)


@pytest.mark.parametrize("prices", PRICES, ids=str)
@pytest.mark.parametrize("slow", [3, None])
def test_the_table_is_the_solution_of_its_recurrence_exhaustive(prices, slow):
    table = build_tiers(20, 3, slow, prices)
    for (start_slow, f, s, t), cost in naive(20, 3, slow, prices).items():
        if cost == INFINITE:
            with pytest.raises(ValueError, match="must be between 1"):
                table.cost(t, f, s, Tier(start_slow))
        else:
            assert table.cost(t, f, s, Tier(start_slow)) == cost


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.none() | st.integers(0, 4), prices_drawn(most=60))
def test_the_table_is_the_solution_of_its_recurrence_hypothesis(t, f, s, prices):
    table = build_tiers(t, f, s, prices)
    for (start_slow, fast, slow, steps), cost in naive(t, f, s, prices).items():
        if cost != INFINITE:
            assert table.cost(steps, fast, slow, Tier(start_slow)) == cost


@pytest.mark.parametrize("prices", PRICES, ids=str)
def test_metered_cost_and_peaks_equal_the_table_exhaustive(prices):
    bounded, unbounded = build_tiers(14, 3, 3, prices), build_tiers(14, 3, None, prices)
    for t, f, s, tier in queries(14, 3, 3):
        assert_metered(bounded, t, f, s, tier)
        assert_metered(unbounded, t, f, None, tier)


@settings(max_examples=25, deadline=None)
@given(queries_drawn(t=300, f=8, s=8), prices_drawn(most=200), st.booleans())
def test_metered_cost_and_peaks_equal_the_table_hypothesis(query, prices, bounded):
    t, f, s, tier = query
    slow = s if bounded else None
    assert_metered(build_tiers(t, f, slow, prices), t, f, slow, tier)


@pytest.mark.parametrize("prices", PRICES, ids=str)
def test_without_slow_slots_the_table_is_hsm_exhaustive(prices):
    table, hsm = build_tiers(60, 8, 0, prices), build("hsm", 60, 8)
    for t, f in itertools.product(range(61), range(1, 9)):
        assert table.cost(t, f, 0) == prices.forward * hsm.cost(t, f)
        if t > 1:
            assert table.decision(t, f, 0)[1] == hsm.decision(t, f)[1]


def test_where_transfers_are_free_the_table_is_hsm_with_the_slots_of_both_exhaustive():
    table, hsm = build_tiers(40, 4, 4, Prices(3, 0, 0)), build("hsm", 40, 8)
    for t, f, s, tier in queries(40, 4, 4):
        assert table.cost(t, f, s, tier) == 3 * hsm.cost(t, f + s)


@settings(max_examples=20, deadline=None)
@given(queries_drawn(t=200, f=9, s=9), prices_drawn())
def test_the_table_lies_between_hsm_with_the_fast_slots_and_hsm_with_all_hypothesis(query, prices):
    t, f, s, tier = query
    hsm, cost = build("hsm", t, 18), build_tiers(t, f, s, prices).cost(*query)
    assert cost >= prices.forward * hsm.cost(t, f + s)
    if tier is Tier.FAST:
        assert cost <= prices.forward * hsm.cost(t, f)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 3), prices_drawn())
def test_as_many_slow_slots_as_steps_are_as_good_as_any_number_hypothesis(t, f, spare, prices):
    assert (build_tiers(t, f, t + spare, prices).costs[:, t:] == build_tiers(t, f, None, prices).costs).all()


@pytest.mark.parametrize("prices", PRICES, ids=str)
def test_the_cost_is_monotone_in_every_argument_exhaustive(prices):
    costs = build_tiers(60, 5, 5, prices).costs
    feasible = costs[:, 1:, 1:]
    assert (np.diff(feasible, axis=3) >= prices.forward).all()  # one step more
    assert (np.diff(costs, axis=2) <= 0).all()  # one fast slot more
    assert (np.diff(costs, axis=1) <= 0).all()  # one slow slot more
    assert (feasible[Tier.SLOW] <= feasible[Tier.FAST]).all()  # a start in the slow tier can move at no cost
    for raised in (
        replace(prices, forward=prices.forward + 1), replace(prices, write=prices.write + 1),
        replace(prices, read=prices.read + 1),
    ):  # fmt: skip
        assert (build_tiers(60, 5, 5, raised).costs >= costs).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 80), st.integers(1, 5), st.integers(0, 5), prices_drawn(), st.integers(2, 1000))
def test_only_the_ratio_of_the_prices_decides_hypothesis(t, f, s, prices, factor):
    table = build_tiers(t, f, s, prices)
    raised = build_tiers(t, f, s, Prices(*(factor * getattr(prices, name) for name in ("forward", "write", "read"))))
    feasible = table.costs < tiers.INFEASIBLE
    assert (raised.costs[feasible] == factor * table.costs[feasible]).all()
    assert (raised.decisions == table.decisions).all()
    assert (raised.splits == table.splits).all()


def test_costs_beyond_int32_are_exact():
    factor = 10**9
    large = build_tiers(50, 3, 3, Prices(2 * factor, 3 * factor, factor))
    feasible = large.costs < tiers.INFEASIBLE
    assert (large.costs[feasible] == factor * build_tiers(50, 3, 3, SAMPLE).costs[feasible]).all()
    assert_metered(large, 50, 3, 3, Tier.FAST)
    with pytest.raises(ValueError, match="coarser unit"):
        build_tiers(1000, 2, 2, Prices(2**59, 0, 0))


@pytest.mark.parametrize(
    ("without", "query", "optimum", "missed"),
    [
        ("a fetched state that stays", (2, 1, 1, Tier.SLOW, Prices(3, 6, 1)), 9, 10),
        ("a fast state that makes room", (5, 1, 1, Tier.FAST, Prices(3, 6, 1)), 40, 41),
    ],
)
def test_neither_move_can_be_left_out(without, query, optimum, missed):
    """Without either of its two moves the recurrence misses what the search finds."""
    *query, prices = query
    barred = Tier.SLOW if "stays" in without else Tier.FAST

    @cache
    def cost(t: int, f: int, s: int, tier: Tier) -> float:
        if not t:
            return 0
        if (s if tier else f) < 1:
            return INFINITE
        again = prices.read if tier else 0
        room = (f, s - 1) if tier else (f - 1, s)
        best = prices.forward * t + (again + cost(t - 1, f, s, tier) if t > 1 else 0)
        for y in range(1, t):
            left = prices.forward * y + again + cost(y, f, s, tier)
            best = min(best, left + cost(t - y, *room, Tier.FAST), left + prices.write + cost(t - y, *room, Tier.SLOW))
        if tier is not barred:
            best = min(best, cost(t, f, s, Tier(1 - tier)) + (0 if tier else prices.write))
        return best

    assert search(*query, prices) == build_tiers(5, 1, 1, prices).cost(*query) == optimum
    assert cost(*query) == missed


def test_the_cost_is_not_convex_in_t_so_every_split_has_to_be_tried():
    assert (np.diff(build_tiers(40, 2, 2, Prices(1, 1, 1)).costs[Tier.FAST, 2, 2], n=2) < 0).any()
    assert (np.diff(build_tiers(40, 2, 2, Prices(1, 0, 0)).costs[Tier.FAST, 2, 2, 1:], n=2) >= 0).all()


def test_expensive_transfers_are_not_used_and_cheap_ones_are():
    dear, cheap = build_tiers(200, 5, None, Prices(1, 10**4, 10**4)), build_tiers(200, 5, None, Prices(100, 1, 1))
    assert assert_metered(dear, 200, 5, None, Tier.FAST).writes == 0
    report = assert_metered(cheap, 200, 5, None, Tier.FAST)
    assert report.slow_peak > 100
    assert report.forwards == 2 * 200 - 1


def test_decisions_are_the_first_of_the_cheapest_with_the_smallest_split():
    table = build_tiers(30, 3, 3, Prices(2, 0, 0))
    for t, f, s, tier in queries(30, 3, 3):
        decision, y = table.decision(t, f, s, tier)
        assert decision is not TierDecision.MOVE or tier is Tier.SLOW or table.prices.write < table.cost(t, f, s)
        assert (y == t) is (decision is TierDecision.LAST)
        if f + s >= t > 1 and f > (tier is Tier.FAST):
            assert (decision, y) == (TierDecision.FAST, 1)


def theirs(t: int, f: int, s: int | None, prices: Prices) -> int:
    """Cost of the schedule of another library: H-Revolve, or Disk-Revolve where the slow tier never runs out."""
    library = pytest.importorskip("checkpoint_schedules")
    # checkpoint-schedules 1.0.4 swaps uf and ub before it builds its table: equal values give what uf alone should.
    named = {"uf": prices.forward, "ub": prices.forward, "wd": prices.write, "rd": prices.read}
    actions = library.DiskRevolve(t, f, **named) if s is None else library.HRevolve(t, f, s, **named)
    cost, disk = 0, library.StorageType.DISK
    for action in actions:
        if isinstance(action, library.Forward):
            cost += prices.forward * (action.n1 - action.n0)
            cost += prices.write * (action.write_ics and action.storage == disk)
        elif isinstance(action, library.Copy | library.Move):
            cost += prices.read * (action.from_storage == disk)
    return cost


@pytest.mark.parametrize("prices", PRICES, ids=str)
def test_the_table_equals_h_revolve_of_another_library_exhaustive(prices):
    table = build_tiers(20, 3, 3, prices)
    for t, f, s in itertools.product(range(2, 21), range(1, 4), range(1, 4)):
        assert table.cost(t, f, s) == theirs(t, f, s, prices)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 5), prices_drawn(most=60))
def test_the_table_equals_h_revolve_of_another_library_hypothesis(t, f, s, prices):
    assert build_tiers(t, f, s, prices).cost(t, f, s) == theirs(t, f, s, prices)


@pytest.mark.parametrize("prices", PRICES, ids=str)
def test_the_table_is_never_worse_than_disk_revolve_of_another_library_exhaustive(prices):
    table = build_tiers(20, 3, None, prices)
    for t, f in itertools.product(range(2, 21), range(1, 4)):
        assert table.cost(t, f, None) <= theirs(t, f, None, prices)


def test_disk_revolve_of_another_library_can_cost_more():
    assert build_tiers(6, 1, 6, SAMPLE).cost(6, 1, 6) == search(6, 1, 6, Tier.FAST, SAMPLE) == 33
    assert theirs(6, 1, None, SAMPLE) == 34


def test_theory_imports_no_torch_and_the_referee_nothing_of_ours():
    code = "import sys, {}; print(*{{name.split('.')[0] for name in sys.modules}})"
    for module, barred in (
        ("membptt_theory.tiers", {"torch", "sympy", "scipy", "membptt", "membptt_proofs"}),
        ("membptt_proofs.tiers_oracle", {"torch", "sympy", "scipy", "membptt", "membptt_theory"}),
    ):
        done = subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True)
        assert not set(done.stdout.split()) & barred


def forged(table: TierTable, name: str, at: tuple[int, int, int, int], value: int) -> TierTable:
    array = getattr(table, name).copy()
    assert array[at] != value
    array[at] = value
    return replace(table, **{name: array})


@pytest.mark.parametrize("slow", [2, None])
def test_a_table_with_any_cost_off_by_one_is_refused(slow):
    table = build_tiers(6, 2, slow, SAMPLE)
    for at in np.ndindex(table.costs.shape):
        for off in (-1, 1):
            with pytest.raises(TableError):
                forged(table, "costs", at, int(table.costs[at]) + off)


def test_a_table_with_any_split_or_decision_changed_is_refused():
    table = build_tiers(6, 2, 2, SAMPLE)
    for at in np.ndindex(table.costs.shape):
        for name, values in (("splits", range(8)), ("decisions", range(5))):
            for value in set(values) - {int(getattr(table, name)[at])}:
                with pytest.raises(TableError):
                    forged(table, name, at, value)


def test_a_consistent_table_of_worse_splits_is_refused(monkeypatch):
    """A table that never moves its starting state costs what its own decisions cost, and is still not the minimum."""
    monkeypatch.setattr(tiers.TierSweep, "_moved", lambda self, rows, *solution: solution)
    monkeypatch.setattr(TierTable, "_check_minimum", lambda self: None)
    worse = tiers._build.__wrapped__(8, 1, 1, Prices(3, 6, 1))
    monkeypatch.undo()
    with pytest.raises(TableError, match="another split is cheaper"):
        replace(worse)


@pytest.mark.parametrize(
    "change",
    [
        {"costs": np.zeros((2, 3, 3, 7), dtype=np.int32)},
        {"splits": np.zeros((2, 3, 3, 6), dtype=np.int32)},
        {"bounded": False},
        {"prices": Prices(2, 3, 2)},
    ],
    ids=["dtype", "shape", "bounded", "prices"],
)
def test_arrays_of_another_form_or_recurrence_are_refused(change):
    with pytest.raises(TableError):
        replace(build_tiers(6, 2, 2, SAMPLE), **change)


def test_the_arrays_of_a_table_cannot_be_written_to():
    table = build_tiers(6, 2, 2, SAMPLE)
    for name in ("costs", "decisions", "splits"):
        with pytest.raises(ValueError, match=r"WRITEABLE|read-only"):
            getattr(table, name).flags.writeable = True
    assert table.digest == table.compute_digest()


def test_tables_of_different_prices_or_bounds_have_different_digests():
    tables = [build_tiers(5, 2, s, p) for s in (2, 3, None) for p in (SAMPLE, Prices(4, 6, 2))]
    assert len({table.digest for table in tables}) == len(tables)
    assert build_tiers(5, 2, 2, SAMPLE).digest == tiers._build.__wrapped__(5, 2, 2, SAMPLE).digest


@pytest.mark.parametrize("slow", [0, 2, None])
def test_a_saved_table_is_read_back_the_same(tmp_path, slow):
    table = build_tiers(9, 2, slow, SAMPLE)
    table.save(tmp_path / "table.npz")
    again = TierTable.load(tmp_path / "table.npz")
    assert (again.digest, again.slow, again.prices) == (table.digest, slow, SAMPLE)
    assert list(again.schedule(9, 2, slow)) == list(table.schedule(9, 2, slow))
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


def test_a_file_that_is_not_the_table_it_claims_to_be_is_refused(tmp_path):
    table = build_tiers(9, 2, 2, SAMPLE)
    path = tmp_path / "table.npz"
    arrays = {name: getattr(table, name) for name in ("costs", "decisions", "splits")}
    header = table._header()
    other = header["prices"] | {"write": 4}
    wrong = [
        (header, "0" * 64, arrays),
        (header | {"prices": other}, table.digest, arrays),
        (header | {"format": "membptt-tier-table/0"}, table.digest, arrays),
        (header | {"shape": [2, 3, 3, 9]}, table.digest, arrays),
        (header | {"bounded": False}, table.digest, arrays),
        ({name: header[name] for name in header if name != "prices"}, table.digest, arrays),
        (header, table.digest, arrays | {"costs": arrays["costs"] + 1}),
        (header, table.digest, {name: arrays[name] for name in ("costs", "splits")}),
    ]
    for parts in wrong:
        save_arrays(path, *parts)
        with pytest.raises(TableError, match=r"table\.npz"):
            TierTable.load(path)
    table.save(path)
    with pytest.raises(TableError, match="limit"):
        TierTable.load(path, limit=100)
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(TableError, match=r"table\.npz"):
            TierTable.load(path)
    with pytest.raises(TableError, match="missing"):
        TierTable.load(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ((7, 2, 2), ValueError),
        ((-1, 2, 2), ValueError),
        ((6, 3, 2), ValueError),
        ((6, 2, 3), ValueError),
        ((6, 0, 2), ValueError),
        ((6, 2, 0, Tier.SLOW), ValueError),
        ((6.0, 2, 2), TypeError),
        ((6, True, 2), TypeError),
    ],
)
def test_a_query_outside_the_table_is_refused_by_table_and_schedule(query, error):
    table = build_tiers(6, 2, 2, SAMPLE)
    for call in (table.cost, table.decision, table.schedule):
        with pytest.raises(error):
            call(*query)
    assert table.cost(6, 0, 2, Tier.SLOW) > table.cost(6, 2, 2) > table.cost(0, 2, 2) == 0


def test_a_table_with_counted_slow_slots_is_asked_for_a_number_and_schedules_with_all_of_them():
    table = build_tiers(6, 2, 2, SAMPLE)
    for call in (table.cost, table.decision):
        with pytest.raises(ValueError, match="slow must be a number"):
            call(6, 2, None)
    assert list(table.schedule(6, 2)) == list(table.schedule(6, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0, 1, 1), ValueError), ((3, 0, 0), ValueError), ((3, -1, 1), ValueError), ((3, 1, -1), ValueError),
     ((3.0, 1, 1), TypeError)],
)  # fmt: skip
def test_a_table_of_no_use_is_refused(arguments, error):
    with pytest.raises(error):
        build_tiers(*arguments, SAMPLE)


@pytest.mark.parametrize(
    ("prices", "error"), [((0, 1, 1), ValueError), ((1, -1, 0), ValueError), ((1, 0.5, 0), TypeError)]
)
def test_prices_are_integers_and_a_forward_is_not_free(prices, error):
    with pytest.raises(error):
        Prices(*prices)


def test_the_search_refuses_what_has_no_schedule():
    for query in ((3, 0, 2), (-1, 1, 1), (3, 1, -1)):
        with pytest.raises(ValueError, match=r"room|negative"):
            least_cost(*query)


GOOD: list[TieredAction] = [
    Advance(0, 1), StoreSlow(1), StoreHidden(1), Record(1), Backpropagate(1), DropSlow(1), RestoreSlow(0),
    StoreHidden(0), DropSlow(0), Record(0), Backpropagate(0), DropHidden(0), DropHidden(1),
]  # fmt: skip


def test_a_legal_two_tier_stream_is_metered():
    report = meter_tiers(GOOD, steps=2, start_slow=True)
    assert (report.forwards, report.writes, report.reads, report.peak, report.slow_peak) == (3, 1, 1, 2, 2)
    assert report.actions == len(GOOD)
    assert report.cost(Prices(10, 5, 2)) == 37


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([StoreSlow(1)], "not at position 1"),
        ([StoreSlow(0), StoreSlow(0)], "already"),
        ([Record(0), StoreSlow(1)], "core is busy"),
        ([Record(0), RestoreSlow(0)], "core is busy"),
        ([RestoreSlow(0)], "does not hold"),
        ([DropSlow(0)], "does not hold"),
        ([StoreSlow(0), Record(0), Backpropagate(0), DropHidden(0)], r"slow tier \[0\]"),
    ],
)
def test_an_illegal_two_tier_stream_is_refused_with_its_state(actions, message):
    with pytest.raises(IllegalActionError, match=message):
        meter_tiers(actions, steps=1)


def test_a_stream_with_an_action_left_out_is_refused_or_costs_more():
    table = build_tiers(9, 2, 2, SAMPLE)
    stream = list(table.schedule(9, 2, 2))
    assert any(isinstance(action, StoreSlow) for action in stream)
    for i in range(len(stream)):
        with pytest.raises(IllegalActionError):
            meter_tiers(stream[:i] + stream[i + 1 :], steps=9)
