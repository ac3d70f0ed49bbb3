"""Derivatives of derivatives of a scan are those of the plain loop, whatever it stored."""

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp

import membptt.nn
from membptt import Indexed, chain, meter, scan, while_loop
from membptt.run.parts import READY

from .cells import CELLS, Counting, Gru, Lstm, Tanh, plain, problem
from .strategies import POLICIES, policies, policy_id

D = torch.float64
WAYS = [
    *[{"policy": policy, "slots": 6 if sizes else 3, **sizes} for policy, sizes in POLICIES],
    {"slots": 2, "chunk": 3},
    {"slots": 2, "spill": True},
    {"slots": 2, "check": True},
    {"slots": 2, "check": False, "preserve_rng_state": False},
    {"budget": "1MiB"},
]


def weighed(result):
    """A number that depends on every element of a result, and nowhere linearly."""
    leaves = [leaf for leaf in optree.tree_leaves(result) if leaf.is_floating_point() or leaf.is_complex()]
    return sum((torch.sin(leaf.abs().square() + leaf.real) + leaf.real).sum() for leaf in leaves)


def derivatives(result, wanted, orders=3):
    """The gradients of a result, of the sum of their squares, and so on; ``None`` stays what it is."""
    loss, every = weighed(result), []
    for order in range(orders):
        grads = torch.autograd.grad(loss, wanted, create_graph=order + 1 < orders, allow_unused=True)
        every += [grads]
        loss = sum(grad.abs().square().sum() for grad in grads if grad is not None)
    return every


def assert_same(computed, expected):
    computed, expected = (optree.tree_leaves(each, none_is_leaf=True) for each in (computed, expected))
    assert [each is None for each in computed] == [each is None for each in expected]
    for ours, loops in zip(computed, expected, strict=True):
        if loops is not None:
            torch.testing.assert_close(
                ours, loops, rtol=1e-10, atol=1e-10 * max(1.0, float(loops.detach().abs().max()))
            )


def tensors_of(step, init, xs):
    return [leaf for leaf in optree.tree_leaves(init) if leaf.requires_grad] + [xs, *step.parameters()]


@pytest.mark.parametrize("way", WAYS, ids=policy_id)
@pytest.mark.parametrize("make", CELLS)
def test_second_and_third_derivatives_are_the_loop_s(make, way):
    step, init, xs = problem(make, 4, D)
    wanted, orders = tensors_of(step, init, xs), 3 if make is Tanh else 2
    ours, loops = scan(step, init, xs, **way), plain(step, init, xs)
    assert_same(derivatives(ours, wanted, orders), derivatives(loops, wanted, orders))


@given(
    st.sampled_from(CELLS),
    policies(),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from([None, "sum", "mean"]),
    st.booleans(),
    st.booleans(),
)
def test_second_derivatives_are_the_loop_s_hypothesis(make, policy, steps, chunk, reduce, reverse, spill):
    step, init, xs = problem(make, steps, D)
    wanted, (name, sizes) = tensors_of(step, init, xs), policy
    spill = spill and name == "hsm"
    options = {"slots": sizes.get("internal", 1) + 2, "policy": name, "chunk": chunk, "spill": spill, **sizes}
    ours = scan(step, init, xs, reduce=reduce, reverse=reverse, **options)
    final, ys = plain(step, init, xs.flip(0) if reverse else xs)
    if reduce is not None:
        ys = optree.tree_map(lambda leaf: leaf.sum(0) / (steps if reduce == "mean" else 1), ys)
    elif reverse:
        ys = optree.tree_map(lambda leaf: leaf.flip(0), ys)
    assert_same(derivatives(ours, wanted, 2), derivatives((final, ys), wanted, 2))


W = torch.tensor([[0.4, -0.3], [0.2, 0.5]], dtype=D, requires_grad=True)
X = torch.linspace(-1, 1, 10, dtype=D).view(5, 2).requires_grad_()
H = torch.tensor([0.3, -0.2], dtype=D, requires_grad=True)


def step(h, x):
    h = torch.tanh(W @ h + x)
    return h, h * x


def scanned(h=H, xs=X, w=W, **options):
    """A scan as a function of all that it depends on; `w` is what `step` captures."""
    return scan(step, h, xs, params=[w], **(options or {"slots": 2}))


@pytest.mark.parametrize("way", WAYS, ids=policy_id)
def test_finite_differences_agree_with_first_and_second_derivatives(way):
    few = {"fast_mode": way is not WAYS[0], "check_batched_grad": way is WAYS[0]}
    assert gradcheck(lambda *inputs: scanned(*inputs, **way), (H, X, W), **few)
    assert gradgradcheck(lambda *inputs: scanned(*inputs, **way), (H, X, W), **few)


FUNCTIONALS = [
    *[(function, {}) for function in (hessian, hvp, vhp, jacobian, jvp, vjp)],
    *[(function, {"vectorize": True, "create_graph": graph}) for function in (hessian, jacobian) for graph in (0, 1)],
]


@pytest.mark.parametrize(("function", "options"), FUNCTIONALS, ids=lambda each: getattr(each, "__name__", str(each)))
def test_torch_s_functionals_see_the_loop(function, options):
    arguments = ((H, X),) if function not in (hvp, vhp, jvp, vjp) else ((H, X), (H.cos(), X.cos()))
    if function is vjp:
        arguments = ((H, X), torch.ones((), dtype=D))

    def of(run):
        return function(lambda h, xs: weighed(run(h, xs)), *arguments, **options)

    assert_same(of(scanned), of(lambda h, xs: plain(step, h, xs)))


def test_what_was_computed_from_what_is_counted_once():
    """The start and the inputs depend on the parameter that the step uses as well."""

    def of(run):
        return derivatives(run(W @ H, X @ W), [W, H, X])

    assert_same(of(scanned), of(lambda h, xs: plain(step, h, xs)))


def test_a_step_of_inner_gradients_is_differentiated_on():
    """Unrolled meta-learning: the loop's steps are gradient steps, and the outer loss holds a gradient of the loop."""
    rate = torch.tensor(-1.0, dtype=D, requires_grad=True)

    def train(w, x):
        with torch.enable_grad():
            own = w if w.requires_grad else w.detach().requires_grad_()
            (grad,) = torch.autograd.grad((own.square() * x).sin().sum(), own, create_graph=True)
        return w - rate.exp() * grad, ()

    def outer(run):
        start = torch.tensor([0.5, 0.7], dtype=D, requires_grad=True)
        end, _ = run(start)
        (slope,) = torch.autograd.grad(end.square().sum(), start, create_graph=True)
        return torch.autograd.grad((start - 0.1 * slope).square().sum(), [start, rate])

    def loop(w):
        for x in X:
            w, _ = train(w, x)
        return w, ()

    assert_same(outer(lambda w: scan(train, w, X.detach(), slots=2, params=[rate])), outer(loop))


def test_a_gradient_penalty_trains_as_the_loop_does():
    ours, loops = ([*problem(Gru, 6, D)] for _ in range(2))
    for (cell, init, xs), run in ((ours, lambda *a: scan(*a, slots=2)), (loops, plain)):
        for _ in range(2):
            loss = weighed(run(cell, init, xs))
            (slope,) = torch.autograd.grad(loss, xs, create_graph=True)
            (loss + slope.square().sum()).backward()
            with torch.no_grad():
                for weight in cell.parameters():
                    weight -= 0.1 * weight.grad
                    weight.grad = None
    assert_same([*ours[0].parameters()], [*loops[0].parameters()])


def complex_step(carry, x):
    z, count = carry
    z = z * torch.exp(1j * x.sum()) * 0.9 + 0.1 * z.conj() * W.sum()
    return (z, count + 1), {"z": z, "count": count, "fixed": torch.ones(2, dtype=D)}


@pytest.mark.parametrize("options", [{"slots": 2}, {"slots": 3, "chunk": 2}, {"slots": 2, "spill": True}], ids=str)
def test_complex_and_integer_leaves_are_differentiated_twice(options):
    init = torch.tensor([0.5 + 0.2j, 1j], dtype=torch.complex128, requires_grad=True), torch.tensor(0)
    ours, loops = scan(complex_step, init, X, params=[W], **options), plain(complex_step, init, X)
    assert_same(derivatives(ours, [init[0], X, W]), derivatives(loops, [init[0], X, W]))


def test_a_scan_in_a_scan_is_differentiated_twice():
    def nested(run):
        def outer(h, x):
            h, ys = run(step, h, x)
            return h, ys.sum()

        return outer

    inner = nested(lambda step, h, xs: scan(step, h, xs, slots=2, params=[W]))
    xs = X.expand(3, 5, 2)
    ours = scan(inner, H, xs, slots=2, params=[W])
    assert_same(derivatives(ours, [H, X, W], 2), derivatives(plain(nested(plain), H, xs), [H, X, W], 2))


def test_a_sequence_that_a_learning_encoder_reads_is_differentiated_twice():
    raw, encoder = torch.linspace(0, 1, 12, dtype=D).view(4, 3), nn.Linear(3, 2).double()
    wanted = [H, W, *encoder.parameters()]
    for steps in (4, None):
        stream = Indexed(steps, lambda start, stop: encoder(raw[start:stop]))
        ours = scan(step, H, stream, slots=2, params=[W, encoder])
        assert_same(derivatives(ours, wanted), derivatives(plain(step, H, encoder(raw)), wanted))


def test_segments_are_differentiated_twice():
    def segment(h, xs):
        return plain(step, h, xs)

    ours = scan(segment, H, X, slots=2, chunk=2, segments=True, params=[W])
    assert_same(derivatives(ours, [H, X, W]), derivatives(plain(step, H, X), [H, X, W]))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_layers_are_differentiated_twice(kind):
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(2, 3, 2).double()
    ours = getattr(membptt.nn, kind)(2, 3, 2, slots=2, chunk=2).double()
    ours.load_state_dict(theirs.state_dict())
    xs = X.view(5, 1, 2)
    assert_same(*(derivatives(layer(xs), [X, *layer.parameters()], 2) for layer in (ours, theirs)))
    budget = getattr(membptt.nn, kind)(2, 3, 2, budget="1MiB").double()
    budget.load_state_dict(theirs.state_dict())

    def packed(layer):
        batch = nn.utils.rnn.pack_padded_sequence(torch.cat([xs, xs.sin()], 1), [5, 3])
        ys, state = layer(batch)
        return derivatives((ys.data, state), [X, *layer.parameters()], 2)

    for layer in (ours, budget):
        assert_same(packed(layer), packed(theirs))


def test_a_loop_of_unknown_length_is_differentiated_twice():
    def body(h):
        return torch.tanh(W @ h) + 0.5 * h

    for options in ({"slots": 2}, {"slots": 4, "internal": 2}, {"budget": "1MiB"}):
        ours, steps = while_loop(lambda h: h.abs().max() > 0.1, body, H, params=[W], **options)
        loops = H
        for _ in range(steps):
            loops = body(loops)
        assert steps > 3
        assert_same(derivatives(ours, [H, W], 2), derivatives(loops, [H, W], 2))


@pytest.mark.parametrize(
    ("norm", "orders"), [(nn.BatchNorm1d, 2), (nn.LayerNorm, 3)]
)  # torch refuses the other's third
def test_a_chain_is_differentiated_several_times(norm, orders):
    torch.manual_seed(0)
    blocks, twin = (
        nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), norm(2), nn.Tanh()) for _ in range(5)]).double()
        for _ in range(2)
    )
    twin.load_state_dict(blocks.state_dict())
    ours, loops = chain(blocks, X, budget="1MiB"), twin(X)
    wanted = [[X, *each.parameters()] for each in (blocks, twin)]
    assert_same(derivatives(ours, wanted[0], orders), derivatives(loops, wanted[1], orders))
    assert_same([*blocks.buffers()], [*twin.buffers()])


def test_a_chain_that_hands_its_gradients_on_in_parts_is_differentiated_twice():
    blocks, xs = [nn.Linear(370, 370).double() for _ in range(3)], torch.ones(2, 370, dtype=D)
    wanted = [weight for block in blocks for weight in block.parameters()]
    with torch.no_grad():
        assert all(block.weight.mul_(0.1).nbytes > READY for block in blocks)

    def of(run):
        end = run(xs).sin()
        several = torch.autograd.grad(end, wanted, torch.stack([end, end.cos()]).detach(), True, is_grads_batched=True)
        first = torch.autograd.grad(end.square().sum(), wanted, create_graph=True)
        return several, first, torch.autograd.grad(sum(grad.sin().sum() for grad in first), wanted)

    assert_same(of(lambda xs: chain(blocks, xs, budget="64MiB")), of(nn.Sequential(*blocks)))


def test_random_numbers_of_a_second_derivative_are_the_first_pass_s():
    def noisy(h, x):
        h = nn.functional.dropout(torch.tanh(W @ h + x), 0.5) + 0.1 * torch.randn(2, dtype=D)
        return h, h

    def of(run):
        torch.manual_seed(3)
        result = run(noisy, H, X)
        every = derivatives(result, [H, X, W])
        return every, torch.rand(1)

    assert_same(of(lambda *a: scan(*a, slots=2, params=[W])), of(plain))


def test_what_was_in_effect_in_the_first_pass_is_in_effect_again():
    """Modes of modules, and hooks inside the step that change gradients, other than linearly."""
    drop = nn.Dropout(0.5)

    def clipped(h, x):
        h = torch.tanh(W @ h + drop(x))
        if h.requires_grad:
            h.register_hook(lambda grad: grad.clamp(-0.1, 0.1))
        return h, h

    def of(run):
        drop.train()
        torch.manual_seed(1)
        result = run(clipped, H, X)
        drop.eval()
        return derivatives(result, [H, X, W])

    assert_same(of(lambda *a: scan(*a, slots=2, params=[W])), of(plain))


def test_hooks_of_parameters_and_of_the_start_see_what_they_see_in_the_loop():
    def of(run):
        seen, w, start = [], W.detach().clone().requires_grad_(), H.detach().clone().requires_grad_()
        w.register_hook(lambda grad: seen.append(grad) or grad * 2)
        start.register_hook(lambda grad: seen.append(grad) or grad.sin())

        def step(h, x):
            if h.requires_grad:
                h.register_hook(lambda grad: grad * 0.5)
            h = torch.tanh(w @ h + x)
            return h, h

        every = derivatives(run(step, start, X, w), [w, start, X], 2)
        return every, sorted(seen, key=lambda grad: (len(grad.shape), float(grad.detach().sum())))

    ours, loops = of(lambda *a: scan(*a[:3], slots=2, params=[a[3]])), of(lambda *a: plain(*a[:3]))
    assert_same(ours, loops)


def test_a_first_derivative_keeps_to_the_schedule_with_create_graph():
    """Only a backward through it runs the plain loop."""
    step, init, xs = problem(Lstm, 24, D)
    counting = Counting(step)
    with meter() as report:
        (end, _), _ = scan(counting, init, xs, slots=3)
        once = torch.autograd.grad(end.sum(), xs, create_graph=True)[0]
    schedule, calls = report.forwards, counting.calls
    assert calls == schedule
    torch.autograd.grad(once.square().sum(), xs)
    assert counting.calls == calls + 24


def test_several_backwards_of_a_gradient_give_the_same():
    (grad,) = torch.autograd.grad(weighed(scanned()), W, create_graph=True)
    first, second = (torch.autograd.grad(grad.square().sum(), [H, X, W], retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_a_step_that_has_become_another_is_refused_in_the_second_backward():
    factor = [1.0]

    def step(h, x):
        h = torch.tanh(factor[0] * (W @ h) + x)
        return h, h

    final, _ = scan(step, H, X, slots=2, params=[W])
    (grad,) = torch.autograd.grad(final.sum(), W, create_graph=True)
    factor[0] = 2.0
    with pytest.raises(RuntimeError, match="ended in another carry than the first pass"):
        grad.sum().backward()
    factor[0] = 1.0
    assert_same(
        torch.autograd.grad(grad.sum(), W),
        torch.autograd.grad(torch.autograd.grad(plain(step, H, X)[0].sum(), W, create_graph=True)[0].sum(), W),
    )


def test_a_weight_that_was_changed_in_place_is_refused_in_the_second_backward():
    w = W.detach().clone().requires_grad_()
    final, _ = scan(lambda h, x: (torch.tanh(w @ h + x), x), H, X, slots=2, params=[w])
    (grad,) = torch.autograd.grad(final.sum(), w, create_graph=True)
    with torch.no_grad():
        w *= 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad.sum().backward()


def test_gradients_are_none_where_the_loop_s_are():
    unused, other = torch.ones(5, 2, dtype=D, requires_grad=True), torch.ones(2, dtype=D, requires_grad=True)

    def step(carry, x):
        h, free = carry
        return (torch.tanh(W @ h + x[0]), free), (h, free)

    wanted = [H, other, X, unused, W]
    for loss in (lambda result: weighed(result[0][0]), lambda result: weighed(result[1][1]), weighed):
        first, second = (
            torch.autograd.grad(loss(run(step, (H, other), (X, unused))), wanted, allow_unused=True)
            for run in (lambda *a: scan(*a, slots=2, params=[W]), pairs)
        )
        assert_same(first, second)


def pairs(step, carry, xs):
    ys = []
    for x in zip(*xs, strict=True):
        carry, y = step(carry, x)
        ys.append(y)
    return carry, optree.tree_map(lambda *leaves: torch.stack(leaves), *ys)


def test_several_gradients_at_once_are_those_taken_alone():
    heads = torch.eye(2, dtype=D)
    end, _ = scanned()
    batched = torch.autograd.grad(end, [H, X, W], heads, is_grads_batched=True, retain_graph=True)
    mapped = torch.func.vmap(lambda head: torch.autograd.grad(end, [H, X, W], head, retain_graph=True))(heads)
    twice = torch.func.vmap(torch.func.vmap(lambda head: torch.autograd.grad(end, W, head, retain_graph=True)[0]))
    alone = [torch.autograd.grad(end, [H, X, W], head, retain_graph=True) for head in heads]
    expected = [torch.stack(rows) for rows in zip(*alone, strict=True)]
    assert_same(batched, expected)
    assert_same(mapped, expected)
    assert_same(twice(torch.stack([heads, heads])), torch.stack([expected[2]] * 2))
