"""Every refusal says what to do, and that works: those refusals whose advice no other test follows."""

import copy
from dataclasses import dataclass

import optree
import pytest
import torch
from torch import nn

import membptt
from membptt import Prices, SlowTier, Stateful, scan

from .cells import plain as loop

D = torch.float64


def data():
    return torch.zeros(2, 4, dtype=D), torch.randn(6, 2, 4, dtype=D, generator=torch.Generator().manual_seed(0))


def gru():
    torch.manual_seed(0)
    return nn.GRUCell(4, 4).double()


def recurrence(cell):
    def step(h, x):
        h = cell(x, h)
        return h, h

    return step


def same(step, init, xs, leaves, **options):
    """Whether the scan leaves the gradients of a plain loop."""
    scanned = torch.autograd.grad(scan(step, init, xs, slots=3, **options)[1].square().sum(), leaves)
    looped = torch.autograd.grad(loop(step, init, xs)[1].square().sum(), leaves)
    return all(torch.allclose(*pair, rtol=1e-10, atol=1e-12) for pair in zip(scanned, looped, strict=True))


def test_a_number_in_the_carry_that_changes_is_wrapped():
    cell, (h0, xs) = gru(), data()

    def step(carry, x):
        h, gain = carry
        h = cell(gain * x, h)
        return (h, 0.9 * gain), h

    with pytest.raises(ValueError, match=r"0.45 in place of 0.5, carry\[1\]: .*wrap in torch.tensor what changes"):
        scan(step, (h0, 0.5), xs, slots=3, params=cell)
    assert same(step, (h0, torch.tensor(0.5)), xs, list(cell.parameters()), params=cell)


def test_the_class_of_a_leaf_is_registered():
    @dataclass
    class Data:
        h: torch.Tensor

    class Box:
        def __init__(self, h):
            self.h = h

    cell, (h0, xs) = gru(), data()
    ways = {Data: lambda: torch.export.register_dataclass(Data)}
    ways[Box] = lambda: optree.register_pytree_node(
        Box, lambda box: ((box.h,), None), lambda _, children: Box(*children), namespace="membptt"
    )
    for kind, register in ways.items():

        def step(carry, x, kind=kind):
            h = cell(x, carry.h)
            return kind(h), h

        says = rf"is a {kind.__name__};.*: register its class, (torch|optree)\..*\({kind.__name__}"
        with pytest.raises(TypeError, match=says):
            scan(step, kind(h0), xs, slots=3, params=cell)
        register()
        assert same(step, kind(h0), xs, list(cell.parameters()), params=cell)


def test_one_tensor_is_declared_in_a_list():
    (h0, xs), weight = data(), torch.ones(4, dtype=D, requires_grad=True)

    def step(h, x):
        h = torch.tanh(weight * h + x)
        return h, h

    with pytest.raises(TypeError, match=r"write params=\[tensor\]"):
        scan(step, h0, xs, slots=3, params=weight)
    assert same(step, h0, xs, [weight], params=[weight])


def test_a_generator_that_was_read_to_its_end_is_made_anew_or_replaced_by_its_module():
    cell, (h0, xs) = gru(), data()
    params = cell.parameters()
    scan(recurrence(cell), h0, xs, slots=3, params=params)
    with pytest.raises(ValueError, match=r"read to its end .*params=module, or make a new one.*params=module.param"):
        scan(recurrence(cell), h0, xs, slots=3, params=params)
    for anew in (cell, cell.parameters()):
        assert same(recurrence(cell), h0, xs, list(cell.parameters()), params=anew)


@pytest.mark.parametrize("named", ["state_dict", "named_parameters"])
def test_parameters_with_their_names_are_replaced_by_their_module(named):
    cell, (h0, xs) = gru(), data()
    with pytest.raises(TypeError, match=rf"takes tensors and modules: write params=module .*{named}"):
        scan(recurrence(cell), h0, xs, slots=3, params=getattr(cell, named)())
    assert same(recurrence(cell), h0, xs, list(cell.parameters()), params=cell)


def test_the_policy_auto_is_left_out_with_slots():
    cell, (h0, xs) = gru(), data()
    with pytest.raises(ValueError, match=r"'auto' chooses for a budget in bytes: .*leave it out with slots="):
        scan(recurrence(cell), h0, xs, slots=3, params=cell, policy="auto")
    assert same(recurrence(cell), h0, xs, list(cell.parameters()), params=cell)


@pytest.mark.parametrize("advice", ["inside the step", "in the carry"])
def test_what_was_computed_from_another_declared_tensor_is_computed_inside_or_handed_on(advice):
    (h0, xs), weight = data(), torch.rand(4, dtype=D, requires_grad=True)
    double = 2 * weight

    def outside(h, x):
        h = torch.tanh(weight * h + double * x)
        return h, h

    def inside(h, x):
        h = torch.tanh(weight * h + 2 * weight * x)
        return h, h

    def handed_on(carry, x):
        h, double = carry
        h = torch.tanh(weight * h + double * x)
        return (h, double), h

    with pytest.raises(ValueError, match="compute it inside the step, or hand it on in the carry"):
        scan(outside, h0, xs, slots=3, params=[weight, double])
    if advice == "inside the step":
        assert same(inside, h0, xs, [weight], params=[weight])
    else:
        carried = scan(handed_on, (h0, 2 * weight), xs, slots=3, params=[weight])[1]
        looped = loop(handed_on, (h0, 2 * weight), xs)[1]
        gradients = [torch.autograd.grad(ys.square().sum(), weight)[0] for ys in (carried, looped)]
        torch.testing.assert_close(*gradients)


def test_a_carry_changed_in_place_after_it_was_computed_is_made_anew():
    cell, (h0, xs) = gru(), data()

    def kept(h, x):
        with torch.no_grad():
            h.mul_(0.5)
        h = cell(x, h)
        return h, h

    def anew(h, x):
        h = cell(x, h + (0.5 * h - h).detach())
        return h, h

    with pytest.raises(RuntimeError, match="changed in place"):
        scan(kept, h0.clone(), xs, slots=3, params=cell)[1].sum().backward()
    assert same(anew, h0, xs, list(cell.parameters()), params=cell)


def test_outputs_that_are_whole_numbers_are_reduced_as_floating_ones():
    cell, (h0, xs) = gru(), data()

    def step(h, x):
        h = cell(x, h)
        return h, (h > 0).sum()

    with pytest.raises(TypeError, match="needs floating outputs"):
        scan(step, h0, xs, slots=3, params=cell, reduce="sum")
    _, total = scan(lambda h, x: (step(h, x)[0], step(h, x)[1].double()), h0, xs, slots=3, params=cell, reduce="sum")
    assert total == loop(step, h0, xs)[1].sum()


def test_a_cached_parametrization_is_left_off_around_the_scan():
    (h0, xs), layer = data(), nn.utils.parametrizations.orthogonal(nn.Linear(4, 4).double())

    def step(h, x):
        h = torch.tanh(layer(h) + x)
        return h, h

    with nn.utils.parametrize.cached(), pytest.raises(RuntimeError, match="leave the cache off around it"):
        scan(step, h0, xs, slots=3, params=layer)
    assert same(step, h0, xs, list(layer.parameters()), params=layer)


def test_the_state_of_a_module_that_was_not_seen_is_found_by_init():
    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.potential = nn.Linear(4, 4).double(), torch.zeros(2, 4, dtype=D)

        def forward(self, x):
            self.potential = 0.9 * self.potential + self.inner(x)
            return self.potential

    _, xs = data()
    carry, _ = scan(first := Stateful(Leaky()), first.init(), xs, slots=3)
    carry = optree.tree_map(torch.detach, carry)
    again, plain = Stateful(net := Leaky()), copy.deepcopy(net)
    with pytest.raises(RuntimeError, match=r"call init\(\) first"):
        scan(again, carry, xs, slots=3)
    again.init()
    scan(again, carry, xs, slots=3)[1].square().sum().backward()
    (plain.potential,) = optree.tree_leaves(carry)
    torch.stack([plain(x) for x in xs]).square().sum().backward()
    torch.testing.assert_close(net.inner.weight.grad, plain.inner.weight.grad)


def test_a_state_written_in_place_in_an_object_is_assigned_anew():
    class Box:
        pass

    class Net(nn.Module):
        def __init__(self, *, anew):
            super().__init__()
            torch.manual_seed(0)
            self.inner, self.box, self.anew = nn.Linear(4, 4).double(), Box(), anew
            self.box.memory = torch.zeros(2, 4, dtype=D)

        def forward(self, x):
            after = 0.9 * self.box.memory + self.inner(x)
            if self.anew:
                self.box.memory = after
            else:
                self.box.memory.copy_(after.detach())
            return after

    _, xs = data()
    net = Stateful(Net(anew=False))
    with pytest.raises(RuntimeError, match="let it assign a new tensor there"):
        scan(net, net.init(), xs, slots=3)[1].square().sum().backward()
    net = Stateful(Net(anew=True))
    scan(net, net.init(), xs, slots=3)[1].square().sum().backward()
    plain = Net(anew=True)
    torch.stack([plain(x) for x in xs]).square().sum().backward()
    scanned, looped = [[leaf.grad for leaf in each.parameters()] for each in (net, plain)]
    assert all(torch.allclose(*pair) for pair in zip(scanned, looped, strict=True))


def test_prices_of_a_slow_tier_go_with_slots():
    cell, (h0, xs) = gru(), data()
    tier = SlowTier(prices=Prices(1, 1, 1))
    with pytest.raises(ValueError, match="give prices with slots= only"):
        membptt.plan(recurrence(cell), h0, xs, budget="1MiB", params=cell, spill=tier)
    assert same(recurrence(cell), h0, xs, list(cell.parameters()), params=cell, spill=tier)


def test_a_block_that_needs_most_of_a_chain_is_cut_into_several():
    torch.manual_seed(0)
    layers, x = [layer for _ in range(6) for layer in (nn.Linear(32, 32), nn.Tanh())], torch.randn(64, 32)
    whole = [nn.Sequential(*layers)]
    least = membptt.plan_chain(layers, x).front[0].bytes
    with pytest.raises(ValueError, match="where a single block needs most of it, cut that block into several"):
        membptt.chain(whole, x, budget=least)
    membptt.chain(layers, x, budget=least).square().sum().backward()
    chained = [layer.weight.grad.clone() for layer in layers[::2]]
    for layer in layers[::2]:
        layer.weight.grad = None
    whole[0](x).square().sum().backward()
    assert all(
        torch.allclose(*pair) for pair in zip(chained, [layer.weight.grad for layer in layers[::2]], strict=True)
    )
