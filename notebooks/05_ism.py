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
# # 5. ISM: storing internal states only
#
# An *internal state* is all that is needed to backpropagate one step without running it again. Storing the internal
# state of step $y$ leaves the $t - y$ steps to its right and the $y - 1$ steps to its left (equations (4)-(5)):
#
# $$C(t, m) = \min_{1 \le y \le t} \big[\, y + C(y - 1,\, m) + C(t - y,\, m - 1) \,\big], \qquad
# C(0, m) = 0, \quad C(t, 1) = \tfrac{t(t+1)}{2}, \quad C(t, m) = t \ \text{ for } m \ge t .$$
#
# This notebook shows that ISM is HSM in disguise, one step longer; that as printed it wastes one slot; and when
# internal states are the worse use of the same memory.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %% [markdown]
# ## The duality with HSM
#
# The minimum of ISM's $Q$ over $y$ is, term by term, that of HSM at $t + 1$ steps. The closed form, the interval of
# optimal splits and the step counts follow.

# %%
from membptt_proofs import dp
from membptt_proofs.notebook import show_derivation
from membptt_theory.derive import ism
from membptt_theory.tables import optimal_cost

show_derivation(ism.duality())
show_derivation(ism.closed_form())

naive = dp.ism(60, 10)
assert all(naive[m][t] == optimal_cost("ism", t, m) for m in range(1, 11) for t in range(1, 61))
assert all(
    optimal_cost("ism", t, m) == optimal_cost("hsm", t + 1, m) - (t + 1) for m in range(1, 41) for t in range(1001)
)
print("closed form == the recurrence solved naively, t <= 60, m <= 10; duality with HSM, t <= 1000, m <= 40")

# %% [markdown]
# Left: the costs of HSM and ISM, and HSM's shifted by one step and lowered by $t + 1$: on ISM's, at every $t$. Right:
# the optimal splits of ISM at $t$ are those of HSM at $t + 1$.

# %%
import numpy as np

from membptt_theory.derive import hsm
from membptt_theory.palette import BLACK, BLUE, VERMILLION
from membptt_theory.tables import build

LONGEST, SPLIT_SLOTS = 120, 5
assert all(ism.optimal_splits(t, SPLIT_SLOTS) == hsm.optimal_splits(t + 1, SPLIT_SLOTS) for t in range(1, LONGEST + 1))
table = build("ism", LONGEST, SPLIT_SLOTS)
for t in range(1, LONGEST + 1):
    costs = [y + table.cost(y - 1, SPLIT_SLOTS) + table.cost(t - y, SPLIT_SLOTS - 1) for y in range(1, t + 1)]
    best = [y for y, cost in enumerate(costs, start=1) if cost == min(costs)]
    assert best == list(ism.optimal_splits(t, SPLIT_SLOTS)), t

figure, (left, right) = plt.subplots(1, 2)
t = np.arange(1, LONGEST + 1)
for color, m in ((BLUE, 3), (VERMILLION, 10)):
    above = np.array([optimal_cost("hsm", int(n), m) for n in t])
    below = np.array([optimal_cost("ism", int(n), m) for n in t])
    shifted = np.array([optimal_cost("hsm", int(n) + 1, m) - (n + 1) for n in t])
    assert (shifted == below).all()
    left.plot(t, above, color=color, linestyle=(0, (5, 2)), label=f"HSM, $m = {m}$")
    left.plot(t, below, color=color, label=f"ISM, $m = {m}$")
    dots = t[::8] - 1
    left.plot(t[dots], shifted[dots], "o", color=color, markersize=4, fillstyle="none")
left.plot([], [], "o", color=BLACK, markersize=4, fillstyle="none", label="$C_{HSM}(t+1, m) - (t+1)$")
left.set(xlabel="sequence length $t$ [steps]", ylabel="cost $C$ [forwards]")
left.legend()
for name, module, color, hatch in (("HSM", hsm, BLUE, "////"), ("ISM", ism, VERMILLION, None)):
    ends = [module.optimal_splits(int(n), SPLIT_SLOTS) for n in t[1:45]]
    low, high = [e[0] for e in ends], [e[-1] for e in ends]
    band = {"facecolor": "none", "edgecolor": color, "hatch": hatch} if hatch else {"color": color, "alpha": 0.35}
    right.fill_between(t[1:45], low, high, linewidth=0.6, label=f"{name}, $m = {SPLIT_SLOTS}$", **band)
right.set(xlabel="sequence length $t$ [steps]", ylabel="all optimal splits $y$ [steps]", xlim=(0, 45))
right.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## The cost
#
# The paper's figure 5a, and its abstract: at $t = 1000$, 5 % of the memory takes one third more time, a backward
# counted as two forwards.

# %%
from membptt_theory.palette import SERIES

SLOTS = (10, 50, 100, 500, 1000)
lengths = np.arange(1, 1001)
curves = {m: np.array([optimal_cost("ism", int(n), m) for n in lengths]) for m in SLOTS}
at_1000 = [int(curves[m][-1]) for m in SLOTS]
assert at_1000 == [3640, 1950, 1900, 1500, 1000]
assert all((np.diff(curve, n=2) >= 0).all() for curve in curves.values()), "convex in t"
time_of_all, time_of_50 = (optimal_cost("ism", 1000, m) + 2 * 1000 for m in (1000, 50))
assert 3 * (time_of_50 - time_of_all) <= time_of_all

figure, ax = plt.subplots(figsize=(7.0, 2.6))
for color, m in zip(SERIES, SLOTS, strict=True):
    ax.plot(lengths, curves[m] / lengths, color=color, label=f"$m = {m}$: {curves[m][-1] / 1000:.3f} at $t = 1000$")
ax.set(xlabel="sequence length $t$ [steps]", ylabel="forwards per step $C/t$", ylim=(0.9, 3.9))
ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()
print(f"50 of 1000 internal states: {time_of_50} against {time_of_all} units of time")

# %% [markdown]
# How often each step runs, and how far a given cost reaches:

# %%
from membptt_theory.derive import regime

show_derivation(ism.step_counts())
show_derivation(regime.most_times("ism"))
show_derivation(regime.average_ism())
for m in (4, 10, 50):
    count = ism.step_evaluations(1000, m)
    assert sum(count) == 1000
    assert sum(k * many for k, many in enumerate(count)) == optimal_cost("ism", 1000, m)
    longest = regime.longest_average("ism", 2, m)
    assert optimal_cost("ism", longest, m) <= 2 * longest
    assert optimal_cost("ism", longest + 1, m) > 2 * (longest + 1)
    print(f"m = {m:2}: of 1000 steps {dict(enumerate(count))} run k: N times; two forwards a step up to t = {longest}")

# %% [markdown]
# ## The wasted slot
#
# The paper leaves one working core outside the budget: it holds the internal state of the step being backpropagated.
# The last step to run needs no slot, then. The recurrence stores it nevertheless, and so ISM with $m$ slots costs what
# the best of **all** legal schedules of internal states costs with $m - 1$.

# %%
from membptt_proofs.oracle import least_costs
from membptt_theory.actions import Sizes

LONG = 9
ONLY_INTERNAL = Sizes(hidden=None, internal=1)
search = [least_costs(LONG, m, ONLY_INTERNAL) for m in range(LONG + 1)]
for t in range(1, LONG + 1):
    assert all(search[m - 1][t] == optimal_cost("ism", t, m) for m in range(1, LONG + 1)), t
assert all(search[m][LONG] < optimal_cost("ism", LONG, m) for m in range(1, LONG)), "the waste costs forwards"

recurrence = [optimal_cost("ism", LONG, m) for m in range(1, LONG + 1)]
figure, ax = plt.subplots(figsize=(7.0, 2.6))
m = np.arange(1, LONG + 1)
ax.plot(m, recurrence, "s-", color=VERMILLION, label="recurrence (5), $m$ slots")
ax.plot(m, [search[k][LONG] for k in m], "o-", color=BLUE, label="search over all legal schedules, $m$ slots")
before = [search[k - 1][LONG] for k in m]
ax.plot(m, before, "x", color=BLACK, markersize=8, label="search, $m - 1$ slots")
ax.set(xlabel="slots $m$ [internal states]", ylabel=f"forwards at $t = {LONG}$", yscale="log")
ax.set_yticks([10, 20, 40], ["10", "20", "40"])
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# The smallest case: $t = 2$ steps, $m = 1$ slot. The recurrence says $C(2, 1) = 3$. The search stores step 0 and keeps
# step 1 in the working core: two forwards.

# %%
from membptt_proofs.oracle import optimal_schedule
from membptt_theory.machine import meter

witness = list(optimal_schedule(2, 1, ONLY_INTERNAL))
report = meter(witness, steps=2, sizes=ONLY_INTERNAL)
assert (optimal_cost("ism", 2, 1), report.forwards, report.peak) == (3, 2, 1)
print("\n".join(map(str, witness)))

# %% [markdown]
# ## Hidden or internal, in the same room
#
# An internal state takes $\alpha$ times the room of a hidden state. At $\alpha = 5$, 50 hidden states fit where 10
# internal states do, and 100 where 20 do. ISM is cheaper on short sequences and HSM on long ones (the paper's figure
# 6).

# %%
figure, axes = plt.subplots(1, 2, sharey=True)
for ax, (hidden, internal, crossing) in zip(axes, ((50, 10, 309), (100, 20, 1919)), strict=True):
    lengths = np.arange(1, 4 * crossing)
    by_hidden = np.array([optimal_cost("hsm", int(n), hidden) for n in lengths])
    by_internal = np.array([optimal_cost("ism", int(n), internal) for n in lengths])
    first = int(lengths[by_hidden < by_internal][0])
    assert first == crossing
    assert (by_hidden < by_internal)[lengths >= crossing].all()
    ax.plot(lengths, by_hidden / lengths, color=BLUE, label=f"HSM, {hidden} hidden states")
    ax.plot(lengths, by_internal / lengths, color=VERMILLION, label=f"ISM, {internal} internal states")
    ax.axvline(
        crossing, color=BLACK, linewidth=0.8, linestyle=":", ymax=0.6, label=f"HSM cheaper from $t = {crossing}$"
    )
    ax.set(xscale="log", xlabel="sequence length $t$ [steps]")
    ax.legend(loc="upper left")
axes[0].set(ylabel="forwards per step $C/t$", ylim=(0.9, 6))
plt.show()

# %% [markdown]
# ## Claims covered
#
# For a refuted statement of the paper (optimality with as many slots; the $C(t, 1) = t(t+2)/2$ of appendix B) OK means
# that its counterexample holds.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = (
    "ism-recurrence",
    "ism-closed-form",
    "duality",
    "ism-splits",
    "ism-step-counts",
    "most-times",
    "average-ism",
    "targets",
    "B10",
    "hsm-overtakes-ism",
    "ism-optimal",
    "ism-as-printed-optimal",
    "appendix-b-boundary",
)
assert check_claims(CLAIMS)
