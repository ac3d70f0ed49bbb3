# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Ten lines: a long recurrence in a fixed amount of memory
#
# `loss.backward()` through a recurrence of $t$ steps keeps what every step needs for its backward: memory grows with
# $t$. `membptt.scan` keeps a fixed number of states and recomputes the rest, in the order that an exact table says. The
# gradient is plain autograd's. This notebook runs it, counts what it does and shows what it keeps.

# %%
import torch

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that equal gradients are seen to be equal

# %% [markdown]
# ## The ten lines
#
# A step takes the carry and one input, and returns the next carry and one output. `scan` runs it over a sequence;
# what comes back is differentiable like the result of any other operation.

# %%
from membptt import scan

cell = torch.nn.LSTMCell(16, 32)
xs = torch.randn(1000, 8, 16)  # 1000 steps, batch 8
init = (torch.zeros(8, 32), torch.zeros(8, 32))


def step(carry, x):
    h, c = cell(x, carry)
    return (h, c), h


(h, c), ys = scan(step, init, xs, policy="hsm", slots=50, params=cell.parameters())
ys.square().mean().backward()
print("outputs", tuple(ys.shape), " final state", tuple(h.shape))
print("gradients", *(tuple(weight.grad.shape) for weight in cell.parameters()))

# %% [markdown]
# ## The same gradient
#
# Plain autograd on the plain loop is the reference. Recomputation repeats the same operations on the same numbers; what
# can differ is the order in which the steps' contributions to a weight are added up.


# %%
def loop(step, carry, xs):
    """Plain autograd: the for loop that scan stands for."""
    ys = []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, torch.stack(ys)


def gradients(run, parameters, *inputs):
    """Return the gradient of every parameter and input of the mean squared output."""
    wanted = [*parameters, *inputs]
    _, ys = run()
    return torch.autograd.grad(ys.square().mean(), wanted)


def error(ours, theirs):
    """Return the largest difference, relative to the largest entry of the same gradient."""
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in zip(ours, theirs, strict=True))


xs.requires_grad_()
weights = list(cell.parameters())
plain = gradients(lambda: loop(step, init, xs), weights, xs)
errors = {}
for policy, slots, sizes in (("hsm", 50, {}), ("ism", 20, {}), ("msm", 60, {"internal": 5}), ("hsm", 1, {})):
    seen = xs[:100] if slots == 1 else xs  # one slot recomputes everything, t (t + 1) / 2 forwards: shorter
    expected = plain if slots > 1 else gradients(lambda: loop(step, init, xs[:100]), weights, xs)
    call = {"policy": policy, "slots": slots, "params": weights, **sizes}
    scanned = gradients(lambda call=call, seen=seen: scan(step, init, seen, **call), weights, xs)
    errors[policy, slots] = error(scanned, expected)
    assert errors[policy, slots] <= 1e-10
    print(f"{policy:4} {slots:3} slots, {len(seen):5} steps: gradients of weights and inputs differ by less than 1e-10")

# %% [markdown]
# ## What it did, counted
#
# `meter` counts forwards of the step, and the bytes of everything that is stored, each storage once. Both are exact and
# the same from run to run. What the table says before anything runs is what is counted afterwards.

# %%
from membptt import meter
from membptt_theory.tables import optimal_cost

with meter() as report:
    _, ys = scan(step, init, xs, policy="hsm", slots=50, params=weights)
    ys.square().mean().backward()
assert report.forwards == optimal_cost("hsm", 1000, 50) == 2948
assert (report.recorded, report.backwards, report.live_bytes) == (1000, 1000, 0)
print(f"{report.forwards} forwards ({report.advanced} of them advance), {report.backwards} backwards")
print(f"peak of stored states and working core: {report.peak_bytes:,} bytes")

# %% [markdown]
# ## Memory over the run
#
# Plain autograd keeps every step's graph until the backward pass comes back to it: a triangle. Here its saved tensors
# are counted as they come and go, each storage once, without inputs and weights; beside it what `scan` holds, after
# every forward and at every backward of a step: less than two per cent of the memory, for two further forwards a step.


# %%
import weakref

import matplotlib.pyplot as plt
import numpy as np

import membptt
from membptt_proofs.notebook import set_style
from membptt_theory.palette import BLACK, BLUE, VERMILLION

set_style()


class Kept:
    """A saved tensor, as long as the graph needs it."""

    def __init__(self, tensor):
        self.tensor = tensor.detach()


class PlainMeter(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that a graph keeps, each storage once."""

    def __init__(self, outside):
        super().__init__(self.keep, lambda kept: kept.tensor)
        self.outside = {tensor.untyped_storage().data_ptr() for tensor in outside}
        self.report = membptt.Report()

    def keep(self, tensor):
        kept, storage = Kept(tensor), tensor.untyped_storage()
        if storage.data_ptr() not in self.outside:
            part = {storage.data_ptr(): storage.nbytes()}
            self.report.hold(part)
            weakref.finalize(kept, self.report.release, part)
        return kept


def watched(step, line, report):
    """Return the step, noting the live bytes at every forward and at every backward."""

    def noting(carry, x):
        (h, c), y = step(carry, x)
        line.append(report.live_bytes)
        if h.requires_grad:
            h.register_hook(lambda _: line.append(report.live_bytes))
        return (h, c), y

    return noting


lines = {"plain": [], "scan": []}
counting = PlainMeter((xs, *weights, *init))
with counting:
    _, ys = loop(watched(step, lines["plain"], counting.report), init, xs)
    ys.square().mean().backward()
with meter() as report:
    _, ys = scan(watched(step, lines["scan"], report), init, xs, policy="hsm", slots=50, params=weights)
    ys.square().mean().backward()
assert len(lines["plain"]) == 2000
assert len(lines["scan"]) == 2948 + 1000
assert max(lines["scan"]) <= report.peak_bytes < max(lines["plain"]) / 50
share = report.peak_bytes / max(lines["plain"])
print(f"peak {share:.3f} of plain's {max(lines['plain']):,} bytes, {2948 / 1000:.2f} forwards a step instead of 1")

figure, (left, right) = plt.subplots(1, 2)
kib = {name: np.array(line) / 1024 for name, line in lines.items()}
left.plot(kib["plain"], color=BLACK, linestyle="--", label="plain autograd")
left.plot(kib["scan"], color=BLUE, label="scan, 50 hidden states")
left.set(xlabel="forwards and backwards of single steps", ylabel="live bytes [KiB]")
left.legend(loc="upper right")
right.plot(kib["scan"], color=BLUE, linewidth=0.5)
right.axhline(report.peak_bytes / 1024, color=VERMILLION, linestyle=":")
right.text(0, report.peak_bytes / 1024 * 1.02, "metered peak", color=VERMILLION)
right.set(xlabel="the same, scan alone", ylim=(0, report.peak_bytes / 1024 * 1.15))
plt.show()

# %% [markdown]
# ## The schedule, drawn
#
# The table decides what is stored when. Here for 24 steps in 4 slots: position to the right, execution downward, each
# box one forward or one backward of a step, each bar a stored state. The steps are called in the order that is drawn.

# %%
from membptt_theory.picture import draw_timeline, legend
from membptt_theory.tables import build
from membptt_theory.timeline import Kind, timeline

STEPS, SLOTS = 24, 4
called = []


def recording(carry, x):
    called.append(int(x))
    return torch.tanh(carry + x), carry


start = torch.zeros(1, requires_grad=True)
scan(recording, start, torch.arange(float(STEPS)), slots=SLOTS)[0].sum().backward()


table = build("hsm", STEPS, SLOTS)
drawn = timeline(table.schedule(STEPS, SLOTS), steps=STEPS, sizes=table.sizes)
assert [step for step, kind in drawn.cells if kind is not Kind.BACK] == called
assert len(called) == optimal_cost("hsm", STEPS, SLOTS)

figure, ax = plt.subplots(figsize=(5.0, 5.6))
draw_timeline(ax, drawn)
ax.legend(handles=legend(drawn), loc="lower right")
plt.show()

# %% [markdown]
# ## A cell of your own
#
# Any pytree is a carry, any module a step; its parameters are found. Here a leaky memory beside a gated state, and an
# output that is reduced on the way, so that nothing grows with $t$.


# %%
class LeakyGated(torch.nn.Module):
    """A gated state that reads a slow, leaky trace of itself."""

    def __init__(self, inputs, size):
        super().__init__()
        self.gate = torch.nn.Linear(inputs + 2 * size, size)
        self.candidate = torch.nn.Linear(inputs + size, size)
        self.leak = torch.nn.Parameter(torch.full((size,), 0.9))

    def forward(self, carry, x):
        h, trace = carry["h"], carry["trace"]
        gate = torch.sigmoid(self.gate(torch.cat([x, h, trace], -1)))
        h = (1 - gate) * h + gate * torch.tanh(self.candidate(torch.cat([x, h], -1)))
        trace = self.leak * trace + (1 - self.leak) * h
        return {"h": h, "trace": trace}, trace.square().mean()


own = LeakyGated(16, 32)
begin = {"h": torch.zeros(8, 32), "trace": torch.zeros(8, 32)}
_, expected = loop(own, begin, xs[:300])
expected = torch.autograd.grad(expected.mean(), list(own.parameters()))
with meter() as own_report:
    _, loss = scan(own, begin, xs[:300], policy="hsm", slots=12, reduce="mean")
    scanned = torch.autograd.grad(loss, list(own.parameters()))
errors["own cell"] = error(scanned, expected)
assert errors["own cell"] <= 1e-10
assert own_report.forwards == optimal_cost("hsm", 300, 12)
print(f"{own_report.forwards} forwards, {own_report.peak_bytes:,} bytes, gradients equal")

# %% [markdown]
# ## A drop-in layer
#
# `membptt.nn.LSTM`, `GRU` and `RNN` take what torch's layers take, plus `slots` and `chunk`: torch's own kernel runs
# `chunk` steps at once. A `state_dict` goes either way.

# %%
theirs = torch.nn.LSTM(16, 32, num_layers=2)
ours = membptt.nn.LSTM(16, 32, num_layers=2, slots=4, chunk=50)
ours.load_state_dict(theirs.state_dict())
print(ours)

out, _ = theirs(xs)
expected = torch.autograd.grad(out.square().mean(), [*theirs.parameters(), xs])
with meter() as layer_report:
    again, _ = ours(xs)
    scanned = torch.autograd.grad(again.square().mean(), [*ours.parameters(), xs])
errors["layer"] = max(error(scanned, expected), error([again], [out]))
assert errors["layer"] <= 1e-10
assert layer_report.forwards == optimal_cost("hsm", 20, 4)
print(f"20 cores of 50 steps in 4 slots: {layer_report.forwards} kernel calls forward, values and gradients equal")

# %% [markdown]
# ## Claims covered
#
# The first three need torch: OK means that they hold for everything that ran above, and their tests check them on the
# ranges that the ledger states. The others are checked by their referees.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = (
    "scan-forwards-equal-table",
    "scan-gradients-equal-autograd",
    "nn-gradients-equal-torch",
    "hsm-closed-form",
    "hsm-optimal",
    "metered-cost-equals-table",
)
ran_here = {
    "scan-forwards-equal-table": (
        report.forwards == optimal_cost("hsm", 1000, 50)
        and own_report.forwards == optimal_cost("hsm", 300, 12)
        and layer_report.forwards == optimal_cost("hsm", 20, 4)
    ),
    "scan-gradients-equal-autograd": max(errors.values()) <= 1e-10,
    "nn-gradients-equal-torch": errors["layer"] <= 1e-10,
}
assert check_claims(CLAIMS, ran_here)
