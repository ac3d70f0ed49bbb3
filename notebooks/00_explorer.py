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
# # 0. Explorer
#
# Move $t$, $m$, $\alpha$ and the policy: the schedule, the memory that it uses over time, and what every alternative
# costs in the same room. All of it is read from the tables and the streams that the runtime executes.
#
# Room is counted in hidden states; an internal state takes $\alpha$ of them, so that ISM has
# $\lfloor m / \alpha \rfloor$ slots. The sliders need a running kernel; without one, the first state is drawn below.
# `make explorer` builds the same as a page that needs neither.

# %%
import matplotlib.pyplot as plt

from membptt_proofs.notebook import set_style

set_style()

# %%
from membptt_theory import policies
from membptt_theory.palette import BLACK, GREY, ORANGE, POLICY, PURPLE

STEPS, SLOTS, ALPHAS = 100, 60, (2, 12)  # the largest t and m, the range of alpha
POLICIES = {}
for name, sizes in policies.sized(2):
    title, shared = policies.find(name).title, "internal_known" in sizes
    POLICIES[f"{title}, shared storage" if shared else title] = f"{name}_shared" if shared else name
CHEN = {"Chen √t": "sqrt", "Chen √t, shared storage": "sqrt_shared", "Chen recursive": "recursive"}
COLORS = POLICY | {"sqrt": ORANGE, "sqrt_shared": ORANGE, "recursive": PURPLE}  # any other is a grey line
DASHES = {
    "hsm": (0, (5, 2)),
    "ism": ":",
    "msm_plus": "-.",
    "sqrt": "--",
    "sqrt_shared": (0, (1, 2)),
    "recursive": (0, (8, 2)),
}

# %% [markdown]
# ## Looking up
#
# Each table is built once, for every $t \le 100$ and $m \le 60$. Chen's strategies take the best segment, or number of
# parts, that fits.


# %%
import numpy as np

from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, recursive_cost, sqrt_cost
from membptt_theory.tables import build


def table(policy, alpha):
    """Return the table of a policy; shared storage is beta = alpha - 1."""
    name = policy.removesuffix("_shared")
    sizes = {"internal": alpha} if policies.find(name).parameters else {}
    if name != policy:
        sizes["internal_known"] = alpha - 1
    return build(name, STEPS, SLOTS, **sizes)


def own_slots(policy, m, alpha):
    return m // alpha if policy == "ism" else m


def cost(policy, t, m, alpha):
    """Return the forwards of t steps in room for m hidden states, or nan where nothing fits."""
    if policy == "recursive":
        costs = [recursive_cost(t, parts) for parts in range(2, max(t, 2) + 1)]
        return min((each.forwards for each in costs if each.slots <= m), default=np.nan)
    if policy.startswith("sqrt"):
        sizes = Sizes(1, alpha, alpha - 1 if policy == "sqrt_shared" else None)
        segment = best_segment(t, sizes, slots=m)
        return np.nan if segment is None else sqrt_cost(t, segment, sizes).forwards
    own = own_slots(policy, m, alpha)
    return table(policy, alpha).cost(t, own) if own else np.nan


# %% [markdown]
# ## Drawing


# %%
from membptt_theory.machine import meter
from membptt_theory.picture import draw_memory, draw_timeline, legend
from membptt_theory.timeline import timeline


def explore(t=12, m=6, alpha=3, policy="msm_plus"):
    """Draw one state, and assert that what is drawn is what the table says."""
    own = own_slots(policy, m, alpha)
    if own < 1:
        print(f"ISM does not fit: an internal state takes {alpha} slots, there are {m}")
        return
    decided = table(policy, alpha)
    drawn = timeline(decided.schedule(t, own), steps=t, sizes=decided.sizes)
    report = meter(decided.schedule(t, own), steps=t, sizes=decided.sizes)
    assert drawn.forwards == report.forwards == decided.cost(t, own)
    assert drawn.peak == report.peak <= own
    assert cost(policy, t, m, alpha) == drawn.forwards

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(7.6, 4.4), width_ratios=(5, 2, 5))
    draw_timeline(left, drawn)
    middle.sharey(left)
    draw_memory(middle, drawn)
    left.set_title("schedule", loc="left")
    middle.set_title("memory", loc="left")
    middle.tick_params(labelleft=False)
    (name,) = (name for name, each in POLICIES.items() if each == policy)
    figure.suptitle(
        f"{name}, t = {t}, m = {m}, α = {alpha}: {drawn.forwards} forwards, {drawn.forwards / t:.3f} a step"
    )
    figure.legend(handles=legend(drawn), loc="outside lower left", ncols=5)
    rooms = range(1, SLOTS + 1)
    for label, each in (POLICIES | CHEN).items():
        look = {"color": COLORS.get(each, GREY), "linestyle": DASHES.get(each, "-")}
        width = 2.6 if each == policy else 1.1
        costs = [cost(each, t, room, alpha) / t for room in rooms]
        right.plot(rooms, costs, linewidth=width, label=label, **look)
    right.axvline(m, color="#555555", linewidth=0.7, linestyle=(0, (4, 2)))
    right.plot(m, drawn.forwards / t, "o", color=BLACK, markersize=5)
    right.set(xlabel="slots $m$ [hidden states]", yscale="log")
    right.set_title("forwards per step", loc="left")
    high = right.get_ylim()[1]
    levels = [level for level in (1, 1.5, 2, 3, 5, 10, 20, 50) if level <= high]
    right.set_yticks(levels, [str(level) for level in levels])
    right.minorticks_off()
    right.legend(loc="upper right", fontsize=7)
    plt.show()
    alternatives(t, m, alpha)


def alternatives(t, m, alpha):
    """Print what every strategy costs in this room, the least first."""
    costs = {name: cost(policy, t, m, alpha) for name, policy in (POLICIES | CHEN).items()}
    for name, forwards in sorted(costs.items(), key=lambda item: (np.isnan(item[1]), item[1])):
        if np.isnan(forwards):
            print(f"{name:24} does not fit")
        else:
            print(f"{name:24} {forwards:6} forwards {forwards / t:8.3f} a step")


# %% [markdown]
# ## The first state

# %%
explore()

# %% [markdown]
# ## Every other

# %%
import ipywidgets as widgets

wide = widgets.Layout(width="32rem")
controls = {
    "t": widgets.IntSlider(12, 1, STEPS, description="steps t", layout=wide, continuous_update=False),
    "m": widgets.IntSlider(6, 1, SLOTS, description="slots m", layout=wide, continuous_update=False),
    "alpha": widgets.IntSlider(3, *ALPHAS, description="alpha", layout=wide, continuous_update=False),
    "policy": widgets.ToggleButtons(options=list(POLICIES.items()), value="msm_plus", description="policy"),
}
picture = widgets.interactive_output(explore, controls)
widgets.VBox([*controls.values(), picture], model_id="00000000000000000000000000000000")

# %% [markdown]
# What moving a slider calls is what was called above; here for some states, without the pictures.

# %%
for t, m, alpha in ((1, 1, 2), (12, 6, 3), (40, 10, 5), (100, 60, 12)):
    for policy in POLICIES.values():
        own = own_slots(policy, m, alpha)
        if own:
            decided = table(policy, alpha)
            drawn = timeline(decided.schedule(t, own), steps=t, sizes=decided.sizes)
            assert (drawn.forwards, max(drawn.memory) <= own) == (cost(policy, t, m, alpha), True)
    assert cost("msm_plus", t, m, alpha) <= cost("msm", t, m, alpha) <= cost("hsm", t, m, alpha)
    print(f"t = {t}, m = {m}, alpha = {alpha}")
    alternatives(t, m, alpha)

# %% [markdown]
# ## The claims behind the drawings

# %%
from membptt_proofs.notebook import check_claims

CLAIMS = ("metered-cost-equals-table", "table-bellman", "chen-sqrt-cost", "chen-recursive-cost")
assert check_claims(CLAIMS)
