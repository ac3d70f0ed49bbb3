"""The options for a budget of bytes, on paper: each fits, costs what its table says, weighs what it stores."""

import contextlib
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_theory.actions import DropHidden, Sizes, StoreInternal
from membptt_theory.footprint import Measured, most_copies, peak_bytes
from membptt_theory.formula import Formula
from membptt_theory.limits import Limit
from membptt_theory.machine import meter, meter_tiers
from membptt_theory.options import _in_tiers, options, parse_bytes
from membptt_theory.policies import POLICIES, find
from membptt_theory.tables import build

from .strategies import grid, policies, queries


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 300), st.integers(0, 3000), st.integers(1, 20), st.integers(0, 200),
    st.none() | st.integers(0, 40), st.sampled_from([0.0, 0.3, 5.0]), st.integers(0, 50),
)  # fmt: skip
def test_every_option_of_two_tiers_fits_its_budget_hypothesis(steps, budget, hidden, internal, bound, seconds, transit):
    measured = [
        Measured(k, hidden, hidden, k * internal + 1, 1, 5, k * 1.0, k * 3.0, hidden, transit, seconds, seconds)
        for k in (1, 2, 4)
    ]
    alone = options(measured, steps, budget, ["hsm"])
    fitting = options(measured, steps, budget, ["hsm"], tiers=True, slow=bound)
    assert [option for option in fitting if not option.tiers] == alone
    for option in fitting:
        if option.tiers is None:
            continue
        tiers, stream = option.tiers, list(option.schedule())
        paper = meter_tiers(stream, steps=option.cores)
        assert (tiers.peak, tiers.writes, tiers.reads) == (paper.slow_peak, paper.writes, paper.reads)
        assert option.schedule().cost == paper.cost(tiers.prices)
        assert paper.peak <= option.slots
        assert bound is None or paper.slow_peak <= bound
        assert tiers.bytes == most_copies(stream) * hidden
        assert peak_bytes(stream, option.cores, option.measured) + transit == option.bytes <= budget
    assert fitting == sorted(fitting, key=lambda option: (option.seconds, option.bytes))


def test_tables_of_two_tiers_stay_small_however_long_the_sequence(monkeypatch):
    built = []
    monkeypatch.setattr("membptt_theory.options._two_tiers", lambda sizes, t, f, s: built.append((t, f, s)))
    monkeypatch.setattr("membptt_theory.options.PLANNED", Limit(2**22, 10**6, "for a test"))
    for steps, bound in itertools.product((1, 10, 10**3, 10**5, 10**7), (None, 1, 50, 10**6)):
        with contextlib.suppress(AttributeError):
            _in_tiers(Measured(1, 8, 8, 40, 40, 0, 1.0, 3.0, 8, 0, 0.1, 0.1), steps, 10**9, bound)
    assert all(t * t * f * (1 if s is None else s) <= 10**6 for t, f, s in built)
    assert {t for t, _, _ in built} == {1, 10, 10**3}


SIZES = Measured(chunk=1, start=1, hidden=1, internal=3, tail=3, shared=0, advance=1.0, backprop=3.0)


def test_bytes_on_paper_equal_the_machines_slots_where_storages_are_counted_alike():
    """With a hidden state of one byte, slots and bytes differ by the working core and by shared storages only."""
    for policy, sizes in (("hsm", {}), ("msm", {"internal": 5}), ("msm_plus", {"internal": 5})):
        for t, m in grid(12, 12):
            table = build(policy, t, m, **sizes)
            peak = meter(table.schedule(t, m), steps=t, sizes=table.sizes).peak
            weight = peak_bytes(table.schedule(t, m), t, SIZES)
            assert weight <= peak + 5
            assert policy != "hsm" or weight >= peak + 4


@given(policies(), st.integers(1, 60), st.integers(1, 40), st.integers(0, 9), st.integers(1, 9))
def test_bytes_on_paper_are_at_most_those_of_the_machine_hypothesis(which, steps, slots, internal, hidden):
    policy, extra = which
    table = build(policy, steps, slots, **extra)
    sizes = replace(SIZES, internal=internal, tail=internal, hidden=hidden, start=hidden)
    full = internal + 2 * hidden
    weights = Sizes(hidden=hidden, internal=full)
    weight = peak_bytes(table.schedule(steps, slots), steps, sizes)
    machine = meter(_with_start(table.schedule(steps, slots), policy), steps=steps, sizes=weights).peak
    assert weight <= machine + full


def _with_start(stream, policy):
    """ISM leaves the starting state outside its budget and never drops it."""
    yield from stream
    if policy == "ism":
        yield DropHidden(0)


@settings(max_examples=30)
@given(st.integers(1, 200), st.integers(0, 3000), st.integers(1, 20), st.integers(0, 200))
def test_every_option_fits_its_budget_hypothesis(steps, budget, hidden, internal):
    measured = [Measured(k, hidden, hidden, k * internal + 1, 1, 5, k * 1.0, k * 3.0) for k in (1, 2, 4)]
    fitting = options(measured, steps, budget)
    for option in fitting:
        stream = option.schedule()
        assert peak_bytes(stream, option.cores, option.measured) <= option.bytes
        assert option.bytes <= budget
        assert option.forwards == option.schedule().cost
    assert fitting == sorted(fitting, key=lambda option: (option.seconds, option.bytes))


@settings(max_examples=30)
@given(policies(), st.integers(1, 200), st.integers(0, 3000), st.integers(1, 20), st.integers(0, 200))
def test_what_is_stored_with_its_graph_is_priced_by_itself_hypothesis(which, steps, budget, hidden, internal):
    measured = [
        Measured(k, hidden, hidden, k * internal + 1, 1, 5, k * 1.0, k * 3.0, call=0.5, apart=k * 7.0) for k in (1, 2)
    ]
    for option in options(measured, steps, budget, [which[0]]):
        sizes, cores = option.measured, option.cores
        advanced = 0.5 + (option.forwards - cores) * sizes.advance
        apart = 1 + sum(isinstance(action, StoreInternal) for action in option.schedule())
        # One that is not the fastest may be priced by the formula of its table, which stores another graph or two.
        near = range(apart - 2, apart + 3) if find(option.policy).solved else [apart]
        seconds = [advanced + (cores - n) * sizes.backprop + n * sizes.stored for n in near]
        assert any(option.seconds == pytest.approx(each) for each in seconds)


@given(queries(most_steps=90, most_slots=40))
def test_graphs_that_are_stored_are_counted_without_the_stream_hypothesis(query):
    table, steps, slots = query
    sources = [table, Formula(table.policy, table.sizes.internal or 1)] if find(table.policy).formula else [table]
    for source in sources:
        stored = sum(isinstance(action, StoreInternal) for action in source.schedule(steps, slots))
        assert source.graphs(steps, slots) == stored


def test_more_bytes_never_cost_forwards():
    measured = [Measured(1, 8, 8, 40, 40, 0, 1.0, 3.0)]
    for policy in POLICIES:
        best = [options(measured, 100, budget, [policy])[0].forwards for budget in range(100, 4100, 800)]
        assert best == sorted(best, reverse=True)
        assert best[-1] < best[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 * 2**20),
        ("64 MB", 64 * 10**6),
        ("1.5gib", 3 * 2**29),
        ("7", 7),
        ("8K", 8192),
        (" 3 KB ", 3000),
        (99, 99),
    ],
)
def test_sizes_in_words(text, size):
    assert parse_bytes(text) == size


def test_a_size_in_text_is_exact_however_long():
    assert parse_bytes("9" * 400) == int("9" * 400)
    assert parse_bytes("9007199254740993") == 9007199254740993
    assert parse_bytes("1.5 KiB") == 1536
