"""Four tasks with long dependencies, and the LSTM that learns them, in the form that `membptt.scan` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from bench.charlm import read_text
from bench.loaders import Digits, Text, load_mnist, load_text, split_text

Carry = tuple[Tensor, Tensor]
CHARACTERS: Final = 400_000  # of Python's library
ENLARGED: Final = 2  # scikit-learn's 8 x 8 digits, each pixel four times: 256 steps
SOLVED: Final = 0.1  # an answer to the adding problem is right within this
_HELD_OUT: Final = 2**31 - 1  # the seed of what is never trained on


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences side by side.

    Args:
        xs: symbols, ``(t, batch)``, or numbers, ``(t, batch, inputs)``.
        targets: symbols or numbers, ``(t, batch)``.
        weights: ``(t,)``, share of each step in the loss; they add up to 1.
    """

    xs: Tensor
    targets: Tensor
    weights: Tensor

    def part(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return steps ``start .. stop-1``."""
        return self.xs[start:stop], self.targets[start:stop], self.weights[start:stop]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return all steps, in the form of `scan`'s ``xs``."""
        return self.xs, self.targets, self.weights


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned.

    Args:
        steps: ``t``.
        symbols: size of the input alphabet, or 0 where inputs are numbers.
        outputs: size of the output alphabet, or 1 where a number is asked for.
        draw: ``draw(generator, batch)`` returns a batch to train on.
        held_out: the same without training data, whatever the generator's state was.
        carries: the state at the end of a batch is where the next one starts.
        scale: the longest time scale, in steps, that gates start with; 0 is that of the sequence.
    """

    steps: int
    symbols: int
    outputs: int
    draw: Callable[[torch.Generator, int], Batch]
    held_out: Callable[[int], Batch]
    carries: bool = False
    scale: int = 0


def adding(steps: int, /) -> Task:
    """Return the adding problem: the sum of the two marked numbers, asked for at the last step.

    One mark is in the first tenth, one in the rest of the first half: both lie at least ``steps / 2`` steps back.

    Ref: hochreiter1997, experiment 4.
    """

    def draw(generator: torch.Generator, batch: int) -> Batch:
        number = torch.rand(steps, batch, generator=generator)
        first = torch.randint(0, steps // 10, (batch,), generator=generator)
        second = torch.randint(steps // 10, steps // 2, (batch,), generator=generator)
        mark, row = torch.zeros(steps, batch), torch.arange(batch)
        mark[first, row] = mark[second, row] = 1
        return _asked_last(torch.stack([number, mark], -1), (number[first, row] + number[second, row]).unsqueeze(0))

    return Task(steps, 0, 1, draw, lambda batch: draw(_unseen(), batch))


def copying(steps: int, lag: int, /, items: int = 1, symbols: int = 8) -> Task:
    """Return copy memory: symbols are shown in a row, among blanks, and asked for in order, each `lag` steps later.

    The last answer is asked for at the last step; where the first one is, a signal takes the blank's place. Gates start
    with time scales up to thrice the lag: up to the lag itself, every cell would have forgotten two thirds by then.

    Ref: hochreiter1997, experiment 5, for one symbol, and arjovsky2016 for ten.

    Raises:
        ValueError: there is no symbol, or the lag is not items .. steps - items.
    """
    if items < 1:
        raise ValueError(f"copy memory needs a symbol to ask for, got {items}")
    if not items <= lag <= steps - items:
        raise ValueError(f"the lag must be {items} to {steps - items} in a sequence of {steps} steps, got {lag}")

    def draw(generator: torch.Generator, batch: int) -> Batch:
        shown = torch.randint(0, symbols, (items, batch), generator=generator)
        xs = torch.full((steps, batch), symbols)  # blank
        xs[steps - items - lag : steps - lag] = shown
        xs[-items] = symbols + 1  # now
        return _asked_last(xs, shown)

    return Task(steps, symbols + 2, symbols, draw, lambda batch: draw(_unseen(), batch), scale=3 * lag)


def reading(steps: int, /, path: str | None = None) -> Task:
    """Return the language model on the bytes of a text; it is read on from batch to batch.

    Args:
        steps: length of one batch.
        path: of the text; by default Python's own library, by a file's name in order.

    Raises:
        DataSetError: the text is absent or too short.
    """
    text = _library() if path is None else load_text(Path(path))
    train, valid = (torch.from_numpy(part.astype(np.int64)) for part in (text.train, text.valid))
    at = [0]

    def draw(_: torch.Generator, batch: int) -> Batch:
        length = len(train) // batch
        if at[0] + steps + 1 > length:
            at[0] = 0
        columns = train[: length * batch].view(batch, length)[:, at[0] : at[0] + steps + 1].T
        at[0] += steps
        return _asked_always(columns)

    def held_out(batch: int) -> Batch:
        length = min(len(valid) // batch, steps + 1)
        return _asked_always(valid[: length * batch].view(batch, length).T)

    return Task(steps, len(text.vocabulary), len(text.vocabulary), draw, held_out, carries=True)


def looking(path: str | None = None, /) -> Task:
    """Return digits, pixel by pixel, their name asked for at the last.

    Args:
        path: a folder with MNIST; by default scikit-learn's digits.

    Raises:
        DataSetError: MNIST is not there.
    """
    train, test = _small_digits() if path is None else (load_mnist(Path(path), "train"), load_mnist(Path(path), "test"))

    def take(digits: Digits, chosen: Tensor) -> Batch:
        pixels = torch.from_numpy(digits.pixels[chosen.numpy()].T.astype(np.float32) / 255)
        names = torch.from_numpy(digits.labels[chosen.numpy()].astype(np.int64))
        return _asked_last(pixels.unsqueeze(-1), names.unsqueeze(0))

    def draw(generator: torch.Generator, batch: int) -> Batch:
        return take(train, torch.randint(0, len(train.labels), (batch,), generator=generator))

    def held_out(batch: int) -> Batch:
        return take(test, torch.randperm(len(test.labels), generator=_unseen())[:batch])

    return Task(train.pixels.shape[1], 0, 10, draw, held_out)


class Model(nn.Module):
    """An LSTM and a linear layer, as a segment of `scan`: it takes several steps and returns their losses.

    A few symbols start as unit vectors, many at random.
    Forget and input gates start with the time scales of the task, from 1 step on (tallec2018, chrono initialisation).

    Args:
        task: what is learned.
        hidden: size of the LSTM.
    """

    def __init__(self, task: Task, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(task.symbols, min(task.symbols, hidden)) if task.symbols else nn.Identity()
        width = min(task.symbols, hidden)
        self.lstm = nn.LSTM(width or task.draw(torch.Generator().manual_seed(0), 1).xs.shape[-1], hidden)
        self.head = nn.Linear(hidden, task.outputs)
        self.hidden = hidden
        with torch.no_grad():
            if 0 < task.symbols <= hidden:
                self.embed.get_parameter("weight").copy_(torch.eye(task.symbols))
            scales = torch.log(torch.empty(hidden).uniform_(1, task.scale or task.steps - 1))
            zero = torch.zeros(2 * hidden)
            self.lstm.get_parameter("bias_ih_l0").copy_(torch.cat([-scales, scales, zero]))
            self.lstm.get_parameter("bias_hh_l0").zero_()

    def start(self, batch: int) -> Carry:
        """Return the starting state."""
        return torch.zeros(1, batch, self.hidden), torch.zeros(1, batch, self.hidden)

    def forward(self, carry: Carry, part: tuple[Tensor, Tensor, Tensor]) -> tuple[Carry, Tensor]:
        """Map state and ``k`` steps to the next state and the ``k`` weighted losses."""
        xs, targets, weights = part
        carry, answers = self.answer(carry, xs)
        return carry, _losses(answers, targets) * weights

    def answer(self, carry: Carry, xs: Tensor) -> tuple[Carry, Tensor]:
        """Map state and inputs to the next state and ``(k, batch, outputs)``."""
        ys, carry = self.lstm(self.embed(xs), carry)
        return carry, self.head(ys)


def judge(model: Model, batch: Batch, /) -> tuple[float, float]:
    """Return the loss on `batch`, and the share of right answers among those that are asked for."""
    with torch.no_grad():
        carry, loss, right = model.start(batch.xs.shape[1]), 0.0, 0.0
        for start in range(0, len(batch.xs), 64):
            part: Any = batch.part(start, start + 64)
            carry, answers = model.answer(carry, part[0])
            if answers.shape[-1] == 1:
                good = (answers.squeeze(-1) - part[1]).abs() < SOLVED
            else:
                good = answers.argmax(-1) == part[1]
            right += float((good.float().mean(1) * part[2]).sum())
            loss += float((_losses(answers, part[1]) * part[2]).sum())
    return loss, right


def _losses(answers: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of each step."""
    if answers.shape[-1] == 1:
        losses = (answers.squeeze(-1) - targets).square()
    else:
        losses = nn.functional.cross_entropy(answers.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(1)


def _asked_last(xs: Tensor, answers: Tensor) -> Batch:
    """Ask for ``(k, batch)`` answers at the last ``k`` steps, alike in weight."""
    targets = torch.zeros(xs.shape[:2], dtype=answers.dtype)
    targets[-len(answers) :] = answers
    weights = torch.zeros(len(xs))
    weights[-len(answers) :] = 1 / len(answers)
    return Batch(xs, targets, weights)


def _asked_always(columns: Tensor) -> Batch:
    length = len(columns) - 1
    return Batch(columns[:-1].contiguous(), columns[1:].contiguous(), torch.full((length,), 1 / length))


def _unseen() -> torch.Generator:
    return torch.Generator().manual_seed(_HELD_OUT)


def _library() -> Text:
    return split_text(read_text(CHARACTERS).encode(), valid=0.05, test=0.05, source="Python's library")


def _small_digits() -> tuple[Digits, Digits]:
    from sklearn.datasets import load_digits  # noqa: PLC0415  (needed for this task only)

    digits: Any = load_digits()
    images = np.kron(digits.images * (255 / 16), np.ones((ENLARGED, ENLARGED))).round().astype(np.uint8)
    pixels, labels = images.reshape(len(images), -1), digits.target.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    cut = len(labels) * 3 // 4
    train, test = order[:cut], order[cut:]
    return Digits(pixels[train], labels[train]), Digits(pixels[test], labels[test])
