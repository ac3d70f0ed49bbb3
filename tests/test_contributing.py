"""CONTRIBUTING adds a policy from end to end: its listings run as printed, and the policy is then like any other."""

import re
from pathlib import Path

import pytest

from membptt_proofs.checks import CHECKS, Effort, run
from membptt_theory import lock, policy, tables
from membptt_theory.claims import CLAIMS, parse
from membptt_theory.footprint import Measured
from membptt_theory.machine import meter
from membptt_theory.options import options
from membptt_theory.recurrences import Cut, Decision, Recurrence
from membptt_theory.schedule import schedule
from membptt_theory.tables import build, optimal_cost

from .strategies import POLICIES, grid

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def added(monkeypatch):
    """The names that the listings define, with the new policy known to the theory."""
    monkeypatch.setattr("membptt_proofs.checks.registry.CHECKS", checks := dict(CHECKS))
    monkeypatch.setattr("membptt_proofs.checks.CHECKS", checks)
    names = {}
    for listing in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(listing, names)
    know(monkeypatch, names["hsm_apart"]())
    yield names
    tables._build.cache_clear()


def know(monkeypatch, rule):
    """Let `recurrence` state one more policy."""
    known = policy.recurrence

    def recurrence(name, **sizes):
        return rule if name == rule.policy else known(name, **sizes)

    for module in (policy, tables):
        monkeypatch.setattr(module, "recurrence", recurrence)
    tables._build.cache_clear()


def test_the_five_places_are_five():
    assert re.findall(r"^\*\*(\d)\. ", TEXT, flags=re.MULTILINE) == list("12345")


def test_the_claim_of_the_example_is_well_formed_and_new():
    (row,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    (claim,) = parse(row)
    assert claim.id not in {each.id for each in CLAIMS}
    assert claim.group in {each.group for each in CLAIMS}


def test_the_lock_and_the_strategies_take_its_rows(added):
    assert len(lock.digest(lock.Entry(*added["locked"], steps=30, slots=8))) == 64
    assert [type(field) for field in added["tested"]] == [type(field) for field in POLICIES[0]]


def test_the_check_of_the_example_holds(added):
    verdict = run("hsm-apart", Effort.QUICK)
    assert verdict.holds, verdict.evidence
    assert run("hsm-apart", Effort.FULL).evidence == "t <= 200, m <= 20"


def test_the_check_of_the_example_has_been_seen_to_fail(added, monkeypatch):
    """Three steps to the right of every state, where two are meant."""
    hidden = Cut(Decision.HIDDEN, first=1, last=3, room=1, taken=0)
    last = Cut(Decision.LAST, first=0, last=None, room=0, taken=1)
    right = added["hsm_apart"]()
    know(monkeypatch, Recurrence(right.policy, right.sizes, ((hidden, last),), right.equations, convex=False))
    assert not run("hsm-apart", Effort.QUICK).holds


def test_metered_cost_of_the_example_equals_its_table_exhaustive(added):
    table = build("hsm_apart", 30, 7)
    for t, m in grid(30, 7):
        report = meter(schedule(table, t, m), steps=t, sizes=table.sizes)
        assert report.forwards == table.cost(t, m)
        assert report.peak <= m


def test_the_example_is_planned_in_as_many_slots_as_hsm(added):
    sizes = Measured(chunk=1, start=2, hidden=2, internal=6, tail=6, shared=0, advance=1.0, backprop=3.0)
    (ours,), (hsm,) = (options([sizes], 50, 100, (policy,)) for policy in ("hsm_apart", "hsm"))
    assert ours.policy == "hsm_apart"
    assert (ours.slots, ours.forwards, ours.bytes) == (hsm.slots, hsm.forwards, hsm.bytes)


def test_the_runtime_plans_and_executes_the_example(added, monkeypatch):
    torch = pytest.importorskip("torch")
    plan = pytest.importorskip("membptt.plan")
    monkeypatch.setattr(plan, "POLICIES", (*plan.POLICIES, "hsm_apart"))
    step, xs = (lambda h, x: (torch.tanh(h + x), h.sum())), torch.ones(50, 2)
    found = plan.plan(step, torch.zeros(2), xs, budget="1KiB")
    assert {option.policy for option in found.options} >= {"hsm", "hsm_apart"}


def test_the_runtime_executes_the_example(added):
    torch = pytest.importorskip("torch")
    membptt = pytest.importorskip("membptt")
    w, calls = torch.full((2,), 0.7, dtype=torch.float64, requires_grad=True), []

    def step(h, x):
        calls.append(x)
        return torch.tanh(w * h + x), h.sum()

    xs, h0 = torch.ones(20, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    h, ys = membptt.scan(step, h0, xs, policy=build("hsm_apart", 20, 4), slots=4, params=[w])
    (h.sum() + ys.sum()).backward()
    assert len(calls) == optimal_cost("hsm", 20, 4)
    found, w.grad = w.grad, None
    h, total = h0, 0.0
    for x in xs:
        h, y = step(h, x)
        total = total + y
    (h.sum() + total).backward()
    assert torch.allclose(found, w.grad, rtol=1e-10, atol=0)
