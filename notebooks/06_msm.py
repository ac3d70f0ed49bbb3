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
# # 6. MSM and MSM+: storing either kind
#
# A hidden state takes one unit of memory, an internal state $\alpha \ge 2$. MSM chooses at every cut (equations
# (6)-(9)):
#
# $$Q_1 = y + C(y, m) + C(t - y, m - 1), \quad 1 \le y < t; \qquad
# Q_2 = y + C(y - 1, m) + C(t - y, m - \alpha), \quad 1 \le y \le t; \qquad C = \min_y \min(Q_1, Q_2),$$
#
# with $C(t, 1) = t(t+1)/2$, $C(t, m) = t$ for $m \ge \alpha t$, and $C(1, m) = 1$, which the paper prints for HSM only
# and MSM needs as well: for $1 < m < \alpha$ no cut is legal at $t = 1$. Where the input hidden state is stored
# already, at $y = 1$, an internal state takes $\beta \le \alpha$ only (equation (10)).
#
# The paper takes over from HSM that this minimum is optimal and (appendix A) that convexity makes it fast to find.
# Neither holds. This notebook shows where it fails and what is right instead: **MSM+**, which knows whether the
# starting state may be given up.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %%
ALPHAS = (2, 3, 4, 5)

# %% [markdown]
# ## The mixture pays
#
# At $\alpha = 5$ and $t = 1000$: the best of HSM and ISM in the same room, and MSM below both. Without double storage
# ($\beta = 4$) it is cheaper again.

# %%
import numpy as np

from membptt_theory.palette import BLACK, BLUE, GREEN, VERMILLION
from membptt_theory.tables import build, optimal_cost

STEPS, ALPHA = 1000, 5
units = np.arange(ALPHA, 151)
mixed, known = build("msm", STEPS, 150, internal=ALPHA), build("msm", STEPS, 150, internal=ALPHA, internal_known=4)
by_hidden = np.array([optimal_cost("hsm", STEPS, int(m)) for m in units])
by_internal = np.array([optimal_cost("ism", STEPS, int(m) // ALPHA) for m in units])
by_either = np.array([mixed.cost(STEPS, int(m)) for m in units])
without_double = np.array([known.cost(STEPS, int(m)) for m in units])
assert (by_either <= np.minimum(by_hidden, by_internal)).all()
assert (without_double <= by_either).all()
assert [mixed.cost(STEPS, m) for m in (50, 100)] == [2723, 1995]
assert [known.cost(STEPS, m) for m in (50, 100)] == [2663, 1988]

figure, ax = plt.subplots(figsize=(7.0, 2.8))
ax.plot(units, by_hidden / STEPS, color=BLUE, linestyle=(0, (5, 2)), label="HSM, $m$ hidden states")
ax.plot(
    units,
    by_internal / STEPS,
    color=VERMILLION,
    linestyle=(0, (5, 2)),
    label=r"ISM, $\lfloor m/\alpha \rfloor$ internal states",
)
ax.plot(units, by_either / STEPS, color=BLACK, label="MSM (9)")
ax.plot(units, without_double / STEPS, color=GREEN, label=r"MSM (10), $\beta = 4$")
ax.set(xlabel="memory $m$ [units of one hidden state]", ylabel="forwards per step at $t = 1000$", ylim=(1.5, 6))
ax.legend(ncols=2)
plt.show()

# %% [markdown]
# ## Not convex
#
# HSM and ISM are convex in $t$, so that a split that neither neighbour improves is optimal, and the search takes
# $O(tm)$. The second difference $C(t+1) - 2C(t) + C(t-1)$ of MSM is negative in places: first at $\alpha = 2$, $t =
# 10$, $m = 3$.

# %%
END = 299
costs = build("msm", END, 2 * END, internal=2).costs[0, 1:]
bends = np.argwhere(np.diff(costs, n=2, axis=1) < 0) + 1  # rows (m, t)
assert len(bends) == 399
assert min((int(t), int(m)) for m, t in bends) == (10, 3)
for policy in ("hsm", "ism"):
    assert (np.diff(build(policy, END, 50).costs[0, 1:], n=2, axis=1) >= 0).all()

figure, (left, right) = plt.subplots(1, 2)
t = np.arange(1, 26)
second = np.diff(costs[2, :27], n=2)
negative = second < 0
assert second[9] == costs[2, 11] - 2 * costs[2, 10] + costs[2, 9] == -1
left.vlines(t, 0, second, color=BLUE, linewidth=1)
left.plot(t[~negative], second[~negative], "o", color=BLUE, markersize=4, label="convex here")
left.plot(t[negative], second[negative], "v", color=VERMILLION, markersize=6, label="negative")
left.axhline(0, color=BLACK, linewidth=0.6)
left.set(xlabel="sequence length $t$ [steps]", ylabel="$C(t+1) - 2C(t) + C(t-1)$ [forwards]", ylim=(-1.5, 3.2))
left.set_title(r"$\alpha = 2$, $m = 3$")
left.legend(ncols=2, loc="upper right")
right.plot(bends[:, 1], bends[:, 0], ".", color=VERMILLION, markersize=2.5)
right.set(xlabel="sequence length $t$ [steps]", ylabel="memory $m$ [units]", xlim=(0, 300), ylim=(0, 48))
right.set_title(rf"all {len(bends)} of $\alpha = 2$, $t < 300$")
plt.show()

# %% [markdown]
# ## Not optimal: the smallest counterexample
#
# $t = 2$ steps, $m = 2$ units, $\alpha = 2$. The starting state takes one unit and leaves one: no room for an internal
# state, so (9) runs step 0 twice, three forwards. The search over every legal schedule **drops the starting state for
# good** and keeps the internal state of step 0 in its place: two.

# %%
from membptt_proofs.oracle import least_costs, optimal_schedule
from membptt_theory.actions import Sizes
from membptt_theory.machine import meter

sizes = Sizes(hidden=1, internal=2)
by_recurrence = list(build("msm", 2, 2, internal=2).schedule(2, 2))
by_search = list(optimal_schedule(2, 2, sizes))
by_plus = list(build("msm_plus", 2, 2, internal=2).schedule(2, 2))
reports = [meter(stream, steps=2, sizes=sizes) for stream in (by_recurrence, by_search, by_plus)]
assert [report.forwards for report in reports] == [3, 2, 2]
assert all(report.peak <= 2 for report in reports)
assert all(least_costs(1, m, Sizes(1, alpha))[1] == 1 for alpha in ALPHAS for m in range(1, 3 * alpha)), "none at t = 1"


def side_by_side(columns, width=32):
    """Print streams of actions next to each other."""
    names, streams = zip(*columns.items(), strict=True)
    rows = [names, *((str(a) for a in row) for row in zip(*map(padded(streams), streams), strict=True))]
    print("\n".join("".join(f"{cell:{width}}" for cell in row).rstrip() for row in rows))


def padded(streams):
    """Return a function that fills a stream up to the longest one."""
    longest = max(map(len, streams))
    return lambda stream: [*stream, *[""] * (longest - len(stream))]


side_by_side({"MSM (9): 3 forwards": by_recurrence, "search: 2 forwards": by_search, "MSM+: 2 forwards": by_plus})

# %% [markdown]
# The same idea on a longer sequence, where $m$ is no multiple of $\alpha$: $\alpha = 3$, $t = 7$, $m = 4$. The
# recurrence takes 14 forwards, the search 13. Position to the right, execution downward: each row is one forward or one
# backward of one step.

# %%
from membptt_theory.picture import draw_timeline, legend
from membptt_theory.timeline import timeline

sizes = Sizes(hidden=1, internal=3)
streams = {
    "MSM (9)": list(build("msm", 7, 4, internal=3).schedule(7, 4)),
    "search": list(optimal_schedule(7, 4, sizes)),
    "MSM+": list(build("msm_plus", 7, 4, internal=3).schedule(7, 4)),
}
reports = {name: meter(stream, steps=7, sizes=sizes) for name, stream in streams.items()}
assert [report.forwards for report in reports.values()] == [14, 13, 13]
assert all(report.peak <= 4 for report in reports.values())

figure, axes = plt.subplots(1, 3, figsize=(7.0, 4.6), sharey=True)
for ax, (name, stream) in zip(axes, streams.items(), strict=True):
    drawn = timeline(stream, steps=7, sizes=sizes)
    assert drawn.forwards == reports[name].forwards
    draw_timeline(ax, drawn)
    ax.set(title=f"{name}: {drawn.forwards} forwards", ylim=(21.4, -0.8))
    ax.label_outer()
figure.legend(handles=legend(drawn), loc="outside lower center", ncols=6, columnspacing=1.2, handlelength=1.2)
plt.show()

# %% [markdown]
# ## MSM+
#
# Two costs instead of one: $R$ where the starting state has to stay, $P$ where it may be dropped at its last use. With
# $m$ including the starting state,
#
# $$R(t, m) = \min\{\, t + R(t-1, m),\;\; y + P(t-y, m-1) + R(y, m),\;\; y + R(t-y, m-\alpha) + R(y-1, m) \,\},$$
# $$P(t, m) = \min\{\, t + P(t-1, m),\;\; y + P(t-y, m-1) + P(y, m),\;\; y + R(t-y, m-\alpha) + P(y-1, m),\;\;
# 1 + R(t-1, m-\alpha+1) \,\},$$
#
# and the last term of $P$ gives up the starting state and stores the internal state of step 1 in its place. The gap to
# the search over every legal schedule, for every $t \le 9$ and every $m$ that matters:

# %%
LONG = 9


def optimum(alpha, storage="separate"):
    """Search every legal schedule: rows m = 1 .. 9 alpha, columns t = 1 .. 9."""
    sizes = Sizes(1, alpha, None if storage == "separate" else alpha - 1)
    return np.array([least_costs(LONG, m, sizes, storage=storage)[1:] for m in range(1, LONG * alpha + 1)])


def costs_of(policy, alpha, known=None):
    """Return the table's costs in the same shape."""
    return build(policy, LONG, LONG * alpha, internal=alpha, internal_known=known).costs[0, 1:, 1:]


def heat(ax, values, **colors):
    """Draw a map of t and m; cells without a gap stay white."""
    steps, top = values.shape[1] + 0.5, len(values) + 0.5
    shown = np.where(values > 0, values, np.nan)
    ax.grid(visible=False)
    return ax.imshow(shown, origin="lower", aspect="auto", extent=(0.5, steps, 0.5, top), **colors)


best = {alpha: optimum(alpha) for alpha in ALPHAS}
paper = {alpha: costs_of("msm", alpha) - best[alpha] for alpha in ALPHAS}
plus = {alpha: costs_of("msm_plus", alpha) - best[alpha] for alpha in ALPHAS}
assert all(set(np.unique(gap)) == {0, 1} for gap in paper.values())
assert all((gap == 0).all() for gap in plus.values())
assert paper[2][2 - 1, 2 - 1] == paper[3][4 - 1, 7 - 1] == 1
assert not any(gap[:, 0].any() for gap in paper.values()), "no counterexample at t = 1"

figure, axes = plt.subplots(2, 4, figsize=(7.0, 4.0), sharex=True)
for column, alpha in enumerate(ALPHAS):
    for row, gap in enumerate((paper[alpha], plus[alpha])):
        ax = axes[row, column]
        image = heat(ax, 100 * gap / best[alpha], cmap="viridis_r", vmin=0, vmax=50)
        ax.text(0.04, 0.95, f"{int(gap.sum())} of {gap.size}", transform=ax.transAxes, va="top")
    axes[0, column].set_title(rf"$\alpha = {alpha}$")
    axes[1, column].set(xlabel="$t$ [steps]", xticks=range(1, LONG + 1, 2))
for row, name in zip(axes, ("MSM (9)", "MSM+"), strict=True):
    row[0].set_ylabel(f"{name}\nmemory $m$ [units]")
figure.colorbar(image, ax=axes, shrink=0.6).set_label("forwards above the optimum [%]")
plt.show()
total = sum(gap.size for gap in paper.values())
print(
    f"(9) is one forward above the optimum in {sum(int(gap.sum()) for gap in paper.values())} of {total} cases;",
    end=" ",
)
print(f"MSM+ is optimal in all {total}")

# %% [markdown]
# What MSM+ saves on longer sequences, at equal memory: left where, at $\alpha = 3$; right the most, over all $m$. The
# gain of a single state shrinks as the sequence grows.

# %%
from membptt_theory.palette import SERIES

LENGTH = 60
percent = {}
for alpha in ALPHAS:
    nine, better = (build(policy, LENGTH, alpha * LENGTH, internal=alpha) for policy in ("msm", "msm_plus"))
    assert (better.costs[0, 1:] <= nine.costs[0, 1:]).all()
    percent[alpha] = 100 * (1 - better.costs[0, 1:, 1:] / nine.costs[0, 1:, 1:])

figure, (left, right) = plt.subplots(1, 2)
image = heat(left, percent[3][:60], cmap="viridis_r", vmin=0, vmax=10)
figure.colorbar(image, ax=left, extend="max").set_label("forwards saved by MSM+ [%]")
left.set(xlabel="sequence length $t$ [steps]", ylabel="memory $m$ [units]", title=r"$\alpha = 3$")
for color, alpha in zip(SERIES, ALPHAS, strict=False):
    most = percent[alpha].max(axis=0)
    assert most[LENGTH - 1] < most[19] < most[2]
    right.plot(np.arange(1, LENGTH + 1), most, color=color, label=rf"$\alpha = {alpha}$")
right.set(xlabel="sequence length $t$ [steps]", ylabel="most forwards saved, over all $m$ [%]", ylim=(0, 35))
right.legend()
plt.show()

# %% [markdown]
# ## Shared storage
#
# Tensors are counted once: the internal state of step $p$ consists of its input $h_p$, its output $h_{p+1}$ and a rest.
# Two readings of what may be stored, at $\beta = \alpha - 1$:
#
# - **shared**: a stored internal state keeps its input. Then (10) equals the search everywhere.
# - **detached**: it may give up its input, which a run brings back before the step goes backward. Then (10) is one
#   forward too dear in places, first at $t = 5$, $m = 2\alpha - 1$, and a wider recurrence (`oracle_shared`)
#   equals the search.

# %%
from membptt_proofs.oracle_shared import detached_costs

shared = {alpha: costs_of("msm", alpha, alpha - 1) - optimum(alpha, "shared") for alpha in ALPHAS}
detached = {alpha: costs_of("msm", alpha, alpha - 1) - optimum(alpha, "detached") for alpha in ALPHAS}
assert all((gap == 0).all() for gap in shared.values())
assert all(set(np.unique(gap)) == {0, 1} for gap in detached.values())
for alpha in ALPHAS:
    first = min((int(t) + 1, int(m) + 1) for m, t in np.argwhere(detached[alpha] > 0))
    assert first == (5, 2 * alpha - 1)
    wider = np.array(detached_costs(LONG, LONG * alpha, alpha))[1:, 1:]
    assert (costs_of("msm", alpha, alpha - 1) - wider == detached[alpha]).all()

figure, axes = plt.subplots(1, 4, figsize=(7.0, 2.5))
for ax, alpha in zip(axes, ALPHAS, strict=True):
    heat(ax, detached[alpha], cmap="Greys", vmin=0, vmax=2)
    ax.set(title=rf"$\alpha = {alpha}$", xlabel="$t$ [steps]", xticks=range(1, LONG + 1, 2))
    ax.text(0.04, 0.95, f"{int(detached[alpha].sum())} of {detached[alpha].size}", transform=ax.transAxes, va="top")
    ax.plot(5, 2 * alpha - 1, "o", color=VERMILLION, fillstyle="none", markersize=7)
axes[0].set_ylabel("memory $m$ [units]")
mark = plt.Line2D([], [], color=VERMILLION, marker="o", linestyle="none", fillstyle="none", label="first gap")
square = plt.Rectangle(
    (0, 0), 1, 1, facecolor=plt.get_cmap("Greys")(0.5), label="(10) one forward above the detached optimum"
)
figure.legend(handles=[square, mark], loc="outside lower center", ncols=2)
plt.show()
print("shared storage: (10) == search in all", sum(gap.size for gap in shared.values()), "cases")

# %% [markdown]
# ## MSM+ solved
#
# MSM+ is optimal over every legal schedule with separate storage, for all $t$, $m$ and $\alpha \ge 2$: Coq checks it
# (`msm-plus-optimal`), and also that two kinds of cuts are enough (`msm-plus-two-branches`). So what follows is about
# every schedule. The cost lies on or above the lines $r t - F_r(m)$, with $F_2(m) = 1 + \lfloor m/\alpha \rfloor$,
# $F_r(1) = r (r-1) / 2$ and $F_r(m) = F_{r-1}(m) + F_r(m-1)$; HSM's binomials obey the same rule. Where it lies on
# them, $a$ forwards a step reach exactly $F_{a+1}(m)$ steps.

# %%
from membptt_proofs.notebook import show_derivation
from membptt_theory.derive import msm_plus

for derivation in msm_plus.derivations():
    show_derivation(derivation)

M_SOLVED, ALPHA_SOLVED, LONG_SOLVED = 12, 3, 600
solved = build("msm_plus", LONG_SOLVED, M_SOLVED, internal=ALPHA_SOLVED)
t = np.arange(1, LONG_SOLVED + 1)
costs = np.array([solved.cost(int(n), M_SOLVED) for n in t])
figure, ax = plt.subplots(figsize=(5.0, 2.8))
for r in range(1, 6):
    limit = msm_plus.limit(M_SOLVED, ALPHA_SOLVED, r)
    line = r * t - limit
    assert (line <= costs).all()
    label = "lines $r - F_r(m) / t$" if r == 1 else None
    ax.plot(t[line > 0], (line / t)[line > 0], color=BLUE, linewidth=0.8, label=label)
for a in (1, 2, 3):
    end = msm_plus.limit(M_SOLVED, ALPHA_SOLVED, a + 1)
    assert costs[end - 1] <= a * end < costs[end] - a
    ax.plot(end, a, "o", color=VERMILLION, fillstyle="none", label="$t = F_{a+1}(m)$" if a == 1 else None)
ax.plot(t, costs / t, color=BLACK, label=rf"MSM+, $\alpha = {ALPHA_SOLVED}$, $m = {M_SOLVED}$")
ax.set(xlabel="sequence length $t$ [steps]", ylabel="forwards per step", ylim=(0.9, 4), xscale="log")
ax.legend(loc="upper left")
plt.show()
print("at two forwards a step, a million steps, alpha = 5:", msm_plus.least_slots(10**6, 5), "slots")

# %% [markdown]
# Between two lines the cost is known as well: it is made of stretches, the ends of which are sums of binomials
# (`membptt_theory.mixed`), and Coq proves cost and decisions (`msm-plus-solved`, `msm-plus-formula`). So states of
# both kinds are stored at any length without a table.

# %%
from membptt_theory import mixed
from membptt_theory.formula import Formula

for m in range(1, M_SOLVED + 1):
    for n in range(1, LONG_SOLVED + 1):
        assert mixed.cost(n, m, ALPHA_SOLVED) == solved.cost(n, m), (n, m)
million = Formula("msm_plus", internal=5).schedule(10**6, 1000)
print("a million steps in 1,000 slots, alpha = 5:", million.cost, "forwards, HSM", optimal_cost("hsm", 10**6, 1000))

# %% [markdown]
# ## Claims covered
#
# For a refuted statement of the paper (`msm-optimal`, `B11-msm`, `msm-boundary-complete`) OK means that its
# counterexample holds.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = (
    "msm-recurrence",
    "msm-shared-recurrence",
    "msm-boundary-complete",
    "targets",
    "B7",
    "msm-versus-ism",
    "B11-msm",
    "msm-optimal",
    "msm-plus-optimal",
    "msm-plus-two-branches",
    "msm-plus-fixed-cost",
    "msm-plus-below-two",
    "msm-plus-least-slots",
    "msm-plus-rational-cost",
    "msm-plus-solved",
    "msm-plus-formula",
    "shared-optimal",
    "shared-detached-optimal",
    "cost-ratio-invariance",
)
assert check_claims(CLAIMS)
