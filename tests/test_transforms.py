"""`torch.func` and forward-mode differentiation go through a scan as through the plain loop."""

import itertools

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad, gradcheck
from torch.func import functional_call, grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

import membptt.nn
from membptt import Indexed, chain, meter, plan, plan_chain, scan, while_loop

from .cells import Gru, plain
from .test_second_derivatives import WAYS, assert_same, weighed

# What torch says of its own: of forward mode from 2.14 on, of `linearize`, and of a cell that it maps slowly.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
    pytest.mark.filterwarnings("ignore:There is a performance drop because"),
]

D = torch.float64
W = torch.tensor([[0.4, -0.3], [0.2, 0.5]], dtype=D)
X = torch.linspace(-1, 1, 8, dtype=D).view(4, 2)
H = torch.tensor([0.3, -0.2], dtype=D)


def looped(step, init, xs, w, **_):
    return plain(step, init, xs)


def scanned(step, init, xs, w, **options):
    return scan(step, init, xs, params=[w], **(options or {"slots": 2}))


def recurrence(w):
    def step(h, x):
        h = torch.tanh(w @ h + x)
        return h, h * x

    return step


def of(run, **options):
    """A number, as a function of all that a sequence depends on."""
    return lambda h, xs, w: weighed(run(recurrence(w), h, xs, w, **options))


ALL = (0, 1, 2)
TRANSFORMS = {
    "grad": lambda f: grad(f, ALL)(H, X, W),
    "value and gradient": lambda f: grad_and_value(f, ALL)(H, X, W),
    "vjp": lambda f: vjp(f, H, X, W)[1](torch.tensor(2.0, dtype=D)),
    "jacrev": lambda f: jacrev(f, ALL)(H, X, W),
    "jacfwd": lambda f: jacfwd(f, ALL)(H, X, W),
    "jvp": lambda f: jvp(f, (H, X, W), (H.cos(), X.sin(), W.exp())),
    "linearize": lambda f: linearize(f, H, X, W)[1](H.cos(), X.sin(), W.exp()),
    "hessian": lambda f: hessian(f, (0, 2))(H, X, W),
    "mapped starts": lambda f: vmap(f, (0, None, None))(several(H), X, W),
    "mapped inputs": lambda f: vmap(f, (None, 2, None))(H, several(X, 2), W),
    "mapped weights": lambda f: vmap(f, (None, None, 0))(H, X, several(W)),
    "mapped all": lambda f: vmap(f, (0, 1, 0))(several(H), several(X, 1), several(W)),
    "mapped twice": lambda f: vmap(vmap(f, (0, None, None)), (None, None, 0))(several(H), X, several(W)),
    "gradients of each": lambda f: vmap(grad(f, ALL), (0, None, None))(several(H), X, W),
    "gradient of all": lambda f: grad(lambda w: vmap(f, (0, None, None))(several(H), X, w).sum())(W),
    "gradient of a gradient": lambda f: grad(lambda w: grad(f)(H, X, w).square().sum())(W),
    "forward over reverse": lambda f: jvp(lambda w: grad(f, 2)(H, X, w), (W,), (W.cos(),)),
    "reverse over forward": lambda f: grad(lambda w: jvp(lambda h: f(h, X, w), (H,), (H.cos(),))[1])(W),
    "per sample, forward": lambda f: vmap(lambda h: jvp(lambda w: f(h, X, w), (W,), (W.cos(),))[1])(several(H)),
}


def several(tensor, dim=0):
    return torch.stack([tensor, tensor.cos(), 2 * tensor], dim)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_transform_of_a_scan_is_that_of_the_loop(transform):
    assert_same(transform(of(scanned)), transform(of(looped)))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("transform", ["grad", "jvp", "mapped all", "gradients of each"])
def test_a_transform_is_the_loop_s_whatever_a_scan_is_told_to_store(transform, way):
    assert_same(TRANSFORMS[transform](of(scanned, **way)), TRANSFORMS[transform](of(looped)))


@given(
    st.sampled_from(sorted(TRANSFORMS.keys() - {"linearize"})),  # which takes a second
    st.integers(1, 4),
    st.sampled_from([None, "sum", "mean"]),
    st.booleans(),
    st.booleans(),
)
def test_a_transform_of_a_scan_is_that_of_the_loop_hypothesis(name, chunk, reduce, reverse, segments):
    def scanned(step, init, xs, w):
        def segment(carry, xs):
            return plain(step, carry, xs)

        options = {"chunk": chunk, "reduce": reduce, "reverse": reverse and not segments, "segments": segments}
        return scan(segment if segments else step, init, xs, slots=2, params=[w], **options)

    def looped(step, init, xs, w):
        backwards = reverse and not segments
        final, ys = plain(step, init, xs.flip(0) if backwards else xs)
        if reduce is None:
            return final, ys.flip(0) if backwards else ys
        return final, ys.sum(0) if reduce == "sum" else ys.mean(0)

    assert_same(TRANSFORMS[name](of(scanned)), TRANSFORMS[name](of(looped)))


def test_functions_of_modules_parameters_are_transformed():
    torch.manual_seed(0)
    cell, xs = Gru(2, 3).double(), X.unsqueeze(1)
    params = {name: weight.detach() for name, weight in cell.named_parameters()}
    ensemble = {name: several(weight) for name, weight in params.items()}

    class Model(nn.Module):
        def __init__(self, run):
            super().__init__()
            self.cell, self.run = cell, run

        def forward(self, h, xs):
            return self.run(self.cell, h, xs)

    def results(run):
        model = Model(run)

        def loss(params, h):
            return weighed(functional_call(model, {f"cell.{name}": each for name, each in params.items()}, (h, xs)))

        h = torch.zeros(1, 3, dtype=D)
        yield grad(loss, (0, 1))(params, h)
        yield vmap(loss, (0, None))(ensemble, h)
        yield vmap(grad(loss), (0, None))(ensemble, h)
        yield vmap(grad(loss), (None, 0))(params, several(h))
        yield jvp(lambda params: loss(params, h), (params,), (params,))

    assert_same([*results(lambda *a: scan(*a, slots=2))], [*results(plain)])


@pytest.mark.parametrize("wanted", [*itertools.product([False, True], repeat=3)], ids=str)
def test_tangents_are_carried_along(wanted):
    """Of carry, inputs and captured tensors, declared or not; with and without a graph."""

    def of(run):
        leaves = [leaf.clone().requires_grad_(wants) for leaf, wants in zip((H, X, W), wanted, strict=True)]
        with forward_ad.dual_level():
            h, xs, w = (forward_ad.make_dual(leaf, leaf.detach().cos()) for leaf in leaves)
            other = forward_ad.make_dual(H, H.exp())
            result = run(lambda h, x: (torch.tanh(w @ h + x + other), h * x), h, xs, w)
            duals = [forward_ad.unpack_dual(leaf) for leaf in optree.tree_leaves(result)]
            grads = []
            if any(wanted):
                inputs = [leaf for leaf in leaves if leaf.requires_grad]
                grads = [forward_ad.unpack_dual(each) for each in torch.autograd.grad(weighed(result), inputs)]
        return [(each.primal.detach(), each.tangent.detach()) for each in (*duals, *grads)]

    assert_same(of(scanned), of(looped))


def test_finite_differences_agree_with_tangents():
    inputs = [leaf.clone().requires_grad_() for leaf in (H, X, W)]
    both = {"check_forward_ad": True, "check_batched_forward_grad": True, "fast_mode": False}
    assert gradcheck(of(scanned), inputs, **both)


def test_a_backward_of_an_earlier_scan_hands_on_tangents_of_its_gradients():
    def of(run, create_graph=False):
        leaves = [leaf.clone().requires_grad_() for leaf in (H, X, W)]
        end, _ = run(recurrence(leaves[2]), *leaves)
        with forward_ad.dual_level():
            head = forward_ad.make_dual(H, H.cos())
            grads = torch.autograd.grad(end, leaves, head, create_graph=create_graph)
            return [tuple(forward_ad.unpack_dual(each)) for each in grads]

    assert_same(of(scanned), of(looped))
    with pytest.raises(RuntimeError, match="call it inside, or leave these out"):
        of(scanned, create_graph=True)


def test_a_scan_that_was_run_outside_a_gradient_is_called_inside_it():
    w = W.clone().requires_grad_()
    end, _ = scanned(recurrence(w), H, X, w)
    with pytest.raises(RuntimeError, match=r"outside a transform of torch\.func .*: call it inside"):
        grad(lambda head: torch.autograd.grad(end, w, head)[0].sum())(H)

    def inside(head):
        _, pull = vjp(lambda w: scanned(recurrence(w), H, X, w)[0], W)
        return pull(head)[0].sum()

    assert_same(grad(inside)(H), jvp(lambda w: plain(recurrence(w), H, X)[0], (W,), (torch.ones_like(W),))[1])


def test_integers_complex_numbers_and_encoders_are_transformed():
    raw = torch.linspace(0, 1, 8, dtype=D).view(4, 2)

    def value(run):
        def f(w, phase):
            def step(carry, x):
                z, count = carry
                return (z * torch.exp(1j * phase) + w @ x, count + 1), (z.abs(), count)

            init = torch.ones(2, dtype=torch.complex128), torch.tensor(0)
            (z, count), (ys, counts) = run(step, init, w)
            return z.abs().sum() + ys.square().sum() + 0 * count + 0 * counts.sum()

        return f

    def reading(step, init, w):
        stream = Indexed(None, lambda start, stop: raw[start:stop] @ w)
        return scan(step, init, stream, slots=2, params=[w])

    def loop(step, init, w):
        ys = []
        for x in raw @ w:
            init, y = step(init, x)
            ys.append(y)
        return init, optree.tree_map(lambda *leaves: torch.stack(leaves), *ys)

    phases = torch.tensor([0.1, 0.7, 2.0], dtype=D)
    for transform in (
        lambda f: grad(f, (0, 1))(W, phases[0]),
        lambda f: jvp(f, (W, phases[0]), (W, phases[1])),
        lambda f: vmap(grad(f, (0, 1)), (None, 0))(W, phases),
    ):
        assert_same(transform(value(reading)), transform(value(loop)))


def test_random_numbers_of_mapped_scans_are_drawn_as_asked_for():
    def noisy(run):
        def step(h, x):
            h = nn.functional.dropout(torch.tanh(W @ h + x), 0.5)
            return h, h

        return lambda h: weighed(run(step, h, X, W))

    for transform in (grad, lambda f: f):
        for randomness in ("different", "same"):
            ours, loops = (
                (torch.manual_seed(0), vmap(transform(noisy(run)), randomness=randomness)(several(H)))[1]
                for run in (scanned, looped)
            )
            assert_same(ours, loops)


def test_loops_of_unknown_length_are_transformed():
    def of(run):
        return lambda h, w: weighed(run(lambda h: torch.tanh(w @ h) + 0.5 * h, h, w))

    def ours(body, h, w):
        return while_loop(lambda h: h.abs().max() > 0.1, body, h, slots=2, params=[w])[0]

    def loop(body, h, w):
        while h.abs().max() > 0.1:
            h = body(h)
        return h

    for transform in (
        lambda f: grad(f, (0, 1))(H, W),
        lambda f: jvp(f, (H, W), (H.cos(), W.sin())),
        lambda f: hessian(f)(H, W),
        lambda f: grad(lambda w: grad(f)(H, w).sum())(W),
    ):
        assert_same(transform(of(ours)), transform(of(loop)))


def test_a_mapped_loop_needs_one_answer():
    def mapped(cond):
        return vmap(lambda h: while_loop(cond, lambda h: h * 0.5, h, slots=2)[0])(several(H))

    with pytest.raises(RuntimeError, match=r"map inside body, and let cond reduce the answers with \.any\(\)"):
        mapped(lambda h: h.abs().max() > 0.1)

    def body(hs):
        return vmap(lambda h: h * 0.5)(hs)

    ends, _ = while_loop(lambda hs: (hs.abs().amax(1) > 0.1).any(), body, several(H), slots=2)
    assert (ends.abs().amax(1) <= 0.1).all()


def test_chains_and_layers_are_transformed():
    torch.manual_seed(0)
    blocks = nn.Sequential(*[nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(4)]).double()
    params = {name: weight.detach() for name, weight in blocks.named_parameters()}
    deep = membptt.nn.Sequential(*blocks, budget="1MiB")
    layer = nn.GRU(2, 3).double()
    ours = membptt.nn.GRU(2, 3, slots=2, chunk=2).double()
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}
    for theirs, model, values in ((blocks, deep, params), (layer, ours, weights)):
        mapped = {name: several(each) for name, each in values.items()}

        def results(net, values=values, mapped=mapped):
            def loss(values):
                return weighed(functional_call(net, values, (X,)))

            yield grad(loss)(values)
            if net in (deep, blocks):  # torch's fused kernels have no rule for the others
                yield vmap(grad(loss))(mapped)
                yield jvp(loss, (values,), (values,))

        assert_same([*results(model)], [*results(theirs)])


def test_a_chain_s_plan_and_schedule_are_left_out_under_a_transform():
    blocks = [nn.Linear(2, 2).double(), torch.tanh]
    settled = plan_chain(blocks, X, budget="1MiB")
    for options in ({"budget": "1MiB"}, {"plan": settled}):
        assert_same(
            vmap(grad(lambda x, options=options: chain(blocks, x, **options).sum()))(several(X)),
            vmap(grad(lambda x: torch.tanh(blocks[0](x)).sum()))(several(X)),
        )


def test_planning_is_done_outside_a_transform():
    step = recurrence(W)
    settled = plan(step, H, X, budget="1MiB")
    for wrong in (
        lambda h: plan(step, h, X, budget="1MiB"),
        lambda h: plan_chain([torch.tanh], h, budget="1MiB"),
    ):
        with pytest.raises(RuntimeError, match=r"plan outside torch\.func and forward-mode"):
            vmap(wrong)(several(H))
    ours, loops = (
        grad(lambda h, run=run: weighed(run(h)))(H)
        for run in (lambda h: scan(step, h, X, plan=settled), lambda h: plain(step, h, X))
    )
    assert_same(ours, loops)


def test_without_graph_a_transformed_scan_stores_nothing():
    with meter() as report:
        jvp(lambda h: scan(recurrence(W), h, X, slots=2)[0], (H,), (H,))
        with torch.no_grad():
            vmap(lambda h: scan(recurrence(W), h, X, slots=2)[0])(several(H))
    assert (report.advanced, report.recorded) == (8, 0)


def test_what_the_caller_gets_is_its_own():
    final, _ = vmap(lambda h: scan(lambda carry, x: (carry, x), h, X, slots=2))(several(H))
    before = H.clone()
    final.add_(1)
    assert torch.equal(H, before)
