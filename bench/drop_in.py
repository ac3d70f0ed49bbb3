"""`membptt.nn.LSTM` in place of `torch.nn.LSTM`: time and activation memory of one gradient over a long sequence.

    python -m bench.drop_in --steps 10000 [--device cuda]
    python -m bench.drop_in --steps 1000 --layer GRU --compile

Both layers have the same weights and read the same input, made once. Chunk and slots of ours are those of least time
within a twentieth of torch's measured activation memory. The output sequence, which both layers return, and the
gradients that go in are the caller's and are not counted. Rounds are interleaved; the gradients are compared.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import membptt
from bench.machine import conditions
from bench.meter import allocated_bytes, cuda_bytes, live_bytes, now
from bench.store import DATA, save
from membptt_theory.limits import NAMED
from membptt_theory.tables import build, optimal_cost, useful_slots

FORMAT = "membptt-drop-in/1"
FRACTION = 20
TARGET = 1.6  # of torch's time, on a GPU
CHUNKS = (10, 20, 50, 100, 200, 500)
COMPILED_CHUNKS = (5, 10, 20)  # larger ones take minutes to compile
TOLERANCE = 1e-3  # relative, float32: sums in another order


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the data.

    Raises:
        RuntimeError: the gradients differ, or no setting fits.
    """
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    bench = Bench(options.layer, options.steps, options.batch, options.hidden, options.device, compile=options.compile)
    whole = bench.peak(bench.theirs)
    expected = bench.gradients(bench.theirs)
    chunk, slots, peak = bench.fit(whole // FRACTION)
    ours = partial(bench.ours, chunk, slots)
    difference = max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(bench.gradients(ours), expected, strict=True)
    )
    if not difference < TOLERANCE:
        raise RuntimeError(f"the gradients differ by {difference:.1e} of their largest element")
    rounds = []
    for _ in tqdm(range(options.rounds), unit="round"):
        rounds.append({"torch": bench.time(bench.theirs), "membptt": bench.time(ours)})
    cores = -(-options.steps // chunk)
    other = options.layer != "LSTM"
    kind = f" --layer {options.layer}" * other + " --compile" * options.compile
    content = {
        **conditions(options.device),
        "format": FORMAT,
        "command": f"python -m bench.drop_in --steps {options.steps} --device {options.device}{kind}",
        "layer": options.layer,
        "compile": options.compile,
        "steps": options.steps,
        "batch": options.batch,
        "hidden": options.hidden,
        "torch_peak_bytes": whole,
        "peak_bytes": peak,
        "chunk": chunk,
        "slots": slots,
        "forwards_a_step": optimal_cost("hsm", cores, slots) / cores,
        "table_digest": build("hsm", cores, slots).digest,
        "largest_gradient_difference": difference,
        "rounds": rounds,
    }
    parts = ["drop_in", *[options.layer.lower()] * other, *["compile"] * options.compile, options.device]
    save(options.data / f"{'_'.join(parts)}_{options.steps}.json", content)
    show(content)


def show(content: dict[str, Any]) -> None:
    """Print the ratios."""
    ratio = median(times["membptt"] / times["torch"] for times in content["rounds"])
    saved = content["torch_peak_bytes"] / content["peak_bytes"]
    verdict = ""
    if content["device"] == "cuda":
        met = ratio <= TARGET and saved >= FRACTION
        verdict = f"; target {TARGET:g} at 1/{FRACTION}: {'met' if met else 'NOT met'}"
    layer, compiled = content["layer"], ", compile=True" * content["compile"]
    print(
        f"{layer} {content['hidden']}, batch {content['batch']}, T = {content['steps']}, {content['device_name']}: "
        f"membptt.nn.{layer}(slots={content['slots']}, chunk={content['chunk']}{compiled}) takes {ratio:.2f} of "
        f"torch.nn.{layer}'s "
        f"time in 1/{saved:.1f} of its memory ({content['peak_bytes'] / 1e6:.1f} MB), "
        f"{content['forwards_a_step']:.2f} forwards a step{verdict}"
    )


class Bench:
    """One input, one set of weights, two layers.

    Args:
        layer: LSTM, GRU or RNN.
        steps: length.
        batch: sequences.
        hidden: width of input and state.
        device: where everything lives.
        compile: our cores are compiled.
    """

    def __init__(self, layer: str, steps: int, batch: int, hidden: int, device: str, *, compile: bool = False) -> None:
        torch.manual_seed(0)
        self._steps, self._hidden, self._device = steps, hidden, device
        self._layer = getattr(torch.nn, layer)(hidden, hidden).to(device)
        self._compile = {"compile": True} if compile else {}
        self._xs = torch.randn(steps, batch, hidden).to(device)
        self._wanted = torch.randn(steps, batch, hidden).to(device)  # the gradient that comes in
        for param in self._layer.parameters():
            param.grad = torch.zeros_like(param)

    def theirs(self) -> None:
        """Compute the gradient by torch's layer."""
        self._backward(self._layer)

    def ours(self, chunk: int, slots: int) -> None:
        """Compute it by ours on the same weights."""
        kind = getattr(membptt.nn, self._layer.mode.split("_")[0])
        layer = kind(self._hidden, self._hidden, slots=slots, chunk=chunk, **self._compile, device="meta")
        for name, param in self._layer.named_parameters():
            setattr(layer, name, param)
        self._backward(layer)

    def gradients(self, compute: Callable[[], None]) -> list[Tensor]:
        """Return the gradients of one run."""
        self._clear()
        compute()
        return [param.grad.clone() for param in self._layer.parameters() if param.grad is not None]

    def peak(self, compute: Callable[[], None]) -> int:
        """Return the peak of what one run makes, weights' gradients left out where they can be told apart."""
        self._clear()
        compute()
        gc.collect()
        outputs = self._xs.nbytes
        if self._device == "cuda":
            return cuda_bytes(compute).peak - outputs
        params = list(self._layer.parameters())
        if self._compile:
            return allocated_bytes(compute, params).peak - outputs
        grads = [param.grad for param in params if param.grad is not None]
        return live_bytes(compute, [*params, *grads, self._xs, self._wanted], params).peak - outputs

    def time(self, compute: Callable[[], None]) -> float:
        """Return the seconds of one run."""
        self._clear()
        before = now(self._device)
        compute()
        return now(self._device) - before

    def fit(self, budget: int) -> tuple[int, int, int]:
        """Return chunk, slots and measured peak of the fastest setting within `budget` bytes.

        Raises:
            RuntimeError: nothing fits.
        """
        leaves = 2 if self._layer.mode == "LSTM" else 1
        state = leaves * self._hidden * self._xs.shape[1] * self._xs.element_size()
        candidates = []
        for chunk in COMPILED_CHUNKS if self._compile else CHUNKS:
            cores = -(-self._steps // chunk)
            if cores < 2:
                continue
            beside = self.peak(partial(self.ours, chunk, 1 if cores < 3 else 2)) - 2 * state
            slots = useful_slots("hsm", cores, max(1, min((budget - beside) // state, NAMED.most_slots("hsm", cores))))
            if budget - beside < state:
                continue
            taken = min(self.time(partial(self.ours, chunk, slots)) for _ in range(2))
            candidates.append((taken, chunk, slots))
        for _, chunk, slots in sorted(candidates):
            while slots >= 1:
                peak = self.peak(partial(self.ours, chunk, slots))
                if peak <= budget:
                    return chunk, slots, peak
                slots -= -(-(peak - budget) // state)
        raise RuntimeError(f"nothing fits into {budget} bytes")

    def _backward(self, layer: Any) -> None:
        ys, final = layer(self._xs)
        final = final if isinstance(final, tuple) else (final,)
        torch.autograd.backward([ys, *final], [self._wanted, *map(torch.ones_like, final)])

    def _clear(self) -> None:
        for param in self._layer.parameters():
            if param.grad is not None:
                param.grad.zero_()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layer", choices=["LSTM", "GRU", "RNN"], default="LSTM")
    parser.add_argument("--compile", action="store_true", help="of a GRU or RNN")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    if options.compile and options.layer == "LSTM":
        parser.error("--compile is for cores of a GRU or RNN, an LSTM runs torch's kernel: add --layer GRU")
    return options


if __name__ == "__main__":
    main()
