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
# # 4. HSM: storing hidden states only
#
# A recurrent network is unrolled over $t$ steps and there is room for $m$ hidden states, the starting state included.
# Running forward $y$ steps and storing the hidden state reached there leaves two smaller problems of the same kind:
# the right part, with one slot less, and then the left part, with all of them. The least number of forwards is
# (equations (1)-(3) of the paper)
#
# $$C(t, m) = \min_{1 \le y < t} \big[\, y + C(t - y,\, m - 1) + C(y,\, m) \,\big], \qquad
# C(1, m) = 1, \quad C(t, 1) = \tfrac{t(t+1)}{2}, \quad C(t, m) = 2t - 1 \ \text{ for } m \ge t .$$
#
# This notebook solves it: the cost, **all** optimal splits, and how often each step runs, in closed form for every $t$
# and $m$. Forwards are counted, first pass and recomputation together; one working core is outside the budget.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %% [markdown]
# ## The closed form
#
# Here $r$ is the smallest integer with $t \le \binom{m+r}{m}$: no step is advanced over more than $r$ times. The proof
# is an induction on $(m, t)$; sympy verifies its steps.

# %%
from membptt_proofs import dp
from membptt_proofs.notebook import show_derivation
from membptt_theory.derive import hsm
from membptt_theory.tables import optimal_cost

show_derivation(hsm.closed_form())

naive = dp.hsm(60, 10)
assert all(naive[m][t] == optimal_cost("hsm", t, m) for m in range(1, 11) for t in range(1, 61))
print("closed form == the recurrence solved naively, t <= 60, m <= 10")
print("any t at once: C(10^9, 50) =", optimal_cost("hsm", 10**9, 50))

# %% [markdown]
# ## The cost against $t$ and $m$
#
# Left, the paper's figure 2a: forwards per step. Right: the same at $t = 1000$ against memory. Fifty slots instead of a
# thousand cost less than one further forward a step.

# %%
from itertools import pairwise

import numpy as np

from membptt_theory.palette import BLUE, SERIES

SLOTS = (10, 50, 100, 500, 1000)
lengths = np.arange(1, 1001)
curves = {m: np.array([optimal_cost("hsm", int(t), m) for t in lengths]) for m in SLOTS}
at_1000 = [int(curves[m][-1]) for m in SLOTS]
assert at_1000 == [4636, 2948, 2898, 2498, 1999]
assert all((np.diff(curve, n=2) >= 0).all() for curve in curves.values()), "convex in t"
assert all((curves[a] >= curves[b]).all() for a, b in pairwise(SLOTS)), "more slots never cost more"

figure, (left, right) = plt.subplots(1, 2)
for color, m in zip(SERIES, SLOTS, strict=True):
    left.plot(lengths, curves[m] / lengths, color=color, label=f"$m = {m}$")
left.set(xlabel="sequence length $t$ [steps]", ylabel="forwards per step $C/t$", ylim=(0.9, 5.3))
left.legend(ncols=3, loc="upper left", columnspacing=1)
budgets = np.unique(np.geomspace(2, 1000, 120).astype(int))
right.plot(budgets, [optimal_cost("hsm", 1000, int(m)) / 1000 for m in budgets], color=BLUE)
right.plot(SLOTS, np.array(at_1000) / 1000, "o", color=BLUE, markersize=4)
places = {10: (4, 5), 50: (-4, -12), 100: (2, 5), 500: (3, 4), 1000: (-6, -4)}
for m, cost in zip(SLOTS, at_1000, strict=True):
    side = "left" if places[m][0] > 0 else "right"
    right.annotate(f"{cost / 1000:.3f}", (m, cost / 1000), xytext=places[m], textcoords="offset points", ha=side)
right.set(xscale="log", yscale="log", xlabel="slots $m$ [hidden states]", ylabel="forwards per step at $t = 1000$")
right.set_yticks([2, 4, 10, 20], ["2", "4", "10", "20"])
right.minorticks_off()
plt.show()

# %% [markdown]
# ## Every optimal split
#
# The optimal $y$ form an interval, never empty. It shrinks to a point at the breakpoints $t = \binom{m+r}{m}$. The
# table stores its lower end.

# %%
from math import comb

from membptt_theory.palette import BLACK, GREEN, VERMILLION
from membptt_theory.tables import build

show_derivation(hsm.split_interval())

BANDS, LONGEST = (3, 5, 10), 220
table = build("hsm", LONGEST, max(BANDS))
for m in BANDS:
    for t in range(2, LONGEST + 1):
        costs = {y: y + table.cost(t - y, m - 1) + table.cost(y, m) for y in range(1, t)}
        optimal = [y for y, cost in costs.items() if cost == min(costs.values())]
        assert optimal == list(hsm.optimal_splits(t, m)), (t, m)
        assert table.decision(t, m)[1] == optimal[0]

figure, axes = plt.subplots(1, 3, sharey=True)
for ax, m, color in zip(axes, BANDS, (BLUE, VERMILLION, GREEN), strict=True):
    t = np.arange(2, LONGEST + 1)
    ends = [hsm.optimal_splits(int(n), m) for n in t]
    low, high = np.array([e[0] for e in ends]), np.array([e[-1] for e in ends])
    ax.fill_between(t, low, high, color=color, alpha=0.3, linewidth=0, label="all optimal $y$")
    ax.plot(t, low, color=color, linewidth=1, label="the table's (smallest)")
    breaks = [n for n in (comb(m + r, m) for r in range(1, 20)) if n <= LONGEST]
    assert all(len(hsm.optimal_splits(n, m)) == 1 for n in breaks)
    points = [hsm.optimal_splits(n, m)[0] for n in breaks]
    ax.plot(breaks, points, "o", color=BLACK, markersize=3, label=r"breakpoints $\binom{m+r}{m}$")
    ax.set(title=f"$m = {m}$", xlabel="sequence length $t$ [steps]")
axes[0].set_ylabel("split $y$ [steps]")
axes[2].legend(loc="upper left")
plt.show()

# %% [markdown]
# ## How often each step runs
#
# The number $N(k, t, m)$ of steps that run exactly $k$ times does not depend on which optimal splits are taken.

# %%
from collections import Counter

from membptt_theory.actions import Advance, Record

show_derivation(hsm.step_counts())


def runs(actions, steps):
    """Count how often each step is run by a stream of actions."""
    times = [0] * steps
    for action in actions:
        match action:
            case Advance(start, stop):
                for step in range(start, stop):
                    times[step] += 1
            case Record(step):
                times[step] += 1
    return times


SHOWN = (5, 10, 50, 100)
large = build("hsm", 1000, max(SHOWN))
counts = {m: hsm.step_evaluations(1000, m) for m in SHOWN}
for m, count in counts.items():
    assert sum(count) == 1000
    assert sum(k * many for k, many in enumerate(count)) == optimal_cost("hsm", 1000, m)
    metered = Counter(runs(large.schedule(1000, m), 1000))
    assert tuple(metered[k] for k in range(len(count))) == count

figure, ax = plt.subplots(figsize=(7.0, 2.5))
for index, (m, count) in enumerate(counts.items()):
    ax.bar(np.arange(len(count)) + 0.2 * (index - 1.5), count, width=0.19, color=SERIES[index], label=f"$m = {m}$")
ax.set(xlabel="times a step runs, $k$", ylabel="steps, of $t = 1000$", xlim=(0.5, 9.5), xticks=range(1, 10))
ax.legend()
plt.show()

# %% [markdown]
# Two ways to read "at most $a$ forwards a step": no step runs more than $a$ times up to $t = \binom{m+a-1}{m}$, and the
# average stays at most $a$ up to the paper's $T(a, m)$, of which the paper gives a lower bound only.

# %%
from membptt_theory.derive import regime

show_derivation(regime.most_times("hsm"))
show_derivation(regime.average_hsm())
for m in (4, 10, 50):
    for a in (2, 3, 5):
        longest = regime.longest_average("hsm", a, m)
        assert optimal_cost("hsm", longest, m) <= a * longest
        assert optimal_cost("hsm", longest + 1, m) > a * (longest + 1)
        print(f"m = {m:2}, a = {a}: every step to t = {regime.longest_each('hsm', a, m):9,}, average to {longest:9,}")

# %% [markdown]
# ## A schedule, drawn
#
# What the table decides for $t = 10$, $m = 4$ (the paper's figure 3), drawn from the stream of actions that the runtime
# executes: position to the right, execution downward, an orange bar for a stored hidden state.

# %%
from membptt_theory.actions import Sizes
from membptt_theory.machine import meter
from membptt_theory.picture import draw_timeline, legend
from membptt_theory.timeline import timeline

stream = list(build("hsm", 10, 4).schedule(10, 4))
report = meter(stream, steps=10, sizes=Sizes(hidden=1, internal=None))
assert (report.forwards, report.peak, report.recorded) == (24, 4, 10)
assert report.forwards == optimal_cost("hsm", 10, 4)

drawn = timeline(stream, steps=10, sizes=Sizes(hidden=1, internal=None))
assert drawn.forwards == report.forwards

figure, ax = plt.subplots(figsize=(3.6, 4.4))
draw_timeline(ax, drawn)
ax.legend(handles=legend(drawn), loc="lower right", fontsize=7)
plt.show()
print(report)

# %% [markdown]
# ## Is it optimal?
#
# The recurrence chooses among nested splits only. The referee searches **every** legal schedule of hidden states
# (store, drop, restart, recompute) by shortest path, and finds nothing better.

# %%
from membptt_proofs.oracle import least_forwards

for t in range(1, 9):
    assert all(least_forwards(t, m, Sizes(1, None)) == optimal_cost("hsm", t, m) for m in range(1, t + 2)), t
print("search over all legal schedules == HSM, t <= 8, every m")

# %% [markdown]
# ## Claims covered
#
# For a refuted statement of the paper (here: that Algorithm 2 runs as printed) OK means that its counterexample holds.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = (
    "hsm-recurrence",
    "hsm-closed-form",
    "hsm-splits",
    "hsm-step-counts",
    "most-times",
    "average-hsm",
    "metered-cost-equals-table",
    "table-bellman",
    "hsm-optimal",
    "algorithm-2",
)
assert check_claims(CLAIMS)
