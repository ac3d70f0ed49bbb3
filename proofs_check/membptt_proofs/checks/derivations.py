"""Checks of what is derived: every symbolic step verified by sympy, every finite step by exact integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from membptt_proofs.checks.registry import Effort, Evidence, check, need
from membptt_theory.derive import (
    bounds,
    chen,
    chen_memory,
    constants,
    cost_fixed,
    cost_two,
    hsm,
    ism,
    monotone,
    msm,
    msm_plus,
    regime,
    sharp,
)
from membptt_theory.derive.steps import Derivation, Finite

DERIVATIONS: Final[dict[str, tuple[Callable[[], Derivation], ...]]] = {
    "hsm-closed-form": (hsm.closed_form,),
    "hsm-splits": (hsm.split_interval,),
    "hsm-step-counts": (hsm.step_counts,),
    "duality": (ism.duality,),
    "ism-closed-form": (ism.closed_form,),
    "ism-splits": (ism.split_interval,),
    "ism-step-counts": (ism.step_counts,),
    "most-times": (partial(regime.most_times, "hsm"), partial(regime.most_times, "ism")),
    "griewank-logarithmic": (regime.logarithmic,),
    "average-hsm": (regime.average_hsm,),
    "average-ism": (regime.average_ism,),
    "B1": (bounds.b1,),
    "B4": (bounds.b4,),
    "B5": (bounds.b5,),
    "B6": (bounds.b6,),
    "B7": (msm.between,),
    "B8": (partial(chen.never_worse, chen.Constants()),),
    "B9": (partial(chen_memory.memory, 2),),
    "B11": (partial(monotone.monotone_splits, "hsm"), partial(monotone.monotone_splits, "ism")),
    "sharp-bounds": (partial(sharp.two_sided, "hsm"), partial(sharp.two_sided, "ism")),
    "second-order": (partial(sharp.second_order, "hsm"), partial(sharp.second_order, "ism")),
    "best-constant": (constants.best_constant,),
    "no-constant": (constants.no_constant,),
    "msm-versus-ism": (msm.never_worse_than_ism,),
    "msm-lower-bound": (msm.lower_envelope,),
    "chen-sqrt-cost": (partial(chen.sqrt_strategy, chen.Constants()),),
    "chen-recursive-cost": (partial(chen.recursive_strategy, chen.Constants()),),
    "chen-memory-hsm-ism": (partial(chen_memory.other_policies, 2),),
    "msm-alpha-cut": (cost_two.alpha_cut,),
    "msm-cost-two": (partial(cost_two.cost_two, cost_two.Reach()),),
    "msm-fixed-cost": (cost_fixed.fixed_cost,),
}

# Derivations beside a proof by Coq: the checks of these claims verify them too.
BESIDE: Final[dict[str, tuple[Callable[[], Derivation], ...]]] = {
    "msm-plus-fixed-cost": (msm_plus.lines,),
    "any-schedule-cost-two": (msm_plus.cost_two,),
}


def verify(derivations: tuple[Callable[[], Derivation], ...], effort: Effort) -> Evidence:
    """Verify every step of every derivation, the finite ones included; the same whatever the effort, being quick."""
    symbolic = finite = premises = 0
    ranges = []
    for derive in derivations:
        derivation = derive()
        failures = derivation.failures()
        need(not failures, f"{derivation.name}: {', '.join(failures)}")
        checks = [step.text for step in derivation.steps if isinstance(step, Finite)]
        ranges += checks
        finite += len(checks)
        symbolic += len(derivation.steps) - len(checks)
        premises += sum(len(step.premises()) for step in derivation.steps)
    stated = f", {premises} premises on grids" if premises else ""
    return Evidence(f"{symbolic} symbolic and {finite} finite steps{stated}", "; ".join(ranges))


for _claim, _derivations in DERIVATIONS.items():
    check(_claim)(partial(verify, _derivations))
