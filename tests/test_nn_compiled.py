"""`membptt.nn` with compiled cores equals `torch.nn`, and runs torch's kernel where nothing can be compiled."""

import copy

import pytest
import torch
from torch import nn

from membptt.kernels.joint import _joints

from .cells import relative_error
from .test_nn import assert_equal, assert_equal_packed, by_segments, pair, run, seeded, sequence, start
from .test_plan_compiled import COMPILER

pytestmark = [COMPILER, pytest.mark.filterwarnings("ignore")]


def joined(layer):
    """The kinds of cores of a layer that compiled functions ran, and why they did not, where they did not."""
    joints = [joint for (step, _), joint in _joints.items() if getattr(step, "groups", None) and of(step, layer)]
    return [joint.problem for joint in joints]


def of(step, layer):
    weights = {id(weight) for _, weights in step.groups for weight in weights}
    return weights <= {*map(id, layer.parameters())}


COMPILED = [
    ("GRU", {}, (9, 8, 9)),
    ("GRU", {"bidirectional": True, "batch_first": True}, (6,)),
    ("RNN", {"num_layers": 2, "nonlinearity": "relu", "bias": False}, (9,)),
]


@pytest.mark.parametrize(("kind", "options", "lengths"), COMPILED, ids=str)
def test_a_layer_with_compiled_cores_equals_torch(kind, options, lengths):
    """Lengths that a core divides, and one that it does not; another call compiles nothing."""
    theirs, ours = pair(kind, 3, 4, **options, budget={"slots": 2, "chunk": 3, "compile": True})
    for steps in lengths:
        assert_equal(theirs, ours, sequence(theirs, steps), start(theirs) if steps == 9 else None)
        assert joined(ours) == [None] * (2 if ours.bidirectional else 1)


def test_a_compiled_layer_runs_what_it_cannot_compile_as_torch_does():
    """Packed sequences, autocast, dropout between layers."""
    budget = {"slots": 2, "chunk": 3, "compile": True}
    theirs, ours = pair("GRU", 3, 4, num_layers=2, budget=budget)
    assert_equal_packed(theirs, ours, [7, 4], given_start=True)
    assert joined(ours) == []
    _, plain = pair("GRU", 3, 4, dtype=torch.float32)
    _, ours = pair("GRU", 3, 4, dtype=torch.float32, budget=budget)
    xs = sequence(plain, 9).float().detach().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (expected, given), (computed, shares) = run(plain, xs, None), run(ours, xs, None)
    assert max(relative_error(computed, expected), relative_error(shares, given)) <= 0.02
    assert joined(ours) == []
    theirs, ours = pair("GRU", 3, 4, num_layers=2, dropout=0.4, budget=budget)
    xs = sequence(theirs, 9)
    expected, computed = seeded(by_segments(theirs, 3), xs, None), seeded(ours, xs, None)
    assert max(map(relative_error, computed, expected)) <= 1e-10
    assert "draws random numbers" in joined(ours)[0]


def test_a_plan_of_a_layer_weighs_compiled_cores_too():
    theirs, ours = pair("GRU", 3, 4, budget={"budget": "1MiB", "compile": True, "chunk": 4})
    plan = ours.planned(sequence(theirs, 20), budget="1MiB", chunk=4)
    assert True in [option.measured.compiled for option in plan.options]
    of_kernels = pair("GRU", 3, 4)[1].planned(sequence(theirs, 20), budget="1MiB", chunk=4)
    assert True not in [option.measured.compiled for option in of_kernels.options]
    assert_equal(theirs, ours, sequence(theirs, 20), None)
    assert "compile=True" in repr(ours)


def test_copied_and_retrained_layers_do_not_share_compiled_cores():
    theirs, ours = pair("GRU", 3, 4, budget={"slots": 2, "chunk": 3, "compile": True})
    assert_equal(theirs, ours, sequence(theirs, 9), None)
    twin = copy.deepcopy(ours)
    for layer in theirs, twin:
        with torch.no_grad():
            for weight in layer.parameters():
                weight.mul_(0.5)
    assert_equal(theirs, twin, sequence(theirs, 9), None)  # of other weights: cores are compiled anew
    twin.weight_hh_l0 = nn.Parameter(twin.weight_hh_l0.detach() * 3)
    theirs.weight_hh_l0 = nn.Parameter(theirs.weight_hh_l0.detach() * 3)
    assert_equal(theirs, twin, sequence(theirs, 9), None)
