"""What torch's tests of `torch.utils.checkpoint` ask for: of chains where blocks are wrapped, else of scans."""

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from membptt import chain, meter, scan

from .behaviours import answers, apart
from .loops import assert_scans, leaf, looped, total


def blocks(count=4):
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(count)]).double()


@answers("test_checkpoint", "test_checkpoint_module_list", "test_checkpointing")
def test_a_sequence_of_modules():
    """A sequence of modules, recomputed in the backward, gives the gradients of plain autograd."""
    net, x = blocks(), leaf(3, 6)
    wanted = (x, *net.parameters())
    computed, expected = (torch.autograd.grad(total(y), wanted) for y in (chain(net, x, budget="64KiB"), net(x)))
    torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-12)


@answers("test_checkpoint_trigger")
def test_once_more_in_the_backward_only():
    """The forward runs each step once; only the backward runs it again."""
    calls = []

    def step(c, x):
        calls.append(x)
        return torch.sin(c + x), None

    carry, _ = scan(step, leaf(2), torch.ones(5, 2), slots=1)
    assert len(calls) == 5
    carry.sum().backward()
    assert len(calls) == 1 + 2 + 3 + 4 + 5


@answers("test_checkpoint_valid", "test_checkpoint_valid_reset_on_error")
def test_autograd_grad():
    """`torch.autograd.grad` works as `backward` does, also after one that failed."""
    init, xs = leaf(2), leaf(4, 2, seed=1)
    carry, _ = scan(lambda c, x: (torch.sin(c + x), None), init, xs, slots=2)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        carry.backward()
    torch.autograd.grad(carry.sum(), (init, xs))


@answers(
    "test_checkpoint_non_tensor",
    "test_checkpoint_non_tensor_inputs_outputs",
    "test_nested_checkpoint_non_tensor_inputs_and_outputs",
)
def test_what_is_no_tensor():
    """Numbers, strings and `None` among what is handed in and on."""
    init, xs = leaf(2), leaf(4, 2, seed=1)

    def step(carry, x):
        h, kind, nothing = carry
        h = torch.sin(h * x["gain"] + x["x"]) if kind == "sine" else h
        return (h, kind, nothing), (h, None)

    carry, ys = scan(step, (init, "sine", None), {"x": xs, "gain": 2, "on": True}, slots=2)
    expected = looped(lambda h, x: (torch.sin(2 * h + x),) * 2, init, xs)
    assert carry[1:] == ("sine", None)
    torch.testing.assert_close((carry[0], ys[0]), expected)


@answers("test_checkpoint_rng_cpu")
def test_random_numbers():
    """Dropout draws the same numbers when it is run again, and the generator ends where it would."""
    net = nn.Dropout(0.4)
    results = []
    for run, way in ((scan, {"slots": 1}), (looped, {})):
        torch.manual_seed(5)
        init = leaf(8)
        carry, _ = run(lambda c, x: (net(torch.sin(c)) + x, c), init, torch.ones(6, 8), **way)
        results.append((*torch.autograd.grad(carry.sum(), init), torch.rand(1)))
    torch.testing.assert_close(*results)


@answers("test_checkpoint_not_preserve_rng_state_and_without_reentrant")
def test_random_numbers_that_are_not_restored():
    """Restoring is switched off on demand, and the difference is then noticed."""
    net = nn.Dropout(0.4)
    carry, _ = scan(lambda c, x: (net(c) + x, None), leaf(50), torch.ones(6, 50), slots=1, preserve_rng_state=False)
    with pytest.raises(RuntimeError, match="gave another carry"):
        carry.sum().backward()


@answers("test_checkpoint_partial_grad", "test_checkpointing_without_reentrant_input_requires_grad_False")
def test_some_want_no_gradient():
    """What wants no gradient gets none, and an output gives none to what it does not depend on."""
    init, xs, weight = torch.ones(2), torch.ones(4, 2), leaf(2)

    def step(carry, x):
        h, count = carry
        return (weight * h, count + 1), (x, count > 1)

    (h, _), (same, late) = scan(step, (init.double(), init), xs, slots=2, params=[weight])
    h.sum().backward(retain_graph=True)
    assert weight.grad is not None
    assert init.grad is xs.grad is None
    assert not late.requires_grad
    assert torch.autograd.grad(same.sum(), weight, allow_unused=True) == (None,)


@answers(
    "test_checkpointing_without_reentrant_correct_grad", "test_checkpointing_without_reentrant_input_requires_grad_True"
)
def test_correct_gradients():
    """The gradient is that of the loop."""
    init, xs = leaf(2), leaf(5, 2, seed=1)
    assert_scans(lambda c, x: (torch.sin(c * x), c.exp()), init, xs, wanted=(init, xs))


@answers("test_checkpointing_without_reentrant_memory_savings")
def test_memory():
    """It takes less memory than plain autograd, and gives all of it back."""
    peaks = []
    for slots in (2, 30):
        with meter() as report:
            carry, _ = scan(
                lambda c, x: (torch.sin(c) + x, None), leaf(99), torch.ones(30, 99), slots=slots, policy="ism"
            )
            carry.sum().backward()
        peaks.append(report.peak_bytes)
        assert report.live_bytes == 0
    assert 5 * peaks[0] < peaks[1]


@answers("test_checkpointing_without_reentrant_detached_tensor")
def test_detached():
    """A step that detaches, from where nothing flows back."""
    init, xs = leaf(2), leaf(4, 2, seed=1)
    assert_scans(lambda c, x: (torch.sin(c.detach() * x), c), init, xs, wanted=(init, xs))


@answers("test_checkpointing_without_reentrant_custom_function_works")
def test_a_function_of_ones_own():
    """A `torch.autograd.Function` inside, with tensors that it saves."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x)
            ctx.scale = scale
            return scale * x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * ctx.scale * x**2 * grad, None

    init, xs = leaf(2), leaf(4, 2, seed=1)
    assert_scans(lambda c, x: (torch.tanh(Cube.apply(c, 2) + x), c), init, xs, wanted=(init, xs))


@answers("test_checkpointing_without_reentrant_arbitrary_input_output")
def test_any_tree():
    """Arguments and results are any trees."""
    init = {"layer": leaf(2, 2), "h": (leaf(2, seed=1),)}
    assert_scans(
        lambda c, x: ({"layer": c["layer"], "h": (torch.tanh(c["layer"] @ c["h"][0] + x),)}, [c["h"]]),
        init,
        xs := leaf(4, 2, seed=2),
        wanted=(init["layer"], init["h"][0], xs),
    )


@answers("test_checkpointing_without_reentrant_parameter_used_in_an_out")
def test_a_parameter_inside_and_outside():
    """A parameter that is used inside and outside gets both shares."""
    weight, xs = leaf(2), leaf(4, 2, seed=1)
    shares = []
    for run, way in ((scan, {"slots": 2, "params": [weight]}), (looped, {})):
        carry, _ = run(lambda c, x: (torch.tanh(weight * c + x), c), torch.ones_like(weight), xs, **way)
        shares.append(torch.autograd.grad((carry * weight).sum(), weight))
    torch.testing.assert_close(*shares)


@answers("test_checkpoint_detects_non_determinism")
def test_another_recomputation():
    """A recomputation that does something else than the first pass is noticed."""
    calls = []

    def step(c, x):
        calls.append(x)
        return torch.sin(c) if len(calls) < 6 else torch.cos(c), None

    carry, _ = scan(step, leaf(2), torch.ones(5, 2), slots=1)
    with pytest.raises(RuntimeError, match="gave another carry"):
        carry.sum().backward()


@answers("test_nested_checkpoint", "test_nested_checkpoint_two_children", "test_nested_checkpoint_same_graph")
def test_nested():
    """A scan inside a scan, also twice in one step."""
    init, xs = leaf(2), leaf(3, 4, 2, seed=1)

    def inner(c, x):
        return torch.sin(c + x), c

    def outer(run, **way):
        return lambda c, x: (run(inner, run(inner, c, x, **way)[0], x.flip(0), **way)[0], c)

    computed, expected = scan(outer(scan, slots=2), init, xs, slots=2), looped(outer(looped), init, xs)
    gradients = (torch.autograd.grad(total(result), (init, xs)) for result in (computed, expected))
    torch.testing.assert_close(*gradients)


@answers("test_nested_checkpoint_reentrant_backwards")
def test_checkpoint_inside():
    """`torch.utils.checkpoint` inside a step, and backward twice through a graph that is kept."""
    init, xs = leaf(2), leaf(4, 2, seed=1)

    def step(c, x):
        return torch.utils.checkpoint.checkpoint(torch.sin, c * x, use_reentrant=False), c

    assert_scans(step, init, xs, wanted=(init, xs))
    carry, _ = scan(step, init, xs, slots=2)
    first, second = (torch.autograd.grad(carry.sum(), init, retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second)


@answers("test_nested_checkpoint_kwargs")
def test_several_arguments():
    """A step that binds more arguments, by name."""
    init, xs = leaf(2), leaf(4, 2, seed=1)

    def wide(gain, c, x, shift):
        return torch.sin(gain * c + x + shift), c

    step = partial(wide, 2.0, shift=0.1)
    assert_scans(step, init, xs, wanted=(init, xs))


@answers("test_save_on_cpu_and_checkpoint")
def test_saved_elsewhere():
    """`torch.autograd.graph.save_on_cpu` around it stays in effect."""
    init, xs = leaf(2), leaf(4, 2, seed=1)
    with torch.autograd.graph.save_on_cpu():
        assert_scans(lambda c, x: (torch.sin(c * x), c), init, xs, wanted=(init, xs))


@answers("test_checkpointing_without_reentrant_early_free")
def test_no_cycle():
    """Results that are thrown away free everything at once, without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        init = leaf(2)
        carry, _ = scan(lambda c, x: (torch.sin(c * x), None), init, torch.ones(4, 2), slots=3)
        node = weakref.ref(carry.grad_fn)
        del carry
        assert node() is None
    finally:
        gc.enable()


apart(
    __name__,
    "test_nested_checkpoint_set_early_stop",
    asks="To stop a recomputation as soon as all is there that was saved",
    why="a core is recomputed as a whole, and is as short as `chunk=1` makes it",
)
apart(
    __name__,
    "test_checkpointing_without_reentrant_with_context_fn",
    "test_checkpoint_sequential_deprecated_multiple_args",
    asks="Contexts for the recomputation, and arguments that are no longer taken",
    why="a step that needs a context opens it itself",
)
apart(
    __name__,
    "test_checkpointing_without_reentrant_saved_object_identity",
    asks="That a saved tensor is the very object that was saved",
    why="a recomputation makes tensors of its own; their values are compared",
)
apart(
    __name__,
    "test_checkpointing_without_reentrant_dataparallel",
    asks="`torch.nn.DataParallel` around it",
    why="that class is deprecated; DDP and `fully_shard` go around the module that scans, as other tests see",
)
