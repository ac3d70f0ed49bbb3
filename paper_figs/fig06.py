"""Figure 6: the three policies side by side, in the same memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from membptt_theory.palette import GREY
from membptt_theory.policies import find
from membptt_theory.tables import build
from paper_figs.evidence import require
from paper_figs.style import PAGE, POLICY, label_panels

CLAIM: Final = (
    "An internal state takes 5 hidden states (alpha = 5). In the memory of 10 internal = 50 hidden states HSM "
    "overtakes ISM from t = 309, in that of 20 = 100 from t = 1919; MSM (7) never costs more than either. At t "
    "= 1000 MSM takes 2.723 and 1.995 forwards per step by (7), 2.663 and 1.988 by (10) with beta = 4."
)
SAYS: Final = (
    "In equal memory short sequences are better served by internal states and long ones by hidden states; mixing "
    "both never costs more than the better of the two, and up to 28 % less around the crossing."
)
DOES_NOT_SAY: Final = (
    "that MSM (7) is the optimum: MSM+ is cheaper still (figure 13). Nor that alpha = 5 fits your cell: the "
    "crossings move with it."
)
ALPHA: Final = 5
STEPS: Final = 2500
LABELS: Final = {"hsm": find("hsm").title, "ism": find("ism").title, "msm": f"{find('msm').title}, eq. (7)"}


@dataclass(frozen=True)
class Room:
    """One panel.

    Args:
        units: the budget, in hidden states; ``units / ALPHA`` internal states.
        overtaken: first ``t`` from which HSM is cheaper than ISM.
        costs: forwards at ``t = 1 .. STEPS`` of ``"hsm"``, ``"ism"``, ``"msm"``; exact integers.
        shared: the same of MSM (10), which shares storage.
    """

    units: int
    overtaken: int
    costs: dict[str, np.ndarray]
    shared: np.ndarray


# budget in hidden states: first t with HSM cheaper than ISM, and C(1000) of MSM by (7) and by (10)
TARGETS: Final = {50: (309, 2723, 2663), 100: (1919, 1995, 1988)}


def data() -> list[Room]:
    """Read the costs from four tables, and find where HSM overtakes ISM.

    Raises:
        FigureClaimError: the claim is false.
    """
    most = max(TARGETS)
    tables = {
        "hsm": build("hsm", STEPS, most),
        "ism": build("ism", STEPS, most // ALPHA),
        "msm": build("msm", STEPS, most, internal=ALPHA),
    }
    shared = build("msm", STEPS, most, internal=ALPHA, internal_known=ALPHA - 1)
    rooms = []
    for units, (overtaken, plain, sharing) in TARGETS.items():
        slots = {"hsm": units, "ism": units // ALPHA, "msm": units}
        costs = {name: np.array([table.cost(t, slots[name]) for t in _range()]) for name, table in tables.items()}
        room = Room(units, overtaken, costs, np.array([shared.cost(t, units) for t in _range()]))
        _check(room, plain, sharing)
        rooms.append(room)
    return rooms


def draw(rooms: list[Room]) -> Figure:
    """Draw costs per step above, and below how much more ISM and HSM cost than MSM."""
    figure = Figure(figsize=(PAGE, 3.7), layout="constrained")
    grid = figure.subplots(2, len(rooms), sharex=True, sharey="row", squeeze=False, height_ratios=(1.7, 1))
    t = np.array(_range())
    for (above, below), room in zip(grid.T, rooms, strict=True):
        for name, cost in room.costs.items():
            above.plot(t, cost / t, label=LABELS[name], **POLICY[name].curve())
            if name != "msm":
                below.plot(t, 100 * (cost / room.costs["msm"] - 1), **POLICY[name].curve())
        for ax in (above, below):
            ax.axvline(room.overtaken, color=GREY, linewidth=0.8, zorder=0)
        side = 1 if room.overtaken < STEPS / 2 else -1
        above.annotate(
            f"HSM overtakes ISM\nat $t={room.overtaken}$",
            (room.overtaken, 1.0),
            (4 * side, 2),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="bottom",
            fontsize=7,
        )
        above.set_title(
            f"room for {room.units} hidden = {room.units // ALPHA} internal states ($\\alpha = {ALPHA}$)", loc="left"
        )
        below.set(xlabel="sequence length $t$ [steps]", xlim=(0, STEPS))
    grid[0, 0].set_ylabel("forwards per step $C/t$")
    grid[1, 0].set_ylabel("cost above\nMSM's [%]")
    label_panels(list(grid[0]))
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _range() -> range:
    return range(1, STEPS + 1)


def _check(room: Room, plain: int, sharing: int) -> None:
    hsm, ism, msm = (room.costs[name] for name in ("hsm", "ism", "msm"))
    wins = hsm < ism
    first = int(np.argmax(wins)) + 1 if wins.any() else None
    require(first == room.overtaken, f"{room.units} units: HSM overtakes ISM at t = {first}, not {room.overtaken}")
    require(bool(wins[room.overtaken - 1 :].all()), f"{room.units} units: ISM wins again after t = {room.overtaken}")
    require(bool((msm <= np.minimum(hsm, ism)).all()), f"{room.units} units: MSM costs more than HSM or ISM")
    require(bool((room.shared <= msm).all()), f"{room.units} units: MSM costs more where storage is shared")
    for name, cost, target in (("(7)", msm, plain), ("(10)", room.shared, sharing)):
        require(int(cost[999]) == target, f"{room.units} units: MSM {name} costs {cost[999]} at t = 1000, not {target}")
