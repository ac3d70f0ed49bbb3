"""Blocks that are recorded and backpropagated one after the other share a graph, and nothing else changes by it."""

import weakref
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, profile

import membptt
from bench.deep import Residual
from bench.meter import bytes_beside
from membptt import ChainPlan, chain, plan_chain
from membptt.run import core as core_module
from membptt.run.course import Whole
from membptt.run.linked import keeps_everything, link
from membptt.run.progress import Follower
from membptt.torch_private import gradients as gradients_of
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    LoadInternal,
    Record,
    ReduceInternal,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.schedule import from_actions


def stream(*actions):
    return tuple((type(action), tuple(action)) for action in actions)


def everything(blocks):
    """Record and keep every block."""
    actions = [part for core in range(blocks - 1) for part in (Record(core), StoreInternal(core))]
    actions += [Record(blocks - 1), Backpropagate(blocks - 1)]
    for core in reversed(range(blocks - 1)):
        actions += [LoadInternal(core), Backpropagate(core)]
    return [*actions, DropHidden(0)]


def all_but_the_first(blocks):
    """Keep every block but the first, which is run once more."""
    kept = [part for core in range(1, blocks - 1) for part in (Record(core), StoreInternal(core))]
    actions = [Advance(0, 1), StoreHidden(1), *kept, Record(blocks - 1), Backpropagate(blocks - 1)]
    for core in reversed(range(1, blocks - 1)):
        actions += [LoadInternal(core), Backpropagate(core)]
    return [*actions, DropHidden(1), Restore(0), Record(0), Backpropagate(0), DropHidden(0)]


def scheduled(actions, blocks):
    return from_actions(actions, cores=blocks, sizes=Sizes(hidden=1, internal=1))


def layers(count=6, width=3):
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(count)]


def test_where_everything_is_kept_all_cores_are_one():
    assert link(stream(*everything(4))) == ((Record, (0, 4)), (Backpropagate, (0, 4)), (DropHidden, (0,)))


def test_cores_after_whose_backward_there_is_a_stop_begin_a_graph():
    linked = (
        (Record, (0, 2)),
        (StoreInternal, (1,)),
        (Record, (2, 4)),
        (Backpropagate, (2, 4)),
        (LoadInternal, (1,)),
        (Backpropagate, (0, 2)),
        (DropHidden, (0,)),
    )
    assert link(stream(*everything(4)), {2}) == linked


@pytest.mark.parametrize(
    "between",
    [
        [StoreHidden(1)],
        [StoreInternal(1), Restore(1), Record(1)],
        [StoreInternal(1), Advance(2, 3), Restore(1), DropInternal(1), Record(1)],
        [Advance(1, 2), Restore(1), Record(1)],
    ],
)
def test_cores_are_told_apart_where_the_state_between_them_is_used(between):
    actions = stream(
        Record(0), StoreInternal(0), Record(1), *between, Backpropagate(1), LoadInternal(0), Backpropagate(0)
    )
    assert link(actions) == actions


def test_an_internal_state_that_becomes_a_hidden_one_is_by_itself():
    actions = stream(
        Record(0), StoreInternal(0), Record(1), StoreInternal(1), Record(2), Backpropagate(2), ReduceInternal(1),
        Restore(1), Record(1), Backpropagate(1), LoadInternal(0), Backpropagate(0),
    )  # fmt: skip
    assert link(actions) == actions


def test_a_recording_that_was_given_up_links_nothing():
    """The second recording of core 1 is not the one that followed core 0."""
    actions = stream(
        Record(0), StoreInternal(0), Record(1), Advance(2, 3), Record(3), Backpropagate(3), Restore(1), Record(1),
        StoreInternal(1), Record(2), Backpropagate(2), LoadInternal(1), Backpropagate(1), LoadInternal(0),
        Backpropagate(0),
    )  # fmt: skip
    linked = link(actions)
    assert (Record, (1, 3)) in linked
    assert (Backpropagate, (0,)) in linked


@pytest.mark.parametrize(
    ("actions", "least"),
    [(everything, 0), (all_but_the_first, 3)],  # what is run once more, and a gradient where a graph ends
)
def test_gradients_of_linked_cores_are_added_up_in_place_as_in_the_loop(actions, least):
    blocks, x = [Residual(4) for _ in range(8)], torch.randn(3, 4, requires_grad=True)

    def new_sums(run):
        loss = run().square().sum()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            loss.backward()
        return Counter(event.name for event in seen.events())["aten::add"]

    assert new_sums(lambda: nn.Sequential(*blocks)(x)) == 0
    assert new_sums(lambda: chain(blocks, x, schedule=scheduled(actions(8), 8))) <= least


def test_of_linked_cores_autograd_is_asked_once(monkeypatch):
    """So that they cost what they cost in plain backpropagation."""
    blocks, x = layers(), torch.randn(2, 3)
    asked = []
    monkeypatch.setattr("membptt.run.adjoint.gradients", lambda *arguments: asked.append(1) or gradients_of(*arguments))
    chain(blocks, x, schedule=scheduled(all_but_the_first(6), 6)).sum().backward()
    assert len(asked) == 2
    linked = [weight.grad for block in blocks for weight in block.parameters()]
    for block in blocks:
        block.zero_grad()
    with membptt.meter():  # weighs each core by itself
        chain(blocks, x, schedule=scheduled(all_but_the_first(6), 6)).sum().backward()
    assert len(asked) == 2 + 6
    apart = [weight.grad for block in blocks for weight in block.parameters()]
    assert all(torch.equal(*pair) for pair in zip(linked, apart, strict=True))


def test_a_linked_core_that_is_another_when_it_is_recomputed_is_named():
    """The state after a linked pair differs from the one that the next core was recorded from."""

    def fickle(x):
        return x * (3 if torch.is_grad_enabled() else 2)

    blocks = [nn.Linear(3, 3), fickle, nn.Linear(3, 3)]
    actions = [
        Advance(0, 2), StoreHidden(2), Record(2), Backpropagate(2), DropHidden(2), Restore(0), Record(0),
        StoreInternal(0), Record(1), Backpropagate(1), LoadInternal(0), Backpropagate(0), DropHidden(0),
    ]  # fmt: skip
    x = torch.randn(2, 3)
    chain([nn.Linear(3, 3), torch.tanh, nn.Linear(3, 3)], x, schedule=scheduled(actions, 3)).sum().backward()
    chain(blocks, x, schedule=scheduled(all_but_the_first(3), 3)).sum().backward()  # later, no advance has a graph
    y = chain(blocks, x, schedule=scheduled(actions, 3))
    with pytest.raises(RuntimeError, match=r"recomputing core 1 .*something else with graph than without"):
        y.sum().backward()


def test_a_frozen_block_that_uses_a_later_parameter_is_refused_in_a_linked_core():
    later = nn.Linear(3, 3)
    sneaky = nn.Module()
    sneaky.forward = lambda x: x * hidden[0].weight.sum()
    hidden = [later]
    blocks = [nn.Tanh(), sneaky, nn.Tanh(), later]
    with pytest.raises(RuntimeError, match="its gradient would be lost"):
        chain(blocks, torch.randn(2, 3), schedule=scheduled(all_but_the_first(4), 4))


def test_a_state_that_a_block_detaches_ends_the_gradient_there():
    blocks = [nn.Tanh(), nn.Linear(3, 3), lambda x: x.detach(), nn.Linear(3, 3)]
    for kept in (everything, all_but_the_first):
        chain(blocks, torch.randn(2, 3), schedule=scheduled(kept(4), 4)).sum().backward()
        assert blocks[1].weight.grad is None
        assert blocks[3].weight.grad is not None
        blocks[3].weight.grad = None


def test_a_shared_weight_gets_all_its_gradients_of_a_linked_core():
    layer = nn.Linear(40, 40)
    x = torch.randn(2, 40, requires_grad=True)
    chain(
        [torch.tanh, layer, torch.tanh, layer, layer], x, schedule=scheduled(all_but_the_first(5), 5)
    ).sum().backward()
    linked, layer.weight.grad = layer.weight.grad, None
    layer(layer(torch.tanh(layer(torch.tanh(x))))).sum().backward()
    assert torch.allclose(linked, layer.weight.grad)


def test_progress_counts_every_core_of_a_linked_one():
    """In the bar that shows after some seconds; where a caller asks for progress, every core is told of by itself."""
    told = []
    follower = Follower(lambda *numbers: told.append(numbers), Whole(4, lambda: iter(())))
    for instruction in link(stream(*everything(4))):
        follower.after(instruction)
    assert told == [(4, 8), (8, 8)]
    told.clear()
    told_of = lambda *numbers: told.append(numbers)  # noqa: E731
    chain(layers(4), torch.randn(2, 3), schedule=scheduled(everything(4), 4), progress=told_of).sum().backward()
    assert told == [(done, 8) for done in range(1, 9)]


def test_lists_of_linked_instructions_are_few(monkeypatch):
    from membptt.run import linked

    monkeypatch.setattr(linked, "_known", {})
    monkeypatch.setattr(linked, "_KEPT", 2)
    for count in (2, 3, 4):
        list(linked.linked(scheduled(everything(count), count), frozenset()))
    assert len(linked._known) == 2
    monkeypatch.setattr(linked, "LONGEST", 5)
    assert list(linked.linked(scheduled(everything(6), 6), frozenset())) == list(stream(*everything(6)))


def test_a_gradient_is_free_as_soon_as_it_was_used():
    """As in the plain loop; a plan counts on it."""
    torch.manual_seed(0)
    blocks = [*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(4)), lambda y: y.square().mean()]
    x, weights = torch.randn(256, 64), [weight for block in blocks[:4] for weight in block.parameters()]
    plan = plan_chain(blocks, x)
    for point in plan.front:
        chosen = plan.within(point.bytes)
        for apart in (membptt.meter(), nullcontext()):
            for weight in weights:
                weight.grad = None
            with apart:
                peak = bytes_beside(lambda: chain(blocks, x, plan=chosen).backward(), (x, *weights), weights)  # noqa: B023
            assert 0.97 * point.bytes <= peak <= point.bytes
    for weight in weights:
        weight.grad = None
    assert peak <= 1.01 * bytes_beside(lambda: plain(blocks, x).backward(), (x, *weights), weights)


def test_the_last_of_linked_cores_is_held_as_long_as_planned_and_no_longer():
    """What it was given and what it gave is there until it has gone backward."""
    alive, given = [], []

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            inner = self.inner(x)
            y = x + inner.tanh()
            if y.requires_grad:
                given.append(weakref.ref(y))
                inner.register_hook(lambda _: alive.append(given[-1]() is not None))
            return y

    blocks = [nn.Linear(3, 3), Looks(), Looks(), lambda x: x + 1]
    actions = [
        Advance(0, 1), StoreHidden(1), Record(1), StoreInternal(1), Record(2), StoreInternal(2), Advance(3, 4),
        Restore(3), Record(3), Backpropagate(3), LoadInternal(2), Backpropagate(2), LoadInternal(1), Backpropagate(1),
        DropHidden(1), Restore(0), Record(0), Backpropagate(0), DropHidden(0),
    ]  # fmt: skip
    chain(blocks, torch.randn(2, 3), schedule=scheduled(actions, 4)).sum().backward()
    assert alive == [True, False]  # the second one goes backward, the first one


def test_the_gradient_of_the_output_stays_where_autograd_keeps_it():
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(4)]
    x, weights = torch.randn(256, 64), [weight for block in blocks for weight in block.parameters()]
    plan = plan_chain(blocks, x)
    for point in plan.front:
        for weight in weights:
            weight.grad = None
        chosen = plan.within(point.bytes)

        def run():
            y = chain(blocks, x, plan=chosen)  # noqa: B023
            y.backward(torch.ones_like(y))

        peak = bytes_beside(run, (x, *weights), weights)
        assert peak <= point.bytes
        assert peak >= 0.97 * point.bytes or point == plan.front[-1]  # the plain loop


def plain(blocks, x):
    for block in blocks:
        x = block(x)
    return x


def test_equal_states_have_one_form():
    blocks, x = layers(5), torch.randn(2, 3)
    forms = []
    original = core_module.Core._link

    def noted(self, *arguments):
        result = original(self, *arguments)
        forms.append(self.forms)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core_module.Core, "_link", noted)
        chain(blocks, x, schedule=scheduled(all_but_the_first(5), 5))
    assert len({id(forms[0].at(position)) for position in range(1, 6)}) == 1


# --- plain backpropagation


def test_a_schedule_that_keeps_everything_is_the_plain_loop(monkeypatch):
    blocks, x = layers(), torch.randn(2, 3)
    asked = []
    monkeypatch.setattr("membptt.run.adjoint.gradients", lambda *arguments: asked.append(1))
    y = chain(blocks, x, schedule=scheduled(everything(6), 6))
    weights = [weight for block in blocks for weight in block.parameters()]
    some, others = (torch.autograd.grad(each.sum(), weights, create_graph=True) for each in (y, plain(blocks, x)))
    assert all(torch.equal(*pair) for pair in zip(some, others, strict=True))
    assert not asked
    first = chain(blocks[:1], x, schedule=scheduled([Record(0), Backpropagate(0), DropHidden(0)], 1))
    assert torch.equal(first, blocks[0](x))
    assert keeps_everything(scheduled(everything(6), 6))
    assert not keeps_everything(scheduled(all_but_the_first(6), 6))


def test_what_the_plain_loop_returns_may_be_written_to():
    blocks, x = [nn.Linear(3, 3), torch.exp], torch.randn(2, 3)
    y = chain(blocks, x, schedule=scheduled(everything(2), 2))
    y.mul_(2)
    y.sum().backward()
    linked, blocks[0].weight.grad = blocks[0].weight.grad, None
    (2 * plain(blocks, x)).sum().backward()
    assert torch.equal(linked, blocks[0].weight.grad)


def test_the_plain_loop_refuses_a_block_that_changes_its_input_in_place():
    with pytest.raises(RuntimeError, match=r"blocks\[1\] \(ReLU\) changes in place"):
        chain([nn.Linear(3, 3), nn.ReLU(inplace=True)], torch.randn(2, 3), schedule=scheduled(everything(2), 2))


# --- what a plan saw need not be looked at again


def join(states):
    return torch.cat(states, 1)


VIEWS = [nn.Linear(4, 4), lambda x: (x.sin(), x.cos()), join, torch.tanh, lambda x: x[:1], torch.exp, torch.sum]


def held_beside(blocks, run):
    """Return the most bytes that any state, or its gradient, keeps alive beside its own."""
    held = []

    def looking(block):
        def look(state):
            for leaf in state if isinstance(state, tuple) else (state,):
                held.append(leaf.untyped_storage().nbytes() - leaf.nbytes)
                if leaf.requires_grad:
                    leaf.register_hook(lambda grad: held.append(grad.untyped_storage().nbytes() - grad.nbytes))
            return block(state)

        return look

    run([looking(block) for block in blocks]).backward()
    return max(held)


@pytest.mark.parametrize("kept", [everything, all_but_the_first])
@pytest.mark.parametrize("planned", [True, False])
def test_what_a_state_was_cut_from_is_gone_when_the_next_block_runs(kept, planned, monkeypatch):
    wholes, gone = [], []

    def cut(x):
        whole = x.repeat(4, 1)
        wholes.append(StorageWeakRef(whole.untyped_storage()))
        return whole[:1]

    def look(x):
        gone.append(wholes[-1].expired())
        return x + 1

    blocks, x = [nn.Linear(3, 3), cut, look, torch.sum], torch.randn(2, 3)
    schedule = scheduled(kept(4), 4)
    choice = {"plan": plan_chain(blocks, x, budget="1MiB")} if planned else {"schedule": schedule}
    monkeypatch.setattr(ChainPlan, "schedule", lambda _: schedule)
    gone.clear()
    chain(blocks, x, **choice).backward()
    assert gone == [True]


def test_a_plan_tells_where_a_state_or_its_gradient_is_a_view():
    assert plan_chain(VIEWS, torch.randn(3, 4)).views() == (2, 3, 4, 5)
    assert plan_chain([*layers(), torch.sum], torch.randn(2, 3)).views() == ()
    assert plan_chain([lambda x: x.t(), torch.tanh, lambda x: x.flatten(), torch.sum], torch.randn(2, 3)).views() == ()


@pytest.mark.parametrize("kept", [everything, all_but_the_first])
def test_states_and_gradients_hold_nobody_elses_bytes_where_a_plan_tells_which_may(kept, monkeypatch):
    x, blocks = torch.randn(3, 4, requires_grad=True), VIEWS[1:]
    plan = plan_chain(blocks, x, budget="1MiB")
    monkeypatch.setattr(ChainPlan, "schedule", lambda _: scheduled(kept(6), 6))

    def run(blocks):
        return chain(blocks, x, plan=plan)

    assert held_beside(blocks, run) == 0
    monkeypatch.setattr(ChainPlan, "views", lambda _: ())
    assert held_beside(blocks, run) > 0


@pytest.mark.parametrize("kept", [everything, all_but_the_first])
def test_where_a_plan_saw_no_view_no_gradient_is_looked_at(kept, monkeypatch):
    blocks, x = [*layers(5), torch.sum], torch.randn(2, 3)
    plan = plan_chain(blocks, x, budget="1MiB")
    monkeypatch.setattr(ChainPlan, "schedule", lambda _: scheduled(kept(6), 6))
    looked = []
    for where in ("membptt.run.core", "membptt.calls.chain"):
        monkeypatch.setattr(f"{where}.compact_gradients", looked.append)
    chain(blocks, x, plan=plan).backward()
    assert not looked
    chain(blocks, x, schedule=scheduled(kept(6), 6)).backward()
    assert looked


@pytest.mark.parametrize("number", [0, 1])
def test_a_block_that_begins_to_write_in_place_where_it_has_a_graph_is_right_or_refused(number):
    """What changed nothing in place in the first pass is not watched again: its graph is, as in the loop."""
    begun = False

    def sneaky(x):
        return x.mul_(2) if torch.is_grad_enabled() and begun else x * 2

    actions = [
        Advance(0, 2), StoreHidden(2), Record(2), Backpropagate(2), DropHidden(2), Restore(0), Record(0),
        StoreInternal(0), Record(1), Backpropagate(1), LoadInternal(0), Backpropagate(0), DropHidden(0),
    ]  # fmt: skip
    for other, right in (
        (torch.sin, number == 1),
        (torch.exp, False),
    ):  # whose backward reads what it was given, or gave
        blocks, x = [other, other, other], torch.randn(2, 3, requires_grad=True)
        blocks[number] = sneaky
        begun = False
        chain(blocks, x, schedule=scheduled(actions, 3)).sum().backward()
        expected, x.grad, begun = x.grad, None, True
        with nullcontext() if right else pytest.raises(RuntimeError, match=r"in-?place"):
            chain(blocks, x, schedule=scheduled(actions, 3)).sum().backward()
        assert torch.equal(x.grad, expected) if right else x.grad is None


def test_states_and_gradients_of_the_plain_loop_hold_nobody_elses_bytes():
    held = []

    class Looks(nn.Module):
        def forward(self, x):
            held.append(x.untyped_storage().nbytes() - x.nbytes)
            x.register_hook(lambda gradient: held.append(gradient.untyped_storage().nbytes() - gradient.nbytes))
            return x + 1

    blocks = [nn.Linear(3, 3), lambda x: x[:1], Looks(), lambda x: torch.cat([x, x], 1), nn.Tanh()]
    chain(blocks, torch.randn(2, 3), schedule=scheduled(everything(5), 5)).sum().backward()
    assert held == [0, 0]
