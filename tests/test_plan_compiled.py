"""Planning with `compile=True`: one function a chunk, which the scan takes over; bounded, and timed with care."""

import shutil
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

from membptt import plan, scan
from membptt.kernels.compiled import compile_chunk, loop_of
from membptt.kernels.joint import join_cores
from membptt.planning.plan_file import Plan
from membptt.planning.profile import Moment
from membptt.planning.trial import Trial
from membptt.run.core import Core
from membptt.run.problem import Problem
from membptt_theory.actions import StoreInternal

from .cells import Gru, gradients, plain, problem, relative_error, timed_step

pytestmark = pytest.mark.filterwarnings("ignore")
CPU = {torch.device("cpu")}
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture
def uncompiled(monkeypatch):
    """Run what would be compiled as it is; return for which chunks it was asked."""
    chunks = []

    def chosen(step, devices, chunk, how):
        if how is False:
            return None
        chunks.append(chunk)
        return loop_of(step)

    for user in ("membptt.planning.trial", "membptt.calls.execute"):
        monkeypatch.setattr(f"{user}.compile_chunk", chosen)
        monkeypatch.setattr(f"{user}.join_cores", lambda step, devices, chunk: None)
    return chunks


def test_every_chunk_is_compiled_as_a_function_of_its_own_and_kept(monkeypatch):
    monkeypatch.setattr("membptt.kernels.compiled._problem", lambda kind: None)
    step = problem(Gru, 1, torch.float64)[0]
    of_two = compile_chunk(step, CPU, 2)
    assert compile_chunk(step, CPU, 4) is not of_two
    assert compile_chunk(step, CPU, 2) is of_two
    assert join_cores(step, CPU, 4) is not join_cores(step, CPU, 2)
    codes = [compiled._torchdynamo_orig_callable.__code__ for compiled in (of_two, compile_chunk(step, CPU, 4))]
    assert codes[0] is not codes[1]


def test_a_plan_measures_the_very_functions_that_the_scan_then_runs(uncompiled):
    step, init, xs = problem(Gru, 12, torch.float64)
    chosen = plan(step, init, xs, budget="1MiB", compile=True)
    assert {1} <= set(uncompiled) <= {1, 2, 4, 8}
    uncompiled.clear()
    scan(step, init, xs, plan=chosen, compile=True)
    assert uncompiled == [chosen.chunk] * chosen.chosen.measured.compiled


@pytest.mark.parametrize(
    ("budget", "adding", "nodes", "sizes", "best"),
    [("1MiB", 0.0, 1, [1, 2, 8], 8), ("1MiB", 10.0, 1, [1, 4, 8], 8), (80, 0.0, 100, [4], 4)],
)
def test_sizes_are_compiled_as_they_promise_the_least_time_by_those_before(
    budget, adding, nodes, sizes, best, monkeypatch
):
    """A clock that only work moves: 30 for an eager step; for what is said to be compiled 10 a core, and 1 a step.

    The first one has as many steps as the fastest eager core, or a single one where that is large. Of one alone next to
    nothing is known: one of two steps is next, or of four if adding gradients up is known to take as long. By both,
    eight promise far less.
    """
    monkeypatch.setattr(Trial, "adding", lambda self: adding)
    monkeypatch.setattr("membptt.planning.promising._NODES", nodes)
    now, asked, eager = [0.0], [], [True]

    def step(carry, x):
        now[0] += 30 * eager[0]
        return torch.tanh(carry * w + x), x

    def chosen(step, devices, chunk, how):
        def fast(carry, parts):
            asked.append(chunk)
            now[0] += 10 + len(parts)
            eager[0] = False
            try:
                return loop_of(step)(carry, parts)
            finally:
                eager[0] = True

        return fast if how else None

    for user in ("membptt.planning.trial", "membptt.calls.execute"):
        monkeypatch.setattr(f"{user}.compile_chunk", chosen)
        monkeypatch.setattr(f"{user}.join_cores", lambda step, devices, chunk: None)
    monkeypatch.setattr("membptt.planning.profile.now", lambda: Moment(now[0], now[0], 0))
    w, init, xs = torch.ones(2, requires_grad=True), torch.zeros(2), torch.ones(12, 2)
    chosen_plan = plan(step, init, xs, budget=budget, params=[w], compile=True)
    assert list(dict.fromkeys(asked)) == sizes
    assert chosen_plan.chunk == best


def test_adding_gradients_up_is_timed_with_tensors_as_large_as_what_wants_them(monkeypatch):
    timed = []

    def seconds(call, devices):
        timed.append(call().shape)
        return None, 0.5

    step, init, xs = problem(Gru, 2, torch.float64)
    trial = Trial(Problem.of(step, init, xs, [torch.ones(7)], segments=False), None, compile=True)
    monkeypatch.setattr("membptt.planning.trial.timed", seconds)
    assert trial.adding() == 0.5 * len([*step.parameters()])
    assert timed == [weight.shape for weight in step.parameters()]


@pytest.mark.parametrize("compiled", [1, 100])
def test_the_fastest_of_eager_and_compiled_cores_are_planned_and_run(compiled, uncompiled, monkeypatch, capsys):
    """A clock that only work moves: 10 for an eager step, 1 or 100 for one of those that are said to be compiled."""
    now, ran, price = [0.0], [], [10]

    def step(carry, x):
        now[0] += price[0]
        return torch.tanh(carry * w + x), x

    def chosen(step, devices, chunk, how):
        loop = loop_of(step)

        def fast(carry, parts):
            price[0] = compiled
            ran.append(len(parts))
            try:
                return loop(carry, parts)
            finally:
                price[0] = 10

        return fast if how else None

    for user in ("membptt.planning.trial", "membptt.calls.execute"):
        monkeypatch.setattr(f"{user}.compile_chunk", chosen)
    monkeypatch.setattr("membptt.planning.profile.now", lambda: Moment(now[0], now[0], 0))
    w, init, xs = torch.ones(2, requires_grad=True), torch.zeros(2), torch.ones(12, 2)
    chosen_plan = plan(step, init, xs, budget="1MiB", params=[w], compile=True)
    assert chosen_plan.chosen.measured.compiled == (compiled < 10)
    assert {option.measured.compiled for option in chosen_plan.options} == {False, True}
    assert f"a core, {'compiled' if compiled < 10 else 'eager'}" in repr(chosen_plan)
    chosen_plan.explain()
    told = capsys.readouterr().out
    assert "kernels" in told
    assert "eager" in told
    assert "compiled" in told
    ran.clear()
    scan(step, init, xs, plan=chosen_plan, params=[w], compile=True)[0].sum().backward()
    assert bool(ran) == (compiled < 10)
    monkeypatch.setattr("membptt.calls.scan.remembered_plan", lambda *given, **wishes: chosen_plan)
    ran.clear()
    scan(step, init, xs, budget="1MiB", params=[w], compile=True)
    assert bool(ran) == (compiled < 10)


@pytest.mark.parametrize(("policy", "stored"), [("hsm", 0), ("msm_plus", 20), ("ism", 20)])
def test_cores_that_are_stored_with_their_graph_are_promised_the_time_that_they_take(policy, stored, monkeypatch):
    """A clock that only work moves: 1 for a step without graph, 2 with it, 48 backward; 10 for both at once."""
    w, now = torch.ones(2, requires_grad=True), [0.0]
    step = timed_step(w, now, ahead=1, graph=2, backward=48)

    def joined(core, state, xs, number, sweep):
        before = now[0]
        core.backpropagate(core.record(state, xs, number), sweep)
        now[0] = before + 10
        return True

    joint = SimpleNamespace(problem=None, trace=lambda given, wanted: None)
    for user in ("membptt.planning.trial", "membptt.calls.execute"):
        monkeypatch.setattr(f"{user}.compile_chunk", lambda step, *given: loop_of(step))
        monkeypatch.setattr(f"{user}.join_cores", lambda *given: joint)
    monkeypatch.setattr(Core, "join", joined)
    monkeypatch.setattr("membptt.planning.profile.now", lambda: Moment(now[0], now[0], 0))
    monkeypatch.setattr("membptt.planning.trial._GRADIENT", 10**5)  # 64 cores: the first one has a graph twice
    init, xs = torch.zeros(2), torch.ones(200, 2)
    chosen = plan(step, init, xs, budget=1000, params=[w], chunk=1, policy=policy, compile=True)
    (option,) = [option for option in chosen.options if option.measured.compiled]
    chosen = replace(chosen, options=(option,), digest=option.schedule().digest)
    assert sum(isinstance(action, StoreInternal) for action in option.schedule()) >= stored
    assert option.measured.stored > 2 * option.measured.backprop
    before = now[0]
    scan(step, init, xs, plan=chosen, params=[w], compile=True)[0].sum().backward()
    assert chosen.seconds == pytest.approx(now[0] - before, rel=0.02)


def test_a_plan_without_the_choice_leaves_compiling_to_the_scan(uncompiled):
    step, init, xs = problem(Gru, 6, torch.float64)
    chosen_plan = plan(step, init, xs, budget="1MiB", chunk=2)
    assert not uncompiled
    assert "eager" not in repr(chosen_plan)
    scan(step, init, xs, plan=chosen_plan, compile=True)
    assert uncompiled == [2]


@pytest.mark.parametrize(("seconds", "chunks"), [(1.0, {1, 2, 4, 8}), (16.0, {1, 2, 4}), (40.0, {1})])
def test_no_larger_core_is_compiled_once_a_minute_would_be_over(uncompiled, monkeypatch, seconds, chunks):
    """The clock says that each size takes as long to compile; twice as long is expected of the next."""
    clock = count(0.0, seconds)
    monkeypatch.setattr("membptt.calls.plan.perf_counter", lambda: next(clock))
    monkeypatch.setattr("membptt.calls.plan.first", lambda seconds, chunks, nodes: chunks[0])
    monkeypatch.setattr("membptt.calls.plan.promising", lambda measured, chunks, *goal: chunks[0] if chunks else None)
    step, init, xs = problem(Gru, 12, torch.float64)
    plan(step, init, xs, budget="1MiB", compile=True)
    assert set(uncompiled) == chunks


@pytest.mark.parametrize(
    ("chunk", "says"),
    [(None, "cores to measure, further ones for 60 s at most"), (3, "cores of 3 steps to measure them")],
)
def test_that_cores_are_compiled_is_said_before_the_compiler_is_loaded(chunk, says, monkeypatch, capsys, caplog):
    """In a terminal, and in a log whoever is told; with one size there is no bound."""
    step, init, xs = problem(Gru, 4, torch.float64)
    said = []

    def chosen(step, devices, chunk, how):
        said.append((capsys.readouterr().err, caplog.text))
        return loop_of(step) if how else None

    monkeypatch.setattr(Trial, "compiles", lambda self, chunk: chosen(step, None, chunk, False))
    with caplog.at_level("INFO", "membptt"):
        plan(step, init, xs, budget="1MiB", chunk=chunk, compile=True, progress=True)
    ((shown, logged),) = said
    assert f"compiling {says}" in shown
    assert f"compiling {says}\n" in logged


def test_a_function_is_told_of_the_sizes_that_are_compiled(uncompiled):
    step, init, xs = problem(Gru, 4, torch.float64)
    events = []
    plan(step, init, xs, budget="1MiB", compile=True, progress=lambda *at: events.append((*at, len(uncompiled))))
    assert events[0] == (0, 3, 0)  # nothing is compiled yet
    assert events[1][:2] == (1, 3)
    assert events[1][2]


@pytest.mark.parametrize(("compile", "held"), [(False, 2), (True, 1)])
def test_times_that_disagree_are_taken_again(compile, held, uncompiled, monkeypatch):
    """Something holds up all that is timed of eager cores of two steps: at the first look, or for three rounds."""
    step, init, xs = problem(Gru, 8, torch.float64)
    in_turns, rounds = Trial._in_turns, []

    def held_up(self, figures, *tell):
        seconds = in_turns(self, figures, *tell)
        rounds.append(seconds)
        return [time * 70 if len(rounds) == held and at % 4 == 1 else time for at, time in enumerate(seconds)]

    monkeypatch.setattr(Trial, "_in_turns", held_up)
    chosen = plan(step, init, xs, budget="1MiB", compile=compile)
    each = [option.measured.backprop / option.measured.chunk for option in chosen.options]
    assert len(rounds) > 2  # one look, three rounds, and either again
    assert max(each) < 10 * min(each)


@pytest.mark.parametrize("compile", [False, True])
def test_times_that_disagree_whenever_they_are_taken_are_named(compile, uncompiled, monkeypatch, capsys, tmp_path):
    step, init, xs = problem(Gru, 8, torch.float64)
    one_way = Trial._one_way

    def held_up(self, kind, state):
        call = one_way(self, kind, state)
        return lambda: [call() for _ in range(20 if kind == (2, False) else 1)]

    monkeypatch.setattr(Trial, "_one_way", held_up)
    monkeypatch.setattr(Trial, "_first_pass", held_up)
    monkeypatch.setattr(Trial, "_gradient", lambda *given: lambda: None)
    chosen = plan(step, init, xs, budget="1MiB", compile=compile)
    assert chosen.doubtful == "eager cores of 2 steps"
    chosen.explain()
    assert "eager cores of 2 steps took far longer than others let expect" in capsys.readouterr().out
    chosen.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == chosen


@COMPILER
def test_a_compiled_scan_within_a_budget_gives_the_gradients_of_plain_autograd():
    step, init, xs = problem(Gru, 5, torch.float64)
    expected = gradients(plain(step, init, xs), step, init, xs)
    chosen = plan(step, init, xs, budget="1MiB", chunk=2, compile=True)
    actual = gradients(scan(step, init, xs, plan=chosen, compile=True), step, init, xs)
    assert relative_error(actual, expected) <= 1e-10
    assert join_cores(step, CPU, 2).problem is None


@COMPILER
@pytest.mark.parametrize("policy", ["hsm", "ism", "msm_plus"])
@pytest.mark.parametrize("steps", [6, 7])
def test_planning_compiles_a_core_as_it_is_recorded_and_as_it_is_joined_and_the_scan_nothing_more(policy, steps):
    """The last core may be shorter: it is recorded, never joined. The first one is of the same kind as all."""
    compile_chunk(torch.sin, CPU)  # which tries whether anything can be compiled
    step, init, xs = problem(Gru, steps, torch.float64)
    graphs, init = counters["stats"], init.detach()
    before = graphs["unique_graphs"]
    chosen = plan(step, init, xs, budget="1MiB", chunk=2, policy=policy, compile=True)
    chosen = replace(chosen, options=tuple(option for option in chosen.options if option.measured.compiled))
    assert graphs["unique_graphs"] - before == 2 + steps % 2
    with torch.compiler.set_stance("fail_on_recompile"):
        scan(step, init, xs, plan=chosen, compile=True)[0].sum().backward()
    assert graphs["unique_graphs"] - before == 2 + steps % 2


@pytest.mark.parametrize(("steps", "sizes"), [(12, {2}), (13, {1, 2})])
def test_planning_backpropagates_a_last_core_that_is_shorter(steps, sizes, uncompiled, monkeypatch):
    """Its backward is compiled by itself, and no gradient of a few cores reaches it."""
    monkeypatch.setattr("membptt.planning.trial._GRADIENT", 0)
    now, seen = Core.backpropagate, set()

    def noted(core, internal, sweep):
        seen.add(internal.at.stop - internal.at.start if isinstance(internal.at, slice) else 1)
        now(core, internal, sweep)

    monkeypatch.setattr(Core, "backpropagate", noted)
    step, init, xs = problem(Gru, steps, torch.float64)
    plan(step, init, xs, budget="1MiB", chunk=2, compile=True)
    assert seen == sizes
