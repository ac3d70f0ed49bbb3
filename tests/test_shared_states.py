"""Chains whose states share tensors: an open skip is planned, and kept, once; the peak is what is predicted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.deep import unet
from bench.meter import bytes_beside
from membptt import ChainPlan, PlanError, chain, meter, plan_chain
from membptt.planning.shared import Shared, pattern
from membptt_theory.actions import Skip


class First(nn.Module):
    """Applies a module to the first tensor of a state, and hands the others on."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, state):
        x, *others = state
        return (self.inner(x), *others)


def linear(outputs=64):
    return nn.Linear(64, outputs)


def first_half(x):
    return torch.relu(x)[:, :64]


def twice(x):
    return (x, x)


def added(state):
    return state[0] + state[1]


def shifted(state):
    return (state[1], state[0].tanh() + state[1])


def swapped(state):
    return (state[1], state[0])


def with_its_mean(x):
    return (x, x.mean(0, keepdim=True).expand(128, 64))


def loss(y):
    return y.square().mean()


def rows():
    return torch.randn(128, 64)


# Blocks, and what they are given.
CHAINS = {
    "a residual connection": lambda: ([linear(), twice, First(linear()), First(nn.Tanh()), added, linear()], rows()),
    "the input rides along": lambda: ([twice, First(linear()), First(nn.Tanh()), added, linear(), nn.Tanh()], rows()),
    "a part of more is given": lambda: ([twice, First(linear()), First(nn.Tanh()), added], torch.randn(999, 64)[5:133]),
    "views": lambda: ([linear(), nn.Unflatten(1, (8, 8)), nn.Tanh(), nn.Flatten(), nn.Identity(), linear()], rows()),
    "parts of more": lambda: ([linear(128), first_half, linear(128), first_half, linear()], rows()),
    "two states are handed on": lambda: ([linear(), lambda x: (x, x.sin()), *[shifted] * 6, added], rows()),
    "an order that changes": lambda: (
        [linear(), lambda x: (x, x.tanh()), swapped, First(linear()), swapped, added],
        rows(),
    ),
    "an expanded one": lambda: ([linear(), with_its_mean, First(linear()), First(nn.Tanh()), added], rows()),
    "a U-Net of four levels": lambda: (unet(4, width=4), torch.randn(2, 3, 32, 32)),
}


# Two tensors have one gradient between them, which is counted as two behind a block that hands both on.
NEAR = {"an order that changes": 0.83}


def tensors_of(blocks, x):
    modules = [block for block in blocks if isinstance(block, nn.Module)]
    weights = [weight for module in modules for weight in module.parameters()]
    return weights, [x, *weights, *(buffer for module in modules for buffer in module.buffers())]


@pytest.mark.parametrize("name", CHAINS)
def test_the_peak_is_what_is_predicted_at_every_point_of_the_front(name):
    torch.manual_seed(0)
    blocks, x = CHAINS[name]()
    blocks = [*blocks, loss]
    weights, outside = tensors_of(blocks, x)
    plan = plan_chain(blocks, x)

    def train(budget):
        for weight in weights:
            weight.grad = None
        chain(blocks, x, plan=plan.within(budget)).backward()

    train(plan.front[0].bytes)  # fills the caches of fingerprints
    for point in plan.front:
        with meter():  # each block by itself, as the plan has it
            peak = bytes_beside(lambda: train(point.bytes), outside, weights)  # noqa: B023
        assert NEAR.get(name, 0.97) * point.bytes <= peak <= point.bytes
        assert bytes_beside(lambda: train(point.bytes), outside, weights) <= peak  # noqa: B023


def test_the_skips_of_a_u_net_are_the_plan_s():
    x = torch.randn(2, 3, 16, 16)
    plan = plan_chain([*unet(2, width=4), loss], x)
    assert plan.skips == (Skip(3, 4, 2 * 8 * 8 * 8 * 4), Skip(2, 5, 2 * 4 * 16 * 16 * 4))
    assert "2 tensors handed on as they are" in repr(plan)
    counted = replace(plan, skips=())
    assert counted.front[0].bytes >= plan.front[0].bytes
    assert counted.front[-1].bytes > plan.front[-1].bytes


def test_a_plan_with_skips_is_saved_and_loaded_and_its_file_is_checked(tmp_path, capsys):
    plan = plan_chain([*unet(2, width=4), loss], torch.randn(2, 3, 16, 16))
    chosen, path = plan.within(plan.front[0].bytes), tmp_path / "plan.json"
    chosen.save(path)
    loaded = ChainPlan.load(path)
    assert loaded == chosen
    assert loaded.front == chosen.front
    loaded.explain()
    assert "2 tensors handed on" in " ".join(capsys.readouterr().out.split())
    stored = json.loads(path.read_text())
    for skips in ([{"first": 3, "last": 2, "bytes": 1}], [{"first": 2, "last": 99, "bytes": 1}], [{"first": 2}], 3):
        path.write_text(json.dumps({**stored, "skips": skips}))
        with pytest.raises(PlanError):
            ChainPlan.load(path)


def test_a_tensor_that_two_leaves_hold_has_two_gradients_until_they_are_added():
    size = 128 * 64 * 4
    plan = plan_chain([linear(), twice, First(linear()), added, loss], rows())
    kinds = [plan.kinds[kind] for kind in plan.order]
    assert [kind.output for kind in kinds[:4]] == [size, size, 2 * size, size]
    assert [kind.gradient for kind in kinds[:4]] == [size, 2 * size, size, size]  # of a sum, both are the same


def test_what_shares_a_storage_is_followed_from_state_to_state():
    x, weight, a, b = torch.ones(4), torch.ones(4), torch.ones(2), torch.ones(8)
    shared = Shared([x, weight])
    states = [(a, x), (b, a.view(2, 1), weight), (a, b[:2]), (torch.ones(3),)]
    assert [shared.follow(shared.sizes(state, state)) for state in states] == [(0, 8), (8, 32), (40, 0), (0, 12)]
    assert shared.skips() == (Skip(1, 3, 8), Skip(2, 3, 32))
    assert pattern((a, weight, b, a[:1])) == (0, 1, 2, 0)


def test_a_leaf_that_is_copied_where_it_is_stored_counts_as_what_it_is_a_part_of():
    whole = torch.ones(8)
    shared, part = Shared([]), whole[:2]
    assert list(shared.sizes((part,), (part.clone(),)).values()) == [32]


def test_many_equal_blocks_stay_equal_where_the_last_hands_on_what_nobody_uses():
    blocks = [*(First(nn.Linear(4, 4)) for _ in range(150)), lambda state: loss(state[0])]
    plan = plan_chain(blocks, (torch.randn(3, 4), torch.randn(3, 4)))
    assert plan.order == (*(0,) * 150, 1)
    assert plan.kinds[0].gradient == 2 * 3 * 4 * 4
