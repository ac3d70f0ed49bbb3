"""A plan in a file: whatever it holds, it is read as it was saved or refused with one error; no table is too large."""

import json
import tracemalloc
from dataclasses import asdict, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from membptt import Plan, PlanError
from membptt_theory.footprint import Measured
from membptt_theory.options import options
from membptt_theory.policies import POLICIES

from .strategies import JSON, outcome

SIZES = Measured(1, 8, 8, 40, 40, 0, 1.0, 3.0, 8, 8, 0.5, 0.5)


def planned(steps=40, budget=600, policies=POLICIES, *, tiers=False, slow=None):
    """A plan for a core with invented sizes."""
    fitting = options([SIZES], steps, budget, policies, tiers=tiers, slow=slow)
    return Plan(steps, budget, False, fitting[0].schedule().digest, tuple(fitting))


PLANS = {
    "hsm": planned(policies=["hsm"]),
    "msm": planned(policies=["msm"]),
    "all": planned(),
    "tiers": planned(policies=[], tiers=True, slow=3),
}


@pytest.fixture(params=PLANS)
def saved(request, tmp_path):
    """A plan, the bytes of its file, and a function that loads other bytes."""
    path = tmp_path / "plan.json"
    PLANS[request.param].save(path)

    def load(content):
        path.write_bytes(content)
        return outcome(lambda: Plan.load(path))

    return PLANS[request.param], path.read_bytes(), load


def test_a_plan_is_read_back_the_same_and_leaves_nothing_beside_it(saved, tmp_path):
    plan, whole, load = saved
    assert load(whole) == plan
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_plan_truncated_anywhere_is_refused_exhaustive(saved):
    _, whole, load = saved
    whole = whole.rstrip()
    assert {load(whole[:length]) for length in range(len(whole))} == {PlanError}


def test_a_plan_with_any_byte_flipped_is_refused_or_a_plan_for_the_same_table_exhaustive(saved):
    """Times and bytes are predictions, covered by no digest; what is executed is covered."""
    plan, whole, load = saved
    for position in range(0, len(whole), 1 if len(whole) < 1500 else 7):
        content = bytearray(whole)
        content[position] ^= 1
        result = load(bytes(content))
        assert result is PlanError or result.digest == plan.digest


FIELDS = ["format", "steps", "budget", "segments", "digest", "options", "more"]
OPTION = ["policy", "slots", "internal", "internal_known", "cores", "forwards", "seconds", "bytes", "unit", "measured"]
HUGE = 10**30


@given(st.sampled_from(sorted(PLANS)), st.dictionaries(st.sampled_from(FIELDS), JSON), st.dictionaries(
    st.sampled_from([*OPTION, "tiers"]), JSON | st.sampled_from([10**9, HUGE, -1, 0])))  # fmt: skip
@example("msm", {}, {"internal": HUGE})
@example("msm", {}, {"internal_known": 0})
@example("hsm", {}, {"cores": HUGE})
@example("hsm", {"steps": HUGE}, {"cores": HUGE})
@example("hsm", {"steps": 0}, {"cores": 0})
@example("hsm", {"segments": 1}, {})
@example("hsm", {}, {"seconds": float("inf")})
@example("hsm", {}, {"seconds": "soon"})
@example("tiers", {}, {"slots": HUGE})
@example("hsm", {}, {"measured": {**asdict(SIZES), "chunk": 0}})
def test_a_plan_of_arbitrary_content_is_refused_or_legal_hypothesis(tmp_path_factory, which, top, inner):
    path = tmp_path_factory.getbasetemp() / "plan.json"
    PLANS[which].save(path)
    stored = json.loads(path.read_text())
    stored["options"][0] |= inner
    path.write_text(json.dumps(stored | top))
    result = outcome(lambda: Plan.load(path))
    assert result is PlanError or result.digest == PLANS[which].digest


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("hsm", {"cores": 10**5, "slots": 10**5}),
        ("msm", {"cores": 10**4, "slots": 10}),
        ("tiers", {"cores": 5000, "slots": 500}),
    ],
)
def test_a_table_larger_than_any_that_is_planned_is_never_built(name, change, tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    plan = PLANS[name]
    replace(plan, steps=change["cores"], options=(replace(plan.chosen, **change),)).save(path)
    monkeypatch.setattr("membptt_theory.options.build", None)
    monkeypatch.setattr("membptt_theory.options.build_tiers", None)
    with pytest.raises(PlanError, match="larger than any that is planned"):
        Plan.load(path)


def test_a_file_without_end_is_refused_before_it_is_held_in_memory(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(b" " * 10**7)
    tracemalloc.start()
    try:
        with pytest.raises(PlanError, match="limit"):
            Plan.load(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    finally:
        tracemalloc.stop()
    for content in (b"[" * 10**5, b'{"format": "membptt-plan/1", "steps": 1e999}', b"\xff", b"null"):
        path.write_bytes(content)
        assert outcome(lambda: Plan.load(path)) is PlanError


@pytest.mark.parametrize(("content", "says"), [("[1]", "it holds a list"), ('{"steps": 3}', "it has no 'format'")])
def test_a_file_of_something_else_says_what_it_holds(tmp_path, content, says):
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(PlanError, match=says):
        Plan.load(path)


@given(st.integers(1, 3000), st.integers(50, 10**6), st.booleans(), st.none() | st.just(5))
def test_no_plan_of_ours_is_too_large_to_be_read_hypothesis(tmp_path_factory, steps, budget, tiers, slow):
    path = tmp_path_factory.getbasetemp() / "plan.json"
    plan = outcome(lambda: planned(min(steps, 150) if tiers else steps, budget, ("hsm", "ism"), tiers=tiers, slow=slow))
    if isinstance(plan, Plan):
        plan.save(path)
        assert Plan.load(path) == plan
