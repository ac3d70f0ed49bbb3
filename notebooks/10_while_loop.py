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
# # 10. Loops whose length nobody knows
#
# An adaptive solver, a network that thinks until it is sure, a game played to its end: how many steps there are is
# known when the loop is over. `membptt.while_loop` backpropagates through it in a fixed number of stored states.
# Forwards, bytes and gradients below are exact and asserted.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %% [markdown]
# ## A solver that chooses its own steps
#
# Dormand and Prince's method on Van der Pol's oscillator, which is stiff: where the solution turns, steps are twenty
# times smaller than elsewhere. A step whose error is too large is rejected and tried again. `solvers.step` is the whole
# method, in 20 lines of torch.

# %%
from functools import partial

import torch

from bench import solvers
from membptt import meter, while_loop

torch.set_num_threads(1)
stiffness = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
y0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
f, END = solvers.van_der_pol(stiffness), 25.0
goes_on, body = partial(solvers.goes_on, end=END), lambda state: solvers.step(f, state, END, 1e-5)

with meter() as report:
    state, steps = while_loop(goes_on, body, solvers.start(f, y0, 1e-3), slots=10, params=[stiffness])
    gradients = torch.autograd.grad(state.y.sum(), [stiffness, y0])
print(f"{steps} steps, {report.forwards} evaluations forward and backward, {report.peak_bytes} bytes at most")

# %% [markdown]
# ## Plain autograd says the same
#
# The gradient flows through the step sizes too. Plain autograd keeps the graph of every step.

# %%
from membptt_theory import online

states = [solvers.start(f, y0, 1e-3)]
while goes_on(states[-1]):
    states.append(body(states[-1]))
expected = torch.autograd.grad(states[-1].y.sum(), [stiffness, y0])
assert len(states) - 1 == steps
assert report.forwards == online.cost(steps, 10)
assert torch.equal(states[-1].y, state.y)
gradients_equal = all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(gradients, expected, strict=True))
assert gradients_equal
print("d/d stiffness =", f"{gradients[0]:.6f}")

# %%
from membptt_theory.palette import BLACK, BLUE, GREY, ORANGE, VERMILLION

times = torch.stack([state.time for state in states]).detach()
tried = torch.stack([state.size for state in states]).detach()
rejected = times[1:] == times[:-1]
assert 0 < int(rejected.sum()) < steps / 4

figure, (left, right) = plt.subplots(1, 2)
left.plot(times, [state.y[0, 0].item() for state in states], color=BLUE)
left.set(xlabel="time", ylabel="position")
right.plot(times[:-1], tried[:-1], color=GREY, linewidth=0.8, label="tried")
right.plot(times[:-1][rejected], tried[:-1][rejected], "x", color=VERMILLION, markersize=4, label="rejected")
right.set(xlabel="time", ylabel="size of a step", yscale="log")
right.legend()
plt.show()

# %% [markdown]
# ## What is stored while nobody knows
#
# A loop of 24 steps in four slots, as it happens to end: position to the right, execution downward. States are stored
# on the way, and old ones give way to new ones. When the loop is over, the gaps between them are completed from the
# last to the first, as HSM does it where the length is known. The last step is never run twice: every step of the loop
# is recorded, and its graph is given up when there is another (such a step is drawn as advanced).

# %%
from membptt_theory.picture import draw_timeline, legend
from membptt_theory.timeline import timeline

drawn = timeline(online.schedule(24, 4), steps=24, sizes=online.SIZES)
figure = plt.figure(figsize=(5, 4.4))
draw_timeline(figure.subplots(), drawn)
figure.legend(handles=legend(drawn), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# ## What it costs not to know
#
# Forwards over those of the optimal schedule for the length that turns out. Until $\binom{m+2}{2}$ steps nothing is
# lost; the dashed line is what the default never exceeds, at any length. Two published policies for comparison, one
# with equinox's halved gaps.

# %%
from itertools import islice

from membptt_theory.tables import optimal_cost

T = 2000
figure, axes = plt.subplots(1, 2, sharey=True)
for ax, m in zip(axes, (5, 20), strict=True):
    optimum = [optimal_cost("hsm", t, m) for t in range(1, T + 1)]
    for name, color in (("equinox", GREY), ("wang_moin_iaccarino", ORANGE), (online.DEFAULT, BLUE)):
        ratios = [cost / best for cost, best in zip(islice(online.POLICIES[name].costs(m), T), optimum, strict=True)]
        ax.plot(range(1, T + 1), ratios, color=color, linewidth=1, label=name.replace("_", " "))
    assert max(ratios) <= online.promise(m)
    assert max(ratios[: (m + 2) * (m + 1) // 2]) == 1
    ax.axhline(float(online.promise(m)), color=BLACK, linestyle="--", linewidth=0.8)
    ax.set(xscale="log", ylim=(0.98, 1.6), xlabel="steps", title=f"{m} slots")
axes[0].set_ylabel("forwards / optimum")
axes[1].legend(loc="upper left")
plt.show()

# %% [markdown]
# ## Bytes
#
# The solver again, to later and later ends. Ours do not grow with the number of steps; plain autograd's do.

# %%
from bench.meter import live_bytes


def peak(end: float, loop) -> tuple[int, int]:
    """Steps, and bytes that a gradient takes at most."""
    counts = []

    def run() -> None:
        cond, body = partial(solvers.goes_on, end=end), lambda state: solvers.step(f, state, end, 1e-5)
        state, steps = loop(cond, body, solvers.start(f, y0, 1e-3))
        torch.autograd.grad(state.y.sum(), [stiffness, y0])
        counts.append(steps)

    return live_bytes(run, [y0, stiffness], []).peak, counts[0]


# %%
def plain(cond, body, carry):
    """The loop, under plain autograd."""
    steps = 0
    while cond(carry):
        carry, steps = body(carry), steps + 1
    return carry, steps


ENDS = (1.0, 2.0, 4.0, 8.0)
figure, ax = plt.subplots(figsize=(3.6, 2.9))
ours = partial(while_loop, slots=5, params=[stiffness])
loops = {"plain autograd": (plain, BLACK), "while_loop, 5 slots": (ours, BLUE)}
for label, (loop, color) in loops.items():
    sizes = [peak(end, loop) for end in ENDS]
    ax.plot([steps for _, steps in sizes], [size / 1024 for size, _ in sizes], "o-", color=color, label=label)
    print(f"{label}: {[size for size, _ in sizes]} bytes at {[steps for _, steps in sizes]} steps")
assert sizes[-1][0] < 1.05 * sizes[0][0], "what is stored does not grow with the number of steps"
ax.set(xlabel="steps", ylabel="peak [KiB]", yscale="log")
ax.legend()
plt.show()

# %% [markdown]
# ## A network that thinks until it is sure
#
# Two moons. A recurrent cell looks at a point again and again; the point is through once a class has 95 %. Members of a
# batch stop at different times: those that are through keep their state (`torch.where`), and the loop runs as long as
# the slowest, at most 30 steps.

# %%
torch.manual_seed(0)


def moons(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points on two arcs, with noise, and which arc each is on."""
    angle, label = torch.rand(count) * torch.pi, torch.randint(2, (count,))
    x = torch.where(label == 0, angle.cos(), 1 - angle.cos())
    y = torch.where(label == 0, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], 1) + 0.1 * torch.randn(count, 2), label


cell, head = torch.nn.GRUCell(2, 16), torch.nn.Linear(16, 2)
weights = [*cell.parameters(), *head.parameters()]
bounded = partial(while_loop, slots=4, max_steps=30, strict=False, params=weights)


# %%
def unsure(h: torch.Tensor) -> torch.Tensor:
    return head(h).softmax(-1).amax(-1) < 0.95


def classify(points: torch.Tensor, loop=bounded):
    def body(carry):
        h, counts = carry
        active = unsure(h)
        return torch.where(active[:, None], cell(points, h), h), counts + active

    start = torch.zeros(len(points), 16), torch.zeros(len(points), dtype=torch.int64)
    (h, counts), steps = loop(lambda carry: unsure(carry[0]).any(), body, start)
    return head(h), counts, steps


# %%
optimizer, losses, means = torch.optim.Adam(weights, lr=0.02), [], []
for _ in range(80):
    points, labels = moons(64)
    logits, counts, steps = classify(points)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    means.append(counts.float().mean().item())

# %%
points, labels = moons(600)
with torch.no_grad():
    logits, counts, steps = classify(points)
right_answers = (logits.argmax(-1) == labels).float().mean().item()
assert right_answers > 0.9
assert counts.max() == steps
assert counts.min() < steps, "easy points stop earlier"
assert sum(means[-10:]) < sum(means[:10]), "it learns to be sure"

figure, (left, right) = plt.subplots(1, 2)
left.plot(means, color=GREY)
left.set(xlabel="update", ylabel="steps a point, on average")
twin = left.twinx()
twin.plot(losses, color=BLUE)
twin.set_ylabel("loss", color=BLUE)
twin.grid(visible=False)
shown = right.scatter(*points.T, c=counts, s=6, cmap="viridis")
figure.colorbar(shown, ax=right, label="steps until sure")
plt.show()

# %% [markdown]
# The same gradient as the loop's, at some moment of the training:


# %%
def cut_short(cond, body, carry):
    """The loop under plain autograd, at most 30 steps."""
    steps = 0
    while steps < 30 and cond(carry):
        carry, steps = body(carry), steps + 1
    return carry, steps


points, labels = moons(64)
pair = []
for options in ({}, {"loop": cut_short}):
    logits, _, _ = classify(points, **options)
    pair.append(torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), weights))
assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*pair, strict=True))

# %% [markdown]
# ## Claims covered
#
# The first two need torch: OK means that they hold for everything that ran above, and their tests check them on the
# ranges that the ledger states. The others are checked by their referees.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = ("while-forwards-equal-online-cost", "while-gradients-equal-autograd", "online-metered", "online-every-length")
ran_here = {
    "while-forwards-equal-online-cost": report.forwards == online.cost(len(states) - 1, 10),
    "while-gradients-equal-autograd": gradients_equal,
}
assert check_claims(CLAIMS, ran_here)
