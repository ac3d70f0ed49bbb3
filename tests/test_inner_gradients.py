"""A step that differentiates inside: energies, Hamiltonians, inner optimisers, by torch.func and by torch.autograd."""

import shutil

import pytest
import torch
from torch import nn

from membptt import SlowTier, meter, plan, scan
from membptt_theory.actions import Prices

from .cells import plain as loop

D = torch.float64


def energy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def by_grad(net, z):
    return torch.func.grad(lambda z: net(z).sum())(z)


def by_vjp(net, z):
    value, pull = torch.func.vjp(net, z)
    return pull(torch.ones_like(value))[0]


def by_jvp(net, z):
    """One column at a time, in forward mode."""
    columns = torch.eye(4, dtype=D).unsqueeze(1).expand(4, *z.shape)
    return torch.cat([torch.func.jvp(net, (z,), (column,))[1] for column in columns], -1)


def by_vmap(net, z):
    return torch.func.vmap(torch.func.grad(lambda row: net(row).sum()))(z)


def by_autograd(net, z):
    """The classic idiom: a leaf of the step's own, so that the gradient stands on a copy."""
    with torch.enable_grad():
        own = z.detach().requires_grad_()
        return torch.autograd.grad(net(own).sum(), own, create_graph=True)[0]


def by_autograd_through(net, z):
    """The same, on the carry itself where that has a graph."""
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        return torch.autograd.grad(net(z).sum(), z, create_graph=True)[0]


def by_autograd_alone(net, z):
    """Without a graph of its own: the step descends, and nobody differentiates the direction."""
    with torch.enable_grad():
        own = z.detach().requires_grad_()
        return torch.autograd.grad(net(own).sum(), own)[0] + net(z)


def by_grad_into_a_view(net, z):
    """Also writes to a view, and a node of the graph that does so does not tell what it keeps."""
    turned = z * 1
    turned[:, 1:].mul_(z[:, :1].cos())
    return by_grad(net, turned)


IDIOMS = [
    by_grad,
    by_vjp,
    by_jvp,
    by_vmap,
    by_autograd,
    by_autograd_through,
    by_autograd_alone,
    by_grad_into_a_view,
]
WAYS = {
    "hsm": {"slots": 3},
    "chunks": {"slots": 2, "chunk": 3},
    "msm": {"slots": 6, "policy": "msm", "internal": 2},
    "msm_plus": {"slots": 6, "policy": "msm_plus", "internal": 3},
    "ism": {"slots": 4, "policy": "ism"},
    "tiers": {"slots": 2, "spill": SlowTier(2, Prices(8, 2, 1))},
    "budget": {"budget": "24KiB"},
    "budget and tiers": {"budget": "24KiB", "spill": True},
    "checked": {"slots": 3, "check": True},
    "checked chunks": {"slots": 2, "chunk": 5, "check": True},
}
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")  # torch.func.jvp
every_idiom = pytest.mark.parametrize("idiom", IDIOMS)


def problem(idiom, learns=True):
    net = energy()

    def step(z, x):
        q, p = idiom(net, z).chunk(2, -1)
        z = z + 0.1 * torch.cat([p, -q], -1) + 0.01 * x
        return z, z.square().mean()

    init = torch.linspace(-1, 1, 12, dtype=D).view(3, 4).requires_grad_(learns)
    return step, init, torch.linspace(-2, 2, 84, dtype=D).view(7, 3, 4), list(net.parameters())


def gradients(results, leaves):
    final, ys = results
    parts = torch.autograd.grad(final.sum() + ys.sum(), leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


@every_idiom
@pytest.mark.parametrize("way", WAYS)
def test_a_step_that_differentiates_inside_has_the_loops_gradient(idiom, way):
    learns = "c" in way  # whether the gradient of the starting carry is wanted, too
    step, init, xs, params = problem(idiom, learns)
    leaves = [*params, init] if learns else params
    gradient = gradients(scan(step, init, xs, params=params, **WAYS[way]), leaves)
    torch.testing.assert_close(gradient, gradients(loop(step, init, xs), leaves), rtol=1e-10, atol=1e-14)


@every_idiom
def test_its_plan_keeps_its_word(idiom):
    step, init, xs, params = problem(idiom)
    for budget in ("4KiB", "16KiB"):
        chosen = plan(step, init, xs, budget=budget, params=params)
        with meter() as report:
            gradient = gradients(scan(step, init, xs, plan=chosen, params=params), params)
        torch.testing.assert_close(gradient, gradients(loop(step, init, xs), params), rtol=1e-10, atol=1e-14)
        assert (report.forwards, report.peak_bytes <= chosen.peak_bytes) == (chosen.chosen.forwards, True)


@every_idiom
def test_it_runs_where_no_gradient_is_wanted(idiom):
    step, init, xs, params = problem(idiom)
    with torch.no_grad():
        final, ys = scan(step, init, xs, slots=2, params=params)
        expected = loop(step, init, xs)
    assert torch.equal(final, expected[0])
    assert torch.equal(ys, expected[1])


def ascent(keep, give):
    """An inner ascent on a leaf of the step's own, which keeps it somewhere, or hands it on."""
    net = energy()

    def step(z, x):
        with torch.enable_grad():
            own = z.detach().requires_grad_()
            keep(own)
            (direction,) = torch.autograd.grad(net(own).sum(), own, create_graph=True)
        return z + 0.1 * direction + 0.01 * x, give(own)

    _, init, xs, _ = problem(by_grad)
    return step, init, xs, list(net.parameters())


def test_a_leaf_that_the_step_returns_or_keeps_is_refused_and_the_advice_works():
    kept = []
    for keep, give in ((kept.append, torch.detach), (lambda own: None, lambda own: own)):
        step, init, xs, params = ascent(keep, give)
        with pytest.raises(ValueError, match="if the step made it itself, detach what it returns, and keep it nowhere"):
            scan(step, init, xs, slots=3, params=params)
    step, init, xs, params = ascent(lambda own: kept.append(own.detach()), torch.detach)
    gradient = gradients(scan(step, init, xs, slots=3, params=params), params)
    torch.testing.assert_close(gradient, gradients(loop(step, init, xs), params), rtol=1e-10, atol=1e-14)


# What torch's own tracer looks at.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    ("idiom", "options"),
    [
        (by_grad, {"slots": 2, "chunk": 2}),
        pytest.param(by_autograd, {"slots": 2, "chunk": 2}, marks=pytest.mark.slow),
        pytest.param(by_grad, {"budget": "24KiB"}, marks=pytest.mark.slow),
        pytest.param(by_autograd, {"budget": "24KiB"}, marks=pytest.mark.slow),
    ],
)
def test_it_may_be_compiled(idiom, options):
    step, init, xs, params = problem(idiom)
    gradient = gradients(scan(step, init, xs, params=params, compile=True, **options), params)
    torch.testing.assert_close(gradient, gradients(loop(step, init, xs), params), rtol=1e-10, atol=1e-14)
