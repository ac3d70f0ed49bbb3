"""Very deep networks, measured: figure 17's claim holds on the committed file, and what contradicts it is refused."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from bench import chains, store
from bench.deep import residual_mlp
from membptt import plan_chain
from paper_figs import evidence, fig17, make
from paper_figs.evidence import DataMissingError, FigureClaimError

PROCESSORS = store.processors(store.path_of("fig17"))


@pytest.fixture(scope="module")
def measured():
    return {name: evidence.load_measured("fig17", path=path)["models"] for name, path in PROCESSORS.items()}


def test_the_claim_holds_and_the_figure_is_drawn(tmp_path):
    (path,) = make.make("fig17", tmp_path, formats=("svg",))
    assert path.stat().st_size > 1000


def beyond_its_budget(models):
    row = chain(models["pyramid"])
    row["peak"] = row["budget"] + 1


def far_below_its_budget(models):
    chain(models["gpt"])["peak"] *= 0.9


def costs_more_than_the_front(models):
    chain(models["residual"])["cost"] += 0.01


def torch_is_cheaper(models):
    models["pyramid"]["methods"]["sequential 7"]["cost"] = 1.0


def other_numbers(models):
    models["gpt"]["methods"]["every block"]["peak"] *= 0.5


def takes_longer(models):
    rows = [row for name, row in models["pyramid"]["methods"].items() if name.startswith("chain")]
    max(rows, key=lambda row: row["peak"])["ratio"] += 0.05  # the one that keeps everything


def chain(model):
    return next(row for name, row in model["methods"].items() if name.startswith("chain"))


@pytest.mark.parametrize(
    "change",
    [beyond_its_budget, far_below_its_budget, costs_more_than_the_front, torch_is_cheaper, other_numbers, takes_longer],
)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_measurement_that_contradicts_the_claim_is_refused(measured, change, processor):
    changed = copy.deepcopy(measured)
    change(changed[processor])
    with pytest.raises(FigureClaimError):
        fig17.check(changed)


def test_what_was_not_measured_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path)
    with pytest.raises(DataMissingError):
        fig17.data()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of the compiler's own
def test_a_small_chain_is_measured_and_resumed(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path)
    torch.manual_seed(0)
    small = [*residual_mlp(5, width=8), chains._loss], torch.randn(4, 8)
    monkeypatch.setattr(chains, "MODELS", {"small": lambda: small})
    monkeypatch.setattr(chains, "COMPILED", (0.5,))
    chains.measure(rounds=1)
    content = evidence.load_measured("fig17")
    methods = content["models"]["small"]["methods"]
    assert {"plain", "every block", "every 2th block", "sequential 2", "sequential 6 reentrant"} <= methods.keys()
    assert methods["plain"]["cost"] == 1
    assert methods["compiled 0.5"]["peak"] > 0
    assert methods["plain again"]["cost"] == 1
    assert all(row["peak"] <= row["budget"] for row in methods.values() if row["budget"] is not None)
    monkeypatch.setattr(chains, "measured", None)  # nothing is measured again
    chains.measure(rounds=1)
    assert evidence.load_measured("fig17") == content


def test_a_chain_runs_in_the_peak_of_every_method_that_none_beats():
    peaks = {"dear": 5, "small": 3, "cheap": 9, "worse": 9, "plain": 12}
    costs = {"dear": 8, "small": 7, "cheap": 4, "worse": 6, "plain": 3}
    assert chains._best(peaks, costs) == ["small", "cheap", "plain"]
    torch.manual_seed(0)
    blocks, x = [chains._Counted(block) for block in [*residual_mlp(12, width=8), chains._loss]], torch.randn(4, 8)
    plan = plan_chain(blocks, x)
    points = [point.bytes for point in plan.front]
    odd = next(a for a, b in pairwise(points) if b > a + 1 and a not in chains._spread(points))
    _, usual = chains._chains(blocks, x, plan, [])
    _, budgets = chains._chains(blocks, x, plan, [odd + 1, points[0] - 1])
    assert {*budgets.values()} == {odd, *usual.values()}


def test_calls_are_counted_without_graph_and_with_it():
    block = chains._Counted(nn.Tanh())
    with torch.no_grad():
        block(torch.ones(1))
    block(torch.ones(1))
    block(torch.ones(1))
    assert (block.calls[False], block.calls[True]) == (1, 2)
