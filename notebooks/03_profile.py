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
# # 3. Where the time goes
#
# The cost model has two numbers: what it costs to advance a core, and to record and backpropagate it. This notebook
# measures both, predicts, and compares with what `scan` takes: for cores of 1 to 64 steps, for a fused kernel, and for
# every policy in the same bytes. It ends with what got slower, and when plain autograd is the right choice.
#
# Times are processor times of one thread, medians of interleaved runs on the machine that executed this notebook; only
# their ratios mean anything elsewhere. What is asserted is what is exact: forwards, bytes and gradients.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %%
import time
from statistics import median

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
NAMES = {"hsm": "HSM", "ism": "ISM", "msm": "MSM", "msm_plus": "MSM+"}
STEPS, ROUNDS = 256, 3
CHUNKS = (1, 2, 4, 8, 16, 32, 64)
cell = torch.nn.GRUCell(16, 64)
weights = list(cell.parameters())
xs, h0 = torch.randn(STEPS, 16, 16), torch.zeros(16, 64)


def step(h, x):
    h = cell(x, h)
    return h, h.square().mean()


def plain(steps=STEPS):
    """Loop under autograd."""
    h, total = h0, torch.zeros(())
    for x in xs[:steps].unbind():
        h, y = step(h, x)
        total = total + y
    return total


def timed(calls, rounds=ROUNDS):
    """Run every call once a round, after one to warm up; return medians of processor seconds."""
    taken = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            before = time.thread_time()
            call()
            if number > 0:
                taken[name].append(time.thread_time() - before)
    return {name: median(times) for name, times in taken.items()}


# %% [markdown]
# ## The two operations
#
# A core of $k$ steps, advanced, and recorded and backpropagated, per step. What a larger core saves in the second is
# the call of autograd's engine, once a core instead of once a step; the arithmetic is the same.

# %%
import numpy as np

from membptt_theory.palette import BLUE, VERMILLION

starting = torch.zeros(16, 64, requires_grad=True)


def advance(chunk):
    """Advance a core."""
    with torch.no_grad():
        h = h0
        for x in xs[:chunk].unbind():
            h, _ = step(h, x)


def backprop(chunk):
    """Record a core and backpropagate it."""
    h, total = starting, torch.zeros(())
    for x in xs[:chunk].unbind():
        h, y = step(h, x)
        total = total + y
    torch.autograd.backward((total, h), (None, torch.ones_like(h)), inputs=[starting, *weights])


def repeated(operation, chunk):
    """Return a call of 64 steps, whatever the core: samples of equal length."""
    return lambda: [operation(chunk) for _ in range(64 // chunk)]


operations = {("advance", chunk): repeated(advance, chunk) for chunk in CHUNKS}
operations |= {("backprop", chunk): repeated(backprop, chunk) for chunk in CHUNKS}
seconds = {name: taken * name[1] / 64 for name, taken in timed(operations, rounds=7).items()}
backward_share = seconds["backprop", 16] / seconds["advance", 16]
print(f"16 steps a core: recording and backpropagating costs {backward_share:.1f} times what advancing costs")

per_step = {name: np.array([seconds[name, chunk] / chunk for chunk in CHUNKS]) for name in ("advance", "backprop")}
unit = per_step["backprop"][0]
figure, ax = plt.subplots(figsize=(4.6, 2.7))
ax.plot(CHUNKS, per_step["backprop"] / unit, "o-", color=BLUE, markersize=4, label="record and backpropagate")
ax.plot(CHUNKS, per_step["advance"] / unit, "^--", color=VERMILLION, markersize=4, label="advance")
ax.set(xscale="log", xlabel="steps a core", ylabel="time a step\n[one recorded single step]", ylim=(0, 1.35))
ax.set_xticks(CHUNKS, [str(chunk) for chunk in CHUNKS])
ax.minorticks_off()
ax.legend(loc="upper right", ncols=2)
plt.show()

# %% [markdown]
# ## Prediction against measurement
#
# HSM in eight slots, cores of 1 to 64 steps. With $n$ cores the table says $C(n, 8)$ forwards, so the model predicts
# $(C - n)$ times the one operation and $n$ times the other. What lies above the bar is the runtime's own work: storing,
# restoring, adding gradients up, most of it once a core, and collecting outputs, once a step.


# %%
from membptt import meter, scan
from membptt_theory.palette import BLACK, ORANGE
from membptt_theory.tables import optimal_cost


def scanned(**options):
    """One gradient of the mean output by scan."""
    scan(step, h0, xs, params=weights, reduce="mean", **options)[1].backward()


def clear():
    """Forget the gradients."""
    for weight in weights:
        weight.grad = None


with meter() as report:
    clear()
    scanned(slots=8)
ours = [weight.grad.clone() for weight in weights]
clear()
(plain() / STEPS).backward()
assert all(torch.allclose(a, w.grad, rtol=1e-4, atol=1e-7) for a, w in zip(ours, weights, strict=True))
assert report.forwards == optimal_cost("hsm", STEPS, 8)

cores = {chunk: STEPS // chunk for chunk in CHUNKS}
forwards = {chunk: optimal_cost("hsm", cores[chunk], 8) for chunk in CHUNKS}
peaks = {}
for chunk in CHUNKS:
    with meter() as report:
        scanned(slots=8, chunk=chunk)
    assert report.forwards == forwards[chunk]
    peaks[chunk] = report.peak_bytes
assert list(peaks.values()) == sorted(peaks.values()), "a larger core is a larger working core"

runs = {chunk: lambda chunk=chunk: scanned(slots=8, chunk=chunk) for chunk in CHUNKS}
runs["plain"] = lambda: plain().backward()
took = timed(runs)
parts = {
    "record and backpropagate": [cores[chunk] * seconds["backprop", chunk] for chunk in CHUNKS],
    "recompute": [(forwards[chunk] - cores[chunk]) * seconds["advance", chunk] for chunk in CHUNKS],
}
parts = {name: np.array(values) / took["plain"] for name, values in parts.items()}
measured = np.array([took[chunk] for chunk in CHUNKS]) / took["plain"]
predicted = sum(parts.values())

figure, ax = plt.subplots(figsize=(7.0, 3.0))
places, below = np.arange(len(CHUNKS)), np.zeros(len(CHUNKS))
for (name, values), color, hatch in zip(parts.items(), (BLUE, ORANGE), ("", "//"), strict=True):
    look = {"color": color, "hatch": hatch, "edgecolor": BLACK, "linewidth": 0.5, "label": name}
    ax.bar(places, values, bottom=below, width=0.6, **look)
    below = below + values
ax.plot(places, measured, "D", color=BLACK, markersize=5, label="measured")
ax.axhline(1.0, color=VERMILLION, linestyle="--", linewidth=1, label="plain autograd")
ax.set_xticks(places, [f"{chunk}\n{forwards[chunk] / cores[chunk]:.2f}" for chunk in CHUNKS])
ax.set(xlabel="steps a core, and forwards a core", ylabel="time / plain's", ylim=(0, 1.45 * max(measured)))
ax.legend(ncols=2, loc="upper right")
plt.show()
for chunk, ratio, whole in zip(CHUNKS, measured / predicted, measured, strict=True):
    print(f"{chunk:3} steps a core: {ratio:.2f} of the prediction, {whole:.2f} of plain, peak {peaks[chunk]:,} bytes")

# %% [markdown]
# ## A fused kernel runs whole cores
#
# `membptt.nn.GRU` hands `chunk` steps at once to torch's own kernel. The reference is `torch.nn.GRU`, which is plain
# autograd through one such call. (`scan(..., compile=True)` puts a core of any other step through `torch.compile`,
# where a compiler is found; the [benchmarks](../bench/README.md) time that, compiling takes longer than this
# notebook.)

# %%
import membptt

layer = torch.nn.GRU(16, 64)
layers = {chunk: membptt.nn.GRU(16, 64, slots=8, chunk=chunk) for chunk in CHUNKS}
for scanned_layer in layers.values():
    scanned_layer.load_state_dict(layer.state_dict())
layer.double()
expected = torch.autograd.grad(layer(xs.double())[0].square().mean(), list(layer.parameters()))
errors = []
for chunk, scanned_layer in layers.items():
    scanned_layer.double()
    with meter() as report:
        outputs = scanned_layer(xs.double())[0]
        grads = torch.autograd.grad(outputs.square().mean(), list(scanned_layer.parameters()))
    assert report.forwards == forwards[chunk], "kernel calls"
    errors += [float((a - b).abs().max() / b.abs().max()) for a, b in zip(grads, expected, strict=True)]
    scanned_layer.float()
layer.float()
assert max(errors) <= 1e-10

runs = {chunk: lambda each=each: each(xs)[0].square().mean().backward() for chunk, each in layers.items()}
runs |= {"torch.nn.GRU": lambda: layer(xs)[0].square().mean().backward(), "loop": lambda: plain().backward()}
fused = timed(runs)
figure, ax = plt.subplots(figsize=(4.6, 2.7))
ax.plot(CHUNKS, [fused[chunk] / fused["loop"] for chunk in CHUNKS], "o-", color=BLUE, label="membptt.nn.GRU, 8 slots")
ax.plot(CHUNKS, measured, "^--", color=ORANGE, label="scan over GRUCell, 8 slots")
ax.axhline(1.0, color=VERMILLION, linestyle="--", linewidth=1, label="plain loop over GRUCell")
ax.axhline(fused["torch.nn.GRU"] / fused["loop"], color=BLACK, linestyle=":", label="torch.nn.GRU")
ax.set(xscale="log", xlabel="steps a core", ylabel="time / plain loop's", ylim=(0, None))
ax.set_xticks(CHUNKS, [str(chunk) for chunk in CHUNKS])
ax.minorticks_off()
ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()
print(f"chunk 32: {fused[32] / fused['torch.nn.GRU']:.2f} of torch.nn.GRU, {fused[32] / fused['loop']:.2f} of the loop")

# %% [markdown]
# ## The policies in the same bytes
#
# A twentieth of what plain autograd keeps, one step a core. Which policy needs the fewest forwards is exact; how much
# that is worth depends on what a forward costs beside a backward, but **which schedule of a policy is best does not**:
# every step is recorded and backpropagated once, whatever the policy (claim `cost-ratio-invariance`).

# %%
from membptt_theory.palette import GREY
from membptt_theory.policies import POLICIES

whole = membptt.plan(step, h0, xs, budget="64MiB", chunk=1, policy="hsm", params=weights).chosen.measured
plain_bytes = whole.start + STEPS * (whole.internal + whole.hidden)
budget = plain_bytes // 20
plans = {
    policy: membptt.plan(step, h0, xs, budget=budget, chunk=1, policy=policy, params=weights) for policy in POLICIES
}
held = {}
for policy, plan in plans.items():
    with meter() as report:
        scanned(plan=plan)
    assert report.forwards == plan.chosen.forwards
    assert report.peak_bytes <= plan.peak_bytes <= budget
    held[policy] = report.peak_bytes / plain_bytes
runs = {policy: lambda plan=plan: scanned(plan=plan) for policy, plan in plans.items()}
compared = timed(runs | {"plain": lambda: plain().backward()})

figure, ax = plt.subplots(figsize=(5.0, 2.7))
places = np.arange(len(POLICIES))
counts = np.array([plans[policy].chosen.forwards for policy in POLICIES])
model = ((counts - STEPS) * seconds["advance", 1] + STEPS * seconds["backprop", 1]) / compared["plain"]
times = np.array([compared[policy] for policy in POLICIES]) / compared["plain"]
ax.bar(places - 0.2, model, width=0.38, color=GREY, edgecolor=BLACK, linewidth=0.5, label="predicted")
ax.bar(places + 0.2, times, width=0.38, color=BLUE, edgecolor=BLACK, linewidth=0.5, label="measured")
ax.axhline(1.0, color=VERMILLION, linestyle="--", linewidth=1, label="plain autograd")
ax.set_xticks(places, [f"{NAMES[policy]}\n{count / STEPS:.2f}" for policy, count in zip(POLICIES, counts, strict=True)])
ax.set(xlabel="policy, and forwards a step", ylabel="time / plain's", ylim=(0, 1.45 * max(times)))
ax.legend(ncols=3, loc="upper center")
plt.show()
for policy, count, ratio in zip(POLICIES, counts, times, strict=True):
    print(f"{NAMES[policy]:4} {count / STEPS:.3f} forwards a step: {held[policy]:.3f} of plain's bytes", end=", ")
    print(f"{ratio:.2f} of its time")

# %% [markdown]
# ## What got slower, and when plain autograd is right
#
# With a slot for every internal state ISM runs each step once, like plain autograd, and keeps as much. What is left is
# the price of going through single cores, and nothing is gained for it.

# %%
with meter() as report:
    scanned(slots=STEPS, policy="ism")
assert report.forwards == STEPS, "nothing is recomputed"
everything = report.peak_bytes / plain_bytes
runs = {
    "ism, a slot a step": lambda: scanned(slots=STEPS, policy="ism"),
    "hsm, a slot a step": lambda: scanned(slots=STEPS),
    "hsm, 8 slots, 16 steps a core": lambda: scanned(slots=8, chunk=16),
    "plain": lambda: plain().backward(),
}
times = timed(runs)
for name, value in times.items():
    print(f"{name:30} {value / times['plain']:.2f} of plain")
print(f"ISM with a slot a step keeps {everything:.2f} of plain's bytes")

# %% [markdown]
# - **Plain autograd is right where the sequence fits.** A scan adds work to each core, and with less than a full budget
#   most steps run twice or more.
# - **`torch.nn.GRU` and its like are right where they fit, too**: one fused call beats any loop over steps, scanned or
#   not. Where it does not fit, `membptt.nn` runs the same kernel core by core.
# - **Small steps in single-step cores are the worst case** of `scan`: the runtime's own work is a fixed time a core.
#   Give it a chunk first: most of the gain is there at 8 to 16 steps.
# - **A large step** (a deep network a step, a long batch) hides the runtime's work entirely, and the table's forwards
#   are all that is left to pay.

# %% [markdown]
# ## Claims covered
#
# The first two need torch: OK means that they hold for everything that ran above, and their tests check them on the
# ranges that the ledger states. The others are checked by their referees.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = ("scan-forwards-equal-table", "nn-gradients-equal-torch", "cost-ratio-invariance", "B10", "hsm-overtakes-ism")
ran_here = {
    "scan-forwards-equal-table": all(plan.chosen.forwards == counts[i] for i, plan in enumerate(plans.values())),
    "nn-gradients-equal-torch": max(errors) <= 1e-10,
}
assert check_claims(CLAIMS, ran_here)
