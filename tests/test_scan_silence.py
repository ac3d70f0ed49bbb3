"""Nothing silent: whatever would lose or double a gradient is refused, at whichever step, under whichever name."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import scan
from membptt.run.witness import Witness
from membptt.step.changes import Unchanged
from membptt.step.reach import reach
from membptt.step.undeclared import Graph, Undeclared

from .strategies import POLICIES, policies, policy_id

ONE, XS = torch.ones((), requires_grad=True), torch.linspace(0.1, 1, 8)


def captured_at(position, weight):
    """A step that captures `weight` at one position only; the carry counts."""

    def step(carry, x):
        h, count = carry
        return (h * weight if int(count) == position else torch.sin(h * x), count + 1), h

    return step


def differentiate(step, **options):
    (h, _), ys = scan(step, (ONE, torch.zeros((), dtype=torch.int64)), XS, **options)
    torch.autograd.grad(h + ys.sum(), ONE)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_tensor_captured_at_any_one_step_is_named_exhaustive(policy, sizes, chunk):
    weight = torch.tensor(0.5, requires_grad=True)
    for position in range(8):
        step = captured_at(position, weight)
        with pytest.raises(ValueError, match="the tensor 'weight'"):
            differentiate(step, slots=3, policy=policy, chunk=chunk, **sizes)
        differentiate(step, slots=3, policy=policy, chunk=chunk, params=[weight], **sizes)


@given(policies(), st.integers(0, 7), st.integers(1, 9), st.integers(1, 4))
def test_a_tensor_captured_at_any_one_step_is_named_hypothesis(which, position, slots, chunk):
    policy, sizes = which
    weight = torch.tensor(0.5, requires_grad=True)
    with pytest.raises(ValueError, match="the tensor 'weight'"):
        differentiate(captured_at(position, weight), slots=slots, policy=policy, chunk=chunk, **sizes)


def test_a_search_of_the_first_recorded_core_only_is_caught(monkeypatch):
    refuse, calls = Undeclared.refuse, []
    nothing = Graph([], [], [], [], {}, (), [])
    monkeypatch.setattr(Undeclared, "refuse", lambda *call: nothing if calls else calls.append(1) or refuse(*call))
    step = captured_at(2, torch.tensor(0.5, requires_grad=True))
    differentiate(step, slots=3)  # undeclared at a later core, and nothing is said
    assert calls
    monkeypatch.undo()
    with pytest.raises(ValueError, match="the tensor 'weight'"):
        differentiate(step, slots=3)


W = torch.tensor(0.5, requires_grad=True)
FIRST, SECOND = torch.ones(2, requires_grad=True).unbind(0)
WEIGHTS = [W]


def test_an_undeclared_tensor_handed_out_as_it_is_is_named():
    with pytest.raises(ValueError, match="the tensor 'W'"):
        scan(lambda carry, x: (carry * x, W), ONE, XS, slots=2)
    _, ys = scan(lambda carry, x: (carry * x, W), ONE, XS, slots=2, params=[W])
    assert torch.autograd.grad(ys.sum(), W)[0].item() == 8


def test_of_tensors_that_one_operation_made_each_is_to_be_declared():
    with pytest.raises(ValueError, match="not declared"):
        scan(lambda carry, x: (carry * FIRST * SECOND, x), ONE, XS, slots=2, params=[FIRST])
    scan(lambda carry, x: (carry * FIRST * SECOND, x), ONE, XS, slots=2, params=[FIRST, SECOND])


@pytest.mark.parametrize("step", [lambda c, x: (c * W, x), lambda c, x: (c, W * x), lambda c, x: (c, W)])
def test_where_nothing_declared_wants_a_gradient_an_undeclared_tensor_is_named(step):
    with pytest.raises(ValueError, match="the tensor 'W'"):
        scan(step, torch.ones(()), XS, slots=2)
    with torch.no_grad():
        assert not scan(step, torch.ones(()), XS, slots=2)[0].requires_grad


def test_an_undeclared_tensor_inside_a_nested_scan_is_named():
    def outer(carry, x):
        return scan(lambda c, z: (torch.sin(c * W + z), z), carry, XS, slots=2, params=[W])[0], x

    with pytest.raises(ValueError, match="the tensor 'W'"):
        scan(outer, ONE, XS, slots=2)
    torch.autograd.grad(scan(outer, ONE, XS, slots=2, params=[W])[0], [ONE, W])


def test_the_inputs_captured_as_a_whole_are_named():
    xs = XS.clone().requires_grad_()
    with pytest.raises(ValueError, match="the tensor 'xs'"):
        scan(lambda carry, x: (carry * x + xs.sum(), x), ONE, xs, slots=2)


class Doubling(nn.Module):
    """Computes a weight from another one when it is made."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.twice = self.weight * 2

    def forward(self, carry, x):
        return torch.sin(carry * self.twice * x), x


def by_captured_product():
    product = W * W
    return lambda carry, x: (torch.sin(carry * product * x), x)


@pytest.mark.parametrize(("make", "name"), [(by_captured_product, "'product'"), (Doubling, "'twice'")])
@pytest.mark.parametrize("budget", [{"slots": 2}, {"budget": "1MiB"}])
def test_what_was_computed_from_a_parameter_outside_the_step_is_named(make, name, budget):
    with pytest.raises(RuntimeError, match=f"uses {name}, which was computed outside the step"):
        torch.autograd.grad(scan(make(), ONE, XS, params=[W], **budget)[0], ONE)


@pytest.mark.parametrize("between", [lambda w: w + 1, lambda w: (w * w).sin(), lambda w: w.expand(2).unbind()[1]])
def test_a_declared_tensor_that_was_computed_from_another_is_refused(between):
    """Its gradient would reach the other twice: in every core's backward, and in the caller's own graph."""
    built = between(W)
    with pytest.raises(ValueError, match="computed from another declared one"):
        scan(lambda carry, x: (torch.sin(carry * built * x), W), ONE, XS, slots=2, params=[W, built])


def test_declared_tensors_of_one_origin_are_independent():
    first, second = torch.stack([W, 2 * W]).unbind()
    other = second + 1
    final, _ = scan(lambda carry, x: (torch.sin(carry * first * x) + other, x), ONE, XS, slots=2, params=[first, other])
    carry = ONE
    for x in XS:
        carry = torch.sin(carry * first * x) + other
    assert torch.allclose(*(torch.autograd.grad(value, W, retain_graph=True)[0] for value in (final, carry)))


def writing(carry, x):
    x.mul_(2)
    return torch.sin(carry * x), None


def test_inputs_that_the_step_writes_to_are_refused():
    with pytest.raises(RuntimeError, match=r"leaf 0 of xs.* was changed in place"):
        scan(writing, ONE, XS.clone(), slots=2)


def test_a_parameter_that_the_step_writes_to_is_refused():
    cell = nn.Linear(1, 1)

    def step(carry, x):
        with torch.no_grad():
            cell.bias.mul_(0.9)
        return torch.tanh(cell(carry) + x), None

    with pytest.raises(RuntimeError, match=r"parameter 1.* was changed in place"):
        scan(step, torch.ones(1), XS, slots=2, params=cell.parameters())


def test_a_write_that_nobody_watches_is_caught(monkeypatch):
    """Without the check the gradient would be that of other inputs."""

    def gradient(step):
        return torch.autograd.grad(scan(step, ONE, XS.clone(), slots=2, check=False)[0], ONE)[0]

    monkeypatch.setattr(Unchanged, "check", lambda self, used=None: None)
    assert not torch.allclose(gradient(writing), gradient(lambda carry, x: (torch.sin(carry * 2 * x), None)))


NORM = nn.BatchNorm1d(3)
RUNNING = torch.zeros(3)


def helper(h):
    return NORM(h)


class Holder:
    """Not a module, and holds one."""

    def __init__(self):
        self.layers = [nn.Identity(), nn.BatchNorm1d(3)]

    def step(self, carry, x):
        return self.layers[1](carry + x), x

    def __call__(self, carry, x):
        return self.step(carry, x)


def by_closure():
    norm = nn.BatchNorm1d(3)
    return lambda carry, x: (norm(carry + x), x)


def by_closed_tensor():
    count = torch.zeros(3)

    def step(carry, x):
        count.add_(1)
        return carry + count, x

    return step


def by_rebinding():
    state = torch.zeros(3)

    def step(carry, x):
        nonlocal state
        state = state + x
        return carry + state, x

    return step


def by_closed_object():
    holder = Holder()
    return lambda carry, x: (holder.step(carry, x)[0], x)


class Slotted:
    """Keeps a tensor outside any dict."""

    __slots__ = ("count",)

    def __init__(self):
        self.count = torch.zeros(3)


def by_attribute_of(owner):
    owner.count = torch.zeros(3)

    def step(carry, x):
        owner.count.add_(1)
        return carry + owner.count, x

    return step


def by_default(*, keyword):
    def positional(carry, x, count=torch.zeros(3)):  # noqa: B008
        count.add_(1)
        return carry + count, x

    def named(carry, x, *, count=torch.zeros(3)):  # noqa: B008
        return positional(carry, x, count)

    return named if keyword else positional


def by_either_of_two_named_alike(*, updated):
    mine, others = torch.zeros(3), torch.zeros(3)

    def helper_of(count):
        return lambda carry: carry + (count.add_(1) if updated == "helper" else count)

    def step_of(count, helper):
        return lambda carry, x: (helper(carry) + (count.add_(1) if updated == "step" else count), x)

    return step_of(mine, helper_of(others))


def with_argument(norm, carry, x):
    return norm(carry + x), x


class Unset(nn.Module):
    """Has no state, or a number, until its first call."""

    def __init__(self, start):
        super().__init__()
        self.potential = start

    def forward(self, carry, x):
        self.potential = x if self.potential is None else self.potential + x
        return carry + self.potential, x


HIDING = {
    "closure": (by_closure, r"'norm\.running_mean'"),
    "global": (lambda: lambda carry, x: (NORM(carry + x), x), r"'NORM\.running_mean'"),
    "helper": (lambda: lambda carry, x: (helper(carry + x), x), r"'NORM\.running_mean'"),
    "partial": (lambda: partial(with_argument, nn.BatchNorm1d(3)), r"'argument\[0\]\.running_mean'"),
    "method": (lambda: Holder().step, r"'layers\[1\]\.running_mean'"),
    "callable": (Holder, r"'layers\[1\]\.running_mean'"),
    "closed object": (by_closed_object, r"'holder\.layers\[1\]\.running_mean'"),
    "closed object's tensor": (lambda: by_attribute_of(Holder()), r"'owner\.count'"),
    "slot": (lambda: by_attribute_of(Slotted()), r"'owner\.count'"),
    "default": (lambda: by_default(keyword=False), "'count'"),
    "keyword's default": (lambda: by_default(keyword=True), "'count'"),
    "step's of two named alike": (lambda: by_either_of_two_named_alike(updated="step"), "'count'"),
    "helper's of two named alike": (lambda: by_either_of_two_named_alike(updated="helper"), "'count'"),
    "closed tensor": (by_closed_tensor, "'count'"),
    "rebinding": (by_rebinding, "'state'"),
    "nothing at first": (lambda: Unset(None), "'potential'"),
    "a number at first": (lambda: Unset(0.0), "'potential'"),
}


REPLACED = {"rebinding", "nothing at first", "a number at first"}  # noticed where a recomputation starts elsewhere


@pytest.mark.parametrize("where", HIDING)
def test_state_outside_the_carry_is_refused_wherever_the_step_hides_it(where):
    make, says = HIDING[where]
    step = make()
    params = [weight for _, value in reach(step).named if isinstance(value, nn.Module) for weight in value.parameters()]
    call = partial(scan, step, torch.ones(2, 3, requires_grad=True), torch.randn(5, 2, 3), slots=2, params=params)
    if where in REPLACED:
        final, _ = call()
        call = final.sum().backward
    with pytest.raises(RuntimeError, match=says):
        call()


def test_a_step_that_only_reads_what_it_names_is_accepted():
    norm, scale, seen = nn.BatchNorm1d(3).eval(), torch.ones(3), [torch.zeros(3)]

    def step(carry, x):
        seen.append(x)
        return norm(carry + x * scale), x

    scan(step, torch.ones(2, 3, requires_grad=True), torch.randn(5, 2, 3), slots=2, params=norm.parameters())


class DistributedDataParallel(nn.Module):
    """Of the refused wrapper's name."""


class Named:
    """Has attributes that are called as globals are."""

    def __init__(self):
        self.wrapped = self.counted = torch.ones(3)


wrapped, counted = DistributedDataParallel(), torch.zeros(3)


def test_a_global_is_not_taken_for_an_attribute_of_its_name():
    named = Named()

    def step(carry, x):
        globals()["coun" + "ted"] = x  # which no code of the step's names
        return carry * named.wrapped + named.counted, x

    scan(step, torch.ones(2, 3, requires_grad=True), torch.randn(5, 2, 3), slots=2)


def drawing(generator, *, output):
    def step(carry, x):
        noise = torch.rand((), generator=generator)
        return torch.sin(carry * x) + (0 if output else noise), x + noise

    return step


@pytest.mark.parametrize("what", ["state", "output"])
@pytest.mark.parametrize("chunk", [1, 2])
def test_states_and_outputs_that_differ_are_noticed_when_asked_for(what, chunk):
    step = drawing(torch.Generator(), output=what == "output")
    with pytest.raises(RuntimeError, match=f"gave another {what}"):
        scan(step, ONE, XS, slots=2, check=True, chunk=chunk)[1].sum().backward()


def test_a_witness_tells_shapes_and_equal_numbers_of_other_bits_apart():
    witness = Witness()
    witness.see(0, None, torch.zeros(2, 3), None)
    witness.see(1, None, torch.tensor(float("nan")), None)
    witness.see(1, None, torch.tensor(float("nan")), None)
    with pytest.raises(RuntimeError, match="another state"):
        witness.see(0, None, torch.zeros(3, 2), None)
    witness.see(2, None, torch.zeros(()), None)
    with pytest.raises(RuntimeError, match="another state"):
        witness.see(2, None, -torch.zeros(()), None)


def test_a_witness_asks_whether_other_bits_with_graph_are_rounding_and_compares_each_way_with_itself():
    witness, asked = Witness(), []

    def see(value, *, graph, rounds=False, given=0.0):
        answer = lambda: asked.append(value) or rounds  # noqa: E731
        witness.see(0, torch.tensor(given), torch.tensor(value), None, graph=graph, rounds=answer)

    see(1.0, graph=False)
    see(1.0, graph=True)
    assert asked == []
    see(2.0, graph=False, given=3.0)  # another state to begin with
    see(2.5, graph=True, given=3.0, rounds=True)
    see(2.5, graph=True, given=3.0)
    assert asked == [2.5]
    for value, graph in ((2.5, False), (2.0, True)):
        with pytest.raises(RuntimeError, match="another state"):
            see(value, graph=graph, given=3.0, rounds=True)
    witness = Witness()
    see(1.0, graph=False)
    with pytest.raises(RuntimeError, match="another state"):
        see(2.0, graph=True)
