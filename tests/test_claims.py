"""The ledger and its checks: one each way, every verdict holds, and every checker has been seen to fail."""

import dataclasses
import json
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from membptt_proofs import dp, formal_coq, formal_theorems, ledger
from membptt_proofs.__main__ import main
from membptt_proofs.checks import (
    CHECKS,
    CheckFailedError,
    Effort,
    chen,
    figures,
    front,
    front_skips,
    literature,
    online,
    optimality,
    paper,
    registry,
    run,
    separate,
    tables,
    theorems,
    tiers,
)
from membptt_proofs.checks.derivations import DERIVATIONS, verify
from membptt_proofs.checks.registry import Covered, Evidence, phrases, unsupported
from membptt_theory import front as theory_front
from membptt_theory import lock
from membptt_theory.actions import DropHidden
from membptt_theory.claims import CLAIMS, Claim, Status
from membptt_theory.derive import bounds, hsm, ranges
from membptt_theory.policy import PolicyTable
from membptt_theory.tiers import TierTable

from .test_policy import consistent_costs

ROOT = Path(__file__).parents[1]
PAPER = [f"B{n}" for n in range(1, 12)]
PAPER += ["hsm-recurrence", "ism-recurrence", "msm-recurrence", "msm-shared-recurrence", "table-bellman", "algorithm-2"]


def test_every_claim_has_one_check_and_every_check_a_claim():
    unchecked = {claim.id for claim in CLAIMS if not claim.test} - set(CHECKS)
    assert all(claim.status is Status.FORMAL for claim in CLAIMS if claim.id in unchecked)  # Coq checks those
    assert set(CHECKS) <= {claim.id for claim in CLAIMS if not claim.test}


def test_a_claim_names_the_theorems_that_prove_or_support_it():
    for claim in CLAIMS:
        proved = {theorem.name for theorem in formal_theorems.proves(claim.id)}
        listed = formal_theorems.theorems()
        beside = {theorem.name for theorem in listed if claim.id in (*theorem.supports, *theorem.refutes)}
        assert set(theorems.named(claim)) == proved | beside, claim.id
        assert bool(proved) == (claim.status is Status.FORMAL), claim.id
        assert claim.status is Status.REFUTED or not any(claim.id in theorem.refutes for theorem in listed), claim.id


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.test], ids=lambda claim: claim.id)
def test_a_claim_that_needs_torch_names_a_test_that_exists(claim):
    path, name = claim.test.split("::")
    assert f"def {name}(" in (ROOT / path).read_text()


def test_every_claim_id_in_a_docstring_is_in_the_ledger():
    known = {claim.id for claim in CLAIMS}
    missing = set()
    for path in [*ROOT.glob("theory/membptt_theory/**/*.py"), *ROOT.glob("impl/membptt/**/*.py")]:
        for line in path.read_text().splitlines():
            if "Claim: " in line:
                named = line.split("Claim: ")[1].rstrip('."').split(", ")
                missing |= {(path.name, name) for name in named if name not in known}
    assert not missing


def test_every_statement_of_the_paper_has_a_row():
    assert set(PAPER) <= {claim.id for claim in CLAIMS}


def test_what_is_false_is_called_refuted():
    refuted = {claim.id for claim in CLAIMS if claim.status is Status.REFUTED}
    assert {"B3", "msm-optimal", "B11-msm", "algorithm-2", "appendix-b-boundary"} <= refuted


@pytest.mark.parametrize("claim", CHECKS)
def test_the_check_of_a_claim_holds(claim):
    verdict = run(claim, Effort.QUICK)
    assert verdict.holds, verdict.evidence
    assert verdict.evidence


def test_what_is_proved_has_symbolic_steps():
    for claim in CLAIMS:
        if claim.status is Status.SYMBOLIC and claim.id in DERIVATIONS:
            assert not verify(DERIVATIONS[claim.id], Effort.QUICK).startswith("0 symbolic")


def test_the_ledger_is_what_the_claims_say():
    assert ledger.PATH.read_text() == ledger.render()


def test_one_verdict_is_printed_a_claim(capsys):
    assert main(["--quick", "duality", "B3", "scan-forwards-equal-table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["OK", "duality"],
        ["OK", "B3"],
        ["TEST", "scan-forwards-equal-table"],
    ]
    assert lines[3] == (
        "2 of 3 claims checked here hold; 1 left to the tests named; "
        "1 refuted as stated, by counterexample; the theorems of 1 claim were not checked here"
    )


def test_the_list_names_every_claim_and_checks_nothing(capsys, monkeypatch):
    monkeypatch.setattr("membptt_proofs.__main__.run", None)
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [claim.id for claim in CLAIMS]
    assert all(claim.status in line and claim.scope in line for claim, line in zip(CLAIMS, lines, strict=True))
    assert main(["--list", "--json", "B3"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["status"]) == ("B3", "refuted")


def coq_says(monkeypatch, *, installed=True, assumptions=(), differences=(), error=None):
    """Put another Coq in the place of the real one: the theorems themselves are checked by `make formal`."""

    def build(**_):
        if error:
            raise formal_coq.CoqError(error)

    monkeypatch.setattr(formal_coq, "installed", lambda: installed)
    monkeypatch.setattr(formal_coq, "build", build)
    monkeypatch.setattr(formal_theorems, "printed", lambda chosen: {theorem.key: "" for theorem in chosen})
    monkeypatch.setattr(formal_theorems, "assumptions", lambda _: list(assumptions))
    monkeypatch.setattr(formal_theorems, "differences", lambda _: list(differences))


def verdicts(capsys, *arguments):
    status = main(["--json", *arguments])
    return status, {row["id"]: row for row in json.loads(capsys.readouterr().out)}


PROVED = ["hsm-optimal", "online-attained"]


def test_a_formal_proof_is_shown_with_the_check_beside_it(monkeypatch, capsys):
    coq_says(monkeypatch)
    assert main(PROVED) == 0
    first, second, summary = capsys.readouterr().out.splitlines()
    assert first.startswith("OK       hsm-optimal")
    assert "proved (formal)" in first
    assert "Coq: hsm_exact, as stated, without axioms; t <= 9, every m" in first
    assert second.startswith("OK       online-attained")
    assert summary.startswith("2 of 2 claims checked here hold")


def test_without_coq_a_formal_proof_is_said_not_to_be_checked_here(monkeypatch, capsys):
    coq_says(monkeypatch, installed=False)
    assert main(PROVED) == 0
    first, second, summary = capsys.readouterr().out.splitlines()
    assert "hsm_exact not checked here: coq is not installed; t <= 9, every m" in first
    assert second.startswith("NO COQ   online-attained")
    assert summary == "1 of 2 claims checked here hold; the theorems of 2 claims were not checked here"
    _, rows = verdicts(capsys, *PROVED)
    assert (rows["hsm-optimal"]["holds"], rows["hsm-optimal"]["proof"]["holds"]) == (True, None)
    assert rows["online-attained"]["holds"] is None


def test_a_quick_run_leaves_coq_alone(monkeypatch, capsys):
    coq_says(monkeypatch, error="asked")
    status, rows = verdicts(capsys, "--quick", *PROVED)
    assert status == 0
    assert all(row["proof"] == {**row["proof"], "holds": None} for row in rows.values())
    assert rows["hsm-optimal"]["proof"]["evidence"] == "hsm_exact not asked of Coq here: --quick"


@pytest.mark.parametrize(
    ("said", "failing"),
    [
        ({"assumptions": ["Theorems.hsm_exact rests on what is not proved: Axioms: ..."]}, {"hsm-optimal"}),
        ({"differences": ["Theorems.online_real is not what is committed:\n..."]}, {"online-attained"}),
        ({"differences": ["Machine.room is not what is committed:\n..."]}, set(PROVED)),
        ({"error": "hsm.v, line 3: This command has not failed!"}, set(PROVED)),
    ],
)
def test_a_theorem_that_coq_refuses_fails_its_claims(said, failing, monkeypatch, capsys):
    coq_says(monkeypatch, **said)
    status, rows = verdicts(capsys, *PROVED)
    assert status == 1
    assert {claim for claim, row in rows.items() if row["holds"] is False} == failing
    assert all(row["proof"]["evidence"] for row in rows.values())


def test_a_claim_that_names_no_theorem_of_the_list_is_refused():
    claim = dataclasses.replace(CLAIMS[0], theorem="hsm_exact, hsm_best")
    with pytest.raises(formal_theorems.StatementError, match=r"no such theorems in theorems\.toml: hsm_best"):
        theorems.ask([claim], quick=True)


def test_an_unknown_claim_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "unknown claims: nothing" in capsys.readouterr().err


def test_a_failed_check_is_the_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(optimality, "optimal_cost", lambda *_: 0)
    assert main(["--quick", "hsm-optimal"]) == 1
    assert "FAILED" in capsys.readouterr().out


def a_wrong_digest(monkeypatch):
    locked = dict(lock.read())
    locked[next(iter(locked))] = "0" * 64
    monkeypatch.setattr(lock, "read", lambda: locked)


def a_naive_cost_off_by_one(monkeypatch):
    right = dp.hsm

    def wrong(steps, slots):
        costs = right(steps, slots)
        costs[-1][-1] += 1
        return costs

    monkeypatch.setitem(dp.REFEREES, "hsm", wrong)


def a_worse_but_consistent_split(monkeypatch):
    right = tables.build

    def wrong(policy, steps, slots, **sizes):
        table = right(policy, steps, slots, **sizes)
        if policy != "hsm":
            return table
        fake = object.__new__(PolicyTable)
        for field in dataclasses.fields(PolicyTable):
            object.__setattr__(fake, field.name, getattr(table, field.name))
        for name, array in consistent_costs(table, (0, 3, 9, 1, 8)).items():
            object.__setattr__(fake, name, array)
        assert not np.array_equal(fake.costs, table.costs)
        return fake

    monkeypatch.setattr(tables, "build", wrong)


def a_dropped_action(monkeypatch):
    right = PolicyTable.schedule
    monkeypatch.setattr(PolicyTable, "schedule", lambda *query: list(right(*query))[1:])


def a_slot_never_freed(monkeypatch):
    right = PolicyTable.schedule

    def wrong(*query):
        return (action for action in right(*query) if not isinstance(action, DropHidden))

    monkeypatch.setattr(PolicyTable, "schedule", wrong)


def a_schedule_of_another_length_of_slots(monkeypatch):
    right = PolicyTable.schedule
    monkeypatch.setattr(PolicyTable, "schedule", lambda table, t, m: right(table, t, max(1, m - 1)))


def a_cost_one_too_dear(monkeypatch):
    right = optimality.optimal_cost
    monkeypatch.setattr(optimality, "optimal_cost", lambda policy, t, m: right(policy, t, m) + (t == 5))


def the_papers_msm_instead_of_ours(monkeypatch):
    right = optimality.build
    monkeypatch.setattr(optimality, "build", lambda policy, *rest, **sizes: right("msm", *rest, **sizes))


def a_search_that_finds_nothing_better(monkeypatch):
    right = optimality.least_forwards
    monkeypatch.setattr(optimality, "least_forwards", lambda t, m, sizes: right(t, m, sizes) + 1)


def a_chain_without_its_needs(monkeypatch):
    right = optimality.solve_chain

    def wrong(chain, slots):
        return right(dataclasses.replace(chain, needs=(0,) * len(chain)), slots)

    monkeypatch.setattr(optimality, "solve_chain", wrong)


def one_more(module, name, *, where=lambda *_: True):
    """A mutant: what `name` of `module` returns is one too much."""

    def mutate(monkeypatch):
        right = getattr(module, name)

        def wrong(*arguments, **keywords):
            value = right(*arguments, **keywords)
            if not where(*arguments):
                return value
            if isinstance(value, tuple):
                return (
                    type(value)(value[0] + 1, *value[1:]) if hasattr(value, "_fields") else (value[0] + 1, *value[1:])
                )
            return [*value[:-1], value[-1] + 1] if isinstance(value, list) else value + 1

        monkeypatch.setattr(module, name, wrong)

    return mutate


def a_search_that_takes_no_forwards(monkeypatch):
    monkeypatch.setattr(optimality, "least_costs", lambda steps, *_, **__: [0] * (steps + 1))


def storage_that_is_never_shared(monkeypatch):
    right = optimality.build
    wrong = lambda *query, internal, internal_known=None: right(*query, internal=internal)  # noqa: E731
    monkeypatch.setattr(optimality, "build", wrong)


def an_algorithm_that_runs(monkeypatch):
    monkeypatch.setattr(paper, "_printed", lambda *_: None)


def another_figure_in_the_ledger(monkeypatch):
    wrong = [dataclasses.replace(claim, scope="t = 5, m = 7") for claim in CLAIMS]
    monkeypatch.setattr(figures, "CLAIMS", wrong)


def a_tier_stream_that_never_frees(monkeypatch):
    right = TierTable.schedule
    monkeypatch.setattr(TierTable, "schedule", lambda *query: list(right(*query))[:-1])


def a_release_that_saves_no_slot(monkeypatch):
    right = separate.dp.msm_plus
    monkeypatch.setattr(separate.dp, "msm_plus", lambda steps, slots, alpha: right(steps, slots, alpha + 1))


def one_less_limit(monkeypatch):
    right = separate.msm_plus.limit
    monkeypatch.setattr(separate.msm_plus, "limit", lambda *sizes: right(*sizes) - 1)


def a_rotor_that_keeps_nothing(monkeypatch):
    right = literature.dp.rotor
    monkeypatch.setattr(literature.dp, "rotor", lambda steps, slots, beta: right(steps, slots, beta + 1))


def a_cost_that_grows_faster_at_last(monkeypatch):
    right = literature._start
    monkeypatch.setattr(literature, "_start", lambda costs, period: right([*costs[:-1], costs[-1] + 1], period))


def a_free_search(monkeypatch):
    monkeypatch.setattr(tiers, "least_costs", lambda steps, *_, **__: [(0, 0)] * (steps + 1))


def a_search_that_costs_one_more(monkeypatch):
    right = tiers.least_costs

    def wrong(*sizes, **prices):
        return [tuple(cost and cost + 1 for cost in pair) for pair in right(*sizes, **prices)]

    monkeypatch.setattr(tiers, "least_costs", wrong)


def tier_prices_swapped(monkeypatch):
    right = tiers.build_tiers

    def wrong(steps, fast, slow, prices):
        return right(steps, fast, slow, tiers.Prices(prices.forward, prices.read, prices.write))

    monkeypatch.setattr(tiers, "build_tiers", wrong)


def a_tier_table_of_other_prices(monkeypatch):
    right = tiers.TierTable

    def wrong(prices, *rest):
        return right(tiers.Prices(prices.forward + 1, prices.write, prices.read), *rest)

    monkeypatch.setattr(tiers, "TierTable", wrong)


def fronts_of(mutate):
    """A mutant: the fronts of a recurrence with other terms."""

    def patch(monkeypatch):
        right = front.solve_front

        def wrong(chain):
            terms = chain if isinstance(chain, front.Recurrence) else front.everything_alive(chain)
            return right(mutate(terms))

        monkeypatch.setattr(front, "solve_front", wrong)

    return patch


def no_gradient_waits(terms):
    return dataclasses.replace(terms, gradient=(0,) * len(terms))


def what_is_handed_on_is_free(terms):
    return dataclasses.replace(terms, carried=(0,) * len(terms))


def no_internal_state_fits(terms):
    return dataclasses.replace(terms, internal=(front.TOO_LARGE,) * len(terms))


def a_front_that_stores_every_output(monkeypatch):
    right = front.solve_front
    monkeypatch.setattr(front, "solve_front", lambda chain: dataclasses.replace(right(chain), choose=lambda *part: 1))


def the_working_state_of_appendix_c_is_charged(monkeypatch):
    right = front.appendix_c
    monkeypatch.setattr(front, "appendix_c", lambda chain: dataclasses.replace(right(chain), carried=chain.sizes))


def a_larger_internal_state(monkeypatch):
    right = front.shared_slots
    monkeypatch.setattr(front, "shared_slots", lambda steps, known: right(steps, known + 1))


def equal_blocks_with_less_to_keep(monkeypatch):
    right = theory_front.EqualBlocks
    monkeypatch.setattr(
        theory_front, "EqualBlocks", lambda count, output, internal, last: right(count, output, internal + 1, last)
    )


def a_front_of_few_points_taken_for_the_exact_one(monkeypatch):
    right = front.near_front
    monkeypatch.setattr(front, "near_front", lambda *given: dataclasses.replace(right(*given), below=None))


def a_search_of_persistent_schedules(monkeypatch):
    right = front.searched_front
    monkeypatch.setattr(front, "searched_front", lambda blocks, *, persistent: right(blocks, persistent=True))


def skipping_fronts_of(mutate):
    """A mutant: the fronts of chains with skips, of a recurrence with others."""

    def patch(monkeypatch):
        right = front_skips.everything_alive

        def wrong(blocks, skips):
            terms = right(blocks, skips)
            return dataclasses.replace(terms, skips=tuple(map(mutate, terms.skips)))

        monkeypatch.setattr(front_skips, "everything_alive", wrong)

    return patch


def a_skip_that_is_always_held(skip):
    return dataclasses.replace(skip, first=1)


def a_skip_of_no_bytes(skip):
    return dataclasses.replace(skip, bytes=0)


def a_front_with_skips_that_stores_every_output(monkeypatch):
    right = front_skips.solve_front
    wrong = partial(dataclasses.replace, choose=lambda *part: 1)
    monkeypatch.setattr(front_skips, "solve_front", lambda terms: wrong(right(terms)))


def a_search_of_nested_schedules(monkeypatch):
    right = front_skips.searched_front
    monkeypatch.setattr(
        front_skips, "searched_front", lambda *chain, persistent, nested: right(*chain, persistent=True, nested=True)
    )


def online_stores_of(name, other):
    """A mutant: policy `name` stores what `other` stores."""

    def mutate(monkeypatch):
        wrong = dataclasses.replace(online.POLICIES[name], stores=online.POLICIES[other].stores)
        monkeypatch.setattr(online, "POLICIES", {**online.POLICIES, name: wrong})

    return mutate


def online_gaps_of_hsm(monkeypatch):
    wrong = dataclasses.replace(online.POLICIES["equinox"], gap_cost=online.POLICIES["budget"].gap_cost)
    monkeypatch.setattr(online, "POLICIES", {**online.POLICIES, "equinox": wrong})


def an_online_stream_that_never_frees(monkeypatch):
    right = online.schedule
    monkeypatch.setattr(online, "schedule", lambda t, m, policy: list(right(t, m, policy=policy))[:-1])


def an_online_stream_in_fewer_slots(monkeypatch):
    right = online.schedule
    monkeypatch.setattr(online, "schedule", lambda t, m, policy: right(t, max(1, m - 1), policy=policy))


def an_internal_stream_in_more_slots(monkeypatch):
    right = online.schedule
    monkeypatch.setattr(online, "schedule", lambda t, m, internal: right(t, m + 1, internal=internal))


def a_rule_that_looks_further_ahead(monkeypatch):
    monkeypatch.setattr(online.internal, "AHEAD", 3)


def a_graph_that_takes_a_slot_more(monkeypatch):
    right = online.internal.costs
    monkeypatch.setattr(online.internal, "costs", lambda m, alpha: right(m, alpha + 1))


def no_graph_is_kept(monkeypatch):
    monkeypatch.setattr(online.internal, "costs", lambda m, alpha: online.POLICIES["greedy"].costs(m))


def a_search_with_the_other_delay(monkeypatch):
    right = online.least_worst_ratio
    wrong = lambda m, t, *, delay, most: right(m, t, delay=not delay, most=Fraction(2))  # noqa: E731
    monkeypatch.setattr(online, "least_worst_ratio", wrong)


def a_budget_that_is_greedy(monkeypatch):
    monkeypatch.setattr(online, "budget", online.POLICIES["greedy"].stores)


def a_bound_of_nothing(monkeypatch):
    monkeypatch.setattr(online, "bound_after", lambda *_: Fraction(1))


MUTANTS = [
    ("front-recurrence", fronts_of(no_gradient_waits)),
    ("front-optimal", fronts_of(what_is_handed_on_is_free)),
    ("front-metered", a_front_that_stores_every_output),
    ("front-appendix-c", the_working_state_of_appendix_c_is_charged),
    ("front-beaumont", lambda monkeypatch: monkeypatch.setattr(front, "Beaumont", front.Recurrence)),
    ("front-homogeneous", a_larger_internal_state),
    ("front-equal-blocks", equal_blocks_with_less_to_keep),
    ("front-beyond-persistent", a_search_of_persistent_schedules),
    ("front-near", a_front_of_few_points_taken_for_the_exact_one),
    ("front-gap", fronts_of(no_internal_state_fits)),
    ("front-skips-recurrence", skipping_fronts_of(a_skip_of_no_bytes)),
    ("front-skips-optimal", skipping_fronts_of(a_skip_that_is_always_held)),
    ("front-skips-optimal", skipping_fronts_of(a_skip_of_no_bytes)),
    ("front-skips-metered", skipping_fronts_of(a_skip_of_no_bytes)),
    ("front-skips-metered", a_front_with_skips_that_stores_every_output),
    ("front-skips-beyond-nested", a_search_of_nested_schedules),
    ("online-metered", an_online_stream_that_never_frees),
    ("online-metered", an_online_stream_in_fewer_slots),
    ("online-rules", online_stores_of("budget", "greedy")),
    ("online-rules", online_stores_of("greedy", "budget")),
    ("online-rules", online_stores_of("wang_moin_iaccarino", "equinox")),
    ("online-internal-metered", an_internal_stream_in_more_slots),
    ("online-internal-rule", a_rule_that_looks_further_ahead),
    ("online-internal-fits", a_graph_that_takes_a_slot_more),
    ("online-internal-range", no_graph_is_kept),
    ("online-equinox", online_gaps_of_hsm),
    ("online-equinox", online_stores_of("equinox", "wang_moin_iaccarino")),
    ("online-below-equinox", online_stores_of("for_every_t", "wang_moin_iaccarino")),
    ("online-delay-wastes-nothing", online_stores_of("for_every_t", "greedy")),
    ("online-without-delay", a_search_with_the_other_delay),
    ("online-two-slots", a_search_with_the_other_delay),
    ("online-more-slots", a_search_with_the_other_delay),
    ("online-range", a_budget_that_is_greedy),
    ("online-every-length", a_bound_of_nothing),
    ("chen-executed", one_more(chen, "sqrt_cost")),
    ("chen-executed", one_more(chen, "recursive_cost")),
    ("targets", one_more(tables, "optimal_cost")),
    ("hsm-overtakes-ism", one_more(tables, "optimal_cost", where=lambda policy, *_: policy == "hsm")),
    ("B10", lambda monkeypatch: monkeypatch.setattr(tables, "optimal_cost", lambda *_: 2001)),
    ("shared-optimal", storage_that_is_never_shared),
    ("shared-detached-optimal", one_more(optimality, "least_costs")),
    ("cost-ratio-invariance", one_more(optimality, "least_costs")),
    ("any-schedule-cost-two", a_search_that_takes_no_forwards),
    ("any-schedule-cost-two", one_more(optimality, "_ceilings")),
    ("msm-plus-two-branches", a_release_that_saves_no_slot),
    ("msm-plus-fixed-cost", one_more(separate.msm_plus, "limit")),
    ("msm-plus-below-two", one_more(separate.msm_plus, "longest")),
    ("msm-plus-least-slots", one_more(separate.msm_plus, "least_slots")),
    ("msm-plus-rational-cost", one_less_limit),
    ("msm-plus-solved", one_more(separate.mixed, "cost")),
    ("msm-plus-solved", one_more(separate.mixed, "reach", where=lambda slope, *_: slope == 4)),
    ("msm-plus-formula", one_more(separate.mixed, "reach", where=lambda slope, *_: slope == 3)),
    ("msm-plus-kept", one_more(separate.mixed, "_fewer")),
    ("mixed-optimal", one_more(literature, "fewest_forwards", where=lambda rules: rules.slots == 2)),
    ("mixed-between", one_more(literature, "optimal_cost")),
    ("rotor-homogeneous", a_rotor_that_keeps_nothing),
    ("tiers-periodic", a_cost_that_grows_faster_at_last),
    ("detached-cost-two", a_search_that_takes_no_forwards),
    ("one-tier-optimal", a_search_that_costs_one_more),
    ("free-slow-optimal", a_search_that_costs_one_more),
    ("tiers-never-below", a_free_search),
    ("tiers-reached", a_tier_stream_that_never_frees),
    ("chain-beyond-persistent", one_more(optimality, "cheapest_chain_schedule")),
    ("chain-homogeneous", one_more(optimality, "optimal_cost")),
    ("algorithm-2", an_algorithm_that_runs),
    ("appendix-b-boundary", one_more(paper, "least_forwards")),
    ("msm-boundary-complete", one_more(paper, "least_forwards")),
    ("B2", another_figure_in_the_ledger),
    ("B3", another_figure_in_the_ledger),
    ("B11-msm", another_figure_in_the_ledger),
    ("tiers-recurrence", tier_prices_swapped),
    ("tiers-optimal", a_search_that_costs_one_more),
    ("tiers-metered-cost-equals-table", a_tier_stream_that_never_frees),
    ("tiers-bellman", a_tier_table_of_other_prices),
    ("tables-lock", a_wrong_digest),
    ("hsm-recurrence", a_naive_cost_off_by_one),
    ("table-bellman", a_worse_but_consistent_split),
    ("metered-cost-equals-table", a_dropped_action),
    ("metered-cost-equals-table", a_slot_never_freed),
    ("metered-cost-equals-table", a_schedule_of_another_length_of_slots),
    ("hsm-optimal", a_cost_one_too_dear),
    ("ism-optimal", a_cost_one_too_dear),
    ("msm-plus-optimal", the_papers_msm_instead_of_ours),
    ("msm-optimal", a_search_that_finds_nothing_better),
    ("ism-as-printed-optimal", a_search_that_finds_nothing_better),
    ("chain-optimal", a_chain_without_its_needs),
]


@pytest.mark.parametrize(("claim", "mutate"), MUTANTS)
def test_a_mutant_is_caught_by_the_named_check(claim, mutate, monkeypatch):
    mutate(monkeypatch)
    assert not run(claim, Effort.QUICK).holds


def test_every_check_that_is_no_derivation_has_been_seen_to_fail():
    """The recurrences of ISM and MSM share HSM's check."""
    shared = {"ism-recurrence", "msm-recurrence", "msm-shared-recurrence"}
    assert set(CHECKS) - set(DERIVATIONS) - shared == {claim for claim, _ in MUTANTS}


@pytest.mark.parametrize(
    "wrong",
    [partial(bounds.b1, constant=-1), partial(hsm.closed_form, lead=2), partial(ranges.b3_refuted, constant=4)],
)
def test_a_derivation_with_a_wrong_constant_is_caught(wrong):
    with pytest.raises(CheckFailedError):
        verify((wrong,), Effort.QUICK)


@pytest.mark.parametrize("field", ["id", "place", "statement", "scope", "group"])
def test_a_claim_without_a_field_is_refused(field):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(CLAIMS[0], **{field: ""})


@pytest.mark.parametrize(("status", "proof"), [(Status.SYMBOLIC, "derivation"), (Status.FORMAL, "theorem")])
def test_a_proved_claim_without_its_proof_is_refused(status, proof):
    row = {"id": "x", "group": "g", "place": "ours", "statement": "s", "status": status, "scope": "all"}
    with pytest.raises(ValueError, match=f"must name its {proof}"):
        Claim(**row)
    assert Claim(**row, **{proof: "name"}).status is status


def test_a_range_says_what_a_loop_went_through():
    covered = Covered()
    for t in covered.over("t", range(1, 10)):
        for _ in covered.every("m", range(t)):
            covered.note(s=3, beta=t + 1)
        for _ in covered.counted("prices", "abc"):
            continue
    assert str(covered) == "3 prices, t <= 9, s = 3, beta 2..10, every m"
    covered = Covered()
    for alpha in covered.over("alpha", (2, 3, 5)):
        for _ in covered.every("m", range(5)):
            if alpha == 3:
                break  # so not every m
    assert str(covered) == "alpha = 2/3/5"


def test_a_loop_that_stops_early_covers_no_more_than_it_finished():
    covered = Covered()
    for t in covered.over("t", range(1, 10)):
        if t == 5:
            break
    assert str(covered) == "t <= 4"


def test_the_ranges_of_a_scope_are_found_and_compared():
    scope = "all t, m; 15 tables, t <= 9, alpha 2..5, every m, at most 2 t m evaluations; tests sample to t = 5000"
    assert phrases(scope) == ("15 tables", "t <= 9", "alpha 2..5", "every m")
    assert unsupported(scope, "15 tables, t <= 9, every m, alpha 2..5: 12 cases") == ()
    assert unsupported(scope, "15 tables, t <= 8, alpha 2..5, every m") == ("t <= 9",)
    assert unsupported(scope, Evidence("t <= 9", "3 tables")) == ("15 tables", "t <= 9", "alpha 2..5", "every m")
    assert unsupported("all t, m", "") == ()


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.id in DERIVATIONS], ids=lambda claim: claim.id)
def test_a_derivation_goes_through_the_ranges_that_its_scope_states(claim):
    assert not unsupported(claim.scope, verify(DERIVATIONS[claim.id], Effort.QUICK))


# The claims whose check of the whole range takes a second or two; `make prove` compares all of them.
BRIEF = ["tables-lock", "targets", "hsm-optimal", "ism-optimal", "chain-homogeneous", "tiers-recurrence"]


@pytest.mark.parametrize("claim", BRIEF)
def test_a_check_goes_through_the_ranges_that_its_scope_states(claim):
    verdict = run(claim, Effort.FULL)
    assert verdict.holds, verdict.evidence


@pytest.mark.slow
@pytest.mark.parametrize("claim", sorted(set(CHECKS) - set(BRIEF)))
def test_every_check_goes_through_the_ranges_that_its_scope_states(claim):
    verdict = run(claim, Effort.FULL)
    assert verdict.holds, verdict.evidence


@pytest.mark.parametrize("scope", ["t <= 10, every m", "t <= 9, alpha 2..5, every m", "3 tables, t <= 9"])
def test_a_scope_that_lies_about_its_range_is_caught(scope, monkeypatch):
    rows = [dataclasses.replace(claim, scope=scope) if claim.id == "hsm-optimal" else claim for claim in CLAIMS]
    monkeypatch.setattr(registry, "CLAIMS", rows)
    verdict = run("hsm-optimal", Effort.FULL)
    assert not verdict.holds
    assert "which the check did not go through: t <= 9, every m" in verdict.evidence


@pytest.mark.parametrize("claim", ["tables-lock", "hsm-optimal", "ism-optimal", "tiers-recurrence"])
def test_a_check_that_goes_through_less_than_its_scope_says_is_caught(claim, monkeypatch):
    monkeypatch.setattr(Effort, "pick", lambda _, quick, full: quick)
    verdict = run(claim, Effort.FULL)
    assert not verdict.holds
    assert "which the check did not go through" in verdict.evidence
