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
# # 9. Why it is optimal
#
# A recurrence gives the best schedule of *its* shape: store a state, do what lies to its right, come back for the left.
# A machine is free to do other things: drop a state early and run to it again, store it twice, run past it. Why does
# none of that help? Because any legal schedule can be cut into two legal schedules of shorter problems.
#
# Hidden states only, a slot each, the starting state included: HSM. $C(t, m)$ are its least forwards.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %% [markdown]
# ## A legal schedule, drawn by lot
#
# It stores, drops and restarts as chance has it. The machine accepts it: every step goes backward, in order, from what
# is stored, in three slots. It takes 31 forwards, the best one 22.

# %%
from random import Random

from membptt_proofs.cut import HIDDEN, cut, forwards, random_schedule
from membptt_theory.picture import draw_memory, draw_timeline
from membptt_theory.tables import optimal_cost
from membptt_theory.timeline import timeline

T, M = 9, 3
whole = random_schedule(T, M, Random(27))
drawn = timeline(whole, steps=T, sizes=HIDDEN)
assert (drawn.forwards, drawn.peak, optimal_cost("hsm", T, M)) == (31, M, 22)

figure, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=(3, 1), figsize=(5.5, 4.2))
draw_timeline(left, drawn)
draw_memory(right, drawn)
plt.show()

# %% [markdown]
# ## Where to cut it
#
# For each position $v$: how many slots does a problem that *starts* at $v$ ever need, itself and what is stored beyond
# it? The lowest $v$ that never needs more than $m - 1$ is the cut. One position lower it is too much at some instant:
# then $m - 1$ states are stored from $v$ on. One slot is left, and it holds the start.

# %%
from membptt_theory.machine import Machine

parts = cut(whole, T, M)
machine, most = Machine(T, HIDDEN), [1] * T
for number, action in enumerate(whole, 1):
    machine.execute(action)
    for v in range(machine.next_backward + 1):
        most[v] = max(most[v], 1 + sum(v < position < T for position in machine.hidden))
    if number == parts.instant:
        print(f"at the instant are stored {sorted(machine.hidden)}")
print(f"slots from v on, v = 0 .. {T - 1}: {most}, so the cut is v = {parts.place}")
assert parts.place == next(v for v in range(T) if most[v] <= M - 1)

# %% [markdown]
# ## Its two parts
#
# *From $v$ on*: leave out what happens below, and read $v$ for whatever lies below. That is a schedule of $t - v$ steps
# in $m - 1$ slots. *Below $v$, after the instant*: leave out what happens beyond. Nothing is stored there but the
# start, so it is a schedule of $v$ steps in $m$ slots. The machine executes both.

# %%
below = timeline(parts.left, steps=parts.place, sizes=HIDDEN)
beyond = timeline(parts.right, steps=T - parts.place, sizes=HIDDEN)
assert below.peak <= M
assert beyond.peak <= M - 1

figure, axes = plt.subplots(1, 3, sharey=True, width_ratios=(T, parts.place, T - parts.place), figsize=(7, 4.2))
for ax, part, first in zip(axes, (drawn, below, beyond), (0, 0, parts.place), strict=True):
    draw_timeline(ax, part)
    ax.set_xticks(range(part.steps + 1), [str(first + position) for position in range(part.steps + 1)])
for ax in axes:
    ax.set(ylim=(len(drawn.cells) + 0.4, -0.8), ylabel="")
axes[0].axvline(parts.place, color="black", linewidth=0.9)
for ax, title in zip(axes, ("the whole, cut at $v$", "below $v$, after the instant", "from $v$ on"), strict=True):
    ax.set_title(title, loc="left")
plt.show()

# %% [markdown]
# ## The inequality, in numbers
#
# Before the instant the steps below $v$ ran at least once: a state from $v$ on was reached. So
#
# $$\text{cost} \;\geq\; v + \text{left} + \text{right} \;\geq\; v + C(v, m) + C(t - v, m - 1) \;\geq\; C(t, m).$$
#
# The second step is the same theorem for shorter problems, the last one is the recurrence, which takes the least over
# all $v$. (If the cut is at the start, a slot was never needed.)

# %%
place, least = parts.place, optimal_cost("hsm", T, M)
terms = optimal_cost("hsm", place, M), optimal_cost("hsm", T - place, M - 1)
print(f"{drawn.forwards} >= {place} + {below.forwards} + {beyond.forwards} = {parts.bound}", end=" ")
print(f">= {place} + {terms[0]} + {terms[1]} = {place + sum(terms)} >= {least}")
assert drawn.forwards >= parts.bound >= place + sum(terms) >= least

for seed in range(1000):
    other = cut(random_schedule(T, M, Random(seed)), T, M)
    pair = optimal_cost("hsm", other.place, M), optimal_cost("hsm", T - other.place, M - 1)
    assert forwards(other.whole, 0, T) >= other.bound >= other.place + sum(pair) >= least
print("and so for 1,000 others")

# %% [markdown]
# ## The theorem
#
# Coq checks the argument, for every schedule, every $t$ and every $m$: `proofs_check/formal`, whose README walks
# through it. `optimum pol m t c` says that some complete schedule of $t$ steps in $m$ slots costs $c$, and no legal one
# costs less. In ISM and (10) other states fit beside one another, and they are cut in the same way.

# %%
from membptt_proofs.formal_theorems import committed

print(committed()["Theorems.hsm_exact"])
print(committed()["Theorems.optimum"])

# %% [markdown]
# ## Claims covered

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = ("hsm-optimal", "hsm-recurrence")
assert check_claims(CLAIMS)
