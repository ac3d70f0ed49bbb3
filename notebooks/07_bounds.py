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
# # 7. Bounds
#
# What the paper states about the cost $C(t, m)$ of HSM (B1-B5) and ISM (B6), against the exact cost; what replaces it.
#
# | | statement | verdict |
# |---|---|---|
# | B1 | $C \le m\, t^{1+1/m}$ | proved for all $t, m$; far from sharp |
# | B2 | $C < 4\, t^{1+1/m}$ for $t < 10^5$, $m < 10^3$ | holds on that range, and not much beyond |
# | B3 | $C - t < 3\, t^{1+1/m}$ on the same range | **refuted** |
# | B4 | $C \le (a+1)\, t$ for $t < m^a / a!$ | proved |
# | B5 | $T(a, m) \ge m^{a-1}/(a-1)!$ is the longest $t$ with $C \le a t$ | proved; the exact $T$ is known |
# | B6 | ISM: $C \le a t$ for $t \le m^a / a!$, else $C \le m\, t^{1+1/m}$ | proved |
# | B7 | the bounds hold for MSM, which never costs more than HSM | proved |
#
# All decisions are made in exact integers; floats only draw.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %%
from math import exp, lgamma


def leading(m):
    """Return K(m) = m/(m+1) (m!)^(1/m), for display."""
    return m / (m + 1) * exp(lgamma(m + 1) / m)


# %% [markdown]
# ## B1 to B6 against the exact cost
#
# Left HSM, right ISM, at $m = 10$, in forwards per step. The steps of B4 and B6 are the least bound that any $a$ gives.

# %%
from membptt_proofs.notebook import show_derivation
from membptt_theory.derive import bounds

for derive in (bounds.b1, bounds.b4, bounds.b5, bounds.b6):
    show_derivation(derive())

# %%
from math import factorial

import numpy as np

from membptt_theory.palette import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from membptt_theory.tables import optimal_cost

M = 10
lengths = [int(t) for t in np.unique(np.geomspace(1, 10**6, 400).astype(int))]


def least_factor(t, *, strict):
    """Return the least a >= 1 with t < m**a / a! (or <=), or None: m**a / a! decreases from a = m on."""
    for a in range(1, M + 1):
        if t * factorial(a) < M**a or (not strict and t * factorial(a) == M**a):
            return a
    return None


figure, axes = plt.subplots(1, 2, figsize=(7.0, 3.2), sharey=True)
for ax, policy, extra in zip(axes, ("hsm", "ism"), (1, 0), strict=True):
    exact = [optimal_cost(policy, t, M) for t in lengths]
    steps = [least_factor(t, strict=bool(extra)) for t in lengths]
    assert all(cost**M <= M**M * t ** (M + 1) for cost, t in zip(exact, lengths, strict=True)), "B1, B6"
    assert all(c <= (a + extra) * t for c, a, t in zip(exact, steps, lengths, strict=True) if a is not None), "B4, B6"
    t = np.array(lengths, dtype=float)
    ax.plot(t, M * t ** (1 / M), color=VERMILLION, linestyle=(0, (5, 2)), label=r"$m\,t^{1/m}$ (B1, B6)")
    known = np.array([np.nan if a is None else a + extra for a in steps])
    ax.plot(t, known, color=GREEN, label="B4: $a + 1$" if extra else "B6: $a$")
    if policy == "hsm":
        ax.plot(t, 4 * t ** (1 / M), color=ORANGE, linestyle=":", label="$4\\,t^{1/m}$ (B2)")
        ax.plot(t, 3 * t ** (1 / M) + 1, color=BLUE, linestyle=":", label="$3\\,t^{1/m} + 1$ (B3)")
    ax.plot(t, np.array(exact) / t, color=BLACK, label=f"exact, {policy.upper()}")
    ax.set(xscale="log", xlabel="sequence length $t$ [steps]", ylim=(0, 32))
    ax.legend(loc="upper left")
axes[0].set_ylabel(f"forwards per step $C/t$, $m = {M}$")
plt.show()

# %% [markdown]
# B5 against the exact $T(a, m)$, and against $\binom{m+a-1}{m}$, up to which even no single step runs more than $a$
# times.

# %%
from membptt_theory.derive import regime

figure, axes = plt.subplots(1, 2, sharey=True)
for ax, m in zip(axes, (5, 50), strict=True):
    a = list(range(1, 11))
    exact = [regime.longest_average("hsm", k, m) for k in a]
    every = [regime.longest_each("hsm", k, m) for k in a]
    for k, most, all_steps in zip(a, exact, every, strict=True):
        assert optimal_cost("hsm", most, m) <= k * most
        assert optimal_cost("hsm", most + 1, m) > k * (most + 1)
        assert m ** (k - 1) <= factorial(k - 1) * all_steps, "B5"
        assert all_steps <= most
    paper = [m ** (k - 1) / factorial(k - 1) for k in a]
    ax.plot(a, exact, "o-", color=BLACK, markersize=4, label="exact $T(a, m)$")
    ax.plot(a, every, "s-", color=BLUE, markersize=4, label=r"no step runs more than $a$ times")
    ax.plot(a, paper, "^-", color=VERMILLION, markersize=4, label="$m^{a-1}/(a-1)!$ (B5)")
    ax.set(yscale="log", xlabel="forwards per step $a$", title=f"$m = {m}$", xticks=a)
axes[0].set_ylabel("longest sequence $t$ [steps]")
axes[0].legend()
plt.show()

# %% [markdown]
# ## Sharp bounds from both sides
#
# With $w^m = m!\, x$, where $x = t$ for HSM and $t + 1$ for ISM, $w x\, m/(m+1) = K(m)\, x^{1+1/m}$ and
# $K(m) = \frac{m}{m+1} (m!)^{1/m}$. Their ratio tends to 1 as $t$ grows; the second order fixes the next term, too.

# %%
from membptt_theory.derive import sharp

show_derivation(sharp.two_sided("hsm"))
show_derivation(sharp.two_sided("ism"))
show_derivation(sharp.second_order("hsm"))

# %%
figure, (left, right) = plt.subplots(1, 2)
lengths = [int(10 ** (k / 6)) for k in range(6, 6 * 18 + 1)]
for color, m in zip((BLUE, VERMILLION, GREEN), (2, 5, 10), strict=True):
    assert all(sharp.two_sided_holds("hsm", t, m) and sharp.two_sided_holds("ism", t, m) for t in lengths)
    t = np.array(lengths, dtype=float)
    main = leading(m) * t ** (1 + 1 / m)
    upper, lower = main + t, main - (m / 2 - 1 / (m + 1)) * t
    exact = np.array([float(optimal_cost("hsm", n, m)) for n in lengths])
    ratio = upper / lower
    shown = lower > 0
    assert (np.diff(ratio[shown]) < 0).all()
    assert 1 < ratio[-1] < 1.03
    left.fill_between(t, lower / main, upper / main, color=color, alpha=0.2, linewidth=0)
    left.plot(t, exact / main, color=color, label=f"$m = {m}$")
    right.plot(t[shown], ratio[shown] - 1, color=color, label=f"$m = {m}$")
left.axhline(1, color=BLACK, linewidth=0.8, linestyle=":")
left.set(
    xscale="log", xlabel="sequence length $t$ [steps]", ylabel=r"$C\,/\,K(m)\,t^{1+1/m}$, bounds shaded", ylim=(0, 1.6)
)
left.legend()
right.set(xscale="log", yscale="log", xlabel="sequence length $t$ [steps]", ylabel="upper bound over lower, less 1")
right.legend()
plt.show()

# %% [markdown]
# ## B2 and B3 over their whole range
#
# Between two breakpoints the ratio $(C - \ell t)/t^{1+1/m}$ has one peak; so two integers a piece decide all $10^8$
# pairs exactly. Black crosses: where the ratio is largest in the paper's range (dashed). Red: where the bound fails
# first.

# %%
from membptt_theory.derive import ranges

two, three = ranges.check_range(4), ranges.check_range(3, less=1)
assert (two.failures, two.largest, float(two.ratio)) == (0, (99999, 56), 3.7922)
assert (three.failures, three.first, three.largest, float(three.ratio)) == (103663, (80309, 28), (99999, 29), 3.0498)
beyond = ranges.check_range(4, steps=300_000, slots=None)
assert beyond.first == (281790, 39)
print(f"B2: largest ratio {float(two.ratio)} at t, m = {two.largest}; first fails at {beyond.first}, beyond its range")
print(
    f"B3: {three.failures} counterexamples, first {three.first}; largest ratio {float(three.ratio)} at {three.largest}"
)

# %%
t = np.unique(np.geomspace(10, 2 * 10**6, 150).astype(int))
m = np.unique(np.geomspace(1, 999, 110).astype(int))
costs = np.array([[optimal_cost("hsm", int(n), int(s)) for n in t] for s in m], dtype=float)
scale = t ** (1 + 1 / m[:, None])

figure, axes = plt.subplots(1, 2, figsize=(7.0, 3.2), sharey=True)
for ax, name, less, bound, report, first in (
    (axes[0], "B2: $C / t^{1+1/m}$, bound 4", 0, 4, two, beyond.first),
    (axes[1], "B3: $(C - t) / t^{1+1/m}$, bound 3", 1, 3, three, three.first),
):
    ratio = (costs - less * t) / scale
    n, s = report.largest
    assert abs((optimal_cost("hsm", n, s) - less * n) / n ** (1 + 1 / s) - float(report.ratio)) < 1e-3
    n, s = first
    assert (optimal_cost("hsm", n, s) - less * n) ** s >= bound**s * n ** (s + 1), "the bound fails here"
    image = ax.pcolormesh(t, m, ratio, cmap="Blues", vmin=0, vmax=bound + 1, shading="nearest", rasterized=True)
    ax.contour(t, m, ratio, levels=[bound], colors=VERMILLION, linewidths=1)
    ax.axvline(10**5, color=BLACK, linewidth=0.8, linestyle=(0, (5, 2)))
    ax.plot(*report.largest, "x", color=BLACK, markersize=7, label=f"largest in range: {float(report.ratio)}")
    ax.plot(*first, "o", color=VERMILLION, markersize=4, label=f"first failure: $t = {first[0]}$, $m = {first[1]}$")
    ax.plot([], [], color=VERMILLION, linewidth=1, label=f"ratio = {bound}")
    ax.set(xscale="log", yscale="log", xlabel="sequence length $t$ [steps]", title=name)
    ax.grid(visible=False)
    ax.legend(loc="lower left", bbox_to_anchor=(0, -0.62), frameon=False)
    figure.colorbar(image, ax=ax)
axes[0].set_ylabel("slots $m$ [hidden states]")
plt.show()

# %% [markdown]
# ## Does any constant hold for all $t$ and $m$?
#
# For each $m$ the least constant with $C \le c\, t^{1+1/m}$ for all $t$ is $1$ at $m = 1$, $3/\sqrt{8}$ at $m = 2$, and
# the leading constant $K(m)$ from $m = 3$ on. $K(m)$ grows without bound, like $m/e$: no constant serves every $m$, and
# B2 and B3 hold for all $t$ exactly where $m \le 9$ and $m \le 7$.

# %%
from membptt_theory.derive import constants

show_derivation(constants.best_constant())
show_derivation(constants.no_constant())


def below(m, c):
    """Return whether K(m) < c, by integers."""
    return m**m * factorial(m) < (c * (m + 1)) ** m


m = np.arange(3, 41)
assert max(s for s in m.tolist() if below(s, 4)) == 9
assert max(s for s in m.tolist() if below(s, 3)) == 7
least = np.array([leading(int(s)) for s in m])
assert (np.diff(least) > 0).all()

figure, ax = plt.subplots(figsize=(7.0, 2.7))
ax.plot([1, 2, *m], [1, 3 / 8**0.5, *least], "o-", color=BLACK, markersize=3.5, label="least constant for all $t$")
ax.plot(m, m / np.e, color=BLUE, linestyle=(0, (5, 2)), label="$m/e$")
ax.axhline(4, color=VERMILLION, linewidth=1, linestyle="--", label="B2's 4: up to $m = 9$")
ax.axhline(3, color=ORANGE, linewidth=1, linestyle="--", label="B3's 3, for $C - t$: up to $m = 7$")
ax.set(xlabel="slots $m$ [hidden states]", ylabel=r"$c$ in $C \leq c\,t^{1+1/m}$", ylim=(0, 16))
ax.legend(loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# ## MSM
#
# MSM lies between ISM and HSM at the same $m$ (ISM's slots then are units of one hidden state each, which no internal
# state fits: a lower bound only). A lower bound with MSM's own sizes is much closer.

# %%
from membptt_theory.derive import msm
from membptt_theory.tables import build

show_derivation(msm.between())
show_derivation(msm.lower_envelope())

ALPHA, STEPS = 5, 300
table = build("msm", STEPS, 60, internal=ALPHA)
m = list(range(1, 61))
mixed = [table.cost(STEPS, s) for s in m]
above = [optimal_cost("hsm", STEPS, s) for s in m]
below_all = [optimal_cost("ism", STEPS, s) for s in m]
closer = [msm.lower_bound(STEPS, s, internal=ALPHA) for s in m]
assert all(a <= b <= c <= d for a, b, c, d in zip(below_all, closer, mixed, above, strict=True))

figure, ax = plt.subplots(figsize=(7.0, 2.7))
ax.plot(m, np.array(above) / STEPS, color=BLUE, linestyle=(0, (5, 2)), label="HSM: upper bound")
ax.plot(m, np.array(mixed) / STEPS, color=BLACK, label=rf"MSM, $\alpha = {ALPHA}$")
ax.plot(m[::3], np.array(closer)[::3] / STEPS, "o", color=GREEN, markersize=4, fillstyle="none", label="lower bound")
ax.plot(m, np.array(below_all) / STEPS, color=VERMILLION, linestyle=(0, (5, 2)), label="ISM at equal $m$: lower bound")
ax.set(xlabel="memory $m$ [units]", ylabel=f"forwards per step at $t = {STEPS}$", ylim=(1, 8))
ax.legend()
plt.show()

# %% [markdown]
# ## Claims covered
#
# For a refuted statement of the paper (B3) OK means that its counterexample holds.

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = (
    "B1",
    "B2",
    "B3",
    "B4",
    "B5",
    "B6",
    "B7",
    "B11",
    "sharp-bounds",
    "second-order",
    "best-constant",
    "no-constant",
    "average-hsm",
    "most-times",
    "msm-lower-bound",
)
assert check_claims(CLAIMS)
