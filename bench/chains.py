"""Very deep networks: the time of one gradient against its measured peak, every way to trade one for the other.

    python -m bench.chains --models pyramid gpt residual unet --rounds 5

Each method runs once in every round, in another order each time; time is the processor time of this process, one
thread, as a multiple of plain autograd's in the same round: what else runs on the machine counts less than in elapsed
time. All multiples are kept, and their median. Cost is what other work leaves alone: every forward that is run and
every backward, each at its block's own time, over plain's. The peak is that of all storages beside parameters, their
gradients and the input, in a run of its own. Every chain ends in its loss. `checkpoint_sequential` runs at every number
of segments, in both modes; a block's `checkpoint` is the non-reentrant one, and so are all of a network that hands on
tuples, which the other loses. A chain runs in budgets spread over its front, and in the measured peak of each of these
that no other beats in as few bytes. *Hidden only* is appendix C's optimum, in bytes: the front of the same blocks where
no internal state can be kept. *Compiled* is `torch.compile` with an `activation_memory_budget`, where it chooses what
is recomputed and generates no code: its time is that of decomposed operations, one by one; its peak is read off the
allocator, as a multiple of plain's read so, and its forwards are not counted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from statistics import median
from time import process_time
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from tqdm import tqdm

from bench.deep import Block, gpt, pyramid, residual_mlp, unet
from bench.machine import here
from bench.meter import allocated_bytes, bytes_beside
from bench.store import FIGURE, path_of, resume, save_figure
from membptt import ChainPlan, chain, plan_chain
from membptt_theory.front import solve_front
from membptt_theory.front_terms import everything_alive
from membptt_theory.schedule import Schedule

NAME: Final = "fig17"
POINTS: Final = 8  # of a front
COMPILED: Final = (0.2, 0.5, 0.8)  # of torch.compile's activation_memory_budget
FEW: Final = 100  # blocks: it takes minutes to trace more
MOST: Final = 3  # times plain's cost: beyond that nobody goes
_TOO_MUCH: Final = 2**38  # bytes: a point of a front below them keeps no internal state
Run = Callable[[], Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    measure(options.models, options.rounds)


def measure(models: Sequence[str] = (), rounds: int = 5) -> None:
    """Measure the models that are not in the data file yet, one by one."""
    torch.set_num_threads(1)
    fresh = {"figure": NAME, "format": FIGURE, "command": "python -m bench.chains", "models": {}, **here()}
    fresh["complete"] = False
    content = resume(path_of(NAME), fresh, ["models", "complete"])
    for name in models or MODELS:
        if name not in content["models"]:
            content["models"][name] = measured(*MODELS[name](), rounds)
            content["complete"] = content["models"].keys() == MODELS.keys()
            save_figure(NAME, content)
        _show(name, content["models"][name])


def measured(given: Sequence[Block], x: Tensor, rounds: int) -> dict[str, Any]:
    """Return peak, cost and time of every method on one chain, whose last block is its loss."""
    blocks = [_Counted(block) for block in given]
    weights: list[Tensor] = [
        weight for block in blocks if isinstance(block, nn.Module) for weight in block.parameters()
    ]
    buffers = [buffer for block in blocks if isinstance(block, nn.Module) for buffer in block.buffers()]
    plan = plan_chain(blocks, x)
    peaks: dict[str, int] = {}
    costs: dict[str, int] = {}

    def weigh(runs: dict[str, Run]) -> None:
        for name, run in tqdm(runs.items(), desc="peaks"):
            for block in blocks:
                block.calls.clear()
            _gradient(run, weights)
            costs[name] = _cost(blocks, plan)
            peaks[name] = bytes_beside(partial(_gradient, run, weights), (x, *weights, *buffers), weights)

    others = rivals(blocks, x)
    weigh(others)
    chains, budgets = _chains(blocks, x, plan, [peaks[name] for name in _best(peaks, costs)])
    _gradient(next(iter(chains.values())), weights)  # the first chain has more graphs
    weigh(chains)
    runs = {**others, **chains}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in tqdm(range(rounds), desc="rounds"):
        for name in Random(turn).sample([*runs], len(runs)):  # what runs before leaves its caches
            start = process_time()
            _gradient(runs[name], weights)
            times[name].append(process_time() - start)
    ratios = {name: [a / b for a, b in zip(times[name], times["plain"], strict=True)] for name in runs}
    rows: dict[str, Any] = {
        name: {
            "peak": peaks[name],
            "budget": budgets.get(name),
            "cost": costs[name] / costs["plain"],
            "ratio": median(ratios[name]),
            "ratios": [round(ratio, 4) for ratio in ratios[name]],
        }
        for name in runs
    }
    for share in COMPILED if len(given) <= FEW else ():
        peak, of_it = compiled(given, x, weights, share, rounds)
        rows[f"compiled {share}"] = {
            "peak": round(peak * peaks["plain"]),
            "budget": None,
            "cost": None,
            "ratio": median(of_it),
            "ratios": [round(ratio, 4) for ratio in of_it],
        }
    return {
        "blocks": len(blocks),
        "rounds": rounds,
        "plain_seconds": median(times["plain"]),
        "front": [[point.bytes, point.seconds / plan.front[-1].seconds] for point in plan.front],
        "methods": rows,
    }


def compiled(
    given: Sequence[Block], x: Tensor, weights: list[Tensor], share: float, rounds: int
) -> tuple[float, list[float]]:
    """Return peak and times of `torch.compile` with an `activation_memory_budget`, all over plain's."""
    plain = partial(_each, given, x, len(given) + 1)
    torch._dynamo.reset()
    with torch._functorch.config.patch(activation_memory_budget=share):
        whole: Any = torch.compile(partial(_each, given, step=len(given) + 1), backend="aot_eager_decomp_partition")
        run = partial(whole, x)
        _gradient(run, weights)
    peaks = [allocated_bytes(partial(_gradient, each, weights), ()).peak for each in (run, plain)]
    ratios = []
    for _ in range(rounds):
        times = []
        for each in (run, plain):
            start = process_time()
            _gradient(each, weights)
            times.append(process_time() - start)
        ratios.append(times[0] / times[1])
    return peaks[0] / peaks[1], ratios


class _Counted(nn.Module):
    """A block that counts its calls, without graph and with it."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block, self.calls = block, Counter[bool]()

    def forward(self, x: Any) -> Any:
        self.calls[torch.is_grad_enabled()] += 1
        return self.block(x)


def _cost(blocks: Sequence[_Counted], plan: ChainPlan) -> int:
    """Return nanoseconds: every forward that was run, and a backward of each block, at the time of the block's own."""
    kinds = [plan.kinds[kind] for kind in plan.order]
    return sum(
        block.calls[False] * kind.advance + block.calls[True] * kind.record + kind.backward
        for block, kind in zip(blocks, kinds, strict=True)
    )


def _best(peaks: dict[str, int], costs: dict[str, int]) -> list[str]:
    """Return the methods than which none costs less in as few bytes."""
    return [
        name
        for name, peak in peaks.items()
        if not any(peaks[other] <= peak and cost < costs[name] for other, cost in costs.items())
    ]


def rivals(blocks: Sequence[Block], x: Tensor) -> dict[str, Run]:
    """Return plain autograd, once more to see what is noise, and every use of torch's checkpoint, by name."""
    count = len(blocks)
    runs: dict[str, Run] = {name: partial(_each, blocks, x, count + 1) for name in ("plain", "plain again")}
    runs["every block"] = partial(_each, blocks, x, 1)
    for step in range(2, min(count, 7)):
        runs[f"every {step}th block"] = partial(_each, blocks, x, step)
    modes = (False, True) if _hands_on_tensors(blocks, x) else (False,)
    for segments in _segments(count):
        for reentrant in modes:
            name = f"sequential {segments}{' reentrant' if reentrant else ''}"
            runs[name] = partial(_sequential, blocks, x, segments, reentrant)
    return runs


def _chains(
    blocks: Sequence[Block], x: Tensor, plan: ChainPlan, peaks: Sequence[int]
) -> tuple[dict[str, Run], dict[str, int]]:
    """Return a chain in some of the budgets that make a difference, in each of some peaks, and with outputs only.

    By name, with the budget of each.
    """
    runs: dict[str, Run] = {}
    budgets: dict[str, int] = {}
    affordable = [point.bytes for point in plan.front if point.seconds <= MOST * plan.front[-1].seconds]
    there = [max(point for point in affordable if point <= peak) for peak in peaks if peak >= affordable[0]]
    for point in sorted({*_spread(affordable), *there}):
        budgets[f"chain {point}"] = point
        runs[f"chain {point}"] = partial(chain, blocks, x, plan=plan.within(point))
    for point, schedule in _hidden_only(plan):
        budgets[f"hidden {point}"] = point
        runs[f"hidden {point}"] = partial(chain, blocks, x, schedule=schedule)
    return runs, budgets


def _hands_on_tensors(blocks: Sequence[Block], x: Any) -> bool:
    with torch.no_grad():
        return all(isinstance(x := block(x), Tensor) for block in blocks)


def _segments(count: int) -> list[int]:
    """Return every number of segments; of very many blocks, powers of two."""
    return list(range(2, count + 1)) if count <= 100 else [2**power for power in range(1, count.bit_length())]


def _hidden_only(plan: ChainPlan) -> list[tuple[int, Schedule]]:
    if len(plan.order) > 100:
        return []  # HSM's table: the same as the front, where internal states are large
    terms = everything_alive([plan.kinds[kind] for kind in plan.order], plan.skips).returning(plan.returned)
    front = solve_front(replace(terms, internal=(_TOO_MUCH,) * len(terms)))
    beside = plan.returned + plan.kept
    return [
        (size + beside, front.schedule(size))
        for size in _spread([size for size in front.bytes.tolist() if size < _TOO_MUCH])
    ]


def _spread(budgets: list[int]) -> list[int]:
    """Return some budgets, in equal ratios, the first and the last among them."""
    low, high = budgets[0], budgets[-1]
    wanted = [low * (high / low) ** (step / (POINTS - 1)) for step in range(POINTS)]
    return sorted({max(budget for budget in budgets if budget <= room + 0.5) for room in wanted})


def _each(blocks: Sequence[Block], x: Tensor, step: int) -> Tensor:
    y: Any = x
    for index, block in enumerate(blocks):
        y = block(y) if (index + 1) % step else checkpoint(block, y, use_reentrant=False)
    return y  # type: ignore[no-any-return]


def _sequential(blocks: Sequence[Block], x: Tensor, segments: int, reentrant: bool) -> Tensor:
    modules: Any = list(blocks)
    given = x.detach().requires_grad_() if reentrant and x.is_floating_point() else x
    return checkpoint_sequential(modules, segments, given, use_reentrant=reentrant)  # type: ignore[no-any-return, no-untyped-call]


def _gradient(run: Run, weights: list[Tensor]) -> None:
    for weight in weights:
        weight.grad = None
    run().backward()  # type: ignore[no-untyped-call]


def _loss(y: Tensor) -> Tensor:
    return y.square().mean()


def _pyramid() -> tuple[list[Block], Tensor]:
    torch.manual_seed(0)
    return [*pyramid(width=64), _loss], torch.randn(4, 3, 32, 32)


def _gpt() -> tuple[list[Block], Tensor]:
    torch.manual_seed(0)
    blocks = gpt(depth=24, width=256, heads=4, length=64)
    embedding = blocks.pop(0)  # the reentrant mode needs an input with a gradient
    return [*blocks, _loss], embedding(torch.randint(0, 50, (4, 64))).detach()


def _residual() -> tuple[list[Block], Tensor]:
    torch.manual_seed(0)
    return [*residual_mlp(width=256), _loss], torch.randn(128, 256)


def _unet() -> tuple[list[Block], Tensor]:
    torch.manual_seed(0)
    return [*unet(depth=4, width=32), _loss], torch.randn(2, 3, 128, 128)


MODELS: Final[dict[str, Callable[[], tuple[list[Block], Tensor]]]] = {
    "pyramid": _pyramid,
    "gpt": _gpt,
    "residual": _residual,
    "unet": _unet,
}


def _show(name: str, model: dict[str, Any]) -> None:
    plain = model["methods"]["plain"]["peak"]
    print(f"{name}: {model['blocks']} blocks, plain {model['plain_seconds']:.3f} s, {plain} bytes")
    for method, row in sorted(model["methods"].items(), key=lambda item: item[1]["peak"]):
        cost = f"{row['cost']:6.3f}" if row["cost"] is not None else "     ?"
        shares = f"{row['peak'] / plain:6.3f} of plain's bytes, {cost} of its cost"
        print(f"  {shares}, {row['ratio']:6.3f} of its time  {method}")


if __name__ == "__main__":
    main()
