"""Very deep networks: `chain` gives plain autograd's gradients and the schedule's forwards, within the budget."""

from __future__ import annotations

import copy
import gc
import json
import sys
import weakref
from collections import OrderedDict
from time import sleep

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import membptt
from bench.deep import Residual, gpt, pyramid, residual_mlp, unet
from bench.meter import bytes_beside
from membptt import ChainPlan, PlanError, chain, plan_chain
from membptt.calls.chain import pose
from membptt.planning.chain_plan import alike
from membptt.planning.profile import Moment, _Measurement, now
from membptt.run import adjoint, parts
from membptt.run.core import _rounding, is_known_to_round
from membptt.step.blocks import Blocks
from membptt.step.modules import modules_below, named_below
from membptt.step.reach import reach
from membptt.step.surroundings import Surroundings, _AtCall
from membptt.torch_private import gradients as gradients_of
from membptt_theory import front_near
from membptt_theory.actions import Advance, Backpropagate, Block, DropHidden, Record, Restore, StoreHidden
from membptt_theory.front_parts import Parts
from membptt_theory.options import readable
from membptt_theory.schedule import from_actions
from membptt_theory.tables import build

MODELS = {
    "pyramid": lambda: (pyramid((2, 2, 2), width=4), torch.randn(2, 3, 16, 16)),
    "gpt": lambda: (gpt(depth=5, width=16, length=8), torch.randint(0, 50, (2, 8))),
    "mlp": lambda: (residual_mlp(12, width=16), torch.randn(8, 16, requires_grad=True)),
    "unet": lambda: (unet(2, width=4), torch.randn(2, 3, 16, 16)),
}


def loss(y):
    return y.square().mean()


def model(name):
    torch.manual_seed(0)
    blocks, x = MODELS[name]()
    return [*blocks, loss], x


def parameters(blocks):
    return [weight for block in blocks if isinstance(block, nn.Module) for weight in block.parameters()]


def take_gradients(blocks):
    gradients = [weight.grad for weight in parameters(blocks)]
    for weight in parameters(blocks):
        weight.grad = None
    return gradients


def buffers(blocks):
    return [tensor for block in blocks if isinstance(block, nn.Module) for tensor in block.buffers()]


def run_plainly(blocks, x):
    for block in blocks:
        x = block(x)
    return x


def gradients(run, blocks, x):
    """Result, gradients and buffers after one call of `run` on copies of the blocks, from the same random state."""
    blocks = copy.deepcopy(blocks)
    torch.manual_seed(1)
    y = run(blocks, x)
    wanted = [*parameters(blocks), *([x] if x.requires_grad else [])]
    return [y.detach(), *torch.autograd.grad(y, wanted), *buffers(blocks)]


def assert_same(some, others):
    assert len(some) == len(others)
    assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def spread(front):
    """Budgets from one end of a front to the other."""
    return [front[index].bytes for index in sorted({0, len(front) // 3, 2 * len(front) // 3, len(front) - 1})]


# --- the promises that a schedule makes


@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_running_statistics_are_those_of_plain_autograd(name):
    blocks, x = model(name)
    plan = plan_chain(blocks, x)
    plainly = gradients(run_plainly, blocks, x)
    for budget in spread(plan.front):
        assert_same(gradients(lambda some, x: chain(some, x, plan=plan.within(budget)), blocks, x), plainly)  # noqa: B023


@pytest.mark.parametrize("name", MODELS)
def test_forwards_are_those_of_the_schedule(name):
    blocks, x = model(name)
    plan = plan_chain(blocks, x)
    for budget in spread(plan.front):
        schedule = plan.within(budget).schedule()
        with membptt.meter() as report:
            chain(blocks, x, plan=plan.within(budget)).backward()
        assert (report.forwards, report.recorded) == (schedule.meter().forwards, len(blocks))
        assert report.backwards == len(blocks)
        assert report.live_bytes == 0


@pytest.mark.parametrize("name", MODELS)
def test_the_peak_is_within_the_budget_and_near_what_is_predicted(name):
    blocks, x = model(name)
    plan, weights = plan_chain(blocks, x), parameters(blocks)
    chain(blocks, x, plan=plan.within(plan.front[0].bytes)).backward()  # fills the caches of fingerprints
    for budget in spread(plan.front):
        chosen = plan.within(budget)
        for weight in weights:
            weight.grad = None
        run = lambda: chain(blocks, x, plan=chosen).backward()  # noqa: B023, E731
        outside = x, *weights, *buffers(blocks)
        with membptt.meter():  # each block by itself, as the plan has it
            peak = bytes_beside(run, outside, weights)
        assert 0.97 * budget <= peak <= budget
        for weight in weights:
            weight.grad = None
        assert 0.9 * budget <= bytes_beside(run, outside, weights) <= peak


def test_the_peak_is_within_the_budget_under_autocast():
    blocks, x = model("pyramid")
    weights = parameters(blocks)
    with torch.autocast("cpu", torch.bfloat16):
        plan = plan_chain(blocks, x)
        for budget in spread(plan.front):
            chosen = plan.within(budget)
            chain(blocks, x, plan=chosen).backward()
            for weight in weights:
                weight.grad = None
            peak = bytes_beside(
                lambda: chain(blocks, x, plan=chosen).backward(),  # noqa: B023
                (x, *weights, *buffers(blocks)),
                weights,
            )
            assert 0.9 * budget <= peak <= budget


@pytest.mark.parametrize("threads", [1, 2])
def test_times_are_those_of_a_thread_whatever_else_runs_and_those_in_which_it_waits(threads, monkeypatch):
    """The machine's other work takes the processor for 5 ms in the middle of a block; another waits as long."""
    taken, begun, moment = [0.0], now().waits, now

    def interrupted(x):
        taken[0] += 0.005
        return x.tanh()

    def waiting(x):
        sleep(0.005)
        return x.tanh()

    def taken_in_between():
        wall, own, waits = moment()
        return Moment(wall + taken[0], own, waits if sleeps else begun)

    monkeypatch.setattr("membptt.planning.profile.now", taken_in_between)
    x, before = torch.randn(4, 4, requires_grad=True), torch.get_num_threads()
    seconds = {}
    try:
        torch.set_num_threads(threads)
        for sleeps, block in ((False, interrupted), (True, waiting)):
            seconds[sleeps] = plan_chain([block, loss], x).front[-1].seconds
    finally:
        torch.set_num_threads(before)
    assert seconds[False] < 0.005 <= seconds[True]


def test_a_budget_is_planned_once_for_blocks_and_shapes(monkeypatch):
    blocks, x = model("mlp")
    least = plan_chain(blocks, x).front[0].bytes
    measured, measure = [], _Measurement.block
    monkeypatch.setattr(_Measurement, "block", lambda self: measured.append(1) or measure(self))
    for _ in range(3):
        chain(blocks, x, budget=4 * least).backward()
    assert len(measured) == 2  # twelve equal layers, and the loss
    chain(blocks, x, budget=5 * least).backward()
    assert len(measured) == 2
    chain(blocks, torch.randn(4, 16), budget=4 * least).backward()
    assert len(measured) == 4


def test_planning_looks_after_each_block_only_at_what_that_block_names(monkeypatch):
    looked_at, undone = [], Surroundings.undone
    monkeypatch.setattr(
        Surroundings, "undone", lambda self: looked_at.append(len(self.modules) + len(self.tables)) or undone(self)
    )
    totals = []
    for depth in (20, 40, 80):
        looked_at.clear()
        plan_chain([*residual_mlp(depth, width=4), loss], torch.randn(2, 4))
        totals.append(sum(looked_at))
    assert totals[2] - totals[1] == 2 * (totals[1] - totals[0])  # linear in the number of blocks


def test_a_model_with_another_activation_is_planned_anew(monkeypatch):
    measured, measure = [], _Measurement.block
    monkeypatch.setattr(_Measurement, "block", lambda self: measured.append(1) or measure(self))
    for activation in ("relu", "gelu", "relu"):
        layer = nn.TransformerEncoderLayer(8, 1, 16, batch_first=True, activation=activation)
        chain([layer, loss], torch.randn(2, 3, 8), budget="1MiB").backward()
    assert len(measured) == 4


def test_planning_leaves_nothing_changed():
    blocks, x = model("pyramid")
    blocks.insert(-1, nn.Dropout(0.5))
    before, random = [tensor.clone() for tensor in buffers(blocks)], torch.get_rng_state()
    plan_chain(blocks, x)
    assert_same(buffers(blocks), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(weight.grad is None for weight in parameters(blocks))


class Counts(nn.Module):
    """Multiplies by how often it was called."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_what_a_block_assigns_to_is_put_back_by_planning_and_other_state_is_refused():
    counts, x = Counts(), torch.randn(3, 4)
    plan_chain([nn.Linear(4, 4), counts, loss], x)
    assert counts.calls == 0
    calls = []
    with pytest.raises(RuntimeError, match=r"planning runs blocks\[1\] a few times"):
        plan_chain([nn.Linear(4, 4), lambda x: calls.append(1) or x * len(calls), loss], x)


def test_blocks_that_differ_in_a_number_or_a_function_only_are_measured_apart():
    class Applies(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    slopes = [nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), nn.LeakyReLU(0.1)]
    functions = [Applies(torch.sin), Applies(torch.exp), Applies(torch.sin), Applies(loss), Applies(lambda x: x)]
    assert plan_chain([*slopes, *functions], torch.randn(4, requires_grad=True)).order == (0, 1, 0, 2, 3, 2, 4, 5)


def weighs(output, *times):
    return Block(output=output, internal=2 * output, **dict(zip(("advance", "record", "backward"), times, strict=True)))


def test_kinds_of_the_same_bytes_whose_times_agree_within_a_tenth_count_as_one():
    first, second = weighs(8, 100, 120, 200), weighs(8, 108, 130, 220)
    others = [weighs(8, 111, 120, 200), weighs(8, 100, 120, 221), weighs(9, 100, 120, 200)]
    for other in others:
        assert alike([first, other]) == [first, other]
    assert alike([first, second, *others[1:]]) == [*[weighs(8, 104, 125, 210)] * 2, *others[1:]]


def test_a_plan_of_many_blocks_that_differ_says_how_far_from_the_least_time_it_may_be(monkeypatch):
    kinds = [weighs(8 + number, 100 + number, 120, 200) for number in range(30)]
    exact = ChainPlan(tuple(kinds), tuple(range(30)), 8, 37, 0)
    budget = exact.front[len(exact.front) // 3].bytes
    monkeypatch.setattr(Parts, "limit", 100)
    monkeypatch.setattr(front_near, "MOST", (16,))
    near = ChainPlan(tuple(kinds), tuple(range(30)), 8, 37, 0).within(budget)
    assert exact.within(budget).excess == 0
    assert 0 <= near.seconds / exact.within(budget).seconds - 1 <= near.excess < 0.5
    assert f"at most {near.excess:.1%} above the least" in str(near)


KINDS = [
    lambda: nn.Linear(4, 4),
    nn.Tanh,
    lambda: nn.BatchNorm1d(4),
    lambda: nn.Dropout(0.5),
    lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(inplace=True), nn.Linear(16, 4)),
    lambda: Residual(4),
    lambda: lambda x: x * x.detach().mean(),
    lambda: lambda x: x[:, :2].repeat(1, 2),
    nn.Identity,
]


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, len(KINDS) - 1), min_size=1, max_size=7),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from([1, 200, 2**20]),
)
def test_any_chain_in_any_budget_gives_plain_autograd_s_gradients_within_it_hypothesis(kinds, place, wanted, ready):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "READY", ready)
        patch.setattr(parts, "_are_awaited", lambda declared: True)
        check_any_chain(kinds, place, wanted)


def check_any_chain(kinds, place, wanted):
    torch.manual_seed(0)
    blocks = [nn.Linear(4, 4), *(KINDS[kind]() for kind in kinds), loss]
    x = torch.randn(6, 4, requires_grad=wanted)
    plan = plan_chain(blocks, x)
    chosen = plan.within(plan.front[int(place * (len(plan.front) - 1))].bytes)
    plainly = gradients(run_plainly, blocks, x)
    assert_same(gradients(lambda some, x: chain(some, x, plan=chosen), blocks, x), plainly)
    weights = parameters(blocks)
    outside = (x, *weights, *buffers(blocks), *([x.grad] if x.grad is not None else []))
    own = [*weights, *([x] if wanted else [])]
    assert bytes_beside(lambda: chain(blocks, x, plan=chosen).backward(), outside, own) <= chosen.peak_bytes


# --- plans


def test_a_budget_below_the_least_names_that_one_which_then_works():
    blocks, x = model("mlp")
    least = plan_chain(blocks, x).front[0].bytes
    with pytest.raises(ValueError, match=rf"smallest feasible budget of this chain is {least} bytes"):
        chain(blocks, x, budget=least - 1)
    chain(blocks, x, budget=least).backward()
    with pytest.raises(ValueError, match="names no size"):
        chain(blocks, x, budget="much")


def test_exactly_one_of_budget_plan_and_schedule_is_given():
    blocks, x = model("mlp")
    plan = plan_chain(blocks, x, budget="1MiB")
    for options in ({}, {"budget": "1MiB", "plan": plan}, {"plan": plan, "schedule": plan.schedule()}):
        with pytest.raises(TypeError, match="exactly one of budget=, plan= and schedule="):
            chain(blocks, x, **options)


def test_a_plan_without_a_budget_says_how_to_choose_one():
    blocks, x = model("mlp")
    plan = plan_chain(blocks, x)
    with pytest.raises(ValueError, match=r"plan\.within\(budget\)"):
        chain(blocks, x, plan=plan)
    chain(blocks, x, plan=plan.within("1MiB")).backward()


def test_a_plan_for_other_blocks_or_a_smaller_input_is_refused():
    blocks, x = model("mlp")
    plan = plan_chain(blocks, x, budget="1MiB")
    with pytest.raises(ValueError, match="13 blocks and an input of 512 bytes, this call has 14 blocks"):
        chain([*blocks, loss], x, plan=plan)
    with pytest.raises(ValueError, match="an input of 1024 bytes: plan anew"):
        chain(blocks, torch.randn(16, 16), plan=plan)


def test_a_chain_has_at_least_one_block_and_at_most_4096():
    for count in (0, 4097):
        with pytest.raises(ValueError, match=f"1 to 4096 blocks, got {count}"):
            chain([loss] * count, torch.ones(2), budget="1MiB")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (nn.Linear(4, 4), r"blocks is of type Linear, and takes a list .* write \[block\] for a single one"),
        (loss, "blocks is of type function, and takes a list"),
        ([nn.Linear(4, 4), 2], r"blocks\[1\] is of type int, neither a module nor a function"),
        (nn.ModuleDict({"first": nn.Linear(4, 4)}), r"blocks\[0\] is of type str, neither"),
    ],
    ids=["module", "function", "number", "dict"],
)
def test_what_is_no_list_of_blocks_is_refused(blocks, message):
    with pytest.raises(TypeError, match=message):
        plan_chain(blocks, torch.randn(3, 4))


def test_plans_are_saved_and_loaded(tmp_path):
    blocks, x = model("pyramid")
    plan = plan_chain(blocks, x)
    for each in (plan, plan.within(plan.front[3].bytes)):
        each.save(tmp_path / "plan.json")
        loaded = ChainPlan.load(tmp_path / "plan.json")
        assert loaded == each
        assert loaded.front == each.front
    assert loaded.schedule().digest == loaded.digest
    chain(blocks, x, plan=loaded).backward()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "membptt-plan/3"}, "format is 'membptt-plan/3'"),
        ({"order": [0, 7]}, "order must name kinds"),
        ({"order": []}, "order must name kinds"),
        ({"budget": 1}, "at least"),
        ({"budget": "1"}, "budget must be int"),
        ({"digest": "0" * 64}, "plan anew"),
        ({"whole": [True]}, "whole must tell of each of 2 kinds"),
        ({"whole": [1, 1]}, "whole must tell of each of 2 kinds"),
        ({"kinds": [{}]}, "has the fields"),
        ({"extra": 1}, "has the fields"),
    ],
)
def test_a_file_that_holds_no_plan_is_refused(tmp_path, changes, message):
    path = tmp_path / "plan.json"
    plan_chain([torch.sin, torch.exp], torch.ones(4), budget="1KiB").save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(PlanError, match=message):
        ChainPlan.load(path)


def test_a_plan_is_printed_in_two_lines():
    blocks, x = model("pyramid")
    open_plan = plan_chain(blocks, x)
    front = open_plan.front
    assert str(open_plan).splitlines()[0].startswith("9 blocks, 9 of them distinct; no budget yet")
    assert f"one of {len(front)} that make a difference" in str(open_plan)
    choice, cost = str(open_plan.within("1MiB")).splitlines()
    assert choice == "9 blocks, 9 of them distinct, within 1 MiB"
    assert f"a peak of {readable(open_plan.within('1MiB').peak_bytes)}, " in cost


def test_a_plan_that_no_budget_changes_says_so():
    plan = plan_chain([torch.sin], torch.ones(2, 4))
    assert len(plan.front) == 1
    assert str(plan).endswith(f"none less than {readable(plan.front[0].bytes)}, plain backpropagation's, is of use")


def test_a_plan_is_explained_and_drawn(capsys):
    blocks, x = model("pyramid")
    plan = plan_chain(blocks, x, budget="1MiB")
    plan.explain()
    printed = capsys.readouterr().out
    assert "9 blocks, 9 of them distinct within" in " ".join(printed.split())
    assert "budgets make a difference" in printed
    left, right = plan.draw().axes
    assert left.get_xlabel() == "budget [MiB]"
    assert right.get_xlabel() == "position [blocks]"


def test_a_schedule_of_ones_own_is_executed():
    blocks, x = [nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2), loss], torch.randn(3, 4)
    actions = [Advance(0, 2), StoreHidden(2), Advance(2, 3), Record(3), Backpropagate(3), Restore(2), Record(2)]
    actions += [Backpropagate(2), DropHidden(2), Restore(0), Advance(0, 1), Record(1), Backpropagate(1), Restore(0)]
    actions += [Record(0), Backpropagate(0), DropHidden(0)]
    schedule = from_actions(actions, cores=4)
    assert_same(
        gradients(lambda some, x: chain(some, x, schedule=schedule), blocks, x), gradients(run_plainly, blocks, x)
    )
    with pytest.raises(ValueError, match="is of 4 cores"):
        chain([*blocks, loss], x, schedule=schedule)


# --- what blocks may do


def least(blocks, x, **options):
    return chain(blocks, x, plan=(plan := plan_chain(blocks, x, **options)).within(plan.front[0].bytes), **options)


def test_batch_normalisation_without_momentum_and_shared_between_blocks_counts_each_run_once():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4, momentum=None)
    shared = nn.Sequential(nn.Linear(4, 4), norm)
    blocks, x = [shared, nn.Sequential(norm, nn.Tanh()), shared, nn.Linear(4, 4), shared, loss], torch.randn(6, 4)
    alone = copy.deepcopy((blocks, norm))
    run_plainly(alone[0], x).backward()
    least(blocks, x).backward()
    assert norm.num_batches_tracked == 4
    assert_same(list(norm.buffers()), list(alone[1].buffers()))
    assert_same([weight.grad for weight in parameters(blocks)], [weight.grad for weight in parameters(alone[0])])


def test_running_statistics_are_updated_once_without_gradients_and_not_by_a_second_backward():
    norm = nn.BatchNorm1d(4)
    with torch.no_grad():
        chain([norm, loss], torch.randn(6, 4), budget="1MiB")
    assert norm.num_batches_tracked == 1
    y = least([norm, nn.Tanh(), norm, loss], torch.randn(6, 4))
    y.backward(retain_graph=True)
    y.backward()
    assert norm.num_batches_tracked == 3


def test_a_norm_that_updates_its_statistics_at_every_run_is_caught(monkeypatch):
    monkeypatch.setattr(Blocks, "_once", lambda self, number: torch.enable_grad())
    blocks, x = model("pyramid")
    plainly = gradients(run_plainly, blocks, x)
    assert any(not torch.equal(a, b) for a, b in zip(gradients(least, blocks, x), plainly, strict=True))


@pytest.mark.parametrize(
    ("block", "name"), [(nn.ReLU(inplace=True), "ReLU"), (lambda x: x.mul_(2), "<lambda>"), (torch.Tensor.exp_, "exp_")]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_block_that_changes_in_place_what_it_is_given_is_refused_by_name(block, name, place):
    blocks = [nn.Linear(4, 4), nn.Linear(4, 4), loss]
    blocks.insert(place, block)
    x = torch.randn(3, 4, requires_grad=True) * 1
    with pytest.raises(RuntimeError, match=rf"blocks\[{place}\] \({name}\) changes in place"):
        plan_chain(blocks, x)
    actions = [Advance(0, 3), Record(3), Backpropagate(3)]
    actions += [
        action for last in (2, 1) for action in (Restore(0), Advance(0, last), Record(last), Backpropagate(last))
    ]
    actions += [Restore(0), Record(0), Backpropagate(0), DropHidden(0)]
    with pytest.raises(RuntimeError, match=rf"blocks\[{place}\] \({name}\) changes in place"):
        chain(blocks, x, schedule=from_actions(actions, cores=4))


def test_the_advice_on_blocks_that_change_what_they_are_given_works():
    x = torch.randn(3, 4)
    for blocks in ([nn.Linear(4, 4), nn.ReLU(), loss], [nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), loss]):
        assert_same(gradients(least, blocks, x), gradients(run_plainly, blocks, x))


def test_states_change_their_structure_from_block_to_block():
    def split(x):
        return {"a": x[:, :2], "b": (x[:, 2:], x.long())}

    def join(state):
        return torch.cat([state["a"], state["b"][0]], 1) * state["b"][1]

    x = torch.randn(3, 4, requires_grad=True)
    blocks = [nn.Linear(4, 4), split, lambda state: {**state, "a": state["a"].tanh()}, join, loss]
    assert_same(gradients(least, blocks, x), gradients(run_plainly, blocks, x))


def test_a_function_s_tensors_are_declared_or_refused():
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(3, 4)

    def multiply(x):
        return x @ weight

    blocks = [nn.Linear(4, 4), multiply, nn.Tanh(), loss]
    with pytest.raises(ValueError, match="the tensor 'weight'"):
        plan_chain(blocks, x)
    y = least(blocks, x, params=[weight])
    assert_same(torch.autograd.grad(y, weight), torch.autograd.grad(run_plainly(blocks, x), weight))
    with pytest.raises(TypeError, match="what blocks\\[0\\] returned"):
        plan_chain([lambda x: object(), loss], x)


def test_a_parameter_that_a_block_does_not_reach_costs_it_nothing(monkeypatch):
    blocks, x = model("mlp")
    asked = []
    monkeypatch.setattr(adjoint, "gradients", lambda *call: asked.append(len(call[1])) or gradients_of(*call))
    with membptt.meter():  # each block by itself
        chain(blocks, x, budget="1MiB").backward()
    assert max(asked) == 3  # weight, bias and state


def test_hooks_of_parameters_fire_once_and_frozen_parameters_get_nothing():
    blocks, x = [shared := nn.Linear(4, 4), nn.Tanh(), shared, nn.Linear(4, 4), loss], torch.randn(3, 4)
    seen = []
    shared.weight.register_hook(seen.append)
    blocks[3].weight.requires_grad_(False)
    least(blocks, x).backward()
    assert len(seen) == 1
    assert torch.equal(seen[0], shared.weight.grad)
    assert blocks[3].weight.grad is None


class Grows(nn.Linear):
    """A layer that notes of what it is given whether a gradient is wanted."""

    def __init__(self, frozen):
        super().__init__(4, 4)
        self.requires_grad_(not frozen)
        self.asked = set()

    def forward(self, x):
        self.asked.add(x.requires_grad)
        return super().forward(x).tanh()


@pytest.mark.parametrize("frozen", [1, 2, 4])
def test_frozen_blocks_at_the_start_have_no_graph_and_are_stored_as_their_last_output(frozen):
    blocks, x = [*(Grows(number < frozen) for number in range(6)), loss], torch.randn(3, 4)
    plan = plan_chain(blocks, x)
    assert len(plan.order) == len(blocks) - frozen + 1
    assert plan.kinds[0].internal == 0
    for block in blocks[:-1]:
        block.asked.clear()
    for budget in spread(plan.front):
        computed = chain(blocks, x, plan=plan.within(budget))
        wanted = [weight for block in blocks[frozen:-1] for weight in block.parameters()]
        assert_same(torch.autograd.grad(computed, wanted), torch.autograd.grad(run_plainly(blocks, x), wanted))
    assert all(block.asked == {False} for block in blocks[: frozen + 1])
    chain(blocks, x, schedule=quadratic(len(blocks))).backward()
    assert all(block.asked == {False} for block in blocks[: frozen + 1])


def test_blocks_that_differ_in_what_is_frozen_are_planned_apart():
    x = torch.randn(3, 4, requires_grad=True)
    blocks = [Grows(number == 1) for number in range(4)]
    assert plan_chain([*blocks, loss], x).order == (0, 1, 0, 0, 2)
    for number in range(3):
        other = [Grows(index == number) for index in range(4)]
        chain(other, x.detach(), budget="1MiB").sum().backward()  # remembered plans are of as many blocks


def test_a_frozen_block_that_uses_a_late_one_s_parameter_unseen_is_refused_and_the_advice_works():
    late, x = nn.Linear(4, 4), torch.randn(3, 4)
    blocks = [Hides(late), nn.Tanh(), late, loss]
    with pytest.raises(RuntimeError, match="whose own parameters are all frozen"):
        chain(blocks, x, schedule=quadratic(4)).backward()
    wanted = list(late.parameters())
    computed = torch.autograd.grad(chain(blocks, x, schedule=quadratic(4), params=late), wanted)
    assert_same(computed, torch.autograd.grad(run_plainly(blocks, x), wanted))


def test_several_backwards_give_the_same():
    blocks, x = model("gpt")
    torch.manual_seed(2)
    y = least(blocks, x)
    first, second = (torch.autograd.grad(y, parameters(blocks), retain_graph=True) for _ in range(2))
    assert_same(first, second)


# --- gradients are handed on as soon as they are complete


@pytest.fixture
def at_once(monkeypatch):
    """Hand on the gradients of every block by themselves, however small."""
    monkeypatch.setattr(parts, "READY", 1)
    monkeypatch.setattr(parts, "_are_awaited", lambda declared: True)


class Told(nn.Module):
    """A layer that says when it is run, and when its gradient is there."""

    def __init__(self, number, events, inner=None):
        super().__init__()
        self.inner, self.number, self.events = inner or nn.Linear(4, 4), number, events
        if inner is None:
            self.inner.weight.register_post_accumulate_grad_hook(lambda _: events.append(("ready", number)))

    def forward(self, x):
        self.events.append(("graph" if torch.is_grad_enabled() else "run", self.number))
        return self.inner(x).tanh()


def told(count, *last):
    torch.manual_seed(0)
    events = []
    blocks = [*(Told(number, events) for number in range(count)), *last, loss]
    x, schedule = torch.randn(3, 4), quadratic(len(blocks))
    torch.autograd.grad(chain(blocks, x, schedule=schedule), parameters(blocks))  # the first time, all runs have graphs
    y = chain(blocks, x, schedule=schedule)
    events.clear()
    return blocks, y, events


@pytest.mark.usefixtures("at_once")
def test_gradients_are_ready_while_earlier_blocks_are_still_recomputed():
    _, y, events = told(4)
    y.backward()
    assert events[:7] == [*(("run", number) for number in range(3)), ("graph", 3), ("ready", 3), ("run", 0), ("run", 1)]
    assert [number for kind, number in events if kind == "ready"] == [3, 2, 1, 0]


@pytest.mark.parametrize("ready", [2**20, 80])  # bytes: of all layers, of each
def test_few_gradients_are_handed_on_together(monkeypatch, ready):
    monkeypatch.setattr(parts, "READY", ready)
    _, y, events = told(4)
    y.backward()
    assert [kind for kind, _ in events[-4:]] == ["ready"] * 4


AWAITED = {
    "nobody": lambda weight: None,
    "a hook": lambda weight: weight.register_hook(lambda grad: None),
    "a hook after accumulation": lambda weight: weight.register_post_accumulate_grad_hook(lambda weight: None),
    "a sum": lambda weight: setattr(weight, "grad", torch.zeros_like(weight)),
}


@pytest.mark.parametrize("who", [*AWAITED, "other ranks"])
def test_gradients_are_handed_on_together_unless_somebody_is_seen_to_wait_for_them(monkeypatch, who):
    monkeypatch.setattr(parts, "READY", 1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: who == "other ranks")
    blocks, x = [nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), loss], torch.randn(3, 4)
    AWAITED.get(who, AWAITED["nobody"])(blocks[0].weight)
    y = chain(blocks, x, schedule=quadratic(4))
    later = [node for node, _ in y.grad_fn.next_functions if "Earlier" in type(node).__name__]
    assert bool(later) == (who != "nobody")
    actual = torch.autograd.grad(y, parameters(blocks))
    assert_same(actual, torch.autograd.grad(run_plainly(blocks, x), parameters(blocks)))


@pytest.mark.usefixtures("at_once")
def test_a_shared_parameter_s_gradient_is_ready_after_the_first_block_that_uses_it():
    blocks = [Told(0, events := []), shared := Told(1, events), Told(2, events)]
    blocks += [lambda x: shared.inner(x), Told(4, events, nn.Sequential(shared.inner)), loss]  # noqa: PLW0108
    x = torch.randn(3, 4)
    chain(blocks, x, schedule=quadratic(len(blocks))).backward()
    assert [number for kind, number in events if kind == "ready"] == [2, 1, 0]
    computed = [weight.grad for weight in parameters(blocks)]
    assert_same(computed, torch.autograd.grad(run_plainly(blocks, x), parameters(blocks), materialize_grads=True))


@pytest.mark.usefixtures("at_once")
def test_a_gradient_of_late_parameters_only_stops_there_and_leaves_a_retained_graph_whole():
    blocks, y, events = told(4)
    wanted = parameters(blocks)
    late = torch.autograd.grad(y, wanted[-2:], retain_graph=True)
    assert ("graph", 3) in events
    assert ("graph", 2) not in events
    assert_same(late, torch.autograd.grad(y, wanted, retain_graph=True)[-2:])
    y.backward()
    assert_same(late, [weight.grad for weight in wanted[-2:]])


@pytest.mark.usefixtures("at_once")
def test_what_has_become_another_is_noticed_though_only_late_gradients_are_wanted():
    calls = []

    def counts(x):
        calls.append(1)
        return x * len(calls)

    last = nn.Linear(4, 4)
    y = chain([nn.Linear(4, 4), counts, last, loss], torch.randn(3, 4), schedule=quadratic(4))
    with pytest.raises(RuntimeError, match="recomputing core 2"):
        torch.autograd.grad(y, last.weight)


@pytest.mark.usefixtures("at_once")
def test_an_optimizer_may_step_on_each_gradient_as_it_comes():
    def step(weight):
        weight.data.sub_(weight.grad)

    def train(run):
        blocks, x = model("mlp")
        for weight in parameters(blocks):
            weight.register_post_accumulate_grad_hook(step)
        run(blocks, x).backward()
        return parameters(blocks)

    assert_same(train(least), train(run_plainly))


class Hides(nn.Module):
    """Runs a module that is not its own."""

    def __init__(self, other):
        super().__init__()
        self.others = {"by a way that is not looked at": [other]}

    def forward(self, x):
        return self.others["by a way that is not looked at"][0](x)


@pytest.mark.usefixtures("at_once")
def test_an_early_block_that_uses_a_late_one_s_parameter_unseen_is_refused_and_the_advice_works():
    late, x = nn.Linear(4, 4), torch.randn(3, 4, requires_grad=True)
    blocks = [Hides(late), nn.Tanh(), late, loss]
    with pytest.raises(RuntimeError, match=r"blocks\[0\] uses a parameter of shape \(4, 4\) of a later block"):
        chain(blocks, x, schedule=quadratic(4)).backward()
    wanted = [x, *late.parameters()]
    expected = torch.autograd.grad(run_plainly(blocks, x), wanted)
    assert_same(torch.autograd.grad(chain(blocks, x, schedule=quadratic(4), params=late), wanted), expected)
    blocks[0].other = late
    assert_same(torch.autograd.grad(chain(blocks, x, schedule=quadratic(4)), wanted), expected)


@pytest.mark.usefixtures("at_once")
def test_an_exception_in_a_hook_between_the_parts_leaves_a_retained_graph_whole():
    blocks, y, _ = told(3)

    def fail(grad):
        raise ArithmeticError("not now")

    handle = blocks[1].inner.weight.register_hook(fail)
    with pytest.raises(ArithmeticError):
        y.backward(retain_graph=True)
    handle.remove()
    for weight in parameters(blocks):
        weight.grad = None
    y.backward()
    torch.manual_seed(0)
    again, y, _ = told(3)
    y.backward()
    assert_same([weight.grad for weight in parameters(blocks)], [weight.grad for weight in parameters(again)])


def test_modes_and_autocast_of_the_first_pass_are_those_of_recomputations():
    blocks, x = model("pyramid")
    blocks.insert(-1, nn.Dropout(0.5))

    def run(some, x, call):
        with torch.autocast("cpu", torch.bfloat16):
            y = call(some, x)
        for block in some:
            if isinstance(block, nn.Module):
                block.eval()
        return y.float()

    assert_same(
        gradients(lambda some, x: run(some, x, least), blocks, x),
        gradients(lambda some, x: run(some, x, run_plainly), blocks, x),
    )


def test_a_block_that_has_become_another_is_noticed():
    calls = []

    def counts(x):
        calls.append(1)
        return x * len(calls)

    y = chain([nn.Linear(4, 4), counts, nn.Tanh(), loss], torch.randn(3, 4), schedule=quadratic(4))
    with pytest.raises(RuntimeError, match=r"recomputing core [13] "):
        y.backward()


def quadratic(cores):
    """Every state from the start: nothing is stored."""
    actions = []
    for last in reversed(range(cores)):
        actions += [Restore(0)] * bool(actions) + [Advance(0, last)] * (last > 0) + [Record(last), Backpropagate(last)]
    return from_actions([*actions, DropHidden(0)], cores=cores)


def test_a_block_whose_state_takes_another_shape_later_is_refused():
    calls = []

    def grows(x):
        calls.append(1)
        return x if len(calls) == 1 else torch.cat([x, x])

    y = chain([nn.Linear(4, 4), grows, torch.tanh, loss], torch.randn(3, 4), schedule=quadratic(4))
    with pytest.raises((ValueError, RuntimeError), match=r"recomputing core [12]|blocks\[1\] returned"):
        y.backward()


class Fails(nn.Module):
    """Fails at one of its calls; remembers what it was given."""

    def __init__(self, at):
        super().__init__()
        self.at, self.calls, self.given = at, 0, []

    def forward(self, x):
        self.given.append(weakref.ref(x))
        self.calls += 1
        if self.calls == self.at:
            raise ArithmeticError("no more")
        return x.sin()


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_exception_at_any_forward_leaves_nothing_alive(at):
    blocks = [nn.Linear(4, 4), fails := Fails(at), nn.Tanh(), nn.Tanh(), loss]
    x = torch.randn(3, 4, requires_grad=True)

    def attempt():
        chain(blocks, x, schedule=quadratic(5)).backward()

    with pytest.raises(ArithmeticError):
        attempt()
    gc.collect()
    assert len(fails.given) == at
    assert [each for each in fails.given if each() is not None] == []
    assert all(weight.grad is None for weight in (x, *parameters(blocks)))
    chain(blocks, x, schedule=quadratic(5)).backward()  # the next one is whole
    assert_same([x.grad], torch.autograd.grad(run_plainly(blocks, x), x))


class FailsBackward(torch.autograd.Function):
    """Hands on what it is given; its backward fails."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise ArithmeticError("no way back")


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_exception_in_a_backward_leaves_nothing_alive(place):
    seen = []

    def block(x):
        seen.append(weakref.ref(x))
        return FailsBackward.apply(x)

    blocks = [nn.Linear(4, 4), nn.Tanh(), nn.Tanh(), loss]
    blocks.insert(place, block)
    x = torch.randn(3, 4, requires_grad=True)

    def attempt():
        chain(blocks, x, schedule=quadratic(5)).backward()

    with pytest.raises(ArithmeticError):
        attempt()
    gc.collect()
    assert seen
    assert [each for each in seen if each() is not None] == []
    assert all(weight.grad is None for weight in (x, *parameters(blocks)))


class _Caching(nn.Module):
    def __init__(self, *, keeps):
        super().__init__()
        self.root, self.cache, self.keeps, self.graphs = nn.Parameter(torch.ones(4, 4) / 4), {}, keeps, []

    def forward(self, x):
        self.graphs.append(torch.is_grad_enabled())
        if not self.keeps:
            self.cache.clear()
        if "weight" not in self.cache:
            self.cache["weight"] = self.root.tanh()
        return x @ self.cache["weight"]


@pytest.mark.parametrize(
    "how", [{"schedule": build("hsm", 6, 2).schedule(6, 2)}, {"budget": "64KiB"}], ids=["schedule", "budget"]
)
def test_a_block_that_caches_a_weight_is_refused_and_at_every_call_it_works(how):
    x, caching = torch.randn(3, 4), [_Caching(keeps=True) for _ in range(6)]
    with pytest.raises(RuntimeError, match="made at an earlier call, from tensors that require grad, and kept"):
        chain(caching, x, **how).sum().backward()
    blocks = [_Caching(keeps=False) for _ in range(6)]
    run_plainly(blocks, x).sum().backward()
    expected = take_gradients(blocks)
    chain(blocks, x, **how).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(take_gradients(blocks), expected, strict=True))


def test_a_block_has_a_graph_wherever_it_is_run_in_its_first_backward_pass_only():
    x, blocks = torch.randn(3, 4), [_Caching(keeps=False) for _ in range(6)]
    schedule, graphs = build("hsm", 6, 2).schedule(6, 2), []
    for _ in range(2):
        chain(blocks, x, schedule=schedule).sum().backward()
        graphs.append([graph for block in blocks for graph in block.graphs])
        for block in blocks:
            block.graphs = []
    assert len(graphs[0]) == len(graphs[1]) == schedule.cost
    assert all(graphs[0])
    assert sum(graphs[1]) == 6


class _Rounds(nn.Module):
    """A chaotic block that rounds otherwise with graph than without, or is another function there."""

    def __init__(self, scale=1e-6):
        super().__init__()
        self.rate, self.scale = nn.Parameter(torch.tensor(3.99)), scale

    def forward(self, x):
        y = self.rate * x * (1 - x)
        return y * (1 + self.scale * torch.linspace(-1, 1, 50)) if torch.is_grad_enabled() else y


@pytest.mark.parametrize("check", [None, True])
def test_chaotic_blocks_that_round_differently_with_graph_raise_no_alarm_from_their_first_gradient_on(check):
    x, schedule = torch.linspace(0.1, 0.9, 50), build("hsm", 40, 3).schedule(40, 3)
    blocks, others = ([_Rounds(scale) for _ in range(40)] for scale in (1e-6, 0.1))
    for _ in range(2):
        chain(blocks, x, schedule=schedule, check=check).sum().backward()
    chain(others, x, schedule=schedule, check=check).sum().backward()  # with graph wherever it is run
    y = chain(others, x, schedule=schedule, check=check).sum()
    with pytest.raises(RuntimeError, match="not deterministic" if check else "something else with graph than without"):
        y.backward()


def test_one_chain_that_rounds_differently_with_graph_marks_no_other_one():
    x, rounding, others = torch.linspace(0.1, 0.9, 50), [_Rounds() for _ in range(4)], [nn.Tanh() for _ in range(4)]
    others.append(nn.Linear(50, 50))
    _rounding.clear()
    for blocks in (rounding, rounding, others):
        count = len(blocks)
        chain(blocks, x, schedule=build("hsm", count, 2).schedule(count, 2)).sum().backward()

    def is_known(*blocks):
        return is_known_to_round(pose(blocks, x, None, join=True)[1])

    assert is_known(*rounding)
    assert is_known(*[_Rounds() for _ in range(7)])
    assert not is_known(*others)
    assert not is_known(*others, torch.tanh)
    assert not is_known(lambda x: x, *others)


def test_a_data_parallel_wrapper_inside_is_refused():
    class DistributedDataParallel(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(TypeError, match="DistributedDataParallel"):
        chain([nn.Sequential(DistributedDataParallel()), loss], torch.ones(2, requires_grad=True), budget="1MiB")


# --- nn.Sequential


def test_sequential_is_torch_s_in_a_budget():
    torch.manual_seed(0)
    modules = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)]
    theirs, x = nn.Sequential(*copy.deepcopy(modules)), torch.randn(5, 4)
    for ours in (
        membptt.nn.Sequential(*copy.deepcopy(modules), budget="4KiB"),
        membptt.nn.Sequential(OrderedDict(zip("0123", copy.deepcopy(modules), strict=True)), budget="4KiB"),
    ):
        assert_same(
            gradients(lambda some, x: loss(some[0](x)), [ours], x),
            gradients(lambda some, x: loss(some[0](x)), [theirs], x),
        )
        assert list(ours.state_dict()) == list(theirs.state_dict())
        ours.load_state_dict(theirs.state_dict())
        assert ours[1] is list(ours)[1]
        assert len(ours) == 4
        assert isinstance(ours[1:3], membptt.nn.Sequential)
        assert (ours[1:3].budget, len(ours[1:3])) == ("4KiB", 2)
        assert "budget='4KiB'" in repr(ours)


def test_a_sequential_takes_a_plan_in_place_of_a_budget():
    modules, x = residual_mlp(6, width=4), torch.randn(3, 4)
    plan = plan_chain(modules, x, budget="4KiB")
    membptt.nn.Sequential(*modules, plan=plan)(x).sum().backward()
    with pytest.raises(TypeError, match="exactly one of budget= and plan="):
        membptt.nn.Sequential(*modules)
    with pytest.raises(TypeError, match="slice a Sequential with budget="):
        membptt.nn.Sequential(*modules, plan=plan)[1:]
    assert isinstance(membptt.nn.Sequential(*modules, budget="4KiB")[1:][0], Residual)


@pytest.mark.slow
def test_a_thousand_equal_layers_run_in_a_two_hundredth_of_plain_s_memory():
    """0.5 % of what plain needs; plans within a second is for the benchmark to say."""
    blocks, x = [nn.Linear(8, 8), *residual_mlp(999, width=8)], torch.randn(4, 8)  # the first one is another
    plan = plan_chain(blocks, x)
    chosen = plan.within(plan.front[-1].bytes // 200)
    with membptt.meter() as report:
        chain(blocks, x, plan=chosen).sum().backward()
    assert report.forwards == chosen.schedule().meter().forwards
    assert chosen.peak_bytes <= plan.front[-1].bytes // 200


def test_garbage_collection_waits_while_a_deep_chain_is_looked_at_and_its_graph_searched():
    """Notes of its modules and nodes of its graph are thousands of objects, of which none is garbage."""
    blocks, x = residual_mlp(1000, width=2), torch.randn(1, 2)
    chosen, around = plan_chain(blocks, x), set()
    chosen = chosen.within(chosen.front[-1].bytes * 9 // 10)

    def note(phase, about):
        frame = sys._getframe()
        while frame is not None:
            around.add(frame.f_code.co_name)
            frame = frame.f_back

    chain(blocks, x, plan=chosen).sum().backward()  # the first call, in which each block is run with graph
    thresholds = gc.get_threshold()
    gc.enable()  # whatever ran before in this process
    gc.callbacks.append(note)
    gc.set_threshold(50)  # wherever it may, it does
    try:
        chain(blocks, x, plan=chosen).sum().backward()
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(note)
    assert "forward" in around
    assert not {"_posed", "takes", "refuse"} & around
    assert gc.isenabled()


def test_what_surrounds_a_deep_chain_is_few_objects_until_it_is_asked_for():
    """Garbage collection looks at all of them, call after call."""
    blocks = residual_mlp(100, width=2)
    reached = reach(Blocks(blocks))
    gc.collect()
    before = len(gc.get_objects())
    surroundings = Surroundings.of(reached)
    gc.collect()
    assert len(gc.get_objects()) - before < len(blocks)
    names = [f"blocks[{number}].inner.{weight}" for number in range(100) for weight in ("weight", "bias")]
    assert surroundings.names() == names
    blocks[7].inner.bias, blocks[8].inner.in_features = nn.Parameter(torch.zeros(2)), 3
    assert [*surroundings.replaced()] == ["blocks[7].inner.bias", "blocks[8].inner.in_features"]
    with surroundings.replayed():
        assert [*surroundings.replaced()] == ["blocks[8].inner.in_features"]


class Shared(nn.Module):
    """A module that holds another twice, itself, and a place for one that is not there."""

    def __init__(self, inner):
        super().__init__()
        self.first, self.missing = inner, None
        self.register_module("again", inner)
        self.register_module("nobody", None)
        self._modules["itself"] = self


def test_modules_below_are_found_once_each_whoever_holds_them():
    inner = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    first, second = Shared(inner), Shared(inner)
    modules = modules_below([first, torch.ones(2), second, len, first])
    assert modules == [first, second, inner, *inner]
    assert modules == sorted(named_below([("one", first), ("", second)]), key=modules.index)
    assert modules_below([]) == []


@pytest.mark.parametrize("name", sorted(MODELS))
def test_modules_below_are_those_that_torch_finds(name):
    blocks, _ = model(name)
    ours = modules_below(blocks)
    assert len(ours) == len(set(ours))
    assert set(ours) == {module for block in blocks if isinstance(block, nn.Module) for module in block.modules()}


def test_surroundings_keep_no_tensor_that_has_a_graph():
    """Or the graphs of all calls would hang together."""
    weight = torch.ones(2, requires_grad=True)
    kept, step, layer = [2 * weight], nn.Linear(2, 2), nn.Linear(2, 2)
    step.doubled, layer._parameters["bias"] = 3 * weight, 4 * weight
    alive = [weakref.ref(kept[0]), weakref.ref(step.doubled), weakref.ref(layer.bias)]
    surroundings = Surroundings.of(reach(lambda x: layer(step(x) * kept[0])))
    kept.clear()
    del step.doubled, layer.bias
    assert [reference() for reference in alive] == [None, None, None]
    assert {"kept[0]", "step.doubled", "layer.bias"} < set(surroundings.names())


class Holding(nn.Module):
    """A module with attributes of its own, which may hold tensors and modules."""

    def __init__(self, **attributes):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        vars(self).update(attributes)


HOLDING = {
    "numbers": lambda: Holding(a=1, b="two", c=None),
    "objects": lambda: Holding(a=torch.tanh, b=object(), c=3),
    "objects only": lambda: Holding(a=torch.tanh),
    "containers of numbers": lambda: Holding(a=(1, 2), b=[3], c={"x": 4}, d=5),
    "a tensor": lambda: Holding(a=torch.ones(2), b=1),
    "tensors in containers": lambda: Holding(a=[torch.ones(2)], b={"x": torch.ones(1)}, c=1),
    "modules in containers": lambda: Holding(a=[nn.Linear(1, 1)], b={"x": nn.Tanh()}, c=2),
    "a module": lambda: Holding(a=nn.BatchNorm1d(2), b=1),
    "a long container": lambda: Holding(a=[torch.ones(1)] * 100, b=1),
    "buffers": lambda: nn.BatchNorm2d(3),
    "no weight": lambda: nn.Linear(2, 2, bias=False),
    "torch's own": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "a convolution": lambda: nn.Conv2d(1, 1, 3),
    "scripted": lambda: torch.jit.script(nn.Linear(2, 2)),
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    "a computed weight": lambda: computed(nn.Linear(2, 2)),
}


def computed(layer):
    weight = 2 * layer.weight.detach().requires_grad_()
    del layer.weight
    layer._parameters["weight"] = weight
    return layer


def found_around(modules):
    """Return what surroundings tell of modules: names of what is watched, of what is replaced, and what is put back."""
    surroundings = Surroundings.of(reach(Blocks(modules)))
    names = surroundings.names()
    watched = {names[number]: id(tensor) for number, tensor in surroundings.numbered()}
    inside = {names[number]: id(tensor) for number, tensor in surroundings.inside()}
    before = [dict(vars(module)) for module in surroundings.modules]
    places = []
    for module in surroundings.modules:
        attributes = vars(module)
        for key in [key for key in attributes if type(attributes[key]) in (int, torch.Tensor)]:
            places.append((attributes, key))
        places += [(module._parameters, key) for key in [*module._parameters.keys()]][:1]
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in surroundings.modules)
    kept = [] if scripted else [(place, key, place[key]) for place, key in places]
    for place, key, value in kept:
        place[key] = (
            value + 1 if isinstance(value, int) else nn.Parameter(torch.zeros(1)) if value is not None else None
        )
    replaced = sorted(surroundings.replaced())
    with surroundings.replayed():
        again = sorted(surroundings.replaced())
    for place, key, value in kept:
        place[key] = value
    assert before == [dict(vars(module)) for module in surroundings.modules]
    return watched, inside, replaced, again, {id(module) for module in surroundings.modules}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", HOLDING)
def test_what_is_taken_note_of_together_is_what_a_look_at_each_module_tells(kind, monkeypatch):
    modules = [nn.Linear(2, 2), HOLDING[kind](), nn.Tanh(), HOLDING[kind]()]
    together = found_around(modules)
    monkeypatch.setattr(_AtCall, "take", lambda self, modules, name=None: [*modules])
    assert together == found_around(modules)


def test_of_what_a_module_keeps_in_a_list_nothing_is_kept_by_its_surroundings():
    """It may come to hold what came of the call, whose graph would keep itself alive."""
    layer = nn.Linear(2, 2)
    layer.kept, layer.called = [], torch.tanh
    before = sys.getrefcount(layer.kept)
    surroundings = Surroundings.of(reach(layer))
    after = sys.getrefcount(layer.kept)
    assert after == before
    assert surroundings.names() == ["weight", "bias"]
    layer.in_features = 3
    assert [*surroundings.replaced()] == ["in_features"]
