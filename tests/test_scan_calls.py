"""How a scan is called: arguments by keyword, modules as params, layers that are no steps, tensors of other kinds."""

import os
import signal
import sys
import textwrap
import threading

import pytest
import torch
from torch import nn

from membptt import SlowTier, meter, plan, scan
from membptt_theory.actions import Prices

from .cells import plain as loop

D = torch.float64
H0, XS = torch.zeros(2, 4, dtype=D), torch.linspace(-1, 1, 72, dtype=D).view(9, 2, 4)


def cell():
    torch.manual_seed(0)
    return nn.GRUCell(4, 4).double()


def recurrence(layer):
    def step(h, x):
        h = layer(x, h)
        return h, h

    return step


def gradients(ys, leaves):
    return torch.cat([part.flatten() for part in torch.autograd.grad(ys.square().sum(), leaves)])


# Arguments


def test_step_init_and_xs_may_be_given_by_keyword():
    layer = cell()
    given = {"step": recurrence(layer), "init": H0, "xs": XS, "params": layer}
    _, ys = scan(**given, slots=3)
    assert torch.equal(ys, loop(recurrence(layer), H0, XS)[1])
    assert plan(**given, budget="64KiB").steps == 9


class Shifted(nn.Module):
    """Has a buffer that learns."""

    def __init__(self):
        super().__init__()
        self.inner = cell()
        self.register_buffer("shift", torch.full((4,), 0.1, dtype=D, requires_grad=True))
        self.register_buffer("scale", torch.full((4,), 0.9, dtype=D))

    def forward(self, x, h):
        return self.inner(x * self.scale + self.shift, h)


@pytest.mark.parametrize("pack", [lambda *parts: nn.ModuleList(parts), lambda *parts: parts], ids=["module", "among"])
def test_a_module_as_params_stands_for_all_that_it_learns(pack):
    shifted, other, loose = Shifted(), cell(), torch.ones(4, dtype=D, requires_grad=True)

    def step(h, x):
        h = other(shifted(x, h) * loose, h)
        return h, h

    leaves = [*shifted.parameters(), shifted.shift, *other.parameters(), loose]
    params = (
        [pack(shifted, other), loose] if isinstance(pack(shifted, other), nn.Module) else [*pack(shifted, other), loose]
    )
    actual = gradients(scan(step, H0, XS, slots=3, params=params)[1], leaves)
    torch.testing.assert_close(actual, gradients(loop(step, H0, XS)[1], leaves))


def test_one_module_may_be_params_itself():
    layer = Shifted()
    leaves = [*layer.parameters(), layer.shift]
    actual = gradients(scan(recurrence(layer), H0, XS, slots=3, params=layer)[1], leaves)
    torch.testing.assert_close(actual, gradients(loop(recurrence(layer), H0, XS)[1], leaves))


LAYERS = {
    "LSTMCell": (nn.LSTMCell, (H0, H0)),
    "GRUCell": (nn.GRUCell, H0),
    "RNNCell": (nn.RNNCell, H0),
    "LSTM": (nn.LSTM, (H0[None], H0[None])),
    "GRU": (nn.GRU, H0[None]),
    "RNN": (nn.RNN, H0[None]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_torch_is_no_step_and_the_wrapper_that_the_error_shows_works(name):
    """Of equal sizes, a GRUCell would even run with input and carry exchanged."""
    make, init = LAYERS[name]
    torch.manual_seed(0)
    layer = make(4, 4).double()
    with pytest.raises(
        TypeError, match=rf"returns \(carry, y\), a torch.nn.{name} is called layer\(x, carry\)"
    ) as raised:
        scan(layer, init, XS, slots=3)
    _, wrapper, call = str(raised.value).split("\n\n")
    space = {"layer": layer, "scan": scan, "init": init, "xs": XS}
    exec(textwrap.dedent(wrapper), space)
    _, ys = eval(call.strip().replace("...", "slots=3, chunk=2"), space)
    carry, expected = init, []
    for x in XS:
        given = x[None] if isinstance(layer, nn.RNNBase) else x
        out = layer(given, carry)
        carry = out[1] if isinstance(layer, nn.RNNBase) else out
        expected.append(carry[0] if isinstance(carry, tuple) else carry)
    leaves = list(layer.parameters())
    expected = torch.stack(expected).view_as(ys)
    torch.testing.assert_close(gradients(ys, leaves), gradients(expected, leaves))


@pytest.mark.parametrize("step", [nn.Linear(4, 4), lambda h: (h, h), lambda h, x, more: (h, x)])
def test_a_step_of_another_signature_is_told_how_it_is_called(step):
    with pytest.raises(TypeError, match=r"a step is called step\(carry, x\).*this one takes \(.*Wrap it in a function"):
        scan(step, H0.float(), XS.float(), slots=3)
    linear = nn.Linear(4, 4)

    def wrapped(carry, x):
        carry = torch.tanh(linear(carry + x))
        return carry, carry

    scan(wrapped, H0.float(), XS.float(), slots=3, params=linear)


def test_what_is_no_function_is_refused_and_errors_of_the_step_are_its_own():
    with pytest.raises(TypeError, match=r"step must be a function or a module, called step\(carry, x\), got int"):
        scan(3, H0, XS, slots=3)
    with pytest.raises(TypeError, match="unsupported operand"):
        scan(lambda h, x: (h + "1", x), H0, XS, slots=3)


# Of several undeclared tensors


def test_of_several_undeclared_tensors_the_one_that_the_code_names_comes_first():
    raw, other = (torch.full((4,), value, dtype=D, requires_grad=True) for value in (0.5, 0.7))
    gain = nn.functional.softplus(raw)

    def step(h, x):
        h = torch.tanh(h * gain + other * x)
        return h, h

    start = H0.clone().requires_grad_()
    with pytest.raises(ValueError, match=r"uses the tensor 'gain', of shape .*pass it in params="):
        scan(step, start, XS, slots=3)
    with pytest.raises(ValueError, match=r"uses the tensor 'other', of shape .*pass it in params="):
        scan(step, start, XS, slots=3, params=[gain])
    actual = gradients(scan(step, start, XS, slots=3, params=[gain, other])[1], [raw, other])
    gain = nn.functional.softplus(raw)
    torch.testing.assert_close(actual, gradients(loop(step, start, XS)[1], [raw, other]))


# Tensors of other kinds


class Tagged(torch.Tensor):
    """A subclass that changes what a function gives."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        return result * 0.5 if function is torch.tanh else result


SPILLED = {"slots": 1, "spill": SlowTier(4, Prices(8, 2, 1))}


@pytest.mark.parametrize(
    "options", [{"slots": 3}, {"slots": 2, "chunk": 2}, {"budget": "64KiB"}, {"slots": 3, "check": True}]
)
def test_a_subclass_is_itself_in_a_recomputation_whoever_starts_the_backward(options):
    weight = torch.ones(4, dtype=D, requires_grad=True)

    def step(h, x):
        h = torch.tanh(h * weight + x)
        return h, h

    start = H0.as_subclass(Tagged)
    with meter() as report:
        final, _ = scan(step, start, XS, params=[weight], **options)
        final.sum().backward()  # the backward of a subclass runs without what subclasses do
    actual, weight.grad = weight.grad, None
    loop(step, start, XS)[0].sum().backward()
    torch.testing.assert_close(actual, weight.grad)
    assert report.peak_bytes > 0


@pytest.mark.filterwarnings("ignore:Sparse (CSR|CSC) tensor support is in beta:UserWarning")
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
@pytest.mark.parametrize("options", [{"slots": 3}, {"budget": "64KiB"}, {"slots": 3, "check": True}])
def test_a_sparse_carry_is_scanned_and_weighed(layout, options):
    start = getattr(torch.eye(4), layout)().requires_grad_()

    def run(fn, **more):
        final, _ = fn(lambda h, x: (h * 0.5, x), start, XS[:, 0].float(), **more)
        (gradient,) = torch.autograd.grad(final.to_dense().sum(), start)
        return gradient.to_dense()

    with meter() as report:
        assert torch.equal(run(scan, **options), run(loop))
    assert report.peak_bytes > 0


def spilled(kind):
    if kind == "subclass":
        return lambda h, x: (h * 0.5, x), torch.ones(4).as_subclass(Tagged)
    return lambda h, x: (h * 0.5, x), torch.eye(4).to_sparse()


@pytest.mark.parametrize("kind", ["sparse", "subclass"])
@pytest.mark.parametrize("options", [SPILLED, {"budget": "64KiB", "spill": True}])
def test_what_cannot_be_spilled_is_one_clear_error_and_its_advice_works(kind, options):
    step, start = spilled(kind)
    start = start.requires_grad_()
    with pytest.raises(TypeError, match=r"only plain dense tensors can be spilled.*leave spill= out, or hand on"):
        scan(step, start, XS, **options)
    scan(step, start, XS, slots=1)[0].sum().backward()
    parts = start.detach().coalesce().values() if kind == "sparse" else start.detach().as_subclass(torch.Tensor)
    scan(step, parts.requires_grad_(), XS, **options)[0].sum().backward()


# Modes and processes


@pytest.mark.parametrize("options", [{}, {"chunk": 4}, {"spill": True}])
def test_a_plan_under_inference_mode_is_one_that_holds_outside(options):
    layer = cell()
    with torch.inference_mode():
        init, xs = torch.zeros(2, 4, dtype=D), XS * 1
        chosen = plan(recurrence(layer), init, xs, budget="64KiB", params=layer, **options)
        _, ys = scan(recurrence(layer), init, xs, budget="64KiB", params=layer, **options)
    assert torch.equal(ys, loop(recurrence(layer), H0, XS)[1])
    spill = {"spill": True} if chosen.chosen.tiers else {}
    with meter() as report:
        scan(recurrence(layer), H0, XS, plan=chosen, params=layer, **spill)[1].sum().backward()
    assert report.peak_bytes <= chosen.peak_bytes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_while_another_thread_scans_can_scan():
    layer, inside, go_on = cell(), threading.Event(), threading.Event()

    def waiting(h, x):
        inside.set()
        go_on.wait(60)
        return recurrence(layer)(h, x)

    thread = threading.Thread(target=lambda: scan(waiting, H0, XS, slots=3, params=layer))
    thread.start()
    inside.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(30)
        try:
            scan(recurrence(layer), H0, XS, slots=3, params=layer)[1].sum().backward()
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    go_on.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
