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
# # 8. Chen's strategies, and when it is half the memory
#
# Chen et al. (2016) cut the sequence into segments of $L$ steps: hidden states between them, full internal states
# inside one segment. Applied to the segments again and again, with $p$ parts a level, it becomes the recursive
# strategy. Their paper counts orders of magnitude; here are exact forwards and slots for every $t$, uneven last
# segments included, and what the paper's policies save at the same cost.
#
# Units: a hidden state takes one slot, an internal state whose input is stored (as inside a segment) $\beta$ slots.
# The starting state counts; one working core does not.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %% [markdown]
# ## Exact costs
#
# $K = \lceil t/L \rceil$ segments, the last of $l = t - (K-1)L$ steps: $2t - l$ forwards, for the first pass records
# the last segment at once.

# %%
from membptt_proofs.notebook import show_derivation
from membptt_theory.actions import Sizes
from membptt_theory.chen import recursive_cost, recursive_schedule, sqrt_cost, sqrt_schedule
from membptt_theory.derive import chen
from membptt_theory.machine import meter

sqrt_strategy, recursive_strategy, never_worse = chen.derivations()
show_derivation(sqrt_strategy)
show_derivation(recursive_strategy)

for t in range(1, 41):
    for segment in range(1, t + 1):
        sizes = Sizes(1, 5, 4)
        report = meter(sqrt_schedule(t, segment), steps=t, sizes=sizes)
        assert (report.forwards, report.peak) == sqrt_cost(t, segment, sizes), (t, segment)
    for parts in range(2, t + 2):
        report = meter(recursive_schedule(t, parts), steps=t, sizes=Sizes(1, None))
        assert (report.forwards, report.peak) == recursive_cost(t, parts), (t, parts)
print("formulas == metered streams, t <= 40, every segment length and number of parts")

# %% [markdown]
# At a fixed depth $h$ and the recursive strategy's own cost $t\,(1 + h - h/p)$, HSM needs $(h!)^{1/(h-1)} / h$ of its
# slots as $t$ grows: all of them at $h = 2$, and $1/e$ at last.

# %%
from bisect import bisect_left
from math import factorial

from membptt_theory.tables import optimal_cost

print("depth  parts  Chen's slots  HSM's   ratio   limit")
for depth, parts in ((2, 1000), (3, 1000), (4, 300), (5, 150)):
    t = parts**depth
    cost = recursive_cost(t, parts)
    least = bisect_left(range(cost.slots + 1), True, lo=1, key=lambda m: optimal_cost("hsm", t, m) <= cost.forwards)
    limit = factorial(depth) ** (1 / (depth - 1)) / depth
    print(f"{depth:5}  {parts:5}  {cost.slots:12}  {least:5}  {least / cost.slots:6.3f}  {limit:6.3f}")
    assert abs(least / cost.slots - limit) < 0.005

# %%
import numpy as np

from membptt_theory.chen import best_segment
from membptt_theory.palette import BLACK, BLUE, GREEN, VERMILLION

STEPS = 1000
figure, (left, right) = plt.subplots(1, 2, sharex=True)
lengths = np.arange(1, STEPS + 1)
for color, known in zip((BLUE, VERMILLION, GREEN), (2, 5, 10), strict=True):
    sizes = Sizes(1, known + 1, known)
    costs = [sqrt_cost(STEPS, int(segment), sizes) for segment in lengths]
    slots = np.array([cost.slots for cost in costs])
    best = best_segment(STEPS, sizes)
    assert slots.min() == slots[best - 1]
    # Segments of sqrt(t / beta) are best but for rounding: 2 sqrt(beta t) - beta - 1 <= slots <= 2 sqrt(beta t) + 2.
    assert (int(slots.min()) + known + 1) ** 2 >= 4 * known * STEPS >= (int(slots.min()) - 2) ** 2
    left.plot(lengths, slots, color=color, linewidth=1, label=rf"$\beta = {known}$: {slots.min()} at $L = {best}$")
    left.plot(best, slots.min(), "o", color=color, markersize=4)
forwards = np.array([cost.forwards for cost in costs])
assert (forwards == 2 * STEPS - ((STEPS - 1) % lengths + 1)).all()
left.set(xscale="log", yscale="log", xlabel="segment length $L$ [steps]", ylabel="memory [slots]", ylim=(40, 12000))
left.legend(loc="upper center")
right.plot(lengths, forwards / STEPS, color=BLACK, linewidth=0.8)
right.set(xscale="log", xlabel="segment length $L$ [steps]", ylabel=f"forwards per step at $t = {STEPS}$")
plt.show()

# %% [markdown]
# ## Never better (B8)
#
# Chen's schedules are among those that MSM minimises over. Every dot is one of Chen's, at $t = 300$, $\beta = 4$; the
# line is MSM (10) at the same memory.

# %%
from membptt_theory.palette import ORANGE
from membptt_theory.tables import build

show_derivation(never_worse)

STEPS, KNOWN, LIMIT = 300, 4, 400
sizes = Sizes(1, KNOWN + 1, KNOWN)
mixed = build("msm", STEPS, LIMIT, internal=KNOWN + 1, internal_known=KNOWN)
segments = [sqrt_cost(STEPS, segment, sizes) for segment in range(1, STEPS + 1)]
recursive = [recursive_cost(STEPS, parts) for parts in range(2, STEPS + 1)]
segments, recursive = ([cost for cost in many if cost.slots <= LIMIT] for many in (segments, recursive))
assert all(mixed.cost(STEPS, cost.slots) <= cost.forwards for cost in (*segments, *recursive))
assert all(optimal_cost("hsm", STEPS, cost.slots) <= cost.forwards for cost in recursive)

figure, ax = plt.subplots(figsize=(7.0, 2.9))
m = np.arange(2, LIMIT + 1)
ax.plot(m, [mixed.cost(STEPS, int(s)) / STEPS for s in m], color=BLACK, label=rf"MSM (10), $\beta = {KNOWN}$")
hsm = [optimal_cost("hsm", STEPS, int(s)) / STEPS for s in m]
ax.plot(m, hsm, color=BLUE, linestyle=(0, (5, 2)), label="HSM")
for name, color, marker, many in (("sqrt(t)", VERMILLION, "o", segments), ("recursive", ORANGE, "^", recursive)):
    slots, forwards = [cost.slots for cost in many], [cost.forwards / STEPS for cost in many]
    ax.plot(slots, forwards, marker, color=color, markersize=3, linestyle="none", label=f"Chen, {name}")
ax.set(xscale="log", xlabel="memory [slots]", ylabel=f"forwards per step at $t = {STEPS}$", ylim=(0.9, 6.5))
ax.set_xticks([5, 10, 20, 50, 100, 200, 400], ["5", "10", "20", "50", "100", "200", "400"])
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# ## Memory at two forwards a step
#
# The longest $t$ that MSM does in $2t - l$ forwards is known exactly, with $S(m) = \sum_{j \le m} \lceil j/\beta
# \rceil$ and $\alpha > \beta$; so the least memory is a formula at any $t$, about $\sqrt{2 \beta t}$. That no schedule
# at all does better is a theorem, checked by Coq (claim `any-schedule-cost-two`): (10) is optimal with shared storage.

# %%
from membptt_theory.derive import cost_two

for derivation in cost_two.derivations():
    show_derivation(derivation)

for known in (1, 2, 5):
    table = build("msm", 200, 80, internal=known + 1, internal_known=known)
    for t in range(1, 201):
        enough = next(m for m in range(1, 81) if table.cost(t, m) <= 2 * t)
        assert enough == cost_two.least_slots(t, known), (t, known)
print("least memory by formula == by table, t <= 200, beta = 1, 2, 5")

# %% [markdown]
# Over the $\sqrt t\,(1 + \beta)$ that the paper gives Chen's strategy (its figure 7a), with the limit
# $\sqrt{2\beta}/(1 + \beta)$ dashed. The claim "about half the memory" is the grey line.

# %%
from membptt_theory.derive import chen_memory
from membptt_theory.palette import GREY, SERIES

memory, other_policies = chen_memory.derivations()
show_derivation(memory)

KNOWN = (1, 2, 5, 6, 10)
lengths = [int(t) for t in np.unique(np.geomspace(10, 10**8, 160).astype(int))]
at_1000 = {known: chen_memory.memory_at_chens_cost(1000, known).ratio for known in KNOWN}
assert [f"{at_1000[known]:.3f}" for known in (2, 5, 10)] == ["0.664", "0.517", "0.394"]

figure, ax = plt.subplots(figsize=(7.0, 3.1))
for color, known in zip(SERIES, KNOWN, strict=True):
    ratio = np.array([cost_two.least_slots(t, known) / (t**0.5 * (1 + known)) for t in lengths])
    limit = (2 * known) ** 0.5 / (1 + known)
    # |m - sqrt(2 beta t)| = beta/2 + O(1), so the ratio is this close to its limit.
    assert all(abs(r - limit) <= (known / 2 + 3) / (t**0.5 * (1 + known)) for r, t in zip(ratio, lengths, strict=True))
    label = rf"$\beta = {known}$: {at_1000[known]:.3f} at $t = 1000$, limit {limit:.3f}"
    ax.plot(lengths, ratio, color=color, linewidth=1, label=label)
    ax.axhline(limit, color=color, linewidth=0.8, linestyle=(0, (5, 3)))
ax.axhline(0.5, color=GREY, linewidth=3, alpha=0.5, zorder=0)
ax.set(
    xscale="log",
    xlabel="sequence length $t$ [steps]",
    ylabel=r"MSM's slots over $\sqrt{t}\,(1 + \beta)$",
    ylim=(0.2, 0.8),
)
ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()

# %% [markdown]
# ## When is it half?
#
# In the limit exactly for $\beta \ge 3 + 2\sqrt 2 \approx 5.83$: for every whole $\beta \ge 6$. Below, only up to a
# last $t$. But $L = \sqrt t$ is not Chen's best segment: against $L = \sqrt{t/\beta}$ the factor is $1/\sqrt 2$ for
# **every** $\beta$, and half is never reached.

# %%
assert [chen_memory.last_at_most_half(known) for known in (1, 2, 3, 4, 5, 6)] == [5, 8, 17, 52, 267, None]
assert all(chen_memory.last_at_most_half(known) is None for known in range(6, 41))
known = np.arange(1, 21)
# sqrt(2b)/(1+b) <= 1/2 exactly where 8 b <= (1+b)**2.
assert [int(b) for b in known if 8 * b <= (1 + b) ** 2] == list(range(6, 21))
far = [chen_memory.memory_at_chens_cost(10**8, int(b)) for b in known]
against_best = np.array([memory.msm / memory.best for memory in far])
assert (abs(against_best - 0.5**0.5) < 0.001).all()
assert (against_best > 0.5).all()

figure, ax = plt.subplots(figsize=(7.0, 2.8))
fine = np.linspace(1, 20, 400)
ax.plot(
    fine, np.sqrt(2 * fine) / (1 + fine), color=BLACK, label=r"limit $\sqrt{2\beta}/(1+\beta)$, segments of $\sqrt{t}$"
)
ax.plot(known, [memory.ratio for memory in far], "o", color=BLACK, markersize=4, label="exact at $t = 10^8$")
ax.axhline(0.5**0.5, color=BLUE, label=r"limit $1/\sqrt{2}$, Chen's best segment")
ax.plot(known, against_best, "s", color=BLUE, markersize=4, label="exact at $t = 10^8$")
ax.axhline(0.5, color=GREY, linewidth=3, alpha=0.5, zorder=0)
cross = 3 + 2 * 2**0.5
ax.plot([cross] * 2, [0.25, 0.5], color=VERMILLION, linewidth=1, linestyle=":")
ax.text(cross + 0.2, 0.26, r"half at $\beta = 3 + 2\sqrt{2}$", color=VERMILLION)
ax.set(
    xlabel=r"internal state $\beta$ [hidden states]", ylabel="MSM's memory over Chen's", ylim=(0.24, 1.0), xticks=known
)
ax.legend(ncols=2, loc="upper right")
plt.show()

# %% [markdown]
# HSM and ISM alone save nothing at two forwards a step, only the mixture does:

# %%
from math import isqrt

show_derivation(other_policies)
for t in (10, 100, 1000, 10_000):
    by_hsm = next(m for m in range(max(1, t - 5), t + 1) if optimal_cost("hsm", t, m) <= 2 * t)
    by_ism = next(n for n in range(1, t + 1) if optimal_cost("ism", t, n) <= 2 * t)
    assert by_hsm == t - 2
    assert optimal_cost("hsm", t, by_hsm - 1) > 2 * t
    needed = chen_memory.memory_at_chens_cost(t, 5)
    chens = sqrt_cost(t, isqrt(t), Sizes(1, 6, 5)).slots
    assert needed.chen == chens >= needed.best >= needed.msm
    assert 6 * by_ism > needed.best
    alone = f"HSM {by_hsm:6,}, ISM {6 * by_ism:5,}"
    print(f"t = {t:6,}, beta = 5: {alone}, Chen {chens:4,}, his best {needed.best:4,}, MSM {needed.msm:4,} slots")

# %% [markdown]
# ## More than two forwards
#
# At $a$ forwards a step MSM, with $\alpha > \beta$, needs about $(a!\, \beta t)^{1/a}$ slots: orders of magnitude less
# for one forward more.

# %%
from membptt_theory.derive import cost_fixed

show_derivation(cost_fixed.fixed_cost())

KNOWN = 5
figure, ax = plt.subplots(figsize=(7.0, 2.8))
for color, average in zip((VERMILLION, BLUE, GREEN, BLACK), (2, 3, 4, 6), strict=True):
    slots = np.unique(np.geomspace(1, 3000, 120).astype(int))
    reach = [cost_fixed.longest_between(int(m), KNOWN, average) for m in slots]
    assert all(bounds.least <= bounds.most for bounds in reach)
    kept = [(bounds, m) for bounds, m in zip(reach, slots, strict=True) if bounds.most <= 10**6]
    assert all(bounds.most <= 1.02 * bounds.least for bounds, m in kept if m >= 30), "the brackets are tight"
    ax.plot([bounds.least for bounds, _ in kept], [m for _, m in kept], color=color, label=f"MSM, $C \\leq {average}t$")
t = np.geomspace(1, 10**6, 50)
ax.plot(t, 2 * np.sqrt(KNOWN * t), color=ORANGE, linestyle=(0, (5, 2)), label=r"Chen, $2\sqrt{\beta t}$")
ax.set(xscale="log", yscale="log", xlabel="sequence length $t$ [steps]", ylabel=rf"memory [slots], $\beta = {KNOWN}$")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## Claims covered

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = (
    "chen-sqrt-cost",
    "chen-recursive-cost",
    "B8",
    "msm-alpha-cut",
    "msm-cost-two",
    "any-schedule-cost-two",
    "B9",
    "chen-memory-hsm-ism",
    "msm-fixed-cost",
)
assert check_claims(CLAIMS)
