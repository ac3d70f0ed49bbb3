"""Every kind of call once, on one device: its gradients against plain autograd's, its time and its peak memory.

    python -m bench.calls --device cuda

An LSTM cell over a sequence, the same cell run until a condition fails, torch's layer, and a chain of equal blocks. A
call takes turns with the plain computation of the same gradient; the ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor, nn
from tqdm import tqdm

import membptt
from bench.machine import conditions
from bench.meter import allocated_bytes, cuda_bytes, now
from bench.store import DATA, save

FORMAT: Final = "membptt-calls/1"
TOLERANCE: Final = 1e-3  # relative, float32: sums in another order
SIZES: Final = {"steps": 1000, "batch": 16, "hidden": 256, "blocks": 24}
QUICK: Final = {"steps": 40, "batch": 2, "hidden": 8, "blocks": 6}

Gradients = tuple[Tensor, ...]


@dataclass(frozen=True)
class Pair:
    """Two ways to compute one gradient.

    Args:
        ours: the call.
        plain: the same under plain autograd.
    """

    ours: Callable[[], Gradients]
    plain: Callable[[], Gradients]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the data.

    Raises:
        RuntimeError: a gradient differs.
    """
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    sizes = QUICK if options.quick else SIZES
    pairs = _pairs(options.device, **sizes)
    calls = {
        name: _measure(pairs[name], options.device, options.rounds)
        for name in tqdm(options.calls or pairs, unit="call")
    }
    content = {
        **conditions(options.device),
        "format": FORMAT,
        "command": f"python -m bench.calls --device {options.device}",
        "sizes": sizes,
        "calls": calls,
    }
    save(options.data / f"calls_{options.device}.json", content)
    show(content)
    wrong = [name for name, call in calls.items() if not call["gradient_error"] < TOLERANCE]
    if wrong:
        raise RuntimeError(f"the gradients of {', '.join(wrong)} differ from plain autograd's")


def show(content: dict[str, Any]) -> None:
    """Print a line a call."""
    print(f"{content['device_name']}, torch {content['versions']['torch']}, {content['sizes']}")
    for name, call in content["calls"].items():
        share = call["peak_bytes"] / call["plain_bytes"]
        print(
            f"  {name:22} {call['time_over_plain']:5.2f} of plain's time, {share:6.3f} of its memory "
            f"({call['peak_bytes'] / 1e6:.1f} MB), gradient within {call['gradient_error']:.1e}"
        )


def _pairs(device: str, *, steps: int, batch: int, hidden: int, blocks: int) -> dict[str, Pair]:
    """Return every kind of call; all of one problem share its tensors."""
    torch.manual_seed(0)
    cell = nn.LSTMCell(hidden, hidden).to(device)
    xs = torch.randn(steps, batch, hidden).to(device)
    start = tuple(torch.zeros(batch, hidden, device=device) for _ in range(2))
    weights = tuple(cell.parameters())

    def step(carry: Any, x: Tensor) -> tuple[Any, Tensor]:
        carry = cell(x, carry)
        return carry, carry[0].square().mean()

    def loop() -> Gradients:
        carry, total = start, torch.zeros((), device=device)
        for x in xs:
            carry, y = step(carry, x)
            total = total + y
        return torch.autograd.grad(total, weights)

    def scanned(**options: Any) -> Gradients:
        _, total = membptt.scan(step, start, xs, params=weights, reduce="sum", **options)
        return torch.autograd.grad(total, weights)

    slots, chunk = max(2, steps // 25), max(2, steps // 50)
    budget = 2 * start[0].nbytes * slots + 24 * start[0].nbytes
    sequences: dict[str, dict[str, Any]] = {
        "eager": {"slots": slots},
        "eager, in chunks": {"slots": slots, "chunk": chunk},
        "budget": {"budget": budget},
        "msm": {"slots": slots, "policy": "msm", "internal": 4},
        "compiled": {"slots": slots, "chunk": chunk, "compile": True},
        "spill": {"slots": 2, "chunk": chunk, "spill": True},
    }
    if device == "cuda":
        sequences["captured"] = {"slots": slots, "chunk": chunk, "compile": "graphs"}
    pairs = {name: Pair(partial(scanned, **options), loop) for name, options in sequences.items()}

    def until(run: Callable[..., Any]) -> Gradients:
        (h, _), count = run(lambda carry: carry[1] < steps, lambda carry: (_relaxed(carry[0]), carry[1] + 1))
        del count
        return torch.autograd.grad(h[0].square().sum(), weights)

    def _relaxed(state: Any) -> Any:
        return cell(xs[0], state)

    counted = (start, torch.zeros((), dtype=torch.int64))  # on the host: no answer waits for the device
    pairs["while_loop"] = Pair(
        lambda: until(lambda cond, body: membptt.while_loop(cond, body, counted, slots=slots, params=weights)),
        lambda: until(partial(_plain_loop, counted)),
    )

    layer = nn.LSTM(hidden, hidden).to(device)
    ours = membptt.nn.LSTM(hidden, hidden, slots=slots, chunk=chunk, device=device)
    ours.load_state_dict(layer.state_dict())

    def outputs(layer: Any) -> Gradients:
        ys, _ = layer(xs)
        return torch.autograd.grad(ys.square().mean(), tuple(layer.parameters()))

    pairs["nn.LSTM"] = Pair(partial(outputs, ours), partial(outputs, layer))

    deep = [
        nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden)).to(device)
        for _ in range(blocks)
    ]
    x = xs.flatten(0, 1)[: 64 * batch]
    parameters = tuple(parameter for block in deep for parameter in block.parameters())
    plan = membptt.plan_chain(deep, x)
    room = max(plan.front[0].bytes, (plan.front[0].bytes + plan.front[-1].bytes) // 3)
    pairs["chain"] = Pair(
        lambda: torch.autograd.grad(membptt.chain(deep, x, budget=room).square().mean(), parameters),
        lambda: torch.autograd.grad(nn.Sequential(*deep)(x).square().mean(), parameters),
    )
    return pairs


def _plain_loop(carry: Any, cond: Callable[[Any], Any], body: Callable[[Any], Any]) -> tuple[Any, int]:
    count = 0
    while cond(carry):
        carry, count = body(carry), count + 1
    return carry, count


def _measure(pair: Pair, device: str, rounds: int) -> dict[str, Any]:
    expected = pair.plain()
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(pair.ours(), expected, strict=True))
    peaks = {"peak_bytes": _peak(pair.ours, device), "plain_bytes": _peak(pair.plain, device)}
    times = [(_seconds(pair.ours, device), _seconds(pair.plain, device)) for _ in range(rounds)]
    ratio = median(ours / plain for ours, plain in times)
    return {"gradient_error": error, "time_over_plain": ratio, "rounds": times, **peaks}


def _peak(run: Callable[[], object], device: str) -> int:
    gc.collect()
    measured = cuda_bytes(lambda: _drop(run)) if device == "cuda" else allocated_bytes(lambda: _drop(run), ())
    return measured.peak_with_gradients


def _drop(run: Callable[[], object]) -> None:
    run()


def _seconds(run: Callable[[], object], device: str) -> float:
    gc.collect()
    start = now(device)
    run()
    return now(device) - start


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--calls", nargs="+", metavar="NAME", help="only these, by the names that are printed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny: only to see it work")
    parser.add_argument("--data", type=Path, default=DATA)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
