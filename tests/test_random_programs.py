"""Random programs as users write them: closures, swapped weights, generators, hooks, states in objects.

Each is run by the loop and by the scan: the gradients are equal, or the scan refuses, and it refuses none of the
programs that do nothing wrong.
"""

import random
import warnings
from collections import Counter
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from membptt import Indexed, SlowTier, chain, scan, while_loop
from membptt_theory.actions import Prices
from membptt_theory.tables import build

D = torch.float64

HARMLESS = (
    "closure's number",
    "closure's module",
    "weights swapped",
    "torch's generator",
    "python's generator",
    "numpy's generator",
    "dropout, then eval mode",
    "hook on the carry given",
    "hook on the carry made",
    "hook on a parameter",
    "weight made by a hook",
    "attribute for the log",
    "calls counted",
    "encoder that reads",
    "part of the carry detached",
    "integers in the carry",
    "gradient by torch.func",
    "gradient by autograd",
    "module as params",
    "mask in a cache",
    "weight detached in a cache",
)
HARMFUL = (
    "generator of its own",
    "state in an object",
    "state in an attribute",
    "counter in a module",
    "variable reassigned",
    "buffer updated in place",
    "addend moved",
    "other with graph",
    "list that grows",
    "loss beside the outputs",
    "weight in a dict",
    "weight in an attribute",
    "weight in an lru_cache",
)


class Kept:
    """Holds anything."""


def of_unknown_length(step: Any, init: Any, xs: Any, **options: Any) -> Any:
    """Scan, and do not say how many steps there are."""
    chosen = {key: value for key, value in options.items() if key not in ("policy", "internal", "spill")}
    return scan(step, init, Indexed(None, reader(xs)), **chosen)


def by_while_loop(step: Any, init: Any, xs: Any, **options: Any) -> Any:
    """Count the steps in the carry, and write the outputs into it."""
    read, steps = reader(xs), xs.steps if isinstance(xs, Indexed) else len(xs)

    def body(carry: Any) -> Any:
        inner, at, ys = carry
        (x,) = read(int(at), int(at) + 1)
        inner, y = step(inner, x)
        return inner, at + 1, torch.cat([ys[:at], y[None], ys[at + 1 :]])

    start = init, torch.tensor(0), torch.zeros(steps, 2, 3, dtype=D)
    chosen = {key: value for key, value in options.items() if key in ("slots", "budget", "check", "params")}
    carry, count = while_loop(lambda carry: carry[1] < steps, body, start, **chosen)
    assert count == steps
    return carry[0], carry[2]


def by_chain(step: Any, init: Any, xs: Any, **options: Any) -> Any:
    """Make a block of every step, and write the outputs into the carry."""
    read, steps = reader(xs), xs.steps if isinstance(xs, Indexed) else len(xs)

    def block(at: int, carry: Any) -> Any:
        inner, ys = carry
        inner, y = step(inner, read(at, at + 1)[0])
        return inner, torch.cat([ys[:at], y[None], ys[at + 1 :]])

    if "slots" in options:
        slots = min(options["slots"], steps)
        chosen = {"schedule": build("hsm", steps, slots).schedule(steps, slots)}
    else:
        chosen = {"budget": options["budget"]}
    blocks = [partial(block, at) for at in range(steps)]
    chosen |= {key: value for key, value in options.items() if key in ("check", "params")}
    return chain(blocks, (init, torch.zeros(steps, 2, 3, dtype=D)), **chosen)


def reader(xs: Any) -> Any:
    """Read as from a file: nothing beyond the end."""
    steps = xs.steps if isinstance(xs, Indexed) else len(xs)
    read = xs.read if isinstance(xs, Indexed) else lambda start, stop: xs[start:stop].clone()
    return lambda start, stop: read(start, min(stop, steps)) if start < steps else None


class Program:
    """The program that a seed describes."""

    def __init__(self, seed: int, harmful: bool = True, way: Any = scan) -> None:
        choose = random.Random(seed)
        self.seed, self.way = seed, way
        self.features = set(choose.sample(HARMLESS, choose.choice([0, 1, 1, 2, 3])))
        if harmful and choose.random() < 0.6:
            self.features |= set(choose.sample(HARMFUL, choose.choice([1, 1, 2])))
        self.steps = choose.randint(1, 9)
        policy = choose.choice(["hsm", "ism", "msm", "msm_plus", "tiers"] * 2 + ["budget"])
        self.options: dict[str, Any] = {"slots": choose.randint(1, 6), "chunk": choose.choice([1, 1, 1, 2, 3])}
        if policy == "budget":  # planning runs the step, too: what that keeps outside the carry would go on
            self.features &= set(HARMLESS)
            self.options = {"budget": choose.choice(["16KiB", "64KiB"]), "spill": choose.choice([False, False, True])}
        elif policy == "tiers":
            self.options["spill"] = SlowTier(choose.choice([None, 1, 3]), Prices(8, 2, 1))
        else:
            self.options["policy"] = policy
            self.options |= {"internal": choose.randint(2, 3)} if policy in ("msm", "msm_plus") else {}
        self.options["check"] = choose.choice([None, None, True])

    @property
    def harmless(self) -> bool:
        return self.features <= set(HARMLESS)

    def gradient(self, by_scan: bool, **more: Any) -> torch.Tensor:
        """Run it from a fresh start; return the gradients of everything that learns."""
        torch.manual_seed(self.seed)
        np.random.seed(self.seed % 2**32)  # noqa: NPY002
        random.seed(self.seed)
        has = self.features.__contains__
        module = nn.Module()
        module.cell, module.drop = nn.RNNCell(3, 3).double(), nn.Dropout(0.4)
        cell, encoder = module.cell, nn.Linear(3, 3).double()
        module.register_buffer("seen", torch.zeros(3, dtype=D))
        module.trace, module.at, module.logged = torch.zeros(2, 3, dtype=D), 0, None
        own, kept, grown, beside = torch.Generator().manual_seed(1), Kept(), [], []
        kept.memory, kept.weight, cache = torch.zeros(2, 3, dtype=D), None, {}
        cached = lru_cache(cell.weight_hh.tanh)
        offset, state, gain, calls = torch.zeros(3, dtype=D), torch.zeros(2, 3, dtype=D), 0.7, 0
        if has("weight made by a hook"):
            torch.nn.utils.prune.random_unstructured(cell, "weight_hh", 0.4)
        leaves = list(cell.parameters())
        if has("hook on a parameter"):
            leaves[0].register_hook(lambda g: g * 0.5)

        counts = int(has("integers in the carry"))

        def step(carry, x):
            nonlocal state, calls
            h, count = carry
            if has("calls counted"):
                calls += 1
            if has("hook on the carry given") and h.requires_grad:
                h.register_hook(lambda g: g.clamp(-0.1, 0.1))
            if has("torch's generator"):
                x = x * torch.rand(3, dtype=D)
            if has("python's generator"):
                x = x * random.random()
            if has("numpy's generator"):
                x = x + float(np.random.randn())  # noqa: NPY002
            if has("generator of its own"):
                x = x + torch.rand(3, generator=own, dtype=D)
            if has("state in an object"):
                kept.memory = 0.5 * kept.memory + x
                x = x + kept.memory
            if has("state in an attribute"):
                module.trace = 0.5 * module.trace + h
                x = x + module.trace
            if has("counter in a module"):
                module.at += 1
                x = x * (1 + module.at % 3)
            if has("variable reassigned"):
                state = state + x
                x = x + state
            if has("buffer updated in place"):
                with torch.no_grad():
                    module.seen.mul_(0.5).add_(x.mean(0))
            if has("list that grows"):
                grown.append(x.detach())
                x = x * len(grown)
            if has("mask in a cache"):
                x = x * cache.setdefault("mask", torch.arange(3, dtype=D))
            if has("weight detached in a cache"):
                cache.setdefault("detached", cell.weight_hh.detach().tanh())
                x = x @ cache["detached"]
            if has("weight in a dict"):
                if "weight" not in cache:
                    cache["weight"] = cell.weight_hh.tanh()
                x = x @ cache["weight"]
            if has("weight in an attribute"):
                if kept.weight is None:
                    kept.weight = cell.weight_ih.T
                x = x @ kept.weight
            if has("weight in an lru_cache"):
                x = x @ cached()
            if has("gradient by torch.func"):
                x = x + 0.5 * torch.func.grad(lambda x: (cell(x, h) * h.cos()).sum())(x)
            if has("gradient by autograd"):
                with torch.enable_grad():
                    leaf = h.detach().requires_grad_()
                    h = h + 0.5 * torch.autograd.grad(cell(x, leaf).square().sum(), leaf, create_graph=True)[0]
            h = cell(x * gain, h) + offset
            if has("dropout, then eval mode"):
                h = module.drop(h)
            if has("other with graph") and torch.is_grad_enabled():
                h = h * 1.5
            if has("part of the carry detached"):
                h = torch.cat([h[:, :1].detach(), h[:, 1:]], 1)
            if has("hook on the carry made") and h.requires_grad:
                h.register_hook(lambda g: g * 0.9)
            if has("attribute for the log"):
                module.logged = h
            if has("loss beside the outputs"):
                beside.append(h.square().mean())
            return (h, count + counts), h.sin()

        raw = torch.randn(self.steps, 2, 3, dtype=D)
        xs: Any = raw
        if has("encoder that reads"):
            leaves += encoder.parameters()
            xs = Indexed(self.steps, lambda start, stop: encoder(raw[start:stop])) if by_scan else encoder(raw)
        params = [module, encoder] if has("module as params") else leaves
        init = torch.zeros(2, 3, dtype=D), torch.tensor(0)
        if by_scan:
            (h, _), ys = self.way(step, init, xs, params=params, **{**self.options, **more})
        else:
            carry, outputs = init, []
            for x in xs:
                carry, y = step(carry, x)
                outputs.append(y)
            (h, _), ys = carry, torch.stack(outputs)
        if has("closure's number"):
            gain = 3.0
        if has("closure's module"):
            cell = nn.RNNCell(3, 3).double()
        if has("weights swapped"):
            module.cell.bias_hh = nn.Parameter(torch.ones(3, dtype=D))
        if has("addend moved"):
            offset.add_(1)
        module.eval()
        loss = h.sum() + (ys * torch.linspace(-1, 1, ys.numel(), dtype=D).view(ys.shape)).sum()
        if beside:
            loss = loss + torch.stack(beside[: self.steps]).sum()
        actual = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in actual])


def outcome(program: Program, **more: Any) -> str:
    """Return ``equal``, ``refused`` or ``WRONG``."""
    expected = program.gradient(by_scan=False)
    try:
        actual = program.gradient(by_scan=True, **more)
    except (RuntimeError, ValueError) as error:
        return "refused" if not program.harmless else f"REFUSED without reason: {error}"
    return "equal" if (actual - expected).norm() <= 1e-9 * expected.norm() else "WRONG"


def outcomes(seeds: range, way: Any = scan, **more: Any) -> tuple[Counter[str], list[str]]:
    """Return how often each outcome was met, and the programs that are wrong or refused without reason."""
    count: Counter[str] = Counter()
    bad = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in seeds:
            program = Program(seed, way=way)
            said = outcome(program, **more)
            count[said.split(" ", 1)[0]] += 1
            if said not in ("equal", "refused"):
                bad.append(
                    f"{seed}: {sorted(program.features)}, {program.steps} steps, {program.options}: {said[:300]}"
                )
    return count, bad


@pytest.mark.parametrize("block", range(4))
def test_a_random_program_has_the_loops_gradient_or_is_refused(block):
    count, bad = outcomes(range(100 * block, 100 * (block + 1)))
    assert bad == []
    assert count["equal"] >= 30
    assert count["refused"] >= 20


@pytest.mark.parametrize("way", [of_unknown_length, by_while_loop, by_chain])
def test_a_random_program_of_unknown_length_has_the_loops_gradient_or_is_refused(way):
    count, bad = outcomes(range(100), way)
    assert bad == []
    assert count["equal"] >= 30
    assert count["refused"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("way", [of_unknown_length, by_while_loop, by_chain])
def test_two_thousand_random_programs_of_unknown_length_have_the_loops_gradient_or_are_refused(way):
    count, bad = outcomes(range(1000, 3000), way)
    assert bad == []
    assert sum(count.values()) == 2000


@pytest.mark.slow
def test_ten_thousand_random_programs_have_the_loops_gradient_or_are_refused():
    count, bad = outcomes(range(1000, 11_000))
    assert bad == []
    assert sum(count.values()) == 10_000


def test_each_feature_alone_is_equal_or_refused_as_it_should_be():
    for feature in HARMLESS + HARMFUL:
        program = Program(0)
        program.features, program.steps, program.options = {feature}, 8, {"slots": 3}
        assert outcome(program) == ("equal" if feature in HARMLESS else "refused"), feature


def test_without_the_comparison_such_programs_are_wrong():
    count, _ = outcomes(range(150), check=False)
    assert count["WRONG"] >= 10
